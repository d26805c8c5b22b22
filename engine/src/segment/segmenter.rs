//! From the items of a stream to segments: one segmenter per stream and packaging, on the owner
//! shard, while somebody wants it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::media::{FrameKind, Timestamp, Tracks};

use super::cmaf::Cmaf;
use super::cut::{Cut, Cutter};
use super::store::{Era, Init, Packaging, Part, Segment, Snapshot};
use super::transport::Transport;
use crate::ring::{Ingested, MediaItem};

/// A stream whose GOP is not known yet is held for so long to see its second keyframe: what is
/// announced cannot be taken back.
const GOP_WAIT: Duration = Duration::from_secs(5);
/// Frames held meanwhile.
const PENDING_MAX: usize = 4096;
/// Target durations every live playlist keeps (RFC 8216, 6.2.2).
const KEPT_TARGET_DURATIONS: u32 = 3;

/// What a segmenter is to make, and what is known of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Wanted length of segments.
    pub segment: Duration,
    /// Wanted length of parts.
    pub part: Duration,
    /// Segments in a playlist, at least; three target durations in any case.
    pub window: usize,
    /// Segments kept behind those.
    pub kept: usize,
    /// Length of the last GOP, when there was one.
    pub gop: Option<Duration>,
    /// Duration of a picture, when it is known.
    pub frame: Option<Duration>,
    /// How long ago what comes now was received: the delay of a stream played later than live.
    pub delay: Duration,
}

#[derive(Debug)]
enum Maker {
    Ts(Box<Transport>),
    Cmaf(Box<Cmaf>),
}

impl Maker {
    fn has_video(&self) -> bool {
        match self {
            Self::Ts(maker) => maker.has_video(),
            Self::Cmaf(maker) => maker.has_video(),
        }
    }
}

/// See the module text.
#[derive(Debug)]
pub struct Segmenter {
    packaging: Packaging,
    options: Options,
    epoch: u64,
    /// Frames that wait for the cutter.
    pending: Vec<Arc<Ingested>>,
    cutter: Option<Cutter>,
    tracks: Option<Arc<Tracks>>,
    maker: Option<Maker>,
    inits: Vec<Arc<Init>>,
    next_init: u32,
    segments: VecDeque<Arc<Segment>>,
    listed: usize,
    discontinuity_sequence: u64,
    open: Option<Segment>,
    next_sequence: u64,
    part_start: Timestamp,
    /// The newest frame of the track that decides where segments end.
    newest: Timestamp,
    /// The next segment begins anew.
    discontinuity: bool,
    /// A time of the stream and its wall clock in Unix milliseconds.
    anchor: Option<(Timestamp, i64)>,
    origin_ms: Option<i64>,
    era: Option<Era>,
    forced_logged: bool,
    ended: bool,
    changed: bool,
}

impl Segmenter {
    /// A segmenter without media; `unix_ms` tells its files from those of others.
    #[must_use]
    pub fn new(packaging: Packaging, options: Options, unix_ms: u64) -> Self {
        Self {
            packaging,
            options,
            epoch: unix_ms,
            pending: Vec::new(),
            cutter: None,
            tracks: None,
            maker: None,
            inits: Vec::new(),
            next_init: 0,
            segments: VecDeque::new(),
            listed: 0,
            discontinuity_sequence: 0,
            open: None,
            next_sequence: 0,
            part_start: Timestamp::ZERO,
            newest: Timestamp::ZERO,
            discontinuity: false,
            anchor: None,
            origin_ms: None,
            era: None,
            forced_logged: false,
            ended: false,
            changed: false,
        }
    }

    /// How the bytes are wrapped.
    #[must_use]
    pub fn packaging(&self) -> Packaging {
        self.packaging
    }

    /// Takes the next item; a new snapshot when there is something new to be had. `unix_ms` is the
    /// wall clock at `now`.
    pub fn take(&mut self, item: &MediaItem, now: Instant, unix_ms: u64) -> Option<Arc<Snapshot>> {
        match item {
            MediaItem::Online { .. } => self.restart(),
            MediaItem::Offline => self.stop(),
            MediaItem::Tracks(tracks) => self.set_tracks(tracks),
            MediaItem::Frame(ingested) => {
                if self.anchor.is_none() {
                    let ago = now.saturating_duration_since(ingested.at) + self.options.delay;
                    let ago = ago.as_millis();
                    let wall = i128::from(unix_ms) - ago.cast_signed();
                    self.anchor =
                        Some((ingested.frame.dts, i64::try_from(wall).unwrap_or(i64::MAX)));
                }
                self.wait_for_gop(ingested);
            }
        }
        std::mem::take(&mut self.changed).then(|| Arc::new(self.snapshot()))
    }

