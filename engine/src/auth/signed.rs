//! Signed URLs: `?expires=UNIX&sig=HEX[&ip=ADDRESS]`, HMAC-SHA256 over
//! `ROLE|EXPIRES|ADDRESS|RESOURCE`, the address empty where none is given. Pure.
//!
//! `printf %s 'player|1767225600||live/stream' | openssl dgst -sha256 -hmac KEY` makes one.

use std::net::IpAddr;

use hmac::{Hmac, Mac as _};
use protocols::text::unhex;
use sha2::Sha256;

use super::{Question, Reason};
use crate::config::model::Secret;

/// What a URL claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    expires: String,
    signature: String,
    address: Option<String>,
}

impl Claim {
    /// What the query of a question claims, if it is signed.
    #[must_use]
    pub(super) fn of(question: &Question) -> Option<Self> {
        let query = &question.query;
        let (expires, signature) = (query.value("expires")?, query.value("sig")?);
        Some(Self { expires, signature, address: query.value("ip") })
    }

    /// Judges it. `running`: it was good once, and time does not matter any more.
    ///
    /// # Errors
    /// Why it is not good.
    pub(super) fn check(
        &self,
        question: &Question,
        keys: &[Secret],
        now_unix_s: u64,
        running: bool,
    ) -> Result<(), Reason> {
        // Everything before the resource is checked for its form: no text has two readings.
        let expires: u64 = self.expires.parse().map_err(|_| Reason::BadCredential)?;
        let address = match &self.address {
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| Reason::BadCredential)?),
            None => None,
        };
        let given = self.address.as_deref().unwrap_or_default();
        let message = format!("{}|{}|{given}|{}", question.role, self.expires, question.resource);
        let signature = unhex(&self.signature).ok_or(Reason::BadCredential)?;
        let good = keys.iter().fold(false, |good, key| {
            // A key of any length will do.
            let Ok(mac) = Hmac::<Sha256>::new_from_slice(key.0.as_bytes()) else { return good };
            good | mac.chain_update(&message).verify_slice(&signature).is_ok()
        });
        if !good {
            return Err(Reason::BadCredential);
        }
        let peer = question.peer.to_canonical();
        if address.is_some_and(|address| address.to_canonical() != peer) {
            return Err(Reason::NotForThis);
        }
        if expires < now_unix_s && !running {
            return Err(Reason::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    const KEY: &str = "0123456789abcdef";
    /// `printf %s TEXT | openssl dgst -sha256 -hmac 0123456789abcdef`, of these texts:
    /// `player|1767225600||live/stream`
    const PLAYER: &str = "d5c2f0359420987ef3bbf55e53a4bb88252b8b21cc9a9477c61bb528992544fd";
    /// `player|1767225600|203.0.113.7|live/stream`
    const BOUND: &str = "acb288ada7628e85f29440f70406b456a6eb93a8204665ba160eb610622d76e4";
    const EXPIRES: u64 = 1_767_225_600;

    fn check(query: &str, change: impl Fn(&mut Question), running: bool) -> Result<(), Reason> {
        let mut question = Question::example(query);
        change(&mut question);
        let keys = [Secret("another key of a rotation".to_owned()), Secret(KEY.to_owned())];
        let now = if query.contains("late") { EXPIRES + 1 } else { EXPIRES };
        Claim::of(&question).expect("signed").check(&question, &keys, now, running)
    }

    #[test]
    fn a_signature_is_for_one_role_stream_time_and_address() {
        let url = format!("expires={EXPIRES}&sig={PLAYER}");
        let bound = format!("expires={EXPIRES}&ip=203.0.113.7&sig={}", BOUND.to_uppercase());
        let same = |_: &mut Question| ();
        assert_eq!(check(&url, same, false), Ok(()));
        assert_eq!(check(&bound, same, false), Ok(()));
        assert_eq!(check(&format!("{url}&late"), same, false), Err(Reason::Expired));
        assert_eq!(check(&format!("{url}&late"), same, true), Ok(()));
        let publisher = |question: &mut Question| question.role = Role::Publisher;
        let other = |question: &mut Question| question.resource = "live/other".to_owned();
        let moved = |question: &mut Question| question.peer = "203.0.113.8".parse().expect("ip");
        assert_eq!(check(&url, publisher, false), Err(Reason::BadCredential));
        assert_eq!(check(&url, other, false), Err(Reason::BadCredential));
        assert_eq!(check(&url, moved, false), Ok(()));
        assert_eq!(check(&bound, moved, false), Err(Reason::NotForThis));
        for bad in [
            url.replace("expires=1", "expires=2"),
            url.replace("sig=", "sig=00"),
            url.replace(PLAYER, &PLAYER[..62]),
            url.replace(PLAYER, BOUND),
            url.replace(PLAYER, "x"),
            format!("{url}&ip=203.0.113.7"),
            bound.replace("203.0.113.7", "203.0.113.8"),
            bound.replace("203.0.113.7", "here"),
        ] {
            assert_eq!(check(&bad, same, false), Err(Reason::BadCredential), "{bad}");
        }
        assert_eq!(Claim::of(&Question::example("sig=00")), None);
    }
}
