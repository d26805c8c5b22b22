//! When what was read is due: each frame at the moment it was received, and the delay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocols::media::{Frame, Tracks};

use crate::record::Stretch;

/// What is done when it is due, in order.
#[derive(Debug, Clone)]
pub enum Due {
    /// What follows does not go on where the last frame was: another publisher, or a hole.
    Break,
    /// Other tracks.
    Tracks(Arc<Tracks>),
    /// A frame.
    Frame(Frame),
}

/// See the module text. Holds a stretch or two: more is not read before half a second before the
/// last one is over.
#[derive(Debug)]
pub struct Schedule {
    delay: Duration,
    waiting: VecDeque<(Instant, Due)>,
    tracks: Option<Arc<Tracks>>,
    /// When the last of what was added is due.
    end: Option<Instant>,
}

/// How long before the end of what there is more is read.
pub(crate) const READ_AHEAD: Duration = Duration::from_millis(500);

impl Schedule {
    /// Nothing is due.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self { delay, waiting: VecDeque::new(), tracks: None, end: None }
    }

    /// Adds a stretch; `now` and `unix_ms` are one moment.
    pub fn add(&mut self, stretch: Stretch, now: Instant, unix_ms: u64) {
        let Stretch { start, unix_ms: begin_ms, .. } = stretch;
        let delay_ms = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX);
        let air = |frame: &Frame| {
            // By the clock of the publisher's media, from one moment that both clocks know.
            let media_ms = (frame.dts - start) / 1_000_000;
            let at_ms = begin_ms.saturating_add_signed(media_ms).saturating_add(delay_ms);
            // It was received before now: later than this only says that the clock was set.
            let ahead = Duration::from_millis(at_ms.saturating_sub(unix_ms)).min(self.delay);
            let behind = Duration::from_millis(unix_ms.saturating_sub(at_ms));
            now.checked_sub(behind).unwrap_or(now) + ahead
        };
        let Some(begin) = stretch.frames.first().map(air) else { return };
        // Order is that of the media: a clock that was set back makes nothing overtake.
        let mut last = self.waiting.back().map_or(begin, |(due, _)| (*due).max(begin));
        if stretch.broken && self.end.is_some() {
            self.waiting.push_back((last, Due::Break));
            self.tracks = None;
        }
        if self.tracks.as_ref().is_none_or(|tracks| **tracks != *stretch.tracks) {
            self.tracks = Some(Arc::clone(&stretch.tracks));
            self.waiting.push_back((last, Due::Tracks(Arc::clone(&stretch.tracks))));
        }
        for frame in stretch.frames {
            last = last.max(air(&frame));
            self.waiting.push_back((last, Due::Frame(frame)));
        }
        self.end = Some(last);
    }

    /// The next that is due by now, with the moment it was due.
    pub fn take(&mut self, now: Instant) -> Option<(Instant, Due)> {
        self.waiting.pop_front_if(|(due, _)| *due <= now)
    }

    /// When the next is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// From when on more is wanted; `None`: at once.
    #[must_use]
    pub fn wants_more_at(&self) -> Option<Instant> {
        self.waiting.back().map(|(due, _)| due.checked_sub(READ_AHEAD).unwrap_or(*due))
    }

    /// When the last frame there has been is, or was, due.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::media::{FrameKind, Timestamp};

    const DELAY: Duration = Duration::from_secs(5);
    const NOW_MS: u64 = 1_700_000_000_000;

    /// Ten frames of 100 ms from a time of the stream on, received from `unix_ms` on.
    fn stretch(from_ms: i64, unix_ms: u64, broken: bool) -> Stretch {
        let frame = |n: i64| Frame {
            kind: if n == 0 { FrameKind::Keyframe } else { FrameKind::Inter },
            dts: Timestamp::from_millis(from_ms + n * 100),
            composition_offset: 0,
            payload: bytes::Bytes::new(),
        };
        let start = Timestamp::from_millis(from_ms);
        let frames = (0..10).map(frame).collect();
        Stretch { tracks: Arc::default(), broken, start, unix_ms, frames }
    }

    fn times(schedule: &mut Schedule, now: Instant, origin: Instant) -> Vec<u64> {
        let taken = std::iter::from_fn(|| schedule.take(now));
        let frames = taken.filter(|(_, due)| matches!(due, Due::Frame(_)));
        let ms = |at: Instant| at.saturating_duration_since(origin).as_millis();
        frames.map(|(at, _)| u64::try_from(ms(at)).unwrap()).collect()
    }

    #[test]
    fn frames_are_due_when_they_were_received_and_the_delay() {
        let now = crate::clock::now();
        let mut schedule = Schedule::new(DELAY);
        assert_eq!(schedule.wants_more_at(), None);
        // Begun 5.25 s ago: a quarter of a second of it has been due.
        schedule.add(stretch(70_000, NOW_MS - 5250, false), now, NOW_MS);
        assert_eq!(times(&mut schedule, now, now - Duration::from_millis(250)), [0, 100, 200]);
        assert_eq!(schedule.next_due(), Some(now + Duration::from_millis(50)));
        assert_eq!(schedule.wants_more_at(), Some(now + Duration::from_millis(650) - READ_AHEAD));
        let later = now + Duration::from_millis(600);
        schedule.add(stretch(71_000, NOW_MS - 4250, false), later, NOW_MS + 600);
        let all = times(&mut schedule, now + DELAY, now);
        let expected: Vec<u64> = (0..17).map(|n| 50 + n * 100).collect();
        assert_eq!(all, expected);
        assert_eq!(schedule.end(), Some(now + Duration::from_millis(1650)));
    }

    #[test]
    fn tracks_are_said_once_and_a_break_only_behind_something() {
        let now = crate::clock::now();
        let mut schedule = Schedule::new(DELAY);
        for (round, broken) in [true, false, true].into_iter().enumerate() {
            let at = round as u64 * 1000;
            schedule.add(stretch(at as i64, NOW_MS - 9000 + at, broken), now, NOW_MS);
        }
        let word = |due: &Due| match due {
            Due::Break => 'b',
            Due::Tracks(_) => 't',
            Due::Frame(_) => 'f',
        };
        let order: String =
            std::iter::from_fn(|| schedule.take(now)).map(|(_, due)| word(&due)).collect();
        assert_eq!(order, format!("t{0}{0}bt{0}", "f".repeat(10)));
    }

    #[test]
    fn a_clock_that_is_set_neither_stops_it_nor_puts_frames_out_of_order() {
        let now = crate::clock::now();
        for step_ms in [-3_600_000i64, 3_600_000] {
            let mut schedule = Schedule::new(DELAY);
            schedule.add(stretch(0, NOW_MS - 5000, false), now, NOW_MS);
            let set = NOW_MS.saturating_add_signed(step_ms);
            schedule.add(stretch(1000, NOW_MS - 4000, false), now, set);
            schedule.add(stretch(2000, set - 3000, true), now, set);
            let all = times(&mut schedule, now + DELAY * 2, now);
            assert_eq!(all.len(), 30);
            assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "{all:?}");
        }
    }
}
