//! What an address of recordings asks for, in any of the forms that have been in use.
//!
//! | address below `/rec/` | answer |
//! | --------------------- | ------ |
//! | `NAME?cmd=query` | days, one a line |
//! | `NAME?cmd=query&day=D` | pieces of a day, one a line, newest first |
//! | `NAME` | `{"dirs":[days]}` |
//! | `NAME?day=D`, `NAME/D` | `{"files":[pieces]}` |
//! | `NAME.EXT?day=D&time=T`, `NAME?day=D&time=T.EXT`, `NAME?day=D&time=T&ext=EXT`, `NAME/D/T.EXT` | a piece |
//! | `NAME.EXT?day=D` | a day |
//! | `NAME.EXT?start=S&end=E` | a stretch of time, over pieces |
//! | `NAME/D/T/video/init.mp4`, `NAME/D/T/audio/7.m4s` | what a manifest names |
//!
//! D is `YYYY-MM-DD`, T is `hh-mm-ss`, S and E are RFC 3339 or Unix seconds, EXT is `m3u8`, `mpd`
//! or `mp4`. Everything else below `/rec/` belongs to live streams.

use std::ops::Range;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use protocols::container::fmp4::TrackKind;
use protocols::text::percent_decode;

use crate::http::urls;
use crate::record::{PieceName, Shift, looks_like_day, parse_day, parse_time};

/// Longest stretch of time in one answer, in milliseconds: a day with its clock change.
const RANGE_MS_MAX: u64 = 25 * 3_600_000;

/// The form in which media is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An HLS playlist.
    Hls,
    /// A DASH manifest.
    Dash,
    /// One file.
    Mp4,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The days of a stream.
    Days {
        /// One a line; else JSON.
        lines: bool,
    },
    /// The pieces of a day.
    Pieces {
        /// The day.
        day: Date,
        /// One a line, newest first; else JSON in order.
        lines: bool,
    },
    /// A piece.
    Piece {
        /// Which.
        piece: PieceName,
        /// How; `None`: as pieces are listed.
        form: Option<Form>,
    },
    /// Everything in a stretch of time, Unix milliseconds.
    Range {
        /// When.
        window: Range<u64>,
        /// The end is not named: what is still being recorded belongs to it.
        open: bool,
        /// How.
        form: Form,
    },
    /// The initialisation segment of one track.
    Init {
        /// Of which piece.
        piece: PieceName,
        /// The track.
        track: TrackKind,
    },
    /// A segment of one track.
    Segment {
        /// Of which piece.
        piece: PieceName,
        /// The track.
        track: TrackKind,
        /// Its number, from 0.
        number: usize,
    },
}

/// A request for recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The stream's name.
    pub(crate) name: String,
    /// What of it.
    pub(crate) wanted: Wanted,
    /// The answer stands beside its pieces (`NAME/D/T.EXT`), not beside the stream.
    pub(crate) in_day: bool,
}

/// Why an address cannot be answered: a sentence for a person.
pub(crate) type Fault = &'static str;

const BAD_DAY: Fault = "day is not a day of the calendar, written YYYY-MM-DD";
const BAD_TIME: Fault = "time is not a time of the day, written hh-mm-ss";
const BAD_FORM: Fault = "recordings are to be had as m3u8, mpd and mp4";
const BAD_COMMAND: Fault = "the only cmd is query";
const BAD_INSTANT: Fault =
    "start and end are RFC 3339, such as 2024-05-01T10:00:00Z, or Unix seconds";
const EMPTY_RANGE: Fault = "end must lie after start";
const LONG_RANGE: Fault = "one answer holds 24 hours at most";
const BAD_SHIFT: Fault = "shift is two whole numbers, for video and for sound";
const ENCODING: Fault = "the query is not UTF-8 in percent coding";

