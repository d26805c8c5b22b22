//! The driver against real sockets: curl over plain, TLS and HTTP/2, and raw bytes.

use super::*;
use crate::auth::{By, Question, Reason, Role};
use crate::config::Config;
use crate::config::model::Ssl;
use crate::http::api::{Admission, Backend, ServiceState, StatusInfo, StreamInfo, Totals};
use crate::net::awaited::Awaited;
use crate::net::tls::{Purpose, TlsContext};
use crate::observe::{PullReport, Viewers};
use crate::reload::Reloader;
use crate::segment::{Packaging, Snapshot};
use crate::shard::sessions::{SessionPage, SessionQuery};
use crate::shard::{Absent, Wanted};
use crate::shard::{Kick, Kicked};
use crate::timeshift::Refused;
use futures_lite::future::BoxedLocal;
use glommio::LocalExecutorBuilder;
use glommio::timer::Timer;
use protocols::media::{Codec, StreamKey, Track, Tracks, VideoInfo};
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

const MEDIA_BODY: &str = "the plane has the socket";

struct Fake(Arc<Config>, u16);

impl Backend for Fake {
    fn admission(&self, question: &Question, _: Option<&str>) -> Admission {
        // The address of the API's only user, and an answer that takes its time.
        let home = question.at_home || question.role != Role::Api;
        let verdict = if home { Ok(By::Open) } else { Err(Reason::NoCredential) };
        match question.query.value("answer").as_deref() {
            Some("late") => Admission::Pending(Box::pin(async { Err(Reason::Refused) })),
            _ => Admission::Settled(verdict),
        }
    }
    fn lets_all(&self, _: Role) -> bool {
        false
    }
    fn challenge(&self, _: Role) -> Option<&'static str> {
        Some("Bearer")
    }
    fn config(&self) -> Arc<Config> {
        self.0.clone()
    }
    fn segments(
        &self,
        _: StreamKey,
        _: Packaging,
        _: Wanted,
        _: Duration,
    ) -> BoxedLocal<Result<Arc<Snapshot>, Absent>> {
        Box::pin(async { Err(Absent::NotFound) })
    }
    fn shift(&self, key: StreamKey) -> BoxedLocal<Result<(), Refused>> {
        // Nothing reaches back as far as a minute.
        let reach = if key.delay_s() < 60 { Ok(()) } else { Err(Refused::Reach(12)) };
        Box::pin(async move { reach })
    }
    fn streams(&self) -> BoxedLocal<Vec<StreamInfo>> {
        let video = Track {
            codec: Codec::H264,
            config: Bytes::new(),
            info: VideoInfo { width: 1280, height: 720, frame_rate: 29.97 },
        };
        let mut viewers = Viewers::default();
        viewers.count("rtmp", 1);
        viewers.count("http-flv", 2);
        viewers.count("ws-flv", 3);
        let stream = |vhost: &str, name: &str| StreamInfo {
            vhost: vhost.into(),
            app: "live".into(),
            name: name.into(),
            publisher_host: "pub.example".into(),
            publisher_port: None,
            from: "rtmp",
            source: None,
            agent: String::new(),
            session: None,
            peer: None,
            uptime: Duration::from_secs(2),
            bytes_in: 100,
            bits_per_second: 2e6,
            gop_frames: 50,
            tracks: Tracks { video: Some(video.clone()), ..Tracks::default() }.shared(),
            viewers: viewers.clone(),
            forwards: Vec::new(),
        };
        let all = vec![stream("", "b c"), stream("v.example", "x"), stream("", "a")];
        Box::pin(async move { all })
    }
    fn metrics(&self) -> BoxedLocal<String> {
        Box::pin(async { "smart_rtmpd_up 1\n".to_owned() })
    }
    fn status(&self) -> StatusInfo {
        let service = ServiceState { port: self.1, running: true, ssl: false };
        let rtmp = ServiceState { port: 1935, ..service };
        let rtsp = ServiceState { port: 8554, ..service };
        StatusInfo { start_unix_s: 0, rtmp, rtsp, http: service, https: service }
    }
    fn sessions(&self, _: SessionQuery) -> BoxedLocal<SessionPage> {
        Box::pin(async { SessionPage::default() })
    }
    fn kick(&self, _: Kick) -> BoxedLocal<Option<Kicked>> {
        Box::pin(async { Some(Kicked::default()) })
    }
    fn pulls(&self) -> BoxedLocal<Vec<PullReport>> {
        Box::pin(async { Default::default() })
    }
    fn totals(&self) -> BoxedLocal<Totals> {
        Box::pin(async { Totals::default() })
    }
    fn reloader(&self) -> Option<Arc<Reloader>> {
        None
    }
}

