//! Every status this server answers with, and what it takes to get it.

use super::*;
use crate::session::Refusal;

#[test]
fn what_is_wrong_with_a_request_whatever_the_state() {
    let require = "Require: com.example.a\r\nProxy-Require: b\r\n";
    let long = format!("rtsp://h/live/{}", "a".repeat(2100));
    for (method, url, lines, status) in [
        ("OPTIONS", "*", "", 200),
        ("OPTIONS", URL, "", 200),
        ("DESCRIBE", URL, require, 551),
        ("DESCRIBE", URL, "Accept: text/html, application/rtsl\r\n", 406),
        ("DESCRIBE", "rtsp://h/class/x", "", 404),
        ("DESCRIBE", "rtsp://h/live", "", 404),
        ("DESCRIBE", "*", "", 404),
        ("DESCRIBE", &long, "", 414),
        ("ANNOUNCE", "rtsp://h/class/x", "", 404),
        ("ANNOUNCE", URL, "Content-Type: text/plain\r\n", 415),
        ("ANNOUNCE", URL, "", 400),
        ("SETUP", "rtsp://h/class/x/trackID=0", TCP, 404),
        ("SETUP", &format!("{URL}/trackID=7"), TCP, 404),
        ("SETUP", URL, TCP, 459),
        ("SETUP", &format!("{URL}/trackID=0"), "", 461),
        ("SETUP", &format!("{URL}/trackID=0"), "Transport: RAW/RAW/UDP;unicast\r\n", 461),
        ("GET_PARAMETER", URL, "", 200),
        ("SET_PARAMETER", URL, "", 200),
        ("REDIRECT", URL, "", 405),
        ("PUSH", URL, "", 501),
        ("describe", URL, "", 501),
        ("PLAY", URL, "", 455),
        ("PLAY", URL, "Session: 1\r\n", 454),
        ("GET_PARAMETER", URL, "Session: 1\r\n", 454),
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.status(method, url, lines), status, "{method} {url} {lines}");
        assert!(matches!(bench.server.phase, Phase::Idle) && bench.events.is_empty());
        assert_eq!(bench.status("OPTIONS", "*", ""), 200, "the connection goes on");
    }
}

#[test]
fn headers_that_answers_owe() {
    let mut bench = Bench::new();
    bench.ask("OPTIONS", "*", "", "");
    let options = bench.answer();
    let public = options.fields.get("Public").unwrap();
    for method in ["DESCRIBE", "ANNOUNCE", "RECORD", "GET_PARAMETER"] {
        assert!(public.contains(method));
    }
    assert_eq!(options.fields.get("Server"), Some("smart-rtmpd"));
    bench.ask("DESCRIBE", URL, "Require: a\r\nRequire: b\r\n", "");
    assert_eq!(bench.answer().fields.get("Unsupported"), Some("a, b"));
    bench.ask("REDIRECT", URL, "", "");
    assert_eq!(bench.answer().fields.get("Allow"), Some(public));
    bench.ask("DESCRIBE", "rtsp://h/class/x", "", "");
    let refused = bench.answer();
    assert!(refused.phrase.contains("only the configured live and rec apps"), "{refused:?}");
    bench.ask("GET_PARAMETER", URL, "", "packets_received\r\n");
    assert_eq!(bench.answer().status.0, 451);
}

