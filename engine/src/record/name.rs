//! What recordings are called: folders of streams, days, and pieces by the time they begin.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use protocols::media::StreamKey;

/// The folder of streams of the default vhost.
pub const DEFAULT_VHOST: &str = "default";
/// The file that holds the media.
pub(crate) const MEDIA_EXTENSION: &str = "mp4";
/// The file beside it that says what lies where.
pub(crate) const INDEX_EXTENSION: &str = "idx";

/// The folder of one stream beneath that of all recordings: `VHOST/NAME`. Made of checked names
/// only, so that it cannot leave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// The place of the recordings of a stream: its name, with the app in front if it is not the
    /// recorded one.
    #[must_use]
    pub fn of(key: &StreamKey, rec_app: &str) -> Self {
        let vhost = folder_of_vhost(key.vhost());
        let place = if key.app() == rec_app {
            format!("{vhost}/{}", key.name())
        } else {
            format!("{vhost}/{}/{}", key.app(), key.name())
        };
        Self(place.into())
    }

    /// The place of a name somebody asks for; `None` if no stream can have it.
    #[must_use]
    pub fn find(vhost: &str, name: &str) -> Option<Self> {
        // Names of streams of other apps have the app in front, and may be that much longer.
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let key =
            StreamKey::new(vhost, "rec", name).or_else(|_| StreamKey::new(vhost, first, rest));
        let key = key.ok()?;
        Some(Self(format!("{}/{name}", folder_of_vhost(key.vhost())).into()))
    }

    /// The path of the folder.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.0
    }

    /// The name under which it is found.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of a vhost; the default one has no name.
#[must_use]
pub(super) fn folder_of_vhost(vhost: &str) -> &str {
    if vhost.is_empty() { DEFAULT_VHOST } else { vhost }
}

/// A piece of the recording of a stream: the local day and second at which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceName {
    /// Its day.
    pub day: Date,
    /// Its time.
    pub time: Time,
}

impl PieceName {
    /// The name of a piece that begins then. Reads the time zone, perhaps from a disk.
    #[must_use]
    pub fn at(unix_ms: u64) -> Self {
        let local = i64::try_from(unix_ms).ok();
        let local = local.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let local = local.unwrap_or_default().to_zoned(TimeZone::system());
        let time = local.time();
        Self { day: local.date(), time: time.with().subsec_nanosecond(0).build().unwrap_or(time) }
    }

    /// The piece of a day and a time as they are written.
    #[must_use]
    pub fn parse(day: &str, time: &str) -> Option<Self> {
        Some(Self { day: parse_day(day)?, time: parse_time(time)? })
    }

    /// When it begins, by its name: an hour of the autumn has two such moments.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        let zoned = self.day.to_datetime(self.time).to_zoned(TimeZone::system());
        zoned.map_or(0, |zoned| u64::try_from(zoned.timestamp().as_millisecond()).unwrap_or(0))
    }

    /// The name of its day's folder.
    #[must_use]
    pub fn day_text(&self) -> String {
        day_text(self.day)
    }

    /// The name of its files without extension.
    #[must_use]
    pub fn time_text(&self) -> String {
        let time = self.time;
        format!("{:02}-{:02}-{:02}", time.hour(), time.minute(), time.second())
    }

    /// Both, as part of a file name.
    #[must_use]
    pub fn file_text(&self) -> String {
        format!("{}_{}", self.day_text(), self.time_text())
    }

    /// The name of its file with the media.
    #[must_use]
    pub fn media_file(&self) -> String {
        format!("{}.{MEDIA_EXTENSION}", self.time_text())
    }

    /// The name of its index.
    #[must_use]
    pub fn index_file(&self) -> String {
        format!("{}.{INDEX_EXTENSION}", self.time_text())
    }

    /// The name a second later.
    #[must_use]
    pub fn next(&self) -> Self {
        let at = self.day.to_datetime(self.time);
        let at = at.checked_add(jiff::SignedDuration::from_secs(1)).unwrap_or(at);
        Self { day: at.date(), time: at.time() }
    }
}

