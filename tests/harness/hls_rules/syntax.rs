//! The grammar: lines, tags, attributes (4.1 to 4.4). Reads on after a fault as well as it can.

use super::Faults;

/// Nanoseconds; every decimal number of seconds in a playlist is read exactly.
pub(super) type Nanos = u64;

/// A media playlist as it was written.
#[derive(Debug, Default)]
pub(super) struct Playlist {
    pub(super) version: Option<u64>,
    pub(super) target_duration_s: Option<u64>,
    pub(super) media_sequence: u64,
    pub(super) discontinuity_sequence: u64,
    pub(super) kind: Option<String>,
    pub(super) ended: bool,
    pub(super) part_target: Option<Nanos>,
    pub(super) server_control: bool,
    pub(super) can_block_reload: bool,
    pub(super) can_skip_until: Option<Nanos>,
    pub(super) can_skip_dateranges: bool,
    pub(super) hold_back: Option<Nanos>,
    pub(super) part_hold_back: Option<Nanos>,
    pub(super) skipped: Option<u64>,
    pub(super) segments: Vec<Segment>,
    /// The segment without a URI at the end, if tags of one are there.
    pub(super) open: Option<Segment>,
    /// Type and URI.
    pub(super) hints: Vec<(String, String)>,
    pub(super) reports: Vec<Report>,
}

/// A segment: whole, or in the making (no URI).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Segment {
    pub(super) uri: String,
    pub(super) duration: Option<Nanos>,
    pub(super) discontinuity: bool,
    pub(super) gap: bool,
    /// The tag's attributes as they were written; it applies to later segments too.
    pub(super) map: Option<String>,
    pub(super) date_time_ms: Option<i64>,
    pub(super) byte_range: Option<String>,
    pub(super) parts: Vec<Part>,
}

/// A partial segment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) uri: String,
    pub(super) duration: Nanos,
    pub(super) independent: bool,
    pub(super) gap: bool,
}

/// A rendition report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) uri: String,
    pub(super) last_msn: Option<u64>,
    pub(super) last_part: Option<u64>,
}

