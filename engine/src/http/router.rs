//! Which request gets which answer.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode, Version};
use protocols::text::{date_time, percent_decode};

use protocols::hops::{self, Hops};

use crate::auth::Admittance;
use crate::clock;
use crate::config::model::Config;
use crate::http::admit::Door;
use crate::http::respond::{self, READ_ONLY, READ_ONLY_CORS, Reply};
use crate::http::server::{MediaKind, MediaRequest};
use crate::http::urls::{self, Addressed};
use crate::http::websocket::{self, UpgradeError};
use crate::http::{
    HttpContext, api, delay, files, legacy, live_head, metrics_route, rec, segments, v1, vod,
};
use crate::segment::manifest::TIME_PATH;

/// Bytes of the caller's own name that are kept.
const AGENT_BYTES_MAX: usize = 128;

/// What does not change during a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// The peer.
    pub(crate) peer: SocketAddr,
    /// The connection speaks TLS.
    pub(crate) secure: bool,
}

/// What comes of a request.
pub(crate) enum Routed {
    /// An answer.
    Reply(Reply),
    /// Live media: the connection leaves the HTTP service.
    Media(Box<MediaRequest>),
}

/// Finds the answer to a request. The body is never read but by an upload.
pub(crate) async fn route<B>(ctx: &HttpContext, caller: Caller, request: &mut Request<B>) -> Routed
where
    B: Body<Data = Bytes> + Unpin,
{
    let routed = decide(ctx, caller, request).await;
    match routed {
        Routed::Reply(mut reply) => {
            if request.headers().contains_key(header::AUTHORIZATION) {
                respond::keep_private(&mut reply);
            }
            Routed::Reply(respond::finish(reply, request.method()))
        }
        media @ Routed::Media(_) => media,
    }
}

async fn decide<B>(ctx: &HttpContext, caller: Caller, request: &mut Request<B>) -> Routed
where
    B: Body<Data = Bytes> + Unpin,
{
    let config = ctx.backend.config();
    let at = match check_head(request, &config, caller) {
        Ok(at) => at,
        Err((status, sentence)) => {
            return Routed::Reply(respond::closing(respond::text(status, sentence)));
        }
    };
    let Some(path) = percent_decode(request.uri().path()) else {
        let sentence = "the path is not UTF-8 in percent coding";
        return Routed::Reply(respond::text(StatusCode::BAD_REQUEST, sentence));
    };
    let query = request.uri().query().unwrap_or_default();
    let (method, headers) = (request.method(), request.headers());
    if let Some(reply) = rec::answer(ctx, caller, request, &config, &at, &path).await {
        return Routed::Reply(reply);
    }
    if let Some(reply) =
        segments::answer(ctx, caller, &config, &at, method, &path, query, headers).await
    {
        return Routed::Reply(reply);
    }
    if let Some(live) = live_head::parse(&path, query, &config) {
        let mut admittance = None;
        if matches!(*method, Method::GET | Method::HEAD)
            && let Ok(key) = config.stream_key(&at.host, &live.app, &live.name)
        {
            let door = Door::of_stream(&live.app, &live.name, &path);
            let question = match door.open_for_long(ctx, caller, query, headers).await {
                Ok(question) => question,
                Err(reply) => return Routed::Reply(reply),
            };
            // When it is asked again is said where it plays.
            admittance = Some(Box::new(Admittance::new(question, key.clone())));
            let begun = match delay::key_of_query(key, query) {
                Ok(key) if *method == Method::GET => delay::begin(ctx, &key).await,
                Ok(_) => Ok(()),
                Err(reply) => Err(reply),
            };
            if let Err(reply) = begun {
                return Routed::Reply(reply);
            }
        }
        return media(caller, request, at, live, admittance);
    }
    if v1::owns(request.uri().path()) {
        return Routed::Reply(v1::answer(ctx, caller, request, &config, &at).await);
    }
    if legacy::owns(request.uri().path()) {
        return Routed::Reply(legacy::answer(ctx, caller, request).await);
    }
    if vod::owns(&path) {
        return Routed::Reply(vod::answer(ctx, caller, request, &config, &path).await);
    }
    Routed::Reply(page(ctx, caller, request, &config, &at, &path).await)
}

/// Whether a request may carry a body that somebody reads; `path` as sent.
pub(super) fn takes_body(method: &Method, path: &str) -> bool {
    vod::takes_body(method, path)
        || v1::takes_body(method, path)
        || legacy::takes_body(method, path)
}

