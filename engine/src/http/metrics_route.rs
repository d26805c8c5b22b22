//! `/metrics`: the text the engine renders, in the exposition format of Prometheus.

use hyper::StatusCode;

use crate::http::api::Backend;
use crate::http::respond::{self, Reply};

/// Answers a permitted GET or HEAD.
pub(crate) async fn answer(backend: &dyn Backend) -> Reply {
    let text = backend.metrics().await;
    respond::body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}
