//! The recorder of one publisher's session: from frames to pairs of fragments, and where a piece
//! begins and ends. Lives on the owner shard, does not wait, and keeps at most a fragment.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocols::container::fmp4::{
    self, Fragment, FragmentBuilder, Selection, TrackKind, VIDEO_TIMESCALE,
};
use protocols::media::{Frame, FrameKind, Timestamp, Tracks};

use super::GapReason;
use super::index::{Header, Pair, Part};
use super::name::Place;
use super::queue::{Job, Queue};
use super::tally::Tally;
use super::writer::Complaints;
use crate::clock;
use crate::ring::{Ingested, MediaItem};
use crate::stream::Subscriber;

/// Length of a fragment: what a process that is killed loses at most.
const FRAGMENT_TARGET: Duration = Duration::from_secs(1);
/// A fragment this long ends before a keyframe, so that the next one begins with it.
const FRAGMENT_MIN: Duration = Duration::from_millis(400);
/// Sound this long without a picture is written by itself.
const SOUND_MAX: Duration = Duration::from_secs(3);
/// Payload at which a fragment ends whatever its length.
const FRAGMENT_BYTES: usize = 4 << 20;
/// How long the tracks of a piece are waited for, by the clock.
const TRACKS_WAIT: Duration = Duration::from_secs(2);
/// The clock has been set, or the publisher stood still, when it is this far from the media.
const CLOCK_STEP: Duration = Duration::from_secs(2);
/// Pauses before a new piece after the disk failed.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// See the module text.
#[derive(Debug)]
pub struct Recorder {
    place: Place,
    session: u64,
    piece_length: Duration,
    queue: Rc<Queue>,
    tally: Rc<Tally>,
    complaints: Rc<Complaints>,
    tracks: Arc<Tracks>,
    carried: Option<Selection>,
    state: State,
    /// The next piece may not begin before.
    retry_at: Option<Instant>,
    retry_pause: Duration,
}

#[derive(Debug)]
enum State {
    /// Until a frame decoding can start at.
    Waiting,
    /// The first fragment of a piece, whose tracks and first time show only with it.
    Opening(Opening),
    /// A piece is being written.
    Writing(Box<Writing>),
    /// The publisher has gone.
    Done,
}

#[derive(Debug)]
struct Opening {
    frames: Vec<Arc<Ingested>>,
    bytes: usize,
    since: Instant,
}

#[derive(Debug)]
struct Writing {
    /// The stream's time at time 0 of the piece.
    base: Timestamp,
    /// Wall clock there, Unix milliseconds.
    unix_ms: u64,
    init: Bytes,
    video: Option<FragmentBuilder>,
    audio: Option<FragmentBuilder>,
    sequence_number: u32,
    /// Other tracks are in force: ends at the next keyframe, and takes none of the sound.
    outdated: bool,
    /// The queue was full: nothing is taken until a keyframe finds room.
    gap: bool,
}

impl Recorder {
    pub(super) fn new(
        place: Place,
        session: u64,
        piece_length: Duration,
        queue: Rc<Queue>,
        tally: Rc<Tally>,
        complaints: Rc<Complaints>,
    ) -> Self {
        Self {
            place,
            session,
            piece_length,
            queue,
            tally,
            complaints,
            tracks: Arc::default(),
            carried: None,
            state: State::Waiting,
            retry_at: None,
            retry_pause: RETRY_MIN,
        }
    }

    /// Decoding, and so a piece, can begin with the frame.
    fn can_begin(&self, frame: &Frame) -> bool {
        match self.carried {
            Some(Selection::Both | Selection::Video) => frame.kind == FrameKind::Keyframe,
            Some(Selection::Audio) => frame.kind == FrameKind::Audio,
            None => false,
        }
    }

    fn on_tracks(&mut self, tracks: &Arc<Tracks>) {
        if *self.tracks == **tracks {
            return;
        }
        let video_differs = self.tracks.video.as_ref().map(|track| (track.codec, &track.config))
            != tracks.video.as_ref().map(|track| (track.codec, &track.config));
        self.tracks = Arc::clone(tracks);
        let init = fmp4::init_segment(tracks, Selection::Both).ok();
        self.carried = init.as_ref().map(|init| init.carried);
        match &mut self.state {
            State::Writing(writing) => {
                if init.is_some_and(|init| init.bytes == writing.init) {
                    // Metadata, or what no output shows.
                } else if video_differs {
                    self.end_piece(None);
                    self.state = State::Waiting;
                } else {
                    writing.outdated = true;
                }
            }
            // Pictures of the old kind would stand before the new ones.
            State::Opening(_) if video_differs => {
                self.open();
                self.end_piece(None);
                self.state = State::Waiting;
            }
            State::Opening(_) | State::Waiting | State::Done => {}
        }
    }

