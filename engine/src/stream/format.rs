//! What tells one format from another, and the bytes of those that are shaped like FLV.

use protocols::container::flv::{self, Dialect, TagType};
use protocols::media::{Frame, FrameKind, Timestamp, Tracks};
use protocols::rtmp;
use protocols::rtp::{Channels, NtpTime};

use super::carriage::Output;

/// What a viewer's bytes look like. Viewers of equal formats share every byte of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    /// Container.
    pub container: Container,
    /// The viewer said that it understands FourCC codecs; otherwise it gets what was published.
    pub enhanced: bool,
    /// Video is wanted.
    pub video: bool,
    /// Audio is wanted.
    pub audio: bool,
    /// It must not get FourCC codecs where there is a legacy form, however the stream was published.
    pub legacy: bool,
    /// Merge window of these viewers in milliseconds; the stream's or the shard's if they named
    /// none. Part of the format, since viewers of another window stand at other offsets.
    pub merge_ms: Option<u16>,
}

/// Longest merge window a publisher or viewer may ask for.
const MERGE_MS_MAX: u16 = 1000;

/// The merge window a query asks for: `merge=MS`.
#[must_use]
pub fn merge_of_query(query: &str) -> Option<u16> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("merge="))?;
    value.parse::<u16>().ok().map(|millis| millis.min(MERGE_MS_MAX))
}

/// The framing around an FLV-shaped body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// RTMP chunks (Adobe RTMP 1.0, 5.3).
    Rtmp {
        /// Message stream the viewer plays on.
        message_stream_id: u32,
        /// Outgoing chunk size, as its connection has announced it.
        chunk_size: u32,
    },
    /// FLV tags (FLV 10.1, E.4).
    Flv,
    /// MPEG-2 transport stream packets (ISO/IEC 13818-1).
    Ts,
    /// MP4 fragments, one frame each (ISO/IEC 14496-12).
    Fmp4,
    /// RTP packets in the framing of RTSP (RFC 2326, 10.12), with sender reports.
    Rtp {
        /// Channels of the framing.
        channels: Channels,
        /// They leave as datagrams, without the framing.
        datagrams: bool,
    },
}

impl Container {
    /// Label in the API and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtmp { .. } => "rtmp",
            Self::Flv => "flv",
            Self::Ts => "ts",
            Self::Fmp4 => "mp4",
            Self::Rtp { .. } => "rtsp",
        }
    }

    /// What decides which tracks it carries.
    #[must_use]
    pub fn output(self) -> Output {
        match self {
            Self::Rtmp { .. } | Self::Flv => Output::Flv,
            Self::Ts => Output::Ts,
            Self::Fmp4 => Output::Mp4,
            Self::Rtp { .. } => Output::Rtp,
        }
    }
}

/// What every packager of a process has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackagerOptions {
    /// Repeat extended timestamps in type-3 chunk headers.
    pub type3_extended_timestamp: bool,
    /// Legacy FLV codec id of H.265.
    pub legacy_h265_id: u8,
    /// Largest RTP packet.
    pub rtp_packet_bytes: usize,
    /// Sources and sequence numbers of RTP follow from it.
    pub rtp_seed: u64,
    /// The wall-clock time RTP reports give to time zero of every stream.
    pub ntp_at_zero: NtpTime,
}

/// The name this server gives itself in `onMetaData`.
pub const SERVER_NAME: &str = concat!("smart-rtmpd/", env!("CARGO_PKG_VERSION"));

impl Format {
    /// This format carries frames of that kind.
    #[must_use]
    pub fn wants(self, kind: FrameKind) -> bool {
        match kind {
            FrameKind::Audio => self.audio,
            FrameKind::Data => true,
            FrameKind::Keyframe | FrameKind::Inter | FrameKind::Disposable => self.video,
        }
    }

    /// The bytes leave as datagrams.
    #[must_use]
    pub fn is_datagrams(self) -> bool {
        matches!(self.container, Container::Rtp { datagrams: true, .. })
    }

    /// Chunk size of what is in chunks; else the usual one, for estimates.
    pub(super) fn chunk_size(self) -> u32 {
        match self.container {
            Container::Rtmp { chunk_size, .. } => chunk_size,
            Container::Flv | Container::Ts | Container::Fmp4 | Container::Rtp { .. } => 4096,
        }
    }

    fn dialect(self, tracks: &Tracks, options: PackagerOptions) -> Dialect {
        Dialect {
            enhanced: self.enhanced || !(tracks.legacy_flv || self.legacy),
            legacy_h265_id: options.legacy_h265_id,
        }
    }

    /// What stands before everything else on a new connection, if anything.
    #[must_use]
    pub fn preamble(self, tracks: &Tracks) -> Vec<u8> {
        match self.container {
            Container::Rtmp { .. } | Container::Ts | Container::Fmp4 | Container::Rtp { .. } => {
                Vec::new()
            }
            Container::Flv => flv::header(
                tracks.audio.is_some() && self.audio,
                tracks.video.is_some() && self.video,
            )
            .to_vec(),
        }
    }

