//! Hostile RTSP, row by row (T1 to T9): whatever is asked is refused in time or survived, and the
//! canary on the same core never notices. Tunnels (T8) are in `rtsp_tunnel`, packets in
//! `hostile_rtp`.

use std::io::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use tests::canary::{Canary, NAME};
use tests::digest::md5;
use tests::rtsp::{PICTURES, Peer, SOUND, TCP, interleaved, port_pair};
use tests::server::{Config, Server};
use tests::{http, wait};

/// The deadline of a connection that comes to nothing.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A refusal closes within a second; the rest is the client's own slowness.
const REFUSAL: Duration = Duration::from_millis(1500);

/// A server of one core, and the canary on it.
pub(crate) fn start(config: Config) -> Option<(Server, Canary)> {
    let config = config.cores(1).set("rtmp/handshake_timeout", HANDSHAKE.as_secs());
    let server = Server::start(&config);
    // The UDP ports of a core are bound once and stay.
    let mut peer = Peer::open(server.rtsp).expect("connects");
    peer.status("SETUP", "none/trackID=0", "Transport: RTP/AVP;client_port=9-10\r\n", "");
    drop(peer);
    let canary = Canary::start(&server)?;
    Some((server, canary))
}

/// Sends bytes; the server answers with `status` and closes, and counts it.
fn refused(server: &Server, name: &str, bytes: &[u8], status: u16) {
    let closed = closed(server);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    // It may be refused while it is still being sent.
    let _ = peer.socket.write_all(bytes);
    let said = http::read_until_closed(&mut peer.socket, name, REFUSAL);
    let said = String::from_utf8_lossy(&said);
    // What was not read may turn the answer into a reset.
    if !said.is_empty() || bytes.len() < 65_536 {
        let start = format!("RTSP/1.0 {status} ");
        assert!(said.starts_with(&start), "{name}: {said:?} instead of {status}");
    }
    is_counted(server, name, closed);
}

fn closed(server: &Server) -> f64 {
    server.metrics().sum("smart_rtmpd_closed_total", &["proto=\"rtsp\""])
}

fn is_counted(server: &Server, name: &str, before: f64) {
    let what = format!("{name}: the end is counted");
    wait::until_true(&what, Duration::from_secs(5), || closed(server) > before);
}

#[test]
fn t1_requests() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let long = |count: usize| "a".repeat(count);
    let head = "OPTIONS rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\n";
    for (name, text, status) in [
        ("request line of 1 MiB", long(1 << 20), 414),
        ("request line of 8 KiB", format!("OPTIONS {} RTSP/1.0\r\n\r\n", long(8192)), 414),
        ("field of 8 KiB", format!("{head}X: {}\r\n\r\n", long(8192)), 400),
        ("65 fields", format!("{head}{}\r\n", "X: y\r\n".repeat(65)), 400),
        ("10,000 fields", format!("{head}{}\r\n", "X: y\r\n".repeat(10_000)), 400),
        ("folded 1,000 times", format!("{head}X: y\r\n{}\r\n", " z\r\n".repeat(1000)), 400),
        ("NUL in the request line", "OPTIONS a\0b RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_owned(), 400),
        ("NUL in a field", format!("{head}X: a\0b\r\n\r\n"), 400),
        ("no request", "hello\r\n\r\n".to_owned(), 400),
        ("another protocol", "INVITE a SIP/2.0\r\n\r\n".to_owned(), 400),
    ] {
        refused(&server, name, text.as_bytes(), status);
        canary.verify_frames(name);
    }
    refused(&server, "noise", &[0xFE; 100_000], 414);
    for (name, text, status) in [
        ("no CSeq", "OPTIONS * RTSP/1.0\r\n\r\n".to_owned(), 400),
        (
            "CSeq of 2^64",
            "OPTIONS * RTSP/1.0\r\nCSeq: 18446744073709551616\r\n\r\n".to_owned(),
            400,
        ),
        ("CSeq of words", "OPTIONS * RTSP/1.0\r\nCSeq: one\r\n\r\n".to_owned(), 400),
        ("bare LF", "OPTIONS * RTSP/1.0\nCSeq: 1\n\n".to_owned(), 200),
        ("version 2.0", "OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n".to_owned(), 505),
        ("unknown method", "EXPLODE * RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_owned(), 501),
    ] {
        let mut peer = Peer::open(server.rtsp).expect("connects");
        peer.socket.write_all(text.as_bytes()).expect("is taken");
        assert_eq!(peer.answer().expect(name).status, status, "{name}");
        assert!(peer.lives(), "{name}: the connection goes on");
    }
    canary.verify(&server, "T1");
}

#[test]
fn t1_slow_and_silent() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let before = closed(&server);
    let mut silent: Vec<Peer> =
        (0..300).map(|_| Peer::open(server.rtsp).expect("connects")).collect();
    let mut slow = Peer::open(server.rtsp).expect("connects");
    wait::paced(Duration::from_millis(50), HANDSHAKE + REFUSAL, || {
        slow.socket.write_all(b"O").is_ok()
    });
    for peer in silent.iter_mut().chain([&mut slow]) {
        let _ = http::read_until_closed(&mut peer.socket, "slow or silent", REFUSAL);
    }
    is_counted(&server, "slow and silent", before + 300.0);
    canary.verify(&server, "slow and silent");
}

