//! The configuration as it is applied: keys read, lists parsed, and which roles need what.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::jwt::Verifier;
use super::{Networks, Role, Roles, Via, token_file};
use crate::config::Config;
use crate::config::auth::{Auth, Hook, Password, User};
use crate::config::model::Secret;
use crate::net::tls_client::TlsClient;

/// Rules made so far by this process.
static MADE: AtomicU64 = AtomicU64::new(0);

/// See the module text.
pub struct Rules {
    /// Tells them from all others of this process.
    pub number: u64,
    /// The server that is asked, and whom to trust that it is it.
    pub hook: Option<(Hook, TlsClient)>,
    /// The options.
    pub options: Auth,
    /// Checks tokens.
    pub(super) tokens: Option<Verifier>,
    /// The administrator's.
    pub(super) admin: Option<Secret>,
    /// Addresses that may use the API.
    pub(super) api: Networks,
    users: HashMap<String, User>,
    addresses: Vec<(Roles, Networks, Networks)>,
    /// Roles that need a credential, and those that need one by RTSP.
    required: Roles,
    required_by_rtsp: Roles,
    /// Digest of the files that it was made from.
    files: [u8; 32],
}

/// Why the configuration cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {sentence}")]
pub struct BadRules {
    /// Path of the option.
    pub option: &'static str,
    /// What is wrong with it, one sentence.
    pub sentence: String,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

impl Rules {
    /// Reads the files of keys and compiles the lists.
    ///
    /// # Errors
    /// A file cannot be used, or nobody could ever be let in.
    pub fn load(config: &Config) -> Result<Self, BadRules> {
        let auth = &config.auth;
        // Before they are read: one that changes meanwhile makes the next rules differ.
        let files = digest(config);
        let bad = |option, sentence| BadRules { option, sentence };
        let tokens = match &auth.jwt {
            Some(jwt) => {
                let verifier = Verifier::load(jwt);
                Some(verifier.map_err(|sentence| bad(jwt.key.option(), sentence))?)
            }
            None => None,
        };
        let hook = match &auth.hook {
            Some(hook) => {
                let authorities = hook.url.tls.then(|| hook.ca.clone());
                let tls = TlsClient::load(&config.ssl, authorities)
                    .map_err(|error| bad("auth/ca", format!("cannot be used: {error}")))?;
                Some((hook.clone(), tls))
            }
            None => None,
        };
        let admin = token_file::read(&auth.token_file)
            .map_err(|sentence| bad("auth/token_file", sentence))?;
        let of_users = |rtsp| {
            let users = auth.users.iter().filter(move |user| user.rtsp_only == rtsp);
            users.fold(Roles::NONE, |roles, user| roles.and(user.roles))
        };
        let keys = !auth.sign_keys.is_empty() || auth.jwt.is_some();
        let of_keys = if keys { Roles::of([Role::Publisher, Role::Player]) } else { Roles::NONE };
        let required = auth.require.unwrap_or(of_users(false).and(of_keys));
        for role in required.iter() {
            let asked = auth.hook.as_ref().is_some_and(|hook| hook.roles.contains(role));
            let admin = role == Role::Api;
            if !keys && !asked && !admin && !of_users(false).contains(role) {
                let sentence =
                    format!("names {role}, which no user, key or authurl lets anybody be");
                return Err(bad("auth/require", sentence));
            }
        }
        let rule = |rule: &crate::config::auth::AddressRule| {
            (rule.roles, Networks::new(&rule.deny), Networks::new(&rule.allow))
        };
        Ok(Self {
            number: MADE.fetch_add(1, Ordering::Relaxed),
            hook,
            tokens,
            admin,
            api: Networks::new(&config.http.api_allow),
            users: auth.users.iter().map(|user| (user.name.clone(), user.clone())).collect(),
            addresses: auth.addresses.iter().map(rule).collect(),
            required,
            required_by_rtsp: required.and(of_users(true)),
            files,
            options: auth.clone(),
        })
    }