/// What must hold for every request: one sound Host, and no body worth speaking of.
fn check_head<B>(
    request: &Request<B>,
    config: &Config,
    caller: Caller,
) -> Result<Addressed, (StatusCode, &'static str)> {
    let bad = |sentence| Err((StatusCode::BAD_REQUEST, sentence));
    let headers = request.headers();
    let path = request.uri().path();
    let upload = vod::takes_body(request.method(), path);
    let document = !upload && takes_body(request.method(), path);
    let length_max = match config.http.upload_bytes_max {
        // Refused further on, with the reason.
        0 if upload => u64::MAX,
        bytes if upload => bytes,
        _ if document => v1::BODY_BYTES_MAX as u64,
        _ => config.http.body_bytes_max as u64,
    };
    // No other path takes a body, so a chunked one has no use but to confuse proxies in front of us.
    if headers.contains_key(header::TRANSFER_ENCODING) && !document {
        if upload {
            return Err((StatusCode::LENGTH_REQUIRED, "an upload names its Content-Length"));
        }
        return bad("no path of this server takes a chunked body");
    }
    if let Some(length) = headers.get(header::CONTENT_LENGTH) {
        let length = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        if length.is_none_or(|length| length > length_max) {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return bad("there must be one Host header");
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return bad("HTTP/1.1 needs a Host header");
    }
    let named = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => match host.map(|value| value.to_str()) {
            None => "",
            Some(Ok(text)) => text,
            Some(Err(_)) => return bad("the Host header is not a host"),
        },
    };
    if named.is_empty() {
        return Ok(Addressed { secure: caller.secure, ..Addressed::default() });
    }
    match urls::parse_host(named) {
        Some((host, port)) => Ok(Addressed { host, port, secure: caller.secure }),
        None => bad("the Host header is not a host"),
    }
}

fn media<B>(
    caller: Caller,
    request: &Request<B>,
    at: Addressed,
    live: live_head::LivePath,
    admittance: Option<Box<Admittance>>,
) -> Routed {
    let headers = request.headers();
    let upgrade = websocket::wants_upgrade(headers);
    match *request.method() {
        Method::HEAD if !upgrade => {
            let kind = MediaKind { container: live.container, websocket: false };
            return Routed::Reply(live_head::head(kind));
        }
        Method::OPTIONS if !upgrade => return Routed::Reply(live_head::options()),
        Method::GET => {}
        _ => return Routed::Reply(respond::method_not_allowed(READ_ONLY_CORS)),
    }
    let websocket_accept = if upgrade {
        match websocket::accept(request.method(), request.version(), headers) {
            Ok(accept) => Some(accept),
            Err(error) => return Routed::Reply(refuse_upgrade(error)),
        }
    } else {
        None
    };
    let kind = MediaKind { container: live.container, websocket: upgrade };
    Routed::Media(Box::new(MediaRequest {
        host: at.host,
        port: at.port,
        app: live.app,
        name: live.name,
        query: request.uri().query().unwrap_or_default().to_owned(),
        agent: agent(headers),
        hops: hops(headers),
        kind,
        websocket_accept,
        admittance,
        keep_http11: request.version() == Version::HTTP_11,
        peer: caller.peer,
    }))
}

fn refuse_upgrade(error: UpgradeError) -> Reply {
    let status = match error {
        UpgradeError::BadRequest(_) => StatusCode::BAD_REQUEST,
        UpgradeError::WrongVersion => StatusCode::UPGRADE_REQUIRED,
    };
    let mut reply = respond::text(status, &error.to_string());
    if error == UpgradeError::WrongVersion {
        respond::set(&mut reply, header::SEC_WEBSOCKET_VERSION, "13");
    }
    respond::closing(reply)
}

fn agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    // Visible ASCII only (`to_str`), so every byte is a character.
    text.unwrap_or_default().chars().take(AGENT_BYTES_MAX).collect()
}

/// What is no list of nodes is none: it is for servers of our kind to write.
fn hops(headers: &HeaderMap) -> Hops {
    let text = headers.get(hops::HEADER).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

async fn page<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &Request<B>,
    config: &Config,
    at: &Addressed,
    path: &str,
) -> Reply {
    let backend = &*ctx.backend;
    let method = request.method();
    let readable = *method == Method::GET || *method == Method::HEAD;
    if !readable {
        return respond::method_not_allowed(READ_ONLY);
    }
    let guarded = path == "/metrics" || path == "/api" || path.starts_with("/api/");
    if guarded {
        let door = Door::of_api(path, caller, request);
        let query = request.uri().query().unwrap_or_default();
        if let Err(reply) = door.open(ctx, caller, query, request.headers()).await {
            return reply;
        }
    }
    let mut reply = match path {
        "/healthz" => respond::text(StatusCode::OK, "ok"),
        TIME_PATH => time(),
        "/metrics" => metrics_route::answer(backend).await,
        "/api/statistics" => api::statistics(backend).await,
        "/api/live" | "/api/stream" => {
            let query = request.uri().query().unwrap_or_default();
            api::live(backend, query, at).await
        }
        "/api/status" => api::status(backend),
        _ if vod::is_listing(path) => {
            vod::list(path, request.uri().query().unwrap_or_default(), config).await
        }
        _ if guarded => files::not_found(),
        _ => files::answer(path, request.headers(), config).await,
    };
    if guarded {
        respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    }
    reply
}

/// The wall clock, for players that are told of it by an MPD (ISO/IEC 23009-1 5.8.4.11).
fn time() -> Reply {
    let text = date_time(clock::signed_unix_millis()).to_string();
    let mut reply = respond::body(StatusCode::OK, "text/plain; charset=utf-8", text);
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    respond::allow_any_origin(&mut reply);
    reply
}
