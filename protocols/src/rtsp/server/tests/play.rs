//! Players: descriptions, transports, `PLAY` and `PAUSE`.

use super::*;
use crate::rtp::Channels;
use crate::session::{Kinds, Refusal, RtpStart, RtpTransport};

fn setup(bench: &mut Bench, track: u8, transport: &str) -> Response {
    let lines = format!("Transport: {transport}\r\n");
    bench.ask("SETUP", &format!("{URL}/trackID={track}"), &lines, "");
    bench.answer()
}

#[test]
fn a_description_and_what_it_leads_to() {
    let mut bench = Bench::new();
    let answer = bench.describe(both());
    assert_eq!(answer.fields.get("Content-Base"), Some("rtsp://h:8554/live/x/"));
    assert_eq!(answer.fields.get("Content-Type"), Some("application/sdp"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "o=- ",
        "IN IP4 192.0.2.1",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        "a=control:trackID=0",
        "m=audio 0 RTP/AVP 8",
        "a=control:trackID=1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    bench.set_up(0);
    bench.set_up(1);
    let session = bench.session();
    bench.ask("PLAY", "rtsp://h:8554/live/x/", &format!("{session}Scale: 2\r\n"), "");
    let Event::PlayRequested(access) = bench.event() else { panic!("not asked") };
    assert_eq!(
        (&*access.host, access.port, &*access.app, &*access.name),
        ("h", Some(8554), "live", "x")
    );
    let channels = Channels { video: 0, audio: 2 };
    assert_eq!(access.transport, Some(RtpTransport::Interleaved(channels)));
    assert_eq!(access.kinds, Kinds { video: true, audio: true });
    bench.engine(Command::AcceptPlay {
        video: Some(RtpStart { sequence: 7, rtptime: 4_294_967_295 }),
        audio: Some(RtpStart { sequence: 9, rtptime: 0 }),
    });
    let answer = bench.answer();
    assert_eq!(
        answer.fields.get("RTP-Info"),
        Some(
            "url=rtsp://h:8554/live/x/trackID=0;seq=7;rtptime=4294967295,\
             url=rtsp://h:8554/live/x/trackID=1;seq=9;rtptime=0"
        )
    );
    assert_eq!(answer.fields.get("Range"), Some("npt=now-"));
    assert_eq!(answer.fields.get("Scale"), Some("1.0"));
    assert!(answer.fields.get("Session").unwrap().ends_with(";timeout=60"));
    assert!(bench.server.is_playing());
}

#[test]
fn tracks_in_any_order_and_alone() {
    let mut bench = Bench::new();
    bench.describe(both());
    let answer = setup(&mut bench, 1, "RTP/AVP/TCP;unicast;interleaved=0-1");
    assert_eq!(answer.fields.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=0-1"));
    let session = bench.session();
    bench.ask("PLAY", URL, &session, "");
    let Event::PlayRequested(access) = bench.event() else { panic!("not asked") };
    let channels = Channels { video: 2, audio: 0 };
    assert_eq!(access.transport, Some(RtpTransport::Interleaved(channels)));
    assert_eq!(access.kinds, Kinds { video: false, audio: true });

    let mut bench = Bench::new();
    bench.describe(sound());
    assert_eq!(setup(&mut bench, 0, "RTP/AVP/TCP").status.0, 404);
    // The only track there is, by the URL of the whole.
    bench.ask("SETUP", URL, "Transport: RTP/AVP/TCP\r\n", "");
    let answer = bench.answer();
    assert_eq!(answer.fields.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=2-3"));
    let session = bench.session();
    bench.ask("PLAY", &format!("{URL}/trackID=1"), &session, "");
    assert!(matches!(bench.event(), Event::PlayRequested(_)), "the whole is one track");
    let start = Some(RtpStart { sequence: 1, rtptime: 2 });
    bench.engine(Command::AcceptPlay { video: start, audio: start });
    let info = bench.answer().fields.get("RTP-Info").map(str::to_owned);
    assert_eq!(info.as_deref(), Some("url=rtsp://h:8554/live/x/trackID=1;seq=1;rtptime=2"));
}

#[test]
fn one_track_of_two_is_not_the_whole() {
    let mut bench = Bench::new();
    bench.describe(both());
    bench.set_up(0);
    bench.set_up(1);
    let session = bench.session();
    for method in ["PLAY", "PAUSE", "TEARDOWN"] {
        assert_eq!(bench.status(method, &format!("{URL}/trackID=0"), &session), 460, "{method}");
        assert_eq!(bench.status(method, "rtsp://h:8554/live/y", &session), 404, "{method}");
    }
    let lines = format!("{session}{TCP}");
    assert_eq!(bench.status("SETUP", "rtsp://h:8554/live/y/trackID=0", &lines), 459);
}

#[test]
fn urls_with_queries_in_every_place() {
    for (base, track) in [
        ("rtsp://h/live/x?token=a/b", "rtsp://h/live/x?token=a/b/trackID=1"),
        ("rtsp://h/live/x?token=a/b", "rtsp://h/live/x/?token=a/b/trackID=1"),
        ("rtsp://h/live/x?token=a/b", "rtsp://h/live/x/trackID=1?token=a/b"),
        ("rtsp://h/live/x?token=a/b", "rtsp://h/live/x/trackID=1"),
        ("rtsp://h/live/x/?token=a/b", "rtsp://h/live/x//trackID=1/"),
    ] {
        let mut bench = Bench::new();
        bench.ask("DESCRIBE", base, "", "");
        let Event::DescribeRequested(access) = bench.event() else { panic!("not asked") };
        assert_eq!((&*access.name, &*access.query), ("x", "token=a/b"));
        bench.engine(Command::Describe(both()));
        let answer = bench.answer();
        assert_eq!(answer.fields.get("Content-Base"), Some("rtsp://h/live/x/?token=a/b"));
        assert_eq!(bench.status("SETUP", track, TCP), 200, "{track}");
        let session = bench.session();
        bench.ask("PLAY", "rtsp://h/live/x/", &session, "");
        let Event::PlayRequested(access) = bench.event() else { panic!("{track}") };
        assert_eq!((&*access.name, &*access.query), ("x", "token=a/b"), "the token is not lost");
        let start = Some(RtpStart { sequence: 1, rtptime: 2 });
        bench.engine(Command::AcceptPlay { video: start, audio: start });
        let info = format!("url={track};seq=1;rtptime=2");
        assert_eq!(bench.answer().fields.get("RTP-Info"), Some(info.as_str()));
    }
}

#[test]
fn transports_are_tried_in_their_order() {
    let offer = "RTP/SAVP;unicast;client_port=1-2,RTP/AVP;multicast,\
                 RTP/AVP/UDP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast;interleaved=4-5";
    let lines = format!("Transport: {offer}\r\n");
    let ask = |bench: &mut Bench| bench.ask("SETUP", &format!("{URL}/trackID=0"), &lines, "");

    let mut bench = Bench::new();
    ask(&mut bench);
    let Event::MulticastRequested { track: 0, video: true, request } = bench.event() else {
        panic!("not asked")
    };
    assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "x"));
    let address = "239.1.2.3".parse().unwrap();
    bench.engine(Command::MulticastGroup { track: 0, address, ports: (5002, 5003), ttl: 8 });
    let answer = bench.answer();
    let expected = "RTP/AVP;multicast;destination=239.1.2.3;port=5002-5003;ttl=8";
    assert_eq!(answer.fields.get("Transport"), Some(expected));

    let mut bench = Bench::new();
    ask(&mut bench);
    bench.events.clear();
    bench.engine(Command::Reject(Refusal::Unsupported));
    let Event::DatagramRequested { track: 0, video: true, client_ports, publish: false } =
        bench.event()
    else {
        panic!("not asked")
    };
    assert_eq!(client_ports, (5000, 5001));
    // An answer about another track is none.
    bench.engine(Command::DatagramPorts { track: 1, rtp: 1, rtcp: 2 });
    assert!(bench.responses.is_empty());
    bench.engine(Command::DatagramPorts { track: 0, rtp: 30_000, rtcp: 30_001 });
    let answer = bench.answer();
    let expected = "RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=30000-30001";
    assert_eq!(answer.fields.get("Transport"), Some(expected));

    let mut bench = Bench::new();
    ask(&mut bench);
    bench.engine(Command::Reject(Refusal::Unsupported));
    bench.engine(Command::Reject(Refusal::Overloaded));
    let answer = bench.answer();
    assert_eq!(answer.fields.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=4-5"));

    let mut bench = Bench::new();
    bench.ask("SETUP", &format!("{URL}/trackID=0"), UDP, "");
    bench.engine(Command::Reject(Refusal::Overloaded));
    assert_eq!(bench.answer().status.0, 461, "the client tries its next");
    assert!(bench.end.is_none());
}

/// A group is for who may play, and of a stream that there is.
#[test]
fn who_is_refused_a_group_is_told_why() {
    for (refusal, status) in [
        (Refusal::Unsupported, 461),
        (Refusal::Overloaded, 461),
        (Refusal::Unauthorised, 401),
        (Refusal::Forbidden, 403),
        (Refusal::StreamNotFound, 404),
    ] {
        let mut bench = Bench::new();
        let line = "Transport: RTP/AVP;multicast\r\n";
        bench.ask("SETUP", &format!("{URL}/trackID=0"), line, "");
        bench.engine(Command::Reject(refusal));
        assert_eq!(bench.answer().status.0, status, "{refusal:?}");
        assert!(bench.end.is_none(), "it may do without the group");
    }
}

#[test]
fn media_go_to_the_peer_and_channels_do_not_meet() {
    for (transport, status) in [
        ("RTP/AVP;unicast;client_port=1-2;destination=198.51.100.1", 461),
        ("RTP/AVP/TCP;interleaved=0-1;destination=192.0.2.7", 200),
        ("RTP/AVP/TCP;interleaved=0-1;mode=RECORD", 461),
        ("RTP/AVP/TCP;interleaved=1-0", 461),
        ("RTP/AVP/TCP;interleaved=255-256", 461),
    ] {
        assert_eq!(setup(&mut Bench::new(), 0, transport).status.0, status, "{transport}");
    }
    let mut bench = Bench::new();
    bench.set_up(0);
    for (transport, status) in [
        ("RTP/AVP/TCP;interleaved=0-1", 461),
        ("RTP/AVP/TCP;interleaved=1-2", 461),
        ("RTP/AVP;unicast;client_port=5000-5001", 461),
        ("RTP/AVP/TCP;interleaved=254-255", 200),
        ("RTP/AVP/TCP", 200),
    ] {
        assert_eq!(setup(&mut bench, 1, transport).status.0, status, "{transport}");
    }
    let session = bench.session();
    assert_eq!(bench.status("TEARDOWN", URL, &session), 200);
    let unasked = setup(&mut bench, 1, "RTP/AVP/TCP");
    assert_eq!(unasked.fields.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=2-3"));
}

#[test]
fn pauses() {
    let mut bench = Bench::new();
    bench.set_up(0);
    bench.play();
    let session = bench.session();
    for (method, expected) in
        [("PAUSE", Some(true)), ("PAUSE", None), ("PLAY", Some(false)), ("PLAY", None)]
    {
        assert_eq!(bench.status(method, URL, &session), 200);
        match (bench.events.pop(), expected) {
            (Some(Event::Paused(got)), Some(paused)) => assert_eq!(got, paused),
            (None, None) => {}
            other => panic!("{method}: {other:?}"),
        }
    }
}

/// What ffmpeg does when no datagram arrives: it pauses, forgets its session, and sets all tracks up
/// again within the connection.
#[test]
fn a_paused_client_may_begin_anew() {
    let mut bench = Bench::new();
    bench.ask("SETUP", &format!("{URL}/trackID=0"), UDP, "");
    bench.events.clear();
    bench.engine(Command::DatagramPorts { track: 0, rtp: 30_000, rtcp: 30_001 });
    bench.responses.clear();
    bench.play();
    let old = bench.session();
    assert_eq!(bench.status("PAUSE", URL, &old), 200);
    bench.events.clear();
    bench.set_up(0);
    assert!(matches!(bench.event(), Event::PlayEnded));
    assert_ne!(bench.session(), old);
    let lines = format!("{}Transport: RTP/AVP/TCP;interleaved=2-3\r\n", bench.session());
    assert_eq!(bench.status("SETUP", &format!("{URL}/trackID=1"), &lines), 200);
    bench.play();
    assert_eq!(bench.server.poll_timeout(), None);
}

#[test]
fn nothing_to_describe() {
    let mut bench = Bench::new();
    let speex = Track { codec: Codec::Speex, ..audio_track() };
    let tracks = Tracks { audio: Some(speex), ..Tracks::default() };
    let answer = bench.describe(tracks.shared());
    assert_eq!(answer.status.0, 406);
    assert!(answer.phrase.contains("no track"), "{answer:?}");
}
