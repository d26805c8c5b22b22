//! Conditional requests (RFC 9110 13): entity tags, dates, and what a request makes of them. Pure.

use std::cell::RefCell;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// A date older than this when it was compared cannot hide a second change (8.8.2.2).
const STRONG_DATE_AGE_S: i64 = 2;

/// What tells one version of a resource from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The strong entity tag, quotes included.
    pub(crate) etag: String,
    /// When it was last modified, in seconds since 1970.
    pub(crate) modified_s: i64,
}

/// The same, and the headers that tell a peer of it.
pub(crate) struct Version {
    validators: Validators,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

impl Version {
    /// Of a strong entity tag, quotes included, and a time in seconds since 1970.
    pub(crate) fn new(etag: String, modified_s: i64) -> Self {
        let header = |text: &str| HeaderValue::from_str(text).ok();
        Self {
            etag: header(&etag),
            last_modified: format_date(modified_s).as_deref().and_then(header),
            validators: Validators { etag, modified_s },
        }
    }

    /// What conditions are compared with.
    pub(crate) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// Sets `ETag` and `Last-Modified`.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        for (name, value) in
            [(header::ETAG, &self.etag), (header::LAST_MODIFIED, &self.last_modified)]
        {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// What becomes of a GET or HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered as if it had no conditions.
    Proceed,
    /// 304: the peer has this version.
    NotModified,
    /// 412: the peer wants another version.
    Failed,
}

/// Evaluates the conditions of a GET or HEAD in the order of RFC 9110 13.2.2; a date that is none
/// is as if it were not there.
pub(crate) fn evaluate(headers: &HeaderMap, validators: &Validators) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !names_tag(headers, header::IF_MATCH, &validators.etag, true) {
            return Verdict::Failed;
        }
    } else if let Some(date) = date_of(headers, header::IF_UNMODIFIED_SINCE)
        && validators.modified_s > date
    {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if has_version(headers, &validators.etag) {
            return Verdict::NotModified;
        }
    } else if let Some(date) = date_of(headers, header::IF_MODIFIED_SINCE)
        && validators.modified_s <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` counts: without `If-Range`, or if that names exactly this version (13.1.5).
/// A date counts only if the file has been at rest for a while before `now_s`.
pub(crate) fn range_counts(headers: &HeaderMap, validators: &Validators, now_s: i64) -> bool {
    let mut values = headers.get_all(header::IF_RANGE).iter();
    let Some(value) = values.next() else { return true };
    let (Ok(value), None) = (value.to_str(), values.next()) else { return false };
    let value = value.trim();
    if value.starts_with('"') || value.starts_with("W/") {
        return value == validators.etag;
    }
    let at_rest = validators.modified_s.saturating_add(STRONG_DATE_AGE_S) <= now_s;
    at_rest && parse_date(value) == Some(validators.modified_s)
}

/// The peer says that it has this version (13.1.2).
pub(crate) fn has_version(headers: &HeaderMap, etag: &str) -> bool {
    names_tag(headers, header::IF_NONE_MATCH, etag, false)
}

/// `*`, or one of the tags of a list is this one; a weak tag counts unless the comparison is
/// `strong` (8.8.3.2).
fn names_tag(headers: &HeaderMap, name: HeaderName, etag: &str, strong: bool) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.into_iter().any(|value| {
        value.trim() == "*" || tags(value).any(|(weak, tag)| tag == etag && !(strong && weak))
    })
}

/// The entity tags of a list, each with its quotes and whether it is weak. A tag may hold commas;
/// what is no tag ends the list.
fn tags(list: &str) -> impl Iterator<Item = (bool, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let end = tag.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = tag.split_at_checked(end)?;
        rest = after;
        Some((weak, tag))
    })
}

fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { parse_date(value.trim()) }
}

/// Seconds since 1970 of an HTTP date in any of its three forms (5.6.7).
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    // The longest form has 33 characters; the parsers need not see more.
    if text.len() > 40 {
        return None;
    }
    if let Ok(zoned) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text) {
        return Some(zoned.as_second());
    }
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = forms.iter().find_map(|form| {
        let broken_down = jiff::fmt::strtime::parse(form, text).ok()?;
        broken_down.to_datetime().ok()
    })?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_second())
}

/// An HTTP date; `None` outside the years 0 to 9999.
pub(crate) fn format_date(unix_s: i64) -> Option<String> {
    let time = jiff::Timestamp::from_second(unix_s).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
}

thread_local! {
    /// The last `Date` of this shard and its second: many answers share one.
    static DATE: RefCell<(i64, HeaderValue)> =
        const { RefCell::new((i64::MIN, HeaderValue::from_static(""))) };
}

/// The `Date` of an answer made now; `None` outside the years 0 to 9999.
pub(crate) fn date_header(now_s: i64) -> Option<HeaderValue> {
    DATE.with_borrow_mut(|(second, value)| {
        if *second != now_s {
            (*second, *value) = (now_s, HeaderValue::try_from(format_date(now_s)?).ok()?);
        }
        Some(value.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SECONDS: i64 = 784_111_777;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn verdict(pairs: &[(HeaderName, &str)]) -> Verdict {
        let validators = Validators { etag: "\"a-b\"".into(), modified_s: SECONDS };
        evaluate(&headers(pairs), &validators)
    }

    #[test]
    fn dates_in_three_forms() {
        for text in [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_date(text), Some(SECONDS), "{text}");
        }
        assert_eq!(format_date(SECONDS).as_deref(), Some(DATE));
        for seconds in [SECONDS, SECONDS, SECONDS + 1, SECONDS] {
            let text = format_date(seconds);
            let value = date_header(seconds);
            assert_eq!(value.as_ref().and_then(|value| value.to_str().ok()), text.as_deref());
        }
        for bad in ["", "yesterday", "1994-11-06", &"x".repeat(10_000)] {
            assert_eq!(parse_date(bad), None, "{bad:.20}");
        }
    }

    #[test]
    fn conditions_in_their_order() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        let before = "Sun, 06 Nov 1994 08:49:36 GMT";
        for (pairs, expected) in [
            (&[][..], Verdict::Proceed),
            (&[(IF_NONE_MATCH, "\"a-b\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x,\", W/\"a-b\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a-b\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "*")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x,\"a-b\"")], Verdict::Proceed),
            (&[(IF_NONE_MATCH, "a-b")], Verdict::Proceed),
            (&[(IF_MODIFIED_SINCE, DATE)], Verdict::NotModified),
            (&[(IF_MODIFIED_SINCE, before)], Verdict::Proceed),
            (&[(IF_MODIFIED_SINCE, "soon")], Verdict::Proceed),
            // A tag outweighs a date.
            (&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, DATE)], Verdict::Proceed),
            (&[(IF_MATCH, "\"a-b\"")], Verdict::Proceed),
            (&[(IF_MATCH, "W/\"a-b\"")], Verdict::Failed),
            (&[(IF_MATCH, "\"x\"")], Verdict::Failed),
            (&[(IF_MATCH, "*"), (IF_UNMODIFIED_SINCE, before)], Verdict::Proceed),
            (&[(IF_UNMODIFIED_SINCE, before)], Verdict::Failed),
            (&[(IF_UNMODIFIED_SINCE, DATE)], Verdict::Proceed),
            (&[(IF_MATCH, "*"), (IF_NONE_MATCH, "\"a-b\"")], Verdict::NotModified),
        ] {
            assert_eq!(verdict(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_range_of_another_version_does_not_count() {
        let validators = Validators { etag: "\"a-b\"".into(), modified_s: SECONDS };
        let counts = |value: &str, now_s| {
            range_counts(&headers(&[(header::IF_RANGE, value)]), &validators, now_s)
        };
        assert!(range_counts(&HeaderMap::new(), &validators, 0));
        assert!(counts("\"a-b\"", 0));
        assert!(counts(DATE, SECONDS + 2));
        assert!(!counts(DATE, SECONDS + 1), "it may have changed again in this second");
        for other in ["W/\"a-b\"", "\"x\"", "Sun, 06 Nov 1994 08:49:38 GMT", "x", ""] {
            assert!(!counts(other, SECONDS + 100), "{other}");
        }
    }

    proptest! {
        #[test]
        fn dates_go_there_and_back(seconds in 0i64..253_402_300_800) {
            prop_assert_eq!(parse_date(&format_date(seconds).unwrap()), Some(seconds));
        }

        #[test]
        fn any_list_of_tags_is_read_to_its_end(list in "[ -~]{0,60}") {
            prop_assert!(tags(&list).count() <= list.len());
            for (_, tag) in tags(&list) {
                prop_assert!(tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"'));
            }
        }
    }
}
