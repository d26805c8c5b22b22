//! The two ways in which servers ask a publisher who it is: by a refused `connect` whose
//! description says what to ask with next, on a new connection.
//!
//! Neither is specified in public; both are what encoders in use do. Adobe (Flash Media Server's
//! authentication add-in, Wowza, Akamai): MD5 of user, salt and password, then of that, the
//! server's opaque value and a challenge of ours. Limelight: Digest (RFC 2617) of the realm `live`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::text::{hex, query_parameter};

/// Realm of Limelight's digest.
const REALM: &str = "live";
/// What stands for an app without an instance in it.
const DEFAULT_INSTANCE: &str = "/_definst_";
/// We answer each nonce once.
const NONCE_COUNT: &str = "00000001";
/// Longest value of a challenge that is echoed.
const VALUE_BYTES_MAX: usize = 512;

/// Who publishes.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User, as it is.
    pub user: String,
    /// Password, as it is.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Why a server that asks cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AuthError {
    /// It wants to know who we are, and we were not told.
    #[error("the server wants a user and a password")]
    Wanted,
    /// It does not take them.
    #[error("the server does not accept user and password")]
    Refused,
    /// It asks in a way that is not known.
    #[error("the server asks for authentication in a way that is not known")]
    Unknown,
}

/// The query to ask with next, for a refusal of `connect` with this description; `None` if it is
/// not about authentication. `asked` is the query of the refused one, `challenge` ours.
///
/// # Errors
/// There is nothing to ask with.
pub(super) fn answer(
    description: &str,
    credentials: Option<&Credentials>,
    app: &str,
    asked: Option<&str>,
    challenge: u32,
) -> Result<Option<String>, AuthError> {
    let word = |name: &str| {
        let (_, after) = description.split_once(name)?;
        after.split(|c: char| !c.is_ascii_alphanumeric()).next()
    };
    let Some(method) = word("authmod=") else { return Ok(None) };
    if !matches!(method, "adobe" | "llnw") {
        return Err(AuthError::Unknown);
    }
    let credentials = credentials.ok_or(AuthError::Wanted)?;
    let user = &credentials.user;
    match word("reason=") {
        None if asked.is_none() => return Ok(Some(format!("authmod={method}&user={user}"))),
        Some("needauth") if asked.is_none_or(|asked| !asked.contains("&response=")) => {}
        Some(_) | None => return Err(AuthError::Refused),
    }
    let query = description.split_once('?').map_or("", |(_, query)| query);
    let query = query.split([' ', ']']).next().unwrap_or_default();
    let value = |name| query_parameter(query, name).filter(|value| value.len() <= VALUE_BYTES_MAX);
    let challenge = format!("{challenge:08x}");
    if method == "adobe" {
        let salt = value("salt").ok_or(AuthError::Unknown)?;
        let opaque = value("opaque");
        let theirs = opaque.or(value("challenge")).unwrap_or_default();
        let secret = md5(&[user, salt, &credentials.password]);
        let secret = STANDARD.encode(secret);
        let response = STANDARD.encode(md5(&[&secret, theirs, &challenge]));
        let mut query =
            format!("authmod=adobe&user={user}&challenge={challenge}&response={response}");
        if let Some(opaque) = opaque {
            query.push_str("&opaque=");
            query.push_str(opaque);
        }
        return Ok(Some(query));
    }
    let nonce = value("nonce").ok_or(AuthError::Unknown)?;
    let instance = if app.contains('/') { "" } else { DEFAULT_INSTANCE };
    let ha1 = hex(&md5(&[user, ":", REALM, ":", &credentials.password]));
    let ha2 = hex(&md5(&["publish:/", app, instance]));
    let parts = [&ha1, nonce, NONCE_COUNT, &challenge, "auth", &ha2];
    let response = hex(&md5(&[&parts.join(":")]));
    Ok(Some(format!(
        "authmod=llnw&user={user}&nonce={nonce}&cnonce={challenge}&nc={NONCE_COUNT}\
         &response={response}"
    )))
}

fn md5(parts: &[&str]) -> [u8; 16] {
    parts.iter().fold(Md5::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(
        description: &str,
        app: &str,
        asked: Option<&str>,
    ) -> Result<Option<String>, AuthError> {
        let credentials = Credentials { user: "user".to_owned(), password: "pass".to_owned() };
        answer(description, Some(&credentials), app, asked, 0x0102_0304)
    }

    /// The responses were computed by another implementation of MD5 over the same parts.
    #[test]
    fn adobe_is_answered_in_two_steps() {
        let first = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
        let asked = reply(first, "live", None).unwrap().unwrap();
        assert_eq!(asked, "authmod=adobe&user=user");
        let second = "[ AccessManager.Reject ] : [ authmod=adobe ] : \
                      ?reason=needauth&user=user&salt=abc&challenge=xyz=&opaque=o/p=";
        let answer = reply(second, "live", Some(&asked)).unwrap().unwrap();
        let response = "Py1xe0baFkwL0B+NOsrGLg==";
        let expected =
            format!("authmod=adobe&user=user&challenge=01020304&response={response}&opaque=o/p=");
        assert_eq!(answer, expected);
        assert_eq!(reply(second, "live", Some(&answer)), Err(AuthError::Refused), "no circle");
        let bare = "authmod=adobe ?reason=needauth&user=user&salt=abc&challenge=xyz=";
        let bare = reply(bare, "live", Some(&asked)).unwrap().unwrap();
        let response = "oWIEj6jq7aVS6DoZ5pKQFg==";
        assert_eq!(bare, format!("authmod=adobe&user=user&challenge=01020304&response={response}"));
    }

    #[test]
    fn limelight_is_a_digest_of_the_app() {
        let first = "[ code=403 need auth; authmod=llnw ]";
        let asked = reply(first, "live", None).unwrap().unwrap();
        assert_eq!(asked, "authmod=llnw&user=user");
        let second = "authmod=llnw : ?reason=needauth&user=user&nonce=n0nce";
        let answer = reply(second, "live", Some(&asked)).unwrap().unwrap();
        let response = "3d11cac38aef8fb9dd347f41f0f15147";
        assert!(answer.ends_with(&format!("&nc=00000001&response={response}")), "{answer}");
        let other = reply(second, "live/x", Some(&asked)).unwrap().unwrap();
        assert_ne!(other, answer, "an instance of its own");
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        assert_eq!(reply("no such app", "live", None), Ok(None));
        assert_eq!(reply("code=403; authmod=rsa", "live", None), Err(AuthError::Unknown));
        let failed = "authmod=adobe : ?reason=authfailed";
        assert_eq!(reply(failed, "live", Some("authmod=adobe&user=user")), Err(AuthError::Refused));
        let saltless = "authmod=adobe : ?reason=needauth";
        assert_eq!(reply(saltless, "live", None), Err(AuthError::Unknown));
        let nobody = answer("code=403; authmod=adobe", None, "live", None, 1);
        assert_eq!(nobody, Err(AuthError::Wanted));
    }
}