    /// The stream is over: the last snapshot.
    pub fn end(&mut self) -> Arc<Snapshot> {
        self.stop();
        self.ended = true;
        Arc::new(self.snapshot())
    }

    /// What there is now; empty before the first cut.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let fallback = Cutter::new(self.options.segment, self.options.part, None, None);
        Snapshot {
            packaging: self.packaging,
            epoch: self.epoch,
            origin_ms: self.origin_ms.unwrap_or(0),
            delay: self.options.delay,
            targets: self.cutter.unwrap_or(fallback).targets,
            segments: self.segments.iter().cloned().collect(),
            listed: self.listed,
            discontinuity_sequence: self.discontinuity_sequence,
            open: self.open.clone(),
            next_sequence: self.next_sequence,
            inits: self.inits.clone(),
            ended: self.ended,
        }
    }

    /// A publisher is there, the first or another one.
    fn restart(&mut self) {
        self.discontinuity |= self.next_sequence > 0 || self.open.is_some();
        self.anchor = None;
        self.tracks = None;
        if let Some(Maker::Ts(maker)) = &mut self.maker {
            maker.mark_discontinuity();
        }
    }

    /// The publisher has gone: what it left is a segment.
    fn stop(&mut self) {
        if self.cutter.is_none() && !self.pending.is_empty() {
            self.decide(None);
        }
        self.finish_open();
        self.pending.clear();
    }

    fn set_tracks(&mut self, tracks: &Arc<Tracks>) {
        let same = |old: &Arc<Tracks>| old.video == tracks.video && old.audio == tracks.audio;
        if self.tracks.as_ref().is_some_and(same) {
            return;
        }
        let before = self.inits.last().map(|init| Arc::clone(&init.tracks));
        self.tracks = Some(Arc::clone(tracks));
        if before.as_ref().is_some_and(same) && self.maker.is_some() {
            // Another publisher with the same configuration.
            return;
        }
        self.pending.clear();
        self.finish_open();
        self.discontinuity |= self.next_sequence > 0;
        let id = self.next_init;
        let made = match (self.packaging, &mut self.maker) {
            (Packaging::Ts, Some(Maker::Ts(maker))) => maker.reconfigure(id, tracks),
            (Packaging::Ts, _) => Transport::new(id, tracks).map(|(maker, init)| {
                self.maker = Some(Maker::Ts(Box::new(maker)));
                init
            }),
            (Packaging::Cmaf, _) => Cmaf::new(id, tracks).map(|(maker, init)| {
                self.maker = Some(Maker::Cmaf(Box::new(maker)));
                init
            }),
        };
        match made {
            Some(init) => {
                self.inits.push(Arc::new(init));
                self.next_init += 1;
            }
            None => self.maker = None,
        }
    }

    /// Frames wait until the length of a GOP is known, then all of them are taken.
    fn wait_for_gop(&mut self, ingested: &Arc<Ingested>) {
        if self.cutter.is_some() {
            self.frame(ingested);
            return;
        }
        let frame = &ingested.frame;
        let has_video = self.maker.as_ref().is_some_and(Maker::has_video);
        let first = self.pending.first().map(|first| first.frame.dts);
        let Some(first) = first else {
            if frame.kind == FrameKind::Keyframe || (!has_video && frame.kind == FrameKind::Audio) {
                self.pending.push(Arc::clone(ingested));
                if !has_video || self.options.gop.is_some() {
                    self.decide(self.options.gop);
                }
            }
            return;
        };
        self.pending.push(Arc::clone(ingested));
        let span = frame.dts.saturating_since(first);
        let known = frame.kind == FrameKind::Keyframe && !span.is_zero();
        if known || span >= GOP_WAIT || self.pending.len() >= PENDING_MAX {
            self.decide(Some(span));
        }
    }

    fn decide(&mut self, gop: Option<Duration>) {
        let Options { segment, part, frame, .. } = self.options;
        self.cutter = Some(Cutter::new(segment, part, gop, frame));
        for ingested in std::mem::take(&mut self.pending) {
            self.frame(&ingested);
        }
    }

    fn frame(&mut self, ingested: &Ingested) {
        let frame = &ingested.frame;
        let (Some(cutter), Some(maker)) = (self.cutter, &self.maker) else { return };
        let has_video = maker.has_video();
        let leads = if has_video { frame.kind.is_video() } else { frame.kind == FrameKind::Audio };
        let keyframe = !has_video || frame.kind == FrameKind::Keyframe;
        let cut = match &self.open {
            // Sound before the first picture has nothing to belong to.
            None if !(leads && keyframe) => return,
            None => Cut::None,
            Some(open) if leads => cutter.before(frame.dts, keyframe, open.start, self.part_start),
            Some(_) => Cut::None,
        };
        if cut == Cut::ForcedSegment && !std::mem::replace(&mut self.forced_logged, true) {
            let announced_s = cutter.targets.segment_s;
            tracing::warn!(announced_s, "a GOP is longer than the announced segments: cut inside");
        }
        let ends_segment = matches!(cut, Cut::Segment | Cut::ForcedSegment);
        let begins = self.open.is_none() || ends_segment;
        let open_start = self.open.as_ref().map(|open| open.start);
        let wall_clock = (cut != Cut::None).then(|| self.part_wall_clock_nanos());
        if leads {
            self.newest = frame.dts;
        }
        let Some(maker) = &mut self.maker else { return };
        let part = match maker {
            Maker::Ts(maker) => {
                let part = open_start.filter(|_| ends_segment);
                let part = part.and_then(|start| maker.cut(start, frame.dts));
                maker.push(frame, begins, keyframe);
                part
            }
            Maker::Cmaf(maker) => {
                maker.push(frame);
                wall_clock.and_then(|unix_nanos| maker.cut(frame.dts, unix_nanos))
            }
        };
        if let Some(part) = part {
            self.add_part(part, frame.dts);
        }
        if ends_segment {
            self.close_segment();
        }
        if self.open.is_none() {
            self.open_segment(frame.dts);
        }
    }

    fn open_segment(&mut self, start: Timestamp) {
        let Some(init) = self.inits.last() else { return };
        let wall_clock_ms = self.wall_clock_ms(start);
        let origin_ms = *self.origin_ms.get_or_insert(wall_clock_ms);
        let discontinuity = std::mem::take(&mut self.discontinuity);
        let era = match self.era {
            Some(era) if !discontinuity => era,
            before => Era {
                index: before.map_or(0, |era| era.index + 1),
                media_start: start,
                start_ms: wall_clock_ms - origin_ms,
            },
        };
        self.era = Some(era);
        self.part_start = start;
        self.open = Some(Segment {
            sequence: self.next_sequence,
            start,
            duration: Duration::ZERO,
            program_date_time_ms: wall_clock_ms,
            discontinuity,
            era,
            init: Arc::clone(init),
            parts: Vec::new(),
        });
    }

    fn add_part(&mut self, part: Part, next_start: Timestamp) {
        let Some(open) = &mut self.open else { return };
        open.duration += part.duration;
        open.parts.push(part);
        self.part_start = next_start;
        self.changed = true;
    }

    /// Ends the open segment with everything that is held back.
    fn finish_open(&mut self) {
        let Some(open) = &self.open else { return };
        let start = open.start;
        let unix_nanos = self.part_wall_clock_nanos();
        let part = match &mut self.maker {
            Some(Maker::Ts(maker)) => {
                // The last picture lasts as long as any.
                let frame = self.options.frame.unwrap_or(Duration::from_millis(40));
                maker.cut(start, self.newest + frame)
            }
            Some(Maker::Cmaf(maker)) => maker.finish(None, unix_nanos),
            None => None,
        };
        if let Some(part) = part {
            self.add_part(part, self.part_start);
        }
        self.close_segment();
    }

    fn close_segment(&mut self) {
        let Some(segment) = self.open.take() else { return };
        self.changed = true;
        if segment.parts.is_empty() {
            self.discontinuity |= segment.discontinuity;
            return;
        }
        self.next_sequence += 1;
        self.segments.push_back(Arc::new(segment));
        self.listed += 1;
        self.slide();
    }

    /// Takes from the playlist what it need not list any more, and forgets what nobody asks for.
    fn slide(&mut self) {
        let segment_s = self.cutter.map_or(1, |cutter| cutter.targets.segment_s);
        let least = Duration::from_secs((segment_s * KEPT_TARGET_DURATIONS).into());
        loop {
            let from = self.segments.len() - self.listed;
            let after: Duration =
                self.segments.iter().skip(from + 1).map(|segment| segment.duration).sum();
            if self.listed <= self.options.window.max(1) || after < least {
                break;
            }
            self.discontinuity_sequence += u64::from(self.segments[from].discontinuity);
            self.listed -= 1;
        }
        while self.segments.len() - self.listed > self.options.kept {
            self.segments.pop_front();
        }
        let oldest = self.segments.front().map_or(0, |segment| segment.init.id);
        self.inits.retain(|init| init.id >= oldest);
    }

    /// When the first sample of the open part was received, as nanoseconds since 1970.
    fn part_wall_clock_nanos(&self) -> u64 {
        let nanos = self.wall_clock_ms(self.part_start).saturating_mul(1_000_000);
        u64::try_from(nanos).unwrap_or(0)
    }

    fn wall_clock_ms(&self, at: Timestamp) -> i64 {
        let Some((anchor, unix_ms)) = self.anchor else { return 0 };
        unix_ms.saturating_add((at - anchor) / 1_000_000)
    }
}
