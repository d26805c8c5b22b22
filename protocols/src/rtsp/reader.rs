//! Messages and interleaved frames out of a byte stream, within limits (RFC 2326 4, 10.12).

use bytes::{Buf, Bytes, BytesMut};

use crate::session::{ErrorClass, SessionError};

use super::message::{Fields, Request, Response, Version};
use super::status::Status;

/// Header fields a message may have.
pub const FIELDS_MAX: usize = 64;
/// Bytes before an interleaved packet: `$`, channel, length.
const INTERLEAVED_HEAD: usize = 4;

/// Bounds of one message.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest first line, and longest field.
    pub line_bytes: usize,
    /// First line and fields together.
    pub head_bytes: usize,
    /// Longest body.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 4096, head_bytes: 16 << 10, body_bytes: 64 << 10 }
    }
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A request; one of HTTP has its body left in the stream.
    Request(Request),
    /// A response.
    Response(Response),
    /// One interleaved packet.
    Interleaved {
        /// Channel.
        channel: u8,
        /// The packet.
        data: Bytes,
    },
}

/// The stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ReadError {
    /// What to answer.
    pub status: Status,
    /// `CSeq` of the message, if it was readable.
    pub cseq: Option<u32>,
    /// Stable word for metrics.
    pub reason: &'static str,
    /// What is wrong.
    pub detail: &'static str,
}

impl ReadError {
    fn malformed(detail: &'static str) -> Self {
        Self { status: Status::BAD_REQUEST, cseq: None, reason: "bad_message", detail }
    }

    fn limit(status: Status, reason: &'static str, detail: &'static str) -> Self {
        Self { status, cseq: None, reason, detail }
    }
}

impl From<ReadError> for SessionError {
    fn from(error: ReadError) -> Self {
        let class = match error.reason {
            "bad_message" => ErrorClass::PeerMisbehaved,
            _ => ErrorClass::LimitExceeded,
        };
        Self::new(class, error.reason, error.detail)
    }
}

/// Takes complete messages from the front of a buffer.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// Bytes of the buffer's front known to hold no end of a head.
    scanned: usize,
    /// A head whose body is still to come, and its length.
    head: Option<Box<(Item, usize)>>,
}

impl Reader {
    /// A reader at the start of a message.
    pub fn new(limits: Limits) -> Self {
        Self { limits, scanned: 0, head: None }
    }

    /// The next complete item; `None` if there is none yet.
    ///
    /// # Errors
    /// What came is no message, or over a limit; the stream cannot be read on.
    pub fn next_item(&mut self, input: &mut BytesMut) -> Result<Option<Item>, ReadError> {
        if self.head.is_none() {
            if self.scanned == 0 {
                let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                input.advance(blank);
            }
            match input.first() {
                None => return Ok(None),
                Some(b'$') if self.scanned == 0 => return Ok(interleaved(input)),
                Some(_) => {}
            }
            let Some(length) = self.find_end(input)? else { return Ok(None) };
            let head = input.split_to(length);
            self.scanned = 0;
            let item = parse_head(&head)?;
            let body = self.body_bytes(&item)?;
            self.head = Some(Box::new((item, body)));
        }
        let wanted = self.head.as_ref().map_or(0, |head| head.1);
        if input.len() < wanted {
            return Ok(None);
        }
        let Some(head) = self.head.take() else { return Ok(None) };
        let mut item = head.0;
        match &mut item {
            Item::Request(Request { body, .. }) | Item::Response(Response { body, .. }) => {
                *body = input.split_to(wanted).freeze();
            }
            Item::Interleaved { .. } => {}
        }
        Ok(Some(item))
    }

    /// Length of the head, with the empty line behind it.
    fn find_end(&mut self, input: &[u8]) -> Result<Option<usize>, ReadError> {
        while let Some(line) = input[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let start = self.scanned;
            let end = start + line;
            self.check_line(start, line)?;
            if end + 1 > self.limits.head_bytes {
                return Err(head_too_long());
            }
            self.scanned = end + 1;
            if start > 0 && (line == 0 || &input[start..end] == b"\r") {
                return Ok(Some(end + 1));
            }
        }
        let rest = input.len() - self.scanned;
        self.check_line(self.scanned, rest)?;
        if input.len() > self.limits.head_bytes {
            return Err(head_too_long());
        }
        Ok(None)
    }

    fn check_line(&self, start: usize, length: usize) -> Result<(), ReadError> {
        match length > self.limits.line_bytes {
            true if start == 0 => {
                Err(ReadError::limit(Status::URI_TOO_LONG, "line_bytes", "request line too long"))
            }
            true => {
                Err(ReadError::limit(Status::BAD_REQUEST, "line_bytes", "header field too long"))
            }
            false => Ok(()),
        }
    }