    fn on_frame(&mut self, ingested: &Arc<Ingested>, now: Instant) {
        let frame = &ingested.frame;
        if frame.kind == FrameKind::Data {
            return;
        }
        self.note_failure(now);
        if let State::Writing(writing) = &self.state
            && self.can_begin(frame)
            && (writing.outdated || self.is_due(writing, ingested))
        {
            self.end_piece(Some(frame.dts));
            self.state = State::Waiting;
        }
        match &mut self.state {
            State::Done => {}
            State::Waiting => {
                let paused = self.retry_at.is_some_and(|at| now < at);
                if !paused && self.can_begin(frame) && self.queue.has_recovered() {
                    self.retry_at = None;
                    let frames = vec![Arc::clone(ingested)];
                    let bytes = frame.payload.len();
                    self.state = State::Opening(Opening { frames, bytes, since: now });
                }
            }
            State::Opening(opening) => {
                let first = opening.frames.first().map_or(frame.dts, |first| first.frame.dts);
                opening.bytes += frame.payload.len();
                opening.frames.push(Arc::clone(ingested));
                let long = frame.dts.saturating_since(first) >= FRAGMENT_TARGET;
                if long || opening.bytes >= FRAGMENT_BYTES {
                    self.open();
                }
            }
            State::Writing(_) => self.write(frame),
        }
    }

    /// The writer has lost its piece: a pause, then a new one.
    fn note_failure(&mut self, now: Instant) {
        let Some(failure) = self.queue.take_failure() else { return };
        let doubled = (self.retry_pause * 2).min(RETRY_MAX);
        self.retry_pause = if failure.after_media { RETRY_MIN } else { doubled };
        self.retry_at = Some(now + self.retry_pause);
        if !matches!(self.state, State::Done) {
            self.state = State::Waiting;
        }
    }

    /// The piece is long enough, or the wall clock has left it.
    fn is_due(&self, writing: &Writing, ingested: &Ingested) -> bool {
        let played = ingested.frame.dts.saturating_since(writing.base);
        let expected = writing.unix_ms.saturating_add(millis(played));
        let apart = unix_ms_of(ingested.at).abs_diff(expected);
        played >= self.piece_length || u128::from(apart) > CLOCK_STEP.as_millis()
    }

    /// Begins the piece whose first fragment is there, and writes it.
    fn open(&mut self) {
        let State::Opening(opening) = std::mem::replace(&mut self.state, State::Waiting) else {
            return;
        };
        let Ok(init) = fmp4::init_segment(&self.tracks, Selection::Both) else { return };
        let carried = |frame: &Frame| {
            TrackKind::of(frame.kind).is_some_and(|track| init.carried.contains(track))
        };
        let frames = opening.frames.iter().filter(|ingested| carried(&ingested.frame));
        let Some(first) = frames.clone().min_by_key(|ingested| ingested.frame.dts) else { return };
        let track = |kind| init.carried.contains(kind);
        let video = self.tracks.video.as_ref().filter(|_| track(TrackKind::Video));
        let audio = self.tracks.audio.as_ref().filter(|_| track(TrackKind::Audio));
        let writing = Writing {
            base: first.frame.dts,
            unix_ms: unix_ms_of(first.at),
            init: init.bytes.clone(),
            video: video.map(FragmentBuilder::video),
            audio: audio.map(FragmentBuilder::audio),
            sequence_number: 0,
            outdated: false,
            gap: false,
        };
        let header = Header {
            session: self.session,
            base_nanos: writing.base.nanos(),
            unix_ms: writing.unix_ms,
            init_bytes: 0,
            video_timescale: writing.video.as_ref().map_or(0, FragmentBuilder::timescale),
            audio_timescale: writing.audio.as_ref().map_or(0, FragmentBuilder::timescale),
            video_delay: first_delay(opening.frames.iter().map(|ingested| &ingested.frame)),
        };
        self.queue.push(Job::Open { header, init: init.bytes });
        self.state = State::Writing(Box::new(writing));
        for ingested in &opening.frames {
            self.write(&ingested.frame);
        }
    }

