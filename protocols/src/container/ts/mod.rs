//! MPEG-TS: transport packets, their tables, and the access units inside, in both directions.
//!
//! | specification | done |
//! | ------------- | ---- |
//! | ISO/IEC 13818-1 2.4 | packets, PAT, PMT, PES of one program; no conditional access |
//! | ISO/IEC 13818-1 2.7 | PCR on the video PID, or on the audio PID where there is no video |
//! | ISO/IEC 14496-3 1.7, 1.A.2 | AAC as ADTS in both directions, LATM in LOAS read |
//! | ATSC A/53-3, ETSI EN 300 468 | AC-3 and E-AC-3 written as ATSC has them, both read |
//! | Opus in MPEG-TS (Xiph draft, as ffmpeg has it) | both directions, no trimming |
//!
//! Tolerated: PES packets of unknown length in any stream, missing marker bits, several access
//! units in a PES packet and one in several, dependent substreams of E-AC-3. Deviations: pictures
//! more than 100 ms apart in a stream without sound have a PCR each, not ten a second (2.7.2); two
//! fields of H.264 are one frame if they share a PES packet, else two.
//!
//! Not carried: VP8, VP9, FLAC, G.711, Speex and legacy codecs, which have no registered form; AV1,
//! whose two drafts contradict each other; MPEG audio of layers I and II; timed data. Packets of
//! 192 and 204 bytes are refused by name.
//!
//! The reader is our own rather than `mpeg2ts-reader`: that takes whole, aligned packets and calls
//! back into handlers of its own traits, so that synchronisation, the rule for damage, bounds on
//! memory and everything behind the PES header would be written here anyway.

mod clock;
mod demux;
pub mod fuzzing;
mod mux;
mod opus;
mod packet;
mod pcr;
mod pes;
mod psi;
pub mod scan;
mod stream_type;
mod sync;

pub use demux::{Damage, Demuxer, Ignored, PES_BYTES_MAX};
pub use mux::{LeftOut, Muxer};
pub use packet::{PACKET_BYTES, SYNC_BYTE};
pub use pcr::{PCR_DELAY_MS, TIME_BASE_MS};

/// Why a byte stream cannot be read as transport packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TsError {
    /// The packets have another size: 192 bytes with a time code, or 204 with error correction.
    #[error("MPEG-TS packets of {0} bytes are not supported")]
    PacketBytes(usize),
    /// No packets were found in as many bytes as are searched.
    #[error("not an MPEG-TS stream")]
    NotTs,
}

#[cfg(test)]
mod tests;
