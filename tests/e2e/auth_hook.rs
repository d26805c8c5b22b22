//! The authorisation server as the reference describes it: what it is asked by every protocol and
//! for every role, what comes of its answers, and that each viewer is asked about once.

use std::process::Command;
use std::time::Duration;

use tests::auth_stub::{Asked, Reply, Stub};
use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::{Finished, Process};
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{http, rtsp, wait};

const BOUND: Duration = Duration::from_secs(10);
/// What clients show, as in the reference.
const SHOWN: &str = "user=admin&token=xqtv312";

fn config(stub: &Stub) -> Config {
    Config::default().with(&format!("<authurl>{}</authurl>", stub.place()))
}

fn allow(_: &Asked) -> Reply {
    Reply::Status(200)
}

/// A rule that refuses whatever speaks of `word`.
fn without(word: &'static str) -> impl Fn(&Asked) -> Reply + Send {
    move |asked| Reply::Status(if asked.target.contains(word) { 403 } else { 200 })
}

fn curl(arguments: &[&str]) -> Option<Finished> {
    let mut command = Command::new(clients::tool("curl")?);
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments);
    Some(Process::run("curl", command, BOUND))
}

/// The status that curl gets; of an endless body after a moment.
fn status(arguments: &[&str]) -> Option<u16> {
    let arguments = [arguments, &["-m", "3"]].concat();
    curl(&arguments).map(|ran| ran.stdout_text().parse().unwrap_or(0))
}

/// What was asked, each time that it was, in the order of the alphabet.
fn targets(asked: &[Asked]) -> Vec<String> {
    let mut targets: Vec<_> = asked.iter().map(|asked| asked.target.clone()).collect();
    targets.sort();
    targets
}

/// Asks with one client and compares everything that was asked because of it.
fn expect(stub: &Stub, what: &str, expected: &str, ask: impl FnOnce()) {
    let late = targets(&stub.take());
    assert!(late.is_empty(), "asked twice: {late:?}");
    ask();
    wait::until_true(what, BOUND, || stub.count() > 0);
    assert_eq!(targets(&stub.take()), [expected], "{what}");
}

#[test]
fn publishers_and_players_are_asked_about_in_the_words_of_the_reference() {
    let stub = Stub::start(allow);
    let server = Server::start(&config(&stub).set("http/hlsalways", "true"));
    let (rtmp, rtsp) = (server.rtmp_url("a"), server.rtsp_url("b"));
    let mut publishers = Vec::new();
    for (url, what) in [(&rtmp, "/live/a?SHOWN&type=rtmp"), (&rtsp, "/live/b?SHOWN&type=rtsp")] {
        let question = format!("{}&role=publisher", what.replace("SHOWN", SHOWN));
        expect(&stub, what, &question, || {
            publishers.push(Publisher::Ffmpeg.start(Clip::H264Aac, &format!("{url}?{SHOWN}")));
        });
        if publishers.iter().any(Option::is_none) {
            return;
        }
    }
    server.wait_log("publishing live/a", BOUND);
    server.wait_log("publishing live/b", BOUND);

    // By RTSP DESCRIBE and PLAY of one connection are one play.
    for (url, what) in [(&rtmp, "/live/a?SHOWN&type=rtmp"), (&rtsp, "/live/b?SHOWN&type=rtsp")] {
        let question = format!("{}&role=player", what.replace("SHOWN", SHOWN));
        stub.take();
        let packets = clients::ffprobe_packets(&format!("{url}?{SHOWN}"), 1);
        assert!(packets.is_none_or(|packets| !packets.is_empty()), "{url}");
        let asked: Vec<_> = stub.take().into_iter().map(|asked| asked.target).collect();
        assert_eq!(asked, [question]);
    }

    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.http);
    for extension in ["flv", "ts", "mp4", "m3u8", "mpd"] {
        // Playlists of one viewer would be one session.
        let path = format!("/live/a.{extension}?{SHOWN}&{extension}=1");
        let question = format!("{path}&type=http&role=player");
        expect(&stub, &path, &question, || assert_eq!(status(&[&url(&path)]), Some(200)));
    }
    let upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let upgrade = upgrade.iter().flat_map(|header| ["-H", header]);
    let to = url("/live/b.flv?token=ws");
    let arguments: Vec<&str> = upgrade.chain([&*to]).collect();
    expect(&stub, "a WebSocket", "/live/b.flv?token=ws&type=http&role=player", || {
        assert_eq!(status(&arguments), Some(101));
    });
}

