//! Pieces joined to one MP4: the first one's beginning and the fragments of all, on one timeline.
//!
//! Only times and numbers of fragments differ from what lies on the disk. They are put over the
//! bytes as these are sent, so that nothing is kept of them, and any range of the result is found
//! without the rest. A playlist over pieces uses the same for one piece at a time.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use protocols::container::fmp4::TrackKind;
use protocols::media::Timestamp;

use super::index::Pair;
use super::library::Library;
use super::name::{PieceName, Place};
use super::piece::{Piece, Span, nanos, part};

/// Pieces of one session follow each other without a break if no more lies between them.
pub(super) const BREAK_MIN_NANOS: i64 = 1_500_000_000;
/// The head of a fragment: `prft`, and `moof` as far as its decode time.
const HEAD_BYTES: usize = 128;

const TRACKS: [TrackKind; 2] = [TrackKind::Video, TrackKind::Audio];

/// Ticks to add to the times of each track: video, sound.
pub type Shift = [i64; 2];

/// Why pieces do not make one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinError {
    /// There is no media in that time.
    Nothing,
    /// They have different tracks.
    TracksDiffer,
}

/// One MP4.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its beginning.
    pub init: Bytes,
    /// What follows, in order.
    pub parts: Vec<JoinedPart>,
}

/// The part of a joined MP4 that comes from one piece.
#[derive(Debug, Clone)]
pub struct JoinedPart {
    library: Library,
    place: Place,
    name: PieceName,
    /// Its bytes in the file of the piece.
    pub span: Span,
    pairs: Range<usize>,
    shift: Shift,
    /// Fragments before it.
    fragments_before: u32,
}

/// Bytes that are sent in place of those in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Where they lie in the file.
    at: u64,
    bytes: [u8; 8],
    length: usize,
}

impl Patch {
    /// Puts this over what was read from `offset` on.
    pub fn apply(&self, read: &mut [u8], offset: u64) {
        for (place, byte) in (self.at..).zip(&self.bytes[..self.length]) {
            let index = place.checked_sub(offset).and_then(|index| usize::try_from(index).ok());
            if let Some(target) = index.and_then(|index| read.get_mut(index)) {
                *target = *byte;
            }
        }
    }

    /// Where it begins in the file.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.at
    }

    /// Where it ends in the file.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.at + self.length as u64
    }

    fn long(at: u64, value: u64) -> Self {
        Self { at, bytes: value.to_be_bytes(), length: 8 }
    }

    fn short(at: u64, value: u32) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&value.to_be_bytes());
        Self { at, bytes, length: 4 }
    }
}

/// What lies in a window of wall clock (Unix milliseconds), from the pair that it begins in, or
/// the keyframe before, to the pair it ends in.
///
/// # Errors
/// See [`JoinError`].
pub fn join(library: &Library, pieces: &[Piece], window: &Range<u64>) -> Result<Joined, JoinError> {
    let mut init = Bytes::new();
    let mut parts: Vec<JoinedPart> = Vec::new();
    let mut timeline: Option<Timeline> = None;
    let mut fragments = 0;
    for piece in pieces {
        let pairs = pairs_in(piece, window, parts.is_empty());
        let all = piece.index.pairs.get(pairs.clone()).unwrap_or_default();
        if all.is_empty() {
            continue;
        }
        if init.is_empty() {
            init = piece.init.clone();
        } else if init != piece.init {
            return Err(JoinError::TracksDiffer);
        }
        let timeline = timeline.get_or_insert_with(|| Timeline::new(piece, all));
        let shift = timeline.add(piece, all).shift;
        parts.push(JoinedPart {
            library: library.clone(),
            place: piece.place.clone(),
            name: piece.name,
            span: piece.span(pairs.clone()),
            pairs,
            shift,
            fragments_before: fragments,
        });
        let count: usize = all
            .iter()
            .map(|pair| TRACKS.iter().filter(|t| part(pair, **t).bytes > 0).count())
            .sum();
        fragments += u32::try_from(count).unwrap_or(u32::MAX);
    }
    if parts.is_empty() { Err(JoinError::Nothing) } else { Ok(Joined { init, parts }) }
}

