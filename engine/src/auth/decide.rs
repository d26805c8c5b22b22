//! The decision: from a question and the rules to allow, deny, or whom to ask. Pure.
//!
//! In this order: addresses that are refused; the administrator's token; a credential that the
//! rules know how to judge, which is then final; the authorisation server; and without any of
//! these what is open by itself.

use protocols::session::Refusal;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::jwt::Verifier;
use super::signed::Claim;
use super::{Question, Role, Rules, Shown, Target, is_private, target};
use crate::config::auth::{Password, User};
use crate::config::model::Secret;
use crate::config::units;

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow(By),
    /// It may not.
    Deny(Reason),
    /// Somebody else has to say.
    Refer(Referral),
}

/// Who has to say, and what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referral {
    /// A password is to be compared with a hash, which takes too long to do on a shard.
    Compare {
        /// The hash.
        hash: Secret,
        /// The password.
        password: Secret,
        /// What comes of it when they fit; a denial otherwise.
        then: Result<By, Reason>,
    },
    /// The authorisation server.
    Ask(Target),
}

/// Why somebody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nothing is asked for.
    Open,
    /// Its address.
    Address,
    /// A user's password.
    User,
    /// A signed URL.
    Signature,
    /// A token.
    Token,
    /// The administrator's token.
    Admin,
    /// The authorisation server.
    Hook,
    /// It was let in a moment ago.
    Session,
    /// It was let in before, and nobody can say now.
    Running,
}

impl By {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Address,
        Self::User,
        Self::Signature,
        Self::Token,
        Self::Admin,
        Self::Hook,
        Self::Session,
        Self::Running,
    ];

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Address => "address",
            Self::User => "user",
            Self::Signature => "signature",
            Self::Token => "token",
            Self::Admin => "admin",
            Self::Hook => "hook",
            Self::Session => "session",
            Self::Running => "running",
        }
    }
}

/// Why somebody is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its address is refused.
    Address,
    /// It shows nothing.
    NoCredential,
    /// What it shows is wrong.
    BadCredential,
    /// What it shows was right once.
    Expired,
    /// What it shows is right, but for another role, stream or address.
    NotForThis,
    /// Too much that came from its address was wrong.
    Failures,
    /// The authorisation server said no.
    Refused,
    /// The authorisation server said nothing.
    Unavailable,
    /// The URL is longer than any that makes sense.
    TooLong,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Address,
        Self::NoCredential,
        Self::BadCredential,
        Self::Expired,
        Self::NotForThis,
        Self::Failures,
        Self::Refused,
        Self::Unavailable,
        Self::TooLong,
    ];

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::NoCredential => "no_credential",
            Self::BadCredential => "bad_credential",
            Self::Expired => "expired",
            Self::NotForThis => "not_for_this",
            Self::Failures => "failures",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::TooLong => "too_long",
        }
    }

    /// What the peer is told.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::NoCredential | Self::BadCredential | Self::Expired => Refusal::Unauthorised,
            Self::Address | Self::NotForThis | Self::Refused | Self::TooLong => Refusal::Forbidden,
            Self::Failures | Self::Unavailable => Refusal::Unverified,
        }
    }
}

/// What else a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Judging {
    /// Wall clock.
    pub unix_s: u64,
    /// Too much that came from the address was wrong.
    pub suspect: bool,
    /// It was let in before: whether it may stay.
    pub running: bool,
}

/// See the module text.
#[must_use]
pub fn decide(question: &Question, rules: &Rules, judging: Judging) -> Decision {
    let Question { role, via, peer, .. } = *question;
    if rules.refuses(role, peer) {
        return Decision::Deny(Reason::Address);
    }
    if role == Role::Api && !question.operates && rules.api.contain(peer) {
        return Decision::Allow(By::Address);
    }
    match known(question, rules, judging) {
        Some(_) if judging.suspect => return Decision::Deny(Reason::Failures),
        Some(decision) => return decision,
        None => {}
    }
    if let Some((hook, _)) = rules.hook.as_ref().filter(|_| rules.asks(role) && !question.unasked) {
        return match target(rules.number, hook, question) {
            Some(target) => Decision::Refer(Referral::Ask(target)),
            None => Decision::Deny(Reason::TooLong),
        };
    }
    if rules.requires(role, via) {
        return Decision::Deny(Reason::NoCredential);
    }
    let near = match role {
        Role::Player | Role::Download => return Decision::Allow(By::Open),
        Role::Publisher if rules.options.open_publish => return Decision::Allow(By::Open),
        Role::Publisher => is_private(peer) || rules.lists(role, peer),
        Role::Api | Role::Upload => question.at_home,
    };
    if near { Decision::Allow(By::Address) } else { Decision::Deny(Reason::NoCredential) }
}