    /// Length of the body that follows this head.
    fn body_bytes(&self, item: &Item) -> Result<usize, ReadError> {
        let fields = match item {
            Item::Request(request) if request.version == Version::Http => return Ok(0),
            Item::Request(request) => &request.fields,
            Item::Response(response) => &response.fields,
            Item::Interleaved { .. } => return Ok(0),
        };
        let fail = |error: ReadError| ReadError { cseq: fields.cseq(), ..error };
        let mut values = fields.all("Content-Length");
        let Some(first) = values.next() else { return Ok(0) };
        if values.any(|value| value != first) {
            return Err(fail(ReadError::malformed("two different Content-Length")));
        }
        if first.is_empty() || first.bytes().any(|byte| !byte.is_ascii_digit()) {
            return Err(fail(ReadError::malformed("Content-Length is not a number")));
        }
        match first.parse::<usize>() {
            Ok(length) if length <= self.limits.body_bytes => Ok(length),
            _ => Err(fail(ReadError::limit(
                Status::ENTITY_TOO_LARGE,
                "body_bytes",
                "body is over its limit",
            ))),
        }
    }

    /// Bytes held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.head.as_ref().map_or(0, |_| self.limits.head_bytes)
    }
}

fn head_too_long() -> ReadError {
    ReadError::limit(Status::BAD_REQUEST, "head_bytes", "header is over its limit")
}

fn interleaved(input: &mut BytesMut) -> Option<Item> {
    let (channel, length) = match **input {
        [_, channel, high, low, ..] => (channel, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    if input.len() < INTERLEAVED_HEAD + length {
        return None;
    }
    input.advance(INTERLEAVED_HEAD);
    Some(Item::Interleaved { channel, data: input.split_to(length).freeze() })
}

fn parse_head(head: &[u8]) -> Result<Item, ReadError> {
    let end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    let (line, rest) = head.split_at((end + 1).min(head.len()));
    let line = std::str::from_utf8(line)
        .map_err(|_| ReadError::malformed("first line is not UTF-8"))?
        .trim_end_matches(['\r', '\n']);
    if line.chars().any(char::is_control) {
        return Err(ReadError::malformed("control character in the first line"));
    }
    let fields = parse_fields(rest)?;
    if let Some(status) = line.strip_prefix("RTSP/") {
        return parse_status_line(status, fields);
    }
    let mut parts = line.split(' ').filter(|part| !part.is_empty());
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ReadError::malformed("not a request line"));
    };
    let version = match version.split_once('/') {
        Some(("RTSP", "1.0")) => Version::Rtsp10,
        Some(("RTSP", _)) => Version::RtspOther,
        Some(("HTTP", _)) => Version::Http,
        _ => return Err(ReadError::malformed("not a request line")),
    };
    Ok(Item::Request(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version,
        fields,
        body: Bytes::new(),
    }))
}

/// What follows `RTSP/`.
fn parse_status_line(line: &str, fields: Fields) -> Result<Item, ReadError> {
    let mut parts = line.splitn(3, ' ');
    let status = parts.nth(1).and_then(|code| code.parse().ok());
    let status = status.filter(|code| (100..1000).contains(code));
    let Some(status) = status else { return Err(ReadError::malformed("not a status line")) };
    let phrase = parts.next().unwrap_or_default().to_owned();
    Ok(Item::Response(Response { status: Status(status), phrase, fields, body: Bytes::new() }))
}

