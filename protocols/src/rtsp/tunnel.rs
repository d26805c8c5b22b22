//! RTSP over HTTP: which half of a tunnel a connection is, and the base64 of its requests.
//!
//! A client opens a `GET`, on which it receives what a server would send, and a `POST` with the same
//! `x-sessioncookie`, on which it sends its requests in base64. A [`super::Server`] that is asked
//! for either says so with [`Event::TunnelHalf`]; how the two connections meet is the engine's
//! business. Then a server made with [`super::Server::tunnelled`] writes to the `GET`, and takes what
//! an [`Upload`] reads from the `POST`.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use bytes::BytesMut;

use super::message::{Request, Version};
use crate::session::{
    Command, ErrorClass, Event, Input, Output, OutputQueue, Session, SessionError,
};

/// Longest cookie.
const COOKIE_BYTES_MAX: usize = 64;
/// What the request stream is called.
const CONTENT_TYPE: &str = "application/x-rtsp-tunnelled";
/// Trailing bits are the business of whoever wrote them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Which half a request is, if any: an [`Event::TunnelHalf`].
pub fn half_of(request: &Request) -> Option<Event> {
    if request.version != Version::Http {
        return None;
    }
    let cookie = request.fields.get("x-sessioncookie")?;
    let readable = cookie.bytes().all(|byte| byte.is_ascii_graphic());
    if cookie.is_empty() || cookie.len() > COOKIE_BYTES_MAX || !readable {
        return None;
    }
    let cookie = cookie.into();
    match request.method.as_str() {
        "GET" => Some(Event::TunnelHalf { receives: true, cookie }),
        "POST" => {
            let kind = request.fields.get("Content-Type").unwrap_or(CONTENT_TYPE);
            let fits = kind.eq_ignore_ascii_case(CONTENT_TYPE);
            fits.then_some(Event::TunnelHalf { receives: false, cookie })
        }
        _ => None,
    }
}

/// What a `GET` is answered with; everything after it is RTSP. The `POST` is never answered.
pub fn get_response() -> &'static [u8] {
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nPragma: no-cache\r\n\
      Content-Type: application/x-rtsp-tunnelled\r\n\r\n"
}