    /// Adds a frame to the piece, and cuts where it says so.
    fn write(&mut self, frame: &Frame) {
        let begins = self.can_begin(frame);
        let State::Writing(writing) = &mut self.state else { return };
        if writing.gap {
            if !begins || !self.queue.has_recovered() {
                return;
            }
            writing.gap = false;
        }
        let cut = writing.push(frame);
        if let Some(boundary) = cut {
            let pair = writing.cut(boundary);
            self.give(pair);
        }
    }

    /// Passes a pair on to the writer, or leaves a gap.
    fn give(&mut self, pair: Option<(Pair, Vec<u8>)>) {
        let (Some((pair, bytes)), State::Writing(writing)) = (pair, &mut self.state) else {
            return;
        };
        if self.queue.has_room(bytes.len()) {
            self.queue.push(Job::Pair { pair, bytes });
            return;
        }
        let reason = GapReason::QueueFull;
        self.queue.push(Job::Gap { reason, unix_ms: pair.unix_ms });
        self.tally.gap(reason);
        self.complaints.gap(&self.place, reason, None);
        writing.begin_gap(&self.tracks);
    }

    /// Ends the piece; its last picture lasts until `end`.
    fn end_piece(&mut self, end: Option<Timestamp>) {
        let State::Writing(writing) = &mut self.state else { return };
        let pair = writing.finish(end);
        self.give(pair);
        self.queue.push(Job::Close);
    }

    fn finish(&mut self) {
        if matches!(self.state, State::Opening(_)) {
            self.open();
        }
        self.end_piece(None);
        self.state = State::Done;
    }
}

impl Subscriber for Recorder {
    fn take(&mut self, item: &MediaItem, now: Instant) {
        match item {
            MediaItem::Online { .. } => {}
            MediaItem::Tracks(tracks) => self.on_tracks(tracks),
            MediaItem::Frame(ingested) => self.on_frame(ingested, now),
            MediaItem::Offline => self.finish(),
        }
    }

    fn tend(&mut self, now: Instant) -> bool {
        if let State::Opening(opening) = &self.state
            && now.saturating_duration_since(opening.since) >= TRACKS_WAIT
        {
            self.open();
        }
        !matches!(self.state, State::Done)
    }

    fn is_recorder(&self) -> bool {
        true
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish();
        self.queue.close();
    }
}

impl Writing {
    /// Takes a frame; gives the time of the next fragment's first picture if one begins with it.
    fn push(&mut self, frame: &Frame) -> Option<Timestamp> {
        let shifted = Frame { dts: frame.dts.offset_nanos(-self.base.nanos()), ..frame.clone() };
        let is_video = frame.kind.is_video();
        if is_video {
            self.video.as_mut()?.push(&shifted);
        } else if self.outdated {
            return None;
        } else {
            self.audio.as_mut()?.push(&shifted);
        }
        let length = |builder: &FragmentBuilder| {
            let ticks = i64::try_from(builder.duration()).unwrap_or(i64::MAX);
            Timestamp::from_ticks(ticks, builder.timescale()).saturating_since(Timestamp::ZERO)
        };
        let leader = self.video.as_ref().or(self.audio.as_ref())?;
        let leads = is_video || self.video.is_none();
        let limit = match frame.kind {
            FrameKind::Keyframe => FRAGMENT_MIN,
            _ => FRAGMENT_TARGET,
        };
        let bytes = [&self.video, &self.audio].into_iter().flatten();
        let bytes: usize = bytes.map(FragmentBuilder::payload_bytes).sum();
        let sound = self.audio.as_ref().map_or(Duration::ZERO, length);
        let cut = (leads && length(leader) >= limit)
            || (!leads && sound >= SOUND_MAX)
            || bytes >= FRAGMENT_BYTES;
        cut.then_some(shifted.dts)
    }

    /// The pair of everything before the boundary.
    fn cut(&mut self, boundary: Timestamp) -> Option<(Pair, Vec<u8>)> {
        let mut out = Vec::with_capacity(self.payload_bytes() + 4096);
        let ntp = self.ntp_timestamp();
        let number = self.sequence_number;
        let video =
            self.video.as_mut().and_then(|video| video.cut(&mut out, number + 1, Some(ntp)));
        // One clock per pair is enough, and sound alone needs it too.
        let ntp = video.is_none().then_some(ntp);
        let audio = self
            .audio
            .as_mut()
            .and_then(|audio| audio.cut_before(boundary, &mut out, number + 2, ntp));
        self.pair(video, audio, out)
    }

