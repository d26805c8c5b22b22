//! `authurl` and `auth/*`: who may do what, as the file says it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use argon2::password_hash::PasswordHash;

use super::error::{ConfigError, Problem};
use super::model::Secret;
use super::options::{Value, url_path};
use super::read::{Group, Values};
use super::units;
use crate::auth::{Role, Roles};

/// Users of one file.
const USERS_MAX: usize = 10_000;
/// Shortest key of signed URLs, in bytes.
const SIGN_KEY_BYTES_MIN: usize = 16;
/// Shortest secret of HS256, in bytes (RFC 7518 3.2).
const JWT_SECRET_BYTES_MIN: usize = 32;
/// Most memory that one Argon2 hash may take, in KiB.
const HASH_KIB_MAX: u32 = 1 << 18;
/// Most rounds of one.
const HASH_ROUNDS_MAX: u32 = 64;

/// Everything that says who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The server that is asked.
    pub hook: Option<Hook>,
    /// Who is known by name.
    pub users: Vec<User>,
    /// Keys of signed URLs.
    pub sign_keys: Vec<Secret>,
    /// How tokens are checked.
    pub jwt: Option<Jwt>,
    /// Who is refused or let in by address.
    pub addresses: Vec<AddressRule>,
    /// Who must show a credential; `None`: as the credentials suggest.
    pub require: Option<Roles>,
    /// Publishers that need no credential may come from public addresses.
    pub open_publish: bool,
    /// A viewer of many requests is not judged again for so long.
    pub cache: Duration,
    /// Running sessions are judged again so often; zero = never.
    pub recheck: Duration,
    /// Wrong credentials per minute and address; 0 = no limit.
    pub failures: u32,
    /// Where the administrator's token is.
    pub token_file: PathBuf,
}

impl Auth {
    /// The file of the keys that tokens are checked with.
    #[must_use]
    pub fn jwt_file(&self) -> Option<&Path> {
        match &self.jwt.as_ref()?.key {
            JwtKey::Secret(_) => None,
            JwtKey::Pem(path) | JwtKey::Jwks(path) => Some(path),
        }
    }
}

/// The authorisation server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Where it is.
    pub url: HookUrl,
    /// Path that questions begin with, without trailing slash.
    pub router: String,
    /// An answer must be complete by then.
    pub timeout: Duration,
    /// `GET` instead of `PUT`.
    pub get: bool,
    /// Plays by HTTP are called `rtmp`.
    pub http_as_rtmp: bool,
    /// Who is asked about.
    pub roles: Roles,
    /// Authorities of its certificate; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Sent along.
    pub secret: Option<Secret>,
}

/// Where an authorisation server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookUrl {
    /// `https`.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path without trailing slash.
    pub path: String,
}

impl HookUrl {
    /// `host[:port]`, or an `http` or `https` URL of nothing but host, port and path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return None,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let place = units::host_port(authority)?;
        if !path.is_empty() && !url_path(path) {
            return None;
        }
        let port = place.port.unwrap_or(if tls { 443 } else { 80 });
        let path = path.trim_end_matches('/').to_owned();
        Some(Self { tls, host: place.host, port, path })
    }

    /// Host and port as they stand in an URL.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

/// A user of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// What proves it.
    pub password: Password,
    /// What the user may be.
    pub roles: Roles,
    /// `app/name` patterns; empty = all.
    pub streams: Vec<String>,
    /// Only by RTSP.
    pub rtsp_only: bool,
}

/// A password of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Itself.
    Plain(Secret),
    /// Its Argon2 hash in PHC form; checked.
    Hash(Secret),
}

impl Password {
    /// Tells hashes from passwords, and checks the former.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let secret = Secret(text.to_owned());
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if !text.starts_with("$argon2") {
            let foreign = ["$2", "$1$", "$5$", "$6$", "$y$", "$scrypt", "$pbkdf2"];
            if foreign.iter().any(|kind| text.starts_with(kind)) {
                return Err("looks like a hash, of which only Argon2 is known here".to_owned());
            }
            return Ok(Self::Plain(secret));
        }
        let wrong = |what: &dyn std::fmt::Display| format!("is no Argon2 hash: {what}");
        let hash = PasswordHash::new(text).map_err(|error| wrong(&error))?;
        let params = argon2::Params::try_from(&hash).map_err(|error| wrong(&error))?;
        argon2::Algorithm::try_from(hash.algorithm).map_err(|error| wrong(&error))?;
        if hash.hash.is_none() || hash.salt.is_none() {
            return Err(wrong(&"salt or hash is missing"));
        }
        if params.m_cost() > HASH_KIB_MAX || params.t_cost() > HASH_ROUNDS_MAX {
            let (memory, rounds) = (HASH_KIB_MAX >> 10, HASH_ROUNDS_MAX);
            return Err(format!("takes more than {memory} MiB or {rounds} rounds to check"));
        }
        Ok(Self::Hash(secret))
    }
}

