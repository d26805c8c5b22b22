//! Files on demand: whole, in ranges, conditionally, as HLS, uploaded; and what is never served.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::clients;
use tests::http::{self, Answer};
use tests::media::Clip;
use tests::process::Process;
use tests::server::{Config, Server};

/// A server with the clip as `vod/sub/clip.mp4`, and the clip's bytes.
fn serving() -> Option<(Server, Vec<u8>)> {
    let bytes = std::fs::read(Clip::H264Aac.file()?).expect("the clip is there");
    let server = Server::start(&Config::default());
    let folder = server.folder().join("vod/sub");
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    std::fs::write(folder.join("clip.mp4"), &bytes).expect("the folder is ours");
    std::fs::write(server.folder().join("vod/.hidden"), "secret").expect("the folder is ours");
    Some((server, bytes))
}

const PATH: &str = "/vod/sub/clip.mp4";

fn ask(server: &Server, headers: &[&str]) -> Answer {
    http::request(server.http, "GET", PATH, headers)
}

#[test]
fn ranges_and_conditions() {
    let Some((server, bytes)) = serving() else { return };
    let whole = ask(&server, &[]);
    assert!(whole.status == 200 && whole.body == bytes);
    assert_eq!(whole.header("content-type"), Some("video/mp4"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let head = http::request(server.http, "HEAD", PATH, &[]);
    assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert!(head.body.is_empty());

    let last = bytes.len() - 1;
    for (range, expected) in [
        ("bytes=0-0".to_owned(), &bytes[..1]),
        ("bytes=100-199".to_owned(), &bytes[100..200]),
        (format!("bytes={}-", last - 9), &bytes[last - 9..]),
        ("bytes=-10".to_owned(), &bytes[last - 9..]),
        (format!("bytes=5-{}", last + 1000), &bytes[5..]),
    ] {
        let part = ask(&server, &[&format!("Range: {range}")]);
        assert!(part.status == 206 && part.body == expected, "{range}: {}", part.status);
    }
    let beyond = ask(&server, &[&format!("Range: bytes={}-", last + 1)]);
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{}", last + 1).as_str()));
    let several = ask(&server, &["Range: bytes=0-9,20-29"]);
    assert_eq!(several.status, 206);
    assert!(several.header("content-type").is_some_and(|v| v.starts_with("multipart/byteranges")));
    let abuse = vec!["0-"; 500].join(",");
    let abused = ask(&server, &[&format!("Range: bytes={abuse}")]);
    assert!(abused.body.len() <= bytes.len(), "{} bytes", abused.body.len());

    let tag = whole.header("etag").expect("a tag").to_owned();
    assert_eq!(ask(&server, &[&format!("If-None-Match: {tag}")]).status, 304);
    assert_eq!(ask(&server, &["If-Match: \"other\""]).status, 412);
    let current = ask(&server, &[&format!("If-Range: {tag}"), "Range: bytes=0-9"]);
    assert_eq!((current.status, current.body.len()), (206, 10));
    let stale = ask(&server, &["If-Range: \"other\"", "Range: bytes=0-9"]);
    assert_eq!((stale.status, stale.body.len()), (200, bytes.len()));
}

#[test]
fn a_connection_goes_on_after_a_file() {
    let Some((server, bytes)) = serving() else { return };
    let mut socket = http::connect(server.http).expect("connects");
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-999999\r\n\r\n");
    // Two at once: what is read ahead of the first answer must not be lost.
    socket.write_all(request.repeat(2).as_bytes()).expect("sends");
    let mut seen = Vec::new();
    let part = &bytes[..1_000_000.min(bytes.len())];
    let mut buffer = vec![0; 1 << 16];
    while seen.len() < 2 * part.len() + 200 {
        let count = socket.read(&mut buffer).expect("answers");
        assert!(count > 0, "closed after {} bytes", seen.len());
        seen.extend_from_slice(&buffer[..count]);
        if seen.ends_with(part) && seen.len() > 2 * part.len() {
            break;
        }
    }
    let heads = seen.windows(12).filter(|text| text == b"HTTP/1.1 206").count();
    assert_eq!(heads, 2);
}

#[test]
fn nothing_outside_is_served() {
    let Some((server, _)) = serving() else { return };
    std::os::unix::fs::symlink("/etc", server.folder().join("vod/link")).expect("a link");
    for path in [
        "/vod/../config.xml",
        "/vod/%2e%2e/config.xml",
        "/vod/sub/..%2f..%2fconfig.xml",
        "/vod/sub/%2e%2e/%2e%2e/config.xml",
        "/vod//etc/passwd",
        "/vod/link/passwd",
        "/vod/.hidden",
        "/vod/sub",
        "/vod/sub/",
        "/vod/sub%00/clip.mp4",
        "/vod/sub\\clip.mp4",
        "/vod/nothing.mp4",
    ] {
        let status = http::get(server.http, path).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
}

#[test]
fn an_mp4_plays_as_it_is_and_as_hls() {
    let Some((server, _)) = serving() else { return };
    for path in [PATH, "/vod/sub/clip.mp4.m3u8"] {
        let url = format!("http://127.0.0.1:{}{path}", server.http);
        let Some(decoded) = clients::ffmpeg_decode(&url, 8) else { return };
        assert_eq!(decoded.complaints, Vec::<String>::new(), "{path}");
        assert!(decoded.pictures >= 190, "{path}: {} pictures", decoded.pictures);
    }
}

fn upload(server: &Server, file: &Path, path: &str) -> Option<String> {
    let mut command = Command::new(clients::tool("curl")?);
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-F"]);
    command.arg(format!("file=@{}", file.display()));
    command.arg(format!("http://127.0.0.1:{}{path}", server.http));
    Some(Process::run("curl", command, Duration::from_secs(20)).stdout_text())
}

#[test]
fn what_is_uploaded_can_be_fetched() {
    let Some((server, bytes)) = serving() else { return };
    let file = server.folder().join("vod/sub/clip.mp4");
    let Some(status) = upload(&server, &file, "/vod/new.mp4") else { return };
    assert_eq!(status, "201");
    assert!(http::get(server.http, "/vod/new.mp4").body == bytes);
    let left = std::fs::read_dir(server.folder().join("vod")).expect("the folder is ours");
    let names = left.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.contains("tmp") || name.contains("part")).count(), 0);
    assert_eq!(upload(&server, &file, "/vod/new.mp4").as_deref(), Some("409"), "it is there");
    assert_eq!(upload(&server, &file, "/vod/new.mp4?overwrite=1").as_deref(), Some("201"));
    let outside = upload(&server, &file, "/vod/..%2fnew.mp4");
    assert!(outside.is_some_and(|status| status == "400" || status == "404" || status == "403"));
}
