//! Files as live sources: MP4, FLV and TS read in pieces, and when what was read is due.
//!
//! Reading blocks: it belongs on the executor's blocking thread. Pacing is pure.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocols::container::fmp4::TrackKind;
use protocols::container::fmp4::read::{FileSample, Movie, SamplePlace, Scanner, Step};
use protocols::container::{Item, flv, ts};
use protocols::media::{Frame, Timestamp, Tracks};

use crate::net::sys_file::Directory;
use crate::record::read_at_most;

/// Bytes of a byte stream read at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Samples of an MP4 read at a time.
const SAMPLES_PER_PIECE: usize = 32;
/// Largest FLV tag.
const TAG_BYTES_MAX: usize = 16 << 20;
/// Largest fragment of an MP4.
const FRAGMENT_BYTES_MAX: u64 = 64 << 20;
/// Frames are taken to be due together that are so close.
const GRAIN: Duration = Duration::from_millis(10);
/// From the last frame of a round to the first of the next.
const ROUND_STEP: Duration = Duration::from_millis(40);

/// What a file holds, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MP4 and its kin.
    Mp4,
    /// FLV.
    Flv,
    /// A transport stream.
    Ts,
}

impl Kind {
    /// That of a name; `None` if it cannot be played live.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "mp4" | "m4v" | "mov" => Some(Self::Mp4),
            "flv" => Some(Self::Flv),
            "ts" => Some(Self::Ts),
            _ => None,
        }
    }
}

/// A file that is read from its beginning to its end.
pub struct Reader {
    file: File,
    position: u64,
    demuxer: Demuxer,
}

enum Demuxer {
    Flv { tags: flv::TagReader, demuxer: Box<flv::Demuxer>, input: BytesMut },
    Ts(Box<ts::Demuxer>),
    Samples { movie: Box<Movie>, video: SamplePlace, audio: SamplePlace, announced: bool },
    Fragments { movie: Box<Movie>, scanner: Box<Scanner>, announced: bool },
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

impl Reader {
    /// Opens a file strictly beneath a folder.
    ///
    /// # Errors
    /// It is not there, or holds nothing that can be played.
    pub fn open(folder: &Path, name: &str, legacy_h265_id: u8) -> io::Result<Self> {
        let kind = Kind::of(name).ok_or_else(|| invalid("no kind of file that can be played"))?;
        let file = Directory::open(folder)?.open_file(name)?;
        let file_bytes = file.metadata()?.len();
        let demuxer = match kind {
            Kind::Flv => Demuxer::Flv {
                tags: flv::TagReader::new(TAG_BYTES_MAX),
                demuxer: Box::new(flv::Demuxer::new(legacy_h265_id)),
                input: BytesMut::new(),
            },
            Kind::Ts => Demuxer::Ts(Box::new(ts::Demuxer::new(ts::PES_BYTES_MAX))),
            Kind::Mp4 => open_movie(&file, file_bytes)?,
        };
        Ok(Self { file, position: 0, demuxer })
    }

    /// Appends what comes next; false at the end of the file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged beyond use.
    pub fn read_on(&mut self, out: &mut VecDeque<Item>) -> io::Result<bool> {
        match &mut self.demuxer {
            Demuxer::Flv { tags, demuxer, input } => {
                let piece = read(&self.file, self.position, PIECE_BYTES)?;
                self.position += piece.len() as u64;
                input.extend_from_slice(&piece);
                while let Some((tag, time, body)) = tags.next_tag(input).map_err(invalid)? {
                    let time = Timestamp::from_millis(time.into());
                    if let Err(error) = demuxer.push(tag, time, body, out) {
                        tracing::debug!(%error, "tag of a file passed over");
                    }
                }
                Ok(!piece.is_empty())
            }
            Demuxer::Ts(demuxer) => {
                let piece = read(&self.file, self.position, PIECE_BYTES)?;
                self.position += piece.len() as u64;
                demuxer.push(&piece, out).map_err(invalid)?;
                if piece.is_empty() {
                    demuxer.finish(out);
                }
                Ok(!piece.is_empty())
            }
            Demuxer::Samples { movie, video, audio, announced } => {
                announce(movie, announced, out);
                for _ in 0..SAMPLES_PER_PIECE {
                    let Some((kind, sample)) = next_sample(movie, video, audio) else {
                        return Ok(false);
                    };
                    let payload = read(&self.file, sample.offset, sample.size as usize)?;
                    out.extend(movie.frame(kind, &sample, payload).map(Item::Frame));
                }
                Ok(true)
            }
            Demuxer::Fragments { movie, scanner, announced } => {
                announce(movie, announced, out);
                // Fragments have one track each, as a rule: two of them are one stretch.
                let mut frames = Vec::new();
                let mut more = true;
                for _ in 0..2 {
                    let Some(fragment) = next_fragment(&self.file, scanner)? else {
                        more = false;
                        break;
                    };
                    frames.extend(movie.frames(&fragment).map_err(invalid)?);
                }
                frames.sort_by_key(|frame: &Frame| frame.dts);
                out.extend(frames.into_iter().map(Item::Frame));
                Ok(more)
            }
        }
    }
}

fn announce(movie: &Movie, announced: &mut bool, out: &mut VecDeque<Item>) {
    if !std::mem::replace(announced, true) {
        out.push_back(Item::Tracks(Arc::new(movie.tracks.clone())));
    }
}

/// At most so many bytes from there.
fn read(file: &File, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; bytes];
    let filled = read_at_most(file, &mut buffer, offset)?;
    buffer.truncate(filled);
    Ok(buffer.into())
}

