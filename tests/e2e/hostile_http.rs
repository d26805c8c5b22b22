//! Hostile HTTP: slow and smuggling heads, traversal, ranges, WebSocket upgrades, TLS noise; the
//! canary on the same core never notices.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tests::canary::{Canary, NAME};
use tests::server::{Config, Server};
use tests::{http, wait};

const HEAD: Duration = Duration::from_secs(2);

fn config() -> Config {
    Config::default().cores(1).set("http/head_timeout", HEAD.as_secs())
}

#[test]
fn h1_slow_heads() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    let mut silent: Vec<_> =
        (0..300).map(|_| http::connect(server.http).expect("connects")).collect();
    let mut slow = http::connect(server.http).expect("connects");
    let start = Instant::now();
    wait::paced(Duration::from_millis(100), Duration::from_secs(10), || {
        slow.write_all(b"G").is_ok()
    });
    let took = start.elapsed();
    assert!(took < HEAD + Duration::from_secs(3), "a slow head lived for {took:?}");
    for socket in &mut silent {
        let _ = http::read_until_closed(socket, "a silent connection", Duration::from_secs(3));
    }
    canary.verify(&server, "slow heads");
}

#[test]
fn h1_slow_reader() {
    let server = Server::start(&config().set("limits/viewer_stall", 3));
    let Some(mut canary) = Canary::start(&server) else { return };
    canary.verify_stalled_readers(&server, &format!("/live/{NAME}.flv"));
}

#[test]
fn h2_ambiguous_heads_are_refused() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    let many = "X-Y: z\r\n".repeat(20_000);
    let long = "x".repeat(100_000);
    let cases: [(&str, String); 13] = [
        (
            "length and chunks",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        ("negative length", post("Content-Length: -1\r\n", "")),
        ("length of 2^64", post("Content-Length: 18446744073709551616\r\n", "")),
        ("chunk of -1", post("Transfer-Encoding: chunked\r\n", "-1\r\n\r\n")),
        ("endless chunk", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n")),
        ("folded header", get_with("X-Fold: a\r\n b\r\n")),
        ("space before the colon", get_with("Transfer-Encoding : chunked\r\n")),
        ("NUL in a header", get_with("X-Nul: a\0b\r\n")),
        ("20,000 headers", get_with(&many)),
        ("header of 100 kB", get_with(&format!("X-Long: {long}\r\n"))),
        ("line of 100 kB", format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("no HTTP", "EHLO there\r\n\r\n".to_owned()),
    ];
    for (name, bytes) in cases {
        // Refused with a 4xx, or just closed; never accepted.
        if let Ok(answer) = http::exchange(server.http, bytes.as_bytes(), false) {
            let status = answer.status;
            assert!((400..500).contains(&status) || status == 501, "{name}: {status}");
        }
        canary.verify_frames(name);
    }
    canary.verify(&server, "ambiguous heads");
}

#[test]
fn h2_pipelining_and_old_forms() {
    let server = Server::start(&config());
    let mut socket = http::connect(server.http).expect("connects");
    let one = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    socket.write_all((one.repeat(99) + last).as_bytes()).expect("is taken");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("closed after the last");
    let answers = String::from_utf8_lossy(&bytes).matches("HTTP/1.1 200").count();
    assert_eq!(answers, 100);

    // More than is read at once, cut where reads are cut too.
    let mut socket = http::connect(server.http).expect("connects");
    socket.write_all(one.as_bytes()).expect("is taken");
    assert_eq!(http::read_answer(&mut socket, false).expect("an answer").status, 200);
    let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Padding: ";
    let padded = format!("{head}{}\r\n\r\n", "y".repeat(128 - 4 - head.len()));
    socket.write_all(padded.repeat(512).as_bytes()).expect("is taken");
    for number in 0..512 {
        let answer = http::read_answer(&mut socket, false);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(200), "{number}");
    }
    let old = http::exchange(server.http, b"GET /healthz HTTP/1.0\r\n\r\n", false);
    assert_eq!(old.expect("an answer").status, 200);
}

#[test]
fn h3_ranges_of_live_are_ignored() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    for range in ["bytes=-", "bytes=5-2", "bytes=18446744073709551616-", "bytes=0-0,1-1,2-2"] {
        let answer = http::request(server.http, "GET", "/healthz", &[&format!("Range: {range}")]);
        assert!(matches!(answer.status, 200 | 416), "{range}: {}", answer.status);
        let mut socket = http::connect(server.http).expect("connects");
        write!(socket, "GET /live/{NAME}.flv HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n")
            .expect("is taken");
        let mut start = [0; 12];
        socket.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200", "{range}");
    }
    canary.verify(&server, "ranges");
}

