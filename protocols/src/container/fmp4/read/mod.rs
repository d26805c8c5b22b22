//! Reading MP4: the fragments of a file as they lie in it, and the sample tables of a movie.
//!
//! Nothing here reads a file. [`Scanner`] says which bytes it needs next; a `moov` it finds is
//! given to [`Movie::parse`] whole. Offsets are those of the file, sizes are checked against its
//! length, and every count is bounded by a constant of this module.

mod boxes;
mod fragment;
mod frames;
mod movie;
mod sample_entry;
mod sample_table;
mod scanner;

pub use fragment::{TrackDefaults, TrackFragment};
pub use movie::{Movie, MovieTrack};
pub use sample_table::{SamplePlace, SampleTable, Samples};
pub use scanner::{FoundFragment, Scanner, Step, Stop};

/// Largest `moov` read, in bytes: days of samples.
pub const MOOV_BYTES_MAX: u64 = 64 << 20;
/// Largest `moof` read, in bytes.
pub const MOOF_BYTES_MAX: u64 = 4 << 20;
/// Most samples of one `moof`.
pub const MOOF_SAMPLES_MAX: u32 = 1 << 16;
/// Most samples of one sample table: three days of 60 pictures per second.
pub const TABLE_SAMPLES_MAX: u32 = 1 << 24;
/// Most boxes at the top of one file: a day of parts of 100 ms of two tracks, with `prft`.
pub const TOP_LEVEL_BOXES_MAX: u32 = 1 << 23;
/// Most tracks of a file looked at.
pub const TRACKS_MAX: usize = 32;

/// Why a `moov` or a `moof` cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It exceeds [`MOOV_BYTES_MAX`], [`MOOF_BYTES_MAX`] or [`MOOF_SAMPLES_MAX`].
    #[error("MP4 box exceeds the limit")]
    TooLarge,
    /// A box with this name is missing, cut short or contradicts itself.
    #[error("MP4 box {} is not valid", .0.escape_ascii())]
    BadBox([u8; 4]),
}

/// One access unit of a file, in ticks of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSample {
    /// Where its payload begins in the file.
    pub offset: u64,
    /// Bytes of its payload.
    pub size: u32,
    /// Decode time, edits not applied.
    pub decode_time: u64,
    /// Time until the next sample is decoded.
    pub duration: u32,
    /// Presentation minus decode time.
    pub composition_offset: i32,
    /// Decoding can start at it.
    pub keyframe: bool,
}

#[cfg(test)]
mod tests;
