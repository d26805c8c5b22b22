//! The walk over an MP4 file that makes a [`Presentation`] of it. Reads and waits: runs on the
//! blocking thread, in slices, so that others get their turn there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use protocols::container::fmp4::TrackKind;
use protocols::container::fmp4::read::{FileSample, FoundFragment, Movie, Scanner, Step};
use protocols::media::Timestamp;

use super::presentation::{self, Presentation, Segment, Source, Unplayable};
use super::source::Slice;

/// Steps of one slice.
const SLICE_STEPS: usize = 2000;
/// Bytes read at once at least: a box header seldom comes alone.
const READ_BYTES: usize = 4096;
/// Most fragments of a file that is cut: a day of fragments of both tracks each 200 ms.
const FRAGMENTS_MAX: usize = 1 << 20;
/// Most samples of the fragments of one segment.
const SAMPLES_MAX: usize = 1 << 18;

/// A walk that is not over yet.
pub(super) struct Walk {
    file: File,
    file_bytes: u64,
    target: Duration,
    window: Window,
    scanner: Scanner,
    /// The walk before the next fragment.
    before: Scanner,
    movie: Option<Movie>,
    /// The track that is waited for at the front of segments.
    leading: TrackKind,
    segments: Vec<Segment>,
    fragments: usize,
    end: Timestamp,
}

impl Walk {
    /// A walk over a file of that length; segments shall be at least `target` long.
    pub(super) fn new(file: File, file_bytes: u64, target: Duration) -> Self {
        let scanner = Scanner::new(file_bytes);
        Self {
            file,
            file_bytes,
            target,
            window: Window::default(),
            before: scanner.clone(),
            scanner,
            movie: None,
            leading: TrackKind::Video,
            segments: Vec::new(),
            fragments: 0,
            end: Timestamp::ZERO,
        }
    }

    /// Does one slice.
    pub(super) fn advance(mut self: Box<Self>) -> Slice<Box<Self>, Presentation> {
        for _ in 0..SLICE_STEPS {
            match self.scanner.step(self.window.offset, &self.window.bytes) {
                Step::Read { offset, bytes } => {
                    if self.window.read(&self.file, self.file_bytes, offset, bytes).is_err() {
                        return Slice::Done(Err(Unplayable::NotRead));
                    }
                }
                Step::Movie { offset, size } if self.movie.is_none() => {
                    match self.take_movie(offset, size) {
                        Ok(Some(movie)) => {
                            let made = Presentation::of_tables(movie, self.target);
                            return Slice::Done(made);
                        }
                        Ok(None) => {}
                        Err(unplayable) => return Slice::Done(Err(unplayable)),
                    }
                }
                Step::Movie { .. } => {}
                Step::Fragment(found) => {
                    if let Err(unplayable) = self.take_fragment(&found) {
                        return Slice::Done(Err(unplayable));
                    }
                    self.before = self.scanner.clone();
                }
                // What is whole can be played, whatever follows it.
                Step::Done { .. } => {
                    let Some(movie) = self.movie else {
                        return Slice::Done(Err(Unplayable::NotMp4));
                    };
                    return Slice::Done(Presentation::new(movie, self.segments, self.end));
                }
            }
        }
        Slice::More(self)
    }

    /// Keeps the `moov` of a file of fragments; gives back one that has all samples.
    fn take_movie(&mut self, offset: u64, size: u64) -> Result<Option<Movie>, Unplayable> {
        // At most `MOOV_BYTES_MAX`, and inside the file.
        let mut moov = vec![0; usize::try_from(size).map_err(|_| Unplayable::NotMp4)?];
        self.file.read_exact_at(&mut moov, offset).map_err(|_| Unplayable::NotRead)?;
        let movie = Movie::parse(&Bytes::from(moov), self.file_bytes);
        let movie = movie.map_err(|_| Unplayable::NotMp4)?;
        let carried = presentation::carried(&movie)?;
        self.leading = presentation::leading(&movie, carried).ok_or(Unplayable::NoTrack)?;
        let has_samples =
            presentation::track(&movie, self.leading).is_some_and(|track| track.table.count() > 0);
        if !movie.fragmented || has_samples {
            return Ok(Some(movie));
        }
        self.scanner.set_defaults(&movie.defaults);
        self.before = self.scanner.clone();
        self.movie = Some(movie);
        Ok(None)
    }

    fn take_fragment(&mut self, found: &FoundFragment) -> Result<(), Unplayable> {
        let Some(movie) = &self.movie else { return Ok(()) };
        self.fragments += 1;
        if self.fragments > FRAGMENTS_MAX {
            return Err(Unplayable::TooLong);
        }
        for fragment in &found.tracks {
            let Some(kind) = kind_of(movie, fragment.track_id) else { continue };
            let (Some(first), Some(last)) = (fragment.samples.first(), fragment.samples.last())
            else {
                continue;
            };
            let (Some((at, _)), Some((_, after))) =
                (presentation::times(movie, kind, first), presentation::times(movie, kind, last))
            else {
                return Err(Unplayable::NotMp4);
            };
            self.end = self.end.max(after);
            let opens = kind == self.leading && fragment.starts_with_keyframe();
            if opens && presentation::is_due(&self.segments, at, self.target) {
                let source = Source::Fragments(Box::new(self.before.clone()), 0);
                self.segments.push(Segment { start: at, source });
            }
        }
        // What comes before the first keyframe cannot be shown.
        if let Some(Segment { source: Source::Fragments(_, count), .. }) = self.segments.last_mut()
        {
            *count += 1;
        }
        Ok(())
    }
}

fn kind_of(movie: &Movie, track_id: u32) -> Option<TrackKind> {
    let is = |kind| presentation::track(movie, kind).is_some_and(|t| t.track_id == track_id);
    [TrackKind::Video, TrackKind::Audio].into_iter().find(|kind| is(*kind))
}

/// The samples of the next `count` fragments of a walk, of both tracks.
pub(super) fn samples(
    movie: &Movie,
    mut scanner: Scanner,
    count: usize,
    file: &File,
    file_bytes: u64,
) -> io::Result<(Vec<FileSample>, Vec<FileSample>)> {
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    let (mut window, mut left) = (Window::default(), count);
    while left > 0 {
        match scanner.step(window.offset, &window.bytes) {
            Step::Read { offset, bytes } => window.read(file, file_bytes, offset, bytes)?,
            Step::Movie { .. } => {}
            Step::Fragment(found) => {
                left -= 1;
                for fragment in found.tracks {
                    match kind_of(movie, fragment.track_id) {
                        Some(TrackKind::Video) => video.extend(fragment.samples),
                        Some(TrackKind::Audio) => audio.extend(fragment.samples),
                        None => {}
                    }
                }
                if video.len() + audio.len() > SAMPLES_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Step::Done { .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok((video, audio))
}

/// The bytes of the file that are at hand.
#[derive(Default)]
struct Window {
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn read(&mut self, file: &File, file_bytes: u64, offset: u64, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.bytes.resize(bytes.max(READ_BYTES).min(left), 0);
        self.offset = offset;
        file.read_exact_at(&mut self.bytes, offset)
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
pub(super) mod tests;
