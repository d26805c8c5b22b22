//! Time in the form of NTP: seconds since 1900 with 32 bits of fraction (RFC 3550 4).

use std::time::Duration;

/// Seconds between the eras of NTP (1900) and Unix (1970).
const UNIX_EPOCH_SECONDS: u64 = 2_208_988_800;

/// A point of wall-clock time as sender reports carry it. It wraps in 2036; differences stay right
/// as long as they are below 68 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpTime(u64);

impl NtpTime {
    /// From the 64 bits of the wire.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// From the time since the Unix epoch.
    pub fn from_unix(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs().wrapping_add(UNIX_EPOCH_SECONDS);
        let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds << 32 | fraction)
    }

    /// The 64 bits of the wire.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The middle 32 bits, as receiver reports name a sender report (6.4.1, LSR).
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// This time moved by signed nanoseconds.
    pub fn offset_nanos(self, nanos: i64) -> Self {
        let units = (i128::from(nanos) << 32) / 1_000_000_000;
        // Truncated to 64 bits: the era wraps as the wire does.
        Self(self.0.wrapping_add(units as u64))
    }

    /// `self - earlier` in nanoseconds, negative when `earlier` is later.
    pub fn nanos_since(self, earlier: Self) -> i64 {
        let units = self.0.wrapping_sub(earlier.0).cast_signed();
        let nanos = (i128::from(units) * 1_000_000_000) >> 32;
        i64::try_from(nanos).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_survive_the_end_of_the_era() {
        let before = NtpTime::from_bits(u64::MAX - (1 << 31));
        let after = before.offset_nanos(3_500_000_000);
        assert!(after.bits() < before.bits());
        assert!((after.nanos_since(before) - 3_500_000_000).abs() <= 1);
        assert!((before.nanos_since(after) + 3_500_000_000).abs() <= 1);
        assert_eq!(NtpTime::from_unix(Duration::from_millis(500)).bits(), 0x83aa_7e80_8000_0000);
        assert_eq!(NtpTime::from_bits(0x1122_3344_5566_7788).middle(), 0x3344_5566);
    }
}
