//! How long an audio frame sounds, from its codec and its own header.

use super::{aac, ac3_config, flac, g711};
use crate::media::{AudioInfo, Codec, Track};

/// How the samples in a frame of one track are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSamples {
    /// Every frame has as many.
    Fixed(u32),
    /// By the table of contents of each Opus packet.
    Opus,
    /// By the header of each FLAC frame.
    Flac,
    /// By the header of each E-AC-3 frame.
    Eac3,
    /// One byte of each channel to a sample.
    G711 {
        /// Channels; at least 1.
        channels: u8,
    },
    /// Not known.
    Unknown,
}

impl FrameSamples {
    /// How the frames of `track` are counted.
    pub fn of(track: &Track<AudioInfo>) -> Self {
        let fixed = |samples| if samples == 0 { Self::Unknown } else { Self::Fixed(samples) };
        match track.codec {
            Codec::Aac => {
                fixed(aac::parse_config(&track.config).map_or(0, |config| config.frame_samples))
            }
            Codec::Mp3 if track.info.sample_rate > 0 => {
                // MPEG-2 has half as many as MPEG-1 (ISO/IEC 13818-3 2.4.2.1).
                Self::Fixed(if track.info.sample_rate >= 32_000 { 1152 } else { 576 })
            }
            Codec::Ac3 => Self::Fixed(ac3_config::AC3_FRAME_SAMPLES),
            Codec::Eac3 => Self::Eac3,
            Codec::Opus => Self::Opus,
            Codec::Flac => Self::Flac,
            // RTMP players take what is called G.711 at any rate; a sample is a byte in each.
            Codec::G711A | Codec::G711U => Self::G711 { channels: track.info.channels.max(1) },
            _ => Self::Unknown,
        }
    }

    /// Samples of one channel in `frame`, at the track's rate. `None` when that is not known.
    pub fn count(self, frame: &[u8]) -> Option<u32> {
        match self {
            Self::Fixed(samples) => Some(samples),
            Self::Opus => opus_packet(frame),
            Self::Flac => flac::frame_samples(frame),
            Self::Eac3 => ac3_config::access_unit_samples(frame),
            Self::G711 { channels } => g711::frame_samples(frame, channels),
            Self::Unknown => None,
        }
    }
}

/// Longest Opus packet, in samples of one channel (RFC 6716 3.2.5, R5).
const OPUS_PACKET_SAMPLES_MAX: u32 = 5760;

/// Samples of one channel at 48 kHz in an Opus packet (RFC 6716 3.1, 3.2). `None` when it is cut
/// short or longer than 120 ms.
fn opus_packet(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        silk @ 0..=11 => [480, 960, 1920, 2880][usize::from(silk & 3)],
        hybrid @ 12..=15 => 480 << (hybrid & 1),
        celt => 120 << (celt & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    (1..=OPUS_PACKET_SAMPLES_MAX).contains(&samples).then_some(samples)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_codec_counts_its_own_way() {
        let count = |codec, config: &'static [u8], sample_rate, frame: &[u8]| {
            let info = AudioInfo { sample_rate, channels: 2, sample_bits: 16 };
            FrameSamples::of(&Track { codec, config: Bytes::from_static(config), info })
                .count(frame)
        };
        assert_eq!(count(Codec::Aac, &[0x12, 0x10], 44_100, &[]), Some(1024));
        assert_eq!(count(Codec::Aac, &[], 44_100, &[]), None);
        assert_eq!(count(Codec::Mp3, &[], 24_000, &[]), Some(576));
        assert_eq!(count(Codec::Ac3, &[], 48_000, &[]), Some(1536));
        assert_eq!(count(Codec::Opus, &[], 48_000, &[31 << 3]), Some(960));
        assert_eq!(count(Codec::Flac, &[], 48_000, &[0xff, 0xf8, 0xca, 0, 0]), Some(4096));
        assert_eq!(count(Codec::G711A, &[], 8000, &[0; 320]), Some(160));
        assert_eq!(count(Codec::G711A, &[], 8000, &[]), None);
        let frame = [0x0b, 0x77, 0x00, 0x02, 0x0f, 0x80];
        assert_eq!(count(Codec::Eac3, &[], 48_000, &[&frame[..], &frame].concat()), Some(512));
        assert_eq!(count(Codec::Speex, &[], 16_000, &[1]), None);
    }

    #[test]
    fn opus_packets_of_every_mode() {
        // SILK 20 ms, hybrid 10 ms twice, CELT 2.5 ms, CELT 20 ms three times.
        let packets: [&[u8]; 4] = [&[1 << 3], &[12 << 3 | 1], &[16 << 3], &[31 << 3 | 3, 3]];
        assert_eq!(packets.map(opus_packet), [Some(960), Some(960), Some(120), Some(2880)]);
        // Cut short, 7 frames of 20 ms, none.
        let packets: [&[u8]; 4] = [&[], &[3], &[31 << 3 | 3, 7], &[31 << 3 | 3, 0]];
        assert_eq!(packets.map(opus_packet), [None; 4]);
    }
}
