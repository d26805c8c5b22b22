//! Credentials in the dialogue.

use super::*;
use crate::rtsp::Random;
use crate::rtsp::auth::client::{Authorization, Credentials};
use crate::session::{Identity, Refusal};

fn client(password: &str) -> Authorization {
    let (user, password) = ("u".to_owned(), password.to_owned());
    Authorization::new(Some(Credentials { user, password }))
}

fn with(client: &mut Authorization, method: &str, url: &str) -> String {
    let header = client.header(&mut Random::new(3), method, url).unwrap();
    format!("Authorization: {header}\r\n")
}

#[test]
fn what_opens_anything_is_asked_for_credentials() {
    for method in ["DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "RECORD"] {
        let mut bench = Bench::guarded();
        bench.ask(method, URL, "", "");
        let answer = bench.answer();
        assert_eq!(answer.status.0, 401, "{method}");
        let schemes: Vec<_> = answer
            .fields
            .all("WWW-Authenticate")
            .map(|value| value.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(schemes, ["Digest", "Digest", "Basic"]);
    }
    let mut bench = Bench::guarded();
    assert_eq!(bench.status("OPTIONS", URL, ""), 200);
    assert_eq!(bench.status("GET_PARAMETER", URL, ""), 200);
}

#[test]
fn a_dialogue_with_digest() {
    let mut bench = Bench::guarded();
    bench.ask("DESCRIBE", URL, "", "");
    let mut client = client("p");
    assert!(client.challenged(bench.answer().fields.all("WWW-Authenticate")));
    let lines = with(&mut client, "DESCRIBE", URL);
    bench.ask("DESCRIBE", URL, &lines, "");
    assert!(matches!(bench.event(), Event::DescribeRequested(_)));
    bench.engine(Command::Describe(sound()));
    assert_eq!(bench.answer().status.0, 200);
    // The digest is over the URL of the presentation, as some players have it.
    let lines = with(&mut client, "SETUP", URL) + TCP;
    assert_eq!(bench.status("SETUP", &format!("{URL}/trackID=1"), &lines), 200);
    let session = bench.session();
    assert_eq!(bench.status("PLAY", URL, &session), 401, "each of them needs its own");
    assert_eq!(bench.status("TEARDOWN", URL, &session), 200);
}

#[test]
fn guessing_ends() {
    let mut bench = Bench::guarded();
    bench.ask("DESCRIBE", URL, "", "");
    let mut client = client("wrong");
    assert!(client.challenged(bench.answer().fields.all("WWW-Authenticate")));
    for millis in [100, 200, 400, 800, 1000, 1000] {
        assert!(bench.end.is_none());
        let lines = with(&mut client, "DESCRIBE", URL);
        bench.ask("DESCRIBE", URL, &lines, "");
        // What is asked meanwhile waits too.
        bench.ask("OPTIONS", URL, "", "");
        assert!(bench.responses.is_empty());
        bench.expire(Duration::from_millis(millis));
        assert_eq!(bench.responses.remove(0).status.0, 401);
        bench.feed(b"");
        bench.responses.clear();
    }
    assert_eq!(bench.end.map(|error| error.reason), Some("unauthorised"));
}

#[test]
fn other_streams_are_not_covered() {
    let mut bench = Bench::guarded();
    bench.ask("DESCRIBE", URL, "", "");
    let mut client = client("p");
    assert!(client.challenged(bench.answer().fields.all("WWW-Authenticate")));
    let lines = with(&mut client, "DESCRIBE", URL);
    bench.ask("DESCRIBE", "rtsp://h:8554/live/y", &lines, "");
    bench.expire(Duration::from_millis(100));
    assert_eq!(bench.answer().status.0, 401);
}

/// Where there are users, what the engine refuses for want of credentials is asked for.
#[test]
fn the_engine_has_the_peer_asked_who_it_is() {
    let mut options = ServerOptions::default();
    options.access.users = vec![("u".to_owned(), Secret::Password("p".to_owned()))];
    options.access.optional = true;
    let mut bench = Bench::with(options);
    bench.ask("DESCRIBE", URL, "", "");
    let Event::DescribeRequested(access) = bench.event() else { panic!("not asked") };
    assert_eq!(access.identity, Identity::Unknown);
    bench.engine(Command::Reject(Refusal::Unauthorised));
    let answer = bench.answer();
    assert_eq!(answer.status.0, 401);
    assert_eq!(answer.fields.all("WWW-Authenticate").count(), 3);
    assert!(bench.end.is_none(), "it may try again");

    bench.ask("DESCRIBE", URL, "Authorization: Basic dTpw\r\n", "");
    let Event::DescribeRequested(access) = bench.event() else { panic!("not asked") };
    assert_eq!(access.identity, Identity::Proven { user: "u".to_owned() });
    bench.engine(Command::Reject(Refusal::Forbidden));
    assert_eq!(bench.answer().status.0, 403);
    assert!(bench.end.is_some(), "another try is of no use");
}

#[test]
fn who_is_refused_again_and_again_is_given_up() {
    let mut options = ServerOptions::default();
    options.access.judged_elsewhere = true;
    options.access.optional = true;
    let mut bench = Bench::with(options);
    for left in (0..6).rev() {
        bench.ask("DESCRIBE", URL, "Authorization: Basic dTpw\r\n", "");
        assert!(matches!(bench.event(), Event::DescribeRequested(access)
            if matches!(access.identity, Identity::Claimed { .. })));
        bench.engine(Command::Reject(Refusal::Unauthorised));
        bench.expire(bench.server.guard.penalty());
        assert_eq!(bench.answer().status.0, 401);
        assert_eq!(bench.end.is_none(), left > 0);
    }
}
