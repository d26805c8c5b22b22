//! Tests of the handshake, of frame headers and of the reader, bounds first.

use super::*;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

fn read(bytes: &[u8]) -> Result<Vec<ClientEvent>, WsError> {
    let whole = ClientFrames::default().push(&mut BytesMut::from(bytes));
    let (mut frames, mut buffer, mut events) = (ClientFrames::default(), BytesMut::new(), vec![]);
    for byte in bytes {
        buffer.extend_from_slice(&[*byte]);
        match frames.push(&mut buffer) {
            Ok(more) => events.extend(more),
            Err(e) => {
                assert_eq!(whole, Err(e), "one byte at a time gives the same end");
                return whole;
            }
        }
        assert!(buffer.len() <= 131, "nothing piles up");
    }
    assert_eq!(whole, Ok(events));
    whole
}

#[test]
fn the_key_of_the_rfc_gives_the_answer_of_the_rfc() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn a_handshake_needs_all_its_parts() {
    let good = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let check = |changed: Option<(&str, &'static str)>| {
        let mut headers = HeaderMap::new();
        for (name, value) in good {
            let value = changed.filter(|c| c.0 == name).map_or(value, |c| c.1);
            if !value.is_empty() {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.insert(name, value.parse().unwrap());
            }
        }
        accept(&Method::GET, Version::HTTP_11, &headers)
    };
    assert_eq!(check(None).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (name, value) in [
        ("upgrade", "h2c"),
        ("upgrade", ""),
        ("connection", "close"),
        ("sec-websocket-key", ""),
        ("sec-websocket-key", "c2hvcnQ="),
        ("sec-websocket-key", "%%%"),
    ] {
        let refused = check(Some((name, value)));
        assert!(matches!(refused, Err(UpgradeError::BadRequest(_))), "{name}: {value}");
    }
    for version in ["", "8"] {
        let refused = check(Some(("sec-websocket-version", version)));
        assert_eq!(refused, Err(UpgradeError::WrongVersion));
    }
    let headers = HeaderMap::new();
    assert!(accept(&Method::POST, Version::HTTP_11, &headers).is_err());
    assert!(accept(&Method::GET, Version::HTTP_10, &headers).is_err());
}

#[test]
fn headers_take_the_shortest_form() {
    assert_eq!(frame_header(125).as_slice(), [0x82, 125]);
    assert_eq!(frame_header(126).as_slice(), [0x82, 126, 0, 126]);
    assert_eq!(frame_header(65_535).as_slice(), [0x82, 126, 0xff, 0xff]);
    assert_eq!(frame_header(65_536).as_slice(), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(pong_frame(b"hi"), [0x8a, 2, b'h', b'i']);
    assert_eq!(close_frame(1000), [0x88, 2, 0x03, 0xe8]);
}

#[test]
fn control_frames_come_through_between_skipped_data() {
    let mut bytes = frame(0x82, &[7; 300]);
    bytes.extend(frame(0x01, b"frag"));
    bytes.extend(frame(0x89, b"between"));
    bytes.extend(frame(0x80, b"ment"));
    bytes.extend(frame(0x8a, b"unasked"));
    bytes.extend(frame(0x82, &vec![1; 64 * 1024]));
    bytes.extend(frame(0x88, &1001u16.to_be_bytes()));
    bytes.extend(b"anything after the close");
    let events = read(&bytes).unwrap();
    assert_eq!(events, [ClientEvent::Ping(b"between".to_vec()), ClientEvent::Close(Some(1001))]);
    assert_eq!(read(&frame(0x88, b"")).unwrap(), [ClientEvent::Close(None)]);
}

#[test]
fn broken_frames_are_refused() {
    for (what, bytes) in [
        ("no mask", vec![0x82, 0x01, 0x00]),
        ("reserved bit", frame(0xc2, b"x")),
        ("unknown opcode", frame(0x83, b"x")),
        ("fragmented ping", frame(0x09, b"x")),
        ("long ping", frame(0x89, &[0; 126])),
        ("close of one byte", frame(0x88, b"x")),
        ("continuation of nothing", frame(0x80, b"x")),
        ("two beginnings", [frame(0x01, b"x"), frame(0x01, b"y")].concat()),
    ] {
        assert!(matches!(read(&bytes), Err(WsError::Protocol(_))), "{what}");
    }
    let huge = [&[0x82, 0xff][..], &(1u64 << 63).to_be_bytes(), &[0; 4]].concat();
    assert_eq!(read(&huge), Err(WsError::TooBig));
    assert_eq!(WsError::TooBig.close_code(), 1009);
}
