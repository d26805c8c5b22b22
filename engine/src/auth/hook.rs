//! One question to the authorisation server: a connection, a request, the status of the answer.
//! Runs on the shard of the question, as a task.
//!
//! 200 allows. A 5xx, like silence, is no verdict. Everything else refuses, redirects too: they are
//! not followed. The answer counts when it is whole; its body is read up to a bound and dropped.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_lite::FutureExt as _;
use futures_lite::future::{pending, poll_fn};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{Answer, Cause, Target};
use crate::alarm::Alarm;
use crate::clock;
use crate::config::auth::Hook;
use crate::http::io::Io;
use crate::net::awaited::{Awaited, Direction};
use crate::net::sys_socket;
use crate::net::tls_client::TlsClient;

/// What this server calls itself to authorisation servers, which may go by it: the name that those
/// written for the older server know. To all others it is [`crate::stream::SERVER_NAME`].
const USER_AGENT: &str = "smart_rtmpd";
/// Bytes of the head and of the body of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Headers of an answer.
const HEADERS_MAX: usize = 64;

/// Asks. Never later than the deadline.
pub async fn exchange(
    hook: &Hook,
    tls: &TlsClient,
    addresses: &[SocketAddr],
    target: &Target,
    deadline: Instant,
) -> Answer {
    let exchange = async {
        match try_exchange(hook, tls, addresses, target, deadline).await {
            Ok(StatusCode::OK) => Answer::Yes,
            Ok(status) if status.is_server_error() => Answer::Unknown(Cause::ServerError),
            Ok(_) => Answer::No,
            Err(cause) => Answer::Unknown(cause),
        }
    };
    let late = async {
        Alarm::at(deadline).await;
        Answer::Unknown(Cause::Timeout)
    };
    exchange.or(late).await
}

async fn try_exchange(
    hook: &Hook,
    tls: &TlsClient,
    addresses: &[SocketAddr],
    target: &Target,
    deadline: Instant,
) -> Result<StatusCode, Cause> {
    let socket = connect(addresses, deadline).await?;
    let codec = hook.url.tls.then(|| tls.connect(hook.ca.as_deref(), &hook.url.host));
    let codec = codec.transpose().map_err(|error| {
        tracing::warn!(%error, "no TLS to the authorisation server");
        Cause::Tls
    })?;
    let mut io = Io::new(socket, codec, BytesMut::new());
    io.handshake().await.map_err(|error| {
        tracing::warn!(%error, "no TLS to the authorisation server");
        Cause::Tls
    })?;
    let request = request(hook, target).ok_or(Cause::BadAnswer)?;
    let (mut sender, conn) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(io)
        .await
        .map_err(|_| Cause::BadAnswer)?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|_| Cause::BadAnswer)?;
        let status = response.status();
        drop_body(response).await?;
        Ok(status)
    };
    // Both directions move with it; the talk ends first, whatever becomes of the connection.
    let drive = async {
        let _ = conn.await;
        pending().await
    };
    talk.or(drive).await
}

/// Dials one address after the other; each gets its share of the time that is left.
async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<Awaited, Cause> {
    for (index, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let now = clock::now();
        let share = deadline.saturating_duration_since(now) / left;
        let late = async {
            Alarm::at(now + share).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        match dial(*address).or(late).await {
            Ok(socket) => return Ok(socket),
            Err(error) => tracing::debug!(%address, %error, "authorisation server not reached"),
        }
    }
    Err(if clock::now() >= deadline { Cause::Timeout } else { Cause::Connect })
}

async fn dial(address: SocketAddr) -> io::Result<Awaited> {
    let mut socket = Awaited::of_executor(sys_socket::connect(address)?)?;
    poll_fn(|cx| socket.poll(cx, Direction::Write)).await?;
    let stream = TcpStream::from(socket.into_fd()?);
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Awaited::of_executor(stream.into()),
    }
}

fn request(hook: &Hook, target: &Target) -> Option<Request<Empty<Bytes>>> {
    let method = if hook.get { Method::GET } else { Method::PUT };
    let mut request = Request::builder()
        .method(method)
        .uri(&*target.text)
        .header(header::HOST, hook.url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close");
    if !hook.get {
        // It has no body (RFC 9110 8.6).
        request = request.header(header::CONTENT_LENGTH, 0);
    }
    if let Some(secret) = &hook.secret {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.0)).ok()?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Empty::new()).ok()
}

async fn drop_body(mut response: Response<Incoming>) -> Result<(), Cause> {
    let mut left = BODY_BYTES_MAX;
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|_| Cause::BadAnswer)?;
        let length = frame.data_ref().map_or(0, Bytes::len);
        left = left.checked_sub(length).ok_or(Cause::BadAnswer)?;
    }
    Ok(())
}
