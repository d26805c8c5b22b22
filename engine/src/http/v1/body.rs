//! The body of a request that changes something: whole, bounded, JSON.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::{Request, StatusCode, header};
use serde::de::DeserializeOwned;

use super::model::Object;
use super::problem::Problem;
use crate::alarm::Alarm;

/// Largest body: the files that are written by it are not larger either.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// All of it must be there by then.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Reads a body to its end.
pub(super) async fn read<B>(request: &mut Request<B>) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    // Pages of other sites cannot send this type without asking first, and are told no.
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "the body is JSON: Content-Type application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let body = request.body_mut();
    let whole = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::bad_request("the body is cut short"))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    let late = async {
        Alarm::after(BODY_TIME_MAX).await;
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))
    };
    whole.or(late).await
}

/// The body as what it should be.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice::<Object<T>>(body).map(|Object(value)| value).map_err(|error| {
        let status = match error.classify() {
            serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, crate::conn::escape(&error.to_string()))
    })
}
