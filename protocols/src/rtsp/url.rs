//! Request-URIs taken apart: host, app, name and query of the stream, and the track of it.

use crate::text::{query_parameter, split_authority, split_query, split_url};

/// Longest URL taken apart.
const URL_BYTES_MAX: usize = 2048;
/// Names before the number of a track that clients and servers put in control URLs.
const TRACK_NAMES: [&str; 5] = ["trackid", "streamid", "stream", "track", "mediaid"];

/// The stream a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The URL without control part and trailing slash, as the peer wrote it.
    pub url: String,
    /// Host, after a `vhost` parameter.
    pub host: String,
    /// Port, if one is written.
    pub port: Option<u16>,
    /// First path component.
    pub app: String,
    /// Further path components.
    pub name: String,
    /// Query without `?`.
    pub query: String,
}

impl Target {
    /// From a URL without control part. `None`: longer than anything a stream can be called.
    pub fn parse(url: &str) -> Option<Self> {
        if url.len() > URL_BYTES_MAX {
            return None;
        }
        let url = url.trim_end_matches('/');
        let (authority, path, query) = split_url(url);
        let query = query.trim_end_matches('/');
        let (host, port) = split_authority(authority);
        let path = path.trim_matches('/');
        let (app, name) = path.split_once('/').unwrap_or((path, ""));
        Some(Self {
            url: url.to_owned(),
            host: query_parameter(query, "vhost").unwrap_or(host).to_owned(),
            port,
            app: app.to_owned(),
            name: name.trim_start_matches('/').to_owned(),
            query: query.to_owned(),
        })
    }

    /// Both are about the same stream, whatever their queries.
    pub fn is_same_stream(&self, other: &Self) -> bool {
        (&self.app, &self.name) == (&other.app, &other.name)
    }

    /// The URL relative control attributes are resolved against: a path that ends in a slash, so that
    /// those who append and those who resolve (RFC 3986 5.2) come to the same path.
    pub fn content_base(&self) -> String {
        match self.url.split_once('?') {
            Some((path, query)) => format!("{}/?{query}", path.trim_end_matches('/')),
            None => format!("{}/", self.url),
        }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        [&self.url, &self.host, &self.app, &self.name, &self.query]
            .iter()
            .map(|part| part.capacity())
            .sum()
    }
}

/// The URL without its control part, and the control part, if `is_control` takes its last path
/// component for one. The control part stands before the query or, appended by those who do not
/// resolve, behind it.
pub fn split_control(url: &str, is_control: impl Fn(&str) -> bool) -> (String, Option<String>) {
    let url = url.trim_end_matches('/');
    if let Some((base, last)) = url.rsplit_once('/')
        && is_control(last)
    {
        return (base.trim_end_matches('/').to_owned(), Some(last.to_owned()));
    }
    let (path, query) = split_query(url);
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((base, last)) if path.len() < url.len() && is_control(last) => {
            (format!("{}?{query}", base.trim_end_matches('/')), Some(last.to_owned()))
        }
        _ => (url.to_owned(), None),
    }
}

/// The number of a control part such as `trackID=1`.
pub fn track_number(control: &str) -> Option<u8> {
    let (name, number) = control.split_once('=')?;
    let known = TRACK_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    let decimal = number.bytes().all(|byte| byte.is_ascii_digit());
    if known && decimal { number.parse().ok() } else { None }
}

/// A control attribute resolved against the base of its description (RFC 2326 C.1.1): absolute as it
/// is, `*` the base itself, anything else appended.
pub fn resolve(base: &str, control: &str) -> String {
    let absolute = control.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    if absolute {
        control.to_owned()
    } else if control.is_empty() || control == "*" {
        base.to_owned()
    } else if let Some(path) = control.strip_prefix('/') {
        let (scheme, rest) = base.split_once("://").unwrap_or(("rtsp", base));
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        format!("{scheme}://{authority}/{path}")
    } else {
        format!("{}/{control}", base.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(url: &str) -> (String, Option<u8>) {
        let (base, control) = split_control(url, |last| track_number(last).is_some());
        (base, control.and_then(|control| track_number(&control)))
    }

    #[test]
    fn every_form_of_a_control_url() {
        for (url, base, track) in [
            ("rtsp://h/live/x/trackID=1", "rtsp://h/live/x", Some(1)),
            ("rtsp://h/live/x//trackID=1/", "rtsp://h/live/x", Some(1)),
            ("rtsp://h/live/x/streamid=0", "rtsp://h/live/x", Some(0)),
            ("rtsp://h/live/x/Track=2", "rtsp://h/live/x", Some(2)),
            ("rtsp://h/live/track2", "rtsp://h/live/track2", None),
            ("rtsp://h/live/x?token=a/b/trackID=0", "rtsp://h/live/x?token=a/b", Some(0)),
            ("rtsp://h/live/x/?token=a/trackID=0", "rtsp://h/live/x/?token=a", Some(0)),
            ("rtsp://h/live/x/trackID=0?token=a/b", "rtsp://h/live/x?token=a/b", Some(0)),
            ("rtsp://h/live/x?token=a/b", "rtsp://h/live/x?token=a/b", None),
            ("rtsp://h/live/x/", "rtsp://h/live/x", None),
            ("rtsp://h/live/trackID=999", "rtsp://h/live/trackID=999", None),
            ("rtsp://h/live/xtrackID=1", "rtsp://h/live/xtrackID=1", None),
            ("*", "*", None),
            ("", "", None),
            ("/", "", None),
            ("?", "?", None),
        ] {
            assert_eq!(split(url), (base.to_owned(), track), "{url}");
        }
    }

    #[test]
    fn streams_of_urls() {
        for (url, (host, port, app, name, query)) in [
            ("rtsp://h:8554/live/x", ("h", Some(8554), "live", "x", "")),
            ("rtsp://u:p@[::1]/live/a/b/?k=v&vhost=w", ("w", None, "live", "a/b", "k=v&vhost=w")),
            ("rtsp://h/live/x?k=v/", ("h", None, "live", "x", "k=v")),
            ("rtsp://h", ("h", None, "", "", "")),
            ("/live/x", ("", None, "live", "x", "")),
            ("*", ("", None, "*", "", "")),
        ] {
            let target = Target::parse(url).unwrap();
            let got = (&*target.host, target.port, &*target.app, &*target.name, &*target.query);
            assert_eq!(got, (host, port, app, name, query), "{url}");
        }
        assert_eq!(Target::parse(&"a".repeat(URL_BYTES_MAX + 1)), None);
    }

    #[test]
    fn bases_lead_to_the_track_by_either_rule() {
        let base = |url| Target::parse(url).unwrap().content_base();
        assert_eq!(base("rtsp://h/live/x"), "rtsp://h/live/x/");
        assert_eq!(base("rtsp://h/live/x/?a=b"), "rtsp://h/live/x/?a=b");
        let appended = resolve(&base("rtsp://h/live/x?a=b"), "trackID=1");
        assert_eq!(split(&appended), ("rtsp://h/live/x/?a=b".to_owned(), Some(1)));
        assert_eq!(resolve("rtsp://h/a/", "*"), "rtsp://h/a/");
        assert_eq!(resolve("rtsp://h/a/", "rtsp://i/b"), "rtsp://i/b");
        assert_eq!(resolve("rtsp://h:1/a/b?c", "/d"), "rtsp://h:1/d");
    }
}