fn open_movie(file: &File, file_bytes: u64) -> io::Result<Demuxer> {
    let mut scanner = Scanner::new(file_bytes);
    let (mut at, mut bytes) = (0, Bytes::new());
    let movie = loop {
        match scanner.step(at, &bytes) {
            Step::Read { offset, bytes: count } => {
                (at, bytes) = (offset, read(file, offset, count)?);
            }
            Step::Movie { offset, size } => {
                let size = usize::try_from(size).map_err(invalid)?;
                let moov = read(file, offset, size)?;
                break Movie::parse(&moov, file_bytes).map_err(invalid)?;
            }
            Step::Fragment(_) => {}
            Step::Done { .. } => return Err(invalid("no moov: not an MP4 that can be played")),
        }
    };
    if movie.video.is_none() && movie.audio.is_none() {
        return Err(invalid("no track of a codec that is carried"));
    }
    let movie = Box::new(movie);
    let samples = |track: &Option<protocols::container::fmp4::read::MovieTrack>| {
        track.as_ref().is_some_and(|track| track.table.count() > 0)
    };
    if movie.fragmented && !samples(&movie.video) && !samples(&movie.audio) {
        scanner.set_defaults(&movie.defaults);
        return Ok(Demuxer::Fragments { movie, scanner: Box::new(scanner), announced: false });
    }
    let (video, audio) = (SamplePlace::default(), SamplePlace::default());
    Ok(Demuxer::Samples { movie, video, audio, announced: false })
}

/// The sample of both tracks that is decoded first.
fn next_sample(
    movie: &Movie,
    video: &mut SamplePlace,
    audio: &mut SamplePlace,
) -> Option<(TrackKind, FileSample)> {
    let peek = |kind: TrackKind, place: &SamplePlace| {
        let track = match kind {
            TrackKind::Video => movie.video.as_ref(),
            TrackKind::Audio => movie.audio.as_ref(),
        };
        let mut samples = track?.table.samples_from(place);
        let sample = samples.next()?;
        let dts = movie.frame(kind, &sample, Bytes::new())?.dts;
        Some((dts, sample, samples.place()))
    };
    let (picture, sound) = (peek(TrackKind::Video, video), peek(TrackKind::Audio, audio));
    match (picture, sound) {
        (Some((at, sample, next)), sound) if sound.as_ref().is_none_or(|(dts, ..)| at <= *dts) => {
            *video = next;
            Some((TrackKind::Video, sample))
        }
        (_, Some((_, sample, next))) => {
            *audio = next;
            Some((TrackKind::Audio, sample))
        }
        _ => None,
    }
}

fn next_fragment(file: &File, scanner: &mut Scanner) -> io::Result<Option<Bytes>> {
    let (mut at, mut bytes) = (0, Bytes::new());
    loop {
        match scanner.step(at, &bytes) {
            Step::Read { offset, bytes: count } => {
                (at, bytes) = (offset, read(file, offset, count)?);
            }
            Step::Movie { .. } => {}
            Step::Fragment(found) if found.size <= FRAGMENT_BYTES_MAX => {
                let size = usize::try_from(found.size).map_err(invalid)?;
                return read(file, found.offset, size).map(Some);
            }
            Step::Fragment(_) => return Err(invalid("a fragment exceeds 64 MiB")),
            Step::Done { .. } => return Ok(None),
        }
    }
}

/// Due now: something for the stream.
#[derive(Debug)]
pub enum Due {
    /// Tracks.
    Tracks(Arc<Tracks>),
    /// A frame, on the timeline of all rounds.
    Frame(Frame),
}