#[test]
fn what_else_http_has_is_asked_about_in_the_words_of_the_reference() {
    let Some(clip) = Clip::H264Aac.file() else { return };
    let stub = Stub::start(allow);
    let server = Server::start(&config(&stub));
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.http);
    let form = format!("file=@{};filename=b.mp4", clip.display());
    for (path, role, code) in [
        ("/api/live?", "api", 200),
        ("/api/status?a=1", "api", 200),
        ("/api/rec?", "api", 200),
        ("/api/vod?", "api", 200),
        // Nothing is recorded.
        ("/rec/a?cmd=query", "player", 404),
        ("/rec/a.m3u8?day=2020-01-01&time=10-00-00&token=x", "player", 404),
        ("/vod/?k=1", "upload", 201),
        ("/vod/b.mp4?k=1", "download", 200),
        ("/vod/b.mp4.m3u8?k=1", "download", 200),
    ] {
        let join = if path.ends_with('?') { "" } else { "&" };
        let question = format!("{path}{join}type=http&role={role}");
        let to = url(path);
        let upload = ["-F", &form, &to];
        let arguments = if role == "upload" { &upload[..] } else { &upload[2..] };
        expect(&stub, path, &question, || assert_eq!(status(arguments), Some(code), "{path}"));
    }
    // A page of another site has the browser's address on its side, and may make up a token.
    let foreign = ["-H", "Origin: http://a.example", "-H", "Authorization: Bearer x"];
    let to = url("/vod/?k=1");
    let upload = [&foreign[..], &["-F", &form, &to]].concat();
    assert_eq!(status(&upload), Some(403));
    // What a list lists is asked about as the list, and not again.
    stub.take();
    assert_eq!(status(&[&url("/vod/b.mp4/seg-0.m4s?k=1")]), Some(200));
    assert_eq!(status(&[&url("/vod/b.mp4/seg-0.m4s?k=2")]), Some(200));
    let asked = targets(&stub.take());
    let list = "/vod/b.mp4.m3u8?k=2&type=http&role=download".to_owned();
    assert_eq!(asked, [list]);

    // Nobody is asked about these.
    for dots in
        ["/vod/../admin", "/vod/%2e%2e/%2e%2e/admin", "/api/../admin", "/rec/../a?cmd=query"]
    {
        assert_eq!(status(&["--path-as-is", &url(dots)]), Some(404), "{dots}");
    }
    assert_eq!(status(&[&url("/healthz")]), Some(200));
    assert_eq!(status(&[&url("/metrics")]), Some(200));
    assert_eq!(status(&["-X", "OPTIONS", &url("/live/a.flv")]), Some(204));
    assert_eq!(status(&[&url("/")]), Some(200));
    assert_eq!(stub.take(), []);
}

#[test]
fn method_router_type_and_secret_are_as_configured() {
    let stub = Stub::start(allow);
    let server = Server::start(&Config::default().with(&format!(
        "<authurl timeout='2000' router='/api/auth'>http://{}/base/</authurl>
         <auth><method>GET</method><http_type>rtmp</http_type><secret>shared</secret></auth>",
        stub.place()
    )));
    let _ = http::request(server.http, "HEAD", "/live/a.flv?x=1", &[]);
    let [asked] = &stub.take()[..] else { panic!("asked once") };
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.target, "/base/api/auth/live/a.flv?x=1&type=rtmp&role=player");
    let has = |header: &str| asked.headers.iter().any(|line| line.eq_ignore_ascii_case(header));
    assert!(has(&format!("host: {}", stub.place())), "{asked:?}");
    assert!(has("user-agent: smart_rtmpd") && has("connection: close"), "{asked:?}");
    assert!(has("authorization: Bearer shared"), "{asked:?}");

    let server = Server::start(&config(&stub));
    let _ = http::request(server.http, "HEAD", "/live/a.flv", &[]);
    let [asked] = &stub.take()[..] else { panic!("asked once") };
    assert_eq!(asked.method, "PUT");
    assert!(asked.headers.iter().any(|line| line.eq_ignore_ascii_case("content-length: 0")));
}

