//! Edge: streams that are not here are fetched from origins when somebody asks for them.
//!
//! A rule of the policy names the origins of an app. The first request for an unknown stream of it,
//! on any shard, makes its owner shard pull it like any source (`crate::pull`), whatever number of
//! requests follow; what no origin has is remembered for a moment. What is here is pure: which
//! origin a stream is asked of, and which are well. `shard::edge` does it.

mod health;

use std::path::PathBuf;
use std::time::Duration;

use protocols::media::StreamKey;
use protocols::text::push_uri;

use crate::config::Line;
use crate::pull::{Entry, EntryError, Remote, Scheme, Source, Transport};

pub use health::Health;

/// The origins of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// App of the streams that are fetched.
    pub app: String,
    /// URLs of the app there, as written: not to be shown.
    pub urls: Vec<String>,
    /// How long a stream stays after its last viewer.
    pub linger: Duration,
    /// How RTP travels.
    pub transport: Transport,
    /// PEM file of the authorities to trust, instead of those of the configuration.
    pub ca: Option<PathBuf>,
    /// Link-local addresses may be dialled.
    pub local: bool,
    /// Line of the file.
    pub line: Line,
}

/// Whether streams can be fetched from below `url`.
///
/// # Errors
/// What it should be.
pub fn check(url: &str) -> Result<(), EntryError> {
    match Source::parse(&stream_url(url, "", "x"))? {
        Source::Remote(_) if !url.contains('?') => Ok(()),
        Source::Remote(_) | Source::File(_) => Err(EntryError::Form),
    }
}

impl Origins {
    /// Streams of this key are fetched by these rules.
    #[must_use]
    pub fn cover(&self, key: &StreamKey) -> bool {
        key.app() == self.app && key.delay_s() == 0
    }

    /// What a pull of the stream from one of the origins is; `None` if its name cannot be in a URL.
    #[must_use]
    pub fn entry(&self, origin: usize, key: &StreamKey) -> Option<Entry> {
        let url = stream_url(self.urls.get(origin)?, key.vhost(), key.name());
        Some(Entry {
            source: Source::parse(&url).ok()?,
            vhost: key.vhost().to_owned(),
            app: key.app().to_owned(),
            name: key.name().to_owned(),
            always: false,
            transport: self.transport,
            linger: self.linger,
            ca: self.ca.clone(),
            local: self.local,
            once: false,
            line: self.line,
        })
    }

    /// The origins in the order in which the stream is asked of them: rendezvous hashing, so that
    /// each stream has one origin all edges agree on, and the loss of one moves its streams alone.
    #[must_use]
    pub fn ranked(&self, key: &StreamKey) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.urls.len()).collect();
        ranked.sort_by_key(|&origin| std::cmp::Reverse(weight(&self.urls[origin], key)));
        ranked
    }

    /// Some origin is within TLS.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.urls.iter().any(|url| {
            let sealed = |remote: &Remote| remote.tls;
            let source = Source::parse(&stream_url(url, "", "x"));
            matches!(source, Ok(Source::Remote(remote)) if sealed(&remote))
        })
    }
}

/// The URL of a stream below that of an app; FLV by HTTP has an ending.
fn stream_url(base: &str, vhost: &str, name: &str) -> String {
    let base = base.trim_end_matches('/');
    let http = base.split_once("://").is_some_and(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    let mut url = format!("{base}/");
    let query = if vhost.is_empty() { String::new() } else { format!("vhost={vhost}") };
    push_uri(&mut url, &format!("{name}{}", if http { ".flv" } else { "" }), &query);
    url
}

/// The same on every edge, in every process.
fn weight(url: &str, key: &StreamKey) -> u64 {
    // FNV-1a of the URL, then the finaliser of SplitMix64 over both.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let url = url.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let mut z = url ^ key.stable_hash();
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whom a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// This server alone.
    Us,
    /// The stream: the origin is well, and does not have it, or not for us.
    Stream,
    /// The origin.
    Origin,
}

/// Whom the reason of a failure is about.
#[must_use]
pub fn blame(reason: &str, scheme: Scheme) -> Blame {
    match reason {
        "connections" | "poller" | "resolver_busy" | "stream_busy" | "overloaded"
        | "superseded" | "kicked" | "shutting_down" | "panic" => Blame::Us,
        "stream_not_found" | "server_refused" | "unauthorised" | "loop" | "source_ended"
        | "publisher_gone" | "no_tracks" | "unsupported_codec" | "bad_media" => Blame::Stream,
        // Many RTMP servers let a player of a missing stream wait.
        "start_timeout" if scheme == Scheme::Rtmp => Blame::Stream,
        _ => Blame::Origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(urls: &[&str]) -> Origins {
        Origins {
            app: "live".to_owned(),
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            linger: Duration::from_secs(10),
            transport: Transport::Tcp,
            ca: None,
            local: false,
            line: Line(1),
        }
    }

    fn key(name: &str) -> StreamKey {
        StreamKey::new("", "live", name).unwrap()
    }

    #[test]
    fn urls_of_streams_follow_from_that_of_the_app() {
        for (base, vhost, name, url) in [
            ("rtmp://h/live", "", "x", "rtmp://h/live/x"),
            ("rtmp://h/live/", "v.example", "a/b", "rtmp://h/live/a/b?vhost=v.example"),
            ("rtsps://u:p@h:322/live", "", "x", "rtsps://u:p@h:322/live/x"),
            ("http://h:8080/live", "", "x y", "http://h:8080/live/x%20y.flv"),
            ("HTTPS://h/live", "", "é", "HTTPS://h/live/%C3%A9.flv"),
        ] {
            assert_eq!(stream_url(base, vhost, name), url);
        }
        for bad in
            ["file:x", "rtmp://h", "srt://h/live", "http://h/live?x=1", "rtmp://h/live?a", ""]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["rtmp://h/live", "rtsp://h:8554/live", "https://h/live", "rtmps://h/a/b"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_loss_of_an_origin_moves_its_streams_alone() {
        let all = origins(&["rtmp://a/live", "rtmp://b/live", "rtmp://c/live"]);
        let left = origins(&["rtmp://a/live", "rtmp://c/live"]);
        let mut count = [0; 3];
        for n in 0..3000 {
            let key = key(&format!("stream{n}"));
            let first = all.ranked(&key)[0];
            count[first] += 1;
            let now = &left.urls[left.ranked(&key)[0]];
            if first != 1 {
                assert_eq!(now, &all.urls[first], "it stays where it was");
            }
        }
        assert!(count.iter().all(|n| (850..1150).contains(n)), "{count:?}");
    }

    #[test]
    fn an_origin_that_answers_is_well() {
        let of = |reason, scheme| blame(reason, scheme);
        assert_eq!(of("socket_error", Scheme::Rtmp), Blame::Origin);
        assert_eq!(of("name_unknown", Scheme::Rtsp), Blame::Origin);
        assert_eq!(of("start_timeout", Scheme::HttpFlv), Blame::Origin);
        assert_eq!(of("stream_not_found", Scheme::Rtmp), Blame::Stream);
        assert_eq!(of("start_timeout", Scheme::Rtmp), Blame::Stream);
        for ours in ["overloaded", "superseded", "kicked", "shutting_down", "stream_busy"] {
            assert_eq!(of(ours, Scheme::Rtsp), Blame::Us, "{ours}");
        }
    }
}