/// Gives out what was read in real time, round after round on one timeline.
#[derive(Debug)]
pub struct Pacer {
    waiting: VecDeque<Item>,
    /// The moment of time zero of the round.
    zero: Option<(Instant, Timestamp)>,
    /// Added to the times of this round.
    shift: i64,
    newest: Option<Timestamp>,
    tracks: Option<Arc<Tracks>>,
    /// Frames of this round.
    frames: u64,
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}

impl Pacer {
    /// Before the first round.
    #[must_use]
    pub fn new() -> Self {
        let waiting = VecDeque::new();
        Self { waiting, zero: None, shift: 0, newest: None, tracks: None, frames: 0 }
    }

    /// Where what was read is put.
    pub fn inbox(&mut self) -> &mut VecDeque<Item> {
        &mut self.waiting
    }

    /// Everything read has been given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The file begins again. False if the round had no frames: it would never end.
    pub fn next_round(&mut self) -> bool {
        let had_frames = std::mem::take(&mut self.frames) > 0;
        // The first frame of the round says how far it is to be moved.
        self.shift = i64::MIN;
        had_frames
    }

    /// What is due now, if anything.
    pub fn take(&mut self, now: Instant) -> Option<Due> {
        loop {
            match self.waiting.front()? {
                Item::Tracks(_) => {
                    let Some(Item::Tracks(tracks)) = self.waiting.pop_front() else { return None };
                    if self.tracks.as_ref() != Some(&tracks) {
                        self.tracks = Some(Arc::clone(&tracks));
                        return Some(Due::Tracks(tracks));
                    }
                }
                Item::Frame(frame) => {
                    let dts = frame.dts;
                    if self.due(dts, now) > now + GRAIN {
                        return None;
                    }
                    let Some(Item::Frame(mut frame)) = self.waiting.pop_front() else {
                        return None;
                    };
                    frame.dts = dts.offset_nanos(self.shift);
                    self.newest = Some(self.newest.map_or(frame.dts, |n| n.max(frame.dts)));
                    self.frames += 1;
                    return Some(Due::Frame(frame));
                }
            }
        }
    }

    /// When the next is due, if something waits.
    pub fn next_due(&mut self, now: Instant) -> Option<Instant> {
        match self.waiting.front()? {
            Item::Tracks(_) => Some(now),
            Item::Frame(frame) => {
                let dts = frame.dts;
                Some(self.due(dts, now))
            }
        }
    }

    fn due(&mut self, dts: Timestamp, now: Instant) -> Instant {
        if self.shift == i64::MIN {
            let start = self.newest.map_or(dts, |newest| newest + ROUND_STEP);
            self.shift = start - dts;
        }
        let at = dts.offset_nanos(self.shift);
        let (zero, start) = *self.zero.get_or_insert((now, at));
        zero + at.saturating_since(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::media::FrameKind;

    fn frame(ms: i64) -> Item {
        let dts = Timestamp::from_millis(ms);
        let payload = Bytes::from_static(b"x");
        Item::Frame(Frame { kind: FrameKind::Audio, dts, composition_offset: 0, payload })
    }

    fn times(pacer: &mut Pacer, now: Instant) -> Vec<i64> {
        let due = std::iter::from_fn(|| pacer.take(now));
        due.filter_map(|due| match due {
            Due::Frame(frame) => Some(frame.dts.to_millis()),
            Due::Tracks(_) => None,
        })
        .collect()
    }

    #[test]
    fn frames_come_in_real_time_and_rounds_follow_each_other() {
        let t0 = crate::clock::now();
        let mut pacer = Pacer::new();
        pacer.inbox().extend([frame(500), frame(540), frame(1500)]);
        assert_eq!(times(&mut pacer, t0), [500]);
        assert_eq!(times(&mut pacer, t0 + Duration::from_millis(31)), [540]);
        assert_eq!(pacer.next_due(t0), Some(t0 + Duration::from_secs(1)));
        assert_eq!(times(&mut pacer, t0 + Duration::from_secs(1)), [1500]);
        assert!(pacer.is_empty() && pacer.next_round());
        pacer.inbox().extend([frame(500), frame(540)]);
        assert_eq!(times(&mut pacer, t0 + Duration::from_millis(1100)), [1540, 1580]);
        assert!(pacer.next_round());
        assert!(!pacer.next_round(), "a round without frames");
    }

    #[test]
    fn kinds_are_told_by_their_endings() {
        assert_eq!(Kind::of("a.b/x.MP4"), Some(Kind::Mp4));
        assert_eq!(Kind::of("x.flv"), Some(Kind::Flv));
        assert_eq!(Kind::of("x.ts"), Some(Kind::Ts));
        assert_eq!(Kind::of("x"), None);
    }
}
