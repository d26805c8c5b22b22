//! Headers of codecs: configuration records, parameter sets, NAL unit types. Nothing is decoded.
//!
//! | module | specification | read |
//! | ------ | ------------- | ---- |
//! | [`nal`] | ISO/IEC 14496-15; H.264 annex B | length-prefixed and start-code framing |
//! | [`h264`] | ITU-T H.264; ISO/IEC 14496-15 5.3.3 | `avcC`, SPS |
//! | [`h265`] | ITU-T H.265; ISO/IEC 14496-15 8.3.3 | `hvcC`, SPS prefix |
//! | [`av1`] | AV1 bitstream 5.5; AV1 in ISOBMFF 2.3 | `av1C`, sequence header prefix |
//! | [`vp`] | VP Codec ISO Media File Format Binding 1.0 | `vpcC` of VP8 and VP9 |
//! | [`aac`], [`latm`] | ISO/IEC 14496-3 1.6.2, 1.A.2, 1.7 | `AudioSpecificConfig`, ADTS, LOAS |
//! | [`ac3`] | ETSI TS 102 366 4.4, E.1.3 | synchronisation frame of AC-3 and E-AC-3 |
//! | [`opus`], [`flac`] | RFC 7845 5.1; RFC 9639 8.2 | ID header; STREAMINFO |
//! | [`ac3_config`] | ETSI TS 102 366 4.4, E.1, F | sync frame header, `dac3`, `dec3` |
//! | [`mp3`], [`g711`] | ISO/IEC 11172-3 2.4.2.3; G.711 | frame header; constants |
//! | [`rfc6381`] | RFC 6381; ISO/IEC 14496-15 annex E | names of all of them |

pub mod aac;
pub mod ac3;
pub mod ac3_config;
pub mod av1;
pub mod flac;
pub mod frame_samples;
pub mod g711;
pub mod h264;
pub mod h265;
pub mod latm;
pub mod mp3;
pub mod nal;
pub mod opus;
pub mod rfc6381;
pub mod vp;

/// Largest picture edge believed; anything else counts as unknown.
pub const EDGE_PIXELS_MAX: u32 = 16_384;

/// How many pictures a decoder may hold back to show them in order, as parameter sets tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reordering {
    /// At most so many.
    Pictures(u8),
    /// They do not tell.
    Unknown,
}

/// Why a configuration record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The record ends before what it announces.
    #[error("configuration record is cut short")]
    Truncated,
    /// A version this server does not know.
    #[error("configuration record has version {0}")]
    Version(u8),
    /// A field has a value the specification forbids.
    #[error("configuration record holds a forbidden value")]
    Forbidden,
}

/// The size if both edges are believable, else 0×0.
fn believable(width: u32, height: u32) -> (u32, u32) {
    let edges = 1..=EDGE_PIXELS_MAX;
    if edges.contains(&width) && edges.contains(&height) { (width, height) } else { (0, 0) }
}
