//! Files over real sockets: what `sendfile` sends, and that a connection goes on after it.

use super::*;

const BYTES: usize = 900_000;

fn content() -> Vec<u8> {
    (0..BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn start_with_file(name: &str) -> (Server, Vec<u8>) {
    let server = start_with(name, |config| config.http.vod_dir = config.base_dir.join("vod"));
    std::fs::create_dir_all(server.base.join("vod/deep")).unwrap();
    std::fs::write(server.base.join("vod/deep/film.mp4"), content()).unwrap();
    (server, content())
}

fn raw_bytes(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes).unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    reply
}

/// Splits the first answer off: its head, its body, and the rest.
fn answer(bytes: &[u8]) -> (String, &[u8], &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.expect("a length").parse::<usize>().unwrap();
    let (body, rest) = bytes[end..].split_at(length);
    (head, body, rest)
}

/// Caches that others share keep what is `public`, credentials or not.
#[test]
fn what_was_asked_for_with_a_credential_is_private() {
    let (server, _) = start_with_file("files-private");
    for (header, caching) in [
        ("", "cache-control: public, max-age=60\r\n"),
        ("Authorization: Basic dTpw\r\n", "cache-control: private, max-age=60\r\n"),
    ] {
        let first = format!("{WHOLE}{header}\r\n");
        // Past the library, and by it: it reads bodies.
        let last = format!("{WHOLE}{header}Content-Length: 1\r\nConnection: close\r\n\r\nx");
        let all = raw_bytes(server.port, [first, last].concat().as_bytes());
        let (head, _, rest) = answer(&all);
        assert!(head.contains(caching), "{head}");
        let (head, ..) = answer(rest);
        assert!(head.contains(caching), "{head}");
    }
}

const WHOLE: &str = "GET /vod/deep/film.mp4 HTTP/1.1\r\nHost: h\r\n";

#[test]
fn answers_with_and_without_files_follow_each_other() {
    let (server, content) = start_with_file("files-follow");
    let health = "GET /healthz HTTP/1.1\r\nHost: h\r\n";
    let requests = [
        format!("{WHOLE}\r\n"),
        format!("{health}\r\n"),
        format!("{WHOLE}Range: bytes=100000-\r\n\r\n"),
        format!("{WHOLE}Range: bytes=0-9\r\n\r\n"),
        format!("{WHOLE}Range: bytes=800000-899999,0-99999\r\n\r\n"),
        // A body nobody wants: the connection closes after it, so it is the last.
        format!("{WHOLE}Content-Length: 5\r\nConnection: close\r\n\r\nhello"),
    ];
    let all = raw_bytes(server.port, requests.concat().as_bytes());
    let (head, body, rest) = answer(&all);
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.contains("video/mp4"), "{head}");
    assert!(head.contains("\r\ndate: ") && head.contains("nosniff"), "{head}");
    assert_eq!(body, content);
    let (_, body, rest) = answer(rest);
    assert_eq!(body, b"ok\n");
    let (head, body, rest) = answer(rest);
    assert!(head.starts_with("http/1.1 206 ") && head.contains("bytes 100000-899999/900000"));
    assert_eq!(body, &content[100_000..]);
    let (_, body, rest) = answer(rest);
    assert_eq!(body, &content[..10]);
    let (head, body, rest) = answer(rest);
    let boundary = head.split("boundary=").nth(1).unwrap().lines().next().unwrap();
    let text = |range: &str| {
        let head = "Content-Type: video/mp4\r\nContent-Range: bytes ";
        format!("\r\n--{boundary}\r\n{head}{range}/900000\r\n\r\n").into_bytes()
    };
    let expected = [
        text("800000-899999"),
        content[800_000..].to_vec(),
        text("0-99999"),
        content[..100_000].to_vec(),
        format!("\r\n--{boundary}--\r\n").into_bytes(),
    ];
    assert_eq!(body, expected.concat());
    let (head, body, rest) = answer(rest);
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!((body, rest), (&content[..], &b""[..]));
}

#[test]
fn old_peers_keep_a_connection_only_if_they_say_so() {
    let (server, content) = start_with_file("files-old");
    let old = "GET /vod/deep/film.mp4 HTTP/1.0\r\n";
    let all = raw_bytes(server.port, format!("{old}\r\n{old}\r\n").as_bytes());
    let (head, body, rest) = answer(&all);
    assert!(head.starts_with("http/1.0 200") && head.contains("connection: close"), "{head}");
    assert_eq!((body, rest), (&content[..], &b""[..]));
    let kept = format!("{old}Connection: keep-alive\r\n\r\n{old}\r\n");
    let all = raw_bytes(server.port, kept.as_bytes());
    let (head, body, rest) = answer(&all);
    assert!(head.contains("connection: keep-alive"), "{head}");
    assert_eq!(body, content);
    assert_eq!(answer(rest).1, content);
}

