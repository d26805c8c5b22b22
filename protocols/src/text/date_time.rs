//! Civil time from Unix time, as ISO 8601 and `xs:dateTime` write it.

use std::fmt::{self, Display};

/// UTC with milliseconds: `2024-07-11T01:14:00.250Z`. Times before 1970 or beyond the end of
/// 9999 are moved to the nearest that can be written.
pub fn date_time(unix_ms: i64) -> impl Display {
    let time = jiff::Timestamp::from_millisecond(unix_ms.max(0)).unwrap_or(jiff::Timestamp::MAX);
    fmt::from_fn(move |f| write!(f, "{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: `date -u -d @SECONDS +%FT%T`.
    #[test]
    fn milliseconds_are_always_there() {
        assert_eq!(date_time(1_709_210_096_007).to_string(), "2024-02-29T12:34:56.007Z");
        assert_eq!(date_time(1_767_225_600_000).to_string(), "2026-01-01T00:00:00.000Z");
        assert_eq!(date_time(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn no_time_leaves_the_form() {
        assert_eq!(date_time(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(date_time(i64::MAX).to_string(), "9999-12-30T22:00:00.999Z");
    }
}
