//! What is recorded: streams, days, pieces, and the pieces of a time. Reads folders and indexes,
//! so it may wait for a disk: not on a shard.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::name::{MEDIA_EXTENSION, PieceName, Place, folder_of_vhost, parse_day, parse_time};
use super::piece::Piece;
use crate::net::sys_file::Directory;

/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Folders looked at to find all streams.
const FOLDERS_MAX: usize = 100_000;
/// Names of streams that are listed.
const STREAMS_MAX: usize = 10_000;
/// Components of a stream's name that are followed, its app included.
const DEPTH_MAX: usize = 130;
/// Pieces of one stretch of time.
const RANGE_PIECES_MAX: usize = 4096;
/// Pairs of one stretch of time: a day of half-second fragments, and more.
const RANGE_PAIRS_MAX: usize = 1 << 18;
/// The name of a piece can be this far from the clock: the hour that comes twice.
const NAME_SLACK_MS: u64 = 3_600_000 + 60_000;

/// Why something recorded cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there.
    #[error("not recorded")]
    NotFound,
    /// It is more than one answer holds.
    #[error("more than one answer holds")]
    TooMuch,
    /// The disk.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData => Self::NotFound,
            // A symbolic link, or a path that leads out: nothing of ours.
            _ if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) => Self::NotFound,
            _ => Self::Io(error),
        }
    }
}

/// A piece as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Path of the stream's folder.
    pub(super) folder: String,
    /// Its name.
    pub(super) name: PieceName,
    /// Its bytes, index included.
    pub(super) bytes: u64,
}

/// The folder of all recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    root: PathBuf,
}

impl Library {
    /// That in this folder, which need not exist.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> io::Result<Directory> {
        Directory::open(&self.root)
    }

    /// Names of the streams of a vhost (empty: the default one), in order.
    ///
    /// # Errors
    /// See [`LoadError`]; a vhost without recordings is none.
    pub fn streams(&self, vhost: &str) -> Result<Vec<String>, LoadError> {
        let Ok(root) = self.root() else { return Ok(Vec::new()) };
        let top = match root.descend(folder_of_vhost(vhost)).map_err(LoadError::from) {
            Ok(top) => top,
            Err(LoadError::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        walk(&top, &mut |folder, _, days| {
            if !days.is_empty() && !folder.is_empty() && names.len() < STREAMS_MAX {
                names.push(folder.to_owned());
            }
        });
        names.sort();
        Ok(names)
    }

    /// Days on which a stream was recorded, in order; not empty.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn days(&self, place: &Place) -> Result<Vec<Date>, LoadError> {
        let folder = self.root()?.descend(place.folder())?;
        let mut days = days_of(&folder)?;
        days.sort_unstable();
        if days.is_empty() { Err(LoadError::NotFound) } else { Ok(days) }
    }

    /// Pieces of a day, in order; not empty.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn pieces(&self, place: &Place, day: Date) -> Result<Vec<PieceName>, LoadError> {
        let folder = self.day(place, day)?;
        let pieces = pieces_of(&folder, day)?;
        if pieces.is_empty() { Err(LoadError::NotFound) } else { Ok(pieces) }
    }

    /// One piece, and its media file.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn piece(&self, place: &Place, name: PieceName) -> Result<(Piece, File), LoadError> {
        Ok(Piece::read(&self.day(place, name.day)?, place, name)?)
    }

    /// All that was recorded within a window of wall clock (Unix milliseconds), in order. What
    /// cannot be read is left out.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn range(&self, place: &Place, window: &Range<u64>) -> Result<Vec<Piece>, LoadError> {
        let (mut loaded, mut pairs) = (Vec::new(), 0);
        for name in self.candidates(place, window)? {
            let Ok((piece, _)) = self.piece(place, name) else { continue };
            if piece.unix_ms() >= window.end || piece.end_unix_ms() <= window.start {
                continue;
            }
            pairs += piece.index.pairs.len();
            if loaded.len() >= RANGE_PIECES_MAX || pairs > RANGE_PAIRS_MAX {
                return Err(LoadError::TooMuch);
            }
            loaded.push(piece);
        }
        loaded.sort_by_key(Piece::unix_ms);
        if loaded.is_empty() { Err(LoadError::NotFound) } else { Ok(loaded) }
    }

    /// Pieces whose names say that they may lie in the window, and the one before them.
    pub(super) fn candidates(
        &self,
        place: &Place,
        window: &Range<u64>,
    ) -> Result<Vec<PieceName>, LoadError> {
        let from = PieceName::at(window.start.saturating_sub(NAME_SLACK_MS));
        let to = PieceName::at(window.end.saturating_add(NAME_SLACK_MS));
        let (mut before, mut found) = (None, Vec::new());
        let mut days = self.days(place)?;
        days.retain(|day| *day <= to.day);
        let first = days.partition_point(|day| *day < from.day).saturating_sub(1);
        for day in days.into_iter().skip(first) {
            let Ok(pieces) = self.pieces(place, day) else { continue };
            for name in pieces {
                if name < from {
                    before = Some(name);
                } else if name <= to {
                    found.push(name);
                }
            }
            if found.len() > 2 * RANGE_PIECES_MAX {
                return Err(LoadError::TooMuch);
            }
        }
        Ok(before.into_iter().chain(found).collect())
    }

    pub(super) fn day(&self, place: &Place, day: Date) -> io::Result<Directory> {
        self.root()?.descend(&format!("{}/{}", place.folder(), super::day_text(day)))
    }

    /// Calls `each` for every day of every stream.
    pub(super) fn for_each_day(&self, mut each: impl FnMut(&str, Date, &Directory)) {
        let Ok(root) = self.root() else { return };
        walk(&root, &mut |folder, directory, days| {
            for day in days {
                if let Ok(opened) = directory.descend(&super::day_text(*day)) {
                    each(folder, *day, &opened);
                }
            }
        });
    }

    /// Every piece there is, in no order.
    pub(super) fn stored(&self) -> Vec<Stored> {
        let mut stored = Vec::new();
        self.for_each_day(|folder, day, directory| {
            for name in pieces_of(directory, day).unwrap_or_default() {
                let bytes = |file: &str| {
                    let length = directory.open_file(file).and_then(|file| file.metadata());
                    length.map_or(0, |meta| meta.len())
                };
                let bytes = bytes(&name.media_file()) + bytes(&name.index_file());
                stored.push(Stored { folder: folder.to_owned(), name, bytes });
            }
        });
        stored
    }
}

