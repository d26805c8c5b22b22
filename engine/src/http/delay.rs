//! `?delay=SECONDS`: a request for a live stream played so much later, and why it cannot be.

use hyper::{StatusCode, header};
use protocols::media::StreamKey;

use super::HttpContext;
use super::respond::{self, Reply};
use crate::timeshift::{self, Refused};

/// The key of what a query asks for of a stream, or the answer that it cannot be one.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
pub(super) fn key_of_query(live: StreamKey, query: &str) -> Result<StreamKey, Reply> {
    match timeshift::delay_of_query(query) {
        Ok(0) => Ok(live),
        Ok(delay_s) => Ok(live.delayed(delay_s)),
        Err(fault) => Err(plain(StatusCode::BAD_REQUEST, fault)),
    }
}

/// Has a stream played later than live, if its key says so.
///
/// # Errors
/// It cannot be: the answer says why.
pub(super) async fn begin(ctx: &HttpContext, key: &StreamKey) -> Result<(), Reply> {
    if key.delay_s() == 0 {
        return Ok(());
    }
    ctx.backend.shift(key.clone()).await.map_err(refuse)
}

fn refuse(why: Refused) -> Reply {
    match why {
        Refused::NotFound => plain(StatusCode::NOT_FOUND, "no such stream is live"),
        Refused::Reach(0) => plain(
            StatusCode::NOT_FOUND,
            "nothing of this stream is kept that could be played later than live: it is not \
             recorded, or has just begun",
        ),
        Refused::Reach(seconds) => {
            let sentence = format!(
                "the stream is kept for {seconds} s only: it cannot be played further behind live"
            );
            plain(StatusCode::NOT_FOUND, &sentence)
        }
        Refused::Overloaded => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "too many different delays are in use")
        }
        Refused::Late => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "the recording was not found in time")
        }
    }
}

fn plain(status: StatusCode, sentence: &str) -> Reply {
    let mut reply = respond::text(status, sentence);
    respond::set(&mut reply, header::CACHE_CONTROL, "no-store");
    respond::allow_any_origin(&mut reply);
    reply
}
