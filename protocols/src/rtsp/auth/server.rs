//! The server's end: who may come in, the nonces of one connection, and what to ask for.

use std::fmt;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;

use crate::session::{Identity, Password};
use crate::text::basic_credentials;

use super::super::Random;
use super::digest::{Algorithm, Exchange};
use super::{Parsed, quoted};

/// How long a nonce is good.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// Wrong answers after which a connection is given up.
const FAILURES_MAX: u32 = 6;
/// How long the first of them waits to be told so; each that follows waits twice as long.
const FIRST_PENALTY: Duration = Duration::from_millis(100);
const PENALTY_MAX: Duration = Duration::from_secs(1);

/// What proves that somebody is who he says.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// `H(A1)` by MD5 for this server's realm, in hex: Basic and Digest with MD5 work.
    Ha1Md5(String),
    /// `H(A1)` by SHA-256 for this server's realm, in hex: Basic and Digest with SHA-256 work.
    Ha1Sha256(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// `None`: this secret says nothing under that hash.
    fn ha1(&self, algorithm: Algorithm, user: &str, realm: &str) -> Option<String> {
        match (self, algorithm) {
            (Self::Password(password), _) => Some(algorithm.ha1(user, realm, password)),
            (Self::Ha1Md5(ha1), Algorithm::Md5) | (Self::Ha1Sha256(ha1), Algorithm::Sha256) => {
                Some(ha1.to_ascii_lowercase())
            }
            _ => None,
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ha1Sha256(_) => Algorithm::Sha256,
            Self::Password(_) | Self::Ha1Md5(_) => Algorithm::Md5,
        }
    }
}

/// Who may come in; nobody configured: everybody, as far as the session is concerned.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Realm shown to users and hashed into `H(A1)`.
    pub realm: String,
    /// Names and secrets.
    pub users: Vec<(String, Secret)>,
    /// Who gives no credentials may be let in for another reason: the engine is asked.
    pub optional: bool,
    /// The engine knows users that only it can judge: Basic credentials of nobody here are its.
    pub judged_elsewhere: bool,
}

impl Access {
    /// Credentials in a header may make a difference.
    pub(in super::super) fn knows_users(&self) -> bool {
        !self.users.is_empty() || self.judged_elsewhere
    }
}

/// What came of a request's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are good, or none are needed.
    Allowed,
    /// There are none, or wrong ones.
    Denied,
    /// They would be good with a fresh nonce.
    Stale,
    /// They are wrong once more than a connection may be.
    GivenUp,
}

/// The authentication state of one connection. Nonces are its own: one of another connection, or one
/// used before, is stale here.
#[derive(Debug)]
pub struct Guard {
    nonce: String,
    issued: Option<Instant>,
    /// Highest nonce count seen with `nonce`.
    count: u32,
    failures: u32,
    /// What the credentials last let in say.
    identity: Identity,
}

impl Guard {
    /// Nothing was asked yet.
    pub fn new() -> Self {
        Self {
            nonce: String::new(),
            issued: None,
            count: 0,
            failures: 0,
            identity: Identity::Unknown,
        }
    }

    /// Who the request last let in says it is from.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The engine did not let somebody in: another try, or too many?
    pub(in super::super) fn refused(&mut self) -> Verdict {
        self.failures += 1;
        if self.failures >= FAILURES_MAX { Verdict::GivenUp } else { Verdict::Denied }
    }

    /// Judges `Authorization`. `same_resource` says whether the `uri` of the header means the target.
    pub fn check(
        &mut self,
        now: Instant,
        access: &Access,
        method: &str,
        header: Option<&str>,
        same_resource: impl Fn(&str) -> bool,
    ) -> Verdict {
        self.identity = Identity::Unknown;
        if !access.knows_users() {
            return Verdict::Allowed;
        }
        let Some(header) = header else {
            return if access.optional { Verdict::Allowed } else { Verdict::Denied };
        };
        let parsed = Parsed::parse(header);
        let verdict = match parsed.scheme.as_str() {
            "basic" => self.basic(access, parsed.rest),
            "digest" => self.digest(now, access, method, &parsed, same_resource),
            _ => Verdict::Denied,
        };
        if verdict == Verdict::Denied { self.refused() } else { verdict }
    }

    fn basic(&mut self, access: &Access, encoded: &str) -> Verdict {
        let Some((user, password)) = basic_credentials(encoded) else { return Verdict::Denied };
        self.identity = if is_known(access, &user, &password) {
            Identity::Proven { user }
        } else if access.judged_elsewhere {
            Identity::Claimed { user, password: Password(password) }
        } else {
            return Verdict::Denied;
        };
        Verdict::Allowed
    }

