//! JSON Web Tokens (RFC 7519) of the configured keys: who the token says the peer is.
//!
//! | claim | meaning |
//! | ----- | ------- |
//! | `exp` | must be there, Unix seconds |
//! | `nbf`, `iss`, `aud` | as usual; `iss` and `aud` where the configuration names them |
//! | `roles`, or `role` | what the bearer may be, a name or a list; only `player` without it |
//! | `streams`, or `stream` | `app/name` with `*` for any text, one or a list; all without it |
//! | `ip` | the only address it is good for |

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::{Question, Reason, Role, Roles};
use crate::config::auth::{Jwt, JwtKey};
use crate::config::units;

/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Keys of a set.
const KEYS_MAX: usize = 64;
/// Longest token looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Clocks may differ by so much, in seconds.
const LEEWAY_S: u64 = 30;
/// Bytes of a public key on P-256, uncompressed.
const P256_BYTES: usize = 65;

/// Checks tokens.
pub(super) struct Verifier {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(alias = "role")]
    roles: Option<OneOrMany>,
    #[serde(alias = "stream")]
    streams: Option<OneOrMany>,
    ip: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Verifier {
    /// Reads the keys.
    ///
    /// # Errors
    /// What is wrong with them, one sentence.
    pub(super) fn load(config: &Jwt) -> Result<Self, String> {
        let keys = match &config.key {
            JwtKey::Secret(secret) => {
                let key = DecodingKey::from_secret(secret.0.as_bytes());
                let key = key.map_err(|error| error.to_string())?;
                vec![Key { id: None, algorithm: Algorithm::HS256, key }]
            }
            JwtKey::Pem(path) => vec![pem_key(path)?],
            JwtKey::Jwks(path) => set_keys(path)?,
        };
        Ok(Self { keys, issuer: config.issuer.clone(), audience: config.audience.clone() })
    }

    /// Whether a text has the form of a token: three parts of base64url.
    #[must_use]
    pub(super) fn is_token(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let mut parts = text.split('.');
        let sound = parts.by_ref().take(3).all(|part| !part.is_empty() && part.bytes().all(plain));
        sound && parts.next().is_none() && text.matches('.').count() == 2
    }

    /// Judges a token. `running`: it was good once, and time does not matter any more.
    ///
    /// # Errors
    /// Why it is not good for this question.
    pub(super) fn check(
        &self,
        token: &str,
        question: &Question,
        running: bool,
    ) -> Result<(), Reason> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Reason::BadCredential);
        }
        let header = decode_header(token).map_err(|_| Reason::BadCredential)?;
        let fits = |key: &&Key| {
            let named = header.kid.is_none() || key.id.is_none() || key.id == header.kid;
            key.algorithm == header.alg && named
        };
        let mut outcome = Err(Reason::BadCredential);
        for key in self.keys.iter().filter(fits) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm, running)) {
                Ok(token) => return judge(&token.claims, question),
                Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                    outcome = Err(Reason::Expired);
                }
                Err(_) => {}
            }
        }
        outcome
    }

    fn validation(&self, algorithm: Algorithm, running: bool) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_exp = !running;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.validate_aud = self.audience.is_some();
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn judge(claims: &Claims, question: &Question) -> Result<(), Reason> {
    let roles = match &claims.roles {
        Some(names) => Roles::of(names.as_slice().iter().filter_map(|name| Role::parse(name))),
        None => Roles::of([Role::Player]),
    };
    let for_stream = claims.streams.as_ref().is_none_or(|streams| {
        streams.as_slice().iter().any(|pattern| units::matches(pattern, &question.resource))
    });
    let peer = question.peer.to_canonical();
    let from_here = claims
        .ip
        .as_ref()
        .is_none_or(|ip| ip.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == peer));
    let good = roles.contains(question.role) && for_stream && from_here;
    if good { Ok(()) } else { Err(Reason::NotForThis) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = File::open(path).map_err(unreadable)?;
    let is_file = file.metadata().map_err(unreadable)?.is_file();
    if !is_file {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is larger than any set of keys", path.display()));
    }
    Ok(bytes)
}

fn pem_key(path: &Path) -> Result<Key, String> {
    let bytes = read(path)?;
    if let Ok(key) = DecodingKey::from_rsa_pem(&bytes) {
        return Ok(Key { id: None, algorithm: Algorithm::RS256, key });
    }
    let key = DecodingKey::from_ec_pem(&bytes);
    let on_p256 = |key: &DecodingKey| key.try_get_as_bytes().is_ok_and(|k| k.len() == P256_BYTES);
    match key.ok().filter(on_p256) {
        Some(key) => Ok(Key { id: None, algorithm: Algorithm::ES256, key }),
        None => Err(format!("{} holds no public key of RSA or P-256 in PEM", path.display())),
    }
}

/// Keys of other kinds and for other uses are passed over (RFC 7517 5).
fn set_keys(path: &Path) -> Result<Vec<Key>, String> {
    let bytes = read(path)?;
    let set: JwkSet = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{} is no JSON Web Key Set: {error}", path.display()))?;
    let mut keys = Vec::new();
    for jwk in set.keys.iter().take(KEYS_MAX) {
        let common = &jwk.common;
        let signs = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption));
        let algorithm = match (&jwk.algorithm, common.key_algorithm) {
            (AlgorithmParameters::RSA(_), None | Some(KeyAlgorithm::RS256)) => Algorithm::RS256,
            (AlgorithmParameters::EllipticCurve(ec), None | Some(KeyAlgorithm::ES256))
                if ec.curve == EllipticCurve::P256 =>
            {
                Algorithm::ES256
            }
            _ => continue,
        };
        if let Ok(key) = DecodingKey::from_jwk(jwk)
            && signs
        {
            keys.push(Key { id: common.key_id.clone(), algorithm, key });
        }
    }
    match keys.is_empty() {
        true => Err(format!("{} holds no key of RS256 or ES256", path.display())),
        false => Ok(keys),
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
