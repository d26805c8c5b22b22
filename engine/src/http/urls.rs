//! Reading what an URL says and writing URLs for answers: percent coding, host and port, queries,
//! and the addresses under which one stream can be played.

use protocols::text::{percent_decode, push_byte};

use crate::config::model::{Config, HostPort};
use crate::http::api::{StatusInfo, StreamInfo};

/// How the caller addressed this server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Addressed {
    /// Host without port or brackets; empty when the request named none.
    pub(crate) host: String,
    /// Port, if the request named one.
    pub(crate) port: Option<u16>,
    /// The request came over TLS.
    pub(crate) secure: bool,
}

/// Splits `host[:port]`; an IPv6 address loses its brackets. `None` when it is neither a name nor
/// an address.
pub(crate) fn parse_host(value: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = value.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        (address, rest)
    } else {
        let end = value.find(':').unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return None;
        }
        (name, rest)
    };
    let port = match rest_port(port)? {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    Some((host.to_owned(), port))
}

fn rest_port(rest: &str) -> Option<&str> {
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

/// Encodes a stream name for the path of an URL; `/` stays.
pub(crate) fn percent_encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        push_byte(&mut out, byte, byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte));
    }
    out
}

/// The first value of `key` in a query string, decoded; `None` when it is absent or broken.
pub(crate) fn query_value(query: &str, key: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    percent_decode(&value.replace('+', " "))
}

/// Type and URL of every way to play a stream, as the caller can reach it.
pub(crate) fn stream_urls(
    stream: &StreamInfo,
    at: &Addressed,
    config: &Config,
    status: &StatusInfo,
) -> Vec<(&'static str, String)> {
    let path = percent_encode(&format!("{}/{}", stream.app, stream.name));
    let host = [&stream.vhost, &at.host, &stream.publisher_host]
        .into_iter()
        .find(|host| !host.is_empty())
        .map_or("localhost", String::as_str);
    let mut urls = Vec::new();
    if config.rtmp.enable {
        let place = authority(stream, host, Some(status.rtmp.port), config.nat.rtmp.as_ref(), 0);
        urls.push(("rtmp", format!("rtmp://{place}/{path}")));
    }
    if config.rtsp.enable && config.rtsp.play {
        let place = authority(stream, host, Some(status.rtsp.port), config.nat.rtsp.as_ref(), 554);
        urls.push(("rtsp", format!("rtsp://{place}/{path}")));
    }
    if config.http.enable {
        // The caller has just come in through this host and port; no port means the usual one.
        let listener = if at.secure { status.https.port } else { status.http.port };
        let port = if at.host.is_empty() { Some(listener) } else { at.port };
        let (nat, usual, s) = if at.secure {
            (config.nat.https.as_ref(), 443, "s")
        } else {
            (config.nat.http.as_ref(), 80, "")
        };
        let place = authority(stream, host, port, nat, usual);
        if config.http.flv {
            urls.push(("http-flv", format!("http{s}://{place}/{path}.flv")));
            urls.push(("ws-flv", format!("ws{s}://{place}/{path}.flv")));
        }
        for (label, extension) in
            [("http-ts", "ts"), ("http-mp4", "mp4"), ("hls", "m3u8"), ("dash", "mpd")]
        {
            urls.push((label, format!("http{s}://{place}/{path}.{extension}")));
        }
    }
    urls
}

/// `host[:port]` for an URL; the mapped address wins, but a vhost keeps its name.
fn authority(
    stream: &StreamInfo,
    host: &str,
    port: Option<u16>,
    nat: Option<&HostPort>,
    usual: u16,
) -> String {
    let host = nat.filter(|_| stream.vhost.is_empty()).map_or(host, |n| n.host.as_str());
    let port = nat.and_then(|n| n.port).or(port).filter(|p| *p != usual);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    port.map_or(host.clone(), |p| format!("{host}:{p}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_and_checked() {
        let ok = |h: &str, p| Some((h.to_owned(), p));
        assert_eq!(parse_host("a.example"), ok("a.example", None));
        assert_eq!(parse_host("a.example:8080"), ok("a.example", Some(8080)));
        assert_eq!(parse_host("[::1]:80"), ok("::1", Some(80)));
        assert_eq!(parse_host("[::1]"), ok("::1", None));
        for bad in ["", ":80", "a b", "a/b", "a:99999", "a:x", "[::1", "[x]", "[::1]80", "é", "::1"]
        {
            assert_eq!(parse_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn percent_coding_goes_there_and_back() {
        for name in ["stream", "a b", "路/径", "100%", "q?#&+"] {
            assert_eq!(percent_decode(&percent_encode(name)).as_deref(), Some(name));
        }
    }

    #[test]
    fn queries_yield_decoded_values() {
        assert_eq!(query_value("a=1&name=x%2Fy+z&b", "name").as_deref(), Some("x/y z"));
        assert_eq!(query_value("a=1&b", "b").as_deref(), Some(""));
        assert_eq!(query_value("ab=1", "a"), None);
    }
}