#[test]
fn t2_lengths() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let with = |lines: &str| format!("ANNOUNCE rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\n{lines}\r\n");
    for (name, lines, status) in [
        ("-1", "Content-Length: -1\r\n", 400),
        ("+1", "Content-Length: +1\r\n", 400),
        ("0x10", "Content-Length: 0x10\r\n", 400),
        ("nothing", "Content-Length:\r\n", 400),
        ("two that differ", "Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("2^63", "Content-Length: 9223372036854775808\r\n", 413),
        ("2^64", "Content-Length: 18446744073709551616\r\n", 413),
        ("1 MiB", "Content-Length: 1048576\r\n", 413),
    ] {
        refused(&server, name, with(lines).as_bytes(), status);
    }
    let before = closed(&server);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    peer.socket.write_all(with("Content-Length: 65536\r\n").as_bytes()).expect("is taken");
    wait::paced(Duration::from_millis(50), HANDSHAKE + REFUSAL, || {
        peer.socket.write_all(b"v=0").is_ok()
    });
    let _ = http::read_until_closed(&mut peer.socket, "a body that drips", REFUSAL);
    is_counted(&server, "a body that drips", before);
    canary.verify(&server, "T2");
}

/// Status of each method: idle, set up, playing, announced, recording.
#[rustfmt::skip]
const METHODS: [(&str, [u16; 5]); 11] = [
    ("OPTIONS",       [200, 200, 200, 200, 200]),
    ("DESCRIBE",      [200, 200, 200, 455, 455]),
    ("ANNOUNCE",      [200, 455, 455, 455, 455]),
    ("SETUP",         [200, 200, 455, 200, 455]),
    ("PLAY",          [455, 200, 200, 455, 455]),
    ("PAUSE",         [455, 200, 200, 455, 200]),
    ("RECORD",        [455, 455, 455, 455, 200]),
    ("TEARDOWN",      [455, 200, 200, 200, 200]),
    ("GET_PARAMETER", [200, 200, 200, 200, 200]),
    ("SET_PARAMETER", [200, 200, 200, 200, 200]),
    ("REDIRECT",      [405, 405, 405, 405, 405]),
];
const STATES: [&str; 5] = ["idle", "set up", "playing", "announced", "recording"];

