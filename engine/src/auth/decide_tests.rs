//! Tables: rules, question, decision.

use super::*;
use crate::auth::{Query, Via, tokens};
use crate::config::{Config, load_str};
use std::path::Path;

fn config(body: &str) -> Config {
    let text = format!("<config>{body}</config>");
    load_str("config.xml", &text, Path::new("/nonexistent")).expect(body)
}

fn rules(body: &str) -> Rules {
    let mut rules = Rules::load(&config(body)).unwrap_or_else(|bad| panic!("{body}: {bad:?}"));
    rules.admin = Some(Secret("the token of the administrator".to_owned()));
    rules
}

/// `ROLE VIA PEER RESOURCE?QUERY [at-home] [Authorization: …]`
fn question(text: &str) -> Question {
    let mut words = text.splitn(5, ' ');
    let mut next = || words.next().unwrap_or_default();
    let (role, via, peer, url, rest) = (next(), next(), next(), next(), next());
    let (resource, query) = url.split_once('?').unwrap_or((url, ""));
    let role = Role::parse(role).expect("a role");
    let (at_home, header) = match rest.strip_prefix("at-home") {
        Some(header) => (true, header.trim()),
        None => (false, rest),
    };
    Question {
        role,
        via: match via {
            "rtmp" => Via::Rtmp,
            "rtsp" => Via::Rtsp,
            _ => Via::Http,
        },
        peer: peer.parse().expect("an address"),
        at_home,
        resource: resource.to_owned(),
        path: format!("/{resource}"),
        query: Query(query.to_owned()),
        shown: match header.strip_prefix("Proven ") {
            Some(user) => Shown::Proven(user.to_owned()),
            None => Shown::of_header(header),
        },
        unasked: false,
        operates: false,
    }
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::Allow(by) => format!("allow {}", by.label()),
        Decision::Deny(reason) => format!("deny {}", reason.label()),
        Decision::Refer(Referral::Compare { then: Ok(by), .. }) => {
            format!("compare {}", by.label())
        }
        Decision::Refer(Referral::Compare { then: Err(reason), .. }) => {
            format!("compare {}", reason.label())
        }
        Decision::Refer(Referral::Ask(target)) => format!("ask {}", target.text),
    }
}

fn table(body: &str, rows: &[(&str, &str)]) {
    let rules = rules(body);
    let judging = Judging { unix_s: 1_767_225_600, suspect: false, running: false };
    for (text, expected) in rows {
        let decision = decide(&question(text), &rules, judging);
        assert_eq!(words(&decision), *expected, "{body}: {text}");
    }
}

const PUBLIC: &str = "203.0.113.7";

#[test]
fn by_itself_a_server_is_open_to_players_and_to_publishers_nearby() {
    table(
        "",
        &[
            ("player rtmp 203.0.113.7 live/s", "allow open"),
            ("player http 203.0.113.7 live/s?user=a&pass=b", "allow open"),
            ("download http 203.0.113.7 vod/a.mp4", "allow open"),
            ("publisher rtmp 127.0.0.1 live/s", "allow address"),
            ("publisher rtsp ::ffff:10.0.0.1 live/s", "allow address"),
            ("publisher rtmp 203.0.113.7 live/s", "deny no_credential"),
            ("publisher rtmp 203.0.113.7 live/s?user=a&pass=b", "deny no_credential"),
            ("api http 127.0.0.1 api/live at-home", "allow address"),
            ("api http 127.0.0.1 api/live", "deny no_credential"),
            ("api http 10.0.0.1 api/live", "deny no_credential"),
            ("upload http 127.0.0.1 vod/ at-home", "allow address"),
            ("upload http 10.0.0.1 vod/", "deny no_credential"),
        ],
    );
    table(
        "<auth><open_publish>true</open_publish></auth>",
        &[("publisher rtmp 203.0.113.7 live/s", "allow open")],
    );
    let allowed = "<http><api_allow>203.0.113.0/24</api_allow></http>";
    table(
        allowed,
        &[
            ("api http 203.0.113.7 api/live", "allow address"),
            ("api http 203.0.114.7 api/live", "deny no_credential"),
            ("upload http 203.0.113.7 vod/", "deny no_credential"),
        ],
    );
}

#[test]
fn the_administrator_may_manage_from_anywhere_and_nothing_else() {
    let good = "Bearer dGhlIHRva2VuIG9mIHRoZSBhZG1pbmlzdHJhdG9y";
    let mut rules = rules("");
    rules.admin = Some(Secret(good["Bearer ".len()..].to_owned()));
    let judging = Judging { unix_s: 0, suspect: false, running: false };
    for (text, expected) in [
        (format!("api http {PUBLIC} api/live {good}"), "allow admin"),
        (format!("upload http {PUBLIC} vod/ {good}"), "allow admin"),
        (format!("publisher http {PUBLIC} live/s {good}"), "deny no_credential"),
        (format!("api http {PUBLIC} api/live {good}x"), "deny bad_credential"),
        (format!("api http {PUBLIC} api/live Bearer x"), "deny bad_credential"),
        (format!("api http {PUBLIC} api/live?token={}", &good[7..]), "deny no_credential"),
    ] {
        assert_eq!(words(&decide(&question(&text), &rules, judging)), expected, "{text}");
    }
}

