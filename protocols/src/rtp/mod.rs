//! RTP and RTCP (RFC 3550), and the payload formats of codecs: what RTSP and WebRTC stand on.
//!
//! | module | specification | what |
//! | ------ | ------------- | ---- |
//! | [`mod@format`] | RFC 8866 6.6, 6.15; RFC 3551 | how a track travels: `rtpmap`, `fmtp` |
//! | [`receiver`] | RFC 3550 6, A; RFC 4585; RFC 5104 | packets of a publisher to tracks and frames |
//! | [`sender`] | RFC 3550 5, 6.4.1 | frames of a stream to packets that all viewers share |
//! | [`header`], [`interleaved`] | RFC 3550 5.1; RFC 2326 10.12 | the framing of packets |
//! | [`sdp`] | RFC 8866 | descriptions of streams, written and read |
//! | [`ntp`] | RFC 3550 4 | wall-clock time of sender reports |
//! | `payload` | see there | one payload format to a file |
//!
//! Not done: retransmission, forward error correction, several sources mixed into one, payloads
//! with a decoding order of their own.

mod clock;
mod decode_order;
mod feedback;
pub mod format;
pub mod fuzzing;
pub mod header;
mod incoming;
pub mod interleaved;
pub mod ntp;
mod packets;
mod payload;
pub mod receiver;
mod reception;
mod reorder;
mod rtcp;
pub mod sdp;
pub mod sender;
#[cfg(test)]
mod tests;

pub use format::{FormatError, PayloadFormat};
pub use ntp::NtpTime;
pub use receiver::{Receiver, ReceiverEvent, ReceiverLimits, Statistics};
pub use sender::{Channels, Sender};

/// Why a packet was dropped. The receiver goes on; what is missing is treated as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// There is no track of this number.
    #[error("no such track")]
    UnknownTrack,
    /// The packet ends before what it announces.
    #[error("RTP packet is cut short")]
    Truncated,
    /// Another version than 2.
    #[error("RTP packet has version {0}")]
    Version(u8),
    /// Padding of no byte, or of more than there are.
    #[error("padding of the RTP packet makes no sense")]
    Padding,
    /// A compound packet that does not add up, or of too many parts.
    #[error("RTCP packet makes no sense")]
    Rtcp,
}

/// The numbers that follow from a seed, as far as RTP wants them random (SplitMix64).
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
