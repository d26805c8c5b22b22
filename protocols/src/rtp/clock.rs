//! Places the RTP timestamps of one track on the timeline of its stream.

use crate::media::Timestamp;

/// A timestamp that moves by more than this, while the packets did not take that long to come,
/// starts a new count.
const JUMP_NANOS: i64 = 10_000_000_000;
/// A shift is worked off within so many times its own length, so that no time runs backwards.
const SHIFT_PACE: i64 = 8;
/// Least step of a track that starts to count anew.
const STEP_NANOS: i64 = 1_000_000;

/// The clock of one track.
#[derive(Debug)]
pub(super) struct TrackClock {
    rate: u32,
    last_ticks: Option<i64>,
    /// A timestamp and its place on the timeline.
    origin: Option<(i64, Timestamp)>,
    /// Nanoseconds that times are still to be moved by.
    shift: i64,
    /// The time given out last, and the arrival it was given out for.
    last: Option<(Timestamp, Timestamp)>,
    last_mapped: i64,
}

impl TrackClock {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, last_ticks: None, origin: None, shift: 0, last: None, last_mapped: 0 }
    }

    /// Ticks per second.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// The 64-bit form of the timestamp of the next packet: as near as can be to the one before.
    pub(super) fn unwrap(&mut self, timestamp: u32) -> i64 {
        let ticks = self.nearest(timestamp);
        self.last_ticks = Some(ticks);
        ticks
    }

    /// The 64-bit form of a timestamp that is no step of the count; it becomes the first one when
    /// there was none.
    pub(super) fn nearest(&mut self, timestamp: u32) -> i64 {
        let last = *self.last_ticks.get_or_insert(i64::from(timestamp));
        last.saturating_add(i64::from(timestamp.wrapping_sub(last as u32).cast_signed()))
    }

    /// The source counts from elsewhere now; time goes on.
    pub(super) fn restart(&mut self) {
        self.last_ticks = None;
        self.origin = None;
        self.shift = 0;
    }

    /// A timestamp and its place, if none is known yet; `false` when one is.
    pub(super) fn set_origin(&mut self, ticks: i64, time: Timestamp) -> bool {
        let unknown = self.origin.is_none() && self.last.is_none();
        if unknown {
            self.origin = Some((ticks, time));
        }
        unknown
    }

    /// Where a timestamp stands, shifts that are still to come included; `None` before the first.
    pub(super) fn place(&self, ticks: i64) -> Option<Timestamp> {
        let (origin, time) = self.origin?;
        let since = Timestamp::from_ticks(ticks.saturating_sub(origin), self.rate).nanos();
        Some(time.offset_nanos(since).offset_nanos(self.shift))
    }

    /// The place of the next access unit, which arrived at `arrival` on the same timeline; `true`
    /// with it when the count started anew.
    pub(super) fn next(&mut self, ticks: i64, arrival: Timestamp) -> (Timestamp, bool) {
        let anew = match (self.origin, self.last) {
            (None, None) => {
                self.origin = Some((ticks, arrival));
                true
            }
            (None, Some((time, then))) => {
                self.origin = Some((ticks, time.offset_nanos((arrival - then).max(STEP_NANOS))));
                true
            }
            (Some((origin, place)), Some((time, then))) => {
                let since = Timestamp::from_ticks(ticks.saturating_sub(origin), self.rate);
                let mapped = place.offset_nanos(since.nanos());
                let (media, real) = (mapped - time, arrival - then);
                let far = |nanos: i64| nanos.saturating_abs() > JUMP_NANOS;
                let jumped = far(media) && far(media.saturating_sub(real));
                if jumped {
                    self.origin = Some((ticks, time.offset_nanos(real.max(STEP_NANOS))));
                    self.shift = 0;
                }
                jumped
            }
            (Some(_), None) => {
                // A report placed the track before its first packet.
                let place = self.place(ticks).unwrap_or(arrival);
                let far = (place - arrival).saturating_abs() > JUMP_NANOS;
                if far {
                    self.origin = Some((ticks, arrival));
                }
                far
            }
        };
        self.work_off(ticks);
        let (origin, place) = self.origin.unwrap_or((ticks, arrival));
        let since = Timestamp::from_ticks(ticks.saturating_sub(origin), self.rate).nanos();
        let time = place.offset_nanos(since);
        self.last = Some((time, arrival));
        self.last_mapped = ticks;
        (time, anew)
    }

    /// Moves all times from the next one on by signed nanoseconds: forward at once when `at_once`,
    /// else bit by bit.
    pub(super) fn shift(&mut self, nanos: i64, at_once: bool) {
        if at_once && nanos > 0 {
            self.origin = self.origin.map(|(ticks, time)| (ticks, time.offset_nanos(nanos)));
        } else {
            self.shift = self.shift.saturating_add(nanos);
        }
    }

    fn work_off(&mut self, ticks: i64) {
        if self.shift == 0 || self.last.is_none() {
            return;
        }
        let progress = Timestamp::from_ticks(ticks.saturating_sub(self.last_mapped), self.rate);
        let most = (progress.nanos() / SHIFT_PACE).max(0);
        let part = self.shift.clamp(-most, most);
        self.origin = self.origin.map(|(ticks, time)| (ticks, time.offset_nanos(part)));
        self.shift -= part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    /// Days of a track with a packet every 10 s: times must be as even as the timestamps.
    fn runs_evenly(rate: u32, days: i64) {
        let mut clock = TrackClock::new(rate);
        let first = u32::MAX - 5 * rate;
        for step in 0..days * 8640 {
            let timestamp = first.wrapping_add((step * 10 * i64::from(rate)) as u32);
            let ticks = clock.unwrap(timestamp);
            let (time, anew) = clock.next(ticks, at(step * 10_000 + step % 7));
            assert_eq!((time, anew), (at(step * 10_000), step == 0), "{rate} Hz, step {step}");
        }
    }

    #[test]
    fn timestamps_wrap_and_time_goes_on() {
        // 2^32 ticks are 13 h 15 m, 24 h 51 m and 149 h; 2^31 milliseconds are 24.8 days.
        runs_evenly(90_000, 25);
        runs_evenly(48_000, 3);
        runs_evenly(8000, 7);
    }

    #[test]
    fn a_jump_of_the_timestamps_is_a_step_of_the_arrival() {
        let mut clock = TrackClock::new(1000);
        assert_eq!(clock.next(5000, at(100)), (at(100), true));
        assert_eq!(clock.next(5040, at(140)), (at(140), false));
        assert_eq!(clock.next(90_000, at(180)), (at(180), true));
        assert_eq!(clock.next(90_040, at(30_180)), (at(220), false));
        // The connection stood still and then delivers what it held.
        assert_eq!(clock.next(90_080, at(30_181)), (at(260), false));
        assert_eq!(clock.next(120_040, at(30_191)), (at(270), true));
        assert_eq!(clock.next(0, at(30_231)), (at(310), true));
        clock.restart();
        assert_eq!(clock.unwrap(77), 77);
        assert_eq!(clock.next(77, at(30_231)), (at(311), true));
    }

    #[test]
    fn shifts_are_worked_off_without_a_step_back() {
        let mut clock = TrackClock::new(1000);
        clock.next(0, at(0));
        clock.shift(-80, false);
        clock.shift(-80_000_000 + 80, false);
        let mut last = at(0);
        for ms in (20..1000).step_by(20) {
            let (time, _) = clock.next(ms, at(ms));
            assert!(time - last > 0);
            last = time;
        }
        assert_eq!(last, at(980 - 80));
        assert_eq!(clock.place(1000), Some(at(920)));
        clock.shift(500_000_000, true);
        assert_eq!(clock.next(1000, at(1000)).0, at(1420));
    }
}
