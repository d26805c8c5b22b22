//! The only place that reads the clock: monotonic time for every decision, wall time for display.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic now.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock in milliseconds since the Unix epoch; for display and file names only.
#[must_use]
pub fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The same as dates are reckoned with, which may also lie before the epoch.
#[must_use]
pub fn signed_unix_millis() -> i64 {
    i64::try_from(unix_millis()).unwrap_or(i64::MAX)
}