#[test]
fn t3_every_method_in_every_state() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    for (number, (method, statuses)) in METHODS.into_iter().enumerate() {
        for (state, expected) in STATES.into_iter().zip(statuses) {
            let what = format!("{method} while {state}");
            let publishes = matches!(state, "announced" | "recording");
            // Each publishes a stream of its own.
            let own = format!("t3-{number}-{state}").replace(' ', "-");
            let mut peer = in_state(&server, state, &own);
            let name = match (method, publishes) {
                ("SETUP", true) => format!("{own}/track"),
                ("SETUP", false) => format!("{NAME}/trackID=0"),
                (_, true) | ("ANNOUNCE", _) => own.clone(),
                (_, false) => NAME.to_owned(),
            };
            let body = if method == "ANNOUNCE" { SOUND } else { "" };
            let lines = if method == "SETUP" { TCP } else { "" };
            let answer = peer.ask(method, &name, lines, body);
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(answer.status, expected, "{what}: {}", answer.head);
            // What is asked about changes nothing either.
            if expected == 455 || method == "DESCRIBE" && state == "playing" {
                is_unchanged(&mut peer, state, if publishes { &own } else { NAME }, &what);
            }
        }
        canary.verify_frames(method);
    }
    canary.verify(&server, "T3");
    let viewers = || server.metrics().sum("smart_rtmpd_viewers", &["proto=\"rtsp\""]);
    wait::until_true("no viewer is left behind", Duration::from_secs(10), || viewers() == 0.0);
}

fn in_state(server: &Server, state: &str, own: &str) -> Peer {
    let opened = match state {
        "playing" => Peer::playing(server.rtsp, NAME),
        "recording" => Peer::recording(server.rtsp, own, SOUND, TCP),
        _ => Peer::open(server.rtsp),
    };
    let mut peer = opened.unwrap_or_else(|error| panic!("{state}: {error}"));
    match state {
        "set up" => {
            peer.set_up(&format!("{NAME}/trackID=0"), TCP).expect("is set up");
        }
        "announced" => assert_eq!(peer.status("ANNOUNCE", own, "", SOUND), 200),
        _ => {}
    }
    peer
}

/// The session of a state still is what it was.
fn is_unchanged(peer: &mut Peer, state: &str, stream: &str, what: &str) {
    match state {
        "idle" => assert!(peer.lives(), "{what}"),
        "playing" => {
            peer.next_packet().unwrap_or_else(|error| panic!("{what}: no media: {error}"));
        }
        _ => {
            assert_eq!(peer.status("TEARDOWN", stream, "", ""), 200, "{what}: the session is gone");
        }
    }
}

#[test]
fn t4_sessions_of_others() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let mut owner = Peer::playing(server.rtsp, NAME).expect("plays");
    let mut publisher = Peer::recording(server.rtsp, "t4", SOUND, TCP).expect("records");
    for lines in [owner.lines.clone(), publisher.lines.clone(), "Session: 0\r\n".to_owned()] {
        let mut idle = Peer::open(server.rtsp).expect("connects");
        let mut busy = Peer::playing(server.rtsp, NAME).expect("plays");
        busy.lines.clear();
        for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "SETUP"] {
            for name in [NAME, "t4"] {
                let status = idle.status(method, name, &lines, "");
                assert_eq!(status, 454, "{method} {name} of an idle connection");
                let status = busy.status(method, name, &lines, "");
                assert_eq!(status, 454, "{method} {name} of a player");
            }
        }
        busy.next_packet().expect("it plays its own");
    }
    for _ in 0..20 {
        owner.next_packet().expect("the owner plays on");
    }
    assert!(owner.lives() && publisher.lives());
    assert_eq!(publisher.status("TEARDOWN", "t4", "", ""), 200);
    drop((owner, publisher));
    canary.verify(&server, "T4");
}

