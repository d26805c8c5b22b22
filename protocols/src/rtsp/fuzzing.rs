//! Fuzz bodies: messages, their headers, descriptions, tunnels, and both sessions.

use std::sync::Arc;

use bytes::BytesMut;

use crate::fuzzing::Target;
use crate::rtp::sdp;
use crate::session::{Input, Output, Session};
use crate::text::resolve_reference;

use super::auth::client::{Authorization, Credentials};
use super::auth::server::{Access, Guard, Secret};
use super::client::{Client, ClientOptions, ClientState, Preference};
use super::reader::{Limits, Reader};
use super::transport::Transport;
use super::{Random, server, tunnel, url};

/// Targets of the protocol.
pub const TARGETS: &[(&str, Target)] = &[
    ("rtsp_messages", messages),
    ("rtsp_transport", transport),
    ("rtsp_url", urls),
    ("rtsp_authorization", authorization),
    ("rtsp_tunnel", tunnels),
    ("rtsp_client", client),
    ("rtsp_server", server::fuzzing::bytes),
    ("rtsp_sequence", server::fuzzing::sequence),
    ("sdp", description),
];

/// What the mutations of the seeded test begin with.
#[cfg(test)]
pub(crate) const SEEDS: &[&[u8]] = &[
    b"OPTIONS rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\n\r\nSETUP rtsp://h/live/x/trackID=1 RTSP/1.0\r\n\
      CSeq: 2\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n$\0\0\x02ab",
    b"ANNOUNCE rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 28\r\n\r\n\
      v=0\r\nm=audio 0 RTP/AVP 8\r\n\r\n",
    b"\0\x04RTSP/1.0 401 No\r\nCSeq: 4\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n",
    b"username=\"u\", realm=\"r\", nonce=\"n\", uri=\"/\", qop=auth, nc=00000001, cnonce=\"c\", response=\"0\"",
    b"RTP/AVP/TCP;unicast;interleaved=2-3;mode=record,RTP/AVP;unicast;client_port=5000-5001;ttl=1",
    b"GET /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\r\n",
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
      a=fmtp:96 packetization-mode=1\r\na=control:streamid=0\r\n",
    // Describe, set up, play, pause, tear down; announce, set up, record, a packet.
    &[5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 3, 2, 0, 3, 5, 4, 0, 0, 3, 0, 1, 0, 0, 0, 5, 5, 0, 0, 3, 5, 7, 0, 0, 3],
    &[5, 2, 0, 0, 3, 0, 1, 0, 0, 0, 5, 3, 1, 0, 3, 5, 6, 0, 0, 3, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 5, 5, 0, 0, 3],
];

const LIMITS: Limits = Limits { line_bytes: 256, head_bytes: 1024, body_bytes: 512 };

/// A stream of messages, whole and cut in two by its first byte: the same items.
pub fn messages(data: &[u8]) {
    let read = |pieces: [&[u8]; 2]| {
        let (mut reader, mut input) = (Reader::new(LIMITS), BytesMut::new());
        let mut items = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match reader.next_item(&mut input) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) => return (items, Some((error.status, error.cseq))),
                }
            }
        }
        (items, None)
    };
    let cut = data.first().map_or(0, |first| usize::from(*first).min(data.len()));
    assert_eq!(read([data, &[]]), read([&data[..cut], &data[cut..]]));
}

/// A `Transport` header: what is read is written so that it is read again.
pub fn transport(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for transport in Transport::parse_all(&text)
        .into_iter()
        .chain(Transport::parse_all(&format!("RTP/AVP;{text}")))
    {
        let again = Transport::parse_all(&transport.to_header());
        assert_eq!(again.first().map(|again| &again.delivery), Some(&transport.delivery));
    }
}

