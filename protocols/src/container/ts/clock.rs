//! The 33-bit time stamps of 90 kHz: unwrapped on the way in, wrapped on the way out.

use crate::media::Timestamp;

/// Ticks per second of PTS and DTS.
pub(super) const TICKS_PER_SECOND: u32 = 90_000;
/// Where a time stamp wraps: after 26 hours, 30 minutes and 43 seconds.
pub(super) const WRAP: i64 = 1 << 33;

/// Unwraps the time stamps of one program: each is taken as near as can be to the one before,
/// whichever stream had that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    /// The time of a stamp of 33 bits; the first one is taken as it is.
    pub(super) fn unwrap(&mut self, stamp: u64) -> Timestamp {
        let stamp = (stamp & (WRAP as u64 - 1)) as i64;
        let ticks = match self.last {
            None => stamp,
            Some(last) => {
                // The range of the sum is a multiple of the stamps', so that both may wrap.
                let ahead = stamp.wrapping_sub(last).rem_euclid(WRAP);
                last.wrapping_add(if ahead < WRAP / 2 { ahead } else { ahead - WRAP })
            }
        };
        self.last = Some(ticks);
        Timestamp::from_ticks(ticks, TICKS_PER_SECOND)
    }
}

/// A time as ticks of `rate`, moved by `base_ms` and wrapped after 2^33 · `rate` / 90,000 of them.
/// `rate` is a multiple of 90,000.
pub(super) fn wrapped(time: Timestamp, base_ms: i64, rate: u32) -> u64 {
    let base = base_ms * i64::from(rate / 1000);
    let wrap = WRAP * i64::from(rate / TICKS_PER_SECOND);
    time.to_ticks(rate).saturating_add(base).rem_euclid(wrap).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn steps_of_less_than_half_the_range_are_followed(
            start in 0..WRAP,
            steps in prop::collection::vec(-(WRAP / 2)..WRAP / 2, 1..20),
        ) {
            let mut unwrapper = Unwrapper::default();
            let mut expected = start;
            let of = |ticks| Timestamp::from_ticks(ticks, TICKS_PER_SECOND);
            prop_assert_eq!(unwrapper.unwrap(start as u64), of(start));
            for step in steps {
                expected += step;
                let stamp = wrapped(of(expected), 0, TICKS_PER_SECOND);
                prop_assert_eq!(unwrapper.unwrap(stamp), of(expected));
            }
        }
    }

    #[test]
    fn both_clocks_wrap_together() {
        for ticks in [-91_000, -1, 0, 1, WRAP - 90_000, WRAP - 1, 5 * WRAP + 7] {
            let time = Timestamp::from_ticks(ticks, TICKS_PER_SECOND);
            let stamp = wrapped(time, 1000, TICKS_PER_SECOND);
            assert_eq!(stamp as i64, (ticks + 90_000).rem_euclid(WRAP));
            let pcr = wrapped(time, 1000, TICKS_PER_SECOND * 300);
            assert!(pcr.abs_diff(stamp * 300) <= 1, "{ticks}");
        }
        assert!(wrapped(Timestamp::from_nanos(i64::MIN), 1000, 27_000_000) < 300 << 33);
    }
}