#[test]
fn t5_transports() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let many = vec!["RTP/AVP;unicast;client_port=0-0"; 100].join(",");
    let late = format!("{many},RTP/AVP/TCP;unicast;interleaved=0-1");
    for transport in [
        "RTP/AVP;unicast;client_port=0-0",
        "RTP/AVP;unicast;client_port=65535-65536",
        "RTP/AVP;unicast;client_port=65535",
        "RTP/AVP;unicast;client_port=5000-5000",
        "RTP/AVP;unicast;client_port=-1-5",
        "RTP/AVP;unicast",
        "RTP/AVP;unicast;destination=127.0.0.2;client_port=5000-5001",
        "RTP/AVP;unicast;destination=192.0.2.1;client_port=5000-5001",
        "RTP/AVP;unicast;destination=::1;client_port=5000-5001",
        "RTP/AVP;unicast;destination=example.net;client_port=5000-5001",
        "RTP/AVP/TCP;unicast;interleaved=255-256",
        "RTP/AVP/TCP;unicast;interleaved=4-4",
        "RTP/AVP/TCP;unicast;interleaved=-1-0",
        "RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD",
        "RTP/AVP;multicast;destination=224.2.2.2;port=5000-5001;ttl=127",
        "RTP/SAVP;unicast;client_port=5000-5001",
        "RAW/RAW/UDP;unicast;client_port=5000-5001",
        "",
        &many,
        &late,
    ] {
        let mut peer = Peer::open(server.rtsp).expect("connects");
        let lines = format!("Transport: {transport}\r\n");
        let status = peer.status("SETUP", &format!("{NAME}/trackID=0"), &lines, "");
        assert_eq!(status, 461, "{transport}");
        assert!(peer.lives());
    }
    let mut peer = Peer::open(server.rtsp).expect("connects");
    peer.set_up(&format!("{NAME}/trackID=0"), TCP).expect("is set up");
    assert_eq!(peer.status("SETUP", &format!("{NAME}/trackID=1"), TCP, ""), 461, "same channels");
    drop(peer);
    canary.verify(&server, "T5");
}

#[test]
fn t5_media_go_to_the_peer_alone() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let (rtp, _rtcp, port) = port_pair("127.0.0.1");
    let other = UdpSocket::bind(("127.0.0.2", port)).expect("another address, the same port");
    let named = ["", ";source=127.0.0.2", ";destination=127.0.0.1"];
    for parameter in named {
        let mut peer = Peer::open(server.rtsp).expect("connects");
        let ports = format!("client_port={port}-{}", port + 1);
        let lines = format!("Transport: RTP/AVP;unicast;{ports}{parameter}\r\n");
        peer.set_up(&format!("{NAME}/trackID=0"), &lines).expect("is set up");
        // Nobody else may have media sent to these ports, nor take them over.
        let mut thief = Peer::open(server.rtsp).expect("connects");
        let status = thief.status("SETUP", &format!("{NAME}/trackID=0"), &lines, "");
        assert!(matches!(status, 453 | 461 | 503), "taken ports: {status}");
        assert_eq!(peer.status("PLAY", NAME, "", ""), 200);
        receives(&rtp, &format!("media with {parameter:?}"));
        assert_eq!(peer.status("TEARDOWN", NAME, "", ""), 200);
    }
    // Another address whose connection comes from the peer gets nothing, whatever it sends.
    other.set_nonblocking(true).expect("a socket");
    let stray = other.recv(&mut [0; 2048]);
    assert!(stray.is_err(), "media went to another address: {stray:?}");
    canary.verify(&server, "media by UDP");
}

fn receives(socket: &UdpSocket, what: &str) {
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("above zero");
    for _ in 0..20 {
        let result = socket.recv(&mut [0; 2048]);
        assert!(result.is_ok(), "{what}: {result:?}");
    }
}