/// Reads the decoded path below the app, and the query as it came. `None` if recordings have
/// nothing to do with it.
pub(crate) fn parse(path: &str, query: &str, now_unix_ms: u64) -> Option<Result<Asked, Fault>> {
    let parts: Vec<&str> = path.split('/').collect();
    if let Some(asked) = of_day(&parts) {
        return Some(asked);
    }
    match Query::read(query) {
        Ok(query) => of_stream(path, &query, now_unix_ms),
        Err(fault) => Some(Err(fault)),
    }
}

/// The forms with the day in the path.
fn of_day(parts: &[&str]) -> Option<Result<Asked, Fault>> {
    let at = parts.iter().rposition(|part| looks_like_day(part)).filter(|at| *at > 0)?;
    let (name, rest) = parts.split_at_checked(at)?;
    let (day, rest) = rest.split_first()?;
    let name = name.join("/");
    let asked = |wanted, in_day| Asked { name, wanted, in_day };
    let Some(day_found) = parse_day(day) else { return Some(Err(BAD_DAY)) };
    match rest {
        [] | [""] => Some(Ok(asked(Wanted::Pieces { day: day_found, lines: false }, false))),
        [file] => {
            let Some((time, extension)) = file.rsplit_once('.') else {
                return Some(Err(BAD_FORM));
            };
            let Some(form) = form(extension) else { return Some(Err(BAD_FORM)) };
            let Some(piece) = PieceName::parse(day, time) else { return Some(Err(BAD_TIME)) };
            Some(Ok(asked(Wanted::Piece { piece, form: Some(form) }, true)))
        }
        [time, track, file] => {
            let Some(piece) = PieceName::parse(day, time) else { return Some(Err(BAD_TIME)) };
            let track = match *track {
                "video" => TrackKind::Video,
                "audio" => TrackKind::Audio,
                _ => return None,
            };
            let number = file.strip_suffix(".m4s").filter(|digits| digits.len() <= 9);
            let wanted = match (*file, number.and_then(|digits| digits.parse().ok())) {
                ("init.mp4", _) => Wanted::Init { piece, track },
                (_, Some(number)) => Wanted::Segment { piece, track, number },
                _ => return None,
            };
            Some(Ok(asked(wanted, true)))
        }
        _ => None,
    }
}

/// The forms with everything but the name in the query.
fn of_stream(path: &str, query: &Query, now_unix_ms: u64) -> Option<Result<Asked, Fault>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let stem = path.rsplit_once('.').and_then(|(stem, extension)| Some((stem, form(extension)?)));
    let asked = |name: &str, wanted| Asked { name: name.to_owned(), wanted, in_day: false };
    // `time` without `day` means nothing.
    let dated = query.day.is_some() || query.start.is_some() || query.end.is_some();
    match stem {
        Some((name, form)) if dated => {
            Some(query.media(form, now_unix_ms).map(|wanted| asked(name, wanted)))
        }
        Some(_) => None,
        None if is_live_media(path) => None,
        None => Some(query.listing(now_unix_ms).map(|wanted| asked(path, wanted))),
    }
}

/// Names that live outputs use, and no recording.
fn is_live_media(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["flv", "ts", "m4s", "aac", "mp3", "m4a", "m4v"].contains(&extension)
}

fn form(extension: &str) -> Option<Form> {
    match extension {
        "m3u8" => Some(Form::Hls),
        "mpd" => Some(Form::Dash),
        "mp4" => Some(Form::Mp4),
        _ => None,
    }
}

/// The parameters that mean something here, decoded.
#[derive(Debug, Default)]
struct Query {
    command: Option<String>,
    day: Option<String>,
    time: Option<String>,
    extension: Option<String>,
    start: Option<String>,
    end: Option<String>,
}

