//! The program that is cut: when its streams say that a segment can begin, and when a timeline ends.
//!
//! A time that goes back, or far ahead, is a timeline that began anew: what came before it ends
//! there, and a discontinuity follows at the next picture that can be started at. The streams of a
//! program need not jump at the same packet; the one that jumps second joins the first.

use std::time::Duration;

use super::cut::Cutter;
use super::picture::{Front, FrontReader};
use super::tables::{Entry, Kind, Selected, Tables};
use super::{Cuts, ScanError};
use crate::container::ts::TsError;
use crate::container::ts::clock::Unwrapper;
use crate::container::ts::demux::end_of_pes;
use crate::container::ts::packet::{self, PACKET_BYTES, Packet};
use crate::container::ts::pes;
use crate::container::ts::stream_type::Format;
use crate::media::Timestamp;

/// A step back of more than this, or ahead by more than that, begins a new timeline. Less than the
/// latter are pictures or sounds that are missing.
const STEP_BACK_MS: i64 = 100;
const STEP_AHEAD_MS: i64 = 10_000;
/// Sound without a picture for so long is played without pictures.
const PICTURE_WAIT: Duration = Duration::from_secs(10);
/// Sound may begin this much before the first picture of its timeline.
const SOUND_LEAD: Duration = Duration::from_secs(10);
/// Duration of a picture before two were seen, and the intervals believed.
const PICTURE_MS: i64 = 40;
const INTERVAL_NANOS: std::ops::RangeInclusive<i64> = 1..=1_000_000_000;
/// Largest payload of a PES packet of sound that is kept to see where it ends.
const TAIL_BYTES_MAX: usize = 1 << 16;

/// The time of a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    last: Option<Timestamp>,
    /// What came last belongs to the timeline in progress.
    joined: bool,
}

impl Clock {
    fn jumps(&self, to: Timestamp) -> bool {
        let step_ms = self.last.map_or(0, |last| (to - last) / 1_000_000);
        !(-STEP_BACK_MS..=STEP_AHEAD_MS).contains(&step_ms)
    }
}

/// A PES packet of video whose front is being read.
#[derive(Debug)]
struct Begun {
    entry: Entry,
    /// Presentation and decode time.
    times: (Timestamp, Timestamp),
}

#[derive(Debug)]
struct Video {
    pid: u16,
    format: Format,
    front: FrontReader,
    begun: Option<Begun>,
    clock: Clock,
    picture_nanos: i64,
    /// Sequence parameter sets of the last keyframe.
    sets: Vec<u8>,
    /// PES packets with a time, and where the last picture in presentation order ends; both of the
    /// timeline in progress.
    pictures: u64,
    end: Option<Timestamp>,
}

#[derive(Debug)]
struct Audio {
    pid: u16,
    format: Format,
    clock: Clock,
    /// First time while a segment is waited for.
    first: Option<Timestamp>,
    /// Between the last two PES packets.
    interval_nanos: i64,
    /// Time and payload of the last PES packet of the timeline.
    tail: Option<(Timestamp, Vec<u8>)>,
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Program {
    target: Duration,
    tables: Tables,
    unwrapper: Unwrapper,
    video: Option<Video>,
    audio: Option<Audio>,
    cutter: Cutter,
    packets: u64,
    scrambled_packets: u64,
    has_video: bool,
    /// Behind the last packet.
    end_offset: u64,
}

impl Program {
    pub(super) fn new(target: Duration) -> Self {
        Self {
            target,
            tables: Tables::default(),
            unwrapper: Unwrapper::default(),
            video: None,
            audio: None,
            cutter: Cutter::default(),
            packets: 0,
            scrambled_packets: 0,
            has_video: false,
            end_offset: 0,
        }
    }

    pub(super) fn has_packets(&self) -> bool {
        self.packets > 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.cutter.is_full()
    }

    pub(super) fn on_packet(&mut self, offset: u64, bytes: &[u8; PACKET_BYTES]) {
        self.packets += 1;
        self.end_offset = offset + PACKET_BYTES as u64;
        let packet = packet::parse(bytes).filter(|packet| !packet.transport_error);
        let kind = packet.as_ref().map_or(Kind::Other, |p| self.tables.on_packet(offset, p));
        let is_of = |pid: Option<u16>| packet.is_some_and(|packet| Some(packet.pid) == pid);
        let is_video = is_of(self.video.as_ref().map(|video| video.pid));
        let is_audio = is_of(self.audio.as_ref().map(|audio| audio.pid));
        let media = packet.filter(|_| is_video || is_audio);
        // What comes before a segment is kept from the beginning of a PES packet on.
        if self.cutter.is_open() || !self.cutter.is_empty() {
            self.cutter.take(offset);
        } else if media.is_some_and(|packet| packet.unit_start) {
            let entry = self.tables.entry(offset);
            for range in &entry.tables {
                self.take_range(range.clone());
            }
            self.take_range(entry.at..self.end_offset);
        }
        match (kind, media) {
            (Kind::NewStreams, _) => self.on_streams(self.end_offset),
            (Kind::Other, Some(packet)) if packet.scrambled => self.scrambled_packets += 1,
            (Kind::Other, Some(packet)) if is_video => self.on_video(offset, &packet),
            (Kind::Other, Some(packet)) => self.on_audio(offset, &packet),
            _ => {}
        }
    }

