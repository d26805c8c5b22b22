//! Every method in every state (RFC 2326 A.2), sessions, and the clock.

use super::*;
use crate::rtsp::message::Method;

/// A connection in a state, and the control URL of its track.
type State = (&'static str, fn() -> Bench);

const STATES: [State; 8] = [
    ("idle", Bench::new),
    ("set up", || ready(Bench::new())),
    ("playing", || playing(Bench::new())),
    ("paused", paused),
    ("announced", announced),
    ("ready to record", ready_to_record),
    ("recording", recording),
    ("record paused", record_paused),
];

fn ready(mut bench: Bench) -> Bench {
    bench.set_up(1);
    bench
}

fn playing(bench: Bench) -> Bench {
    let mut bench = ready(bench);
    bench.play();
    bench
}

fn paused() -> Bench {
    let mut bench = playing(Bench::new());
    let session = bench.session();
    assert_eq!(bench.status("PAUSE", URL, &session), 200);
    assert!(matches!(bench.event(), Event::Paused(true)));
    bench
}

fn announced() -> Bench {
    let mut bench = Bench::new();
    bench.announce();
    bench
}

fn ready_to_record() -> Bench {
    let mut bench = announced();
    assert_eq!(bench.status("SETUP", &format!("{URL}/streamid=0"), TCP), 200);
    bench
}

fn recording() -> Bench {
    let mut bench = Bench::new();
    bench.record();
    bench
}

fn record_paused() -> Bench {
    let mut bench = recording();
    let session = bench.session();
    assert_eq!(bench.status("PAUSE", URL, &session), 200);
    bench
}

/// Status of each method in each state, in the order of [`STATES`]; 0: the engine is asked.
#[rustfmt::skip]
const TABLE: [(Method, [u16; 8]); 11] = [
    (Method::Options,      [200, 200, 200, 200, 200, 200, 200, 200]),
    (Method::Describe,     [0,   0,   0,   0,   455, 455, 455, 455]),
    (Method::Announce,     [0,   455, 455, 455, 455, 455, 455, 455]),
    (Method::Setup,        [200, 200, 455, 455, 200, 200, 455, 455]),
    (Method::Play,         [455, 0,   200, 200, 455, 455, 455, 455]),
    (Method::Pause,        [455, 200, 200, 200, 455, 455, 200, 200]),
    (Method::Record,       [455, 455, 455, 455, 455, 200, 200, 200]),
    (Method::Teardown,     [455, 200, 200, 200, 200, 200, 200, 200]),
    (Method::GetParameter, [200, 200, 200, 200, 200, 200, 200, 200]),
    (Method::SetParameter, [200, 200, 200, 200, 200, 200, 200, 200]),
    (Method::Redirect,     [405, 405, 405, 405, 405, 405, 405, 405]),
];

fn state_of(bench: &Bench) -> String {
    match &bench.server.phase {
        Phase::Play(play) => format!("{:?}", play.state),
        Phase::Publish(publish) => format!("{:?} {}", publish.id, publish.has_recorded()),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_method_in_every_state() {
    for (method, statuses) in TABLE {
        for ((name, make), expected) in STATES.into_iter().zip(statuses) {
            let mut bench = make();
            let before = state_of(&bench);
            let session = match &bench.server.phase {
                Phase::Play(_) => bench.session(),
                Phase::Publish(publish) if publish.id.is_some() => bench.session(),
                _ => String::new(),
            };
            let url = match (method, &bench.server.phase) {
                (Method::Setup, Phase::Publish(_)) => format!("{URL}/streamid=0"),
                (Method::Setup, _) => format!("{URL}/trackID=1"),
                _ => URL.to_owned(),
            };
            let body = if method == Method::Announce { SOUND } else { "" };
            let lines = format!("{session}{TCP}");
            bench.ask(method.name(), &url, &lines, body);
            if expected == 0 {
                assert!(bench.responses.is_empty() && bench.server.pending.is_some(), "{name}");
                continue;
            }
            let status = bench.answer().status.0;
            assert_eq!(status, expected, "{} while {name}", method.name());
            if status == 455 {
                assert_eq!(state_of(&bench), before, "{} while {name}", method.name());
                assert!(bench.events.is_empty());
            }
        }
    }
}

#[test]
fn sessions_belong_to_their_connection() {
    let mut bench = playing(Bench::new());
    let own = bench.session();
    for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "OPTIONS"] {
        assert_eq!(bench.status(method, URL, "Session: 0011223344556677\r\n"), 454, "{method}");
        let mut other = Bench::new();
        assert_eq!(other.status(method, URL, &own), 454, "{method}");
    }
    for method in ["PLAY", "PAUSE", "TEARDOWN"] {
        assert_eq!(bench.status(method, URL, ""), 454, "{method} without a session");
    }
    assert!(bench.server.is_playing() && bench.events.is_empty());
    let upper = format!("{};timeout=60\r\n", own.trim_end());
    assert_eq!(bench.status("TEARDOWN", URL, &upper), 200);
    assert!(matches!(bench.event(), Event::PlayEnded));
    assert_eq!(bench.status("PLAY", URL, &own), 454, "it is gone");
}

#[test]
fn a_connection_that_comes_to_nothing_ends_in_time() {
    let setup = ServerOptions::default().setup_timeout;
    let mut bench = Bench::new();
    bench.now += Duration::from_secs(4);
    assert_eq!(bench.status("OPTIONS", URL, ""), 200);
    bench.expire(setup - Duration::from_secs(4));
    assert_eq!(bench.end.as_ref().map(|error| error.reason), Some("handshake_timeout"));
    assert_eq!(bench.server.poll_timeout(), None);

    let mut bench = announced();
    bench.expire(setup);
    assert_eq!(bench.end.map(|error| error.reason), Some("handshake_timeout"));

    let mut bench = Bench::new();
    bench.ask("DESCRIBE", URL, "", "");
    assert_eq!(bench.server.poll_timeout(), None, "the engine takes its own time");
}

#[test]
fn silence_ends_a_session_and_any_sign_keeps_it() {
    let session_timeout = ServerOptions::default().session_timeout;
    let half = session_timeout / 2;
    let playing_by_datagrams = || {
        let mut bench = Bench::new();
        bench.ask("SETUP", &format!("{URL}/trackID=1"), UDP, "");
        assert!(matches!(bench.event(), Event::DatagramRequested { track: 1, .. }));
        bench.engine(Command::DatagramPorts { track: 1, rtp: 30_000, rtcp: 30_001 });
        assert_eq!(bench.answer().status.0, 200);
        bench.play();
        bench
    };
    type Sign = fn(&mut Bench);
    let by_datagram: Sign = |bench| bench.datagram(1, true, b"\x80\xc9\0\x01\0\0\0\x01");
    let by_request: Sign = |bench| {
        let session = bench.session();
        assert_eq!(bench.status("GET_PARAMETER", URL, &session), 200);
    };
    let by_media: Sign = |bench| bench.feed(&framed(0, &packet(1, 0)));
    let makes: [(fn() -> Bench, Sign); 5] = [
        (playing_by_datagrams, by_datagram),
        (playing_by_datagrams, by_request),
        (|| ready(Bench::new()), by_request),
        (paused, by_request),
        (recording, by_media),
    ];
    for (make, sign) in makes {
        let mut bench = make();
        bench.now += half;
        sign(&mut bench);
        bench.expire(session_timeout);
        assert_eq!(bench.end.map(|error| error.reason), Some("session_timeout"));
    }
}

#[test]
fn a_play_within_the_connection_needs_no_sign() {
    let mut bench = playing(Bench::new());
    assert_eq!(bench.server.poll_timeout(), None);
    bench.feed(&framed(3, b"\x80\xc9\0\x01\0\0\0\x01"));
    bench.feed(&framed(200, b""));
    assert!(bench.end.is_none() && bench.events.is_empty());
}