#[test]
fn t6_interleaved_frames() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let mut peer = Peer::open(server.rtsp).expect("connects");
    for channel in [0, 1, 7, 255] {
        peer.send(channel, &[]).expect("is taken");
        peer.send(channel, &[0x80; 100]).expect("is taken");
        peer.send(channel, &[0; 65_535]).expect("is taken");
    }
    assert!(peer.lives(), "frames before any session are dropped");
    peer.set_up(&format!("{NAME}/trackID=0"), TCP).expect("is set up");
    peer.send(0, b"before PLAY").expect("is taken");
    assert_eq!(peer.status("PLAY", NAME, "", ""), 200);
    for channel in [0, 1, 7, 255] {
        peer.send(channel, &[0xFF; 40]).expect("is taken");
        peer.send(channel, &[]).expect("is taken");
    }
    assert!(peer.lives());
    peer.next_packet().expect("plays on");
    // A frame that never comes to its end costs no more than itself, and its sender only.
    peer.socket.write_all(b"$\0\xFF\xFF").expect("is taken");
    for _ in 0..50 {
        peer.next_packet().expect("plays on");
    }
    drop(peer);

    refused(&server, "a frame within a request", b"OPTIO$\0\0\x04NS a\r\n\r\n", 400);
    let mut text = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n".to_vec();
    text.extend(interleaved(0, b"\r\n\r\n"));
    refused(&server, "a frame within a header", &text, 400);

    let before = closed(&server);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    peer.socket.write_all(b"$\0\xFF\xFF").expect("is taken");
    let bound = HANDSHAKE + REFUSAL;
    let _ = http::read_until_closed(&mut peer.socket, "a frame without bytes", bound);
    is_counted(&server, "a frame without bytes", before);
    canary.verify(&server, "T6");
}

#[test]
fn t7_descriptions() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let medium = "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";
    let head = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n";
    let video = |rtpmap: &str, fmtp: &str| {
        format!("{head}m=video 0 RTP/AVP 96\r\na=rtpmap:96 {rtpmap}\r\na=fmtp:96 {fmtp}\r\n")
    };
    let h264 = "H264/90000";
    for (name, body, statuses) in [
        ("no media", head.to_owned(), &[400][..]),
        ("nothing", "\r\n".to_owned(), &[400]),
        ("1,000 media", format!("{head}{}", medium.repeat(1000)), &[400, 413]),
        ("17 media", format!("{head}{}", medium.repeat(17)), &[400]),
        ("payload type 2^32", format!("{head}m=audio 0 RTP/AVP 4294967296\r\n"), &[400, 415]),
        ("payload type -1", format!("{head}m=audio 0 RTP/AVP -1\r\n"), &[400, 415]),
        ("no payload type", format!("{head}m=audio 0 RTP/AVP\r\n"), &[400, 415]),
        ("clock 0", video("H264/0", "packetization-mode=1"), &[400, 415]),
        ("clock 2^32", video("H264/4294967296", "packetization-mode=1"), &[400, 415]),
        ("clock -1", video("H264/-1", "packetization-mode=1"), &[400, 415]),
        ("unknown codec", video("EVIL/90000", "a=b"), &[415]),
        ("interleaved packets", video(h264, "packetization-mode=2"), &[400, 415]),
        ("NUL in an attribute", format!("{head}{medium}a=x:\0y\r\n"), &[400]),
        (
            "one control URL twice",
            format!("{head}{medium}a=control:a\r\n{}a=control:a\r\n", medium.replace("au", "vi")),
            &[400, 415],
        ),
        ("two sounds", format!("{head}{medium}a=control:a\r\n{medium}a=control:b\r\n"), &[415]),
        ("10,000 attributes", format!("{head}{medium}{}", "a=x\r\n".repeat(10_000)), &[400]),
        ("no description", "\u{7f}ELF".repeat(100), &[400]),
    ] {
        let mut peer = Peer::open(server.rtsp).expect("connects");
        let status = peer.status("ANNOUNCE", "t7", "", &body);
        assert!(statuses.contains(&status), "{name}: {status} instead of {statuses:?}");
        assert!(peer.lives() || status == 413, "{name}: the connection goes on");
    }
    // A parameter set that cannot be read is one that will come within the media.
    for fmtp in ["sprop-parameter-sets=%%%,***", "sprop-parameter-sets=Zw==,aA==", "=;;=,"] {
        let mut peer = Peer::open(server.rtsp).expect("connects");
        let status = peer.status("ANNOUNCE", "t7", "", &video(h264, fmtp));
        assert!(matches!(status, 200 | 400 | 415), "{fmtp}: {status}");
        assert!(peer.lives(), "{fmtp}");
    }
    let text = "ANNOUNCE rtsp://h/live/t7 RTSP/1.0\r\nCSeq: 1\r\nContent-Type: application/sdp\r\n";
    let large = format!("{text}Content-Length: 1048576\r\n\r\n{}", "a".repeat(1 << 20));
    refused(&server, "description of 1 MiB", large.as_bytes(), 413);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    let other = "Content-Type: text/plain\r\n";
    assert_eq!(peer.status("ANNOUNCE", "t7", other, PICTURES), 415, "of another type");
    let listed = server.api_live();
    assert!(listed.iter().all(|url| !url.ends_with("t7")), "half registered: {listed:?}");
    drop(peer);
    canary.verify(&server, "T7");
}

