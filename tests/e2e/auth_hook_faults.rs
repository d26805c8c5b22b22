//! An authorisation server that does not answer as it should: everybody is refused in time, only
//! who waits for it waits, and nobody else feels it.

use std::time::{Duration, Instant};

use tests::auth_stub::{Asked, Reply, Stub};
use tests::canary::Canary;
use tests::certificates::self_signed;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{http, wait};

const BOUND: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_millis(1000);
/// How much later than the deadline the refusal may be there, on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

fn config(place: &str) -> Config {
    let element = format!("<authurl timeout='{}'>{place}</authurl>", TIMEOUT.as_millis());
    Config::default().with(&element)
}

/// The answer to a play by RTMP, and how long it took.
fn told(server: &Server, name: &str) -> (String, Duration) {
    let start = Instant::now();
    let mut peer = Peer::playing(server.rtmp, name).expect("connects");
    let status = peer.status_of(&["onStatus"]).expect("an answer");
    (status, start.elapsed())
}

fn unanswered(server: &Server, cause: &str) -> f64 {
    let label = format!("cause=\"{cause}\"");
    server.metrics().sum("smart_rtmpd_auth_unanswered_total", &[&label])
}

#[test]
fn whatever_is_no_plain_200_is_a_refusal_in_time() {
    let own = Stub::start(|_| Reply::Status(200));
    let elsewhere = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\n\r\n", own.place());
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let junk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n";
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(100_000));
    let cases: Vec<(&str, Reply, u16, &str)> = vec![
        ("redirect", raw(&elsewhere), 403, ""),
        ("redirect to itself", raw("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), 403, ""),
        ("201", Reply::Status(201), 403, ""),
        ("204", Reply::Status(204), 403, ""),
        ("401", Reply::Status(401), 403, ""),
        ("404", Reply::Status(404), 403, ""),
        ("500", Reply::Status(500), 503, "server_error"),
        ("503", Reply::Status(503), 503, "server_error"),
        ("silence", Reply::Hang, 503, "timeout"),
        ("too late", Reply::Late(TIMEOUT * 2, 200), 503, "timeout"),
        ("one byte at a time", Reply::Drip, 503, "timeout"),
        ("closed", Reply::Close, 503, "bad_answer"),
        ("a body without end", Reply::Endless, 503, "bad_answer"),
        ("broken chunks", raw(junk), 503, "bad_answer"),
        ("no HTTP", raw("hello\r\n\r\n"), 503, "bad_answer"),
        ("too many headers", raw(&many), 503, "bad_answer"),
        ("too long a header", raw(&long), 503, "bad_answer"),
        ("cut short", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), 503, "bad_answer"),
    ];
    let stub = Stub::start(|_| Reply::Status(200));
    let server = Server::start(&config(&stub.place()));
    for (what, reply, expected, cause) in cases {
        let before = if cause.is_empty() { 0.0 } else { unanswered(&server, cause) };
        stub.set(move |_| reply.clone());
        let start = Instant::now();
        let answer = http::get(server.http, &format!("/live/{}.flv", what.replace(' ', "_")));
        let took = start.elapsed();
        assert_eq!(answer.status, expected, "{what}");
        assert!(took < TIMEOUT + SLACK, "{what} took {took:?}");
        if !cause.is_empty() {
            assert!(unanswered(&server, cause) > before, "{what} counts as {cause}");
        }
        // An answer closes the breaker again.
        stub.set(|_| Reply::Status(404));
        let _ = http::get(server.http, "/live/between.flv");
    }
    assert_eq!(own.take(), [], "redirects are not followed");

    // These are answers all the same.
    for fine in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nyes",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        stub.set(move |_| raw(fine));
        let answer = http::request(server.http, "HEAD", "/live/fine.flv", &[]);
        assert_eq!(answer.status, 200, "{fine}");
    }
}

#[test]
fn a_server_that_is_down_or_unknown_lets_nobody_in() {
    let gone = Stub::start(|_| Reply::Status(200)).place();
    for (place, cause) in [(&*gone, "connect"), ("no-such-host.invalid", "resolve")] {
        let server = Server::start(&config(place));
        let (status, took) = told(&server, "x");
        assert_eq!(status, "NetStream.Play.Failed", "{place}");
        assert!(took < TIMEOUT + SLACK, "{place}: {took:?}");
        assert!(unanswered(&server, cause) >= 1.0, "{place}");
        let (_, _, status) = Peer::publishing(server.rtmp, "x").expect("an answer");
        assert_eq!(status, "NetStream.Publish.Failed", "{place}");
    }
}

