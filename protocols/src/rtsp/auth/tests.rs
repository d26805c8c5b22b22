//! Both ends of the authentication against each other, and against what an attacker tries.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::super::Random;
use super::super::client::{Authorization, Credentials};
use super::super::digest::Algorithm;
use super::*;

const URI: &str = "rtsp://h/live/x";

fn access(secret: Secret) -> Access {
    Access { realm: "r".to_owned(), users: vec![("u".to_owned(), secret)], ..Access::default() }
}

fn password() -> Access {
    access(Secret::Password("p".to_owned()))
}

/// A guard that has asked once, and what it asked.
fn asked(now: Instant) -> (Guard, Vec<String>) {
    let mut guard = Guard::new();
    let challenges = guard.challenges(now, &mut Random::new(1), "r", false);
    (guard, challenges)
}

fn answer(challenges: &[&str], password: &str) -> (Authorization, String) {
    let (user, password) = ("u".to_owned(), password.to_owned());
    let mut client = Authorization::new(Some(Credentials { user, password }));
    assert!(client.challenged(challenges.iter().copied()));
    let header = client.header(&mut Random::new(2), "SETUP", URI).unwrap();
    (client, header)
}

fn check(guard: &mut Guard, now: Instant, access: &Access, header: &str) -> Verdict {
    guard.check(now, access, "SETUP", Some(header), |uri| uri == URI)
}

#[test]
fn every_scheme_with_every_secret_it_can_use() {
    let now = crate::fuzzing::virtual_epoch();
    let md5 = Secret::Ha1Md5(Algorithm::Md5.ha1("u", "r", "p"));
    let sha = Secret::Ha1Sha256(Algorithm::Sha256.ha1("u", "r", "p").to_uppercase());
    for (secret, works) in [
        (Secret::Password("p".to_owned()), [true, true, true]),
        (md5, [false, true, true]),
        (sha, [true, false, true]),
    ] {
        for (scheme, works) in works.into_iter().enumerate() {
            let (mut guard, challenges) = asked(now);
            let (_, header) = answer(&[&challenges[scheme]], "p");
            let expected = if works { Verdict::Allowed } else { Verdict::Denied };
            let access = access(secret.clone());
            assert_eq!(check(&mut guard, now, &access, &header), expected, "{header}");
            let (_, wrong) = answer(&[&challenges[scheme]], "q");
            assert_eq!(check(&mut guard, now, &access, &wrong), Verdict::Denied, "{wrong}");
        }
    }
}

#[test]
fn a_client_takes_the_strongest_and_gives_up_when_refused() {
    let now = crate::fuzzing::virtual_epoch();
    let (_, challenges) = asked(now);
    let all: Vec<_> = challenges.iter().map(String::as_str).collect();
    let (mut client, header) = answer(&all, "p");
    assert!(header.contains("SHA-256") && header.contains("nc=00000001"), "{header}");
    assert!(!client.challenged(all.iter().copied()), "the same question again");
    let mut nobody = Authorization::new(None);
    assert!(!nobody.challenged(all.iter().copied()));
    assert!(!Authorization::new(None).challenged(["Bearer x"].into_iter()));
}

#[test]
fn replayed_expired_and_foreign_nonces_are_stale() {
    let now = crate::fuzzing::virtual_epoch();
    let (mut guard, challenges) = asked(now);
    let (mut client, header) = answer(&[&challenges[0]], "p");
    let access = password();
    assert_eq!(check(&mut guard, now, &access, &header), Verdict::Allowed);
    assert_eq!(check(&mut guard, now, &access, &header), Verdict::Stale, "the count is used up");
    let next = client.header(&mut Random::new(3), "SETUP", URI).unwrap();
    assert_eq!(check(&mut guard, now, &access, &next), Verdict::Allowed);

    let late = now + NONCE_LIFETIME;
    let next = client.header(&mut Random::new(4), "SETUP", URI).unwrap();
    assert_eq!(check(&mut guard, late, &access, &next), Verdict::Stale);
    let fresh = guard.challenges(late, &mut Random::new(9), "r", true);
    assert!(fresh[0].ends_with("stale=true"), "{fresh:?}");
    assert!(client.challenged(fresh.iter().map(String::as_str)), "stale: the password was right");
    let next = client.header(&mut Random::new(5), "SETUP", URI).unwrap();
    assert_eq!(check(&mut guard, late, &access, &next), Verdict::Allowed);

    let mut elsewhere = Guard::new();
    elsewhere.challenges(now, &mut Random::new(7), "r", false);
    assert_eq!(check(&mut elsewhere, now, &access, &header), Verdict::Stale);
}

#[test]
fn what_does_not_fit_is_denied_and_ends_the_connection_in_time() {
    let now = crate::fuzzing::virtual_epoch() + Duration::from_secs(1);
    let (mut guard, challenges) = asked(now);
    let (_, good) = answer(&[&challenges[1]], "p");
    let access = password();
    for wrong in [
        good.replace("realm=\"r\"", "realm=\"s\""),
        good.replace(URI, "rtsp://h/live/y"),
        good.replace("username=\"u\"", "username=\"v\""),
        format!("{good}, qop=auth-int"),
        format!("{good}, algorithm=MD5-sess"),
    ] {
        assert_eq!(check(&mut guard, now, &access, &wrong), Verdict::Denied, "{wrong}");
    }
    assert_eq!(check(&mut guard, now, &access, "Bearer x"), Verdict::GivenUp);
    let (mut guard, _) = asked(now);
    assert_eq!(guard.check(now, &access, "SETUP", None, |_| true), Verdict::Denied);
    let denied = guard.check(now, &access, "PLAY", Some(&good), |uri| uri == URI);
    assert_eq!(denied, Verdict::Denied, "the method is part of the answer");
    assert_eq!(guard.check(now, &Access::default(), "SETUP", None, |_| true), Verdict::Allowed);
}

#[test]
fn who_it_is_is_known_afterwards() {
    let now = crate::fuzzing::virtual_epoch();
    let user = || "u".to_owned();
    let (mut guard, challenges) = asked(now);
    let (_, header) = answer(&[&challenges[0]], "p");
    assert_eq!(check(&mut guard, now, &password(), &header), Verdict::Allowed);
    assert_eq!(guard.identity(), &Identity::Proven { user: user() });
    // A stale answer proves nothing.
    assert_eq!(check(&mut guard, now, &password(), &header), Verdict::Stale);
    assert_eq!(guard.identity(), &Identity::Unknown);

    let optional = Access { optional: true, ..password() };
    assert_eq!(guard.check(now, &optional, "PLAY", None, |_| true), Verdict::Allowed);
    assert_eq!(guard.identity(), &Identity::Unknown);
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    assert_eq!(check(&mut guard, now, &optional, &basic("v:q")), Verdict::Denied);

    let elsewhere = Access { judged_elsewhere: true, ..optional };
    assert_eq!(check(&mut guard, now, &elsewhere, &basic("u:p")), Verdict::Allowed);
    assert_eq!(guard.identity(), &Identity::Proven { user: user() });
    assert_eq!(check(&mut guard, now, &elsewhere, &basic("v:a:b")), Verdict::Allowed);
    let password = Password("a:b".to_owned());
    assert_eq!(guard.identity(), &Identity::Claimed { user: "v".to_owned(), password });
    assert!(!format!("{:?}", guard.identity()).contains("a:b"));
}
