//! A piece as it is read: its index, its tracks, and where the bytes of a track lie in its file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use protocols::container::fmp4::TrackKind;
use protocols::container::fmp4::read::Movie;
use protocols::media::{Timestamp, Tracks};

use super::index::{Header, Index, Pair, Part, RECORD_BYTES, RECORDS_MAX};
use super::name::{PieceName, Place};
use super::recovery;
use crate::net::sys_file::Directory;

/// Largest initialisation segment that is read.
const INIT_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// See the module text.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The stream's folder.
    pub place: Place,
    /// What the piece is called.
    pub name: PieceName,
    /// Its initialisation segment: `ftyp` and `moov` of both tracks.
    pub init: Bytes,
    /// The tracks in it.
    pub tracks: Tracks,
    /// It is still being written.
    pub is_open: bool,
    pub(super) index: Index,
}

impl Piece {
    /// Reads a piece of a day. The file comes with it, for what will be read of it.
    ///
    /// # Errors
    /// What the system says, `InvalidData` if there is nothing in it that plays.
    pub(super) fn read(
        day: &Directory,
        place: &Place,
        name: PieceName,
    ) -> io::Result<(Self, File)> {
        let media = day.open_file(&name.media_file())?;
        let media_bytes = media.metadata()?.len();
        let is_open = is_being_written(&media);
        let index = read_index(day, name, media_bytes)
            .or_else(|| recovery::rebuild(&media, media_bytes, None, name.unix_ms()))
            .ok_or(io::ErrorKind::InvalidData)?;
        let init_bytes = u64::from(index.header.init_bytes);
        if init_bytes > INIT_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut init = vec![0; init_bytes as usize];
        media.read_exact_at(&mut init, 0)?;
        let init = Bytes::from(init);
        let movie = movie(&init, media_bytes).ok_or(io::ErrorKind::InvalidData)?;
        let is_open = is_open && !index.ended;
        let place = place.clone();
        Ok((Self { place, name, init, tracks: movie.tracks, is_open, index }, media))
    }

    /// Wall clock of its beginning, Unix milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.index.pairs.first().map_or(self.index.header.unix_ms, |pair| pair.unix_ms)
    }

    /// Wall clock of its end so far, Unix milliseconds.
    #[must_use]
    pub fn end_unix_ms(&self) -> u64 {
        self.index.pairs.last().map_or(self.unix_ms(), |last| {
            let length = self.end_nanos(last) - self.start_nanos(last);
            last.unix_ms.saturating_add(u64::try_from(length / 1_000_000).unwrap_or(0))
        })
    }

    /// Bytes of its file that are whole.
    #[must_use]
    pub fn media_bytes(&self) -> u64 {
        self.index.media_bytes()
    }

    pub(super) fn timescale(&self, track: TrackKind) -> u32 {
        match track {
            TrackKind::Video => self.index.header.video_timescale,
            TrackKind::Audio => self.index.header.audio_timescale,
        }
    }

    /// The track there is in any case, and the part of a pair that says when the pair plays.
    fn leader(&self, pair: &Pair) -> (Part, u32) {
        if pair.video.bytes > 0 {
            (pair.video, self.index.header.video_timescale.max(1))
        } else {
            (pair.audio, self.index.header.audio_timescale.max(1))
        }
    }

    /// When a pair begins on the timeline of the piece.
    pub(super) fn start_nanos(&self, pair: &Pair) -> i64 {
        let (part, timescale) = self.leader(pair);
        nanos(part.time, timescale)
    }

    /// When a pair ends on the timeline of the piece.
    pub(super) fn end_nanos(&self, pair: &Pair) -> i64 {
        let (part, timescale) = self.leader(pair);
        nanos(part.time.saturating_add(part.duration.into()), timescale)
    }

    /// From decoding a picture to showing it, in nanoseconds: that of the first one.
    pub(super) fn delay_nanos(&self) -> i64 {
        let header = &self.index.header;
        nanos(header.video_delay.into(), header.video_timescale.max(1))
    }

    /// Where pairs lie: one behind the other.
    pub(super) fn span(&self, pairs: Range<usize>) -> Span {
        let pairs = self.index.pairs.get(pairs).unwrap_or_default();
        let offset = pairs.first().map_or(0, |pair| pair.offset);
        let end = pairs.last().map_or(offset, Pair::end);
        Span { offset, bytes: end - offset }
    }

    /// Where the fragments of one track lie that pairs hold.
    pub(super) fn track_spans(&self, pairs: Range<usize>, track: TrackKind) -> Vec<Span> {
        let pairs = self.index.pairs.get(pairs).unwrap_or_default().iter();
        let spans = pairs.map(|pair| match track {
            TrackKind::Video => Span { offset: pair.offset, bytes: pair.video.bytes.into() },
            TrackKind::Audio => Span {
                offset: pair.offset + u64::from(pair.video.bytes),
                bytes: pair.audio.bytes.into(),
            },
        });
        spans.filter(|span| span.bytes > 0).collect()
    }
}

