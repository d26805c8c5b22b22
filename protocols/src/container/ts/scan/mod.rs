//! Where the bytes of a transport stream can be cut into segments that play alone.
//!
//! Read are packet headers, tables, PES headers and the front of each picture up to its first
//! slice: nothing is demultiplexed, and what is found are ranges of the bytes that were given. A
//! segment begins with the tables, those in front of its first picture or else the last ones before
//! it, and with a picture that brings its parameter sets along.

mod cut;
mod picture;
mod program;
mod tables;

use std::ops::Range;
use std::time::Duration;

use self::program::Program;
use super::TsError;
use super::sync::PacketSync;

/// A piece of a transport stream that plays alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The bytes it is made of, in this order: whole packets, tables first.
    pub ranges: Vec<Range<u64>>,
    /// From its first picture to that of the next; the first and the last of a timeline also hold
    /// the sound before and the picture or sound after.
    pub duration: Duration,
    /// Its time or its tracks do not go on from the segment before.
    pub discontinuity: bool,
}

/// What a whole stream is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts {
    /// In order.
    pub segments: Vec<Segment>,
    /// There are pictures.
    pub has_video: bool,
    /// Bytes that belong to no packet; no segment has them.
    pub skipped_bytes: u64,
    /// Bytes before a picture that could be started at; no segment has them.
    pub unreachable_bytes: u64,
}

/// Why a stream cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// No packets are found.
    #[error(transparent)]
    Ts(#[from] TsError),
    /// No program, or none with a track that is read.
    #[error("no video or audio stream of a known type")]
    NoTrack,
    /// All of it is scrambled.
    #[error("the stream is scrambled")]
    Scrambled,
    /// No picture can be started at.
    #[error("no keyframe with parameter sets")]
    NoKeyframe,
    /// More segments, or more holes, than are kept.
    #[error("too many segments or too many gaps")]
    TooLong,
}

/// See the module text. Bytes in, cuts out at the end.
#[derive(Debug)]
pub struct Scanner {
    sync: PacketSync,
    program: Program,
}

impl Scanner {
    /// A scanner whose segments are at least `target` long where the timeline is.
    pub fn new(target: Duration) -> Self {
        Self { sync: PacketSync::default(), program: Program::new(target) }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// There are no packets at the beginning, or too much was found. The scan is over then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let program = &mut self.program;
        let found = self.sync.push(bytes, |offset, packet| program.on_packet(offset, packet));
        match found {
            // Garbage between packets is passed over, however much it is.
            Err(error) if !program.has_packets() => Err(error.into()),
            _ if program.is_full() => Err(ScanError::TooLong),
            _ => Ok(()),
        }
    }

    /// The stream ends here.
    ///
    /// # Errors
    /// There is nothing to play.
    pub fn finish(mut self) -> Result<Cuts, ScanError> {
        self.sync.finish();
        let mut cuts = self.program.finish()?;
        cuts.skipped_bytes = self.sync.skipped_bytes;
        Ok(cuts)
    }
}

#[cfg(test)]
mod tests;
