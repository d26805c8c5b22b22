//! Sends a file to a plain HTTP/1 connection past the HTTP library: what is in the page cache goes
//! by `sendfile`, what is not is read through the executor's ring first. Lives on the shard of its
//! connection.

use std::io;

use hyper::header::{self, HeaderValue};
use hyper::http::response;
use hyper::{HeaderMap, Version};

use crate::http::conditional::format_date;
use crate::http::file_body::{FileBody, PIECE_BYTES, Part, Warmth};
use crate::http::io::Io;

/// Bytes that are found in the page cache before they are sent. The answer ages while the socket
/// is waited for, so it is asked for again then.
const WINDOW_BYTES: u64 = 2 * PIECE_BYTES as u64;

/// An answer whose body is a file, on its way out of the HTTP library.
pub(crate) struct FileReply {
    /// Status line and headers, as they are sent.
    pub(crate) head: Vec<u8>,
    /// The body.
    pub(crate) body: FileBody,
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

impl FileReply {
    /// Makes it of an answer and what its request said.
    pub(crate) fn new(
        mut parts: response::Parts,
        body: FileBody,
        persistence: Persistence,
        now_s: i64,
    ) -> Self {
        let ends = parts.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        let keep_alive = persistence.goes_on() && !ends;
        if !keep_alive {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if !persistence.http11 {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.remaining()));
        if let Some(date) = format_date(now_s).and_then(|date| HeaderValue::try_from(date).ok()) {
            parts.headers.insert(header::DATE, date);
        }
        Self { head: head(&parts, persistence.http11), body, keep_alive }
    }
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
/// The peer is gone, or the file became shorter or changed: the connection cannot go on.
pub(crate) async fn send(io: &mut Io, reply: &mut FileReply) -> io::Result<()> {
    let body = &mut reply.body;
    let file = body.file().clone();
    io.send_all(&reply.head, body.remaining() > 0).await?;
    while let Some(front) = body.front() {
        let last = front.len() == body.remaining();
        match front.clone() {
            Part::Bytes(bytes) => {
                io.send_all(&bytes, !last).await?;
                body.advance(bytes.len() as u64);
            }
            Part::File(range) => {
                file.check_unchanged()?;
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
    io.end_output();
    Ok(())
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
