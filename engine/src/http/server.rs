//! The driver of one HTTP connection: HTTP/1.1 or HTTP/2, its deadlines, and the moment a request
//! for live media ends it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_lite::FutureExt;
use futures_lite::future::poll_fn;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;

use protocols::hops::Hops;

use crate::alarm::Alarm;
use crate::auth::Admittance;
use crate::http::HttpContext;
use crate::http::body::Body;
use crate::http::direct::{self, Next};
use crate::http::direct_reply::{DirectReply, Persistence};
use crate::http::io::Io;
use crate::http::respond::Reply;
use crate::http::router::{self, Caller, Routed};
use crate::http::watch::{Active, Deadline, Watch};
use crate::net::tls::TlsCodec;
use crate::stream::Container;

/// Bytes of one request head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request.
pub(super) const HEADERS_MAX: usize = 64;
/// Requests at once on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 32;
/// How long the peer gets to read our last answer.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection left the HTTP service.
pub enum Outcome {
    /// It is closed.
    Closed {
        /// Stable word for log and metrics.
        reason: &'static str,
        /// Bytes the socket gave.
        bytes_in: u64,
        /// Bytes the socket took.
        bytes_out: u64,
    },
    /// It asked for live media and belongs to the media plane now.
    Media(Box<MediaHandoff>),
}

/// A connection on its way to the media plane. Nothing of the answer has been sent.
pub struct MediaHandoff {
    /// The socket.
    pub fd: OwnedFd,
    /// Its TLS state, handshake done.
    pub tls: Option<TlsCodec>,
    /// What the peer sent after the request.
    pub leftover: BytesMut,
    /// The request.
    pub request: MediaRequest,
}

/// A request for live media; stream name and app are well formed, nothing else is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRequest {
    /// Host the peer addressed, without port; empty when it named none.
    pub host: String,
    /// Port the peer addressed, if it named one.
    pub port: Option<u16>,
    /// App.
    pub app: String,
    /// Stream name without its extension.
    pub name: String,
    /// Query string without `?`, as sent.
    pub query: String,
    /// What the peer calls itself, cut to 128 bytes.
    pub agent: String,
    /// Servers of our kind that the request has passed.
    pub hops: Hops,
    /// How it wants the media.
    pub kind: MediaKind,
    /// `Sec-WebSocket-Accept` of the answer (WebSocket only).
    pub websocket_accept: Option<String>,
    /// What it was let in for, where that matters later.
    pub admittance: Option<Box<Admittance>>,
    /// The request was HTTP/1.1; else the answer must be HTTP/1.0.
    pub keep_http11: bool,
    /// The peer.
    pub peer: SocketAddr,
}

/// How a peer wants live media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaKind {
    /// FLV, a transport stream, or MP4 fragments.
    pub container: Container,
    /// In binary WebSocket messages rather than an endless body.
    pub websocket: bool,
}

impl MediaKind {
    /// Label in logs, the API and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.container, self.websocket) {
            (container @ (Container::Rtmp { .. } | Container::Rtp { .. }), _) => container.name(),
            (Container::Flv, false) => "http-flv",
            (Container::Flv, true) => "ws-flv",
            (Container::Ts, false) => "http-ts",
            (Container::Ts, true) => "ws-ts",
            (Container::Fmp4, false) => "http-mp4",
            (Container::Fmp4, true) => "ws-mp4",
        }
    }

    /// The media type of an endless body.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self.container {
            Container::Rtmp { .. } | Container::Rtp { .. } | Container::Flv => "video/x-flv",
            Container::Ts => "video/mp2t",
            Container::Fmp4 => "video/mp4",
        }
    }
}

/// Drives one connection to its end, or to a request for live media. The head deadline runs from
/// the call, so a TLS handshake counts towards it.
pub async fn serve(mut io: Io, peer: SocketAddr, ctx: Rc<HttpContext>) -> Outcome {
    let config = ctx.backend.config();
    let mut watch = Watch {
        flow: io.flow(),
        active: Cell::new(0),
        served: Cell::new(false),
        multiplexed: false,
        idle_since: Cell::new(Instant::now()),
        head_timeout: config.http.head_timeout,
        keepalive_timeout: config.http.keepalive_timeout,
    };
    let caller = Caller { peer, secure: io.tls().is_some() };
    let handshake = async { io.handshake().await.err().map(|_| "tls_handshake") };
    let late = async {
        Alarm::after(watch.head_timeout).await;
        Some("tls_handshake_timeout")
    };
    if let Some(reason) = handshake.or(late).await {
        return watch.closed(reason);
    }
    watch.multiplexed = io.tls().is_some_and(|tls| tls.alpn() == Some(b"h2"));
    if watch.multiplexed {
        serve_http2(io, caller, ctx, Rc::new(watch)).await
    } else {
        serve_http1(io, caller, ctx, Rc::new(watch)).await
    }
}

async fn serve_http1(
    mut io: Io,
    caller: Caller,
    ctx: Rc<HttpContext>,
    watch: Rc<Watch>,
) -> Outcome {
    let mut deadline = Deadline::default();
    let plain = io.tls().is_none();
    let (reason, media) = loop {
        if plain {
            match direct::serve(&mut io, caller, &ctx, &watch, &mut deadline).await {
                Next::Library => {}
                Next::Media(request) => break ("media", Some(request)),
                Next::Over(reason) => break (reason, None),
            }
        }
        let left = converse(io, caller, &ctx, &watch, &mut deadline).await;
        io = left.io;
        match left.wanted {
            Some(Wanted::Media(request)) => break ("media", Some(request)),
            Some(Wanted::Reply(mut reply)) => {
                match direct::send(&mut io, &mut reply, &watch, &mut deadline).await {
                    None if reply.keep_alive => {}
                    None => break ("done", None),
                    Some(reason) => break (reason, None),
                }
            }
            None => break (left.reason, None),
        }
    };
    if let Some(request) = media {
        let Ok((fd, tls, leftover)) = io.into_parts() else {
            return watch.closed("connection_lost");
        };
        return Outcome::Media(Box::new(MediaHandoff { fd, tls, leftover, request: *request }));
    }
    if matches!(reason, "done" | "bad_request") {
        let late = async {
            Alarm::after(LINGER).await;
        };
        io.linger().or(late).await;
    }
    watch.closed(reason)
}