#[test]
fn users_may_what_their_entry_says() {
    table(
        "<auth>
         <user name='ann' password='secret a'/>
         <user name='bob' password='secret:b' roles='publisher' streams='live/b*'/>
         <user name='ops' password='o' roles='api,upload'/>
         </auth>",
        &[
            ("player rtmp 127.0.0.1 live/s", "deny no_credential"),
            ("player rtmp 127.0.0.1 live/s?user=ann&pass=secret%20a", "allow user"),
            ("player rtmp 127.0.0.1 live/s?user=ann&pass=secret+a", "allow user"),
            ("player rtmp 127.0.0.1 live/s?user=ann&pass=secret", "deny bad_credential"),
            ("player rtmp 127.0.0.1 live/s?user=eve&pass=secret%20a", "deny bad_credential"),
            ("player rtmp 127.0.0.1 live/s?user=ann", "deny no_credential"),
            ("publisher rtmp 203.0.113.7 live/s?user=ann&pass=secret%20a", "allow user"),
            ("publisher rtmp 203.0.113.7 live/b1?user=bob&pass=secret%3Ab", "allow user"),
            ("publisher rtmp 203.0.113.7 live/c?user=bob&pass=secret:b", "deny not_for_this"),
            ("player rtmp 203.0.113.7 live/b1?user=bob&pass=secret:b", "deny not_for_this"),
            ("player http 203.0.113.7 live/s Basic YW5uOnNlY3JldCBh", "allow user"),
            ("player http 203.0.113.7 live/s Basic YW5uOng=", "deny bad_credential"),
            ("player rtsp 203.0.113.7 live/s Proven ann", "allow user"),
            ("player rtsp 203.0.113.7 live/s Proven ops", "deny not_for_this"),
            ("player rtsp 203.0.113.7 live/s Proven gone", "deny bad_credential"),
            ("api http 203.0.113.7 api/live Basic b3BzOm8=", "allow user"),
            ("api http 127.0.0.1 api/live at-home", "deny no_credential"),
            ("download http 203.0.113.7 vod/a", "allow open"),
        ],
    );
    // Only who publishes has to say who he is.
    table(
        "<auth><user name='a' password='b' roles='publisher'/></auth>",
        &[
            ("player rtmp 203.0.113.7 live/s", "allow open"),
            ("publisher rtmp 127.0.0.1 live/s", "deny no_credential"),
        ],
    );
    table(
        "<rtsp><user>cam:secret</user></rtsp>",
        &[
            ("publisher rtsp 127.0.0.1 live/s", "deny no_credential"),
            ("publisher rtsp 127.0.0.1 live/s Proven cam", "allow user"),
            ("publisher rtmp 127.0.0.1 live/s", "allow address"),
            ("player rtmp 203.0.113.7 live/s?user=cam&pass=secret", "allow open"),
            ("publisher rtmp 203.0.113.7 live/s?user=cam&pass=secret", "deny no_credential"),
        ],
    );
}

#[test]
fn hashes_are_compared_elsewhere_and_take_as_long_for_unknown_names() {
    let hash = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$qP4Wv8nC3aZbEqyFzqRrNw";
    table(
        &format!("<auth><user name='a' password='{hash}' streams='live/a'/></auth>"),
        &[
            ("player rtmp 127.0.0.1 live/a?user=a&pass=x", "compare user"),
            ("player rtmp 127.0.0.1 live/b?user=a&pass=x", "compare not_for_this"),
            ("player rtmp 127.0.0.1 live/a?user=b&pass=x", "compare bad_credential"),
        ],
    );
}