/// The part of a pair that is of the track.
pub(super) fn part(pair: &Pair, track: TrackKind) -> Part {
    match track {
        TrackKind::Video => pair.video,
        TrackKind::Audio => pair.audio,
    }
}

pub(super) fn nanos(ticks: u64, timescale: u32) -> i64 {
    Timestamp::from_ticks(i64::try_from(ticks).unwrap_or(i64::MAX), timescale).nanos()
}

/// Somebody holds the lock a writer holds.
pub(super) fn is_being_written(media: &File) -> bool {
    match media.try_lock_shared() {
        Ok(()) => {
            let _ = media.unlock();
            false
        }
        Err(std::fs::TryLockError::WouldBlock) => true,
        // No locks on this file system: what was written a moment ago is being written.
        Err(std::fs::TryLockError::Error(_)) => {
            let modified = media.metadata().and_then(|meta| meta.modified());
            let age = modified.ok().and_then(|at| at.elapsed().ok());
            age.is_none_or(|age| age < LOCKLESS_AGE)
        }
    }
}

/// See [`is_being_written`].
const LOCKLESS_AGE: std::time::Duration = std::time::Duration::from_secs(60);

/// The index of a piece, as far as it holds.
pub(super) fn read_index(day: &Directory, name: PieceName, media_bytes: u64) -> Option<Index> {
    let file = day.open_file(&name.index_file()).ok()?;
    let bytes = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut index = vec![0; bytes.min(RECORDS_MAX * RECORD_BYTES)];
    let read = read_at_most(&file, &mut index, 0).ok()?;
    Index::parse(index.get(..read)?, media_bytes)
}

/// The header of an index alone.
pub(super) fn read_header(day: &Directory, name: PieceName) -> Option<Header> {
    let file = day.open_file(&name.index_file()).ok()?;
    let mut record = [0; RECORD_BYTES];
    file.read_exact_at(&mut record, 0).ok()?;
    Header::decode(&record)
}

/// Fills as much of the buffer as the file has from there on.
pub(crate) fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The movie in an initialisation segment of both tracks, as this server writes it.
#[must_use]
pub fn movie_of_init(init: &Bytes) -> Option<Movie> {
    movie(init, init.len() as u64)
}

/// The movie in an initialisation segment.
fn movie(init: &Bytes, media_bytes: u64) -> Option<Movie> {
    let mut at = 0usize;
    loop {
        let head = init.get(at..at.checked_add(8)?)?;
        let (size, name) = head.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok().filter(|size| *size >= 8)?;
        let end = at.checked_add(size).filter(|end| *end <= init.len())?;
        if name == b"moov" {
            return Movie::parse(&init.slice(at..end), media_bytes).ok();
        }
        at = end;
    }
}
