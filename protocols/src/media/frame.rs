//! One access unit on its way through the server: immutable, shared, never copied per viewer.

use bytes::Bytes;

use super::Timestamp;

/// What a frame belongs to and how it may be treated when a viewer lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A picture a decoder can start at.
    Keyframe,
    /// A picture others may depend on.
    Inter,
    /// A picture no other depends on.
    Disposable,
    /// Sound.
    Audio,
    /// Timed script data, as an FLV script tag body (AMF0 name and values).
    Data,
}

impl FrameKind {
    /// The frame is of the video track.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Keyframe | Self::Inter | Self::Disposable)
    }
}

/// One access unit, audio frame or timed data item.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Track and dependency class.
    pub kind: FrameKind,
    /// Decode time on the stream's timeline.
    pub dts: Timestamp,
    /// Presentation minus decode time in nanoseconds; negative only from broken publishers.
    pub composition_offset: i64,
    /// Payload in the form [`super::Codec`] states.
    pub payload: Bytes,
}

impl Frame {
    /// Presentation time.
    pub fn pts(&self) -> Timestamp {
        self.dts.offset_nanos(self.composition_offset)
    }
}