/// The certificate must be of a known authority and of that name.
#[test]
fn https_is_verified() {
    let folder = std::env::temp_dir().join(format!("auth-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("writable");
    let pair = |name: &str| {
        let (key, cert) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.crt")));
        self_signed(&cert, &key, "/CN=auth", name).map(|()| (cert, key))
    };
    let Some((good, good_key)) = pair("IP:127.0.0.1") else { return };
    let Some((other, other_key)) = pair("IP:127.0.0.2") else { return };
    let play = |server: &Server| http::request(server.http, "HEAD", "/live/x.flv", &[]).status;
    for (certificate, key, expected) in [(&good, &good_key, 200), (&other, &other_key, 503)] {
        let stub = Stub::start_tls(certificate, key, |_| Reply::Status(200));
        let place = format!("https://{}", stub.place());
        let trust = format!("<auth><ca>{}</ca></auth>", certificate.display());
        let server = Server::start(&config(&place).with(&trust));
        assert_eq!(play(&server), expected, "{}", server.log());
        // Whom the system does not know is not trusted.
        let server = Server::start(&config(&place));
        assert_eq!(play(&server), 503);
        assert!(unanswered(&server, "tls") >= 1.0);
    }
    std::fs::remove_dir_all(&folder).expect("ours");
}

/// A thousand wait for a server that says nothing; who plays feels nothing of it.
#[test]
fn only_who_waits_for_the_answer_waits() {
    const WAITING: usize = 1000;
    // Longer than it takes for all of them to come and for half of them to go.
    const PATIENCE: Duration = Duration::from_secs(12);
    const LEFT: Duration = Duration::from_secs(3);
    // Of each the allocator keeps 13 KiB, for its socket, its session and its question.
    const RESIDENT_KIB: u64 = 20 * WAITING as u64;
    let stub =
        Stub::start(
            |asked: &Asked| {
                if asked.target.contains("/hang") { Reply::Hang } else { Reply::Status(200) }
            },
        );
    let element = format!("<authurl timeout='{}'>{}</authurl>", PATIENCE.as_millis(), stub.place());
    let server = Server::start(&Config::default().with(&element));
    let waiting = || server.metrics().sum("smart_rtmpd_auth_waiting", &[]);
    let all = WAITING as f64;
    // Tables keep the room that a crowd has grown them to: what is held is measured after a first.
    let first = crowd(&server, WAITING);
    wait::until_true("a first crowd waits", BOUND, || waiting() >= 0.9 * all);
    drop(first);
    wait::until_true("it has left", BOUND, || waiting() < 1.0);
    let Some(mut canary) = Canary::start(&server) else { return };
    let start = Instant::now();
    let mut peers = crowd(&server, WAITING);
    wait::until_true("they wait", BOUND, || waiting() >= 0.9 * all);
    canary.verify_frames("a thousand wait for an answer");
    // Who leaves frees its place.
    peers.drain(..WAITING / 2);
    wait::until_true("half of them have left", LEFT, || waiting() <= all / 2.0);
    let took = start.elapsed();
    assert!(took < PATIENCE, "after {took:?} some may have been refused instead");
    for mut peer in peers {
        peer.socket.set_read_timeout(Some(PATIENCE + BOUND)).expect("a timeout");
        let told = peer.status_of(&["onStatus"]).expect("an answer");
        assert_eq!(told, "NetStream.Play.Failed");
    }
    // The last of them asked before the first half left.
    let bound = took + PATIENCE + SLACK;
    assert!(start.elapsed() < bound, "{:?} instead of {bound:?}", start.elapsed());
    wait::until_true("nobody waits", BOUND, || waiting() < 1.0);
    wait::until_true("no exchange is left", BOUND, || stub.open() == 0);
    canary.verify_resident(&server, "a thousand waited for an answer", RESIDENT_KIB);
}

/// Players, each with a question of its own.
fn crowd(server: &Server, count: usize) -> Vec<Peer> {
    let play = |number| Peer::playing(server.rtmp, &format!("hang?token={number}"));
    (0..count).map(|number| play(number).expect("connects")).collect()
}

/// A server that is silent is left alone for a while, and found again.
#[test]
fn a_silent_server_is_left_alone() {
    let stub = Stub::start(|_| Reply::Hang);
    let element = format!("<authurl timeout='300'>{}</authurl>", stub.place());
    let server = Server::start(&Config::default().cores(1).with(&element));
    let paused = || server.metrics().sum("smart_rtmpd_auth_paused_shards", &[]);
    wait::until_true("it is left alone", BOUND, || {
        let _ = told(&server, "x");
        paused() >= 1.0
    });
    server.wait_log("does not answer", BOUND);
    let before = stub.count();
    let (status, took) = told(&server, "y");
    assert_eq!(status, "NetStream.Play.Failed");
    assert!(took < Duration::from_millis(250), "refused at once: {took:?}");
    assert!(stub.count() <= before + 1, "a probe at most");
    stub.set(|_| Reply::Status(200));
    let play = || http::request(server.http, "HEAD", "/live/x.flv", &[]).status;
    wait::until_true("it is back", BOUND, || play() == 200);
    assert!(paused() < 1.0);
    server.wait_log("answers again", BOUND);
}

/// No credential that a client shows is in the log, whatever becomes of it, nor those of the file.
#[test]
fn secrets_are_not_logged() {
    let secret = "pl4nted";
    let stub = Stub::start(|asked: &Asked| match asked.target.contains("deny") {
        true => Reply::Status(403),
        false => Reply::Late(TIMEOUT * 3, 200),
    });
    let server = Server::start(
        &config(&stub.place())
            .set("log", "debug")
            .with(&format!("<auth><user name='a' password='{secret}'/></auth>")),
    );
    let bearer = format!("Authorization: Bearer {secret}");
    for name in ["deny", "silent"] {
        let query = format!("{name}?token={secret}&user=a&pass={secret}x");
        let _ = told(&server, &query);
        let _ = Peer::publishing(server.rtmp, &format!("{name}?token={secret}"));
        let mut peer = tests::rtsp::Peer::open(server.rtsp).expect("connects");
        let _ = peer.status("DESCRIBE", &format!("{name}?token={secret}"), "", "");
        for path in ["live/x.flv", "live/x.m3u8", "vod/x", "api/live"] {
            let path = format!("/{path}?{name}&token={secret}");
            let _ = http::request(server.http, "GET", &path, &[&bearer]);
        }
    }
    let log = server.whole_log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
    assert!(told.is_empty(), "{told:#?}");
    assert!(log.contains("not let in"), "refusals are");
}