fn config(base: PathBuf) -> Config {
    let mut config = Config { base_dir: base, ..Config::default() };
    config.vhosts = vec!["v.example".into()];
    config.http.html_dir = "html".into();
    config.http.body_bytes_max = 1000;
    config.http.head_timeout = Duration::from_secs(20);
    config.http.keepalive_timeout = Duration::from_secs(20);
    config.http.api_allow = Vec::new();
    config
}

/// One server for all tests: first byte 0x16 means TLS, as on the real port.
struct Server {
    port: u16,
    media: mpsc::Receiver<(MediaRequest, Vec<u8>)>,
    reasons: Arc<Mutex<Vec<&'static str>>>,
    base: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn start(name: &str) -> Server {
    start_with(name, |_| ())
}

fn start_with(name: &str, change: impl FnOnce(&mut Config)) -> Server {
    let base = std::env::temp_dir().join(format!("http-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&base).unwrap();
    let tls = TlsContext::load(&Ssl::default(), &base).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to_test, media) = mpsc::channel();
    let (to_shard, sockets) = mpsc::channel::<(TcpStream, SocketAddr)>();
    let reasons: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let closed = reasons.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let peer = socket.peer_addr().unwrap();
            let _ = to_shard.send((socket, peer));
        }
    });
    let mut config = config(base.clone());
    change(&mut config);
    let config = Arc::new(config);
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(64);
    executor
        .spawn(move || async move {
            let ctx = Rc::new(HttpContext::new(Rc::new(Fake(config, port))));
            let tls = Rc::new(tls);
            loop {
                while let Ok((socket, peer)) = sockets.try_recv() {
                    let (ctx, tls) = (ctx.clone(), tls.clone());
                    let (to_test, closed) = (to_test.clone(), closed.clone());
                    glommio::spawn_local(async move {
                        let outcome = connection(socket, peer, ctx, &tls).await;
                        match outcome {
                            Outcome::Closed { reason, .. } => closed.lock().unwrap().push(reason),
                            Outcome::Media(handoff) => plane(*handoff, &to_test),
                        }
                    })
                    .detach();
                }
                Timer::new(Duration::from_millis(2)).await;
            }
        })
        .unwrap();
    Server { port, media, reasons, base }
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    ctx: Rc<HttpContext>,
    tls: &TlsContext,
) -> Outcome {
    let mut first = [0];
    socket.set_nonblocking(true).unwrap();
    while socket.peek(&mut first).is_err() {
        Timer::new(Duration::from_millis(1)).await;
    }
    let tls = (first[0] == 0x16).then(|| tls.accept(Purpose::Http).unwrap());
    let socket = Awaited::of_executor(socket.into()).unwrap();
    serve(Io::new(socket, tls, BytesMut::new()), peer, ctx).await
}

/// Plays the media plane: answers in its own way and closes.
fn plane(handoff: MediaHandoff, to_test: &mpsc::Sender<(MediaRequest, Vec<u8>)>) {
    let mut socket = TcpStream::from(handoff.fd);
    let _ = socket.set_nonblocking(false);
    let reply = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{MEDIA_BODY}");
    if let Some(mut tls) = handoff.tls {
        let mut cipher = Vec::new();
        tls.send(&[IoSlice::new(reply.as_bytes())], &mut cipher);
        tls.close(&mut cipher);
        let _ = socket.write_all(&cipher);
    } else {
        let _ = socket.write_all(reply.as_bytes());
    }
    let _ = to_test.send((handoff.request, handoff.leftover.to_vec()));
}

fn raw(port: u16, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = socket.write_all(bytes);
    let mut reply = Vec::new();
    let _ = socket.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

/// Runs curl; `None` (said aloud) when it is not there.
fn curl(arguments: &[&str]) -> Option<String> {
    let common = ["-sk", "--max-time", "20", "-w", "|%{http_version}|%{http_code}"];
    match Command::new("curl").args(common).args(arguments).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            eprintln!("SKIPPED: curl is missing, HTTP is tested with raw bytes only");
            None
        }
    }
}

