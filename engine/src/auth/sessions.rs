//! Viewers of many requests: who was let in a moment ago is not judged at each of them. Pure.
//!
//! A session is a role, what it is about, what was shown for it, and an address: rules and tokens
//! may be for some addresses only. Players behind a cache have that of the cache. Two generations of
//! half the size bound the table: what is used moves to the young one, and when that is full the old
//! one is forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use protocols::text::hex;
use sha2::{Digest as _, Sha256};

use super::{Question, Role, Shown};

/// Sessions of one generation.
const GENERATION_MAX: usize = 32_768;
/// A session that asks for nothing for so long is over.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// It need not be judged until then.
    pub fresh_until: Instant,
    used_at: Instant,
}

/// Names the session that a question is of; `about` is what all its requests have in common. What
/// only says how or when something is played makes no other session. Of what was shown there is
/// only a digest in it: it may be long, and it is not to be kept.
#[must_use]
pub fn session_key(about: &str, question: &Question) -> String {
    let plays = ["format", "ll", "delay", "merge", "codec", "day", "time", "ext", "shift"];
    let name = |pair: &&str| pair.split('=').next().unwrap_or_default().to_owned();
    let pairs = question.query.0.split('&');
    let shown = pairs.filter(|pair| !plays.contains(&name(pair).as_str()));
    let mut digest = Sha256::new();
    for pair in shown {
        digest.update(pair);
        digest.update("&");
    }
    let credential = match &question.shown {
        Shown::Nothing => [""; 4],
        Shown::Proven(user) => ["|u", user, "", ""],
        Shown::Password(user, password) => ["|p", user, ":", &password.0],
        Shown::Bearer(token) => ["|b", &token.0, "", ""],
    };
    credential.iter().for_each(|part| digest.update(part));
    let peer = question.peer.to_canonical();
    format!("{}{}|@{peer}", session_prefix(question.role, about), hex(&digest.finalize()))
}

/// What the names of all sessions of that role about the same begin with.
#[must_use]
pub fn session_prefix(role: Role, about: &str) -> String {
    format!("{role}|{about}|")
}

/// See the module text.
#[derive(Default)]
pub struct Sessions {
    young: HashMap<String, Seen>,
    old: HashMap<String, Seen>,
}

impl Sessions {
    /// Finds a session that is not over, and notes that it was used.
    pub fn find(&mut self, key: &str, now: Instant) -> Option<Seen> {
        if let Some(seen) = self.young.get_mut(key) {
            let found = *seen;
            seen.used_at = now;
            return alive(found, now);
        }
        let (key, mut seen) = self.old.remove_entry(key)?;
        let found = seen;
        seen.used_at = now;
        self.put(key, seen);
        alive(found, now)
    }

    /// Somebody was let in.
    pub fn admit(&mut self, key: String, fresh_until: Instant, now: Instant) {
        self.old.remove(&key);
        self.put(key, Seen { fresh_until, used_at: now });
    }

    /// Somebody was not.
    pub fn expel(&mut self, key: &str) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets those about something.
    pub fn expel_all(&mut self, about: impl Fn(&str) -> bool) {
        self.young.retain(|key, _| !about(key));
        self.old.retain(|key, _| !about(key));
    }

    fn put(&mut self, key: String, seen: Seen) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, seen);
    }
}

fn alive(seen: Seen, now: Instant) -> Option<Seen> {
    let idle = now.saturating_duration_since(seen.used_at);
    (idle <= IDLE_MAX || now < seen.fresh_until).then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_live_while_they_are_used() {
        let start = crate::clock::now();
        let second = Duration::from_secs(1);
        let mut sessions = Sessions::default();
        assert_eq!(sessions.find("a", start), None);
        sessions.admit("a".to_owned(), start + second, start);
        let mut now = start;
        for _ in 0..10 {
            now += IDLE_MAX;
            let seen = sessions.find("a", now).expect("in use");
            assert_eq!(seen.fresh_until, start + second);
        }
        assert_eq!(sessions.find("a", now + IDLE_MAX + second), None);
        sessions.admit("b".to_owned(), now, now);
        sessions.expel("b");
        assert_eq!(sessions.find("b", now), None);
        sessions.admit("live/x c".to_owned(), now, now);
        sessions.expel_all(|key| key.starts_with("live/x "));
        assert_eq!(sessions.find("live/x c", now), None);
    }

    #[test]
    fn a_session_is_what_is_shown_and_not_how_it_is_played() {
        let key = |query: &str| session_key("live/x", &Question::example(query));
        assert_eq!(key("token=a&format=fmp4"), key("token=a"));
        assert_ne!(key("token=a"), key("token=b"));
        assert_ne!(key("token=a"), session_key("live/y", &Question::example("token=a")));
        let mut shown = Question::example("token=a");
        shown.shown = Shown::of_header("Basic dTpw");
        assert_ne!(session_key("live/x", &shown), key("token=a"));
        assert!(key("token=a").starts_with(&session_prefix(Role::Player, "live/x")));
        assert!(!key("token=a").starts_with(&session_prefix(Role::Player, "live")));
        let long = key(&format!("token=secret&junk={}", "x".repeat(10_000)));
        assert!(long.len() < 200 && !long.contains("secret"), "{long}");
    }

    #[test]
    fn a_session_is_of_one_address_however_it_is_written() {
        let from = |peer: &str| {
            let peer = peer.parse().expect("an address");
            session_key("live/x", &Question { peer, ..Question::example("token=a") })
        };
        assert_eq!(from("203.0.113.7"), from("::ffff:203.0.113.7"));
        assert_ne!(from("203.0.113.7"), from("203.0.113.8"));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_is_used() {
        let now = crate::clock::now();
        let mut sessions = Sessions::default();
        sessions.admit("used".to_owned(), now, now);
        for number in 0..5 * GENERATION_MAX {
            sessions.admit(number.to_string(), now, now);
            if number % 1000 == 0 {
                assert!(sessions.find("used", now).is_some(), "{number}");
            }
            assert!(sessions.young.len() + sessions.old.len() <= 2 * GENERATION_MAX);
        }
        assert_eq!(sessions.find("0", now), None);
    }
}