impl Query {
    /// The first value of each.
    fn read(query: &str) -> Result<Self, Fault> {
        let mut read = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = match key {
                "cmd" => &mut read.command,
                "day" => &mut read.day,
                "time" => &mut read.time,
                "ext" => &mut read.extension,
                "start" => &mut read.start,
                "end" => &mut read.end,
                _ => continue,
            };
            if field.is_none() {
                // The plus of a time zone stays one: none of these values has a space.
                *field = Some(percent_decode(value).ok_or(ENCODING)?);
            }
        }
        Ok(read)
    }

    fn day(&self) -> Result<Option<Date>, Fault> {
        self.day.as_deref().map(|day| parse_day(day).ok_or(BAD_DAY)).transpose()
    }

    /// A name without extension.
    fn listing(&self, now_unix_ms: u64) -> Result<Wanted, Fault> {
        let lines = match self.command.as_deref() {
            None => false,
            Some("query") => true,
            Some(_) => return Err(BAD_COMMAND),
        };
        let form = self.extension.as_deref().map(|text| form(text).ok_or(BAD_FORM)).transpose()?;
        match (self.day()?, &self.time) {
            (None, _) if self.start.is_some() || self.end.is_some() => {
                self.range(form.unwrap_or(Form::Hls), now_unix_ms)
            }
            (None, _) => Ok(Wanted::Days { lines }),
            (Some(day), Some(time)) if !lines => {
                let (time, form) = match time.split_once('.') {
                    Some((time, extension)) => (time, Some(self::form(extension).ok_or(BAD_FORM)?)),
                    None => (time.as_str(), form),
                };
                let time = parse_time(time).ok_or(BAD_TIME)?;
                Ok(Wanted::Piece { piece: PieceName { day, time }, form })
            }
            (Some(day), _) => Ok(Wanted::Pieces { day, lines }),
        }
    }

    /// A name with extension and something that says when.
    fn media(&self, form: Form, now_unix_ms: u64) -> Result<Wanted, Fault> {
        match (self.day()?, &self.time) {
            (Some(day), Some(time)) => {
                // Some callers repeat the extension.
                let bare = time.split_once('.').map_or(time.as_str(), |(bare, _)| bare);
                let time = parse_time(bare).ok_or(BAD_TIME)?;
                Ok(Wanted::Piece { piece: PieceName { day, time }, form: Some(form) })
            }
            (Some(day), None) => {
                let midnight = |day: Date| {
                    let zoned = day.to_zoned(TimeZone::system()).map_err(|_| BAD_DAY)?;
                    u64::try_from(zoned.timestamp().as_millisecond()).map_err(|_| BAD_DAY)
                };
                let next = day.tomorrow().map_err(|_| BAD_DAY)?;
                let window = midnight(day)?..midnight(next)?;
                let open = window.contains(&now_unix_ms);
                Ok(Wanted::Range { window, open, form })
            }
            (None, _) => self.range(form, now_unix_ms),
        }
    }

    fn range(&self, form: Form, now_unix_ms: u64) -> Result<Wanted, Fault> {
        let read = |text: &Option<String>| {
            text.as_deref().map(|text| instant(text).ok_or(BAD_INSTANT)).transpose()
        };
        let (start, end) = match (read(&self.start)?, read(&self.end)?) {
            (Some(start), Some(end)) => (start, Some(end)),
            (Some(start), None) => (start, None),
            (None, Some(end)) => (end.saturating_sub(RANGE_MS_MAX), Some(end)),
            (None, None) => return Err(BAD_INSTANT),
        };
        let last = start.saturating_add(RANGE_MS_MAX);
        if end.is_some_and(|end| end <= start) {
            return Err(EMPTY_RANGE);
        }
        if end.is_some_and(|end| end > last) {
            return Err(LONG_RANGE);
        }
        let end = end.unwrap_or(last);
        Ok(Wanted::Range { window: start..end, open: end > now_unix_ms, form })
    }
}

