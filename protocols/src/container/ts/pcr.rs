//! When the program clock is told, and what it says (2.4.2.2, 2.7.2).

use super::clock::{TICKS_PER_SECOND, wrapped};
use super::packet::{CLOCK_RATIO, Pid};
use crate::media::Timestamp;

/// What is added to every time in a written stream, in milliseconds: a stream may begin this much
/// before its zero, less [`PCR_DELAY_MS`], and no clock or time stamp wraps below theirs.
pub const TIME_BASE_MS: i64 = 1000;
/// How far the clock is behind the decode time of the picture it stands at: how late sound may
/// come behind its picture, and how long a decoder that obeys the clock waits.
pub const PCR_DELAY_MS: i64 = 200;

/// The clock is told again after this time at the next picture.
const INTERVAL_MS: i64 = 40;
/// The clock is told between pictures, at a sound, after this time.
const GAP_MS: i64 = 80;
/// How far sound is believed to be ahead of pictures that do not come when they should.
const AUDIO_LEAD_MS: i64 = 300;
/// A step back by more than this is a timeline that began anew.
const RESTART_MS: i64 = 1000;

/// The clock of a written program.
#[derive(Debug, Default)]
pub(super) struct ProgramClock {
    /// The decode time that the clock was told for last.
    last: Option<Timestamp>,
    last_picture: Option<Timestamp>,
    /// Between the last two pictures.
    picture_interval_nanos: i64,
}

impl ProgramClock {
    /// What comes next does not go on from before.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// The clock to be told in the first packet of a frame of `pid`, the one that carries it: if it
    /// is time, or the frame is one to begin at. It never goes back unless the timeline began anew,
    /// which the packet then says.
    pub(super) fn at_frame(&mut self, pid: &mut Pid, dts: Timestamp, begin: bool) -> Option<u64> {
        if let Some(before) = self.last_picture.replace(dts) {
            self.picture_interval_nanos = dts - before;
        }
        if let Some(last) = self.last {
            let since = dts - last;
            if since < -nanos(RESTART_MS) {
                pid.discontinuity = true;
            } else if since < nanos(INTERVAL_MS) && !(begin && since > 0) {
                return None;
            }
        }
        self.last = Some(dts);
        Some(clock(dts))
    }

    /// The clock to be told at a sound because pictures are rare: up to where the next picture is
    /// expected, and beyond that well behind the sound.
    pub(super) fn between(&mut self, dts: Timestamp) -> Option<u64> {
        let picture = self.last_picture?;
        let expected = picture.offset_nanos(self.picture_interval_nanos);
        let time = dts.min(expected).max(dts.offset_nanos(-nanos(AUDIO_LEAD_MS)));
        if self.last.is_some_and(|last| time - last < nanos(GAP_MS)) {
            return None;
        }
        self.last = Some(time);
        Some(clock(time))
    }
}

const fn nanos(ms: i64) -> i64 {
    ms * 1_000_000
}

/// Ticks of 27 MHz.
fn clock(time: Timestamp) -> u64 {
    wrapped(time, TIME_BASE_MS - PCR_DELAY_MS, TICKS_PER_SECOND * CLOCK_RATIO as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn told(ms: i64) -> Option<u64> {
        Some((ms + TIME_BASE_MS - PCR_DELAY_MS) as u64 * 27_000)
    }

    #[test]
    fn pictures_tell_it_in_time_and_at_each_beginning() {
        let (mut clock, mut pid) = (ProgramClock::default(), Pid::new(1));
        let mut frame = |ms, begin| clock.at_frame(&mut pid, at(ms), begin);
        assert_eq!(frame(2000, false), told(2000));
        assert_eq!((frame(2039, false), frame(2040, false)), (None, told(2040)));
        assert_eq!((frame(2050, true), frame(2050, true)), (told(2050), None));
        assert_eq!(frame(1050, true), None);
        assert!(!pid.discontinuity);
        assert_eq!(clock.at_frame(&mut pid, at(1049), false), told(1049));
        assert!(pid.discontinuity);
    }

    #[test]
    fn sound_tells_it_between_rare_pictures() {
        let (mut clock, mut pid) = (ProgramClock::default(), Pid::new(1));
        assert_eq!(clock.between(at(0)), None);
        clock.at_frame(&mut pid, at(0), true);
        clock.at_frame(&mut pid, at(500), false);
        assert_eq!((clock.between(at(579)), clock.between(at(580))), (None, told(580)));
        // Not beyond the picture expected at 1000, then 300 ms behind.
        assert_eq!((clock.between(at(1100)), clock.between(at(1200))), (told(1000), None));
        assert_eq!(clock.between(at(1380)), told(1080));
        // A picture that comes late, but before what was told, tells nothing.
        assert_eq!(clock.at_frame(&mut pid, at(1079), true), None);
    }
}
