//! Files on demand: `/vod/…` from one folder, whole or in ranges, MP4 and transport streams
//! also as HLS; `/api/vod`; and uploads.
//!
//! Nothing here waits for a disk on the shard: files are opened from what the kernel has cached or
//! else on the executor's blocking thread, and so is everything that parses.

mod cache;
mod file;
mod listing;
mod media_type;
mod name;
mod opened;
mod playlist;
mod presentation;
mod scan;
mod source;
mod transport;
mod upload;

use std::io;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header;
use hyper::{Method, Request, StatusCode};

use crate::clock;
use crate::config::model::Config;
use crate::http::HttpContext;
use crate::http::admit::Door;
use crate::http::respond::{self, Reply};
use crate::http::router::Caller;

pub(crate) use cache::Shelf;
pub(crate) use listing::{is_listing, list};

/// The methods of a path below `/vod/`.
const METHODS: &str = "GET, HEAD, OPTIONS, POST";
/// What pages of other origins may send along and read of the answer.
const REQUEST_HEADERS: &str = "Authorization, Range, If-Range, If-None-Match, If-Modified-Since";
const RESPONSE_HEADERS: &str = "Content-Length, Content-Range, Accept-Ranges, ETag, Last-Modified";

const NOT_FOUND: &str = "no such file on demand; GET /api/vod lists what there is";
const BUSY: &str = "the server is short of descriptors or memory, try again";

/// Whether a decoded path belongs here.
pub(crate) fn owns(path: &str) -> bool {
    path == "/vod" || path.starts_with("/vod/")
}

/// Whether a request may carry a body that is read here; `path` as sent.
pub(crate) fn takes_body(method: &Method, path: &str) -> bool {
    *method == Method::POST && owns(path)
}

/// Answers a request for a decoded path below `/vod`.
pub(crate) async fn answer<B>(
    ctx: &HttpContext,
    caller: Caller,
    request: &mut Request<B>,
    config: &Config,
    path: &str,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let below = path.strip_prefix("/vod").unwrap_or_default().trim_start_matches('/');
    let mut reply = match *request.method() {
        Method::GET | Method::HEAD => {
            let query = request.uri().query().unwrap_or_default();
            let door = door(below, path);
            match door.open(ctx, caller, query, request.headers()).await {
                Ok(_) => read(ctx, request, config, below).await,
                Err(reply) => reply,
            }
        }
        Method::OPTIONS => {
            let mut reply = respond::empty(StatusCode::NO_CONTENT);
            respond::set(&mut reply, header::ALLOW, METHODS);
            respond::set(&mut reply, header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            reply
        }
        // No other origin may read what becomes of an upload.
        Method::POST => {
            let query = request.uri().query().unwrap_or_default();
            let door = Door::of_upload(path, caller, request);
            return match door.open(ctx, caller, query, request.headers()).await {
                Ok(_) => upload::take(caller, request, config, below).await,
                Err(reply) => respond::closing(reply),
            };
        }
        _ => respond::method_not_allowed(METHODS),
    };
    respond::allow_any_origin(&mut reply);
    respond::set(&mut reply, header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    reply
}

/// Files are downloaded; what a list of one lists is asked about as the list.
fn door(below: &str, path: &str) -> Door {
    match playlist::listed_by(below) {
        Some(list) => Door::of_file(&format!("/vod/{list}"), list.clone()),
        None => Door::of_file(path, below.to_owned()),
    }
}

async fn read<B>(ctx: &HttpContext, request: &Request<B>, config: &Config, below: &str) -> Reply {
    let now_s = clock::signed_unix_millis() / 1000;
    let is_get = *request.method() == Method::GET;
    if !name::is_path(below) {
        return not_found();
    }
    let representation = match ctx.vod.opened().open(&config.http.vod_dir, below).await {
        Ok(Some(file)) => Ok(file::Representation::of_file(file, below)),
        Ok(None) => Err(not_found()),
        Err(e) if is_shortage(&e) => Err(respond::text(StatusCode::SERVICE_UNAVAILABLE, BUSY)),
        Err(_) => playlist::find(&ctx.vod, config, below, request.uri().query()).await,
    };
    match representation {
        Ok(representation) => representation.reply(request.headers(), is_get, now_s),
        Err(reply) => reply,
    }
}

fn not_found() -> Reply {
    respond::text(StatusCode::NOT_FOUND, NOT_FOUND)
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Does on the executor's blocking thread what may wait for a disk or takes long.
async fn off_shard<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    glommio::executor().spawn_blocking(work).await
}