#[test]
fn h4_no_way_out_of_the_pages() {
    let server = Server::start(&config());
    let long = format!("/{}", "x".repeat(4096));
    let paths: [&str; 14] = [
        "/../config.xml",
        "/..%2fconfig.xml",
        "/%2e%2e/config.xml",
        "/%2e%2e%2fconfig.xml",
        "/..%5cconfig.xml",
        "/a/../../config.xml",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/config.xml",
        "/config.xml%00.html",
        "/.git/config",
        "/.hidden",
        "/live/../../config.xml",
        &long,
    ];
    for path in paths {
        let answer = http::get(server.http, path);
        let status = answer.status;
        assert!(matches!(status, 400 | 403 | 404 | 414), "{path}: {status}");
        let text = answer.text();
        assert!(!text.contains("<engine>") && !text.contains("root:"), "{path} leaks");
    }
}

#[test]
fn h4_plain_answers() {
    let server = Server::start(&config());
    for (method, path, status) in [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", "/nothing", 404),
        ("HEAD", "/nothing", 404),
        ("GET", "/api/nothing", 404),
        ("GET", "/live/", 404),
        ("DELETE", "/api/live", 405),
        ("POST", "/live/one.flv", 405),
    ] {
        let answer = http::request(server.http, method, path, &[]);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let page = http::get(server.http, "/");
    assert!(page.text().contains("id=\"video\""), "the page has no video element");
    assert!(page.header("content-type").is_some_and(|value| value.starts_with("text/html")));
    let head = http::request(server.http, "HEAD", "/", &[]);
    assert!(head.body.is_empty(), "HEAD has a body");
}

#[test]
fn h4_live_head_and_missing() {
    let server = Server::start(&config().set("rtmp/play_wait", 0));
    let Some(mut canary) = Canary::start(&server) else { return };
    let path = format!("/live/{NAME}.flv");
    assert_eq!(http::request(server.http, "HEAD", &path, &[]).status, 200);
    assert_eq!(http::get(server.http, "/live/missing.flv").status, 404);
    assert_eq!(http::get(server.http, "/live/%2e%2e%2fx.flv").status, 404);
    canary.verify(&server, "live HEAD");
}

#[test]
fn h8_websocket() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    let path = format!("/live/{NAME}.flv");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (name, headers) in [
        ("no key", format!("{upgrade}{version}")),
        ("short key", format!("{upgrade}{version}Sec-WebSocket-Key: x\r\n")),
        ("old version", format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")),
    ] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let answer = http::exchange(server.http, bytes.as_bytes(), false).expect("an answer");
        assert!(matches!(answer.status, 400 | 426), "{name}: {}", answer.status);
    }
    let good = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{upgrade}{key}{version}\r\n");
    let frames: [(&str, &[u8]); 5] = [
        ("no mask", &[0x81, 2, b'h', b'i']),
        ("2^63 bytes", &[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ("fragmented ping", &[0x09, 0x80, 1, 2, 3, 4]),
        ("long ping", &[0x89, 0xFE, 1, 0, 1, 2, 3, 4]),
        ("unknown opcode", &[0x83, 0x80, 1, 2, 3, 4]),
    ];
    for (name, frame) in frames {
        let mut socket = http::connect(server.http).expect("connects");
        socket.write_all(good.as_bytes()).expect("is taken");
        let mut start = [0; 12];
        socket.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 101", "{name}");
        socket.write_all(frame).expect("is taken");
        let _ = http::read_until_closed(&mut socket, name, Duration::from_secs(3));
    }
    canary.verify(&server, "WebSocket");
}

#[test]
fn h9_api() {
    let server = Server::start(&config());
    let bomb = "x".repeat(64 << 20);
    let head =
        format!("POST /api/live HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bomb.len());
    if let Ok(answer) = http::exchange(server.http, (head + &bomb).as_bytes(), false) {
        assert!((400..500).contains(&answer.status), "64 MiB body: {}", answer.status);
    }
    for query in ["app=live&name=../x", "app=&name=", "app=live&name=%00", "name=a&name=b"] {
        let answer = http::get(server.http, &format!("/api/live?{query}"));
        assert!(answer.status < 500, "{query}: {}", answer.status);
    }
    assert!(server.rss_kib() < 512 * 1024, "the body was kept");
}

#[test]
fn h10_labels_cannot_be_forged() {
    let server = Server::start(&config());
    for path in ["/live/a\"} 1.flv", "/live/a%22%7D%0Ax.flv", "/x?\"\n"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: \"x\\\r\n\r\n");
        let _ = http::exchange(server.http, bytes.as_bytes(), false);
    }
    let text = http::get(server.http, "/metrics").text();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "no sample: {line:?}");
    }
}

