//! Where a peer wants to go: `tcUrl`, `app` and stream name taken apart into host, app, name and
//! query. Nothing is decoded or judged here but its length; the engine makes keys of it.

use crate::text::{query_parameter, split_authority, split_query, split_url};

/// Longest host kept.
const HOST_BYTES_MAX: usize = 255;
/// Longest app path, stream name and query kept.
const PART_BYTES_MAX: usize = 2048;
/// The instance name some encoders add for the default instance of an app.
const DEFAULT_INSTANCE: &str = "_definst_";

/// A part was longer than anything a stream key or a token can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address part {part} is longer than {limit} bytes")]
pub struct TooLong {
    /// Which part.
    pub part: &'static str,
    /// The bound.
    pub limit: usize,
}

/// What `connect` said about the destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Host of `tcUrl`, without port and brackets.
    pub host: String,
    /// Port of `tcUrl`.
    pub port: Option<u16>,
    /// First path component of `app` (of `tcUrl` if `app` is empty).
    pub app: String,
    /// Further path components of `app`.
    pub rest: String,
    /// Further path components of `tcUrl`; used when nothing else names a stream.
    pub url_rest: String,
    /// Query of `app`, else of `tcUrl`.
    pub query: String,
}

/// What `publish` or `play` adds to a [`Target`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destination {
    /// Host, after a `vhost` parameter.
    pub host: String,
    /// Stream name.
    pub name: String,
    /// Both queries.
    pub query: String,
}

impl Target {
    /// From the `tcUrl` and `app` of a `connect` (RTMP 1.0, 7.2.1.1).
    ///
    /// # Errors
    /// A part is longer than its bound.
    pub fn parse(tc_url: &str, app: &str) -> Result<Self, TooLong> {
        let (authority, url_path, url_query) = split_url(tc_url);
        let (host, port) = split_authority(authority);
        let (app_path, app_query) = split_query(app);
        let (url_app, url_rest) = split_path(url_path);
        let (mut app, rest) = split_path(app_path);
        if app.is_empty() {
            app = url_app;
        }
        let query = if app_query.is_empty() { url_query } else { app_query };
        Ok(Self {
            host: bounded("host", host, HOST_BYTES_MAX)?,
            port,
            app: bounded("app", app, PART_BYTES_MAX)?,
            rest: bounded("app", rest, PART_BYTES_MAX)?,
            url_rest: bounded("tcUrl", url_rest, PART_BYTES_MAX)?,
            query: bounded("query", query, PART_BYTES_MAX)?,
        })
    }

    /// With the stream name of a `publish` or `play` (RTMP 1.0, 7.2.2.1 and 7.2.2.6).
    ///
    /// # Errors
    /// A part is longer than its bound.
    pub fn join(&self, stream: &str) -> Result<Destination, TooLong> {
        let (name, stream_query) = split_query(stream);
        let name = name.strip_prefix("mp4:").or(name.strip_prefix("flv:")).unwrap_or(name);
        let name = name.strip_prefix('/').unwrap_or(name);
        let name = bounded("name", name, PART_BYTES_MAX)?;
        bounded("query", stream_query, PART_BYTES_MAX)?;
        let name = match (name.is_empty(), self.rest.is_empty()) {
            (false, true) => name,
            (false, false) => format!("{}/{name}", self.rest),
            (true, false) => self.rest.clone(),
            (true, true) => self.url_rest.clone(),
        };
        let query = [self.query.as_str(), stream_query]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("&");
        let vhost = query_parameter(stream_query, "vhost")
            .or_else(|| query_parameter(&self.query, "vhost"));
        let host = match vhost {
            Some(vhost) => bounded("vhost", vhost, HOST_BYTES_MAX)?,
            None => self.host.clone(),
        };
        Ok(Destination { host, name, query })
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        [&self.host, &self.app, &self.rest, &self.url_rest, &self.query]
            .iter()
            .map(|part| part.capacity())
            .sum()
    }
}

/// First component and the rest of a path, without outer slashes and the default instance.
fn split_path(path: &str) -> (&str, &str) {
    let path = path.trim_matches('/');
    let (app, rest) = path.split_once('/').unwrap_or((path, ""));
    let rest = rest.trim_start_matches('/');
    let rest = match rest.strip_prefix(DEFAULT_INSTANCE) {
        Some(after) if after.is_empty() || after.starts_with('/') => after.trim_start_matches('/'),
        _ => rest,
    };
    (app, rest)
}

