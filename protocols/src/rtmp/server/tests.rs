//! Command sequences of clients in use, and of clients nobody should be.

use super::*;
use crate::rtmp::bench::Bench;
use crate::rtmp::command::{object, text};
use crate::rtmp::control;

const CONNECTED: [&str; 4] =
    ["WindowAckSize", "SetPeerBandwidth", "SetChunkSize", "_result NetConnection.Connect.Success"];
const PUBLISHING: [&str; 2] = ["StreamBegin(1)", "onStatus NetStream.Publish.Start"];
const PLAYING: [&str; 3] =
    ["StreamBegin(1)", "onStatus NetStream.Play.Reset", "onStatus NetStream.Play.Start"];

fn fresh() -> Bench {
    Bench::new(crate::fuzzing::virtual_epoch(), ServerOptions::default())
}

/// Connected to `live`, its answers read.
fn connected() -> Bench {
    let mut bench = fresh().handshaken();
    bench.connect("live");
    assert_eq!(bench.said(), CONNECTED);
    bench
}

fn created() -> Bench {
    let mut bench = connected();
    bench.call(0, "createStream", 2.0, &[]);
    assert_eq!(bench.said(), ["_result"]);
    bench
}

fn publishing() -> Bench {
    let mut bench = created();
    bench.call(1, "publish", 0.0, &[text("x"), text("live")]);
    bench.engine(EngineCommand::Accept);
    assert_eq!(bench.said(), PUBLISHING);
    bench.events.clear();
    bench
}

fn playing() -> Bench {
    let mut bench = created();
    bench.call(1, "play", 0.0, &[text("x")]);
    bench.engine(EngineCommand::Accept);
    assert_eq!(bench.said(), PLAYING);
    bench.events.clear();
    bench
}

fn reason(bench: &Bench) -> &'static str {
    bench.error.as_ref().map_or("none", |error| error.reason)
}

#[test]
fn ffmpeg_publishes() {
    let mut bench = fresh().handshaken();
    let connect = object([
        ("app", text("live")),
        ("type", text("nonprivate")),
        ("flashVer", text("FMLE/3.0 (compatible; Lavf61.7.100)")),
        ("tcUrl", text("rtmp://127.0.0.1:1935/live")),
    ]);
    bench.command(0, &Command::new("connect", 1.0).with(connect));
    assert_eq!(bench.said(), CONNECTED);
    assert_eq!(bench.server.flash_ver(), "FMLE/3.0 (compatible; Lavf61.7.100)");
    bench.send(&control::window_ack_size(2_500_000));
    bench.call(0, "releaseStream", 2.0, &[text("x?k=v")]);
    bench.call(0, "FCPublish", 3.0, &[text("x?k=v")]);
    bench.call(0, "createStream", 4.0, &[]);
    let notice = "onFCPublish NetStream.Publish.Start";
    assert_eq!(bench.said(), ["_result", notice, "_result", "_result"]);
    bench.call(1, "publish", 5.0, &[text("x?k=v"), text("live")]);
    let request = AccessRequest {
        host: "127.0.0.1".to_owned(),
        port: Some(1935),
        app: "live".to_owned(),
        name: "x".to_owned(),
        query: "k=v".to_owned(),
        agent: "FMLE/3.0 (compatible; Lavf61.7.100)".to_owned(),
        message_stream_id: 1,
        ..AccessRequest::default()
    };
    assert!(matches!(&*bench.events, [Event::PublishRequested(got)] if *got == request));
    assert_eq!(bench.server.poll_timeout(), None);
    bench.engine(EngineCommand::Accept);
    assert_eq!(bench.said(), PUBLISHING);
    assert!(bench.server.is_publishing());
    bench.call(0, "FCUnpublish", 6.0, &[text("x?k=v")]);
    bench.call(0, "deleteStream", 7.0, &[Value::Number(1.0)]);
    assert!(matches!(bench.events.last(), Some(Event::PublishEnded)));
    assert!(!bench.server.is_publishing());
    assert!(bench.server.poll_timeout().is_some());
}