#[test]
fn tls_noise_on_both_ports() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    for port in [server.http, server.https] {
        for bytes in [&[0x16, 3, 1][..], &[0x16; 5000], &[0x80, 0x2E, 1, 3, 1], &[0; 4096]] {
            let mut socket = http::connect(port).expect("connects");
            let _ = socket.write_all(bytes);
            let bound = Duration::from_secs(14);
            let _ = http::read_until_closed(&mut socket, "TLS noise", bound);
            canary.verify_frames("TLS noise");
        }
    }
    canary.verify(&server, "TLS noise");
}

#[test]
fn connections_leave_nothing_behind() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    for number in 0..1000 {
        let mut socket = http::connect(server.http).expect("connects");
        let _ = match number % 4 {
            0 => Ok(()),
            1 => socket.write_all(b"GET /live/canary.flv HT"),
            2 => write!(socket, "GET /live/{NAME}.flv HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => socket.write_all(b"GET /live/later.flv HTTP/1.1\r\nHost: x\r\n\r\n"),
        };
    }
    canary.verify(&server, "1,000 connections in every state");
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /api/live HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

fn get_with(headers: &str) -> String {
    format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// Request heads damaged at random; what is damaged follows from the number alone.
#[test]
fn h2_damaged_heads() {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    let seeds: [&[u8]; 3] = [
        b"GET /live/x.flv?a=b HTTP/1.1\r\nHost: h:80\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"POST /api/live HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789",
        b"GET /%2e%2e/player.js HTTP/1.0\r\nIf-None-Match: \"a\"\r\nRange: bytes=1-\r\n\r\n",
    ];
    for number in 1..400u64 {
        let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % bound as u64).expect("a small number")
        };
        let mut head = seeds[next(seeds.len())].to_vec();
        for _ in 0..1 + next(4) {
            let at = next(head.len());
            match next(3) {
                0 => head[at] = u8::try_from(next(256)).expect("a byte"),
                1 => head.extend_from_within(..at),
                _ => drop(head.drain(at..(at + 3).min(head.len()))),
            }
            if head.is_empty() {
                head.push(b'G');
            }
        }
        let mut stream = http::connect(server.http).expect("the server accepts");
        // It may close in the middle of what it refuses.
        let _ = stream.write_all(&head).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let _ = stream.read(&mut [0; 4096]);
    }
    canary.verify(&server, "400 damaged heads");
}