#[derive(Clone, Copy)]
enum Value {
    Integer,
    Decimal,
    Signed,
    Quoted,
    /// One of the words, separated by `|`.
    Word(&'static str),
}

/// Tag, attribute, form of its value, whether the tag needs it.
const ATTRIBUTES: &[(&str, &str, Value, bool)] = &[
    ("EXT-X-START", "TIME-OFFSET", Value::Signed, true),
    ("EXT-X-START", "PRECISE", Value::Word("YES|NO"), false),
    ("EXT-X-PART-INF", "PART-TARGET", Value::Decimal, true),
    ("EXT-X-SERVER-CONTROL", "CAN-SKIP-UNTIL", Value::Decimal, false),
    ("EXT-X-SERVER-CONTROL", "CAN-SKIP-DATERANGES", Value::Word("YES"), false),
    ("EXT-X-SERVER-CONTROL", "HOLD-BACK", Value::Decimal, false),
    ("EXT-X-SERVER-CONTROL", "PART-HOLD-BACK", Value::Decimal, false),
    ("EXT-X-SERVER-CONTROL", "CAN-BLOCK-RELOAD", Value::Word("YES"), false),
    ("EXT-X-MAP", "URI", Value::Quoted, true),
    ("EXT-X-MAP", "BYTERANGE", Value::Quoted, false),
    ("EXT-X-PART", "URI", Value::Quoted, true),
    ("EXT-X-PART", "DURATION", Value::Decimal, true),
    ("EXT-X-PART", "INDEPENDENT", Value::Word("YES"), false),
    ("EXT-X-PART", "BYTERANGE", Value::Quoted, false),
    ("EXT-X-PART", "GAP", Value::Word("YES"), false),
    ("EXT-X-SKIP", "SKIPPED-SEGMENTS", Value::Integer, true),
    ("EXT-X-SKIP", "RECENTLY-REMOVED-DATERANGES", Value::Quoted, false),
    ("EXT-X-PRELOAD-HINT", "TYPE", Value::Word("PART|MAP"), true),
    ("EXT-X-PRELOAD-HINT", "URI", Value::Quoted, true),
    ("EXT-X-PRELOAD-HINT", "BYTERANGE-START", Value::Integer, false),
    ("EXT-X-PRELOAD-HINT", "BYTERANGE-LENGTH", Value::Integer, false),
    ("EXT-X-RENDITION-REPORT", "URI", Value::Quoted, true),
    ("EXT-X-RENDITION-REPORT", "LAST-MSN", Value::Integer, false),
    ("EXT-X-RENDITION-REPORT", "LAST-PART", Value::Integer, false),
];

/// Tags a media playlist has once at most.
const ONCE: &[&str] = &[
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-SKIP",
];

/// Tags of a multivariant playlist, which a media playlist must not have.
const MULTIVARIANT: &[&str] = &[
    "EXT-X-MEDIA",
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];

/// Reads a playlist and reports what is not grammar.
pub(super) fn parse(text: &str, faults: &mut Faults) -> Playlist {
    let mut reader =
        Reader { playlist: Playlist::default(), next: Segment::default(), seen: vec![] };
    faults.must(text.lines().next() == Some("#EXTM3U"), "4.4.1.1", || {
        "the first line is not #EXTM3U".to_owned()
    });
    faults.must(text.ends_with('\n'), "4.1", || "the last line is not ended".to_owned());
    let control = |c: char| c.is_control() && c != '\n' && c != '\r';
    faults.must(!text.contains(control) && !text.starts_with('\u{feff}'), "4.1", || {
        "a control character or a byte order mark".to_owned()
    });
    for line in text.lines().filter(|line| !line.is_empty()) {
        reader.line(line, faults);
    }
    reader.finish(faults)
}

struct Reader<'a> {
    playlist: Playlist,
    /// The segment whose tags are being read.
    next: Segment,
    seen: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str, faults: &mut Faults) {
        let Some(tag) = line.strip_prefix('#') else {
            return self.uri(line, faults);
        };
        if !tag.starts_with("EXT") {
            return;
        }
        let (name, value) = tag.split_once(':').map_or((tag, None), |(n, v)| (n, Some(v)));
        let again = self.seen.contains(&name) && ONCE.contains(&name);
        faults.must(!again, "4.4.3", || format!("{name} more than once"));
        self.seen.push(name);
        self.tag(name, value, line, faults);
    }

    fn tag(&mut self, name: &str, value: Option<&str>, line: &str, faults: &mut Faults) {
        let text = value.unwrap_or_default();
        match name {
            "EXTM3U" | "EXT-X-INDEPENDENT-SEGMENTS" => bare(name, value, faults),
            "EXT-X-ENDLIST" => {
                bare(name, value, faults);
                self.playlist.ended = true;
            }
            "EXT-X-DISCONTINUITY" | "EXT-X-GAP" => {
                bare(name, value, faults);
                self.before_parts(name, faults);
                self.next.discontinuity |= name == "EXT-X-DISCONTINUITY";
                self.next.gap |= name == "EXT-X-GAP";
            }
            "EXT-X-VERSION" => self.playlist.version = integer(text, line, faults),
            "EXT-X-TARGETDURATION" => self.playlist.target_duration_s = integer(text, line, faults),
            "EXT-X-MEDIA-SEQUENCE" => {
                self.before_segments(name, faults);
                self.playlist.media_sequence = integer(text, line, faults).unwrap_or(0);
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.before_segments(name, faults);
                let late = self.seen.contains(&"EXT-X-DISCONTINUITY");
                faults.must(!late, "4.4.3.3", || format!("{name} after a discontinuity"));
                self.playlist.discontinuity_sequence = integer(text, line, faults).unwrap_or(0);
            }
            "EXT-X-PLAYLIST-TYPE" => {
                faults.must(matches!(text, "EVENT" | "VOD"), "4.4.3.5", || line.to_owned());
                self.playlist.kind = Some(text.to_owned());
            }
            "EXTINF" => {
                let duration = text.split_once(',').and_then(|(duration, _)| nanos(duration));
                faults.must(duration.is_some(), "4.4.4.1", || format!("not an EXTINF: {line}"));
                let twice = self.next.duration.is_some();
                faults.must(!twice, "4.4.4.1", || format!("two EXTINF for one segment: {line}"));
                self.next.duration = duration.or(Some(0));
            }
            "EXT-X-BYTERANGE" => {
                faults.must(is_range(text), "4.4.4.2", || line.to_owned());
                self.next.byte_range = Some(text.to_owned());
            }
            "EXT-X-PROGRAM-DATE-TIME" => {
                self.before_parts(name, faults);
                self.next.date_time_ms = date_time_ms(text);
                let read = self.next.date_time_ms.is_some();
                faults.must(read, "4.4.4.6", || format!("not an ISO 8601 time: {line}"));
            }
            "EXT-X-KEY"
            | "EXT-X-BITRATE"
            | "EXT-X-DATERANGE"
            | "EXT-X-DEFINE"
            | "EXT-X-I-FRAMES-ONLY" => {
                faults.warning("4.4", format!("{name} is not judged here"));
            }
            _ if MULTIVARIANT.contains(&name) => {
                faults.violation("4.4.6", format!("{name} in a media playlist"));
            }
            _ if ATTRIBUTES.iter().any(|(tag, ..)| *tag == name) => {
                let attributes = attributes(name, text, line, faults);
                self.attribute_tag(name, text, &attributes, faults);
            }
            _ => faults.warning("4.1", format!("unknown tag {name}")),
        }
    }

    fn attribute_tag(
        &mut self,
        name: &str,
        text: &str,
        attributes: &[(&str, &str)],
        faults: &mut Faults,
    ) {
        let find = |name: &'static str| {
            attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
        };
        let text_of = |name| find(name).unwrap_or_default().trim_matches('"').to_owned();
        let nanos_of = |name| find(name).and_then(nanos);
        let number_of = |name| find(name).and_then(|value| value.parse().ok());
        let playlist = &mut self.playlist;
        match name {
            "EXT-X-PART-INF" => playlist.part_target = nanos_of("PART-TARGET"),
            "EXT-X-SERVER-CONTROL" => {
                playlist.server_control = true;
                playlist.can_skip_until = nanos_of("CAN-SKIP-UNTIL");
                playlist.can_skip_dateranges = find("CAN-SKIP-DATERANGES").is_some();
                playlist.can_block_reload = find("CAN-BLOCK-RELOAD").is_some();
                playlist.hold_back = nanos_of("HOLD-BACK");
                playlist.part_hold_back = nanos_of("PART-HOLD-BACK");
            }
            "EXT-X-MAP" => {
                self.before_parts(name, faults);
                let range = find("BYTERANGE").map(|range| range.trim_matches('"'));
                let good = range.is_none_or(|range| is_range(range) && range.contains('@'));
                faults.must(good, "4.4.4.5", || format!("byte range of {text}"));
                self.next.map = Some(text.to_owned());
            }
            "EXT-X-PART" => self.next.parts.push(Part {
                uri: text_of("URI"),
                duration: nanos_of("DURATION").unwrap_or(0),
                independent: find("INDEPENDENT").is_some(),
                gap: find("GAP").is_some(),
            }),
            "EXT-X-SKIP" => {
                self.before_segments(name, faults);
                self.playlist.skipped = number_of("SKIPPED-SEGMENTS");
            }
            "EXT-X-PRELOAD-HINT" => playlist.hints.push((text_of("TYPE"), text_of("URI"))),
            "EXT-X-RENDITION-REPORT" => playlist.reports.push(Report {
                uri: text_of("URI"),
                last_msn: number_of("LAST-MSN"),
                last_part: number_of("LAST-PART"),
            }),
            _ => {}
        }
    }

    fn uri(&mut self, line: &str, faults: &mut Faults) {
        let clean = line.bytes().all(|byte| byte.is_ascii_graphic());
        faults.must(clean, "4.1", || format!("not a URI: {line}"));
        let known = self.next.duration.is_some();
        faults.must(known, "4.4.4.1", || format!("a segment without EXTINF: {line}"));
        line.clone_into(&mut self.next.uri);
        let map = self.next.map.clone();
        self.playlist.segments.push(std::mem::take(&mut self.next));
        self.next.map = map;
    }

    fn before_parts(&self, name: &str, faults: &mut Faults) {
        // GAP belongs to the whole segment only and may follow its parts.
        let early = self.next.parts.is_empty() || name == "EXT-X-GAP";
        faults.must(early, "4.4.4.9", || format!("{name} after the first part of its segment"));
    }

    fn before_segments(&self, name: &str, faults: &mut Faults) {
        let early = self.playlist.segments.is_empty() && self.next.parts.is_empty();
        faults.must(early, "4.4.3", || format!("{name} after the first segment"));
    }

    fn finish(mut self, faults: &mut Faults) -> Playlist {
        let next = self.next;
        faults.must(next.duration.is_none(), "4.4.4.1", || "EXTINF without a URI".to_owned());
        if !next.parts.is_empty() {
            self.playlist.open = Some(next);
        } else if next.discontinuity || next.gap || next.date_time_ms.is_some() {
            faults.warning("4.4.4", "tags of a segment that is not there");
        }
        self.playlist
    }
}

