//! RTSP over HTTP: which half of a tunnel a connection is, and the base64 of its requests.
//!
//! A client opens a `GET`, on which it receives what a server would send, and a `POST` with the same
//! `x-sessioncookie`, on which it sends its requests in base64. How the two connections meet is not
//! decided here; the session reads what [`Base64Stream`] yields and writes to the `GET`.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use bytes::BytesMut;

use super::message::{Request, Version};
use super::reader::{Item, Limits, ReadError, Reader};

/// Longest cookie.
const COOKIE_BYTES_MAX: usize = 64;
/// What the request stream is called.
const CONTENT_TYPE: &str = "application/x-rtsp-tunnelled";
/// Trailing bits are the business of whoever wrote them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// One half of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Half {
    /// The server sends on this connection.
    Get {
        /// Names the tunnel.
        cookie: Box<str>,
    },
    /// The client sends on this connection, in base64.
    Post {
        /// Names the tunnel.
        cookie: Box<str>,
    },
}

/// The first bytes of a connection could begin a tunnel; RTSP methods begin otherwise. False while
/// that is open.
pub fn begins_tunnel(input: &[u8]) -> bool {
    input.starts_with(b"GET /") || input.starts_with(b"POST ")
}

/// Takes the head of a half from the front of `input`, whatever follows is left; `None` while it is
/// incomplete.
///
/// # Errors
/// It is no tunnel; the connection cannot go on.
pub fn read_head(input: &mut BytesMut, limits: Limits) -> Result<Option<Half>, ReadError> {
    // Heads are short and come in one piece; nothing is kept between two looks at one that does not.
    let mut copy = input.clone();
    let item = Reader::new(limits).next_item(&mut copy)?;
    let Some(Item::Request(request)) = item else {
        return if item.is_none() { Ok(None) } else { Err(not_a_tunnel()) };
    };
    let half = half_of(&request).ok_or_else(not_a_tunnel)?;
    *input = copy;
    Ok(Some(half))
}

fn not_a_tunnel() -> ReadError {
    ReadError {
        status: super::status::Status::BAD_REQUEST,
        cseq: None,
        reason: "bad_message",
        detail: "not a tunnel of RTSP in HTTP",
    }
}

/// Which half a request is, if any.
pub fn half_of(request: &Request) -> Option<Half> {
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
        "GET" => Some(Half::Get { cookie }),
        "POST" => {
            let kind = request.fields.get("Content-Type").unwrap_or(CONTENT_TYPE);
            kind.eq_ignore_ascii_case(CONTENT_TYPE).then_some(Half::Post { cookie })
        }
        _ => None,
    }
}

/// What a `GET` is answered with; everything after it is RTSP. The `POST` is never answered.
pub fn get_response() -> &'static [u8] {
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nPragma: no-cache\r\n\
      Content-Type: application/x-rtsp-tunnelled\r\n\r\n"
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

    const GET: &[u8] = b"GET /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\
        Accept: application/x-rtsp-tunnelled\r\nPragma: no-cache\r\n\r\n";
    const POST: &[u8] = b"POST /live/x HTTP/1.0\r\nx-sessioncookie: abc\r\n\
        Content-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\n\r\nT1BU";

    #[test]
    fn halves_are_told_apart_and_incomplete_ones_wait() {
        let read = |bytes: &[u8]| {
            let mut input = BytesMut::from(bytes);
            read_head(&mut input, Limits::default()).map(|half| (half, input))
        };
        let (half, rest) = read(GET).unwrap();
        assert_eq!((half, rest.len()), (Some(Half::Get { cookie: "abc".into() }), 0));
        let (half, rest) = read(POST).unwrap();
        assert_eq!((half, &rest[..]), (Some(Half::Post { cookie: "abc".into() }), &b"T1BU"[..]));
        for end in 1..GET.len() {
            let (half, rest) = read(&GET[..end]).unwrap();
            assert_eq!((half, &rest[..]), (None, &GET[..end]), "{end}");
        }
        assert!(begins_tunnel(GET) && begins_tunnel(POST));
        assert!(!begins_tunnel(b"GET_PARAMETER a RTSP/1.0"));
    }

    #[test]
    fn what_is_no_tunnel() {
        let long = format!("GET / HTTP/1.0\r\nx-sessioncookie: {}\r\n\r\n", "a".repeat(65));
        for bytes in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"GET / HTTP/1.0\r\nx-sessioncookie:\r\n\r\n",
            b"GET / RTSP/1.0\r\nx-sessioncookie: a\r\n\r\n",
            b"PUT / HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n",
            b"POST / HTTP/1.0\r\nx-sessioncookie: a\r\nContent-Type: text/html\r\n\r\n",
            b"$\0\0\0",
            long.as_bytes(),
        ] {
            assert!(read_head(&mut BytesMut::from(bytes), Limits::default()).is_err());
        }
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