#[test]
fn pages_and_api_over_plain_tls_and_http2() {
    let server = start("curl");
    let plain = format!("http://127.0.0.1:{}", server.port);
    let secure = format!("https://localhost:{}", server.port);
    for (base, flags, version) in
        [(&plain, "--http1.1", "1.1"), (&secure, "--http1.1", "1.1"), (&secure, "--http2", "2")]
    {
        let get = |path: &str, more: &[&str]| {
            let url = format!("{base}{path}");
            curl(&[&[flags, "-S", "--stderr", "-", "--path-as-is", &url], more].concat())
        };
        let Some(health) = get("/healthz", &[]) else {
            return;
        };
        assert_eq!(health, format!("ok\n|{version}|200"));
        let time = get("/time", &[]).unwrap();
        let (time, rest) = time.split_once('|').unwrap();
        assert_eq!(rest, format!("{version}|200"));
        let age = jiff::Timestamp::now() - time.parse::<jiff::Timestamp>().unwrap();
        assert!(age.get_seconds().abs() < 60, "{time}");
        assert!(get("/metrics", &[]).unwrap().starts_with("smart_rtmpd_up 1\n"));
        assert!(get("/", &[]).unwrap().contains("<!doctype html>"));
        let page = get("/", &["-I"]).unwrap();
        assert!(page.contains("content-security-policy: default-src 'self'"), "{page}");
        assert!(page.contains("nosniff") && !page.contains("access-control"), "{page}");
        let list = get("/api/live", &[]).unwrap();
        assert!(list.contains("/live/b%20c\""), "{list}");
        let one = get("/api/live?vhost=anything:1935&app=live&name=b%20c", &[]).unwrap();
        let ws = format!("{}/live/b%20c.flv", base.replacen("http", "ws", 1));
        assert!(one.contains(&ws) && one.contains("\"duration\":\"PT2S\""), "{one}");
        let count = get("/api/live?name=a&cmd=count", &[]).unwrap();
        assert!(count.starts_with("rtmp:1\nflv:2\nrtsp:0\nws:3\n"), "{count}");
        let vhost = get("/api/live?vhost=V.example&name=x", &[]).unwrap();
        assert!(vhost.contains("rtmp://v.example:1935/live/x"), "{vhost}");
        assert!(get("/api/live?name=none", &[]).unwrap().ends_with("|404"));
        let list = get("/api/live", &["-D", "-"]).unwrap();
        assert!(list.contains("no-store") && !list.contains("allow-origin"), "{list}");
        assert!(get("/api/status", &[]).unwrap().contains("\"rtmp\":{\"port\":1935"));
        for path in ["/nothing", "/%2e%2e/x", "/../x", "/live/../x.flv", "/live/a%00.flv", "/api"] {
            assert!(get(path, &[]).unwrap().ends_with("|404"), "{path}");
        }
        let wrong = get("/healthz", &["-X", "POST", "-D", "-", "-d", "x"]).unwrap();
        assert!(wrong.contains("allow: GET, HEAD") && wrong.ends_with("|405"), "{wrong}");
        let head = get("/live/a.flv", &["-I"]).unwrap();
        assert!(head.contains("content-type: video/x-flv"), "{head}");
        assert!(get("/live/a.flv", &["-X", "OPTIONS"]).unwrap().ends_with("|204"));
        // Over HTTP/2 the stream is refused with HTTP_1_1_REQUIRED and curl comes again.
        let media = get("/live/cam/a%20b.flv?token=1", &[]).unwrap();
        assert_eq!(media, format!("{MEDIA_BODY}|1.1|200"), "asked over {version}");
        let (request, _) = server.media.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "cam/a b"));
        assert_eq!((request.query.as_str(), request.port), ("token=1", Some(server.port)));
        assert!(request.agent.starts_with("curl/") && request.keep_http11);
    }
}

#[test]
fn pipelined_answers_precede_media_and_later_bytes_follow_it() {
    let server = start("pipeline");
    let mut bytes = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".repeat(50);
    bytes.extend(b"GET /live/x.flv HTTP/1.1\r\nHost: h:8\r\n\r\nafterwards");
    let reply = raw(server.port, &bytes);
    assert_eq!(reply.matches("\r\n\r\nok\n").count(), 50, "{reply}");
    assert!(reply.ends_with(MEDIA_BODY), "{reply}");
    let (request, leftover) = server.media.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((request.host.as_str(), request.port), ("h", Some(8)));
    assert_eq!(
        (request.kind, &leftover[..]),
        (MediaKind { container: Container::Flv, websocket: false }, &b"afterwards"[..])
    );
}