/// What a half is answered with that cannot be part of a tunnel.
pub fn refusal(status: u16, phrase: &str) -> String {
    format!(
        "HTTP/1.0 {status} {phrase}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The session of a `POST`: everything it reads is an [`Event::Tunnelled`]. It has no deadline of its
/// own; it ends with the other half.
#[derive(Debug, Default)]
pub struct Upload {
    stream: Base64Stream,
    outputs: OutputQueue,
}

impl Session for Upload {
    fn handle_input(&mut self, _now: Instant, input: Input<'_>) -> Result<(), SessionError> {
        let Input::Stream(buffer) = input else { return Ok(()) };
        let mut decoded = BytesMut::with_capacity(buffer.len() / 4 * 3 + 3);
        let result = self.stream.push(buffer, &mut decoded);
        buffer.clear();
        if !decoded.is_empty() {
            self.outputs.event(Event::Tunnelled(decoded.freeze()));
        }
        result.map_err(|error| {
            SessionError::new(ErrorClass::PeerMisbehaved, "not_base64", error.to_string())
        })
    }

    fn handle_command(&mut self, _now: Instant, _command: Command) -> Result<(), SessionError> {
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.poll()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.outputs.heap_bytes()
    }
}

/// The stream of a `POST` is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel carries something else than base64")]
pub struct NotBase64;

/// Decodes the stream of a `POST` as it comes. Each request is padded on its own, so padding may
/// stand anywhere on a quantum; white space is skipped.
#[derive(Debug, Default)]
pub struct Base64Stream {
    /// The start of a quantum.
    quantum: [u8; 4],
    filled: usize,
}

impl Base64Stream {
    /// Appends what `input` decodes to; all of it is taken.
    ///
    /// # Errors
    /// A byte outside the alphabet, or padding where none can be.
    pub fn push(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), NotBase64> {
        for byte in input {
            if byte.is_ascii_whitespace() {
                continue;
            }
            self.quantum[self.filled] = *byte;
            self.filled += 1;
            if self.filled == self.quantum.len() {
                self.filled = 0;
                let mut decoded = [0; 3];
                let count = LENIENT
                    .decode_slice_unchecked(self.quantum, &mut decoded)
                    .map_err(|_| NotBase64)?;
                out.extend_from_slice(&decoded[..count]);
            }
        }
        Ok(())
    }
}

/// One request as a client of a tunnel writes it.
pub fn encode(request: &[u8]) -> String {
    STANDARD.encode(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::reader::{Item, Limits, Reader};

    const GET: &[u8] = b"GET /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\
        Accept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\n\r\n";
    const POST: &[u8] = b"POST /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\
        Content-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\n\r\n";

    fn half(bytes: &[u8]) -> Option<(bool, Box<str>)> {
        let mut input = BytesMut::from(bytes);
        let Ok(Some(Item::Request(request))) = Reader::new(Limits::default()).next_item(&mut input)
        else {
            panic!("no request");
        };
        assert!(input.is_empty());
        match half_of(&request)? {
            Event::TunnelHalf { receives, cookie } => Some((receives, cookie)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn halves_are_told_apart() {
        assert_eq!(half(GET), Some((true, "abc".into())));
        assert_eq!(half(POST), Some((false, "abc".into())));
    }

    #[test]
    fn what_is_no_tunnel() {
        let long = format!("GET / HTTP/1.0\r\nx-sessioncookie: {}\r\n\r\n", "a".repeat(65));
        for bytes in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"GET / HTTP/1.0\r\nx-sessioncookie:\r\n\r\n",
            b"GET / HTTP/1.0\r\nx-sessioncookie: a b\r\n\r\n",
            b"GET / RTSP/1.0\r\nx-sessioncookie: a\r\n\r\n",
            b"PUT / HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n",
            b"POST / HTTP/1.0\r\nx-sessioncookie: a\r\nContent-Type: text/html\r\n\r\n",
            long.as_bytes(),
        ] {
            assert_eq!(half(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_upload_passes_on_what_comes_before_it_fails() {
        let now = crate::fuzzing::virtual_epoch();
        let mut upload = Upload::default();
        let mut input = BytesMut::from(encode(b"OPTIONS").as_bytes());
        input.extend_from_slice(b"\r\n=***");
        let error = upload.handle_input(now, Input::Stream(&mut input)).unwrap_err();
        assert_eq!((error.reason, input.len()), ("not_base64", 0));
        let Some(Output::Event(Event::Tunnelled(bytes))) = upload.poll_output() else {
            panic!("nothing was decoded");
        };
        assert_eq!(&bytes[..], b"OPTIONS");
        assert!(upload.poll_output().is_none());
    }

    #[test]
    fn requests_padded_one_by_one_in_any_pieces() {
        let requests = ["OPTIONS * RTSP/1.0\r\n\r\n", "a", "ab", "abc", ""];
        let text = requests.map(|request| encode(request.as_bytes())).join("\r\n");
        let expected = requests.concat();
        for size in 1..9 {
            let (mut stream, mut out) = (Base64Stream::default(), BytesMut::new());
            for piece in text.as_bytes().chunks(size) {
                stream.push(piece, &mut out).unwrap();
            }
            assert_eq!(&out[..], expected.as_bytes(), "{size}");
        }
    }

    #[test]
    fn anything_else_ends_it() {
        for text in ["****", "====", "a===", "ab=c", "\0abc"] {
            let mut out = BytesMut::new();
            assert_eq!(Base64Stream::default().push(text.as_bytes(), &mut out), Err(NotBase64));
        }
    }
}
