//! A recording read on while it is written: from a moment of the past, stretch by stretch and from
//! piece to piece. Waits for the disk, so not on a shard.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use protocols::container::fmp4::read::Movie;
use protocols::media::{Frame, Timestamp, Tracks};

use super::index::{Pair, RECORD_BYTES};
use super::join::{BREAK_MIN_NANOS, start};
use super::library::{Library, LoadError};
use super::name::{PieceName, Place};
use super::piece::{Piece, is_being_written, movie_of_init, read_at_most, read_header};

/// Largest pair that is read: a fragment ends at 4 MiB, but for the frame that exceeds them.
const PAIR_BYTES_MAX: u64 = 64 << 20;
/// Records of an index taken at a time.
const RECORDS_AT_ONCE: usize = 256;
/// Between two pieces of one session a moment may lie in neither.
const SEAM_MS: u64 = 2000;

/// A part of a stream as it was recorded: a second or so.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The tracks of its frames.
    pub tracks: Arc<Tracks>,
    /// Something between it and the one before is missing, or it has another clock.
    pub broken: bool,
    /// A time of the stream, near that of its first frame.
    pub start: Timestamp,
    /// Wall clock then, Unix milliseconds.
    pub unix_ms: u64,
    /// Frames in the order in which they are decoded, on the timeline of the publisher's session.
    pub frames: Vec<Frame>,
}

/// Why reading cannot begin at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// Nothing has been kept since.
    Nothing,
    /// What there is begins later: Unix milliseconds.
    Since(u64),
}

/// See the module text.
#[derive(Debug)]
pub struct Follower {
    library: Library,
    piece: Piece,
    movie: Movie,
    tracks: Arc<Tracks>,
    media: File,
    /// The index to be read on; none for a piece that lost it.
    index: Option<File>,
    /// The next pair.
    next: usize,
    broken: bool,
}

impl Follower {
    /// Begins at the newest keyframe that was recorded at that moment or before, both in Unix
    /// milliseconds.
    ///
    /// # Errors
    /// Nothing was being recorded then.
    pub fn open(
        library: &Library,
        place: &Place,
        from_ms: u64,
        now_ms: u64,
    ) -> Result<Self, Unreached> {
        let names = match library.candidates(place, &(from_ms..now_ms)) {
            Ok(names) => names,
            Err(LoadError::NotFound) => return Err(Unreached::Nothing),
            Err(error) => {
                tracing::warn!(%place, %error, "the recording cannot be followed");
                return Err(Unreached::Nothing);
            }
        };
        let (mut then, mut since) = (None, None);
        for name in names {
            let day = library.day(place, name.day).ok();
            let Some(header) = day.and_then(|day| read_header(&day, name)) else { continue };
            if header.unix_ms > from_ms {
                since = Some(header.unix_ms);
                break;
            }
            then = Some(name);
        }
        let late = since.map_or(Unreached::Nothing, Unreached::Since);
        let name = then.ok_or(late)?;
        let mut follower = Self::of_piece(library, place, name).map_err(|_| late)?;
        let piece = &follower.piece;
        if !piece.is_open && piece.end_unix_ms().saturating_add(SEAM_MS) <= from_ms {
            return Err(late);
        }
        let pairs = &piece.index.pairs;
        let begins = |pair: &Pair| pair.keyframe && pair.unix_ms <= from_ms;
        let first = pairs.iter().rposition(begins);
        let first = first.or_else(|| pairs.iter().position(|pair| pair.keyframe));
        follower.next = first.unwrap_or(pairs.len());
        Ok(follower)
    }

