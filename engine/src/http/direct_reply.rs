//! Sends an answer to a plain HTTP/1 connection past the HTTP library: what is in memory in one
//! call with its head, what is in the page cache by `sendfile`, what is not after the executor's
//! ring has read it. Lives on the shard of its connection.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::response;
use hyper::{HeaderMap, Method, StatusCode, Version};
use smallvec::SmallVec;

use crate::clock;
use crate::http::body::{Body, Source};
use crate::http::conditional;
use crate::http::file_body::{FileBody, PIECE_BYTES, Part, Warmth};
use crate::http::io::Io;
use crate::http::respond::Reply;

/// Bytes that are found in the page cache before they are sent. The answer ages while the socket
/// is waited for, so it is asked for again then.
const WINDOW_BYTES: u64 = 2 * PIECE_BYTES as u64;
/// Pieces that go with one call; on the stack.
const SLICES_MAX: usize = 64;

/// An answer that is sent past the HTTP library.
pub(crate) struct DirectReply {
    /// Status line and headers, as they are sent.
    head: Vec<u8>,
    /// The body.
    body: Body,
    /// The body has no known length.
    chunked: bool,
    /// The connection goes on with the next request.
    pub(crate) keep_alive: bool,
}

/// What a request says of the connection it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Persistence {
    http11: bool,
    close: bool,
    keep_alive: bool,
}

impl Persistence {
    /// Reads it from a request (RFC 9112 9.3).
    pub(crate) fn of(version: Version, headers: &HeaderMap) -> Self {
        let lists = headers.get_all(header::CONNECTION).iter();
        let lists = lists.filter_map(|list| list.to_str().ok());
        let options: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        let has = |option: &str| options.iter().any(|found| found.eq_ignore_ascii_case(option));
        Self {
            http11: version == Version::HTTP_11,
            close: has("close"),
            keep_alive: has("keep-alive"),
        }
    }

    fn goes_on(self) -> bool {
        !self.close && (self.http11 || self.keep_alive)
    }
}

impl DirectReply {
    /// Makes it of an answer and what its request said. Without a known length the answer goes in
    /// chunks, which HTTP/1.0 does not have: there the end of the connection ends it.
    pub(crate) fn new(reply: Reply, method: &Method, persistence: Persistence) -> Self {
        let (mut parts, body) = reply.into_parts();
        let length = body.length();
        let chunked = length.is_none() && persistence.http11;
        let ends = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        let delimited = length.is_some() || chunked;
        let keep_alive = persistence.goes_on() && !ends && delimited;
        if !keep_alive {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if !persistence.http11 {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        match length {
            // The answer to HEAD says how long the other one is, if it is known (RFC 9110 8.6).
            Some(_) if *method == Method::HEAD || is_bodiless(parts.status) => {}
            Some(length) => {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            None if chunked => {
                let value = HeaderValue::from_static("chunked");
                parts.headers.insert(header::TRANSFER_ENCODING, value);
            }
            None => {}
        }
        let now_s = clock::signed_unix_millis() / 1000;
        if let Some(date) = conditional::date_header(now_s) {
            parts.headers.insert(header::DATE, date);
        }
        Self { head: head(&parts, persistence.http11), body, chunked, keep_alive }
    }
}

/// Answers that have neither a body nor its length (RFC 9110 8.6).
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Status line and headers.
fn head(parts: &response::Parts, http11: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(if http11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Sends head and body. Nothing else may be on its way out of `io`.
///
/// # Errors
/// The peer is gone, the file became shorter or changed, or the source of the body failed: the
/// connection cannot go on.
pub(crate) async fn send(io: &mut Io, reply: &mut DirectReply) -> io::Result<()> {
    let DirectReply { head, body, chunked, .. } = reply;
    match body {
        Body::Whole(bytes) => send_pieces(io, head, std::slice::from_ref(bytes)).await?,
        Body::Pieces(pieces) => send_pieces(io, head, pieces.make_contiguous()).await?,
        Body::File(file) => send_parts(io, head, file).await?,
        Body::Pulled(source) => pull(io, head, &mut **source, *chunked).await?,
    }
    io.end_output();
    Ok(())
}

async fn send_pieces(io: &mut Io, head: &[u8], pieces: &[Bytes]) -> io::Result<()> {
    let mut head = head;
    let mut pieces = pieces;
    while !head.is_empty() || !pieces.is_empty() {
        let (now, later) = pieces.split_at(pieces.len().min(SLICES_MAX - 1));
        let mut slices: SmallVec<[io::IoSlice<'_>; SLICES_MAX]> = SmallVec::new();
        slices.push(io::IoSlice::new(head));
        slices.extend(now.iter().map(|piece| io::IoSlice::new(piece)));
        io.send_slices(&mut slices).await?;
        (head, pieces) = (&[], later);
    }
    Ok(())
}

async fn send_parts(io: &mut Io, head: &[u8], body: &mut FileBody) -> io::Result<()> {
    let file = body.file().clone();
    io.send_all(head, body.remaining() > 0).await?;
    // It was looked at for the head.
    let mut checked = true;
    while let Some(front) = body.front() {
        let last = front.len() == body.remaining();
        match front.clone() {
            Part::Bytes(bytes) => {
                io.send_all(&bytes, !last).await?;
                body.advance(bytes.len() as u64);
            }
            Part::File(range) => {
                if !std::mem::take(&mut checked) {
                    file.check_unchanged()?;
                }
                let count = (range.end - range.start).min(WINDOW_BYTES);
                if file.warmth(range.start, count) == Warmth::Warm {
                    let sent = io.send_file(file.file(), range.start, count).await?;
                    body.advance(sent);
                } else {
                    let bytes = file.read(range.start, count).await?;
                    let ends = last && bytes.len() as u64 == range.end - range.start;
                    io.send_all(&bytes, !ends).await?;
                    body.advance(bytes.len() as u64);
                }
            }
        }
        glommio::yield_if_needed().await;
    }
    Ok(())
}

/// Sends pieces as they come, each as a chunk if the length is not known (RFC 9112 7.1).
async fn pull(io: &mut Io, head: &[u8], source: &mut dyn Source, chunked: bool) -> io::Result<()> {
    io.send_all(head, false).await?;
    loop {
        // Nothing is owed to the peer while the next piece is made.
        io.end_output();
        let Some(piece) = poll_fn(|cx| source.poll_piece(cx)).await.transpose()? else { break };
        if piece.is_empty() {
            continue;
        }
        let size = if chunked { format!("{:x}\r\n", piece.len()) } else { String::new() };
        let end: &[u8] = if chunked { b"\r\n" } else { b"" };
        let mut slices = [size.as_bytes(), &piece, end].map(io::IoSlice::new);
        io.send_slices(&mut slices).await?;
        glommio::yield_if_needed().await;
    }
    if chunked { io.send_all(b"0\r\n\r\n", false).await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_on_as_their_version_and_options_say() {
        let goes_on = |version, options: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for option in options {
                headers.append(header::CONNECTION, HeaderValue::from_static(option));
            }
            Persistence::of(version, &headers).goes_on()
        };
        assert!(goes_on(Version::HTTP_11, &[]));
        assert!(!goes_on(Version::HTTP_11, &["TE, Close"]));
        assert!(!goes_on(Version::HTTP_11, &["te", "close"]));
        assert!(!goes_on(Version::HTTP_10, &[]));
        assert!(goes_on(Version::HTTP_10, &["Keep-Alive"]));
        assert!(!goes_on(Version::HTTP_10, &["keep-alive, close"]));
    }
}
