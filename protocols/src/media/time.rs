//! Media time: 64-bit nanoseconds, unwrapped once at ingest and wrapped once at egress.
//!
//! Nanoseconds rather than ticks of a per-track timescale: every timescale up to 1 MHz survives
//! `from_ticks` → `to_ticks` exactly (both round to nearest, and the error is half a nanosecond),
//! so the tracks of a stream, and streams of different protocols, compare without a conversion.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a stream's timeline in nanoseconds; signed, 292 years either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

const NANOS: i128 = 1_000_000_000;

impl Timestamp {
    /// The origin of a timeline.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From ticks of a timescale in Hz, rounded to nearest.
    pub fn from_ticks(ticks: i64, timescale: u32) -> Self {
        Self(div_round(i128::from(ticks) * NANOS, i128::from(timescale.max(1))))
    }

    /// Nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds, rounded to nearest.
    pub fn to_millis(self) -> i64 {
        div_round(i128::from(self.0), 1_000_000)
    }

    /// Ticks of a timescale in Hz, rounded to nearest.
    pub fn to_ticks(self, timescale: u32) -> i64 {
        div_round(i128::from(self.0) * i128::from(timescale), NANOS)
    }

    /// `self - earlier` as a duration; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// This time moved by signed nanoseconds; saturates.
    pub const fn offset_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub for Timestamp {
    /// Signed nanoseconds.
    type Output = i64;
    fn sub(self, rhs: Self) -> i64 {
        self.0.saturating_sub(rhs.0)
    }
}

fn div_round(value: i128, by: i128) -> i64 {
    let half = by / 2;
    let rounded = if value >= 0 { (value + half) / by } else { (value - half) / by };
    i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ticks_survive_the_round_trip(ticks in -(1i64 << 40)..(1i64 << 40), scale in 1u32..1_000_000) {
            // Beyond 292 years either way nanoseconds saturate.
            let ticks = ticks % (i64::from(scale) * 9_000_000_000);
            prop_assert_eq!(Timestamp::from_ticks(ticks, scale).to_ticks(scale), ticks);
        }
    }

    #[test]
    fn rounds_to_nearest_on_both_sides_of_zero() {
        assert_eq!(Timestamp::from_nanos(1_500_000).to_millis(), 2);
        assert_eq!(Timestamp::from_nanos(-1_500_000).to_millis(), -2);
        assert_eq!(Timestamp::from_nanos(1_499_999).to_millis(), 1);
    }
}
