//! Where a client goes and how.

use std::time::Duration;

use crate::hops::Hops;
use crate::rtp::ReceiverLimits;
use crate::rtsp::auth::client::Credentials;
use crate::rtsp::reader::Limits;

/// How a client wants its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// Within the connection.
    Interleaved,
    /// By datagrams; within the connection if the server refuses or nothing arrives.
    Datagram,
}

/// Where a client goes and how.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `rtsp://host[:port]/path[?query]`, without user.
    pub url: String,
    /// Name and password, for a server that asks.
    pub credentials: Option<Credentials>,
    /// How the media should come.
    pub preference: Preference,
    /// What the client calls itself.
    pub agent: String,
    /// Bounds of messages.
    pub limits: Limits,
    /// Bounds of what packets wait in.
    pub receiver: ReceiverLimits,
    /// How long the server may take to answer a request.
    pub request_timeout: Duration,
    /// How long the first datagram may take before the media are asked for within the connection.
    pub datagram_timeout: Duration,
    /// How long the media may be silent.
    pub media_timeout: Duration,
    /// How often the client lets itself be sent elsewhere.
    pub redirects: u8,
    /// Servers of our kind that the request has passed, this one last.
    pub hops: Hops,
}

impl ClientOptions {
    /// For a URL, whose user information becomes the credentials. `None`: not a URL of RTSP.
    pub fn new(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let known = ["rtsp", "rtsps"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
        if !known || rest.is_empty() || rest.starts_with('/') || url.chars().any(is_unfit) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let credentials = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Credentials { user: user.to_owned(), password: password.to_owned() }
        });
        Some(Self {
            url: format!("{scheme}://{host}{path}"),
            credentials,
            preference: Preference::Interleaved,
            agent: "smart-rtmpd".to_owned(),
            limits: Limits::default(),
            receiver: ReceiverLimits {
                reorder_packets: 512,
                reorder_time: Duration::from_millis(200),
                frame_bytes: 8 << 20,
            },
            request_timeout: Duration::from_secs(10),
            datagram_timeout: Duration::from_secs(5),
            media_timeout: Duration::from_secs(12),
            redirects: 3,
            hops: Hops::default(),
        })
    }

    /// For where a server sent us: the credentials go along only to the same host. `None`: it is no
    /// URL, or it was one too many.
    pub fn redirected(&self, url: &str) -> Option<Self> {
        let redirects = self.redirects.checked_sub(1)?;
        let there = Self::new(url)?;
        let host = |url: &str| {
            let (authority, ..) = crate::text::split_url(url);
            crate::text::split_authority(authority).0.to_ascii_lowercase()
        };
        let same_host = host(&self.url) == host(&there.url);
        let own = self.credentials.clone().filter(|_| same_host);
        let credentials = there.credentials.or(own);
        Some(Self { url: there.url, credentials, redirects, ..self.clone() })
    }
}

/// Characters that would end a request line or are no part of any URL.
fn is_unfit(character: char) -> bool {
    character.is_control() || character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_become_credentials() {
        let options = ClientOptions::new("rtsp://u:p:q@h:8554/live/x?a=@b").unwrap();
        assert_eq!(options.url, "rtsp://h:8554/live/x?a=@b");
        let Credentials { user, password } = options.credentials.unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("u", "p:q"));
        assert!(ClientOptions::new("rtsp://[::1]:554").unwrap().credentials.is_none());
        for wrong in ["", "h/live/x", "http://h/x", "rtsp://", "rtsp:///x", "rtsp://h/a b"] {
            assert!(ClientOptions::new(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn redirects_are_counted_and_secrets_stay_home() {
        let options = ClientOptions::new("rtsp://u:p@h/live/x").unwrap();
        let again = options.redirected("rtsp://H:9000/live/y").unwrap();
        assert_eq!((again.redirects, again.credentials.is_some()), (2, true));
        let elsewhere = again.redirected("rtsps://i/live/y").unwrap();
        assert_eq!((elsewhere.redirects, elsewhere.credentials.is_some()), (1, false));
        let last = elsewhere.redirected("rtsp://i/1").unwrap();
        assert!(last.redirected("rtsp://i/2").is_none());
        assert!(options.redirected("http://i/2").is_none());
    }
}