/// The pairs of a piece that touch the window; the first piece begins with a keyframe.
fn pairs_in(piece: &Piece, window: &Range<u64>, first: bool) -> Range<usize> {
    let pairs = &piece.index.pairs;
    let begins_late = |pair: &Pair| pair.unix_ms >= window.end;
    let end = pairs.iter().position(begins_late).unwrap_or(pairs.len());
    let ends_early = |pair: &Pair| {
        let length = (piece.end_nanos(pair) - piece.start_nanos(pair)) / 1_000_000;
        pair.unix_ms.saturating_add_signed(length) <= window.start
    };
    let mut begin = pairs.iter().take_while(|pair| ends_early(pair)).count().min(end);
    if first && begin < end {
        let before = pairs.get(..=begin.min(pairs.len().saturating_sub(1))).unwrap_or_default();
        begin = before.iter().rposition(|pair| pair.keyframe).unwrap_or(begin);
    }
    begin..end
}

/// The timeline of what is joined while pieces are added.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Session, and where its timeline lies on this one.
    session: u64,
    session_offset: i64,
    /// Where each track has come to, in nanoseconds.
    ends: [i64; 2],
}

/// Where a piece has come to lie on a timeline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) shift: Shift,
    /// It goes on where the one before ended: the same session, and nothing is missing.
    pub(super) follows: bool,
}

impl Timeline {
    /// Begins with these pairs at time 0; they are still to be added.
    pub(super) fn new(piece: &Piece, pairs: &[Pair]) -> Self {
        let start = start(piece, pairs);
        let header = &piece.index.header;
        let session_offset = -(header.base_nanos.saturating_add(start));
        Self { session: header.session, session_offset, ends: [0; 2] }
    }

    /// Begins with a piece on its own timeline; its pairs are still to be added.
    pub(super) fn at_home(piece: &Piece) -> Self {
        let header = &piece.index.header;
        let session_offset = header.base_nanos.saturating_neg();
        Self { session: header.session, session_offset, ends: [0; 2] }
    }

    /// Puts the pairs of a piece behind what is there.
    pub(super) fn add(&mut self, piece: &Piece, pairs: &[Pair]) -> Placed {
        let header = &piece.index.header;
        let (begin, end) = (start(piece, pairs), self.ends[0].max(self.ends[1]));
        let by_session = self.session_offset.saturating_add(header.base_nanos);
        let at = by_session.saturating_add(begin);
        let follows = header.session == self.session
            && header.session != 0
            && (at - end).abs() <= BREAK_MIN_NANOS;
        let offset = if follows || end == 0 { by_session } else { end - begin };
        self.session = header.session;
        self.session_offset = offset.saturating_sub(header.base_nanos);
        let mut shift = [0; 2];
        for ((track, end), shift) in TRACKS.into_iter().zip(&mut self.ends).zip(&mut shift) {
            let timescale = piece.timescale(track);
            let of_track = |pair: &&Pair| part(pair, track).bytes > 0;
            let first = pairs.iter().find(of_track).map(|pair| part(pair, track));
            let last = pairs.iter().rfind(of_track).map(|pair| part(pair, track));
            let (Some(first), Some(last)) = (first, last) else { continue };
            if timescale == 0 {
                continue;
            }
            // Times of one session are rounded: a track must not step back for that.
            let time = nanos(first.time, timescale).saturating_add(offset).max(*end);
            let ticks = Timestamp::from_nanos(time).to_ticks(timescale);
            *shift = ticks - i64::try_from(first.time).unwrap_or(i64::MAX);
            let last = last.time.saturating_add(last.duration.into()).saturating_add_signed(*shift);
            *end = nanos(last, timescale);
        }
        Placed { shift, follows }
    }
}

/// When the first of these pairs begins, whichever of its tracks is first.
pub(super) fn start(piece: &Piece, pairs: &[Pair]) -> i64 {
    let times = TRACKS.into_iter().filter_map(|track| {
        let first = pairs.iter().map(|pair| part(pair, track)).find(|part| part.bytes > 0)?;
        Some(nanos(first.time, piece.timescale(track).max(1)))
    });
    times.min().unwrap_or(0)
}