#[test]
fn signatures_and_tokens_let_in_and_their_keys_close_the_door() {
    let sig = "d5c2f0359420987ef3bbf55e53a4bb88252b8b21cc9a9477c61bb528992544fd";
    let url =
        |rest: &str| format!("player rtmp {PUBLIC} live/stream?expires=1767225600&sig={rest}");
    table(
        "<auth><sign_key>0123456789abcdef</sign_key></auth>",
        &[
            (&url(sig), "allow signature"),
            (&url("00"), "deny bad_credential"),
            ("player rtmp 203.0.113.7 live/stream", "deny no_credential"),
            ("publisher rtmp 127.0.0.1 live/stream", "deny no_credential"),
            ("download http 203.0.113.7 vod/a", "allow open"),
        ],
    );
    let token = tokens::PLAYER;
    table(
        &format!("<auth><jwt_secret>{}</jwt_secret></auth>", tokens::SECRET),
        &[
            (&format!("player http {PUBLIC} live/s?token={token}"), "allow token"),
            (&format!("player http {PUBLIC} live/s Bearer {token}"), "allow token"),
            (&format!("publisher rtmp {PUBLIC} live/s?token={token}"), "deny not_for_this"),
            (&format!("player http {PUBLIC} live/s?token={token}x"), "deny bad_credential"),
            ("player http 203.0.113.7 live/s?token=xqtv312", "deny no_credential"),
        ],
    );
}

#[test]
fn the_authorisation_server_has_the_say_on_whom_the_file_does_not_know() {
    table(
        "<authurl router='/r'>auth.example</authurl>
         <auth><user name='ann' password='a'/><ask>publisher,player,api</ask></auth>",
        &[
            (
                "publisher rtmp 127.0.0.1 live/s?user=admin&token=x&role=api",
                "ask /r/live/s?user=admin&token=x&type=rtmp&role=publisher",
            ),
            ("player http 127.0.0.1 live/s?user=ann&pass=a", "allow user"),
            ("player http 127.0.0.1 live/s?user=ann&pass=b", "deny bad_credential"),
            (
                "player http 127.0.0.1 live/s?user=bob&pass=a",
                "ask /r/live/s?user=bob&pass=a&type=http&role=player",
            ),
            ("api http 127.0.0.1 api/live at-home", "ask /r/api/live?type=http&role=api"),
            ("download http 203.0.113.7 vod/a", "allow open"),
            ("upload http 127.0.0.1 vod/ at-home", "allow address"),
        ],
    );
    let long = format!("player http {PUBLIC} live/s?{}", "x".repeat(9000));
    table("<authurl>auth.example</authurl>", &[(&long, "deny too_long")]);
    let rules = rules("<authurl>auth.example</authurl>");
    let mut metrics = question("api http 127.0.0.1 metrics at-home");
    metrics.unasked = true;
    let judging = Judging { unix_s: 0, suspect: false, running: false };
    assert_eq!(words(&decide(&metrics, &rules, judging)), "allow address");
}

#[test]
fn addresses_are_refused_before_everything_else() {
    table(
        "<auth>
         <address deny='198.51.100.0/24'/>
         <address roles='publisher' allow='10.0.0.0/8,203.0.113.7' deny='10.6.6.6'/>
         <user name='ann' password='a' roles='player'/>
         </auth>",
        &[
            ("player rtmp 198.51.100.9 live/s?user=ann&pass=a", "deny address"),
            ("download http 198.51.100.9 vod/a", "deny address"),
            ("player rtmp 203.0.113.9 live/s?user=ann&pass=a", "allow user"),
            ("publisher rtmp 10.1.1.1 live/s", "allow address"),
            ("publisher rtmp 203.0.113.7 live/s", "allow address"),
            ("publisher rtmp 10.6.6.6 live/s", "deny address"),
            ("publisher rtmp 127.0.0.1 live/s", "deny address"),
        ],
    );
}

#[test]
fn whoever_failed_too_often_is_not_listened_to() {
    let rules = rules("<auth><user name='ann' password='a' roles='player'/></auth>");
    let judging = Judging { unix_s: 0, suspect: true, running: false };
    let told = |text: &str| words(&decide(&question(text), &rules, judging));
    assert_eq!(told("player rtmp 203.0.113.7 live/s?user=ann&pass=a"), "deny failures");
    assert_eq!(told("player rtmp 203.0.113.7 live/s"), "deny no_credential");
    assert_eq!(told("download http 203.0.113.7 vod/a"), "allow open");
}

#[test]
fn rules_that_let_nobody_in_are_no_rules() {
    let bad = |body: &str| {
        let Err(bad) = Rules::load(&config(body)) else { panic!("{body} is accepted") };
        (bad.option, bad.sentence)
    };
    let (option, sentence) = bad("<auth><require>player</require></auth>");
    assert_eq!(option, "auth/require");
    assert!(sentence.contains("player"), "{sentence}");
    assert_eq!(bad("<auth><jwt_key>missing.pem</jwt_key></auth>").0, "auth/jwt_key");
    assert_eq!(bad("<auth><jwt_jwks>missing</jwt_jwks></auth>").0, "auth/jwt_jwks");
    let tls = "<authurl>https://a</authurl><auth><ca>missing.pem</ca></auth>";
    assert_eq!(bad(tls).0, "auth/ca");
    rules("<auth><require>api</require></auth>");
    rules("<auth><require>player</require><sign_key>0123456789abcdef</sign_key></auth>");
}
