//! Requests of the plainest form, read and answered past the HTTP library: GET and HEAD without a
//! body on a plain HTTP/1.1 connection. Players of segments send nothing else, and many of them a
//! second. Everything else is left to the library, with all that was read. Lives on the shard of
//! its connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri, Version};

use crate::http::HttpContext;
use crate::http::direct_reply::{self, DirectReply, Persistence};
use crate::http::io::Io;
use crate::http::router::{self, Caller, Routed};
use crate::http::server::{HEAD_BYTES_MAX, HEADERS_MAX, MediaRequest};
use crate::http::watch::{Active, Deadline, Watch};

/// A head that is not whole after so many reads is left to the library.
const READS_MAX: usize = 4;

/// What comes after the requests that were answered here.
pub(super) enum Next {
    /// A request that is not for here, or the end of the stream: the library goes on.
    Library,
    /// Live media: the connection leaves the HTTP service.
    Media(Box<MediaRequest>),
    /// The connection is over.
    Over(&'static str),
}

/// A request without a body.
type Bodiless = Request<Empty<Bytes>>;

/// Why what stands at the front of what was read is no request for here; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusable {
    /// It may become one.
    Incomplete,
    /// It will not.
    Other,
}

/// Answers requests until one comes that is not for here.
pub(super) async fn serve(
    io: &mut Io,
    caller: Caller,
    ctx: &HttpContext,
    watch: &Rc<Watch>,
    deadline: &mut Deadline,
) -> Next {
    let mut answered = false;
    loop {
        let mut request = match next_request(io, watch, deadline, answered).await {
            Ok(Some(request)) => request,
            Ok(None) => return Next::Library,
            Err(reason) => return Next::Over(reason),
        };
        let _active = Active::new(Rc::clone(watch));
        let reply = match route(io, caller, ctx, &mut request).await {
            Some(Routed::Reply(reply)) => reply,
            Some(Routed::Media(media)) => return Next::Media(media),
            None => return Next::Over("connection_lost"),
        };
        let persistence = Persistence::of(request.version(), request.headers());
        let mut reply = DirectReply::new(reply, request.method(), persistence);
        match send(io, &mut reply, watch, deadline).await {
            Some(reason) => return Next::Over(reason),
            None if !reply.keep_alive => return Next::Over("done"),
            None => answered = true,
        }
        glommio::yield_if_needed().await;
    }
}

/// Sends an answer under the deadlines of its connection; why the connection ends with it, if it
/// does.
pub(super) async fn send(
    io: &mut Io,
    reply: &mut DirectReply,
    watch: &Watch,
    deadline: &mut Deadline,
) -> Option<&'static str> {
    let mut sending = pin!(direct_reply::send(io, reply));
    poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(None),
        Poll::Ready(Err(e)) if is_of_source(&e) => Poll::Ready(Some("file_changed")),
        Poll::Ready(Err(_)) => Poll::Ready(Some("connection_lost")),
        Poll::Pending => deadline.poll(cx, watch).map(Some),
    })
    .await
}

fn is_of_source(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::Other)
}

/// Waits for the next request; `None` when what comes is not for here. A peer that has just been
/// `answered` needs a moment.
async fn next_request(
    io: &mut Io,
    watch: &Watch,
    deadline: &mut Deadline,
    answered: bool,
) -> Result<Option<Bodiless>, &'static str> {
    for _ in 0..READS_MAX {
        match take_request(io) {
            Ok(request) => return Ok(Some(request)),
            Err(Unusable::Other) => return Ok(None),
            Err(Unusable::Incomplete) => {}
        }
        let _patience = io.patience();
        let filled = poll_fn(|cx| match io.poll_more(cx, answered) {
            Poll::Ready(filled) => Poll::Ready(filled.map_err(|_| "connection_lost")),
            Poll::Pending => deadline.poll(cx, watch).map(Err),
        });
        if !filled.await? {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Finds the answer; `None` when the peer goes away while it is waited for.
async fn route(
    io: &mut Io,
    caller: Caller,
    ctx: &HttpContext,
    request: &mut Bodiless,
) -> Option<Routed> {
    let mut routing = pin!(router::route(ctx, caller, request));
    poll_fn(|cx| match routing.as_mut().poll(cx) {
        Poll::Ready(routed) => Poll::Ready(Some(routed)),
        Poll::Pending => io.poll_gone(cx).map(|()| None),
    })
    .await
}

/// Takes the request at the front of what was read, if it is one for here.
fn take_request(io: &mut Io) -> Result<Bodiless, Unusable> {
    let bytes = io.take_input();
    match parse(&bytes) {
        Ok((request, length)) => {
            io.unread(bytes.get(length..).unwrap_or_default());
            Ok(request)
        }
        Err(unusable) => {
            io.put_back(bytes);
            Err(unusable)
        }
    }
}

/// Reads a head, and how long it is. Names and values share the bytes.
fn parse(bytes: &Bytes) -> Result<(Bodiless, usize), Unusable> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => {
            return Err(Unusable::Incomplete);
        }
        Ok(_) | Err(_) => return Err(Unusable::Other),
    };
    read(bytes, &head).map(|request| (request, length)).ok_or(Unusable::Other)
}

/// `None` unless it is a GET or HEAD of a path over HTTP/1.1 without body or conditions of
/// transport.
fn read(bytes: &Bytes, head: &httparse::Request<'_, '_>) -> Option<Bodiless> {
    let method = match head.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let path = head.path.filter(|path| head.version == Some(1) && path.starts_with('/'))?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if matches!(name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::EXPECT) {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(path.as_bytes())).ok()?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(text: &str) -> Result<(Bodiless, usize), Unusable> {
        parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn plain_requests_are_taken_with_what_they_say() {
        let text = "GET /a%20b?c=d HTTP/1.1\r\nHost: h\r\nrange: bytes=0-1\r\n\r\nGET";
        let (request, length) = front(text).expect("a request");
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/a%20b"));
        assert_eq!(request.uri().query(), Some("c=d"));
        assert_eq!(request.headers()[header::RANGE], "bytes=0-1");
        assert_eq!(length, text.len() - 3);
    }

    #[test]
    fn everything_else_is_left_to_the_library() {
        let many = "x: y\r\n".repeat(HEADERS_MAX + 1);
        let long = "y".repeat(HEAD_BYTES_MAX);
        for text in [
            "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nx: y\r\n folded\r\n\r\n",
            "\x16\x03\x01",
            &format!("GET / HTTP/1.1\r\n{many}\r\n"),
            &format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"),
            &format!("GET / HTTP/1.1\r\nx: {long}"),
        ] {
            assert_eq!(front(text).err(), Some(Unusable::Other), "{text:.60}");
        }
        let whole = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(front(&whole[..cut]).err(), Some(Unusable::Incomplete), "{cut}");
        }
    }
}