/// How JSON Web Tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// With what.
    pub key: JwtKey,
    /// `iss` they must have.
    pub issuer: Option<String>,
    /// `aud` they must have.
    pub audience: Option<String>,
}

/// What tokens are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKey {
    /// Secret of HS256.
    Secret(Secret),
    /// File of a public key, PEM.
    Pem(PathBuf),
    /// File of a key set.
    Jwks(PathBuf),
}

impl JwtKey {
    /// The option it comes from.
    #[must_use]
    pub fn option(&self) -> &'static str {
        match self {
            Self::Secret(_) => "auth/jwt_secret",
            Self::Pem(_) => "auth/jwt_key",
            Self::Jwks(_) => "auth/jwt_jwks",
        }
    }
}

/// Addresses of some roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRule {
    /// Whom it is about.
    pub roles: Roles,
    /// Who is refused.
    pub deny: Vec<String>,
    /// Outside of which is refused; empty = nowhere.
    pub allow: Vec<String>,
}

/// Builds the section.
pub(super) fn build(file: &str, values: &Values, base_dir: &Path) -> Result<Auth, ConfigError> {
    let maker = Maker { file, values, base_dir };
    let mut users = maker.users()?;
    users.extend(maker.rtsp_users()?);
    Ok(Auth {
        hook: maker.hook(),
        users,
        sign_keys: maker.sign_keys()?,
        jwt: maker.jwt()?,
        addresses: maker.addresses(),
        require: Some(maker.roles("auth/require")).filter(|roles| !roles.is_empty()),
        open_publish: values.bool("auth/open_publish"),
        cache: values.time("auth/cache"),
        recheck: values.time("auth/recheck"),
        failures: values.int("auth/failures") as u32,
        token_file: values
            .path("auth/token_file", base_dir)
            .unwrap_or_else(|| base_dir.join("admin.token")),
    })
}

struct Maker<'a> {
    file: &'a str,
    values: &'a Values,
    base_dir: &'a Path,
}

impl Maker<'_> {
    fn error(&self, line: usize, path: &str, text: impl Into<String>) -> ConfigError {
        ConfigError::new(self.file, line, path, Problem::Conflict(text.into()))
    }

    fn hook(&self) -> Option<Hook> {
        let values = self.values;
        let text = |path| Some(values.text(path)).filter(|text| !text.is_empty());
        Some(Hook {
            url: HookUrl::parse(&text("authurl")?)?,
            router: values.text("authurl@router").trim_end_matches('/').to_owned(),
            timeout: values.time("authurl@timeout"),
            get: values.text("auth/method") == "GET",
            http_as_rtmp: values.text("auth/http_type") == "rtmp",
            roles: self.roles("auth/ask"),
            ca: values.path("auth/ca", self.base_dir),
            secret: text("auth/secret").map(Secret),
        })
    }

    fn roles(&self, path: &'static str) -> Roles {
        Roles::of(self.values.list(path).iter().filter_map(|name| Role::parse(name)))
    }

    fn users(&self) -> Result<Vec<User>, ConfigError> {
        let mut users: Vec<User> = Vec::new();
        for group in self.values.groups("auth/user") {
            let line = group.line;
            let name = text_of(&group, "auth/user@name");
            if name.is_empty() || name.contains(':') {
                let text = "is missing or has a colon, which no user name has";
                return Err(self.error(line, "auth/user@name", text));
            }
            if users.iter().any(|user| user.name == name) {
                let text = format!("\"{name}\" is the name of two users; keep one");
                return Err(self.error(line, "auth/user@name", text));
            }
            if users.len() >= USERS_MAX {
                let text = format!("is the one too many, {USERS_MAX} are allowed");
                return Err(self.error(line, "auth/user", text));
            }
            let password = Password::parse(&text_of(&group, "auth/user@password"))
                .map_err(|text| self.error(line, "auth/user@password", text))?;
            let roles = roles_of(&group, "auth/user@roles")
                .unwrap_or(Roles::of([Role::Publisher, Role::Player]));
            let streams = list_of(&group, "auth/user@streams");
            users.push(User { name, password, roles, streams, rtsp_only: false });
        }
        Ok(users)
    }

    /// The older form.
    fn rtsp_users(&self) -> Result<Vec<User>, ConfigError> {
        let mut users = Vec::new();
        for text in self.values.texts("rtsp/user") {
            let line = self.values.line("rtsp/user");
            let (name, password) = text.split_once(':').unwrap_or((text, ""));
            if name.is_empty() || password.is_empty() {
                return Err(self.error(line, "rtsp/user", "is not NAME:PASSWORD"));
            }
            let password =
                Password::parse(password).map_err(|text| self.error(line, "rtsp/user", text))?;
            let roles = Roles::of([Role::Publisher, Role::Player]);
            let name = name.to_owned();
            users.push(User { name, password, roles, streams: Vec::new(), rtsp_only: true });
        }
        Ok(users)
    }

    fn sign_keys(&self) -> Result<Vec<Secret>, ConfigError> {
        let keys: Vec<_> = self.values.texts("auth/sign_key").collect();
        if keys.iter().any(|key| key.len() < SIGN_KEY_BYTES_MIN) {
            let text = format!("is shorter than {SIGN_KEY_BYTES_MIN} characters");
            return Err(self.error(self.values.line("auth/sign_key"), "auth/sign_key", text));
        }
        Ok(keys.into_iter().map(|key| Secret(key.to_owned())).collect())
    }

    fn jwt(&self) -> Result<Option<Jwt>, ConfigError> {
        let values = self.values;
        let text = |path| Some(values.text(path)).filter(|text| !text.is_empty());
        let secret = text("auth/jwt_secret");
        if secret.as_ref().is_some_and(|secret| secret.len() < JWT_SECRET_BYTES_MIN) {
            let text = format!("is shorter than {JWT_SECRET_BYTES_MIN} characters");
            return Err(self.error(values.line("auth/jwt_secret"), "auth/jwt_secret", text));
        }
        let keys = [
            secret.map(|secret| JwtKey::Secret(Secret(secret))),
            values.path("auth/jwt_key", self.base_dir).map(JwtKey::Pem),
            values.path("auth/jwt_jwks", self.base_dir).map(JwtKey::Jwks),
        ];
        let mut keys = keys.into_iter().flatten();
        let (issuer, audience) = (text("auth/jwt_issuer"), text("auth/jwt_audience"));
        let Some(key) = keys.next() else {
            for path in ["auth/jwt_issuer", "auth/jwt_audience"] {
                if text(path).is_some() {
                    let text = "is set without a key that tokens could be checked with";
                    return Err(self.error(values.line(path), path, text));
                }
            }
            return Ok(None);
        };
        if let Some(other) = keys.next() {
            let text = format!("is set beside {}; keep one", key.option());
            return Err(self.error(values.line(other.option()), other.option(), text));
        }
        Ok(Some(Jwt { key, issuer, audience }))
    }

    fn addresses(&self) -> Vec<AddressRule> {
        let rule = |group: Group<'_>| AddressRule {
            roles: roles_of(&group, "auth/address@roles").unwrap_or(Roles::ALL),
            deny: list_of(&group, "auth/address@deny"),
            allow: list_of(&group, "auth/address@allow"),
        };
        self.values.groups("auth/address").map(rule).collect()
    }
}

