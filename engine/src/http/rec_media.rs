//! Media of recordings as bodies: bytes of files, read piece by piece as the peer takes them, whole
//! or one range of them.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use glommio::io::BufferedFile;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::body::{Body, Source};
use super::conditional;
use super::respond::{self, Reply};
use crate::net::sys_file::buffered;
use crate::record::{Joined, JoinedPart, Patch, Span};

/// Bytes read at once, and held per reader.
const READ_BYTES_MAX: u64 = 256 << 10;

/// Bytes from several places, one behind the other.
pub(crate) struct Content {
    chunks: VecDeque<Chunk>,
    bytes: u64,
}

/// Bytes from one place.
struct Chunk {
    origin: Origin,
    /// Which of them; those of a file by their place in it.
    range: Range<u64>,
}

enum Origin {
    Memory(Bytes),
    File(Opened),
    /// Opened when it is their turn.
    Joined(Arc<JoinedPart>),
}

/// An open file, and what is put over its bytes.
#[derive(Clone)]
struct Opened {
    file: Rc<BufferedFile>,
    patches: Rc<[Patch]>,
}

impl Opened {
    fn new(file: std::fs::File, patches: Vec<Patch>) -> Self {
        Self { file: Rc::new(buffered(file)), patches: patches.into() }
    }
}

impl Content {
    fn new(chunks: impl Iterator<Item = Chunk>) -> Self {
        let chunks: VecDeque<_> = chunks.collect();
        let bytes = chunks.iter().map(|chunk| chunk.range.end - chunk.range.start).sum();
        Self { chunks, bytes }
    }

    /// Bytes in memory.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        let range = 0..bytes.len() as u64;
        Self::new(std::iter::once(Chunk { origin: Origin::Memory(bytes), range }))
    }

    /// The first bytes of a file, with patches over those that will be sent.
    pub(crate) fn of_file(file: std::fs::File, bytes: u64, patches: Vec<Patch>) -> Self {
        Self::of_opened(&Opened::new(file, patches), &[Span { offset: 0, bytes }])
    }

    /// Parts of a file.
    pub(crate) fn of_spans(file: std::fs::File, spans: &[Span]) -> Self {
        Self::of_opened(&Opened::new(file, Vec::new()), spans)
    }

    fn of_opened(opened: &Opened, spans: &[Span]) -> Self {
        Self::new(spans.iter().map(|span| Chunk {
            origin: Origin::File(opened.clone()),
            range: span.offset..span.offset + span.bytes,
        }))
    }

    /// Pieces joined to one file.
    pub(crate) fn of_joined(joined: Joined) -> Self {
        let range = 0..joined.init.len() as u64;
        let init = Chunk { origin: Origin::Memory(joined.init), range };
        let parts = joined.parts.into_iter().map(|part| {
            let range = part.span.offset..part.span.offset + part.span.bytes;
            Chunk { origin: Origin::Joined(Arc::new(part)), range }
        });
        Self::new(std::iter::once(init).chain(parts))
    }

    /// Leaves only these bytes.
    fn cut(&mut self, range: Range<u64>) {
        let mut begin = 0;
        self.chunks.retain_mut(|chunk| {
            let length = chunk.range.end - chunk.range.start;
            let first = range.start.saturating_sub(begin).min(length);
            let last = range.end.saturating_sub(begin).min(length);
            begin += length;
            chunk.range = chunk.range.start + first..chunk.range.start + last;
            first < last
        });
        self.bytes = range.end - range.start;
    }
}

/// The answer to a GET or HEAD of media: whole, the range it asks for, or why not. `tag` stands
/// for content that will never change.
pub(crate) fn reply(
    mut content: Content,
    media_type: &'static str,
    tag: Option<String>,
    headers: &HeaderMap,
) -> Reply {
    let tag = tag.and_then(|tag| HeaderValue::from_str(&tag).ok());
    let total = content.bytes;
    let mut reply = if tag.as_ref().is_some_and(|tag| is_current(tag, headers)) {
        respond::empty(StatusCode::NOT_MODIFIED)
    } else {
        match wanted(headers, tag.as_ref(), total) {
            Wanted::Whole => of(content),
            Wanted::Range(range) => {
                let value = format!("bytes {}-{}/{total}", range.start, range.end - 1);
                content.cut(range);
                let mut reply = of(content);
                *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
                respond::set_text(&mut reply, header::CONTENT_RANGE, &value);
                reply
            }
            Wanted::Impossible => {
                let sentence = "there are no such bytes";
                let mut reply = respond::text(StatusCode::RANGE_NOT_SATISFIABLE, sentence);
                respond::set_text(&mut reply, header::CONTENT_RANGE, &format!("bytes */{total}"));
                return reply;
            }
        }
    };
    respond::set(&mut reply, header::CONTENT_TYPE, media_type);
    respond::set(&mut reply, header::ACCEPT_RANGES, "bytes");
    match tag {
        Some(tag) => {
            reply.headers_mut().insert(header::ETAG, tag);
            respond::set(&mut reply, header::CACHE_CONTROL, "max-age=3600");
        }
        None => respond::set(&mut reply, header::CACHE_CONTROL, "no-cache"),
    }
    reply
}