    /// The same, so that whoever was let in by the one would be by the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let same_hook = match (&self.hook, &other.hook) {
            (Some((_, tls)), Some((_, other))) => tls.is_same(other),
            (None, None) => true,
            _ => false,
        };
        let same_files = same_hook && self.files == other.files;
        same_files && self.options == other.options && self.api == other.api
    }

    /// The user of that name, as far as the protocol knows it.
    pub(super) fn user(&self, name: &str, via: Via) -> Option<&User> {
        self.users.get(name).filter(|user| !user.rtsp_only || via == Via::Rtsp)
    }

    /// There are users at all.
    pub(super) fn has_users(&self, via: Via) -> bool {
        self.users.values().any(|user| !user.rtsp_only || via == Via::Rtsp)
    }

    /// Any hash of a password: comparing with it takes as long as with a user's own.
    pub(super) fn any_hash(&self) -> Option<&Secret> {
        self.users.values().find_map(|user| match &user.password {
            Password::Hash(hash) => Some(hash),
            Password::Plain(_) => None,
        })
    }

    /// To judge a request of that role may take long enough that it is not done for each.
    #[must_use]
    pub fn are_costly(&self, role: Role) -> bool {
        self.asks(role) || self.tokens.is_some() || self.has_hashes()
    }

    /// Whoever wants to be that may, whatever it shows: there is nothing to judge it by.
    #[must_use]
    pub fn let_all(&self, role: Role) -> bool {
        matches!(role, Role::Player | Role::Download)
            && self.hook.is_none()
            && self.tokens.is_none()
            && self.users.is_empty()
            && self.addresses.is_empty()
            && self.options.sign_keys.is_empty()
    }

    /// The role needs a credential.
    pub(super) fn requires(&self, role: Role, via: Via) -> bool {
        match via {
            Via::Rtsp => self.required_by_rtsp.contains(role),
            Via::Rtmp | Via::Http => self.required.contains(role),
        }
    }

    /// The authorisation server has a say in it.
    pub(super) fn asks(&self, role: Role) -> bool {
        self.hook.as_ref().is_some_and(|(hook, _)| hook.roles.contains(role))
    }

    /// The address is refused as that role.
    pub(super) fn refuses(&self, role: Role, peer: IpAddr) -> bool {
        self.addresses.iter().filter(|(roles, ..)| roles.contains(role)).any(|(_, deny, allow)| {
            deny.contain(peer) || (!allow.is_empty() && !allow.contain(peer))
        })
    }

    /// The address is listed as one that may be that role.
    pub(super) fn lists(&self, role: Role, peer: IpAddr) -> bool {
        let mut rules = self.addresses.iter().filter(|(roles, ..)| roles.contains(role));
        rules.any(|(_, _, allow)| allow.contain(peer))
    }

    /// Users whose passwords a session may compare itself.
    pub fn plain_users(&self, via: Via) -> impl Iterator<Item = (&str, &Secret)> {
        let users = self.users.values().filter(move |user| !user.rtsp_only || via == Via::Rtsp);
        users.filter_map(|user| match &user.password {
            Password::Plain(password) => Some((user.name.as_str(), password)),
            Password::Hash(_) => None,
        })
    }

    /// There are users whose passwords only [`super::hash`] can compare.
    #[must_use]
    pub fn has_hashes(&self) -> bool {
        self.any_hash().is_some()
    }

    /// Somebody may publish or play by RTSP without credentials in the header.
    #[must_use]
    pub fn rtsp_is_open(&self) -> bool {
        // What is shown in the URL is for the engine to judge.
        let by_url = self.tokens.is_some()
            || !self.options.sign_keys.is_empty()
            || self.users.values().any(|user| !user.rtsp_only);
        let closed = |role| self.requires(role, Via::Rtsp) && !self.asks(role) && !by_url;
        !(closed(Role::Publisher) && closed(Role::Player))
    }

    /// Credentials in the `Authorization` header of HTTP that make a difference, as the value of
    /// `WWW-Authenticate`.
    #[must_use]
    pub fn challenge(&self, role: Role) -> Option<&'static str> {
        if self.has_users(Via::Http) {
            Some("Basic realm=\"smart-rtmpd\", charset=\"UTF-8\"")
        } else if self.tokens.is_some() || (role == Role::Api && self.admin.is_some()) {
            Some("Bearer realm=\"smart-rtmpd\"")
        } else {
            None
        }
    }

    /// Publishing needs no credential: from where, for the operator to read.
    #[must_use]
    pub fn publishing(&self) -> &'static str {
        let closed = self.asks(Role::Publisher) || self.requires(Role::Publisher, Via::Rtmp);
        match (closed, self.options.open_publish) {
            (true, _) => "needs a credential",
            (false, true) => "is open to EVERY address (auth/open_publish)",
            (false, false) => {
                "is open to this machine and private networks; from elsewhere it needs a \
                 credential, see auth/* in config.xml, or auth/open_publish"
            }
        }
    }
}

/// What stands in the files of keys; those that cannot be read are refused when they are.
fn digest(config: &Config) -> [u8; 32] {
    let auth = &config.auth;
    let mut digest = Sha256::new();
    for path in [Some(auth.token_file.as_path()), auth.jwt_file()].into_iter().flatten() {
        let bytes = std::fs::read(path).unwrap_or_default();
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    digest.finalize().into()
}