#[test]
fn obs_publishes_enhanced() {
    let mut bench = fresh().handshaken();
    bench.set_chunk_size(4096);
    let connect = object([
        ("app", text("live")),
        ("type", text("nonprivate")),
        ("flashVer", text("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("swfUrl", text("rtmp://h/live")),
        ("tcUrl", text("rtmp://h/live")),
        ("fourCcList", Value::StrictArray(vec![text("av01"), text("hvc1")])),
    ]);
    bench.command(0, &Command::new("connect", 1.0).with(connect));
    let result = bench.replies.last().map(|message| message.payload.clone()).unwrap_or_default();
    for word in [&b"videoFourCcInfoMap"[..], b"capsEx", b"hvc1", b"Opus"] {
        assert!(result.windows(word.len()).any(|window| window == word));
    }
    assert_eq!(bench.said(), CONNECTED);
    bench.call(0, "releaseStream", 2.0, &[text("key")]);
    bench.call(0, "FCPublish", 3.0, &[text("key")]);
    bench.call(0, "createStream", 4.0, &[]);
    bench.call(1, "publish", 5.0, &[text("key"), text("live")]);
    assert!(matches!(&*bench.events, [Event::PublishRequested(request)] if request.enhanced));
    bench.engine(EngineCommand::Accept);
    assert!(bench.server.is_publishing());
}

#[test]
fn gstreamer_publishes() {
    let mut bench = fresh().handshaken();
    let connect = object([
        ("app", text("live")),
        ("type", text("nonprivate")),
        ("tcUrl", text("rtmp://h:1935/live")),
        ("flashVer", text("LNX 10,0,32,18")),
    ]);
    bench.command(0, &Command::new("connect", 1.0).with(connect));
    bench.send(&control::window_ack_size(2_500_000));
    bench.set_chunk_size(65_536);
    bench.call(0, "releaseStream", 2.0, &[text("x")]);
    bench.call(0, "FCPublish", 3.0, &[text("x")]);
    bench.call(0, "createStream", 4.0, &[]);
    bench.call(1, "publish", 0.0, &[text("x"), text("live")]);
    bench.engine(EngineCommand::Accept);
    assert!(bench.server.is_publishing());
    bench.call(1, "closeStream", 0.0, &[]);
    bench.call(0, "FCUnpublish", 0.0, &[text("x")]);
    bench.call(0, "deleteStream", 0.0, &[Value::Number(1.0)]);
    let ends = bench.events.iter().filter(|event| matches!(event, Event::PublishEnded)).count();
    assert_eq!((ends, bench.error), (1, None));
}

/// librtmp, as in rtmpdump and VLC: a control message before everything else, AMF0, ping answers.
#[test]
fn librtmp_plays() {
    let mut bench = fresh().handshaken();
    let connect = object([
        ("app", text("live")),
        ("flashVer", text("LNX 10,0,32,18")),
        ("tcUrl", text("rtmp://h:1935/live")),
        ("fpad", Value::Bool(false)),
        ("capabilities", Value::Number(15.0)),
        ("audioCodecs", Value::Number(3191.0)),
        ("videoCodecs", Value::Number(252.0)),
        ("videoFunction", Value::Number(1.0)),
    ]);
    bench.command(0, &Command::new("connect", 1.0).with(connect));
    assert_eq!(bench.said(), CONNECTED);
    bench.send(&control::window_ack_size(5_000_000));
    bench.send(&control::user_control(UserControl::SetBufferLength { stream_id: 0, millis: 300 }));
    bench.call(0, "createStream", 2.0, &[]);
    bench.call(0, "FCSubscribe", 3.0, &[text("x")]);
    bench.call(1, "play", 4.0, &[text("x"), Value::Number(-1000.0)]);
    let millis = 36_000_000;
    bench.send(&control::user_control(UserControl::SetBufferLength { stream_id: 1, millis }));
    assert!(matches!(&*bench.events, [Event::PlayRequested(request)] if !request.enhanced));
    assert_eq!(bench.server.buffer_length_ms(), 300, "input rests until the decision");
    bench.replies.clear();
    bench.engine(EngineCommand::Accept);
    assert_eq!(bench.said(), PLAYING);
    assert_eq!(bench.server.buffer_length_ms(), millis);
    bench.wait(PING_INTERVAL);
    assert_eq!(bench.said(), ["PingRequest(30000)"]);
    bench.send(&control::user_control(UserControl::PingResponse(30_000)));
    bench.call(0, "deleteStream", 0.0, &[Value::Number(1.0)]);
    assert!(matches!(bench.events.last(), Some(Event::PlayEnded)));
}

#[test]
fn ffmpeg_plays() {
    let mut bench = connected();
    bench.send(&control::window_ack_size(2_500_000));
    bench.call(0, "createStream", 2.0, &[]);
    bench.call(0, "getStreamLength", 3.0, &[text("x")]);
    bench.call(1, "play", 4.0, &[text("x"), Value::Number(-2000.0)]);
    bench.engine(EngineCommand::Accept);
    let said = bench.said();
    assert_eq!(said[..2], ["_result", "_result"]);
    assert_eq!(said[2..], PLAYING);
    bench.call(1, "pause", 0.0, &[Value::Bool(true), Value::Number(0.0)]);
    bench.call(1, "seek", 0.0, &[Value::Number(0.0)]);
    bench.call(1, "receiveAudio", 0.0, &[Value::Bool(false)]);
    assert_eq!(bench.said(), ["onStatus NetStream.Pause.Notify", "onStatus NetStream.Seek.Failed"]);
    assert!(matches!(
        &bench.events[1..],
        [Event::Paused(true), Event::Receive { video: false, wanted: false }]
    ));
    assert_eq!(bench.error, None);
}

/// Flash-like clients: AMF3 framing, an unknown call, a switch to another stream.
#[test]
fn amf3_commands_and_unknown_calls() {
    let mut bench = fresh().handshaken();
    let connect = object([("app", text("live")), ("objectEncoding", Value::Number(3.0))]);
    let amf3 = |command: &Command| [&[0], &*command.encode()].concat();
    let connect = amf3(&Command::new("connect", 1.0).with(connect));
    bench.send_payload(type_id::COMMAND_AMF3, 0, &connect);
    assert_eq!(bench.said(), CONNECTED);
    let call = amf3(&Command::new("setPlaylist", 9.0).with(Value::Null));
    bench.send_payload(type_id::COMMAND_AMF3, 0, &call);
    bench.call(0, "quiet", 0.0, &[]);
    bench.call(0, "_checkbw", 3.0, &[]);
    assert_eq!(bench.said(), ["_error NetConnection.Call.Failed", "_result"]);

    let mut bench = playing();
    let other = object([("streamName", text("y"))]);
    let same = object([("streamName", text("x"))]);
    bench.call(1, "play2", 0.0, &[other]);
    bench.call(1, "play2", 0.0, &[same]);
    assert_eq!(bench.said(), ["onStatus NetStream.Failed", "onStatus NetStream.Play.Start"]);
    assert!(bench.server.is_playing());
}

#[test]
fn statuses_the_engine_asks_for() {
    let mut bench = playing();
    bench.engine(EngineCommand::Reconnect);
    bench.engine(EngineCommand::PublisherGone);
    bench.engine(EngineCommand::PublisherBack);
    bench.engine(EngineCommand::Close(Refusal::ShuttingDown));
    assert_eq!(
        bench.said(),
        [
            "StreamEof(1)",
            "onStatus NetStream.Play.UnpublishNotify",
            "StreamBegin(1)",
            "onStatus NetStream.Play.PublishNotify",
            "StreamEof(1)",
            "onStatus NetStream.Play.Stop",
        ]
    );
    let mut bench = publishing();
    bench.engine(EngineCommand::Close(Refusal::Superseded));
    assert_eq!(bench.said(), ["onStatus NetStream.Publish.BadName"]);
    bench.feed(&[0xFF; 64]);
    assert_eq!((bench.error, bench.inbox.len()), (None, 0));

    let mut bench = fresh().handshaken();
    let connect = object([("app", text("live")), ("capsEx", Value::Number(1.0))]);
    bench.command(0, &Command::new("connect", 1.0).with(connect));
    bench.replies.clear();
    bench.engine(EngineCommand::Reconnect);
    assert_eq!(bench.said(), ["onStatus NetConnection.Connect.ReconnectRequest"]);
}

#[test]
fn refusals() {
    for (verb, refusal, code) in [
        ("publish", Refusal::StreamBusy, "NetStream.Publish.BadName"),
        ("publish", Refusal::BadName, "NetStream.Publish.BadName"),
        ("publish", Refusal::Unauthorised, "NetStream.Publish.BadName"),
        ("publish", Refusal::Overloaded, "NetStream.Publish.Failed"),
        ("play", Refusal::StreamNotFound, "NetStream.Play.StreamNotFound"),
        ("play", Refusal::Overloaded, "NetStream.Play.Failed"),
    ] {
        let mut bench = created();
        bench.call(1, verb, 0.0, &[text("x")]);
        bench.engine(EngineCommand::Reject(refusal));
        assert_eq!(bench.said(), [format!("onStatus {code}")]);
        let error = bench.error.expect("the session is over");
        assert_eq!((error.class, error.reason), (ErrorClass::Refused, refusal.reason()));
        assert_eq!(bench.server.poll_timeout(), None);
    }
}

#[test]
fn an_app_that_does_not_exist() {
    let mut bench = fresh().handshaken();
    bench.connect("other");
    assert_eq!(bench.said(), ["_error NetConnection.Connect.Rejected"]);
    assert_eq!(reason(&bench), "unknown_app");
}

#[test]
fn r1_other_protocols() {
    for (bytes, expected) in [
        (&b"\x00"[..], "bad_handshake_version"),
        (b"\x06", "bad_handshake_version"),
        (b"\x16\x03\x01", "tls_on_rtmp_port"),
        (b"GET / HTTP/1.1\r\n\r\n", "http_on_rtmp_port"),
    ] {
        let mut server = Server::new(crate::fuzzing::virtual_epoch(), 1, Arc::default());
        let mut inbox = BytesMut::from(bytes);
        let error = server
            .handle_input(crate::fuzzing::virtual_epoch(), Input::Stream(&mut inbox))
            .unwrap_err();
        assert_eq!(error.reason, expected);
        let is_http = matches!(server.poll_output(), Some(Output::Transmit(reply)) if reply.starts_with(b"HTTP/1.1 400"));
        assert_eq!(is_http, bytes.starts_with(b"GET"));
    }
}

#[test]
fn r2_silence_ends_at_the_deadline() {
    for mut bench in [fresh(), fresh().handshaken(), connected(), created()] {
        for _ in 0..9 {
            bench.wait(Duration::from_secs(1));
        }
        assert_eq!(bench.error, None);
        bench.wait(Duration::from_secs(1));
        assert_eq!(reason(&bench), "handshake_timeout");
    }
    for mut bench in [publishing(), playing()] {
        bench.wait(Duration::from_secs(3600));
        assert_eq!(bench.error, None);
    }
}

/// C2 is not compared with S1; a handshake in place of chunks is none.
#[test]
fn r3_handshake_oddities() {
    let mut bench = fresh();
    bench.feed(&[&[3][..], &[0xA5; 2 * 1536]].concat());
    assert!(matches!(bench.server.phase, Phase::ExpectConnect));
    let mut bench = connected();
    bench.feed(&[&[3, 0xFF, 0xFF, 0xFF][..], &[0xFF; 1533]].concat());
    assert!(bench.error.is_some());
}

#[test]
fn r4_chunk_sizes() {
    for (size, ends) in
        [(0, true), (1, false), (0x7FFF_FFFF, false), (0x8000_0000, true), (u32::MAX, true)]
    {
        let mut bench = connected();
        bench.send(&control::set_chunk_size(size));
        assert_eq!(bench.error.is_some(), ends, "{size:#x}");
    }
    let mut bench = connected();
    for _ in 0..1000 {
        bench.set_chunk_size(4096);
    }
    assert_eq!(bench.error, None);
    bench.set_chunk_size(4096);
    assert_eq!(reason(&bench), "chunk_size_changes");
}

#[test]
fn r6_continuation_of_nothing() {
    for basic in [0x4B, 0x8B, 0xCB] {
        let mut bench = connected();
        bench.feed(&[basic, 0, 0, 0, 0, 0, 1, 9]);
        assert!(bench.error.is_some(), "{basic:#x}");
    }
}

#[test]
fn r8_control_oddities() {
    let mut bench = connected();
    bench.send(&control::abort(77));
    bench.send(&control::window_ack_size(0));
    bench.send_payload(type_id::USER_CONTROL, 0, &[0]);
    bench.send_payload(type_id::USER_CONTROL, 0, &[0, 6, 1]);
    bench.send_payload(type_id::ABORT, 0, &[]);
    bench.send_payload(type_id::SET_PEER_BANDWIDTH, 0, &[0; 5]);
    bench.send_payload(0, 0, &[1, 2, 3]);
    bench.send_payload(255, 0, &[]);
    bench.send_payload(type_id::SHARED_OBJECT_AMF0, 0, &[0; 40]);
    assert_eq!((bench.said(), &bench.error), (vec!["WindowAckSize".to_owned()], &None));
    bench.send(&control::window_ack_size(1));
    for _ in 0..10 {
        bench.send_payload(0, 0, &[0; 100]);
    }
    assert_eq!(bench.said(), ["Acknowledgement"; 11]);
    bench.send(&control::user_control(UserControl::PingRequest(5)));
    assert_eq!(bench.said(), ["PingResponse(5)", "Acknowledgement"]);
}

#[test]
fn r9_hostile_amf() {
    let nested =
        [&b"\x02\x00\x01x\x00\0\0\0\0\0\0\0\0"[..], &b"\x03\x00\x01a".repeat(5000)].concat();
    for payload in [
        &b""[..],
        b"\x05",
        b"\x00\0\0\0\0\0\0\0\0",
        b"\x02\xFF\xFFab",
        b"\x02\x00\x01x\x00\x7F\xF8\0\0\0\0\0\0",
        b"\x02\x00\x01x\x00\x7F\xF0\0\0\0\0\0\0",
        b"\x02\x00\x01x\x00\0\0\0\0\0\0\0\0\x0A\xFF\xFF\xFF\xFF",
        b"\x02\x00\x01x\x00\0\0\0\0\0\0\0\0\x07\x00\x01",
        &nested,
    ] {
        let mut bench = connected();
        bench.send_payload(type_id::COMMAND_AMF0, 0, payload);
        assert_eq!(reason(&bench), "bad_command", "{:?}", &payload[..payload.len().min(20)]);
    }
}

#[test]
fn r10_commands_out_of_order() {
    let mut bench = connected();
    bench.connect("live");
    assert_eq!(bench.said(), ["_error NetConnection.Connect.Rejected"]);
    assert_eq!(reason(&bench), "command_order");

    for name in ["createStream", "publish", "play"] {
        let mut bench = fresh().handshaken();
        bench.call(0, name, 1.0, &[text("x")]);
        assert_eq!(bench.said(), ["_error NetConnection.Call.Failed"]);
        assert_eq!(reason(&bench), "command_order");
    }
    for (name, code) in [("publish", "NetStream.Publish.Failed"), ("play", "NetStream.Play.Failed")]
    {
        let mut benches = [connected(), publishing(), playing()];
        for bench in &mut benches {
            bench.call(1, name, 0.0, &[text("x")]);
            assert_eq!(bench.said(), [format!("onStatus {code}")]);
            assert_eq!(reason(bench), "command_order");
            assert!(bench.events.is_empty());
        }
    }
    let mut bench = publishing();
    for id in [0.0, 2.0, -1.0, 17.0, 4e9, f64::NAN] {
        bench.call(0, "deleteStream", 0.0, &[Value::Number(id)]);
    }
    assert!(bench.server.is_publishing() && bench.error.is_none());

    let mut bench = connected();
    for _ in 0..16 {
        bench.call(0, "createStream", 2.0, &[]);
    }
    assert_eq!(bench.said(), ["_result"; 16]);
    bench.call(0, "createStream", 2.0, &[]);
    assert_eq!(bench.said(), ["_error NetConnection.Call.Failed"]);
    bench.call(0, "deleteStream", 0.0, &[Value::Number(16.0)]);
    bench.call(0, "createStream", 2.0, &[]);
    assert_eq!(bench.said(), ["_result"]);
}

#[test]
fn r11_long_names() {
    let long = "a".repeat(4096);
    let mut bench = created();
    bench.call(1, "publish", 0.0, &[text(&long)]);
    assert_eq!(bench.said(), ["onStatus NetStream.Publish.BadName"]);
    assert_eq!(reason(&bench), "bad_name");
    let mut bench = fresh().handshaken();
    bench.connect(&long);
    assert_eq!(bench.said(), ["_error NetConnection.Connect.Rejected"]);
    assert_eq!(reason(&bench), "bad_name");
}

/// Media before a publication and odd tags within one: no end, nothing made of them.
#[test]
fn r12_odd_media() {
    let mut bench = created();
    bench.send_payload(type_id::VIDEO, 1, &[0x17, 0, 0, 0, 0]);
    assert_eq!((bench.events.len(), &bench.error), (0, &None));
    let goes_on: &[(u8, &[u8])] = &[
        (type_id::AUDIO, b""),
        (type_id::VIDEO, b""),
        (type_id::DATA_AMF0, b""),
        (type_id::DATA_AMF0, b"\x02\x00\x0aonMetaData\x08\xff"),
        (type_id::DATA_AMF3, b"\x00\x02\x00\x01x"),
        (type_id::AUDIO, b"\xaf"),
        (type_id::VIDEO, b"\x17"),
        (type_id::VIDEO, b"\x27\x01\0\0\0\0\0\0\x01\x41"),
        (type_id::AGGREGATE, b""),
    ];
    let mut bench = publishing();
    for (type_id, payload) in goes_on {
        bench.send_payload(*type_id, 1, payload);
        assert_eq!(bench.error, None, "{type_id} {payload:x?}");
    }
    for (type_id, payload, expected) in [
        (type_id::VIDEO, &b"\x90none\0"[..], "unsupported_codec"),
        (type_id::AGGREGATE, b"\x08\0\0\x09", "aggregate_truncated"),
    ] {
        let mut bench = publishing();
        bench.send_payload(type_id, 1, payload);
        assert_eq!(reason(&bench), expected);
        assert_eq!(bench.said(), ["onStatus NetStream.Publish.Failed"]);
    }
}

#[test]
fn aggregates_are_split() {
    let mut bench = publishing();
    let mut payload = Vec::new();
    for at in [0, 26] {
        payload.extend_from_slice(&[type_id::AUDIO, 0, 0, 3, 0, 0, at, 0, 0, 0, 0]);
        payload.extend_from_slice(&[0x2F, 0xFF, 0xFB]);
        payload.extend_from_slice(&[0, 0, 0, 14]);
    }
    bench.send_payload(type_id::AGGREGATE, 1, &payload);
    let times: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Frame(frame) => Some(frame.dts.to_millis()),
            _ => None,
        })
        .collect();
    assert_eq!((times, bench.error), (vec![0, 26], None));
}

#[test]
fn r14_metadata_flood() {
    let mut bench = publishing();
    for key in 0..1000 {
        let mut payload = Vec::new();
        let data = object([(&*format!("k{key}"), Value::Number(1.0))]);
        crate::amf::encode(&[text("@setDataFrame"), text("onMetaData"), data], &mut payload);
        bench.send_payload(type_id::DATA_AMF0, 1, &payload);
    }
    assert!(bench.events.len() <= 100, "{}", bench.events.len());
    assert_eq!(bench.error, None);
}

#[test]
fn a_player_is_small() {
    let bench = playing();
    let bytes = bench.server.heap_bytes() + size_of::<Server>();
    assert!(bytes < 2048, "{bytes}");
}

#[test]
fn a_second_publication_on_one_connection_after_the_first() {
    let mut bench = publishing();
    bench.call(1, "closeStream", 0.0, &[]);
    bench.call(1, "publish", 0.0, &[text("y")]);
    bench.engine(EngineCommand::Accept);
    assert!(bench.server.is_publishing() && bench.error.is_none());
}
