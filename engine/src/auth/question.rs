//! What is asked of the authorisation: who wants to be what, where, and what it shows for it.

use std::fmt;
use std::net::IpAddr;

use protocols::session::Identity;
use protocols::text::{basic_credentials, percent_decode};

use super::Role;
use crate::config::model::Secret;

/// What the peer speaks, as far as the authorisation is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// RTMP and RTMPS.
    Rtmp,
    /// RTSP and RTSPS.
    Rtsp,
    /// HTTP, HTTPS and WebSockets.
    Http,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the peer wants to be.
    pub role: Role,
    /// How it came.
    pub via: Via,
    /// Its address.
    pub peer: IpAddr,
    /// It sits at this machine, and nobody speaks through it: what may be done without credentials
    /// there.
    pub at_home: bool,
    /// `app/name` of a stream, or the path of something else without its first slash: what users,
    /// tokens and signatures are for.
    pub resource: String,
    /// Path of the client's URL: of HTTP it is decoded, names of RTMP and RTSP are as they were sent.
    pub path: String,
    /// Query of it, as it was sent.
    pub query: Query,
    /// What it shows outside the URL.
    pub shown: Shown,
    /// The authorisation server has no say in this.
    pub unasked: bool,
    /// It changes something by the API, or reads what only the operator should: a list of addresses
    /// that may read is not enough.
    pub operates: bool,
}

/// A query as it was sent; it may hold secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query(pub String);

impl Query {
    /// The first value of a key, decoded; `None` if it is absent, empty or broken.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(name, _)| *name == key)?;
        percent_decode(&value.replace('+', " ")).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a peer shows outside its URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shown {
    /// Nothing.
    #[default]
    Nothing,
    /// Its session has checked that it is this user.
    Proven(String),
    /// Name and password.
    Password(String, Secret),
    /// A token.
    Bearer(Secret),
}

impl Shown {
    /// From what a session says.
    #[must_use]
    pub fn of_identity(identity: &Identity) -> Self {
        match identity {
            Identity::Unknown => Self::Nothing,
            Identity::Proven { user } => Self::Proven(user.clone()),
            Identity::Claimed { user, password } => {
                Self::Password(user.clone(), Secret(password.0.clone()))
            }
        }
    }

    /// From `Authorization` of HTTP: `Basic` and `Bearer`.
    #[must_use]
    pub fn of_header(header: &str) -> Self {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Self::Bearer(Secret(rest.to_owned()));
        }
        let basic = scheme.eq_ignore_ascii_case("basic").then(|| basic_credentials(rest));
        match basic.flatten() {
            Some((user, password)) => Self::Password(user, Secret(password)),
            None => Self::Nothing,
        }
    }
}

#[cfg(test)]
impl Question {
    /// A play by RTMP from a public address, for tests to change.
    pub(crate) fn example(query: &str) -> Self {
        Self {
            role: Role::Player,
            via: Via::Rtmp,
            peer: "203.0.113.7".parse().expect("an address"),
            at_home: false,
            resource: "live/stream".to_owned(),
            path: "/live/stream".to_owned(),
            query: Query(query.to_owned()),
            shown: Shown::Nothing,
            unasked: false,
            operates: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_queries_are_read() {
        let password = |user: &str, password: &str| {
            Shown::Password(user.to_owned(), Secret(password.to_owned()))
        };
        assert_eq!(Shown::of_header("basic dTphOmI="), password("u", "a:b"));
        assert_eq!(Shown::of_header("Bearer  abc "), Shown::Bearer(Secret("abc".to_owned())));
        for bad in ["", "Basic", "Basic !", "Basic dQ==", "Digest x", "Bearer"] {
            assert_eq!(Shown::of_header(bad), Shown::Nothing, "{bad}");
        }
        let query = Query("a=&user=x%20y&user=z&b".to_owned());
        assert_eq!(query.value("user").as_deref(), Some("x y"));
        assert_eq!(query.value("a"), None);
        assert_eq!(query.value("b"), None);
        let shown = format!("{:?}", Question::example("token=secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