    fn take_range(&mut self, range: std::ops::Range<u64>) {
        range.step_by(PACKET_BYTES).for_each(|offset| self.cutter.take(offset));
    }

    /// The PMT that ends at `offset` has other streams than the one before.
    fn on_streams(&mut self, offset: u64) {
        self.end_front();
        if self.video.is_some() || self.audio.is_some() {
            self.end_timeline(&self.tables.entry(offset));
        }
        let Selected { video, audio } = self.tables.selected();
        let kept = self.video.take().filter(|stream| Some((stream.pid, stream.format)) == video);
        self.video = kept.or_else(|| {
            let (pid, format) = video?;
            Some(Video {
                pid,
                format,
                front: FrontReader::new(format),
                begun: None,
                clock: Clock::default(),
                picture_nanos: PICTURE_MS * 1_000_000,
                sets: Vec::new(),
                pictures: 0,
                end: None,
            })
        });
        let kept = self.audio.take().filter(|stream| Some((stream.pid, stream.format)) == audio);
        self.audio = kept.or_else(|| {
            let (pid, format) = audio?;
            Some(Audio {
                pid,
                format,
                clock: Clock::default(),
                interval_nanos: 0,
                first: None,
                tail: None,
            })
        });
    }

    fn on_video(&mut self, offset: u64, packet: &Packet<'_>) {
        let Some(mut payload) = packet.payload else { return };
        if packet.unit_start {
            self.end_front();
            let Some(pes) = pes::parse(payload) else { return };
            let Some((pts, dts)) = pes.stamps.filter(|_| !pes.scrambled) else { return };
            let dts = self.unwrapper.unwrap(dts);
            let times = (self.unwrapper.unwrap(pts), dts);
            payload = pes.payload;
            let entry = self.tables.entry(offset);
            if let Some(video) = &mut self.video {
                video.begun = Some(Begun { entry, times });
                video.front.begin();
            }
        }
        let Some(video) = self.video.as_mut().filter(|video| video.begun.is_some()) else { return };
        if let Some(front) = video.front.push(payload) {
            self.on_picture(front);
        }
    }

    /// The PES packet ended before it showed a slice.
    fn end_front(&mut self) {
        if self.video.as_ref().is_some_and(|video| video.begun.is_some()) {
            self.on_picture(Front::Other);
        }
    }

    fn on_picture(&mut self, front: Front) {
        let Some(Begun { entry, times: (pts, dts) }) =
            self.video.as_mut().and_then(|video| video.begun.take())
        else {
            return;
        };
        let other_joined = self.audio.as_ref().is_some_and(|audio| audio.clock.joined);
        let jumps = self.video.as_ref().is_some_and(|video| video.clock.jumps(dts));
        let joins = self.video.as_ref().is_some_and(|video| !video.clock.joined) && other_joined;
        if jumps && !joins {
            self.end_timeline(&entry);
        }
        let Some(video) = &mut self.video else { return };
        if let Some(last) = video.clock.last.replace(dts)
            && INTERVAL_NANOS.contains(&(dts - last))
        {
            video.picture_nanos = dts - last;
        }
        video.clock.joined = true;
        video.pictures += 1;
        self.has_video = true;
        match front {
            Front::Keyframe(sets) => {
                let changed = !video.sets.is_empty() && video.sets != sets;
                video.sets = sets;
                match self.cutter.start() {
                    None => self.open(pts),
                    Some(start) if changed || pts.saturating_since(start) >= self.target => {
                        self.cutter.cut(&entry, pts, changed);
                    }
                    Some(_) => {}
                }
            }
            Front::Other if !self.cutter.is_open() => {
                self.cutter.forget();
                if let Some(audio) = &mut self.audio {
                    audio.first = None;
                }
            }
            Front::Other => {}
        }
        if let Some(video) = &mut self.video {
            let end = pts.offset_nanos(video.picture_nanos);
            video.end = Some(video.end.map_or(end, |before| before.max(end)));
        }
    }

    /// Begins the first segment of a timeline at a picture, or a sound where there are none.
    fn open(&mut self, pts: Timestamp) {
        let first = self.audio.as_mut().and_then(|audio| audio.first.take());
        let first = first.filter(|first| pts.saturating_since(*first) < SOUND_LEAD);
        self.cutter.open(first.map_or(pts, |first| first.min(pts)));
    }