/// URLs and control attributes.
pub fn urls(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (base, control) = url::split_control(&text, |last| url::track_number(last).is_some());
    if let Some(target) = url::Target::parse(&base) {
        let track = control.as_deref().and_then(url::track_number);
        assert!(track.is_some() || control.is_none());
        let resolved = url::resolve(&target.content_base(), "trackID=1");
        let (_, control) = url::split_control(&resolved, |last| url::track_number(last).is_some());
        assert_eq!(control.as_deref(), Some("trackID=1"));
    }
    let _ = url::resolve(&text, &text);
    if let Some(options) = ClientOptions::new(&text) {
        // An absolute reference is itself, and has no fragment.
        let resolved = resolve_reference(&options.url, &text);
        assert!(text.starts_with(&resolved), "{resolved}");
    }
}

/// Challenges and credentials.
pub fn authorization(data: &[u8]) {
    let now = crate::fuzzing::virtual_epoch();
    let text = String::from_utf8_lossy(data);
    let access = Access {
        realm: "r".to_owned(),
        users: vec![("u".to_owned(), Secret::Password("secret".to_owned()))],
        ..Access::default()
    };
    let mut guard = Guard::new();
    guard.challenges(now, &mut Random::new(1), &access.realm, false);
    for header in [&*text, &format!("Digest {text}"), &format!("Basic {text}")] {
        let verdict = guard.check(now, &access, "PLAY", Some(header), |_| true);
        assert_ne!(verdict, super::auth::server::Verdict::Allowed, "{header}");
        let credentials = Credentials { user: "u".to_owned(), password: "p".to_owned() };
        let mut client = Authorization::new(Some(credentials));
        if client.challenged(std::iter::once(header)) {
            let answer = client.header(&mut Random::new(2), "PLAY", "rtsp://h/live/x");
            assert!(answer.is_some_and(|answer| !answer.chars().any(char::is_control)));
        }
    }
}

/// The base64 of tunnels.
pub fn tunnels(data: &[u8]) {
    let (mut stream, mut out) = (tunnel::Base64Stream::default(), BytesMut::new());
    let _ = stream.push(data, &mut out);
    assert!(out.len() <= data.len());
    let (mut stream, mut out) = (tunnel::Base64Stream::default(), BytesMut::new());
    let decoded = stream.push(tunnel::encode(data).as_bytes(), &mut out);
    assert_eq!((decoded, &out[..]), (Ok(()), data));
}

/// Session descriptions.
pub fn description(data: &[u8]) {
    let _ = sdp::parse(data);
    let _ = sdp::parse(&[b"v=0\r\nm=audio 0 RTP/AVP 8 96\r\na=rtpmap:96 ", data].concat());
}

/// A server of any bytes: the dialogue, then the data.
pub fn client(data: &[u8]) {
    let now = crate::fuzzing::virtual_epoch();
    let Some(mut options) = ClientOptions::new("rtsp://u:p@h/live/x") else { return };
    options.limits = LIMITS;
    let preferences = [Preference::Datagram, Preference::Interleaved, Preference::Any];
    options.preference = preferences[usize::from(data.first().copied().unwrap_or(0)) % 3];
    let mut client = Client::new(now, 1, Arc::new(options));
    let answers: [&[u8]; 4] = [
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 28\r\n\r\nv=0\r\nm=audio 0 RTP/AVP 8\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: a\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nSession: a\r\n\r\n",
    ];
    let known = data.get(1).map_or(0, |count| usize::from(*count) % 5);
    let mut input = BytesMut::from(&answers[..known].concat()[..]);
    input.extend_from_slice(data.get(2..).unwrap_or_default());
    let mut now = now;
    for _ in 0..4 {
        let fed = client.handle_input(now, Input::Stream(&mut input));
        while let Some(output) = client.poll_output() {
            if let Output::Transmit(bytes) = output {
                assert!(!bytes.is_empty());
            }
        }
        if fed.is_err() || client.state() == ClientState::Ended {
            assert_eq!((client.state(), client.poll_timeout()), (ClientState::Ended, None));
            return;
        }
        let ports = crate::session::Command::DatagramPorts { track: 0, rtp: 5000, rtcp: 5001 };
        let _ = client.handle_command(now, ports);
        if let Some(at) = client.poll_timeout() {
            now = at;
            let _ = client.handle_input(now, Input::Timeout);
        }
    }
}
