//! What went wrong, as a problem document (RFC 9457).

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use crate::http::body::Body;
use crate::http::respond::{self, Reply};

/// The document.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Document {
    /// Always `about:blank`: the status says which kind it is.
    r#type: &'static str,
    /// The phrase of the status.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What was wrong with this request.
    detail: String,
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    allow: Option<String>,
    challenge: Option<HeaderValue>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), allow: None, challenge: None }
    }

    /// What the door said to who may not.
    pub(super) fn of_refusal(reply: &Reply) -> Self {
        let detail = match reply.body() {
            Body::Whole(bytes) => String::from_utf8_lossy(bytes).trim_end().to_owned(),
            _ => String::new(),
        };
        let challenge = reply.headers().get(header::WWW_AUTHENTICATE).cloned();
        Self { challenge, ..Self::new(reply.status(), detail) }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The path has other methods.
    pub(super) fn method(allow: String) -> Self {
        let detail = format!("this path answers only {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    pub(super) fn into_reply(self) -> Reply {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let text = serde_json::to_string(&document).unwrap_or_default();
        let mut reply = respond::body(self.status, "application/problem+json", text);
        if let Some(allow) = self.allow {
            respond::set_text(&mut reply, header::ALLOW, &allow);
        }
        if let Some(challenge) = self.challenge {
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}