    fn on_audio(&mut self, offset: u64, packet: &Packet<'_>) {
        let Some(payload) = packet.payload else { return };
        if !packet.unit_start {
            if let Some((_, tail)) = self.audio.as_mut().and_then(|audio| audio.tail.as_mut())
                && tail.len() < TAIL_BYTES_MAX
            {
                tail.extend_from_slice(payload);
            }
            return;
        }
        let Some(pes) = pes::parse(payload).filter(|pes| !pes.scrambled) else { return };
        let Some((pts, _)) = pes.stamps else { return };
        let pts = self.unwrapper.unwrap(pts);
        let entry = self.tables.entry(offset);
        let other = self.video.as_ref().map(|video| video.clock).unwrap_or_default();
        let Some(audio) = &self.audio else { return };
        let jumps = audio.clock.jumps(pts);
        let joins = other.joined && !audio.clock.joined;
        if jumps && !joins {
            self.end_timeline(&entry);
        }
        let Some(audio) = &mut self.audio else { return };
        let apart_ms =
            other.last.filter(|_| other.joined).map_or(0, |last| (pts - last) / 1_000_000);
        let near = apart_ms.abs() <= STEP_AHEAD_MS;
        if let Some(last) = audio.clock.last.replace(pts)
            && INTERVAL_NANOS.contains(&(pts - last))
        {
            audio.interval_nanos = pts - last;
        }
        audio.clock.joined |= jumps || near;
        if !audio.clock.joined {
            // Late sound of the timeline before.
            return;
        }
        let mut kept = audio.tail.take().map(|(_, kept)| kept).unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(pes.payload);
        audio.tail = Some((pts, kept));
        self.on_sound(&entry, pts);
    }

    /// Sound of the timeline in progress at `pts`.
    fn on_sound(&mut self, entry: &Entry, pts: Timestamp) {
        let pictures = self.video.as_ref().map(|video| video.pictures);
        let alone = pictures.is_none_or(|pictures| pictures == 0);
        match self.cutter.start() {
            Some(start) if alone && pts.saturating_since(start) >= self.target => {
                self.cutter.cut(entry, pts, false);
            }
            Some(_) => {
                if self.cutter.timeline_start().saturating_since(pts) < SOUND_LEAD {
                    self.cutter.begin_earlier(pts);
                }
            }
            None => {
                let Some(audio) = &mut self.audio else { return };
                let first = *audio.first.get_or_insert(pts);
                audio.first = Some(first.min(pts));
                let waited = pts.saturating_since(first) >= PICTURE_WAIT;
                if pictures.is_none() || alone && waited {
                    self.open(first.min(pts));
                }
            }
        }
    }

    /// What begins at `entry` does not go on from before.
    fn end_timeline(&mut self, entry: &Entry) {
        if self.cutter.is_open() {
            let end = self.end();
            self.cutter.end(entry, end);
        } else {
            self.cutter.wait_from(entry);
        }
        if let Some(video) = &mut self.video {
            video.clock.joined = false;
            (video.pictures, video.end) = (0, None);
        }
        if let Some(audio) = &mut self.audio {
            audio.clock.joined = false;
            (audio.first, audio.tail) = (None, None);
        }
    }

    /// Where the timeline in progress ends.
    fn end(&self) -> Timestamp {
        let video = self.video.as_ref().and_then(|video| video.end);
        let audio = self.audio.as_ref().and_then(|audio| {
            let (pts, payload) = audio.tail.as_ref()?;
            // Sound that does not tell its own length is taken to be as long as before.
            let as_before = || pts.offset_nanos(audio.interval_nanos);
            Some(end_of_pes(audio.format, *pts, payload).unwrap_or_else(as_before))
        });
        // Nothing is open without one of them.
        video.max(audio).unwrap_or_default()
    }

    pub(super) fn finish(mut self) -> Result<Cuts, ScanError> {
        self.end_front();
        if self.is_full() {
            return Err(ScanError::TooLong);
        }
        let first = self.audio.as_ref().and_then(|audio| audio.first);
        if let Some(first) = first.filter(|_| !self.has_video && !self.cutter.is_open()) {
            self.open(first);
        }
        let (end, unreachable_bytes) = (self.end(), self.cutter.unreachable_bytes);
        let segments = self.cutter.finish(end);
        let empty = if self.packets == 0 {
            ScanError::Ts(TsError::NotTs)
        } else if self.scrambled_packets > 0 {
            ScanError::Scrambled
        } else if self.has_video {
            ScanError::NoKeyframe
        } else {
            ScanError::NoTrack
        };
        if segments.is_empty() {
            return Err(empty);
        }
        Ok(Cuts { segments, has_video: self.has_video, skipped_bytes: 0, unreachable_bytes })
    }
}