impl JoinedPart {
    /// Opens the file, and finds what is to be put over its bytes. Waits for the disk.
    ///
    /// # Errors
    /// What the system says, `InvalidData` if the file is not what it was.
    pub fn open(&self) -> io::Result<(File, Vec<Patch>)> {
        let (piece, file) = self
            .library
            .piece(&self.place, self.name)
            .map_err(|error| io::Error::other(error.to_string()))?;
        if piece.span(self.pairs.clone()) != self.span {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let pairs = piece.index.pairs.get(self.pairs.clone()).unwrap_or_default();
        let patches = patches(&file, pairs, self.shift, Some(self.fragments_before))?;
        Ok((file, patches))
    }
}

impl Piece {
    /// What is to be put over the bytes of `file`, its media, that lie in `range`, to shift its
    /// times. Waits for the disk.
    ///
    /// # Errors
    /// What the system says, `InvalidData` if the file is not what it was.
    pub fn shifted(&self, file: &File, shift: Shift, range: &Range<u64>) -> io::Result<Vec<Patch>> {
        let pairs = &self.index.pairs;
        let first = pairs.partition_point(|pair| pair.end() <= range.start);
        let end = pairs.partition_point(|pair| pair.offset < range.end);
        patches(file, pairs.get(first..end).unwrap_or_default(), shift, None)
    }
}

/// What is to be put over the fragments of these pairs: their times, and their numbers if
/// fragments before them have some.
fn patches(
    file: &File,
    pairs: &[Pair],
    shift: Shift,
    mut number: Option<u32>,
) -> io::Result<Vec<Patch>> {
    let mut patches = Vec::with_capacity(pairs.len() * 5);
    for pair in pairs {
        let mut offset = pair.offset;
        for (track, shift) in TRACKS.into_iter().zip(shift) {
            let part = part(pair, track);
            if part.bytes > 0 {
                number = number.map(|number| number.wrapping_add(1));
                let time = part.time.saturating_add_signed(shift);
                patch_fragment(file, offset, number, time, &mut patches)?;
            }
            offset += u64::from(part.bytes);
        }
    }
    Ok(patches)
}

/// Finds the places of a fragment of this server that hold its number and its time.
fn patch_fragment(
    file: &File,
    offset: u64,
    number: Option<u32>,
    time: u64,
    patches: &mut Vec<Patch>,
) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    let read = super::piece::read_at_most(file, &mut head, offset)?;
    let head = head.get(..read).unwrap_or_default();
    let size = |at: usize, name: &[u8; 4]| {
        let (size, rest) = head.get(at..)?.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        rest.starts_with(name).then_some(size)
    };
    let prft = size(0, b"prft").unwrap_or(0);
    let places = || {
        size(prft, b"moof")?;
        let mfhd = prft + 8;
        let traf = mfhd + size(mfhd, b"mfhd")?;
        size(traf, b"traf")?;
        let tfdt = traf + 8 + size(traf + 8, b"tfhd")?;
        // Version 1: the time has 64 bits.
        (size(tfdt, b"tfdt")? == 20 && head.get(tfdt + 8) == Some(&1)).then_some((mfhd, tfdt))
    };
    let (mfhd, tfdt) = places().ok_or(io::ErrorKind::InvalidData)?;
    if prft == 32 {
        patches.push(Patch::long(offset + 24, time));
    }
    if let Some(number) = number {
        patches.push(Patch::short(offset + mfhd as u64 + 12, number));
    }
    patches.push(Patch::long(offset + tfdt as u64 + 12, time));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_over_the_edges_of_what_was_read() {
        let patch = Patch::long(10, 0x0102_0304_0506_0708);
        for from in 0..20u64 {
            for length in 0..20usize {
                let mut read = vec![0xff; length];
                patch.apply(&mut read, from);
                for (place, byte) in (from..).zip(&read) {
                    let inside = (10..18).contains(&place);
                    let expected = if inside { (place - 9) as u8 } else { 0xff };
                    assert_eq!(*byte, expected, "{from} {length} {place}");
                }
            }
        }
        let mut read = [0xff; 8];
        Patch::short(2, 7).apply(&mut read, 0);
        assert_eq!(read, [0xff, 0xff, 0, 0, 0, 7, 0xff, 0xff]);
    }
}