#[test]
fn versions_and_numbers() {
    let mut bench = Bench::new();
    bench.feed(b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n");
    assert_eq!(bench.responses.remove(0).status.0, 505);
    for line in ["", "CSeq: 18446744073709551616\r\n", "CSeq: x\r\n"] {
        bench.feed(format!("OPTIONS * RTSP/1.0\r\n{line}\r\n").as_bytes());
        let response = bench.responses.remove(0);
        assert_eq!((response.status.0, response.fields.get("CSeq")), (400, None), "{line}");
    }
    assert!(bench.end.is_none());
}

#[test]
fn what_cannot_be_read_ends_the_session_with_its_answer() {
    let long = format!("PLAY rtsp://h/{} RTSP/1.0\r\n", "a".repeat(5000));
    let many = format!("PLAY a RTSP/1.0\r\nCSeq: 1\r\n{}\r\n", "a: b\r\n".repeat(100));
    let body = "ANNOUNCE a RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1000000\r\n\r\n";
    for (text, status, reason) in [
        (long.as_str(), 414, "line_bytes"),
        (many.as_str(), 400, "header_fields"),
        (body, 413, "body_bytes"),
        ("hello\r\n\r\n", 400, "bad_message"),
    ] {
        let mut bench = Bench::new();
        bench.feed(text.as_bytes());
        assert_eq!(bench.responses.remove(0).status.0, status);
        assert_eq!(bench.end.map(|error| error.reason), Some(reason));
    }
}

#[test]
fn those_who_look_for_a_page_are_told() {
    let mut bench =
        Bench::with(ServerOptions { http_port: Some(8080), ..ServerOptions::default() });
    bench.inbox.extend_from_slice(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let ended = bench.server.handle_input(bench.now, Input::Stream(&mut bench.inbox));
    assert_eq!(ended.unwrap_err().reason, "looks_like_http");
    let Some(Output::Transmit(said)) = bench.server.poll_output() else { panic!("no answer") };
    let said = String::from_utf8(said.to_vec()).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("port 8080"), "{said}");
}

#[test]
fn a_tunnel_is_the_first_thing_asked_for_or_nothing() {
    let get = b"GET /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\r\nT1BU";
    let mut bench = Bench::new();
    bench.feed(get);
    let Some(Event::TunnelHalf { receives: true, cookie }) = bench.events.pop() else {
        panic!("no half: {:?}", bench.events);
    };
    // What follows is for another session, and nothing is answered by this one.
    assert_eq!((&*cookie, &bench.inbox[..]), ("abc", &b"T1BU"[..]));
    assert!(bench.server.poll_timeout().is_none() && bench.end.is_none());
    assert!(bench.responses.is_empty());

    let mut late = Bench::new();
    late.feed(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let options = ServerOptions::default();
    let addresses = late.server.addresses;
    let inner = Server::tunnelled(late.now, 7, Arc::new(options), addresses);
    for mut server in [late.server, inner] {
        let mut input = BytesMut::from(&get[..]);
        let ended = server.handle_input(late.now, Input::Stream(&mut input));
        assert_eq!(ended.unwrap_err().reason, "looks_like_http");
    }
}

#[test]
fn refusals_of_the_engine() {
    for (refusal, description, publication) in [
        (Refusal::UnknownApp, 404, 404),
        (Refusal::StreamNotFound, 404, 404),
        (Refusal::BadName, 400, 400),
        (Refusal::StreamBusy, 403, 403),
        (Refusal::Unauthorised, 401, 401),
        (Refusal::Forbidden, 403, 403),
        (Refusal::Unverified, 503, 503),
        (Refusal::Overloaded, 503, 503),
        (Refusal::ShuttingDown, 503, 503),
        (Refusal::Unsupported, 406, 415),
    ] {
        let mut bench = Bench::new();
        bench.ask("DESCRIBE", URL, "", "");
        bench.engine(Command::Reject(refusal));
        assert_eq!(bench.answer().status.0, description);
        assert_eq!(bench.end.map(|error| error.reason), Some(refusal.reason()));

        let mut bench = Bench::new();
        bench.ask("ANNOUNCE", URL, "", SOUND);
        bench.engine(Command::Reject(refusal));
        let answer = bench.answer();
        assert_eq!(answer.status.0, publication);
        assert!(answer.phrase.contains(refusal.text()), "{answer:?}");

        let mut bench = Bench::new();
        bench.set_up(1);
        let session = bench.session();
        bench.ask("PLAY", URL, &session, "");
        bench.engine(Command::Reject(refusal));
        assert_eq!(bench.answer().status.0, description);
    }
}

#[test]
fn a_goodbye_answers_what_waits() {
    let mut bench = Bench::new();
    bench.ask("DESCRIBE", URL, "", "");
    bench.engine(Command::Close(Refusal::ShuttingDown));
    assert_eq!(bench.answer().status.0, 503);
    assert!(bench.end.is_none() && matches!(bench.server.phase, Phase::Ended));
    bench.feed(b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n");
    assert!(bench.inbox.is_empty() && bench.responses.is_empty());
}
