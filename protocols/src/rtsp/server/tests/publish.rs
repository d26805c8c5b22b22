//! Publishers: announcements, control URLs, media within the connection and beside it.

use super::*;
use crate::media::FrameKind;
use crate::session::{AccessRequest, Refusal};

const BOTH: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:VIDEO\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:rtsp://h:8554/live/x/a/b\r\n\
    m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:meta\r\n";

fn announce(description: &str) -> Bench {
    let mut bench = Bench::new();
    bench.ask("ANNOUNCE", URL, "User-Agent: Lavf59\r\n", description);
    bench
}

/// Frames and tracks that came out.
fn media(bench: &mut Bench) -> (usize, Vec<i64>) {
    let mut announced = 0;
    let mut frames = Vec::new();
    for event in bench.events.drain(..) {
        match event {
            Event::Tracks(tracks) => {
                assert_eq!(tracks.audio.as_ref().map(|audio| audio.codec), Some(Codec::G711A));
                announced += 1;
            }
            Event::Frame(frame) => {
                assert_eq!((frame.kind, frame.payload.len()), (FrameKind::Audio, 160));
                frames.push(frame.dts.to_millis());
            }
            other => panic!("{other:?}"),
        }
    }
    (announced, frames)
}

#[test]
fn a_publication_within_the_connection() {
    let mut bench = announce(SOUND);
    let expected = AccessRequest {
        host: "h".to_owned(),
        port: Some(8554),
        app: "live".to_owned(),
        name: "x".to_owned(),
        agent: "Lavf59".to_owned(),
        ..AccessRequest::default()
    };
    assert!(matches!(bench.event(), Event::PublishRequested(access) if access == expected));
    bench.engine(Command::Accept);
    assert_eq!(bench.answer().status.0, 200);
    let lines = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
    bench.ask("SETUP", &format!("{URL}/streamid=0"), lines, "");
    let answer = bench.answer();
    let transport = answer.fields.get("Transport");
    assert_eq!(transport, Some("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"));
    // Too early, and on no channel: dropped.
    bench.feed(&framed(0, &packet(0, 0)));
    let session = bench.session();
    assert_eq!(bench.status("RECORD", URL, &session), 200);
    assert!(bench.server.is_publishing());
    bench.feed(&framed(9, &packet(0, 0)));
    assert!(bench.events.is_empty());
    let stream: Vec<_> = (0..50).flat_map(|n| framed(0, &packet(n, u32::from(n) * 160))).collect();
    bench.feed(&stream);
    bench.feed(&framed(0, b""));
    bench.feed(&framed(0, b"\x80\x08short"));
    let (announced, frames) = media(&mut bench);
    assert_eq!((announced, frames.len()), (1, 50));
    assert!(frames.windows(2).all(|pair| pair[1] - pair[0] == 20));
    assert!(bench.end.is_none());

    assert_eq!(bench.status("PAUSE", URL, &session), 200);
    bench.feed(&framed(0, &packet(50, 8000)));
    assert!(bench.events.is_empty(), "nothing of a pause");
    assert_eq!(bench.status("RECORD", URL, &session), 200);
    bench.feed(&framed(0, &packet(50, 8000)));
    assert_eq!(media(&mut bench).1.len(), 1);
    assert_eq!(bench.status("TEARDOWN", URL, &session), 200);
    assert!(matches!(bench.event(), Event::PublishEnded));
    assert!(!bench.server.is_publishing());
}

#[test]
fn a_publication_by_datagrams_and_its_reports() {
    let mut bench = announce(SOUND);
    bench.events.clear();
    bench.engine(Command::Accept);
    bench.responses.clear();
    // As rtspclientsink writes it.
    let lines = "Transport: RTP/AVP/UDP;unicast;client_port=5000-5001;mode=RECORD\r\n";
    bench.ask("SETUP", &format!("{URL}/streamid=0"), lines, "");
    let Event::DatagramRequested {
        track: 0,
        video: false,
        client_ports: (5000, 5001),
        publish: true,
    } = bench.event()
    else {
        panic!("not asked")
    };
    bench.engine(Command::DatagramPorts { track: 0, rtp: 30_000, rtcp: 30_001 });
    let expected = "RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=30000-30001;mode=record";
    assert_eq!(bench.answer().fields.get("Transport"), Some(expected));
    let session = bench.session();
    assert_eq!(bench.status("RECORD", URL, &session), 200);
    for sequence in 0..10 {
        bench.datagram(0, false, &packet(sequence, u32::from(sequence) * 160));
    }
    bench.datagram(1, false, &packet(0, 0));
    bench.feed(&framed(0, &packet(10, 1600)));
    assert_eq!(media(&mut bench).1.len(), 10, "only of the transport that was set up");
}