/// What a request takes a connection out of the HTTP library for.
enum Wanted {
    /// Live media, for good.
    Media(Box<MediaRequest>),
    /// Sending a file, for one answer.
    Reply(Box<DirectReply>),
}

/// How the HTTP library left a connection.
struct Left {
    /// The connection; what was read ahead is in it.
    io: Io,
    /// Every earlier answer is out, and this one comes next.
    wanted: Option<Wanted>,
    /// Why it is over otherwise.
    reason: &'static str,
}

/// Lets the HTTP library drive a connection until it ends, or until an answer wants the socket.
async fn converse(
    io: Io,
    caller: Caller,
    ctx: &Rc<HttpContext>,
    watch: &Rc<Watch>,
    deadline: &mut Deadline,
) -> Left {
    let plain = io.tls().is_none();
    let wanted: Rc<RefCell<Option<Wanted>>> = Rc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (ctx, watch, wanted) = (ctx.clone(), watch.clone(), wanted.clone());
        // Boxed: the driver below polls the connection without pinning it.
        Box::pin(async move {
            let _active = Active::new(watch);
            let mut request = request;
            let want = match router::route(&ctx, caller, &mut request).await {
                Routed::Reply(reply) if plain && request.is_end_stream() => {
                    match file_reply(reply, &request) {
                        Ok(file) => Wanted::Reply(file),
                        Err(reply) => return Ok::<Reply, Infallible>(*reply),
                    }
                }
                Routed::Reply(reply) => return Ok(reply),
                Routed::Media(media) => Wanted::Media(media),
            };
            *wanted.borrow_mut() = Some(want);
            pending().await
        })
    });
    let mut conn = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service);
    let reason = poll_fn(|cx| {
        let polled = conn.poll_without_shutdown(cx);
        // Earlier answers of a pipelining peer must be out before anybody else writes.
        if wanted.borrow().is_some() && watch.flow.flushed.get() {
            return Poll::Ready("wanted");
        }
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready("done"),
            Poll::Ready(Err(e)) if e.is_parse() => Poll::Ready("bad_request"),
            Poll::Ready(Err(_)) => Poll::Ready("connection_lost"),
            Poll::Pending => deadline.poll(cx, watch),
        }
    })
    .await;
    let parts = conn.into_parts();
    let mut io = parts.io;
    io.unread(&parts.read_buf);
    let wanted = wanted.borrow_mut().take().filter(|_| reason == "wanted");
    Left { io, wanted, reason }
}

/// An answer whose body is a file, taken out of the HTTP library; any other one as it is.
fn file_reply<B>(reply: Reply, request: &Request<B>) -> Result<Box<DirectReply>, Box<Reply>> {
    match reply.body() {
        Body::File(_) => {
            let persistence = Persistence::of(request.version(), request.headers());
            Ok(Box::new(DirectReply::new(reply, request.method(), persistence)))
        }
        Body::Whole(_) | Body::Pieces(_) | Body::Pulled(_) => Err(Box::new(reply)),
    }
}

async fn serve_http2(io: Io, caller: Caller, ctx: Rc<HttpContext>, watch: Rc<Watch>) -> Outcome {
    let service = service_fn(|mut request: Request<Incoming>| {
        let (ctx, watch) = (ctx.clone(), watch.clone());
        async move {
            let limit = ctx.backend.config().http.body_bytes_max;
            let late = async {
                Alarm::after(watch.head_timeout).await;
            };
            let _active = Active::new(watch.clone());
            if !router::takes_body(request.method(), request.uri().path()) {
                drain(request.body_mut(), limit).or(late).await;
            }
            match router::route(&ctx, caller, &mut request).await {
                Routed::Reply(reply) => Ok::<Reply, h2::Error>(reply),
                // An endless body needs the whole connection: the peer retries on HTTP/1.1.
                Routed::Media(_) => Err(h2::Reason::HTTP_1_1_REQUIRED.into()),
            }
        }
    });
    let conn = http2::Builder::new(OnShard)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(64 * 1024)
        .serve_connection(io, service);
    let mut conn = pin!(conn);
    let mut deadline = Deadline::default();
    let reason = poll_fn(|cx| match conn.as_mut().poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready("done"),
        Poll::Ready(Err(_)) => Poll::Ready("connection_lost"),
        Poll::Pending => deadline.poll(cx, &watch),
    })
    .await;
    watch.closed(reason)
}

/// Reads a body that nobody wants, up to a bound. An answer before its end would reset the stream,
/// which some peers take for a failure. (On HTTP/1.1 the library closes the connection instead.)
async fn drain(body: &mut Incoming, limit: usize) {
    let mut left = limit;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length > left {
            return;
        }
        left -= length;
    }
}

/// Runs the streams of an HTTP/2 connection on its shard. A stream ends with its connection.
#[derive(Clone, Copy)]
struct OnShard;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnShard
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        let guarded = AssertUnwindSafe(future).catch_unwind();
        glommio::spawn_local(async move {
            if guarded.await.is_err() {
                tracing::error!("a task of an HTTP/2 connection panicked");
            }
        })
        .detach();
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
