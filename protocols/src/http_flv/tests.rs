//! Answers of servers, cut at every place.

use bytes::BytesMut;

use super::{Client, ClientOptions};
use crate::container::flv::{self, TagType};
use crate::session::{Event, Input, Output, Session, SessionError};

fn client(url: &str) -> Client {
    Client::new(ClientOptions {
        url: url.to_owned(),
        agent: "test".to_owned(),
        legacy_h265_id: 12,
        tag_bytes: 1 << 20,
        hops: crate::hops::Hops::default(),
    })
}

/// MP3 frames of four bytes at these times.
fn stream(times: &[u32]) -> Vec<u8> {
    let mut out = flv::header(true, false).to_vec();
    for time in times {
        flv::write_tag(&mut out, TagType::Audio, *time, &[&[0x2F], &[0xFF, 0xFB, 0x90, 0x00]]);
    }
    out
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Times of the frames that come out of an answer fed in pieces, and how it ends.
fn times(answer: &[u8], piece: usize) -> (Vec<i64>, Result<(), SessionError>) {
    let mut client = client("http://h/live/x.flv");
    let mut buffer = BytesMut::new();
    let now = crate::fuzzing::virtual_epoch();
    let mut frames = Vec::new();
    let mut result = Ok(());
    for bytes in answer.chunks(piece) {
        buffer.extend_from_slice(bytes);
        result = client.handle_input(now, Input::Stream(&mut buffer));
        while let Some(output) = client.poll_output() {
            if let Output::Event(Event::Frame(frame)) = output {
                frames.push(frame.dts.to_millis());
            }
        }
        if result.is_err() {
            break;
        }
    }
    (frames, result)
}

#[test]
fn the_request_names_the_path_and_keeps_the_secret_out_of_it() {
    let mut client = client("http://u:p%40@h:81/live/x.flv?a=b");
    let Some(Output::Transmit(bytes)) = client.poll_output() else { panic!("no request") };
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.starts_with("GET /live/x.flv?a=b HTTP/1.1\r\nHost: h:81\r\n"), "{text}");
    assert!(text.contains("\r\nAuthorization: Basic dTpwQA==\r\n") && text.ends_with("\r\n\r\n"));
}

#[test]
fn media_come_out_however_they_are_cut() {
    let body = stream(&[0, 26, 52, 78]);
    let plain = [&b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n"[..], &body].concat();
    for answer in [plain, chunked(&body, 7), chunked(&body, 1000)] {
        for piece in [1, 2, 3, 17, 4096] {
            assert_eq!(times(&answer, piece), (vec![0, 26, 52, 78], Ok(())), "{piece}");
        }
    }
}

#[test]
fn time_stamps_go_on_beyond_32_bits() {
    let answer = chunked(&stream(&[u32::MAX - 10, 16, 42]), 64);
    let (times, _) = times(&answer, 4096);
    assert_eq!(times.iter().map(|time| time - times[0]).collect::<Vec<_>>(), [0, 27, 53]);
}

#[test]
fn bad_answers_end_it_with_a_reason() {
    let long = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 20_000]].concat();
    let ended = [chunked(&stream(&[0]), 64), b"0\r\n\r\n".to_vec()].concat();
    for (answer, reason) in [
        (b"HTTP/1.1 404 Not Found\r\n\r\n".as_slice(), "stream_not_found"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "unauthorised"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "server_refused"),
        (b"SSH-2.0-OpenSSH\r\n", "bad_response"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html></html>", "bad_media"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", "bad_response"),
        (&long, "bad_response"),
        (&ended, "source_ended"),
    ] {
        let (_, result) = times(answer, 4096);
        assert_eq!(result.map_err(|error| error.reason), Err(reason));
    }
}

#[test]
fn limits_do_not_depend_on_how_bytes_arrive() {
    let head = |filler: usize| {
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(filler)).into_bytes()
    };
    let chunks = |rest: String| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        [head.as_bytes(), rest.as_bytes()].concat()
    };
    let bad_at_last = [chunked(&stream(&[0, 26]), 64), b"bad\r\n".to_vec()].concat();
    for answer in [
        head(16 * 1024 - 30),
        head(16 * 1024 + 30),
        head(30_000),
        [head(30_000), b"\0".to_vec()].concat(),
        chunks(format!("1;{}\r\nF", "e".repeat(1000))),
        chunks(format!("1;{}\r\nF", "e".repeat(1100))),
        bad_at_last,
    ] {
        let whole = times(&answer, answer.len());
        for piece in [1, 7, 1000] {
            assert_eq!(times(&answer, piece), whole, "{piece}");
        }
    }
}

#[test]
fn a_redirect_is_told() {
    for (location, expected) in [
        ("http://i/y.flv", "http://i/y.flv"),
        ("/other/y.flv?a=b", "http://h/other/y.flv?a=b"),
        ("y.flv", "http://h/live/y.flv"),
    ] {
        let mut client = client("http://u:p@h/live/x.flv");
        while client.poll_output().is_some() {}
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
        let mut buffer = BytesMut::from(answer.as_bytes());
        client.handle_input(crate::fuzzing::virtual_epoch(), Input::Stream(&mut buffer)).unwrap();
        match client.poll_output() {
            Some(Output::Event(Event::Redirected(url))) => assert_eq!(url, expected),
            other => panic!("{other:?}"),
        }
    }
}