#[test]
fn control_urls_of_any_form() {
    let urls = [
        ("rtsp://h:8554/live/x/VIDEO", true),
        ("rtsp://h:8554/live/x/?k=v/VIDEO", true),
        ("rtsp://h:8554/live/x//VIDEO/", true),
        ("rtsp://h:8554/live/x/a/b", true),
        ("rtsp://h:8554/live/x/meta", true),
        ("rtsp://h:8554/live/x/streamid=1", true),
        ("rtsp://h:8554/live/x/streamid=3", false),
        ("rtsp://h:8554/live/x/other", false),
        ("rtsp://h:8554/live/y/VIDEO", false),
        ("rtsp://h:8554/live/VIDEO", false),
        ("VIDEO", false),
        ("/", false),
        ("*", false),
    ];
    for (url, found) in urls {
        let mut bench = announce(BOTH);
        bench.engine(Command::Accept);
        bench.responses.clear();
        assert_eq!(bench.status("SETUP", url, TCP), if found { 200 } else { 404 }, "{url}");
    }
    let mut bench = announce(BOTH);
    bench.engine(Command::Accept);
    bench.responses.clear();
    assert_eq!(bench.status("SETUP", URL, TCP), 459);
    // Any order, with one transport for all.
    assert_eq!(bench.status("SETUP", "rtsp://h:8554/live/x/meta", TCP), 200);
    let lines = format!("{}Transport: RTP/AVP/TCP;interleaved=4-5\r\n", bench.session());
    assert_eq!(bench.status("SETUP", &format!("{URL}/VIDEO"), &lines), 200);
    assert_eq!(bench.status("SETUP", &format!("{URL}/a/b"), UDP), 461);
}

#[test]
fn announcements_that_are_refused() {
    let video = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
    for (description, status, word) in [
        ("hello".to_owned(), 400, "description"),
        ("v=0\r\n".to_owned(), 400, "without media"),
        (format!("v=0\r\n{}", video.repeat(1000)), 400, "limit"),
        (format!("v=0\r\n{video}{video}"), 415, "at most one video"),
        ("v=0\r\nm=application 0 RTP/AVP 107\r\n".to_owned(), 415, "neither"),
        ("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\n".to_owned(), 415, "theora"),
        ("v=0\r\nm=video 0 RTP/AVP 4294967296\r\n".to_owned(), 415, "4294967296"),
        ("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0\r\n".to_owned(), 415, "H264/0"),
        ("v=0\r\ns=\0\r\nm=audio 0 RTP/AVP 8\r\n".to_owned(), 400, "description"),
    ] {
        let mut bench = announce(&description);
        let answer = bench.answer();
        assert_eq!(answer.status.0, status, "{description:.60}");
        assert!(answer.phrase.contains(word), "{answer:?}");
        assert!(bench.events.is_empty() && bench.end.is_none());
    }
}

#[test]
fn requests_may_come_in_one_piece_and_wait_for_the_engine() {
    let text = format!(
        "ANNOUNCE {URL} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n{SOUND}\
         SETUP {URL}/streamid=0 RTSP/1.0\r\nCSeq: 2\r\n{TCP}\r\nOPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n",
        SOUND.len()
    );
    let mut bench = Bench::new();
    bench.feed(text.as_bytes());
    assert!(matches!(bench.event(), Event::PublishRequested(_)));
    assert!(bench.responses.is_empty(), "input rests");
    bench.engine(Command::Accept);
    let answers: Vec<_> =
        bench.responses.iter().map(|one| (one.status.0, one.fields.cseq())).collect();
    assert_eq!(answers, [(200, Some(1)), (200, Some(2)), (200, Some(3))]);
}

#[test]
fn a_busy_stream_is_refused_at_once() {
    let mut bench = announce(SOUND);
    bench.engine(Command::Reject(Refusal::StreamBusy));
    let answer = bench.answer();
    assert_eq!(answer.status.0, 403);
    assert!(answer.phrase.contains("published by somebody else"), "{answer:?}");
}