/// The decision on what is shown, if it is something that the rules know how to judge.
fn known(question: &Question, rules: &Rules, judging: Judging) -> Option<Decision> {
    let settled = |outcome: Result<(), Reason>, by| match outcome {
        Ok(()) => Decision::Allow(by),
        Err(reason) => Decision::Deny(reason),
    };
    let query = &question.query;
    match &question.shown {
        Shown::Proven(name) => return Some(settled(of_user(rules, name, question), By::User)),
        Shown::Password(name, password) => {
            if let Some(decision) = password_of(rules, name, password, question) {
                return Some(decision);
            }
        }
        Shown::Bearer(token) => {
            let manages = matches!(question.role, Role::Api | Role::Upload);
            let admin = rules.admin.as_ref().filter(|_| manages);
            if admin.is_some_and(|admin| same(&admin.0, &token.0)) {
                return Some(Decision::Allow(By::Admin));
            }
            let tokens = rules.tokens.as_ref().filter(|_| Verifier::is_token(&token.0));
            if let Some(verifier) = tokens {
                let outcome = verifier.check(&token.0, question, judging.running);
                return Some(settled(outcome, By::Token));
            }
            if admin.is_some() && !rules.asks(question.role) {
                return Some(Decision::Deny(Reason::BadCredential));
            }
        }
        Shown::Nothing => {}
    }
    if let (Some(name), Some(password)) = (query.value("user"), query.value("pass"))
        && let Some(decision) = password_of(rules, &name, &Secret(password), question)
    {
        return Some(decision);
    }
    let keys = &rules.options.sign_keys;
    if let Some(claim) = Claim::of(question).filter(|_| !keys.is_empty()) {
        let outcome = claim.check(question, keys, judging.unix_s, judging.running);
        return Some(settled(outcome, By::Signature));
    }
    let verifier = rules.tokens.as_ref()?;
    let token = query.value("token").filter(|token| Verifier::is_token(token))?;
    Some(settled(verifier.check(&token, question, judging.running), By::Token))
}

/// `None`: nobody of that name is known here, but the authorisation server may know more.
fn password_of(
    rules: &Rules,
    name: &str,
    password: &Secret,
    question: &Question,
) -> Option<Decision> {
    let Some(user) = rules.user(name, question.via) else {
        if rules.asks(question.role) || !rules.has_users(question.via) {
            return None;
        }
        // It takes as long to find out as with a name that is known.
        let denied = Decision::Deny(Reason::BadCredential);
        return Some(rules.any_hash().map_or(denied, |hash| {
            let (hash, password) = (hash.clone(), password.clone());
            let then = Err(Reason::BadCredential);
            Decision::Refer(Referral::Compare { hash, password, then })
        }));
    };
    let then = fits(user, question).map(|()| By::User);
    Some(match &user.password {
        Password::Plain(own) if same(&own.0, &password.0) => match then {
            Ok(by) => Decision::Allow(by),
            Err(reason) => Decision::Deny(reason),
        },
        Password::Plain(_) => Decision::Deny(Reason::BadCredential),
        Password::Hash(hash) => {
            let (hash, password) = (hash.clone(), password.clone());
            Decision::Refer(Referral::Compare { hash, password, then })
        }
    })
}

fn of_user(rules: &Rules, name: &str, question: &Question) -> Result<(), Reason> {
    let user = rules.user(name, question.via).ok_or(Reason::BadCredential)?;
    fits(user, question)
}

/// The user may be that, there.
fn fits(user: &User, question: &Question) -> Result<(), Reason> {
    let listed = |pattern: &String| units::matches(pattern, &question.resource);
    let there = user.streams.is_empty() || user.streams.iter().any(listed);
    let good = user.roles.contains(question.role) && there;
    if good { Ok(()) } else { Err(Reason::NotForThis) }
}

/// Compares secrets in a time that tells neither their length nor where they differ.
fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a).as_slice().ct_eq(Sha256::digest(b).as_slice()).into()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
