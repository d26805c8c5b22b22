//! The files that can be seen as HLS: which names, how each is walked over, and what comes of it.

use std::fs::File;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::presentation::{Presentation, Unplayable};
use super::{scan, transport};
use crate::http::file_body::Part;

/// A container whose files can be seen as HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// MP4 and its kin: CMAF segments are made of it.
    Mp4,
    /// A transport stream: pieces of it are the segments.
    Ts,
}

/// Endings of names.
const ENDINGS: [(&str, Container); 4] = [
    (".mp4", Container::Mp4),
    (".m4v", Container::Mp4),
    (".mov", Container::Mp4),
    (".ts", Container::Ts),
];

impl Container {
    /// That of a file of this name; `None` if it cannot be seen as HLS.
    pub(super) fn of(name: &str) -> Option<Self> {
        let has = |ending: &str| {
            let at = name.len().checked_sub(ending.len()).filter(|at| *at > 0);
            at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
        };
        ENDINGS.into_iter().find(|(ending, _)| has(ending)).map(|(_, container)| container)
    }

    /// Ending of the names of its segments.
    pub(super) fn segment_ending(self) -> &'static str {
        match self {
            Self::Mp4 => ".m4s",
            Self::Ts => ".ts",
        }
    }
}

/// A walk over a file that is not over yet.
pub(super) enum Walk {
    Mp4(Box<scan::Walk>),
    Ts(Box<transport::Walk>),
}

/// What a slice of a walk came to.
pub(super) enum Slice<W, P> {
    /// There is more to do.
    More(W),
    /// It is over.
    Done(Result<P, Unplayable>),
}

impl Walk {
    /// A walk over a file of that length; segments shall be at least `target` long.
    pub(super) fn new(container: Container, file: File, file_bytes: u64, target: Duration) -> Self {
        match container {
            Container::Mp4 => Self::Mp4(Box::new(scan::Walk::new(file, file_bytes, target))),
            Container::Ts => Self::Ts(Box::new(transport::Walk::new(file, file_bytes, target))),
        }
    }

    /// Does one slice.
    pub(super) fn advance(self) -> Slice<Self, View> {
        match self {
            Self::Mp4(walk) => match walk.advance() {
                Slice::More(walk) => Slice::More(Self::Mp4(walk)),
                Slice::Done(made) => Slice::Done(made.map(|movie| View::Movie(Box::new(movie)))),
            },
            Self::Ts(walk) => match walk.advance() {
                Slice::More(walk) => Slice::More(Self::Ts(walk)),
                Slice::Done(made) => Slice::Done(made.map(View::Transport)),
            },
        }
    }
}

/// A file seen as HLS.
#[derive(Debug)]
pub(super) enum View {
    Movie(Box<Presentation>),
    Transport(transport::Pieces),
}

impl View {
    /// Bytes of memory, roughly.
    pub(super) fn cost_bytes(&self) -> usize {
        match self {
            Self::Movie(movie) => movie.cost_bytes(),
            Self::Transport(pieces) => pieces.cost_bytes(),
        }
    }

    /// Bytes of the file that cannot be played, where the walk tells.
    pub(super) fn left_out_bytes(&self) -> u64 {
        match self {
            Self::Movie(_) => 0,
            Self::Transport(pieces) => pieces.left_out_bytes(),
        }
    }

    /// The playlist of a file of this name; every URI is relative to a playlist beside the file.
    pub(super) fn playlist(&self, name: &str, query: &str) -> String {
        match self {
            Self::Movie(movie) => movie.playlist(name, query),
            Self::Transport(pieces) => pieces.playlist(name, query),
        }
    }

    /// The initialisation segment, where there is one.
    pub(super) fn init(&self) -> Option<Bytes> {
        match self {
            Self::Movie(movie) => Some(movie.init()),
            Self::Transport(_) => None,
        }
    }

    /// The media type of the segments.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Self::Movie(movie) => movie.media_type(),
            Self::Transport(_) => transport::MEDIA_TYPE,
        }
    }

    /// What a segment is made of; `None` if there is no such segment. Reads `file`.
    pub(super) fn segment(
        &self,
        number: usize,
        file: &File,
        file_bytes: u64,
    ) -> Option<io::Result<Vec<Part>>> {
        match self {
            Self::Movie(movie) => movie.segment(number, file, file_bytes),
            Self::Transport(pieces) => pieces.segment(number).map(Ok),
        }
    }
}