/// Folded lines are refused: nobody writes them, and they hide fields.
fn parse_fields(bytes: &[u8]) -> Result<Fields, ReadError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete((_, headers))) => {
            let mut fields = Fields::default();
            for header in headers {
                fields.push(header.name, &String::from_utf8_lossy(header.value));
            }
            Ok(fields)
        }
        Ok(httparse::Status::Partial) => Err(ReadError::malformed("header does not end")),
        Err(httparse::Error::TooManyHeaders) => {
            Err(ReadError::limit(Status::BAD_REQUEST, "header_fields", "too many header fields"))
        }
        Err(_) => Err(ReadError::malformed("not a header field")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Item>, ReadError> {
        Reader::new(Limits::default()).next_item(&mut BytesMut::from(bytes))
    }

    fn request(bytes: &[u8]) -> Request {
        match read(bytes) {
            Ok(Some(Item::Request(request))) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_may_end_in_either_way() {
        let crlf = request(b"\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        let lf = request(b"OPTIONS  * RTSP/1.0\nCSeq:1\n\n");
        assert_eq!(crlf, lf);
        assert_eq!((crlf.method.as_str(), crlf.target.as_str()), ("OPTIONS", "*"));
        assert_eq!(crlf.fields.cseq(), Some(1));
    }

    #[test]
    fn bodies_frames_and_responses_in_one_stream() {
        let mut input = BytesMut::from(
            &b"SET_PARAMETER a RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nabc\
               $\x01\x00\x02xy$\x00\x00\x00RTSP/1.0 200 All right\r\nCSeq: 9\r\n\r\nPLAY"[..],
        );
        let mut reader = Reader::new(Limits::default());
        let mut items = Vec::new();
        while let Some(item) = reader.next_item(&mut input).unwrap() {
            items.push(item);
        }
        assert_eq!(&input[..], b"PLAY");
        let [Item::Request(set), Item::Interleaved { channel: 1, data }, empty, Item::Response(ok)] =
            &items[..]
        else {
            panic!("{items:?}");
        };
        assert_eq!((&set.body[..], &data[..]), (&b"abc"[..], &b"xy"[..]));
        assert_eq!(*empty, Item::Interleaved { channel: 0, data: Bytes::new() });
        assert_eq!((ok.status, ok.phrase.as_str()), (Status::OK, "All right"));
    }

    #[test]
    fn what_is_refused_and_how() {
        let long = |count: usize| vec![b'a'; count];
        let head = b"PLAY a RTSP/1.0\r\nCSeq: 4\r\n".as_slice();
        let many = b"a: b\r\n".repeat(FIELDS_MAX + 1);
        let wide = [b"a: ".as_slice(), &long(4000), b"\r\n"].concat().repeat(5);
        let cases: [(Vec<u8>, u16, &str, Option<u32>); 16] = [
            (long(5000), 414, "line_bytes", None),
            ([head, &long(5000)].concat(), 400, "line_bytes", None),
            ([head, &many, b"\r\n"].concat(), 400, "header_fields", None),
            ([head, &wide].concat(), 400, "head_bytes", None),
            ([head, b" folded\r\n\r\n"].concat(), 400, "bad_message", None),
            ([head, b"a: \0\r\n\r\n"].concat(), 400, "bad_message", None),
            ([head, b"no colon\r\n\r\n"].concat(), 400, "bad_message", None),
            (b"PLAY\r\n\r\n".to_vec(), 400, "bad_message", None),
            (b"PLAY a b RTSP/1.0\r\n\r\n".to_vec(), 400, "bad_message", None),
            (b"PLAY a SIP/2.0\r\n\r\n".to_vec(), 400, "bad_message", None),
            (b"PL\x01AY a RTSP/1.0\r\n\r\n".to_vec(), 400, "bad_message", None),
            (b"RTSP/1.0 x\r\n\r\n".to_vec(), 400, "bad_message", None),
            ([head, b"Content-Length: -1\r\n\r\n"].concat(), 400, "bad_message", Some(4)),
            ([head, b"Content-Length: 70000\r\n\r\n"].concat(), 413, "body_bytes", Some(4)),
            (
                [head, b"Content-Length: 9223372036854775808\r\n\r\n"].concat(),
                413,
                "body_bytes",
                Some(4),
            ),
            (
                [head, b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"].concat(),
                400,
                "bad_message",
                Some(4),
            ),
        ];
        for (bytes, status, reason, cseq) in cases {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            let error = read(&bytes).expect_err(&text);
            assert_eq!(
                (error.status.0, error.reason, error.cseq),
                (status, reason, cseq),
                "{text}"
            );
        }
    }

    #[test]
    fn every_split_gives_the_same_items() {
        let bytes: &[u8] =
            b"\n\nANNOUNCE a RTSP/1.0\nCSeq: 1\r\nContent-Length: 2\n\r\nab$\x07\x00\x03abc\
            OPTIONS * RTSP/1.0\r\nCSeq: 2\r\n\r\n";
        let whole = all(&[bytes]);
        assert_eq!(whole.len(), 3);
        for first in 0..bytes.len() {
            let (a, rest) = bytes.split_at(first);
            assert_eq!(all(&[a, rest]), whole, "split at {first}");
        }
        assert_eq!(all(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    fn all(pieces: &[&[u8]]) -> Vec<Item> {
        let (mut reader, mut input) = (Reader::new(Limits::default()), BytesMut::new());
        let mut items = Vec::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(item) = reader.next_item(&mut input).unwrap() {
                items.push(item);
            }
        }
        assert!(input.is_empty());
        items
    }
}
