//! RTP as far as the RTSP sessions see it: a stand-in with the names of the real module.

mod format;
mod receiver;
pub mod sdp;

pub use format::{FormatError, PayloadFormat};
pub use receiver::{Receiver, ReceiverEvent, ReceiverLimits, RtpError};

/// First byte of the interleaved framing for the RTP of each kind; RTCP is one higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channels {
    /// Video RTP.
    pub video: u8,
    /// Audio RTP.
    pub audio: u8,
}
