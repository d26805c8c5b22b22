//! The client's end: which challenge to answer, and the answer to it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Random;
use super::digest::{Algorithm, Exchange};
use super::{Parsed, quoted};

/// Name and password of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The challenge in force.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    Digest {
        algorithm: Algorithm,
        realm: String,
        nonce: String,
        opaque: Option<String>,
        auth: bool,
    },
}

/// Answers the challenges of one server.
#[derive(Debug)]
pub struct Authorization {
    credentials: Option<Credentials>,
    challenge: Option<Challenge>,
    /// Requests answered with the nonce of `challenge`.
    count: u32,
}

impl Authorization {
    /// With what the user gave, if anything.
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, challenge: None, count: 0 }
    }

    /// Takes the challenges of a 401. False: there is no use in another try: no credentials, none of
    /// our schemes, or these credentials were just refused.
    pub fn challenged<'a>(&mut self, headers: impl Iterator<Item = &'a str>) -> bool {
        if self.credentials.is_none() {
            return false;
        }
        let mut best: Option<(u8, bool, Challenge)> = None;
        for header in headers {
            let Some((strength, stale, challenge)) = read(header) else { continue };
            if best.as_ref().is_none_or(|(other, ..)| strength > *other) {
                best = Some((strength, stale, challenge));
            }
        }
        let Some((_, stale, challenge)) = best else { return false };
        if self.challenge.is_some() && !stale {
            return false;
        }
        self.challenge = Some(challenge);
        self.count = 0;
        true
    }

    /// The value of `Authorization` for a request, once there was a challenge.
    pub(in super::super) fn header(
        &mut self,
        random: &mut Random,
        method: &str,
        uri: &str,
    ) -> Option<String> {
        let Credentials { user, password } = self.credentials.as_ref()?;
        match self.challenge.as_ref()? {
            Challenge::Basic => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Challenge::Digest { algorithm, realm, nonce, opaque, auth } => {
                self.count += 1;
                let (count, cnonce) =
                    (format!("{:08x}", self.count), format!("{:016x}", random.next_u64()));
                let answer = Exchange {
                    algorithm: *algorithm,
                    nonce,
                    auth: auth.then_some((count.as_str(), cnonce.as_str())),
                    method,
                    uri,
                };
                let response = answer.response(&algorithm.ha1(user, realm, password));
                let mut value = format!(
                    "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
                    quoted(user),
                    quoted(realm),
                    quoted(nonce),
                    quoted(uri)
                );
                if *algorithm != Algorithm::Md5 {
                    value += &format!(", algorithm={}", algorithm.name());
                }
                if let Some(opaque) = opaque {
                    value += &format!(", opaque={}", quoted(opaque));
                }
                if *auth {
                    value += &format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
                }
                Some(value)
            }
        }
    }
}

/// Strength, staleness and challenge of one header; `None`: not one of our schemes.
fn read(header: &str) -> Option<(u8, bool, Challenge)> {
    let parsed = Parsed::parse(header);
    match parsed.scheme.as_str() {
        "basic" => Some((0, false, Challenge::Basic)),
        "digest" => {
            let algorithm = Algorithm::parse(parsed.get("algorithm").unwrap_or("MD5"))?;
            let qop = parsed.get("qop");
            let auth = qop.is_some_and(|qop| qop.split(',').any(|one| one.trim() == "auth"));
            if qop.is_some() && !auth {
                return None;
            }
            let challenge = Challenge::Digest {
                algorithm,
                realm: parsed.get("realm")?.to_owned(),
                nonce: parsed.get("nonce")?.to_owned(),
                opaque: parsed.get("opaque").map(str::to_owned),
                auth,
            };
            let stale = parsed.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
            Some((if algorithm == Algorithm::Sha256 { 2 } else { 1 }, stale, challenge))
        }
        _ => None,
    }
}