/// Visits a folder and all beneath it that are not days: with its path and its days.
fn walk(top: &Directory, visit: &mut impl FnMut(&str, &Directory, &[Date])) {
    let mut paths = vec![String::new()];
    let mut visited = 0;
    while let Some(path) = paths.pop() {
        visited += 1;
        let opened = top.descend(if path.is_empty() { "." } else { &path });
        let Ok(folder) = opened else { continue };
        let Ok(entries) = folder.entries(ENTRIES_MAX) else { continue };
        let mut days = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.is_directory) {
            if let Some(day) = parse_day(&entry.name) {
                days.push(day);
            } else if path.matches('/').count() < DEPTH_MAX && paths.len() + visited < FOLDERS_MAX {
                let slash = if path.is_empty() { "" } else { "/" };
                paths.push(format!("{path}{slash}{}", entry.name));
            }
        }
        visit(&path, &folder, &days);
    }
}

fn days_of(folder: &Directory) -> io::Result<Vec<Date>> {
    let entries = folder.entries(ENTRIES_MAX)?.into_iter();
    let days = entries.filter(|entry| entry.is_directory);
    Ok(days.filter_map(|entry| parse_day(&entry.name)).collect())
}

/// The pieces in the folder of a day, in order.
pub(super) fn pieces_of(folder: &Directory, day: Date) -> io::Result<Vec<PieceName>> {
    let entries = folder.entries(ENTRIES_MAX)?.into_iter().filter(|entry| !entry.is_directory);
    let mut pieces: Vec<_> = entries
        .filter_map(|entry| {
            let (stem, extension) = entry.name.rsplit_once('.')?;
            let time = parse_time(stem).filter(|_| extension == MEDIA_EXTENSION)?;
            Some(PieceName { day, time })
        })
        .collect();
    pieces.sort_unstable();
    Ok(pieces)
}