/// Every protocol says no in its own words, and nothing begins before it is allowed.
#[test]
fn who_is_refused_is_told_in_the_words_of_its_protocol() {
    let stub = Stub::start(without("bad"));
    let server = Server::start(&config(&stub));
    let (_, _, status) = Peer::publishing(server.rtmp, "bad").expect("an answer");
    assert_eq!(status, "NetStream.Publish.BadName");
    let mut player = Peer::playing(server.rtmp, "bad").expect("connects");
    assert_eq!(player.status_of(&["onStatus"]).expect("an answer"), "NetStream.Play.Failed");
    for method in ["DESCRIBE", "ANNOUNCE"] {
        let mut peer = rtsp::Peer::open(server.rtsp).expect("connects");
        let body = if method == "ANNOUNCE" { SOUND } else { "" };
        let lines = if method == "ANNOUNCE" { "Content-Type: application/sdp\r\n" } else { "" };
        assert_eq!(peer.status(method, "bad", lines, body), 403, "{method}");
    }
    for path in [
        "/live/bad.flv",
        "/live/bad.ts",
        "/live/bad.mp4",
        "/live/bad.m3u8",
        "/live/bad.mpd",
        "/live/bad/seg-1-7.ts",
        "/rec/bad?cmd=query",
        "/rec/bad/2020-01-01/10-00-00.m3u8",
        "/vod/bad.mp4",
        "/api/live?bad",
        "/api/rec?bad",
        "/api/vod?bad",
    ] {
        let answer = http::get(server.http, path);
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let upload = "POST /vod/bad.mp4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\
        Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n\r\n";
    let answer = http::exchange(server.http, upload.as_bytes(), false).expect("an answer");
    assert_eq!(answer.status, 403, "before its body has come");

    // Real ones say so, and nothing of theirs is on.
    if let Some(mut publisher) =
        Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("bad/clip"))
    {
        assert!(publisher.exited_within(BOUND).is_some_and(|status| !status.success()));
    }
    let urls = [server.rtmp_url("bad"), server.rtsp_url("bad"), server.flv_url("bad")];
    for url in urls {
        let Some(decoded) = clients::ffmpeg_decode(&url, 1) else { continue };
        assert_eq!(decoded.pictures, 0, "{url}");
    }
    let metrics = server.metrics();
    let refused = |role: &str| {
        let labels = [&*format!("role=\"{role}\""), "reason=\"refused\""];
        metrics.sum("smart_rtmpd_auth_decisions_total", &labels)
    };
    for role in ["publisher", "player", "api", "upload", "download"] {
        assert!(refused(role) >= 1.0, "{role}");
    }
    server.wait_log("not let in", BOUND);
    assert!(server.api_live().is_empty());
}

const SOUND: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\n\
    m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:streamid=0\r\n";

/// The answer comes before `NetStream.Publish.Start`, and the peer's connection waits for it.
#[test]
fn nothing_starts_before_the_answer() {
    let stub = Stub::start(|_| Reply::Late(Duration::from_millis(700), 200));
    let server = Server::start(&config(&stub));
    let start = std::time::Instant::now();
    let (_publisher, _, status) = Peer::publishing(server.rtmp, "slow").expect("an answer");
    assert_eq!(status, "NetStream.Publish.Start");
    assert!(start.elapsed() >= Duration::from_millis(700));
    server.wait_log("publishing live/slow", BOUND);
}

/// `type` and `role` of the client are gone, whatever it tries.
#[test]
fn a_client_cannot_say_what_it_is() {
    let stub = Stub::start(|asked| {
        let says = asked.target.matches("role=publisher").count();
        Reply::Status(if says > 0 { 200 } else { 403 })
    });
    let server = Server::start(&config(&stub));
    for query in [
        "role=publisher",
        "type=rtmp&role=publisher",
        "ROLE=publisher",
        "r%6Fle=publisher",
        "role[]=publisher",
        "a=1&role=publisher#",
        "role=publisher%00",
    ] {
        stub.take();
        let name = format!("x?user=a&{query}");
        let mut player = Peer::playing(server.rtmp, &name).expect("connects");
        let told = player.status_of(&["onStatus"]).expect("an answer");
        assert_eq!(told, "NetStream.Play.Failed", "{query}");
        let [asked] = &stub.take()[..] else { panic!("{query}: asked once") };
        assert!(asked.target.ends_with("&type=rtmp&role=player"), "{}", asked.target);
        assert_eq!(asked.target.to_lowercase().matches("role=").count(), 1, "{}", asked.target);
        if !query.contains('#') {
            let answer = http::get(server.http, &format!("/live/x.flv?user=a&{query}"));
            assert_eq!(answer.status, 403, "{query}");
        }
    }
}

