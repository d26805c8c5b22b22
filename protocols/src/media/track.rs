//! What a stream consists of: at most one video and one audio track, and free metadata.

use std::sync::Arc;

use bytes::Bytes;

/// Codecs the neutral model names. Whether an output can carry one is that output's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 / AVC. Config: `AVCDecoderConfigurationRecord`; frames: 4-byte length-prefixed NAL units
    /// (the prefix size the config record states).
    H264,
    /// H.265 / HEVC. Config: `HEVCDecoderConfigurationRecord`; frames: length-prefixed NAL units.
    H265,
    /// AV1. Config: `AV1CodecConfigurationRecord`; frames: low-overhead OBUs of a temporal unit.
    Av1,
    /// VP8. Config: `VPCodecConfigurationRecord` or empty.
    Vp8,
    /// VP9. Config: `VPCodecConfigurationRecord`, perhaps after version and flags of its box.
    Vp9,
    /// AAC. Config: `AudioSpecificConfig`; frames: raw access units, no ADTS.
    Aac,
    /// Opus. Config: ID header (`OpusHead`, RFC 7845 5.1).
    Opus,
    /// FLAC. Config: native FLAC stream header (`fLaC` and STREAMINFO).
    Flac,
    /// AC-3. Config: `AC3SpecificBox` body, made of the first frame; empty before it was seen.
    Ac3,
    /// E-AC-3. Config: `EC3SpecificBox` body, made of the first frame; empty before it was seen.
    Eac3,
    /// MPEG-1/2 layer III. No config.
    Mp3,
    /// G.711 A-law. No config.
    G711A,
    /// G.711 µ-law. No config.
    G711U,
    /// Speex. No config.
    Speex,
    /// A legacy FLV codec carried through unparsed (Sorenson H.263, VP6, Nellymoser, …): the FLV
    /// codec id. Only FLV-based outputs can carry it.
    LegacyVideo(u8),
    /// See [`Codec::LegacyVideo`]; the whole first byte of the FLV audio tag.
    LegacyAudio(u8),
}

impl Codec {
    /// Pictures, not sound.
    pub fn is_video(self) -> bool {
        match self {
            Self::H264 | Self::H265 | Self::Av1 | Self::Vp8 | Self::Vp9 | Self::LegacyVideo(_) => {
                true
            }
            Self::Aac
            | Self::Opus
            | Self::Flac
            | Self::Ac3
            | Self::Eac3
            | Self::Mp3
            | Self::G711A
            | Self::G711U
            | Self::Speex
            | Self::LegacyAudio(_) => false,
        }
    }

    /// Lower-case name used in the API, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Av1 => "av1",
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::Aac => "aac",
            Self::Opus => "opus",
            Self::Flac => "flac",
            Self::Ac3 => "ac3",
            Self::Eac3 => "eac3",
            Self::Mp3 => "mp3",
            Self::G711A => "pcma",
            Self::G711U => "pcmu",
            Self::Speex => "speex",
            Self::LegacyVideo(_) => "flv_video",
            Self::LegacyAudio(_) => "flv_audio",
        }
    }
}

/// What is known of the pictures; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VideoInfo {
    /// Cropped width in pixels.
    pub width: u32,
    /// Cropped height in pixels.
    pub height: u32,
    /// Frames per second.
    pub frame_rate: f64,
}

/// What is known of the sound; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudioInfo {
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u8,
    /// Bits per sample, where that means something.
    pub sample_bits: u8,
}

/// One elementary stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Track<Info> {
    /// Codec.
    pub codec: Codec,
    /// Decoder configuration record in the codec's own form (see [`Codec`]); may be empty.
    pub config: Bytes,
    /// What is known beyond the codec.
    pub info: Info,
}

/// A value of free metadata. A closed, flat type: nothing nested comes in from a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A text of bounded length.
    Text(Box<str>),
}

/// Free metadata of a publisher in its own order (FLV `onMetaData`); bounded by the parser.
pub type Metadata = Vec<(Box<str>, MetaValue)>;

/// The tracks of one stream at one time. Replaced whole, and only when something changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tracks {
    /// The video track, if there is one.
    pub video: Option<Track<VideoInfo>>,
    /// The audio track, if there is one.
    pub audio: Option<Track<AudioInfo>>,
    /// The publisher's own metadata.
    pub metadata: Metadata,
    /// The publisher wrote its H.265 as a legacy FLV codec id. Players of its kind understand that
    /// form and perhaps no other, so FLV outputs keep it unless a viewer says it knows better.
    pub legacy_flv: bool,
}

impl Tracks {
    /// Shared tracks, as frames and logs carry them.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// Neither video nor audio is known.
    pub fn is_empty(&self) -> bool {
        self.video.is_none() && self.audio.is_none()
    }
}
