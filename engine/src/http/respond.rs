//! The few shapes an answer has, and the headers every answer carries.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::http::body::Body;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// GET and HEAD, as an `Allow` header names them.
pub(crate) const READ_ONLY: &str = "GET, HEAD";
/// As [`READ_ONLY`] where other origins may read.
pub(crate) const READ_ONLY_CORS: &str = "GET, HEAD, OPTIONS";

/// A body with its type.
pub(crate) fn body(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Reply {
    let bytes = bytes.into();
    let length = bytes.len();
    let mut reply = Response::new(Body::Whole(bytes));
    *reply.status_mut() = status;
    set(&mut reply, header::CONTENT_TYPE, content_type);
    set(&mut reply, header::CACHE_CONTROL, "no-cache");
    reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    reply
}

/// A sentence for a person.
pub(crate) fn text(status: StatusCode, sentence: &str) -> Reply {
    body(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Reply {
    body(status, "application/json", value.to_string())
}

/// 405 with the methods the path has.
pub(crate) fn method_not_allowed(allow: &'static str) -> Reply {
    let sentence = format!("this path answers only {allow}");
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, &sentence);
    set(&mut reply, header::ALLOW, allow);
    reply
}

/// The same answer as the last one on its connection.
pub(crate) fn closing(mut reply: Reply) -> Reply {
    set(&mut reply, header::CONNECTION, "close");
    reply
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::Whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// Lets pages of any origin read the answer; no credentials are involved.
pub(crate) fn allow_any_origin(reply: &mut Reply) {
    set(reply, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(reply, header::ACCESS_CONTROL_ALLOW_METHODS, READ_ONLY_CORS);
}

/// What was asked for with a credential is for no cache that others share: `public` would let it
/// (RFC 9111 3.5).
pub(crate) fn keep_private(reply: &mut Reply) {
    let caching = reply.headers().get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    if let Some(rest) = caching.and_then(|caching| caching.strip_prefix("public")) {
        let caching = format!("private{rest}");
        set_text(reply, header::CACHE_CONTROL, &caching);
    }
}

/// Sets a header to a constant.
pub(crate) fn set(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Sets a header to text of ours, which is visible ASCII.
pub(crate) fn set_text(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// The last touch: what every answer carries, and no body for HEAD.
pub(crate) fn finish(mut reply: Reply, method: &Method) -> Reply {
    set(&mut reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if *method == Method::HEAD {
        *reply.body_mut() = Body::Whole(Bytes::new());
    }
    reply
}
