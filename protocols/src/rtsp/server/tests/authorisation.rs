//! Credentials in the dialogue.

use super::*;
use crate::rtsp::Random;
use crate::rtsp::auth::client::{Authorization, Credentials};

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