#[test]
fn websocket_requests_reach_the_plane_or_are_refused() {
    let server = start("ws");
    let request = |version: &str, key: &str| {
        format!(
            "GET /live/x.flv HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        )
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    assert!(raw(server.port, request("13", key).as_bytes()).ends_with(MEDIA_BODY));
    let (request_seen, _) = server.media.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(request_seen.kind.websocket);
    let accept = request_seen.websocket_accept.unwrap();
    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let old = raw(server.port, request("8", key).as_bytes());
    assert!(old.starts_with("HTTP/1.1 426") && old.contains("sec-websocket-version: 13"), "{old}");
    assert!(raw(server.port, request("13", "short").as_bytes()).starts_with("HTTP/1.1 400"));
}

#[test]
fn what_is_not_kept_so_long_is_refused_before_the_plane() {
    let server = start("delay");
    let get = |path: &str, more: &str| {
        raw(server.port, format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n").as_bytes())
    };
    assert!(get("/live/x.flv?delay=30", "").ends_with(MEDIA_BODY));
    let (request, _) = server.media.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(request.query, "delay=30");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, more) in [
        ("/live/x.flv?delay=60", ""),
        ("/live/x.ts?delay=86400&token=1", ""),
        ("/live/x.flv?delay=60", upgrade),
        ("/live/x.m3u8?delay=60", ""),
        ("/rec/x.mpd?delay=60", ""),
    ] {
        let reply = get(path, &format!("{more}Connection: close\r\n"));
        assert!(reply.starts_with("HTTP/1.1 404"), "{path}: {reply}");
        assert!(reply.contains("kept for 12 s only") && reply.contains("allow-origin: *"));
    }
    for path in ["/live/x.flv?delay=x", "/live/x.m3u8?delay=-1", "/live/x.mpd?delay=86401"] {
        let reply = get(path, "Connection: close\r\n");
        assert!(reply.starts_with("HTTP/1.1 400") && reply.contains("seconds"), "{path}: {reply}");
    }
}

#[test]
fn malformed_heads_are_refused_and_the_connection_closed() {
    let server = start("bad");
    let many: String = (0..100).map(|i| format!("x-{i}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for (status, head) in [
        ("400", "Host: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("400", "Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("400", "Host: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n"),
        ("400", "Host: h\r\nContent-Length: -1\r\n"),
        ("413", "Host: h\r\nContent-Length: 1001\r\n"),
        ("400", "Host: h\r\nHost: i\r\n"),
        ("400", "Host: h/evil\r\n"),
        ("400", "x: 1\r\n"),
        ("400", "Host: h\r\nx : 1\r\n"),
        ("400", "Host: h\r\nx: 1\r\n folded\r\n"),
        ("431", &format!("Host: h\r\n{many}")),
        ("431", &format!("Host: h\r\n{long}")),
    ] {
        let request = format!("GET /healthz HTTP/1.1\r\n{head}\r\n");
        let reply = raw(server.port, request.as_bytes());
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{head:.60}: {reply}");
        assert_eq!(reply.matches("HTTP/1.1 4").count(), 1, "one answer, then closed: {reply}");
    }
    let old = raw(server.port, b"GET /live/x.flv HTTP/1.0\r\n\r\n");
    assert!(old.ends_with(MEDIA_BODY), "{old}");
    let (request, _) = server.media.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(!request.keep_http11 && request.host.is_empty());
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let server = start_with("slow", |config| {
        config.http.head_timeout = Duration::from_millis(600);
        config.http.keepalive_timeout = Duration::from_millis(1500);
    });
    let begin = Instant::now();
    assert_eq!(raw(server.port, b"GET /healthz HT"), "");
    let slow = begin.elapsed();
    assert!(slow > Duration::from_millis(500) && slow < Duration::from_secs(5), "{slow:?}");
    assert_eq!(raw(server.port, b"\x16"), "", "a handshake that stops is closed too");
    let begin = Instant::now();
    let kept = raw(server.port, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(kept.ends_with("ok\n"), "{kept}");
    let idle = begin.elapsed();
    assert!(idle > Duration::from_millis(1400) && idle < Duration::from_secs(6), "{idle:?}");
    let expected = ["head_timeout", "tls_handshake_timeout", "idle"];
    let end = Instant::now() + Duration::from_secs(5);
    while server.reasons.lock().unwrap().len() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(*server.reasons.lock().unwrap(), expected);
}

#[path = "server_file_tests.rs"]
mod files;