    /// Appends metadata and decoder configurations as of a time.
    pub fn write_configuration(
        self,
        tracks: &Tracks,
        timestamp_ms: u32,
        options: PackagerOptions,
        out: &mut Vec<u8>,
    ) {
        self.write_announcement(tracks, timestamp_ms, &[], options, out);
    }

    /// The same with something before the metadata: servers that are published to want
    /// `@setDataFrame` there.
    pub fn write_announcement(
        self,
        tracks: &Tracks,
        timestamp_ms: u32,
        before_metadata: &[u8],
        options: PackagerOptions,
        out: &mut Vec<u8>,
    ) {
        for (tag, body) in flv::configuration(tracks, self.dialect(tracks, options), SERVER_NAME) {
            let wanted = match tag {
                TagType::Audio => self.audio,
                TagType::Video => self.video,
                TagType::Script => true,
            };
            if wanted {
                // Metadata has no time: players take a later one for a text track.
                let (at, before) = match tag {
                    TagType::Script => (0, before_metadata),
                    TagType::Audio | TagType::Video => (timestamp_ms, &[][..]),
                };
                self.write(tag, at, &[before, &body], options, out);
            }
        }
    }

    /// Appends one frame; false when this format cannot carry it.
    pub fn write_frame(
        self,
        tracks: &Tracks,
        frame: &Frame,
        options: PackagerOptions,
        out: &mut Vec<u8>,
    ) -> bool {
        let dialect = self.dialect(tracks, options);
        let Some((tag, head)) = flv::frame_head(tracks, frame, dialect) else { return false };
        self.write(tag, wire_millis(frame.dts), &[&head, &frame.payload], options, out);
        true
    }

    fn write(
        self,
        tag: TagType,
        timestamp_ms: u32,
        parts: &[&[u8]],
        options: PackagerOptions,
        out: &mut Vec<u8>,
    ) {
        match self.container {
            // The others are written by their packagers.
            Container::Flv | Container::Ts | Container::Fmp4 | Container::Rtp { .. } => {
                flv::write_tag(out, tag, timestamp_ms, parts);
            }
            Container::Rtmp { message_stream_id, chunk_size } => {
                let (chunk_stream_id, type_id) = match tag {
                    TagType::Audio => {
                        (rtmp::egress::AUDIO_CHUNK_STREAM, rtmp::message::type_id::AUDIO)
                    }
                    TagType::Video => {
                        (rtmp::egress::VIDEO_CHUNK_STREAM, rtmp::message::type_id::VIDEO)
                    }
                    TagType::Script => {
                        (rtmp::egress::DATA_CHUNK_STREAM, rtmp::message::type_id::DATA_AMF0)
                    }
                };
                rtmp::wire::write_message(
                    out,
                    chunk_size,
                    options.type3_extended_timestamp,
                    chunk_stream_id,
                    type_id,
                    message_stream_id,
                    timestamp_ms,
                    parts,
                );
            }
        }
    }
}

/// The 32-bit millisecond timestamp RTMP and FLV carry; wraps after 49.7 days.
#[must_use]
pub fn wire_millis(time: Timestamp) -> u32 {
    // Truncation to 32 bits is the wire format's own wrap.
    time.to_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use protocols::media::{Codec, Track, VideoInfo};

    /// The first byte of the body of the second tag: the decoder configuration.
    fn configuration(format: Format, legacy_flv: bool) -> u8 {
        let config = Bytes::from_static(&[1; 30]);
        let info = VideoInfo::default();
        let video = Some(Track { codec: Codec::H265, config, info });
        let tracks = Tracks { video, legacy_flv, ..Tracks::default() };
        let options = PackagerOptions {
            type3_extended_timestamp: true,
            legacy_h265_id: 12,
            rtp_packet_bytes: 1200,
            rtp_seed: 0,
            ntp_at_zero: NtpTime::default(),
        };
        let mut out = Vec::new();
        format.write_announcement(&tracks, 0, rtmp::client::SET_DATA_FRAME, options, &mut out);
        let name = rtmp::client::SET_DATA_FRAME;
        assert_eq!(&out[12..12 + name.len()], name, "servers are told to set it");
        let length = usize::from(out[5]) << 8 | usize::from(out[6]);
        out[12 + length + 12]
    }

    #[test]
    fn a_target_gets_four_characters_only_if_it_understands_them() {
        let container = Container::Rtmp { message_stream_id: 1, chunk_size: 4096 };
        let format = |enhanced, legacy| {
            let (video, audio) = (true, true);
            Format { container, enhanced, legacy, video, audio, merge_ms: None }
        };
        for (format, legacy_flv, enhanced) in [
            (format(true, false), false, true),
            (format(true, false), true, true),
            (format(false, true), false, false),
            (format(false, true), true, false),
            // A viewer gets what was published.
            (format(false, false), false, true),
            (format(false, false), true, false),
        ] {
            let first = configuration(format, legacy_flv);
            assert_eq!(first & 0x80 != 0, enhanced, "{format:?} {legacy_flv}");
            assert_eq!(first & 0x0f == 12, !enhanced, "{format:?} {legacy_flv}");
        }
    }
}