/// Whoever asks the same at the same time, on whichever shard, is one question.
#[test]
fn what_many_ask_is_asked_once() {
    let stub = Stub::start(|_| Reply::Late(Duration::from_millis(1500), 403));
    let server = Server::start(&config(&stub));
    let peers: Vec<Peer> =
        (0..60).map(|_| Peer::playing(server.rtmp, "x?token=a").expect("connects")).collect();
    for mut peer in peers {
        let told = peer.status_of(&["onStatus"]).expect("an answer");
        assert_eq!(told, "NetStream.Play.Failed");
    }
    assert_eq!(stub.take().len(), 1);
}

/// A viewer of segments is asked about once in a while, goes on when nobody answers, and ends when
/// it is refused.
#[test]
fn viewers_of_segments_are_sessions() {
    let stub = Stub::start(allow);
    let server = Server::start(&config(&stub).with("<auth><cache>1</cache></auth>"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("s")) else {
        return;
    };
    server.wait_log("publishing", BOUND);
    let playlist = || http::get(server.http, "/live/s.m3u8?token=v");
    let first = playlist();
    assert_eq!(first.status, 200, "{}", first.text());
    let segment = first.text().lines().find(|line| !line.starts_with('#')).map(str::to_owned);
    let segment = format!("/live/{}", segment.expect("a segment"));
    assert!(segment.contains("token=v"), "segments carry the token: {segment}");

    let viewer =
        |asked: &[Asked]| asked.iter().filter(|asked| asked.target.contains("token=v")).count();
    stub.take();
    let start = std::time::Instant::now();
    let mut requests = 0;
    wait::paced(Duration::from_millis(50), Duration::from_secs(4), || {
        assert_eq!(playlist().status, 200);
        requests += 1;
        true
    });
    let asked = viewer(&stub.take());
    let most = start.elapsed().as_secs() as usize + 1;
    assert!((2..=most).contains(&asked), "{asked} questions for {requests} requests");

    // It plays on while nobody can say; others do not come in.
    stub.set(|_| Reply::Status(500));
    wait::stays_true("the viewer goes on", Duration::from_secs(3), || playlist().status == 200);
    let other = http::get(server.http, "/live/s.m3u8?token=w");
    assert_eq!(other.status, 503, "{}", other.text());

    stub.set(without("token=v"));
    // Each shard knows it at its next question.
    let mut refused = 0;
    wait::until_true("the viewer ends and stays out", BOUND, || {
        refused = if playlist().status == 403 { refused + 1 } else { 0 };
        refused > 100
    });
}

/// Running sessions of every protocol are judged again, and end when they are refused; not when
/// nobody answers.
#[test]
fn running_sessions_are_judged_again() {
    let stub = Stub::start(allow);
    let config = config(&stub).with("<auth><recheck>0.5</recheck></auth>");
    let server = Server::start(&config.set("rtmp/publisher_grace", "1"));
    let Some(mut publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("r")) else {
        return;
    };
    server.wait_log("publishing", BOUND);
    let mut player = Peer::playing(server.rtmp, "r?token=bad").expect("connects");
    let mut watcher = rtsp::Peer::playing(server.rtsp, "r?token=bad").expect("plays");
    let (status, _, mut body) = http::open(server.http, "/live/r.flv?token=bad").expect("opens");
    assert_eq!(status, 200);
    let mut other = Peer::playing(server.rtmp, "r?token=good").expect("connects");
    player.next_tag().expect("plays");
    other.next_tag().expect("plays");

    stub.set(|_| Reply::Status(500));
    stub.take();
    wait::until_true("all are asked about, in vain", BOUND, || stub.count() >= 10);
    player.next_tag().expect("plays on");

    stub.set(without("token=bad"));
    wait::until_true("the refused ones end", BOUND, || server.log_count("closed forbidden") >= 3);
    while player.next_tag().is_ok() {}
    while watcher.next_packet().is_ok() {}
    std::io::copy(&mut body, &mut std::io::sink()).expect("ends");
    other.next_tag().expect("plays on");
    assert!(publisher.alive());

    stub.set(without("role=publisher"));
    assert!(publisher.exited_within(BOUND).is_some(), "the publisher ends too");
    let again = server.metrics().sum("smart_rtmpd_auth_rechecks_total", &[]);
    assert!(again >= 10.0, "{again}");
}
