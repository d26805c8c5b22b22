//! What went wrong, as a problem document (RFC 9457).

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
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
    /// What else is said.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// What the door said to who may not.
    pub(super) fn of_refusal(reply: &Reply) -> Self {
        let detail = match reply.body() {
            Body::Whole(bytes) => String::from_utf8_lossy(bytes).trim_end().to_owned(),
            _ => String::new(),
        };
        let said = [header::WWW_AUTHENTICATE, header::RETRY_AFTER].into_iter();
        let said = said.filter_map(|name| reply.headers().get(&name).cloned().map(|v| (name, v)));
        Self { headers: said.collect(), ..Self::new(reply.status(), detail) }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// A shard has not answered in time.
    pub(super) fn late() -> Self {
        let headers = vec![(header::RETRY_AFTER, HeaderValue::from_static("1"))];
        let sentence = "the server is too busy to tell, try again";
        Self { headers, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence) }
    }

    /// The path has other methods.
    pub(super) fn method(allow: &str) -> Self {
        let detail = format!("this path answers only {allow}");
        let allow = HeaderValue::from_str(allow).map(|allow| (header::ALLOW, allow));
        let headers = allow.into_iter().collect();
        Self { headers, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
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
        reply.headers_mut().extend(self.headers);
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_door_said_is_said() {
        let mut refusal = respond::text(StatusCode::SERVICE_UNAVAILABLE, "nobody can say");
        respond::set(&mut refusal, header::RETRY_AFTER, "2");
        respond::set(&mut refusal, header::WWW_AUTHENTICATE, "Bearer");
        let reply = Problem::of_refusal(&refusal).into_reply();
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers()[header::RETRY_AFTER], "2");
        assert_eq!(reply.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/problem+json");
        let Body::Whole(bytes) = reply.body() else { panic!("a text") };
        assert!(bytes.ends_with(b"\"detail\":\"nobody can say\"}"), "{bytes:?}");
        let reply = Problem::method("GET, HEAD").into_reply();
        assert_eq!(reply.headers()[header::ALLOW], "GET, HEAD");
    }
}
