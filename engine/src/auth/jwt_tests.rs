//! Tokens and keys that another implementation made.

use super::*;
use crate::config::model::Secret;

use crate::auth::tokens::*;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata").join(name)
}

fn load(key: JwtKey) -> Result<Verifier, String> {
    Verifier::load(&Jwt { key, issuer: None, audience: None })
}

fn symmetric() -> Verifier {
    load(JwtKey::Secret(Secret(SECRET.to_owned()))).expect("a key")
}

fn check(verifier: &Verifier, token: &str, role: Role, resource: &str) -> Result<(), Reason> {
    let mut question = Question::example("");
    (question.role, question.resource) = (role, resource.to_owned());
    verifier.check(token, &question, false)
}

#[test]
fn claims_say_what_a_token_is_for() {
    let verifier = symmetric();
    let not = Err(Reason::NotForThis);
    for (token, role, resource, expected) in [
        (PLAYER, Role::Player, "live/stream", Ok(())),
        (PLAYER, Role::Publisher, "live/stream", not),
        (PUBLISHER, Role::Publisher, "live/stream", Ok(())),
        (PUBLISHER, Role::Publisher, "live/streams", not),
        (PUBLISHER, Role::Player, "live/stream", not),
        (LISTS, Role::Player, "live/stream", Ok(())),
        (LISTS, Role::Player, "rec/a/b", Ok(())),
        (LISTS, Role::Player, "live/other", not),
        (LISTS, Role::Api, "live/str", Ok(())),
        (LISTS, Role::Upload, "live/str", not),
        (BOUND, Role::Player, "live/stream", Ok(())),
        (EXPIRED, Role::Player, "live/stream", Err(Reason::Expired)),
        (EARLY, Role::Player, "live/stream", Err(Reason::BadCredential)),
        (ENDLESS, Role::Player, "live/stream", Err(Reason::BadCredential)),
        (FOREIGN, Role::Player, "live/stream", Err(Reason::BadCredential)),
        (HS512, Role::Player, "live/stream", Err(Reason::BadCredential)),
        (NONE, Role::Player, "live/stream", Err(Reason::BadCredential)),
        ("a.b.c", Role::Player, "live/stream", Err(Reason::BadCredential)),
        ("", Role::Player, "live/stream", Err(Reason::BadCredential)),
    ] {
        let got = check(&verifier, token, role, resource);
        assert_eq!(got, expected, "{role} {resource} {token}");
    }
    let mut moved = Question::example("");
    moved.peer = "203.0.113.8".parse().expect("an address");
    assert_eq!(verifier.check(BOUND, &moved, false), not);
    // It was good once.
    assert_eq!(verifier.check(EXPIRED, &moved, true), Ok(()));
    assert_eq!(verifier.check(FOREIGN, &moved, true), Err(Reason::BadCredential));
    let long = "a".repeat(TOKEN_BYTES_MAX);
    assert_eq!(verifier.check(&format!("{long}.b.c"), &moved, false), Err(Reason::BadCredential));
}

#[test]
fn public_keys_stand_in_files() {
    let play = |verifier: &Verifier, token: &str| {
        check(verifier, token, Role::Player, "live/stream").is_ok()
    };
    let rsa = load(JwtKey::Pem(file("rs256.pem"))).expect("a key");
    assert!(play(&rsa, RS256) && play(&rsa, RS256_UNNAMED) && play(&rsa, RS256_OTHER_NAME));
    // A public key is no secret: whoever signs with it must not be believed.
    assert!(!play(&rsa, CONFUSED) && !play(&rsa, PLAYER) && !play(&rsa, ES256));
    let ec = load(JwtKey::Pem(file("es256.pem"))).expect("a key");
    assert!(play(&ec, ES256) && !play(&ec, RS256));
    let set = load(JwtKey::Jwks(file("jwks.json"))).expect("keys");
    assert!(play(&set, RS256) && play(&set, RS256_UNNAMED) && play(&set, ES256));
    assert!(!play(&set, RS256_OTHER_NAME) && !play(&set, CONFUSED) && !play(&set, PLAYER));
}

#[test]
fn issuer_and_audience_are_asked_for_where_they_are_named() {
    let named = |issuer: Option<&str>, audience: Option<&str>| {
        let key = JwtKey::Secret(Secret(SECRET.to_owned()));
        let own = |text: Option<&str>| text.map(str::to_owned);
        let jwt = Jwt { key, issuer: own(issuer), audience: own(audience) };
        let verifier = Verifier::load(&jwt).expect("a key");
        let play = |token| check(&verifier, token, Role::Player, "live/stream").is_ok();
        (play(LISTS), play(PLAYER))
    };
    assert_eq!(named(None, None), (true, true));
    assert_eq!(named(Some("issuer"), Some("audience")), (true, false));
    assert_eq!(named(Some("other"), None), (false, false));
    assert_eq!(named(None, Some("other")), (false, false));
}

#[test]
fn bad_files_are_named() {
    let fault = |key| load(key).err().expect("unusable");
    for (name, sentence) in [
        ("missing.pem", "cannot be read"),
        ("", "is not a file"),
        ("jwks.json", "holds no public key"),
        ("es384.pem", "holds no public key"),
    ] {
        let error = fault(JwtKey::Pem(file(name)));
        assert!(error.contains(name) && error.contains(sentence), "{error}");
    }
    let error = fault(JwtKey::Jwks(file("rs256.pem")));
    assert!(error.contains("is no JSON Web Key Set"), "{error}");
}

#[test]
fn tokens_are_told_from_other_texts() {
    assert!(Verifier::is_token(PLAYER));
    for other in ["", "xqtv312", "a.b", "a..c", "a.b.c.d", "a.b.c=", "a.b.é"] {
        assert!(!Verifier::is_token(other), "{other}");
    }
}
