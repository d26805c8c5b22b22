//! Tests of what may be served and of conditional requests.

use super::*;

fn http() -> Http {
    Http {
        deny_extensions: vec!["key".into(), "xml".into()],
        deny_paths: vec!["private".into()],
        ..Config::default().http
    }
}

#[test]
fn only_plain_paths_are_acceptable() {
    let http = http();
    assert_eq!(acceptable("/", &http).as_deref(), Some("index.html"));
    assert_eq!(acceptable("/a/b.js", &http).as_deref(), Some("a/b.js"));
    let long = format!("/{}", "x".repeat(4096));
    for path in [
        "",
        "x",
        "//etc/passwd",
        "/../config.xml",
        "/a/../b",
        "/..\\c",
        "/.hidden",
        "/a/.git/x",
        "/a\0b",
        "/a/",
        "/server.KEY",
        "/config.xml",
        "/private/x.html",
        "/PRIVATE/x.html",
        &long,
    ] {
        assert_eq!(acceptable(path, &http), None, "{path:?}");
    }
}

#[test]
fn the_folder_serves_regular_files_only() {
    let root = std::env::temp_dir().join(format!("html-{}", std::process::id()));
    std::fs::create_dir_all(root.join("folder")).unwrap();
    std::fs::write(root.join("page.html"), b"page").unwrap();
    std::fs::write(root.join("../html-outside"), b"s").unwrap();
    let _ = std::os::unix::fs::symlink(root.join("page.html"), root.join("link.html"));
    let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status();
    assert_eq!(&read_page(&root, "page.html").unwrap().bytes[..], b"page");
    for path in ["folder", "link.html", "none.html", "../html-outside"] {
        assert!(read_page(&root, path).is_none(), "{path}");
    }
    if fifo.is_ok_and(|s| s.success()) {
        assert!(read_page(&root, "fifo").is_none(), "a FIFO neither waits nor serves");
    }
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::remove_file(root.with_file_name("html-outside")).unwrap();
}

#[test]
fn a_known_tag_saves_the_body() {
    let page = || embedded(Console::get("index.html").unwrap());
    let etag = page().etag;
    for (value, status) in [
        (etag.clone(), 304),
        (format!("\"x\", W/{etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
        assert_eq!(reply(page(), "text/html", &headers).status(), status, "{value}");
    }
}