    /// How long the answer to credentials that are wrong waits: guessing takes its time.
    pub fn penalty(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(FAILURES_MAX);
        FIRST_PENALTY.saturating_mul(1 << doublings).min(PENALTY_MAX)
    }

    fn digest(
        &mut self,
        now: Instant,
        access: &Access,
        method: &str,
        parsed: &Parsed<'_>,
        same_resource: impl Fn(&str) -> bool,
    ) -> Verdict {
        let get = |name| parsed.get(name).unwrap_or_default();
        let Some(algorithm) = Algorithm::parse(parsed.get("algorithm").unwrap_or("MD5")) else {
            return Verdict::Denied;
        };
        let count = match parsed.get("qop") {
            Some("auth") => match u32::from_str_radix(get("nc"), 16) {
                Ok(count) => Some(count),
                Err(_) => return Verdict::Denied,
            },
            Some(_) => return Verdict::Denied,
            None => None,
        };
        let uri = get("uri");
        if get("realm") != access.realm || !same_resource(uri) {
            return Verdict::Denied;
        }
        let nonce = get("nonce");
        let auth = count.map(|_| (get("nc"), get("cnonce")));
        let exchange = Exchange { algorithm, nonce, auth, method, uri };
        let given = get("response").to_ascii_lowercase();
        // All users are compared, so that time does not tell which names exist.
        let good = access.users.iter().fold(false, |good, (user, secret)| {
            let expected = secret.ha1(algorithm, user, &access.realm);
            let expected = expected.map(|ha1| exchange.response(&ha1)).unwrap_or_default();
            let same = !expected.is_empty() && same_bytes(&expected, &given);
            good | (same & same_bytes(user, get("username")))
        });
        if !good {
            return Verdict::Denied;
        }
        let verdict = self.freshness(now, nonce, count);
        if verdict == Verdict::Allowed {
            self.identity = Identity::Proven { user: get("username").to_owned() };
        }
        verdict
    }

    /// A right answer: to the nonce of now, and for the first time?
    fn freshness(&mut self, now: Instant, nonce: &str, count: Option<u32>) -> Verdict {
        let alive = self
            .issued
            .is_some_and(|issued| now.saturating_duration_since(issued) < NONCE_LIFETIME);
        if !alive || !same_bytes(nonce, &self.nonce) {
            return Verdict::Stale;
        }
        match count {
            Some(count) if count <= self.count => return Verdict::Stale,
            Some(count) => self.count = count,
            None => {}
        }
        Verdict::Allowed
    }

    /// The values of `WWW-Authenticate` that ask again, best first: many clients take the last of
    /// those they know, some the first, and most know MD5 alone.
    pub(in super::super) fn challenges(
        &mut self,
        now: Instant,
        random: &mut Random,
        realm: &str,
        stale: bool,
    ) -> Vec<String> {
        let alive = self
            .issued
            .is_some_and(|issued| now.saturating_duration_since(issued) < NONCE_LIFETIME);
        if !alive || stale {
            self.nonce = format!("{:032x}", random.next());
            self.issued = Some(now);
            self.count = 0;
        }
        let realm = quoted(realm);
        let digest = |algorithm: Algorithm| {
            let mut value = format!("Digest realm={realm}, nonce=\"{}\"", self.nonce);
            // Old clients stumble over a qop or an algorithm they need not know of.
            if algorithm != Algorithm::Md5 {
                value += &format!(", qop=\"auth\", algorithm={}", algorithm.name());
            }
            if stale {
                value += ", stale=true";
            }
            value
        };
        vec![digest(Algorithm::Sha256), digest(Algorithm::Md5), format!("Basic realm={realm}")]
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let identity = match &self.identity {
            Identity::Unknown => 0,
            Identity::Proven { user } => user.capacity(),
            Identity::Claimed { user, password } => user.capacity() + password.0.capacity(),
        };
        self.nonce.capacity() + identity
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

fn is_known(access: &Access, name: &str, password: &str) -> bool {
    access.users.iter().fold(false, |good, (user, secret)| {
        let algorithm = secret.algorithm();
        let expected = secret.ha1(algorithm, user, &access.realm).unwrap_or_default();
        let given = algorithm.ha1(name, &access.realm, password);
        good | (same_bytes(user, name) & same_bytes(&expected, &given))
    })
}

fn same_bytes(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
