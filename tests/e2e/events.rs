//! Event callbacks: in order, signed, sent again, and never in anybody's way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tests::clients::Publisher;
use tests::hooks::Hooks;
use tests::media::Clip;
use tests::server::{Config, Server};
use tests::wait;

use crate::lifecycle::Recording;

const SECRET: &str = "planted-secret-of-events";
const BOUND: Duration = Duration::from_secs(15);

fn config(hooks: &Hooks) -> Config {
    Config::default()
        .set("events/url", hooks.url("/hook?token=planted-token"))
        .set("events/secret", SECRET)
        .set("rtmp/publisher_grace", 1)
}

fn signature(timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

#[test]
fn a_stream_is_told_of_in_order_and_signed() {
    // Each event fails once.
    let hooks = Hooks::start(|n| Some(if n % 2 == 0 { 500 } else { 200 }));
    let server = Server::start(&config(&hooks).set("http/record", "live/told"));
    let url = server.rtmp_url("told");
    let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("told");
    let publish = hooks.wait_event("publish", BOUND).json();
    assert_eq!(publish["stream"]["name"], "told");
    assert_eq!(publish["session"]["protocol"], "rtmp");
    let session = publish["session"]["id"].as_str().expect("it has a session").to_owned();
    let viewer = Recording::flv(&server, "told");
    viewer.wait_pictures(30);
    drop(viewer);
    hooks.wait_event("stop", BOUND);
    drop(publisher);
    let unpublish = hooks.wait_event("unpublish", BOUND).json();
    assert_eq!(unpublish["session"]["id"], session.as_str());
    assert!(unpublish["bytes"].as_u64() > Some(10_000), "{unpublish}");
    let piece = hooks.wait_event("record", BOUND).json();
    assert_eq!(piece["place"], "default/live/told", "{piece}");
    let file =
        format!("rec/default/live/told/{}/{}.mp4", text(&piece["day"]), text(&piece["time"]));
    assert!(server.folder().join(&file).is_file(), "{file}");

    let calls = hooks.calls();
    let taken: Vec<&str> =
        calls.iter().filter(|c| c.status == 200).map(|c| c.header("x-event")).collect();
    let at = |name| taken.iter().position(|taken| *taken == name).expect("it was told");
    assert!(at("publish") < at("play") && at("play") < at("stop"), "{taken:?}");
    assert!(at("stop") < at("unpublish"), "{taken:?}");
    for pair in calls.chunks(2) {
        let [failed, again] = pair else { break };
        assert_eq!(failed.header("x-event-id"), again.header("x-event-id"), "the same event");
        assert_eq!(failed.body, again.body);
        assert_eq!(again.json()["id"], again.header("x-event-id"));
        assert_eq!(again.target, "/hook?token=planted-token");
        let signed = signature(again.header("x-timestamp"), &again.body);
        assert_eq!(again.header("x-signature"), signed);
    }
    let metrics = server.metrics();
    let of = |outcome: &str| {
        metrics.sum("smart_rtmpd_events_total", &[&format!("outcome=\"{outcome}\"")])
    };
    assert!(of("delivered") >= 5.0 && of("retried") >= 5.0, "{metrics:?}");
    assert_eq!((of("failed"), of("overflowed")), (0.0, 0.0));
    let log = server.whole_log();
    assert!(!log.contains("planted-"), "a secret in the log");
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn a_server_that_hangs_is_in_nobodys_way() {
    let hooks = Hooks::start(|_| None);
    let config = config(&hooks).set("events/queue", 2).set("events/timeout", 500);
    let server = Server::start(&config.set("events/attempts", 2));
    let url = server.rtmp_url("busy");
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("busy");
    let steady = Recording::flv(&server, "busy");
    for _ in 0..10 {
        let viewer = Recording::flv(&server, "busy");
        viewer.wait_pictures(1);
    }
    let count = |outcome: &str| {
        server.metrics().sum("smart_rtmpd_events_total", &[&format!("outcome=\"{outcome}\"")])
    };
    wait::until_true("a full queue is counted", BOUND, || count("overflowed") > 0.0);
    wait::until_true("what is never answered is given up", BOUND, || count("failed") > 0.0);
    let before = steady.pictures();
    steady.wait_pictures(before + 50);
    assert_eq!(count("delivered"), 0.0);
}

#[test]
fn redirects_are_not_followed_and_refusals_not_repeated() {
    let hooks = Hooks::start(|n| Some(if n == 0 { 302 } else { 410 }));
    let server = Server::start(&config(&hooks));
    let url = server.rtmp_url("moved");
    let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("moved");
    wait::until_true("the first event is sent", BOUND, || !hooks.calls().is_empty());
    drop(publisher);
    let failed = || server.metrics().sum("smart_rtmpd_events_total", &["outcome=\"failed\""]);
    wait::until_true("both are refused", BOUND, || failed() >= 2.0);
    let calls = hooks.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls.iter().all(|call| call.target.starts_with("/hook")), "{calls:?}");
    assert_eq!(server.metrics().sum("smart_rtmpd_events_total", &["outcome=\"retried\""]), 0.0);
}

/// Also with connections of HTTP that nobody uses.
#[test]
fn where_nothing_is_to_be_told_the_end_is_prompt() {
    let hooks = Hooks::start(|_| Some(200));
    let mut server = Server::start(&config(&hooks));
    let mut idle = TcpStream::connect(("127.0.0.1", server.http)).expect("connects");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect("is sent");
    let read = idle.read(&mut [0; 512]).expect("an answer");
    assert!(read > 0);
    let (status, _) = server.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert_eq!(server.log_count("not all of the last events are told"), 0, "{}", server.log());
}

#[test]
fn the_end_of_the_process_is_told_of() {
    let hooks = Hooks::start(|_| Some(200));
    let mut server = Server::start(&config(&hooks));
    let url = server.rtmp_url("last");
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("last");
    hooks.wait_event("publish", BOUND);
    let (status, _) = server.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    hooks.wait_event("unpublish", Duration::from_secs(1));
}