/// How the times of a piece are to be shifted: ticks of video and of sound; by nothing if the query
/// does not say.
pub(crate) fn shift(query: &str) -> Result<Shift, Fault> {
    let Some(text) = urls::query_value(query, "shift") else { return Ok([0; 2]) };
    let ticks = |text: &str| text.parse().ok().filter(|ticks: &i64| ticks.abs() < 1 << 53);
    let both = text.split_once(',').and_then(|(video, audio)| Some([ticks(video)?, ticks(audio)?]));
    both.ok_or(BAD_SHIFT)
}

/// RFC 3339, or Unix seconds, as Unix milliseconds.
fn instant(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok()?.checked_mul(1000).filter(|ms| *ms < 1 << 53);
    }
    // A plus that was decoded twice has become a space.
    let time: jiff::Timestamp = text.replace(' ', "+").parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// The query without what this server reads of it: what goes with every address of an answer, so
/// that a viewer's token reaches the media.
pub(crate) fn passed_on(query: &str) -> String {
    let own = ["cmd", "day", "time", "ext", "start", "end", "shift"];
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.filter(|pair| !own.contains(&pair.split('=').next().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_714_557_600_000;

    fn asked(path: &str, query: &str) -> Option<Result<Asked, Fault>> {
        parse(path, query, NOW)
    }

    fn wanted(path: &str, query: &str) -> (String, Wanted) {
        let asked = asked(path, query).expect("ours").expect("sound");
        (asked.name, asked.wanted)
    }

    #[test]
    fn every_form_that_has_been_in_use_is_read() {
        let day = parse_day("2024-05-01").unwrap();
        let piece = PieceName::parse("2024-05-01", "21-41-06").unwrap();
        let name = || "a/b".to_owned();
        let days = |lines| (name(), Wanted::Days { lines });
        assert_eq!(wanted("a/b", "cmd=query"), days(true));
        assert_eq!(wanted("a/b", ""), days(false));
        assert_eq!(wanted("a/b/", "token=1"), days(false));
        let pieces = |lines| (name(), Wanted::Pieces { day, lines });
        assert_eq!(wanted("a/b", "cmd=query&day=2024-05-01"), pieces(true));
        assert_eq!(wanted("a/b", "day=2024-05-01"), pieces(false));
        assert_eq!(wanted("a/b/2024-05-01", ""), pieces(false));
        let of = |form| (name(), Wanted::Piece { piece, form });
        let hls = || of(Some(Form::Hls));
        assert_eq!(wanted("a/b.m3u8", "day=2024-05-01&time=21-41-06"), hls());
        assert_eq!(wanted("a/b.m3u8", "day=2024-05-01&time=21-41-06.m3u8"), hls());
        assert_eq!(wanted("a/b", "day=2024-05-01&time=21-41-06.m3u8"), hls());
        assert_eq!(wanted("a/b", "day=2024-05-01&time=21-41-06&ext=m3u8"), hls());
        assert_eq!(wanted("a/b/2024-05-01/21-41-06.m3u8", ""), hls());
        assert_eq!(wanted("a/b", "day=2024-05-01&time=21-41-06"), of(None));
        assert_eq!(wanted("a/b.mpd", "day=2024-05-01&time=21-41-06"), of(Some(Form::Dash)));
        assert_eq!(wanted("a/b/2024-05-01/21-41-06.mpd", ""), of(Some(Form::Dash)));
        assert_eq!(wanted("a/b/2024-05-01/21-41-06.mp4", ""), of(Some(Form::Mp4)));
        let track = TrackKind::Audio;
        let segment = Wanted::Segment { piece, track, number: 7 };
        assert_eq!(wanted("a/b/2024-05-01/21-41-06/audio/7.m4s", ""), (name(), segment));
        let init = Wanted::Init { piece, track: TrackKind::Video };
        assert_eq!(wanted("a/b/2024-05-01/21-41-06/video/init.mp4", ""), (name(), init));
    }

    #[test]
    fn stretches_of_time_have_zones_and_ends() {
        let window = |query: &str| match wanted("x.mp4", query).1 {
            Wanted::Range { window, open, form: Form::Mp4 } => (window, open),
            other => panic!("{other:?}"),
        };
        let (from, to) = (NOW - 3_600_000, NOW - 1_800_000);
        for query in [
            "start=2024-05-01T09:00:00Z&end=2024-05-01T09:30:00Z",
            "start=2024-05-01T11:00:00%2B02:00&end=2024-05-01T11:30:00+02:00",
            "start=1714554000&end=1714555800",
        ] {
            assert_eq!(window(query), (from..to, false), "{query}");
        }
        let (open_end, open) = window("start=1714554000");
        assert!(open && open_end.start == from && open_end.end > NOW);
        let (day, _) = window("day=2024-04-30");
        assert!((23..=25).contains(&((day.end - day.start) / 3_600_000)));
        let bad = |query: &str| asked("x.m3u8", query).expect("ours").expect_err(query);
        assert_eq!(bad("start=yesterday"), BAD_INSTANT);
        assert_eq!(bad("start=1714554000&end=1714554000"), EMPTY_RANGE);
        assert_eq!(bad("start=1714554000&end=1724554000"), LONG_RANGE);
        assert_eq!(bad("start=99999999999999999999"), BAD_INSTANT);
    }

    #[test]
    fn live_streams_are_left_alone() {
        for (path, query) in [
            ("x.m3u8", ""),
            ("x.m3u8", "time=21-41-06"),
            ("x.mpd", "token=1"),
            ("x.mp4", ""),
            ("x/12.m4s", ""),
            ("x.ts", ""),
            ("x/2024-05-01/21-41-06/other/7.m4s", ""),
        ] {
            assert_eq!(asked(path, query), None, "{path}?{query}");
        }
        // Ignored too where a listing is asked for.
        assert_eq!(wanted("x", "time=21-41-06").1, Wanted::Days { lines: false });
    }

    #[test]
    fn what_is_no_day_or_time_is_said() {
        for (path, query, fault) in [
            ("x", "day=..", BAD_DAY),
            ("x", "day=", BAD_DAY),
            ("x", "day=2024-02-31", BAD_DAY),
            ("x", "day=9223372036854775808", BAD_DAY),
            ("x", "day=*", BAD_DAY),
            ("x", "day=/etc", BAD_DAY),
            ("x/2024-02-31", "", BAD_DAY),
            ("x.m3u8", "day=2024-05-01&time=../../x", BAD_TIME),
            ("x.m3u8", "day=2024-05-01&time=25-00-00", BAD_TIME),
            ("x", "day=2024-05-01&time=21-41-06.exe", BAD_FORM),
            ("x", "day=2024-05-01&time=21-41-06&ext=exe", BAD_FORM),
            ("x/2024-05-01/21-41-06.idx", "", BAD_FORM),
            ("x/2024-05-01/..", "", BAD_FORM),
            ("x/2024-05-01/99-41-06.mp4", "", BAD_TIME),
            ("x", "cmd=drop", BAD_COMMAND),
            ("x", "day=%ff", ENCODING),
        ] {
            assert_eq!(asked(path, query), Some(Err(fault)), "{path}?{query}");
        }
    }

    #[test]
    fn shifts_are_two_numbers() {
        assert_eq!(shift("token=1"), Ok([0, 0]));
        assert_eq!(shift("shift=-5,9007199254740991"), Ok([-5, 9_007_199_254_740_991]));
        for text in ["", "1", "1,", "a,b", "1,2,3", "9007199254740992,0", "1e3,0"] {
            assert_eq!(shift(&format!("shift={text}")), Err(BAD_SHIFT), "{text}");
        }
    }

    #[test]
    fn a_token_is_passed_on_and_nothing_else_of_ours() {
        let query = "day=2024-05-01&token=a%20b&time=21-41-06&user=x&start=1&vhost=v";
        assert_eq!(passed_on(query), "token=a%20b&user=x&vhost=v");
        assert_eq!(passed_on(""), "");
    }
}
