//! What an elementary stream is: `stream_type` and descriptors of a PMT, in both directions.

use super::psi::{PmtStream, descriptors};
use crate::media::Codec;

const REGISTRATION: u8 = 0x05;
const DVB_AC3: u8 = 0x6a;
const DVB_ENHANCED_AC3: u8 = 0x7a;
const DVB_EXTENSION: u8 = 0x7f;
/// The Opus audio descriptor among the DVB extensions.
const OPUS_EXTENSION: u8 = 0x80;
const PRIVATE: u8 = 0x06;

/// `stream_id` of a video, an audio and a private PES packet (table 2-22).
pub(super) const VIDEO_STREAM: u8 = 0xe0;
pub(super) const AUDIO_STREAM: u8 = 0xc0;
pub(super) const PRIVATE_STREAM_1: u8 = 0xbd;

/// How the access units of an elementary stream are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    H264,
    H265,
    Adts,
    Latm,
    Mp3,
    /// `channel_config_code`.
    Opus(u8),
    /// AC-3 or Enhanced AC-3: each synchronisation frame says which.
    Ac3,
}

impl Format {
    pub(super) fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::H265)
    }
}

/// The format of an elementary stream; `None` for one that is not read.
pub(super) fn format(stream: &PmtStream<'_>) -> Option<Format> {
    match stream.stream_type {
        0x1b => Some(Format::H264),
        0x24 => Some(Format::H265),
        0x0f => Some(Format::Adts),
        0x11 => Some(Format::Latm),
        0x03 | 0x04 => Some(Format::Mp3),
        // As ATSC has it.
        0x81 | 0x87 => Some(Format::Ac3),
        PRIVATE => private(stream.descriptors),
        _ => None,
    }
}

fn private(bytes: &[u8]) -> Option<Format> {
    let (mut format, mut opus_channels) = (None, None);
    for (tag, content) in descriptors(bytes) {
        match (tag, content) {
            (REGISTRATION, [b'O', b'p', b'u', b's', ..]) => format = Some(Format::Opus(2)),
            (REGISTRATION, [b'A', b'C', b'-', b'3', ..] | [b'E', b'A', b'C', b'3', ..])
            | (DVB_AC3 | DVB_ENHANCED_AC3, _) => format = Some(Format::Ac3),
            (REGISTRATION, [b'H', b'E', b'V', b'C', ..]) => format = Some(Format::H265),
            (DVB_EXTENSION, [OPUS_EXTENSION, channels, ..]) => opus_channels = Some(*channels),
            _ => {}
        }
    }
    match (format, opus_channels) {
        (Some(Format::Opus(_)), Some(channels)) => Some(Format::Opus(channels)),
        _ => format,
    }
}

/// How a PMT and the PES packets announce a stream that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) stream_type: u8,
    pub(super) stream_id: u8,
    descriptors: [u8; 10],
    descriptor_bytes: usize,
}

impl Announcement {
    pub(super) fn descriptors(&self) -> &[u8] {
        self.descriptors.get(..self.descriptor_bytes).unwrap_or_default()
    }

    fn new(stream_type: u8, stream_id: u8, format_identifier: Option<&[u8; 4]>) -> Self {
        let mut descriptors = [0; 10];
        let mut descriptor_bytes = 0;
        if let Some(identifier) = format_identifier {
            descriptors[..2].copy_from_slice(&[REGISTRATION, 4]);
            descriptors[2..6].copy_from_slice(identifier);
            descriptor_bytes = 6;
        }
        Self { stream_type, stream_id, descriptors, descriptor_bytes }
    }
}

/// The announcement of a codec; `None` for one that MPEG-TS has no form for here. `channels` and
/// `sample_rate` matter to Opus and MP3.
pub(super) fn announcement(codec: Codec, channels: u8, sample_rate: u32) -> Option<Announcement> {
    let announcement = match codec {
        Codec::H264 => Announcement::new(0x1b, VIDEO_STREAM, None),
        Codec::H265 => Announcement::new(0x24, VIDEO_STREAM, Some(b"HEVC")),
        Codec::Aac => Announcement::new(0x0f, AUDIO_STREAM, None),
        // The low rates are those of MPEG-2.
        Codec::Mp3 if (1..32_000).contains(&sample_rate) => {
            Announcement::new(0x04, AUDIO_STREAM, None)
        }
        Codec::Mp3 => Announcement::new(0x03, AUDIO_STREAM, None),
        Codec::Ac3 => Announcement::new(0x81, PRIVATE_STREAM_1, Some(b"AC-3")),
        Codec::Eac3 => Announcement::new(0x87, PRIVATE_STREAM_1, Some(b"EAC3")),
        Codec::Opus => {
            let mut opus = Announcement::new(PRIVATE, PRIVATE_STREAM_1, Some(b"Opus"));
            opus.descriptors[6..].copy_from_slice(&[DVB_EXTENSION, 2, OPUS_EXTENSION, channels]);
            opus.descriptor_bytes = opus.descriptors.len();
            opus
        }
        _ => return None,
    };
    Some(announcement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream_type: u8, descriptors: &[u8]) -> Option<Format> {
        format(&PmtStream { stream_type, pid: 0, descriptors })
    }

    #[test]
    fn what_is_announced_is_recognised() {
        for (codec, expected) in [
            (Codec::H264, Format::H264),
            (Codec::H265, Format::H265),
            (Codec::Aac, Format::Adts),
            (Codec::Mp3, Format::Mp3),
            (Codec::Opus, Format::Opus(6)),
            (Codec::Ac3, Format::Ac3),
            (Codec::Eac3, Format::Ac3),
        ] {
            let announced = announcement(codec, 6, 24_000).unwrap();
            assert_eq!(read(announced.stream_type, announced.descriptors()), Some(expected));
        }
        assert_eq!(announcement(Codec::Mp3, 2, 48_000).unwrap().stream_type, 3);
        assert_eq!(announcement(Codec::Vp9, 0, 0), None);
    }

    #[test]
    fn private_streams_need_a_descriptor_that_is_known() {
        assert_eq!(read(6, b"\x0a\x04eng\0\x6a\x01\0"), Some(Format::Ac3));
        assert_eq!(read(6, b"\x7a\0"), Some(Format::Ac3));
        assert_eq!(read(6, b"\x05\x04Opus"), Some(Format::Opus(2)));
        assert_eq!(read(6, b"\x05\x04HEVC"), Some(Format::H265));
        assert_eq!([read(6, b"\x7f\x02\x80\x02"), read(6, b"\x59\0"), read(2, b"")], [None; 3]);
    }
}