    fn of_piece(library: &Library, place: &Place, name: PieceName) -> io::Result<Self> {
        let day = library.day(place, name.day)?;
        let (piece, media) = Piece::read(&day, place, name)?;
        let movie = movie_of_init(&piece.init).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            library: library.clone(),
            tracks: Arc::new(piece.tracks.clone()),
            piece,
            movie,
            media,
            index: day.open_file(&name.index_file()).ok(),
            next: 0,
            broken: false,
        })
    }

    /// The next stretch, if it has been written.
    ///
    /// # Errors
    /// What the system says, `InvalidData` for media that is not what its index says.
    pub fn read_on(&mut self) -> io::Result<Option<Stretch>> {
        loop {
            if let Some(&pair) = self.piece.index.pairs.get(self.next) {
                let stretch = self.read(&pair)?;
                self.next += 1;
                self.broken = false;
                return Ok(Some(stretch));
            }
            // In this order: what was written before the writer let go is read before the next
            // piece is looked for.
            let is_over = self.piece.index.ended || !is_being_written(&self.media);
            let has_more = self.grow()? || (is_over && self.turn_page()?);
            if !has_more {
                return Ok(None);
            }
        }
    }

    fn read(&self, pair: &Pair) -> io::Result<Stretch> {
        if pair.bytes() > PAIR_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; pair.bytes() as usize];
        self.media.read_exact_at(&mut bytes, pair.offset)?;
        let mut frames = self
            .movie
            .frames(&Bytes::from(bytes))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let base = self.piece.index.header.base_nanos;
        for frame in &mut frames {
            frame.dts = frame.dts.offset_nanos(base);
        }
        let gap = self.piece.index.gaps.iter().any(|gap| gap.before == self.next);
        Ok(Stretch {
            tracks: Arc::clone(&self.tracks),
            broken: self.broken || gap,
            start: Timestamp::from_nanos(base.saturating_add(self.piece.start_nanos(pair))),
            unix_ms: pair.unix_ms,
            frames,
        })
    }

    /// Takes what has been appended to the index; whether there was something.
    fn grow(&mut self) -> io::Result<bool> {
        let Some(file) = &self.index else { return Ok(false) };
        let index = &mut self.piece.index;
        let known = index.records();
        if index.ended {
            return Ok(false);
        }
        let mut records = vec![0; RECORDS_AT_ONCE * RECORD_BYTES];
        let read = read_at_most(file, &mut records, (known * RECORD_BYTES) as u64)?;
        let (records, _) = records.get(..read).unwrap_or_default().as_chunks::<RECORD_BYTES>();
        index.extend(records, self.media.metadata()?.len());
        Ok(index.records() > known)
    }

    /// Goes to the piece that follows, if there is one.
    fn turn_page(&mut self) -> io::Result<bool> {
        let (begin, end) = (self.piece.unix_ms(), self.piece.end_unix_ms());
        let window = begin..end.saturating_add(1).max(crate::clock::unix_millis());
        let names = match self.library.candidates(&self.piece.place, &window) {
            Ok(names) => names,
            // Deleted meanwhile, with everything else.
            Err(LoadError::NotFound) => return Ok(false),
            Err(LoadError::TooMuch) => return Err(io::ErrorKind::OutOfMemory.into()),
            Err(LoadError::Io(error)) => return Err(error),
        };
        for name in names.into_iter().filter(|name| *name > self.piece.name) {
            // One that is being made has no header yet.
            let Ok(next) = Self::of_piece(&self.library, &self.piece.place, name) else { continue };
            if next.piece.index.pairs.is_empty() {
                if next.piece.is_open {
                    return Ok(false);
                }
                continue;
            }
            let broken = self.broken || !next.follows(&self.piece);
            *self = Self { broken, ..next };
            return Ok(true);
        }
        Ok(false)
    }

    /// The piece goes on where `before` ended: the same session, and nothing is missing.
    fn follows(&self, before: &Piece) -> bool {
        let (header, earlier) = (&self.piece.index.header, &before.index.header);
        let end = before.index.pairs.last().map_or(0, |last| before.end_nanos(last));
        let begin = start(&self.piece, &self.piece.index.pairs);
        let between =
            header.base_nanos.saturating_add(begin) - earlier.base_nanos.saturating_add(end);
        let gap_at_end = before.index.gaps.iter().any(|gap| gap.before == before.index.pairs.len());
        header.session == earlier.session
            && header.session != 0
            && between.abs() <= BREAK_MIN_NANOS
            && !gap_at_end
    }
}
