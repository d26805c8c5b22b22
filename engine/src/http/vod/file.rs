//! The answer that gives away a file, or something made of parts of one: conditions, ranges, and
//! the headers of each.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::media_type;
use crate::http::body::Body;
use crate::http::conditional::{self, Verdict, Version};
use crate::http::file_body::{self, DiskFile, FileBody, Part};
use crate::http::range::{self, Ranges};
use crate::http::respond::{self, Reply};

/// Bodies up to this size leave with their head in one call, when they are in the page cache.
const SMALL_BYTES: u64 = 8 * 1024;
/// As many headers as an answer has in the end.
const HEADERS: usize = 12;

/// What a GET gets: parts of a file in order, and what is said of them.
pub(super) struct Representation {
    file: Rc<DiskFile>,
    parts: Vec<Part>,
    version: Rc<Version>,
    content_type: &'static str,
}

impl Representation {
    /// A file as it is; its name tells the type.
    pub(super) fn of_file(file: Rc<DiskFile>, name: &str) -> Self {
        let parts = vec![Part::File(0..file.stamp().len)];
        let version = file.version();
        Self { version, file, parts, content_type: media_type::of(name) }
    }

    /// Something made of a file; `suffix` tells it from other things made of the same file.
    pub(super) fn of_parts(
        file: Rc<DiskFile>,
        parts: Vec<Part>,
        content_type: &'static str,
        suffix: &str,
    ) -> Self {
        let version = Rc::new(file.stamp().version(suffix));
        Self { file, parts, version, content_type }
    }

    /// The answer to a GET or HEAD.
    pub(super) fn reply(self, headers: &HeaderMap, is_get: bool, now_s: i64) -> Reply {
        match conditional::evaluate(headers, self.version.validators()) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                let mut reply = respond::empty(StatusCode::NOT_MODIFIED);
                self.describe(&mut reply);
                return reply;
            }
            Verdict::Failed => {
                let sentence = "the file is not, or no longer, the one that was asked for";
                return respond::text(StatusCode::PRECONDITION_FAILED, sentence);
            }
        }
        let length = file_body::length_of(&self.parts);
        match self.ranges(headers, is_get, now_s, length) {
            Ranges::Whole => {
                let mut reply = self.body(StatusCode::OK, &(0..length));
                respond::set(&mut reply, header::CONTENT_TYPE, self.content_type);
                reply
            }
            Ranges::Parts(ranges) => match ranges.as_slice() {
                [range] => self.single(range, length),
                several => self.several(several, length),
            },
            Ranges::Unsatisfiable => {
                let sentence = format!("no such range: there are {length} bytes");
                let mut reply = respond::text(StatusCode::RANGE_NOT_SATISFIABLE, &sentence);
                respond::set_text(&mut reply, header::CONTENT_RANGE, &format!("bytes */{length}"));
                respond::set(&mut reply, header::ACCEPT_RANGES, "bytes");
                reply
            }
        }
    }

    /// Ranges are defined for GET only (RFC 9110 14.2).
    fn ranges(&self, headers: &HeaderMap, is_get: bool, now_s: i64, length: u64) -> Ranges {
        let mut values = headers.get_all(header::RANGE).iter();
        match values.next() {
            Some(value) if is_get => {
                if !conditional::range_counts(headers, self.version.validators(), now_s) {
                    return Ranges::Whole;
                }
                match (value.to_str(), values.next()) {
                    (Ok(value), None) => range::parse(value, length),
                    _ => Ranges::Unsatisfiable,
                }
            }
            _ => Ranges::Whole,
        }
    }

    fn single(&self, range: &Range<u64>, length: u64) -> Reply {
        let mut reply = self.body(StatusCode::PARTIAL_CONTENT, range);
        respond::set_text(&mut reply, header::CONTENT_RANGE, &content_range(range, length));
        respond::set(&mut reply, header::CONTENT_TYPE, self.content_type);
        reply
    }

    /// `multipart/byteranges` (RFC 9110 14.6).
    fn several(&self, ranges: &[Range<u64>], length: u64) -> Reply {
        let boundary = boundary();
        let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
        for range in ranges {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
                self.content_type,
                content_range(range, length)
            );
            parts.push(Part::Bytes(Bytes::from(head)));
            parts.extend(file_body::slice(&self.parts, range));
        }
        parts.push(Part::Bytes(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
        let mut reply = self.answer(StatusCode::PARTIAL_CONTENT, parts);
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        respond::set_text(&mut reply, header::CONTENT_TYPE, &content_type);
        reply
    }

    fn body(&self, status: StatusCode, range: &Range<u64>) -> Reply {
        self.answer(status, file_body::slice(&self.parts, range))
    }

    fn answer(&self, status: StatusCode, parts: Vec<Part>) -> Reply {
        let body = FileBody::new(Rc::clone(&self.file), parts);
        let length = body.remaining();
        let body = match body.at_hand(SMALL_BYTES) {
            Some(bytes) => Body::Whole(bytes),
            None => Body::File(Box::new(body)),
        };
        let mut reply = Response::new(body);
        *reply.status_mut() = status;
        reply.headers_mut().reserve(HEADERS);
        reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        self.describe(&mut reply);
        reply
    }

    /// The headers that a 304 has as well.
    fn describe(&self, reply: &mut Reply) {
        // Files may be replaced under their names: caches ask again after a minute.
        let volatile = media_type::is_volatile(self.content_type);
        let caching = if volatile { "no-cache" } else { "public, max-age=60" };
        respond::set(reply, header::CACHE_CONTROL, caching);
        respond::set(reply, header::ACCEPT_RANGES, "bytes");
        self.version.describe(reply.headers_mut());
    }
}

fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

/// A boundary that whoever made the file could not know.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