#[test]
fn files_over_tls_and_http2_are_the_same_bytes() {
    let (server, content) = start_with_file("files-tls");
    let out = server.base.join("got");
    for (base, version) in [("http", "--http1.1"), ("https", "--http1.1"), ("https", "--http2")] {
        let url = format!("{base}://localhost:{}/vod/deep/film.mp4", server.port);
        let to = ["-o", out.to_str().unwrap(), version, &url];
        let Some(said) = curl(&to) else { return };
        assert!(said.ends_with("|200"), "{base} {version}: {said}");
        assert!(std::fs::read(&out).unwrap() == content, "{base} {version}");
        let said = curl(&[&to[..], &["-r", "5-700000"]].concat()).unwrap();
        assert!(said.ends_with("|206"), "{base} {version}: {said}");
        assert!(std::fs::read(&out).unwrap() == content[5..=700_000], "{base} {version}");
    }
}

#[test]
fn a_file_that_shrinks_or_changes_ends_the_connection() {
    let (server, _) = start_with_file("files-shrink");
    let path = server.base.join("vod/large.mp4");
    let length = 32 << 20;
    for (change, name) in [(true, "shrinks"), (false, "changes")] {
        std::fs::write(&path, vec![7; length]).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(b"GET /vod/large.mp4 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut first = [0; 1000];
        socket.read_exact(&mut first).unwrap();
        // The kernel holds a few megabytes at most, so the rest has not been read yet.
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        if change {
            file.set_len(1000).unwrap();
        } else {
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < length - 1000, "a file that {name} is not sent to its end");
    }
    let end = Instant::now() + Duration::from_secs(5);
    while server.reasons.lock().unwrap().len() < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(*server.reasons.lock().unwrap(), ["file_changed", "file_changed"]);
}

#[test]
fn conditions_and_errors_of_files() {
    let (server, _) = start_with_file("files-conditions");
    let ask = |path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n");
        String::from_utf8_lossy(&raw_bytes(server.port, request.as_bytes())).to_lowercase()
    };
    let film = "/vod/deep/film.mp4";
    let head = ask(film, "Range: bytes=0-0\r\n");
    let value = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)).expect("the header");
        line.to_owned()
    };
    let (etag, modified) = (value("etag: "), value("last-modified: "));
    let current = ask(film, &format!("If-None-Match: {etag}\r\n"));
    assert!(current.starts_with("http/1.1 304") && current.contains(&etag), "{current}");
    for (more, status) in [
        (format!("If-Match: {etag}\r\nRange: bytes=1-1\r\n"), "206"),
        ("If-Match: \"other\"\r\n".to_owned(), "412"),
        (format!("If-Range: {etag}\r\nRange: bytes=1-1\r\n"), "206"),
        ("If-Range: \"other\"\r\nRange: bytes=1-1\r\n".to_owned(), "200"),
        ("Range: bytes=900000-\r\n".to_owned(), "416"),
        ("Range: bytes=1-2\r\nRange: bytes=3-4\r\n".to_owned(), "416"),
        ("Range: bytes=9-1\r\n".to_owned(), "416"),
    ] {
        let got = ask(film, &more);
        assert!(got.starts_with(&format!("http/1.1 {status}")), "{more}: {got:.80}");
        assert!(got.contains("access-control-allow-origin: *"), "{more}: {got:.800}");
    }
    assert!(ask(film, "Range: bytes=-0\r\n").contains("content-range: bytes */900000\r\n"));
    let since = ask(film, &format!("If-Modified-Since: {}\r\n", modified.to_uppercase()));
    assert!(since.starts_with("http/1.1 200") || since.starts_with("http/1.1 304"), "{since:.80}");
    for path in ["/vod", "/vod/", "/vod/deep", "/vod/deep/", "/vod/none", "/vod/deep/film.mp4/x"] {
        let got = ask(path, "");
        assert!(got.starts_with("http/1.1 404") && got.contains("no such file"), "{path}: {got}");
    }
    let not_mp4 = ask("/vod/deep/film.mp4.m3u8", "");
    assert!(not_mp4.starts_with("http/1.1 415"), "{not_mp4}");
}
