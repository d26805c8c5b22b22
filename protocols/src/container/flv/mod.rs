//! FLV: tags, their bodies (which RTMP carries as messages), and the file framing around them.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | Adobe FLV 10.1 annex E | header, tags, audio, video and script data; no encryption |
//! | Enhanced RTMP v1, v2 | FourCC video and audio, ModEx nanoseconds, multitrack (one track kept) |
//!
//! Tolerated: empty and one-byte bodies, a configuration repeated or empty, metadata too large
//! to keep, coded data before its configuration: ignored and counted in [`Ignored`]. Not carried:
//! HDR colour metadata, the MPEG-2 TS form of the AV1 configuration, multichannel layouts.

mod audio;
mod demuxer;
mod extended;
mod muxer;
mod script;
mod tag;
mod timeline;
mod video;

pub use super::Item;
pub use demuxer::{Demuxer, Ignored};
pub use muxer::{Dialect, Head, configuration, frame_head};
pub use tag::{HEADER_BYTES, TAG_HEADER_BYTES, TagReader, TagType, header, write_tag};
pub use timeline::Timeline;

use crate::amf::AmfError;
use crate::codec::ConfigError;

/// Why a tag, or a byte stream of tags, cannot be used. A [`Demuxer`] stays usable: an error
/// concerns one tag. A [`TagReader`] does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// The body ends inside its own header.
    #[error("FLV tag is cut short")]
    Truncated,
    /// A legacy video codec id nobody assigned.
    #[error("FLV video codec {0} is unknown")]
    UnknownVideoCodec(u8),
    /// A legacy sound format nobody assigned.
    #[error("FLV sound format {0} is unknown")]
    UnknownSoundFormat(u8),
    /// A codec of Enhanced RTMP this server does not carry.
    #[error("FLV FourCC {0:02x?} is unknown")]
    UnknownFourCc([u8; 4]),
    /// A packet type Enhanced RTMP does not define.
    #[error("FLV packet type {0} is unknown")]
    UnknownPacketType(u8),
    /// A multitrack tag inside a multitrack tag, or an undefined kind of it.
    #[error("FLV multitrack tag is not valid")]
    BadMultitrack,
    /// A sequence header that cannot be used.
    #[error("FLV sequence header: {0}")]
    BadConfig(#[from] ConfigError),
    /// Script data that is not AMF.
    #[error("FLV script data: {0}")]
    BadScript(#[from] AmfError),
    /// The byte stream does not begin with an FLV header.
    #[error("not an FLV stream")]
    NotFlv,
    /// A tag larger than the reader accepts: its body in bytes.
    #[error("FLV tag of {0} bytes exceeds the limit")]
    TagTooLarge(u32),
}

impl FlvError {
    /// The tag is passed over and the media go on: script data that is no AMF, packet types to come.
    pub fn is_passable(&self) -> bool {
        matches!(self, Self::BadScript(_) | Self::UnknownPacketType(_))
    }

    /// The media are of a codec that is not known here.
    pub fn is_unknown_codec(&self) -> bool {
        matches!(
            self,
            Self::UnknownVideoCodec(_) | Self::UnknownSoundFormat(_) | Self::UnknownFourCc(_)
        )
    }
}

#[cfg(test)]
mod tests;
