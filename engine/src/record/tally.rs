//! What recorders and writers of a shard did, and why something was not recorded.

use std::cell::{Cell, RefCell};
use std::io;

use super::name::{PieceName, Place};

/// Why something was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GapReason {
    /// The disk was slower than the stream.
    QueueFull = 1,
    /// The disk is full, or a quota is.
    NoSpace = 2,
    /// The file system takes no writes.
    ReadOnly = 3,
    /// The device fails.
    Device = 4,
    /// The folder has gone.
    Gone = 5,
    /// This process may not write there.
    Denied = 6,
    /// Anything else.
    Other = 7,
}

impl GapReason {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Device,
        Self::Gone,
        Self::Denied,
        Self::Other,
    ];

    /// The reason an error of the disk is.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::StaleNetworkFileHandle => Self::Gone,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ if error.raw_os_error() == Some(libc::EIO) => Self::Device,
            _ => Self::Other,
        }
    }

    /// The reason of a code in an index.
    #[must_use]
    pub(super) fn of_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code).unwrap_or(Self::Other)
    }

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::NoSpace => "no_space",
            Self::ReadOnly => "read_only",
            Self::Device => "device",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Other => "other",
        }
    }
}

/// Counts of one shard, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of media written.
    pub bytes: u64,
    /// Fragments written: those of video and those of sound.
    pub fragments: u64,
    /// Pieces begun.
    pub pieces: u64,
    /// Bytes that wait for the disk now.
    pub queue_bytes: u64,
    /// Streams that are being recorded now.
    pub streams: u64,
    gaps: [u64; GapReason::ALL.len()],
}

impl Counts {
    /// Gaps with this reason.
    #[must_use]
    pub fn gaps(&self, reason: GapReason) -> u64 {
        self.gaps[slot(reason)]
    }

    /// Adds those of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.fragments += other.fragments;
        self.pieces += other.pieces;
        self.queue_bytes += other.queue_bytes;
        self.streams += other.streams;
        for (mine, theirs) in self.gaps.iter_mut().zip(other.gaps) {
            *mine += theirs;
        }
    }
}

fn slot(reason: GapReason) -> usize {
    usize::from(reason as u8 - 1)
}

/// Complete pieces that may wait to be told of.
const FINISHED_MAX: usize = 1024;

/// A piece that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Whose.
    pub place: Place,
    /// Its name.
    pub name: PieceName,
    /// Bytes of media.
    pub bytes: u64,
    /// When it begins, Unix milliseconds.
    pub start_unix_ms: u64,
    /// When it was closed, Unix milliseconds.
    pub end_unix_ms: u64,
}

/// The counts of one shard, shared by its recorders and writers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Cell<Counts>,
    finished: RefCell<Vec<Finished>>,
}

impl Tally {
    /// A piece is complete; the first ones are told of if too many wait.
    pub(super) fn finished(&self, piece: Finished) {
        let mut finished = self.finished.borrow_mut();
        if finished.len() < FINISHED_MAX {
            finished.push(piece);
        }
    }

    /// Those that are complete since this was called last.
    pub(super) fn take_finished(&self) -> Vec<Finished> {
        std::mem::take(&mut self.finished.borrow_mut())
    }

    /// As they stand.
    pub(super) fn counts(&self) -> Counts {
        self.counts.get()
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// A piece has begun; `bytes` of it are written.
    pub(super) fn piece(&self, bytes: u64) {
        self.change(|counts| {
            counts.pieces += 1;
            counts.bytes += bytes;
        });
    }

    /// Fragments are written.
    pub(super) fn wrote(&self, fragments: u64, bytes: u64) {
        self.change(|counts| {
            counts.fragments += fragments;
            counts.bytes += bytes;
        });
    }

    /// Something is not recorded.
    pub(super) fn gap(&self, reason: GapReason) {
        self.change(|counts| counts.gaps[slot(reason)] += 1);
    }

    /// Bytes wait for the disk.
    pub(super) fn enqueued(&self, bytes: usize) {
        self.change(|counts| counts.queue_bytes += bytes as u64);
    }

    /// They do not wait any more.
    pub(super) fn dequeued(&self, bytes: usize) {
        self.change(|counts| counts.queue_bytes = counts.queue_bytes.saturating_sub(bytes as u64));
    }

    /// One stream more, or less, is being recorded.
    pub(super) fn stream(&self, more: bool) {
        self.change(|counts| {
            counts.streams =
                if more { counts.streams + 1 } else { counts.streams.saturating_sub(1) };
        });
    }
}
