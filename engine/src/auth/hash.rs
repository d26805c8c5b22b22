//! Passwords against Argon2 hashes, on a thread of its own: one takes tens of milliseconds and
//! megabytes, by intent.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use crossbeam_channel::{Receiver, Sender};
use sha2::{Digest as _, Sha256};

use super::Answer;
use crate::config::model::Secret;
use crate::ring::{ControlMessage, Remote, ShardId};

/// Comparisons that may wait: some seconds' worth.
const WAITING_MAX: usize = 128;

/// One comparison.
#[derive(Debug)]
pub struct Comparison {
    /// Who asks.
    pub shard: ShardId,
    /// Its question number.
    pub id: u64,
    /// The hash, in PHC form.
    pub hash: Secret,
    /// The password.
    pub password: Secret,
}

/// A password and the hash it is compared with: what has fitted once need not be compared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair([u8; 32]);

impl Pair {
    /// Of these two; the salt of the hash is in it.
    #[must_use]
    pub fn of(hash: &Secret, password: &Secret) -> Self {
        let mut digest = Sha256::new();
        digest.update((hash.0.len() as u64).to_be_bytes());
        digest.update(&hash.0);
        digest.update(&password.0);
        Self(digest.finalize().into())
    }
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub struct Comparer(Sender<Comparison>);

impl Comparer {
    /// Starts the thread; it ends with the last way to it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn start(remote: &Remote) -> std::io::Result<Self> {
        let (comparisons, waiting) = crossbeam_channel::bounded(WAITING_MAX);
        let remote = remote.clone();
        let thread = std::thread::Builder::new().name("passwords".to_owned());
        thread.spawn(move || serve(&waiting, &remote))?;
        Ok(Self(comparisons))
    }

    /// The way to a test that stands in for the thread.
    #[cfg(test)]
    pub(crate) fn to_test() -> (Self, Receiver<Comparison>) {
        let (comparisons, waiting) = crossbeam_channel::bounded(WAITING_MAX);
        (Self(comparisons), waiting)
    }

    /// Asks; the answer comes as a control message. False when too many wait.
    #[must_use]
    pub fn ask(&self, comparison: Comparison) -> bool {
        self.0.try_send(comparison).is_ok()
    }
}

fn serve(waiting: &Receiver<Comparison>, remote: &Remote) {
    for Comparison { shard, id, hash, password } in waiting {
        let answer = if is_of(&password, &hash) { Answer::Yes } else { Answer::No };
        // A shard whose queue is full gives the question up when its time is over.
        remote.send(shard, ControlMessage::Judged { id, answer, fresh_until: None });
    }
}

fn is_of(password: &Secret, hash: &Secret) -> bool {
    let parsed = PasswordHash::new(&hash.0);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of argon2-cffi: `password`, salt `saltsalt`, t=2, m=4096, p=1, 24 bytes.
    #[test]
    fn a_hash_of_another_implementation_is_understood() {
        let hash = Secret(HASH.to_owned());
        assert!(is_of(&Secret("password".to_owned()), &hash));
        assert!(!is_of(&Secret("Password".to_owned()), &hash));
        assert!(!is_of(&Secret("password".to_owned()), &Secret("password".to_owned())));
    }

    #[test]
    fn a_pair_is_one_hash_and_one_password() {
        let pair = |hash: &str, password: &str| {
            Pair::of(&Secret(hash.to_owned()), &Secret(password.to_owned()))
        };
        assert_eq!(pair(HASH, "password"), pair(HASH, "password"));
        assert_ne!(pair(HASH, "password"), pair(HASH, "passwore"));
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
    }

    const HASH: &str = "$argon2id$v=19$m=4096,t=2,p=1$c2FsdHNhbHQ$WE7Suia6hCi009asI//6Tu4ip/ZBxNU9";
}
