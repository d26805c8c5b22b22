//! `/api/vod`: which folders and files there are, a page at a time.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::source::Container;
use super::{name, off_shard};
use crate::config::model::Config;
use crate::http::respond::{self, Reply};
use crate::http::urls;
use crate::net::sys_file::Directory;

/// Most entries of one folder that are read; more are not listed.
const ENTRIES_MAX: usize = 100_000;
/// Most files of one page, and how many without `limit`.
const PAGE_FILES_MAX: usize = 1000;

/// Whether a decoded path asks for a listing.
pub(crate) fn is_listing(path: &str) -> bool {
    path == "/api/vod" || path.starts_with("/api/vod/")
}

/// Answers a permitted GET or HEAD of `/api/vod[/DIR…]?[dir=DIR][&page=N][&limit=N]`. Folders are
/// on the first page, files on all.
pub(crate) async fn list(path: &str, query: &str, config: &Config) -> Reply {
    let number = |key, usual, max| match urls::query_value(query, key) {
        None => Some(usual),
        Some(text) => text.parse::<usize>().ok().filter(|number| (1..=max).contains(number)),
    };
    let (Some(page), Some(limit)) =
        (number("page", 1, ENTRIES_MAX), number("limit", PAGE_FILES_MAX, PAGE_FILES_MAX))
    else {
        return error(StatusCode::BAD_REQUEST, "page counts from 1, limit is at most 1000");
    };
    let in_path = path.strip_prefix("/api/vod").unwrap_or_default();
    let folder = urls::query_value(query, "dir").unwrap_or_else(|| in_path.to_owned());
    let folder = folder.trim_matches('/').to_owned();
    if !folder.is_empty() && !name::is_path(&folder) {
        return error(StatusCode::NOT_FOUND, "no such folder");
    }
    let root = config.http.vod_dir.clone();
    let listed = off_shard(move || {
        let entries = read(&root, &folder)?;
        Ok(render(&entries, &folder, page, limit))
    });
    match listed.await {
        Ok(value) => respond::json(StatusCode::OK, &value),
        Err(e) => missing(&e),
    }
}

fn missing(error_: &io::Error) -> Reply {
    if super::is_shortage(error_) {
        return error(StatusCode::SERVICE_UNAVAILABLE, super::BUSY);
    }
    error(StatusCode::NOT_FOUND, "no such folder")
}

fn error(status: StatusCode, sentence: &str) -> Reply {
    respond::json(status, &json!({ "error": sentence }))
}

/// What one folder holds that may be served, each sorted by name.
#[derive(Debug, Default)]
struct Entries {
    folders: Vec<String>,
    files: Vec<Listed>,
}

#[derive(Debug)]
struct Listed {
    name: String,
    bytes: u64,
    modified_s: i64,
}

fn read(root: &Path, folder: &str) -> io::Result<Entries> {
    let mut entries = Entries::default();
    let handle = match Directory::beneath(root, folder) {
        Ok(handle) => handle,
        // Without any file yet there need be no folder.
        Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_empty() => return Ok(entries),
        Err(e) => return Err(e),
    };
    let path = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
    for entry in fs::read_dir(path)?.take(ENTRIES_MAX) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name::is_component(&name) {
            continue;
        }
        // Of a link itself, which is neither and is not served either.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            entries.folders.push(name);
        } else if meta.is_file() {
            entries.files.push(Listed { name, bytes: meta.len(), modified_s: meta.mtime() });
        }
    }
    entries.folders.sort_unstable();
    entries.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// `dirs` and `files` are what older tools read; `info` tells more of the same files.
fn render(entries: &Entries, folder: &str, page: usize, limit: usize) -> Value {
    let files = entries.files.iter().skip((page - 1).saturating_mul(limit)).take(limit);
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let info: Vec<Value> = files
        .clone()
        .map(|file| {
            let url = urls::percent_encode(&format!("/vod/{prefix}{}", file.name));
            let hls = Container::of(&file.name).map(|_| format!("{url}.m3u8"));
            json!({
                "name": file.name,
                "bytes": file.bytes,
                "modified": jiff::Timestamp::from_second(file.modified_s).ok().map(|t| t.to_string()),
                "url": url,
                "hls": hls,
            })
        })
        .collect();
    json!({
        "dirs": if page == 1 { entries.folders.as_slice() } else { &[] },
        "files": files.map(|file| file.name.as_str()).collect::<Vec<_>>(),
        "info": info,
        "page": page,
        "pages": entries.files.len().div_ceil(limit).max(1),
        "total": entries.files.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_hold_what_may_be_served_in_pages() {
        let root = std::env::temp_dir().join(format!("vod-list-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        assert_eq!(render(&read(&root, "").unwrap(), "", 1, 10)["total"], 0);
        fs::create_dir_all(root.join("a dir")).unwrap();
        for name in ["b.mp4", "a.ts", "d.flv", ".hidden", "c\u{7}"] {
            fs::write(root.join(name), name).unwrap();
        }
        fs::write(root.join("a dir/é.mp4"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let all = render(&read(&root, "").unwrap(), "", 1, 10);
        assert_eq!(all["dirs"], json!(["a dir"]));
        assert_eq!(all["files"], json!(["a.ts", "b.mp4", "d.flv"]));
        assert_eq!(all["info"][1]["hls"], "/vod/b.mp4.m3u8");
        assert_eq!(all["info"][0]["hls"], "/vod/a.ts.m3u8");
        assert_eq!((&all["info"][2]["hls"], &all["info"][0]["bytes"]), (&Value::Null, &json!(4)));
        let second = render(&read(&root, "").unwrap(), "", 2, 1);
        assert_eq!((&second["dirs"], &second["files"]), (&json!([]), &json!(["b.mp4"])));
        assert_eq!((&second["pages"], &second["total"]), (&json!(3), &json!(3)));
        let inner = render(&read(&root, "a dir").unwrap(), "a dir", 1, 10);
        assert_eq!(inner["info"][0]["url"], "/vod/a%20dir/%C3%A9.mp4");
        assert!(read(&root, "b.mp4").is_err() && read(&root, "none").is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