fn of(content: Content) -> Reply {
    let bytes = content.bytes;
    let source = Reader { content, opened: None, reading: None };
    let mut reply = Reply::new(Body::Pulled(Box::new(source)));
    reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    reply
}

/// The peer already has it (RFC 9110 13.1.2).
fn is_current(tag: &HeaderValue, headers: &HeaderMap) -> bool {
    tag.to_str().is_ok_and(|tag| conditional::has_version(headers, tag))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Range(Range<u64>),
    Impossible,
}

/// What of `total` bytes a request wants (RFC 9110 14.2): one range; several, or what is no range
/// at all, is answered with the whole.
fn wanted(headers: &HeaderMap, tag: Option<&HeaderValue>, total: u64) -> Wanted {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    if headers.get(header::IF_RANGE).is_some_and(|condition| Some(condition) != tag) {
        return Wanted::Whole;
    }
    parse_range(range, total)
}

/// The bytes that an answer can need at most whose request has this `Range`.
pub(crate) fn range(asked: Option<&HeaderValue>, total: u64) -> Range<u64> {
    match asked.and_then(|value| value.to_str().ok()).map(|text| parse_range(text, total)) {
        Some(Wanted::Range(range)) => range,
        Some(Wanted::Whole | Wanted::Impossible) | None => 0..total,
    }
}

fn parse_range(range: &str, total: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|text| text.split_once('-'))
    else {
        return Wanted::Whole;
    };
    // Beyond what fits is beyond any file.
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(total),
        (Some(first), None) if last.trim().is_empty() => first..total,
        (None, Some(count)) if first.trim().is_empty() => total - count.min(total)..total,
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Impossible } else { Wanted::Range(range) }
}

type Reading = Pin<Box<dyn Future<Output = io::Result<(Opened, Bytes)>>>>;

/// Reads content as it is asked for.
struct Reader {
    content: Content,
    /// The file of the first chunk.
    opened: Option<Opened>,
    reading: Option<Reading>,
}

impl Reader {
    fn advance(&mut self, bytes: u64) {
        self.content.bytes -= bytes.min(self.content.bytes);
        if let Some(chunk) = self.content.chunks.front_mut() {
            chunk.range.start += bytes;
        }
    }
}

impl Source for Reader {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(read) = reading.as_mut().poll(cx) else { return Poll::Pending };
                self.reading = None;
                return Poll::Ready(Some(read.map(|(opened, bytes)| {
                    self.opened = Some(opened);
                    self.advance(bytes.len() as u64);
                    bytes
                })));
            }
            let Some(chunk) = self.content.chunks.front() else { return Poll::Ready(None) };
            let range = chunk.range.clone();
            if range.is_empty() {
                self.content.chunks.pop_front();
                self.opened = None;
                continue;
            }
            let range = range.start..range.end.min(range.start + READ_BYTES_MAX);
            let opened = self.opened.take();
            self.reading = Some(match (&chunk.origin, &opened) {
                (Origin::Memory(bytes), _) => {
                    // Within the bytes: they were counted when the chunk was made.
                    let bytes = bytes.slice(range.start as usize..range.end as usize);
                    self.advance(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                (Origin::File(opened), _) | (_, Some(opened)) => {
                    Box::pin(read(opened.clone(), range))
                }
                (Origin::Joined(part), None) => {
                    let part = Arc::clone(part);
                    Box::pin(async move {
                        let open = glommio::executor().spawn_blocking(move || part.open());
                        let (file, patches) = open.await?;
                        read(Opened::new(file, patches), range).await
                    })
                }
            });
        }
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.content.bytes)
    }
}

async fn read(opened: Opened, range: Range<u64>) -> io::Result<(Opened, Bytes)> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let read = opened.file.read_at(range.start, length).await?;
    if read.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = read.to_vec();
    let end = range.start + bytes.len() as u64;
    // Patches lie in the order of the file.
    let first = opened.patches.partition_point(|patch| patch.end() <= range.start);
    for patch in opened.patches.iter().skip(first).take_while(|patch| patch.start() < end) {
        patch.apply(&mut bytes, range.start);
    }
    Ok((opened, bytes.into()))
}

#[cfg(test)]
#[path = "rec_media_tests.rs"]
mod tests;