    /// The pair of everything there is.
    fn finish(&mut self, end: Option<Timestamp>) -> Option<(Pair, Vec<u8>)> {
        if self.gap {
            return None;
        }
        let end = end.map(|end| end.offset_nanos(-self.base.nanos()));
        let mut out = Vec::with_capacity(self.payload_bytes() + 4096);
        let ntp = self.ntp_timestamp();
        let number = self.sequence_number;
        let video = self
            .video
            .as_mut()
            .and_then(|video| video.finish(end, &mut out, number + 1, Some(ntp)));
        let ntp = video.is_none().then_some(ntp);
        let audio =
            self.audio.as_mut().and_then(|audio| audio.finish(None, &mut out, number + 2, ntp));
        self.pair(video, audio, out)
    }

    fn pair(
        &mut self,
        video: Option<Fragment>,
        audio: Option<Fragment>,
        bytes: Vec<u8>,
    ) -> Option<(Pair, Vec<u8>)> {
        self.sequence_number += 2;
        let part = |fragment: Option<Fragment>| {
            fragment.map_or(Part::default(), |fragment| Part {
                time: fragment.base_decode_time,
                duration: u32::try_from(fragment.duration).unwrap_or(u32::MAX),
                bytes: u32::try_from(fragment.bytes).unwrap_or(u32::MAX),
            })
        };
        let keyframe = match (&video, &self.video) {
            (Some(video), _) => video.starts_with_keyframe,
            (None, has_video) => has_video.is_none() && audio.is_some(),
        };
        let (scale, first) = match (&video, &audio) {
            (Some(video), _) => (VIDEO_TIMESCALE, video),
            (None, Some(audio)) => (self.audio.as_ref()?.timescale(), audio),
            (None, None) => return None,
        };
        let unix_ms = self.unix_ms_at(first.base_decode_time, scale);
        let pair = Pair { offset: 0, unix_ms, keyframe, video: part(video), audio: part(audio) };
        Some((pair, bytes))
    }

    /// Begins again with nothing, on the same timeline.
    fn begin_gap(&mut self, tracks: &Tracks) {
        self.gap = true;
        let video = tracks.video.as_ref().filter(|_| self.video.is_some());
        let audio = tracks.audio.as_ref().filter(|_| self.audio.is_some());
        self.video = video.map(FragmentBuilder::video);
        self.audio = audio.map(FragmentBuilder::audio);
    }

    fn payload_bytes(&self) -> usize {
        let builders = [&self.video, &self.audio].into_iter().flatten();
        builders.map(FragmentBuilder::payload_bytes).sum()
    }

    fn unix_ms_at(&self, ticks: u64, timescale: u32) -> u64 {
        let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
        let played = Timestamp::from_ticks(ticks, timescale).saturating_since(Timestamp::ZERO);
        self.unix_ms.saturating_add(millis(played))
    }

    /// The wall clock of the next fragment.
    fn ntp_timestamp(&self) -> u64 {
        let begins = [&self.video, &self.audio].into_iter().flatten().find_map(|builder| {
            Some(self.unix_ms_at(builder.base_decode_time()?, builder.timescale()))
        });
        fmp4::ntp_timestamp(begins.unwrap_or(self.unix_ms).saturating_mul(1_000_000))
    }
}

/// From decoding the first picture to showing it, in ticks of the video track, as its sample has
/// it: what both times round to.
fn first_delay<'a>(mut frames: impl Iterator<Item = &'a Frame>) -> u32 {
    let picture = frames.find(|frame| frame.kind.is_video());
    picture.map_or(0, |picture| {
        let ticks = |time: Timestamp| time.to_ticks(VIDEO_TIMESCALE);
        u32::try_from(ticks(picture.pts()) - ticks(picture.dts)).unwrap_or(0)
    })
}

/// Wall clock at a moment of the monotonic one.
fn unix_ms_of(at: Instant) -> u64 {
    let (now, unix_ms) = (clock::now(), clock::unix_millis());
    let ahead = millis(at.saturating_duration_since(now));
    let behind = millis(now.saturating_duration_since(at));
    unix_ms.saturating_add(ahead).saturating_sub(behind)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
