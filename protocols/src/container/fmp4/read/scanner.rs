//! Walks the boxes at the top of a file: finds its `moov` and every whole fragment, and where what
//! is whole ends.

use super::boxes::{HEADER_BYTES_MAX, header};
use super::fragment::{self, Clocks};
use super::{
    MOOF_BYTES_MAX, MOOV_BYTES_MAX, ReadError, TOP_LEVEL_BOXES_MAX, TrackDefaults, TrackFragment,
};

/// A `moof` and its `mdat`, both whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFragment {
    /// Where the `moof` begins in the file.
    pub offset: u64,
    /// Bytes from there to the end of the `mdat`.
    pub size: u64,
    /// The tracks in it; files of this server have one.
    pub tracks: Vec<TrackFragment>,
}

/// What a [`Scanner`] found or wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read the file at `offset`, at least `bytes` bytes, and step with them. More is welcome:
    /// what is already there is not asked for.
    Read {
        /// Position in the file.
        offset: u64,
        /// Bytes needed; they lie inside the file and are at most [`MOOF_BYTES_MAX`].
        bytes: usize,
    },
    /// A `moov`: its header and body, for [`super::Movie::parse`]. Step again with the same bytes.
    Movie {
        /// Position in the file.
        offset: u64,
        /// Bytes; at most [`MOOV_BYTES_MAX`].
        size: u64,
    },
    /// A fragment. Step again with the same bytes.
    Fragment(FoundFragment),
    /// The walk is over.
    Done {
        /// The file is whole up to here: a writer may go on here after cutting it off.
        whole_bytes: u64,
        /// Why it is over.
        stop: Stop,
    },
}

/// Why a walk is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At the end of the file.
    End,
    /// At a box that goes beyond the end of the file, or a `moof` without its `mdat`.
    Incomplete,
    /// At something that is no box, or a box that cannot be used.
    Bad(ReadError),
    /// At [`TOP_LEVEL_BOXES_MAX`].
    TooManyBoxes,
    /// The bytes asked for did not come.
    NotRead,
}

/// A walk over the top of one file. A loop over [`Scanner::step`] until [`Step::Done`]. A clone
/// goes on where the original stood.
#[derive(Debug, Clone)]
pub struct Scanner {
    file_bytes: u64,
    defaults: Vec<TrackDefaults>,
    clocks: Clocks,
    /// Where the next box begins.
    position: u64,
    boxes: u32,
    /// A `moof` whose `mdat` has not come yet.
    pending: Option<(u64, Vec<TrackFragment>)>,
    asked: Option<(u64, usize)>,
}

impl Scanner {
    /// A walk over a file of `file_bytes`.
    pub fn new(file_bytes: u64) -> Self {
        Self {
            file_bytes,
            defaults: Vec::new(),
            clocks: Clocks::default(),
            position: 0,
            boxes: 0,
            pending: None,
            asked: None,
        }
    }

    /// Defaults for the fragments to come, from [`super::Movie::defaults`]. Fragments of this
    /// server need none.
    pub fn set_defaults(&mut self, defaults: &[TrackDefaults]) {
        self.defaults = defaults.to_vec();
    }

    /// Goes on, with `bytes` that lie at `offset` in the file.
    pub fn step(&mut self, offset: u64, bytes: &[u8]) -> Step {
        loop {
            let left = self.file_bytes.saturating_sub(self.position);
            if left == 0 {
                return self.done(Stop::End);
            }
            if self.boxes >= TOP_LEVEL_BOXES_MAX {
                return self.done(Stop::TooManyBoxes);
            }
            let Some(start) = self.window(offset, bytes, left.min(HEADER_BYTES_MAX as u64)) else {
                return self.ask(left.min(HEADER_BYTES_MAX as u64));
            };
            let Some(header) = header(start) else {
                let whole_header = start.len() == HEADER_BYTES_MAX;
                let bad = Stop::Bad(ReadError::BadBox(start.get(4..).map_or(*b"    ", name_of)));
                return self.done(if whole_header { bad } else { Stop::Incomplete });
            };
            let size = header.size.unwrap_or(left);
            if size > left {
                return self.done(Stop::Incomplete);
            }
            match &header.name {
                b"moof" => {
                    if size > MOOF_BYTES_MAX {
                        return self.done(Stop::Bad(ReadError::TooLarge));
                    }
                    let Some(whole) = self.window(offset, bytes, size) else {
                        return self.ask(size);
                    };
                    let body = whole.get(usize::from(header.header_bytes)..).unwrap_or_default();
                    match fragment::parse(body, self.position, &self.defaults, &mut self.clocks) {
                        Ok(tracks) => self.pending = Some((self.position, tracks)),
                        Err(error) => return self.done(Stop::Bad(error)),
                    }
                    self.pass(size);
                }
                b"moov" => {
                    if size > MOOV_BYTES_MAX {
                        return self.done(Stop::Bad(ReadError::TooLarge));
                    }
                    let offset = self.position;
                    self.pass(size);
                    return Step::Movie { offset, size };
                }
                b"mdat" => {
                    self.pass(size);
                    if let Some((offset, tracks)) = self.pending.take() {
                        let size = self.position - offset;
                        return Step::Fragment(FoundFragment { offset, size, tracks });
                    }
                }
                _ => self.pass(size),
            }
        }
    }

    /// The `count` bytes at the position, if they are there.
    fn window<'a>(&self, offset: u64, bytes: &'a [u8], count: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(self.position.checked_sub(offset)?).ok()?;
        bytes.get(start..)?.get(..usize::try_from(count).ok()?)
    }

    /// Asks for bytes, once.
    fn ask(&mut self, count: u64) -> Step {
        // At most `MOOF_BYTES_MAX`.
        let wanted = (self.position, usize::try_from(count).unwrap_or(usize::MAX));
        if self.asked.replace(wanted) == Some(wanted) {
            return self.done(Stop::NotRead);
        }
        Step::Read { offset: wanted.0, bytes: wanted.1 }
    }

    fn pass(&mut self, size: u64) {
        self.position += size;
        self.boxes += 1;
    }

    fn done(&self, stop: Stop) -> Step {
        match (&self.pending, stop) {
            (Some((offset, _)), Stop::End) => {
                Step::Done { whole_bytes: *offset, stop: Stop::Incomplete }
            }
            (Some((offset, _)), stop) => Step::Done { whole_bytes: *offset, stop },
            (None, stop) => Step::Done { whole_bytes: self.position, stop },
        }
    }
}

fn name_of(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or(*b"    ")
}