fn text_of(group: &Group<'_>, path: &str) -> String {
    match group.get(path) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn list_of(group: &Group<'_>, path: &str) -> Vec<String> {
    match group.get(path) {
        Some(Value::List(list)) => list.clone(),
        _ => Vec::new(),
    }
}

fn roles_of(group: &Group<'_>, path: &str) -> Option<Roles> {
    let names = list_of(group, path);
    (!names.is_empty()).then(|| Roles::of(names.iter().filter_map(|name| Role::parse(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_host_and_port_or_an_url() {
        let parse = |text| HookUrl::parse(text).map(|url| (url.tls, url.authority(), url.path));
        let ok = |tls, authority: &str, path: &str| Some((tls, authority.into(), path.into()));
        assert_eq!(parse("192.168.1.32:8181"), ok(false, "192.168.1.32:8181", ""));
        assert_eq!(parse("auth.example"), ok(false, "auth.example", ""));
        assert_eq!(parse("http://Auth.example/a/b/"), ok(false, "auth.example", "/a/b"));
        assert_eq!(parse("https://[::1]:8443/"), ok(true, "[::1]:8443", ""));
        assert_eq!(parse("HTTPS://a"), ok(true, "a", ""));
        for bad in [
            "",
            "/",
            "ftp://a",
            "http://",
            "http://a:b",
            "http://u:p@a",
            "a?x=1",
            "http://a/b?c",
            "http://a/b#c",
            "http://a/b c",
            "a b",
            "http://a:0",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn hashes_are_told_from_passwords() {
        let hash = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$qP4Wv8nC3aZbEqyFzqRrNw";
        assert!(matches!(Password::parse(hash), Ok(Password::Hash(_))));
        assert!(matches!(Password::parse("pa$$word"), Ok(Password::Plain(_))));
        for bad in [
            "",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$6$salt$hash",
            "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ",
            "$argon2x$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$qP4Wv8nC3aZbEqyFzqRrNw",
            "$argon2id$v=19$m=1048576,t=2,p=1$c2FsdHNhbHQ$qP4Wv8nC3aZbEqyFzqRrNw",
            "$argon2id$nonsense",
        ] {
            let error = Password::parse(bad).expect_err(bad);
            assert!(!error.contains("c2Fsd"), "{error}");
        }
    }
}
