//! What went wrong, as a problem document (RFC 9457).

use hyper::{StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

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
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), allow: None }
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
        Self { status: StatusCode::METHOD_NOT_ALLOWED, detail, allow: Some(allow) }
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
        reply
    }
}