fn bare(name: &str, value: Option<&str>, faults: &mut Faults) {
    faults.must(value.is_none(), "4.4", || format!("{name} takes no value"));
}

fn integer(text: &str, line: &str, faults: &mut Faults) -> Option<u64> {
    let value = is_integer(text).then(|| text.parse().ok()).flatten();
    faults.must(value.is_some(), "4.2", || format!("not a decimal integer: {line}"));
    value
}

fn is_integer(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A decimal number of seconds, exactly; `None` if it is none.
fn nanos(text: &str) -> Option<Nanos> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_integer(whole) || !is_integer(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(9 - u32::try_from(fraction.len()).ok()?);
    let nanos = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    nanos.checked_add(fraction.parse::<u64>().ok()? * scale)
}

/// `n` or `n@o`.
fn is_range(text: &str) -> bool {
    let (length, offset) = text.split_once('@').unwrap_or((text, "0"));
    is_integer(length) && is_integer(offset)
}

/// The attribute list (4.2) of a known tag: split, and each value held to its form.
fn attributes<'a>(
    tag: &str,
    text: &'a str,
    line: &str,
    faults: &mut Faults,
) -> Vec<(&'a str, &'a str)> {
    let mut list: Vec<(&str, &str)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((name, tail)) = rest.split_once('=') else {
            faults.violation("4.2", format!("an attribute without a value: {line}"));
            break;
        };
        let quoted = tail.strip_prefix('"').and_then(|inner| inner.find('"')).map(|end| end + 2);
        let end = quoted.or_else(|| tail.find(',')).unwrap_or(tail.len());
        let (value, after) = tail.split_at(end);
        rest = after.strip_prefix(',').unwrap_or_default();
        let stray = !after.is_empty() && (!after.starts_with(',') || rest.is_empty());
        faults.must(!stray, "4.2", || format!("stray text after {name}: {line}"));
        let letters = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
        let sound = !name.is_empty() && name.bytes().all(letters);
        faults.must(sound, "4.2", || format!("attribute name {name:?}: {line}"));
        let twice = list.iter().any(|(known, _)| *known == name);
        faults.must(!twice, "4.2", || format!("{name} twice: {line}"));
        let form = ATTRIBUTES.iter().find(|(of, known, ..)| *of == tag && *known == name);
        match form {
            Some((_, _, form, _)) => faults.must(has_form(value, *form), "4.2", || {
                format!("{name} has no such value: {line}")
            }),
            None => faults.should(!sound, "4.2", || format!("unknown attribute {name}: {line}")),
        }
        list.push((name, value));
    }
    for (_, name, ..) in ATTRIBUTES.iter().filter(|(of, .., needed)| *of == tag && *needed) {
        let there = list.iter().any(|(known, _)| known == name);
        faults.must(there, "4.4", || format!("{name} is missing: {line}"));
    }
    list
}

fn has_form(value: &str, form: Value) -> bool {
    match form {
        Value::Integer => is_integer(value),
        Value::Decimal => nanos(value).is_some(),
        Value::Signed => nanos(value.strip_prefix('-').unwrap_or(value)).is_some(),
        Value::Quoted => {
            let inner = value.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
            inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('"'))
        }
        Value::Word(words) => words.split('|').any(|word| word == value),
    }
}

/// Unix milliseconds of `YYYY-MM-DDThh:mm:ss.SSS` and `Z` or an offset.
pub fn date_time_ms(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        is_integer(digits).then(|| digits.parse().ok()).flatten()
    };
    let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if separators.iter().any(|(at, separator)| text.get(*at..=*at) != Some(*separator)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let lawful = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !lawful || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let fraction_ms = match fraction.strip_prefix('.') {
        Some(digits) if is_integer(digits) => format!("{digits:0<3}").get(..3)?.parse().ok()?,
        None if fraction.is_empty() => 0,
        _ => return None,
    };
    let zone_minutes = match zone {
        "Z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
        }
    };
    // Days since 1970 by counting in years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let minutes = (days * 24 + hour) * 60 + minute - zone_minutes;
    Some((minutes * 60 + second) * 1000 + fraction_ms)
}
