//! The static pages: embedded at build, overridden file by file from `http/html_dir`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use protocols::text::hex;
use rust_embed::{Embed, EmbeddedFile};

use crate::config::model::{Config, Http};
use crate::http::conditional;
use crate::http::respond::{self, Reply};
use crate::net::sys;

/// Largest file of the folder that is served; pages are small, media does not live there.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What pages may load: their own files, media from the blobs the player makes, and streams of
/// any host. Nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; media-src 'self' blob:; \
    worker-src 'self' blob:; connect-src 'self' ws: wss: http: https:; img-src 'self' data:; \
    object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Everything there is for somebody who asks for something else.
const NOT_FOUND: &str = "nothing is here: this server has /, /healthz, /time, /metrics, the API \
    below /api/v1/ (described by /api/v1/openapi.json), files below /vod/ and, while a stream is \
    live, /APP/NAME with .flv, .m3u8 or .mpd";

#[derive(Embed)]
#[folder = "console/"]
struct Console;

/// One file ready to be sent.
struct Page {
    bytes: Bytes,
    etag: String,
    modified: Option<String>,
}

/// Answers a GET or HEAD of a decoded path.
pub(crate) async fn answer(path: &str, headers: &HeaderMap, config: &Config) -> Reply {
    let Some(relative) = acceptable(path, &config.http) else {
        return not_found();
    };
    let root = config.base_dir.join(&config.http.html_dir);
    let name = relative.clone();
    // Opening and reading may wait for a disk, which must not happen on the shard.
    let on_disk = glommio::executor().spawn_blocking(move || read_page(&root, &name)).await;
    let page = match on_disk {
        Some(page) => page,
        None => match Console::get(&relative) {
            Some(file) => embedded(file),
            None => return not_found(),
        },
    };
    reply(page, content_type(&relative), headers)
}

/// The answer for a path that leads nowhere.
pub(crate) fn not_found() -> Reply {
    respond::text(StatusCode::NOT_FOUND, NOT_FOUND)
}

/// The path below the folder, if it may be served at all: no hidden, empty or odd component, none
/// of the denied folders and extensions.
fn acceptable(path: &str, http: &Http) -> Option<String> {
    let relative = match path.strip_prefix('/')? {
        "" => "index.html",
        other => other,
    };
    if relative.len() > 1024 || relative.chars().any(|c| c.is_control() || c == '\\') {
        return None;
    }
    let parts: Vec<&str> = relative.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || part.starts_with('.') || part.len() > 255) {
        return None;
    }
    let folder = parts.first().filter(|_| parts.len() > 1);
    let denied = |folder: &&str| {
        http.deny_paths.iter().any(|d| d.trim_matches('/').eq_ignore_ascii_case(folder))
    };
    if folder.is_some_and(denied) {
        return None;
    }
    let extension = extension(relative);
    let refused = |denied: &String| denied.trim_start_matches('.').eq_ignore_ascii_case(&extension);
    if http.deny_extensions.iter().any(refused) {
        return None;
    }
    Some(relative.to_owned())
}

fn extension(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.rsplit_once('.').map_or(String::new(), |(_, e)| e.to_ascii_lowercase())
}

fn read_page(root: &Path, relative: &str) -> Option<Page> {
    let file: File = sys::open_beneath(root, relative).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let modified = jiff::Timestamp::from_second(meta.mtime()).ok().and_then(|time| {
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
    });
    let etag = format!("\"{:x}-{:x}-{:x}\"", meta.mtime(), meta.mtime_nsec(), meta.len());
    Some(Page { bytes: bytes.into(), etag, modified })
}

fn embedded(file: EmbeddedFile) -> Page {
    let hash = file.metadata.sha256_hash();
    let tag = hex(&hash[..12]);
    let bytes = match file.data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => bytes.into(),
    };
    Page { bytes, etag: format!("\"{tag}\""), modified: None }
}

fn reply(page: Page, content_type: &'static str, headers: &HeaderMap) -> Reply {
    let mut reply = if is_current(&page, headers) {
        respond::empty(StatusCode::NOT_MODIFIED)
    } else {
        respond::body(StatusCode::OK, content_type, page.bytes)
    };
    respond::set(&mut reply, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    respond::set(&mut reply, header::REFERRER_POLICY, "no-referrer");
    respond::set(&mut reply, header::CACHE_CONTROL, "no-cache");
    respond::set_text(&mut reply, header::ETAG, &page.etag);
    if let Some(modified) = &page.modified {
        respond::set_text(&mut reply, header::LAST_MODIFIED, modified);
    }
    reply
}

/// The peer already has this version (RFC 9110 13.1.2, 13.1.3).
fn is_current(page: &Page, headers: &HeaderMap) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return conditional::has_version(headers, &page.etag);
    }
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    since.is_some() && since == page.modified.as_deref()
}

fn content_type(path: &str) -> &'static str {
    match extension(path).as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" | "license" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "wasm" => "application/wasm",
        "woff2" => "font/woff2",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
