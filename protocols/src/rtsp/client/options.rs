//! Where a client goes and how.

use std::time::Duration;

use crate::hops::Hops;
use crate::rtp::ReceiverLimits;
use crate::rtsp::auth::client::Credentials;
use crate::rtsp::reader::Limits;
use crate::text::{credentials, without_user};

/// How a client wants its media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// Within the connection; by datagrams if the server refuses that.
    Any,
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
        let (url, user) = without_user(url);
        let credentials = user.map(|user| {
            let (user, password) = credentials(user);
            Credentials { user, password }
        });
        Some(Self {
            url,
            credentials,
            preference: Preference::Interleaved,
            agent: "smart-rtmpd".to_owned(),
            limits: Limits::default(),
            receiver: ReceiverLimits::default(),
            request_timeout: Duration::from_secs(10),
            datagram_timeout: Duration::from_secs(5),
            media_timeout: Duration::from_secs(12),
            hops: Hops::default(),
        })
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
        let options = ClientOptions::new("rtsp://u:p%40:q@h:8554/live/x?a=@b").unwrap();
        assert_eq!(options.url, "rtsp://h:8554/live/x?a=@b");
        let Credentials { user, password } = options.credentials.unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("u", "p@:q"));
        assert!(ClientOptions::new("rtsp://[::1]:554").unwrap().credentials.is_none());
        for wrong in ["", "h/live/x", "http://h/x", "rtsp://", "rtsp:///x", "rtsp://h/a b"] {
            assert!(ClientOptions::new(wrong).is_none(), "{wrong}");
        }
    }
}