/// `YYYY-MM-DD`.
#[must_use]
pub fn day_text(day: Date) -> String {
    format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day())
}

/// A text has the form of a day, real or not.
#[must_use]
pub fn looks_like_day(text: &str) -> bool {
    numbers::<3>(text).is_some() && text.len() == 10 && text.as_bytes()[4] == b'-'
}

/// Reads `YYYY-MM-DD`; only days that exist.
#[must_use]
pub fn parse_day(text: &str) -> Option<Date> {
    let [year, month, day] = numbers(text).filter(|_| looks_like_day(text))?;
    let small = |number| i8::try_from(number).ok();
    Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()
}

/// Reads `hh-mm-ss`.
#[must_use]
pub fn parse_time(text: &str) -> Option<Time> {
    let [hour, minute, second] = numbers(text).filter(|_| text.len() == 8)?;
    let small = |number| i8::try_from(number).ok();
    Time::new(small(hour)?, small(minute)?, small(second)?, 0).ok()
}

/// Numbers of digits with dashes between them, none of them single.
fn numbers<const N: usize>(text: &str) -> Option<[u16; N]> {
    let mut found = [0; N];
    let mut parts = text.split('-');
    for number in &mut found {
        let part = parts.next()?;
        let digits = (2..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        *number = part.parse().ok().filter(|_| digits)?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_exact() {
        assert_eq!(parse_day("2024-02-29").map(day_text).as_deref(), Some("2024-02-29"));
        for day in [
            "2023-02-29",
            "2024-02-31",
            "2024-13-01",
            "2024-2-1",
            "24-02-01",
            "202-402-01",
            "2024-02-01x",
            "2024/02/01",
            "../2024-02",
            "+024-02-01",
            "18446744073709551616",
            "*",
            "",
        ] {
            assert_eq!(parse_day(day), None, "{day}");
        }
        let name = PieceName::parse("2024-02-29", "21-41-06").unwrap();
        assert_eq!(
            (name.time_text(), name.media_file()),
            ("21-41-06".into(), "21-41-06.mp4".into())
        );
        for time in
            ["24-00-00", "21-60-00", "21-41-60", "21-41", "1-1-1", "21:41:06", "21-41-06.", ""]
        {
            assert_eq!(parse_time(time), None, "{time}");
        }
    }

    #[test]
    fn pieces_are_ordered_in_time_and_a_second_apart() {
        let last = PieceName::parse("2024-12-31", "23-59-59").unwrap();
        let next = last.next();
        assert_eq!((next.day_text(), next.time_text()), ("2025-01-01".into(), "00-00-00".into()));
        assert!(last < next);
        let now = PieceName::at(1_709_210_096_007);
        assert_eq!(now.unix_ms(), 1_709_210_096_000);
    }

    #[test]
    fn places_cannot_leave_their_folder() {
        let key = |vhost, app, name| StreamKey::new(vhost, app, name).unwrap();
        assert_eq!(Place::of(&key("", "rec", "cam/1"), "rec").folder(), "default/cam/1");
        assert_eq!(Place::of(&key("A.example", "rec", "x"), "rec").folder(), "a.example/x");
        assert_eq!(Place::of(&key("", "live", "x"), "rec").folder(), "default/live/x");
        assert_eq!(Place::find("", "live/x").unwrap().name(), "live/x");
        let long = "n".repeat(255);
        assert!(Place::find("", &format!("live/{long}")).is_some());
        for name in ["", "..", "a/../b", "/etc", ".x", "a//b", "a\0b", "a%2f", "a\\b"] {
            assert_eq!(Place::find("", name), None, "{name:?}");
        }
        assert_eq!(Place::find("..", "x"), None);
    }
}