fn bounded(part: &'static str, text: &str, limit: usize) -> Result<String, TooLong> {
    if text.len() > limit { Err(TooLong { part, limit }) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tcUrl, app, name → host, port, app, name, query.
    type Case = (
        &'static str,
        &'static str,
        &'static str,
        (&'static str, Option<u16>, &'static str, &'static str, &'static str),
    );

    const CASES: &[Case] = &[
        ("rtmp://h/live", "live", "x", ("h", None, "live", "x", "")),
        ("rtmp://h:1936/live", "live", "x", ("h", Some(1936), "live", "x", "")),
        ("rtmps://[::1]:443/live/", "live/", "x", ("::1", Some(443), "live", "x", "")),
        ("rtmp://[fe80::1]/live", "live", "x", ("fe80::1", None, "live", "x", "")),
        ("rtmp://::1/live", "live", "x", ("::1", None, "live", "x", "")),
        ("rtmp://h:99999/live", "live", "x", ("h", None, "live", "x", "")),
        ("rtmp://u:p@h/live", "live", "x", ("h", None, "live", "x", "")),
        ("rtmp://h/live/sub", "live/sub", "x", ("h", None, "live", "sub/x", "")),
        ("rtmp://h/live/_definst_", "live/_definst_", "x", ("h", None, "live", "x", "")),
        ("rtmp://h/live/key", "live/key", "", ("h", None, "live", "key", "")),
        ("rtmp://h/live/key", "live", "", ("h", None, "live", "key", "")),
        ("rtmp://h/live/inst", "live", "x", ("h", None, "live", "x", "")),
        ("rtmp://h/live?a=1", "live?a=1", "x?b=2", ("h", None, "live", "x", "a=1&b=2")),
        ("rtmp://h/live?a=1", "live", "x", ("h", None, "live", "x", "a=1")),
        ("rtmp://h/live", "live", "x?token=t%3D&u", ("h", None, "live", "x", "token=t%3D&u")),
        ("rtmp://h/live", "live?vhost=v", "x", ("v", None, "live", "x", "vhost=v")),
        ("rtmp://h/live", "live?vhost=v", "x?vhost=w", ("w", None, "live", "x", "vhost=v&vhost=w")),
        ("rtmp://h/live", "live", "mp4:x.mp4", ("h", None, "live", "x.mp4", "")),
        ("rtmp://h/live", "live", "flv:x", ("h", None, "live", "x", "")),
        ("rtmp://h/live", "live", "x.flv", ("h", None, "live", "x.flv", "")),
        ("rtmp://h/live", "live", "/x", ("h", None, "live", "x", "")),
        ("rtmp://h/live", "", "x", ("h", None, "live", "x", "")),
        ("", "live", "x", ("", None, "live", "x", "")),
        ("live", "", "x", ("", None, "live", "x", "")),
        ("", "", "", ("", None, "", "", "")),
        ("://", "/", "/", ("", None, "", "", "")),
        ("rtmp://[", "live", "?", ("[", None, "live", "", "")),
    ];

    #[test]
    fn every_form_a_client_sends() {
        for &(tc_url, app, stream, expected) in CASES {
            let target = Target::parse(tc_url, app).unwrap_or_else(|e| panic!("{tc_url}: {e}"));
            let to = target.join(stream).unwrap_or_else(|e| panic!("{stream}: {e}"));
            let got = (&*to.host, target.port, &*target.app, &*to.name, &*to.query);
            assert_eq!(got, expected, "{tc_url} {app} {stream}");
        }
    }

    #[test]
    fn long_parts_are_refused() {
        let long = "a".repeat(PART_BYTES_MAX + 1);
        assert!(Target::parse("", &long).is_err());
        assert!(Target::parse(&format!("rtmp://{long}/live"), "live").is_err());
        let target = Target::parse("rtmp://h/live", "live").unwrap_or_default();
        assert!(target.join(&long).is_err());
        assert!(target.join(&format!("x?{long}")).is_err());
        assert!(target.join(&format!("x?vhost={}", &long[..300])).is_err());
    }
}