#[test]
fn t9_digest() {
    let server = Server::start(&Config::default().cores(1).set("rtsp/user", "u:p"));
    let Some(mut canary) = Canary::start(&server) else { return };
    let mut first = Peer::open(server.rtsp).expect("connects");
    let nonce = nonce(&mut first);
    let uri = first.url(NAME);
    let good = digest("smart-rtmpd", &nonce, &uri, "p");
    let mut second = Peer::open(server.rtsp).expect("connects");
    let replayed = second.ask("DESCRIBE", NAME, &good, "").expect("an answer");
    assert_eq!(replayed.status, 401, "a nonce of another connection");
    let start = Instant::now();
    let wrong = [
        ("wrong password", digest("smart-rtmpd", &nonce, &uri, "q")),
        ("wrong realm", digest("elsewhere", &nonce, &uri, "p")),
        ("another URL", digest("smart-rtmpd", &nonce, "rtsp://h/live/other", "p")),
        ("no digest", "Authorization: Digest\r\n".to_owned()),
        ("broken Basic", "Authorization: Basic ***\r\n".to_owned()),
    ];
    let guesses = wrong.len();
    for (name, lines) in wrong {
        assert_eq!(first.status("DESCRIBE", NAME, &lines, ""), 401, "{name}");
    }
    let least = Duration::from_millis(100 + 200 + 400 + 800 + 1000);
    assert!(start.elapsed() >= least, "guessed in {:?}", start.elapsed());
    let fresh = digest("smart-rtmpd", &self::nonce(&mut second), &uri, "p");
    assert_eq!(second.status("DESCRIBE", NAME, &fresh, ""), 200);
    // One more is the last of a connection.
    let end = first.ask("DESCRIBE", NAME, "Authorization: Basic ***\r\n", "").expect("an answer");
    assert_eq!(end.status, 401, "{}", end.head);
    let _ = http::read_until_closed(&mut first.socket, "a guesser", REFUSAL);
    let port = server.rtsp;
    let wrong = |peer: &mut Peer| {
        let lines = "Authorization: Basic dTp4\r\n";
        peer.status("SETUP", &format!("{NAME}/trackID=0"), lines, "")
    };
    for _ in 0..3 {
        let guesser = |_| {
            std::thread::spawn(move || {
                let mut peer = Peer::open(port).expect("connects");
                let start = Instant::now();
                let heard = (0..).take_while(|_| wrong(&mut peer) == 401).count();
                (heard, start.elapsed())
            })
        };
        let guessers: Vec<_> = (0..100).map(guesser).collect();
        for guesser in guessers {
            let (heard, took) = guesser.join().expect("it gives up");
            assert!(heard == guesses + 1 && took >= least, "{heard} guesses in {took:?}");
        }
    }
    drop((first, second));
    canary.verify(&server, "T9");
}

fn nonce(peer: &mut Peer) -> String {
    let answer = peer.ask("DESCRIBE", NAME, "", "").expect("an answer");
    assert_eq!(answer.status, 401);
    let found = answer.head.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
    found.expect("a challenge").to_owned()
}

fn digest(realm: &str, nonce: &str, uri: &str, password: &str) -> String {
    let secret = md5(&format!("u:{realm}:{password}"));
    let asked = md5(&format!("DESCRIBE:{uri}"));
    let response = md5(&format!("{secret}:{nonce}:{asked}"));
    format!(
        "Authorization: Digest username=\"u\", realm=\"{realm}\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\"\r\n"
    )
}
