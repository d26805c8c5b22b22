//! Who may do what without an authorisation server: users, signed URLs, tokens, addresses, the
//! administrator's token, and what is open by itself.

use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::Process;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{http, rtsp, skip, sys};

const BOUND: Duration = Duration::from_secs(10);
const PUBLISH_START: &str = "NetStream.Publish.Start";
const PUBLISH_REFUSED: &str = "NetStream.Publish.BadName";

/// Of argon2-cffi: `password`, salt `saltsalt`, t=2, m=4096, p=1, 24 bytes.
const HASH: &str = "$argon2id$v=19$m=4096,t=2,p=1$c2FsdHNhbHQ$WE7Suia6hCi009asI//6Tu4ip/ZBxNU9";

fn publish(server: &Server, name: &str) -> String {
    Peer::publishing(server.rtmp, name).expect("an answer").2
}

fn get(server: &Server, path: &str, headers: &[&str]) -> u16 {
    http::request(server.http, "HEAD", path, headers).status
}

fn describe(server: &Server, name: &str, header: &str) -> u16 {
    let mut peer = rtsp::Peer::open(server.rtsp).expect("connects");
    let headers = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    peer.status("DESCRIBE", name, &headers, "")
}

/// The address of this machine in its network, which is not its loopback.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: it only says which way a packet would go.
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let ip = found.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback());
    if ip.is_none() {
        skip("this machine has no address but its loopback");
    }
    ip
}

fn request_from_outside(ip: IpAddr, port: u16, path: &str, header: &str) -> Option<u16> {
    let mut command = Command::new(clients::tool("curl")?);
    command.args(["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]);
    command.args(["-H", header, &format!("http://{ip}:{port}{path}")]);
    let ran = Process::run("curl", command, BOUND);
    Some(ran.stdout_text().parse().unwrap_or(0))
}

#[test]
fn users_come_in_by_every_protocol() {
    let server = Server::start(&Config::default().with(&format!(
        "<auth>
         <user name='ann' password='open sesame'/>
         <user name='bob' password='{HASH}' roles='player' streams='live/clip'/>
         </auth>"
    )));
    assert_eq!(publish(&server, "x"), PUBLISH_REFUSED);
    assert_eq!(publish(&server, "x?user=ann&pass=wrong"), PUBLISH_REFUSED);
    assert_eq!(publish(&server, "x?user=ann&pass=open%20sesame"), PUBLISH_START);
    assert_eq!(publish(&server, "x?user=bob&pass=password"), PUBLISH_REFUSED);
    assert_eq!(publish(&server, "x?user=eve&pass=password"), PUBLISH_REFUSED);

    // Real clients: RTSP with Digest, RTMP and HTTP with a query, HTTP with Basic.
    let with = |user: &str, url: String| url.replacen("://", &format!("://{user}@"), 1);
    let by_digest = with("ann:open%20sesame", server.rtsp_url("clip"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &by_digest) else { return };
    server.wait_log("publishing live/clip", BOUND);
    for (url, works) in [
        (format!("{}?user=ann&pass=open+sesame", server.rtmp_url("clip")), true),
        (format!("{}?user=bob&pass=password", server.rtmp_url("clip")), true),
        (format!("{}?user=bob&pass=passwort", server.rtmp_url("clip")), false),
        (format!("{}?user=bob&pass=password", server.flv_url("clip")), true),
        (with("bob:password", server.flv_url("clip")), true),
        (with("bob:passwort", server.flv_url("clip")), false),
        (with("ann:open%20sesame", server.rtsp_url("clip")), true),
        (with("ann:open%20sesam", server.rtsp_url("clip")), false),
        (format!("{}?user=ann&pass=open%20sesame", server.rtsp_url("clip")), true),
        (server.rtmp_url("clip"), false),
        (server.rtsp_url("clip"), false),
        (server.flv_url("clip"), false),
    ] {
        let Some(decoded) = clients::ffmpeg_decode(&url, 1) else { return };
        assert_eq!(decoded.pictures > 0, works, "{url}: {:?}", decoded.complaints);
    }
    // A hash says nothing to Digest, but Basic is offered too.
    assert_eq!(describe(&server, "clip", "Authorization: Basic Ym9iOnBhc3N3b3Jk"), 200);
    assert_eq!(describe(&server, "clip", "Authorization: Basic Ym9iOnBhc3N3b3J0"), 401);
    let basic = "Authorization: Basic Ym9iOnBhc3N3b3Jk";
    assert_eq!(get(&server, "/live/clip.flv", &[basic]), 200);
    assert_eq!(get(&server, "/live/other.flv", &[basic]), 403, "not his stream");
    let answer = http::get(server.http, "/live/clip.m3u8");
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));

    let metrics = server.metrics();
    let by_user = ["outcome=\"allowed\"", "reason=\"user\""];
    assert!(metrics.sum("smart_rtmpd_auth_decisions_total", &by_user) >= 8.0);
    let log = server.whole_log();
    for secret in ["sesame", "passwor", "Ym9i"] {
        assert!(!log.contains(secret), "{secret} is logged");
    }
}

/// The older option is for RTSP alone.
#[test]
fn users_of_rtsp_are_users_of_rtsp() {
    let server = Server::start(&Config::default().set("rtsp/user", "cam:secret"));
    assert_eq!(publish(&server, "x"), PUBLISH_START);
    assert_eq!(describe(&server, "x", ""), 401);
    let Some(_publisher) = Publisher::Ffmpeg
        .start(Clip::H264Aac, &server.rtsp_url("c").replacen("://", "://cam:secret@", 1))
    else {
        return;
    };
    server.wait_log("publishing live/c", BOUND);
}

#[test]
fn signed_urls_let_in_for_a_while() {
    let Some(openssl) = clients::tool("openssl") else { return };
    let key = "a key of signed URLs";
    let server =
        Server::start(&Config::default().with(&format!("<auth><sign_key>{key}</sign_key></auth>")));
    let sign = |role: &str, resource: &str, seconds: i64, ip: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let expires = now.saturating_add_signed(seconds);
        let message = format!("{role}|{expires}|{ip}|{resource}");
        let script = "printf %s \"$1\" | \"$0\" dgst -sha256 -hmac \"$2\"";
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(&openssl)
            .args([&message, key])
            .output()
            .expect("sh runs");
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        let mac = text.split_whitespace().last().expect("a MAC").to_owned();
        let bound = if ip.is_empty() { String::new() } else { format!("&ip={ip}") };
        format!("expires={expires}&sig={mac}{bound}")
    };
    let publisher = |seconds| format!("s?{}", sign("publisher", "live/s", seconds, ""));
    assert_eq!(publish(&server, "s"), PUBLISH_REFUSED);
    assert_eq!(publish(&server, &publisher(-5)), PUBLISH_REFUSED);
    let player = sign("player", "live/s", 60, "");
    assert_eq!(publish(&server, &format!("s?{player}")), PUBLISH_REFUSED, "another role");
    let url = format!("{}?{}", server.rtmp_url("s"), sign("publisher", "live/s", 60, ""));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    server.wait_log("publishing live/s", BOUND);
    // 403 rather than 401: no header of HTTP would help.
    for (path, query, status) in [
        ("/live/s.flv", &player, 200),
        ("/live/s.m3u8", &player, 200),
        ("/live/t.flv", &player, 403),
        ("/live/s.flv", &sign("player", "live/s", 60, "127.0.0.1"), 200),
        ("/live/s.flv", &sign("player", "live/s", 60, "192.0.2.1"), 403),
        ("/live/s.flv", &sign("player", "live/s", -5, ""), 403),
        ("/vod/x", &String::new(), 404),
    ] {
        let path = format!("{path}?{query}");
        assert_eq!(get(&server, &path, &[]), status, "{path}");
    }
    // The playlist has the signature with each segment.
    let playlist = http::get(server.http, &format!("/live/s.m3u8?{player}")).text();
    let segment = playlist.lines().find(|line| !line.starts_with('#')).expect("a segment");
    assert_eq!(http::get(server.http, &format!("/live/{segment}")).status, 200);
    let bare = segment.split('?').next().unwrap_or_default();
    assert_eq!(http::get(server.http, &format!("/live/{bare}")).status, 403);
    let Some(decoded) = clients::ffmpeg_decode(&format!("{}?{player}", server.rtsp_url("s")), 1)
    else {
        return;
    };
    assert!(decoded.pictures > 0, "{:?}", decoded.complaints);
}

/// `{exp: 2100, roles: ["player", "publisher"], streams: "live/j*"}`, HS256, by PyJWT.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjQxMDI0NDQ4MDAsInJvbGVzI\
    jpbInBsYXllciIsInB1Ymxpc2hlciJdLCJzdHJlYW1zIjoibGl2ZS9qKiJ9.ZxZwbRisN3\
    qn3WdjGtwixpHRRNaXLZxfXsknd_5aFlc";

#[test]
fn tokens_let_in() {
    let server = Server::start(
        &Config::default()
            .with("<auth><jwt_secret>a secret of at least 32 characters</jwt_secret></auth>"),
    );
    assert_eq!(publish(&server, "j"), PUBLISH_REFUSED);
    assert_eq!(publish(&server, &format!("k?token={TOKEN}")), PUBLISH_REFUSED);
    assert_eq!(publish(&server, &format!("j?token={TOKEN}x")), PUBLISH_REFUSED);
    let url = format!("{}?token={TOKEN}", server.rtmp_url("j"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    server.wait_log("publishing live/j", BOUND);
    assert_eq!(get(&server, &format!("/live/j.flv?token={TOKEN}"), &[]), 200);
    assert_eq!(get(&server, "/live/j.flv", &[&format!("Authorization: Bearer {TOKEN}")]), 200);
    assert_eq!(get(&server, "/live/j.flv", &[]), 401);
    for url in [server.rtsp_url("j"), server.rtmp_url("j")] {
        let Some(decoded) = clients::ffmpeg_decode(&format!("{url}?token={TOKEN}"), 1) else {
            return;
        };
        assert!(decoded.pictures > 0, "{url}: {:?}", decoded.complaints);
    }
    assert!(!server.whole_log().contains(&TOKEN[..20]), "a token is logged");
}

#[test]
fn addresses_are_refused_by_role() {
    let server = Server::start(&Config::default().with(
        "<auth><address roles='publisher' deny='127.0.0.0/8'/>
         <address roles='download' allow='192.0.2.0/24'/></auth>",
    ));
    assert_eq!(publish(&server, "x"), PUBLISH_REFUSED);
    assert_eq!(get(&server, "/vod/x", &[]), 403);
    assert_eq!(get(&server, "/live/x.flv", &[]), 200);
    let denied = ["outcome=\"denied\"", "reason=\"address\""];
    assert!(server.metrics().sum("smart_rtmpd_auth_decisions_total", &denied) >= 2.0);
}

/// The API is this machine's, and whoever has the token's of the first start.
#[test]
fn the_api_is_for_this_machine_and_the_administrator() {
    let server = Server::start_default();
    let file = server.folder().join("admin.token");
    let mode = std::fs::metadata(&file).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).expect("ours").trim().to_owned();
    assert!(token.len() >= 43, "256 bits");
    assert!(!server.whole_log().contains(&token), "the token itself is not logged");
    let get = |headers: &[&str]| http::request(server.http, "GET", "/api/live", headers).status;
    assert_eq!(get(&[]), 200);
    // Somebody speaks through a proxy here, or a page through a browser.
    for header in ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=x", "Origin: http://a.example"] {
        assert_eq!(get(&[header]), 401, "{header}");
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(get(&[header, &bearer]), 200, "{header}");
    }
    let Some(ip) = own_address() else { return };
    let outside = |path: &str, header: &str| request_from_outside(ip, server.http, path, header);
    for path in ["/api/live", "/api/status", "/api/rec", "/api/vod", "/metrics"] {
        assert_eq!(outside(path, "Accept: */*"), Some(401), "{path}");
        let bearer = format!("Authorization: Bearer {token}");
        assert_eq!(outside(path, &bearer), Some(200), "{path}");
    }
    assert_eq!(outside("/healthz", "Accept: */*"), Some(200));
    // Guessing ends soon.
    let wrong = "Authorization: Bearer wrong";
    let told: Vec<_> = (0..60).filter_map(|_| outside("/api/live", wrong)).collect();
    assert_eq!(told.first(), Some(&401));
    // The limit is one of each shard.
    let heard = told.iter().filter(|status| **status == 401).count();
    assert!((10..=20).contains(&heard), "{told:?}");
    assert_eq!(told.last(), Some(&503), "{told:?}");
    assert_eq!(get(&[]), 200);
}

/// A browser sends along what it knows of a server, whichever page has it ask.
#[test]
fn no_page_of_another_site_changes_anything() {
    let users = "<auth><user name='ann' password='open sesame' roles='api,upload'/></auth>";
    let server = Server::start(&Config::default().with(users));
    let (Some(ip), Some(curl)) = (own_address(), clients::tool("curl")) else { return };
    let token = std::fs::read_to_string(server.folder().join("admin.token")).expect("made");
    let plain = format!("http://{ip}:{}", server.http);
    let secure = format!("https://{ip}:{}", server.https);
    let ask = |base: &str, path: &str, credential: &str, headers: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sk", "--http2", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"]);
        command.args(["-X", "POST", "-H", &format!("Authorization: {credential}")]);
        for header in headers {
            command.args(["-H", header]);
        }
        command.arg(format!("{base}{path}"));
        let ran = Process::run("curl", command, BOUND);
        ran.stdout_text().parse::<u16>().unwrap_or(0)
    };
    let (basic, bearer) = ("Basic YW5uOm9wZW4gc2VzYW1l", format!("Bearer {}", token.trim()));
    let foreign = "Origin: http://a.example";
    for base in [&plain, &secure] {
        let reload =
            |credential: &str, headers: &[&str]| ask(base, "/api/v1/reload", credential, headers);
        assert_eq!(reload(basic, &[]), 200);
        assert_eq!(reload(basic, &[&format!("Origin: {base}")]), 200);
        assert_eq!(reload(basic, &[foreign]), 403);
        assert_eq!(reload(basic, &["Sec-Fetch-Site: cross-site"]), 403);
        // The browser knows better than who compares names that a proxy has changed.
        assert_eq!(reload(basic, &[foreign, "Sec-Fetch-Site: same-origin"]), 200);
        assert_eq!(reload(&bearer, &[foreign]), 200);
        // No form: past the door it is 400.
        assert_eq!(ask(base, "/vod/x", basic, &[foreign]), 403);
        assert_ne!(ask(base, "/vod/x", basic, &[]), 403);
    }
}

/// From public addresses publishing needs a credential, unless the file says otherwise.
#[test]
fn strangers_do_not_publish() {
    let public = "203.0.113.77";
    if !sys::is_root() {
        return skip("an address can be added by root only");
    }
    let Some(ip) = clients::tool("ip") else { return };
    let address = |verb: &str| {
        let mut command = Command::new(&ip);
        command.args(["address", verb, &format!("{public}/32"), "dev", "lo"]).output()
    };
    struct Added<F: Fn()>(F);
    impl<F: Fn()> Drop for Added<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let added = address("add").is_ok_and(|ran| ran.status.success());
    let _added = Added(|| drop(address("del")));
    if !added || TcpListener::bind((public, 0)).is_err() {
        return skip("no address can be added to the loopback");
    }
    let from_there = |server: &Server, name: &str| {
        // The kernel takes the address of the destination for our own.
        let socket = TcpStream::connect((public, server.rtmp)).expect("connects");
        assert_eq!(socket.local_addr().expect("bound").ip().to_string(), public);
        drop(socket);
        let url = format!("rtmp://{public}:{}/live/{name}", server.rtmp);
        Publisher::Ffmpeg.start(Clip::H264Aac, &url)
    };
    let server = Server::start_default();
    let Some(mut stranger) = from_there(&server, "x") else { return };
    let ended = stranger.exited_within(BOUND).expect("a stranger publishes");
    assert!(!ended.success(), "{}", stranger.stderr());
    server.wait_log(&format!("peer={public} role=\"publisher\" resource=\"live/x\""), BOUND);
    let refused = ["role=\"publisher\"", "outcome=\"denied\"", "reason=\"no_credential\""];
    assert_eq!(server.metrics().sum("smart_rtmpd_auth_decisions_total", &refused), 1.0);
    assert_eq!(server.whole_log().matches("publishing live/x").count(), 0);
    // Who is no stranger does.
    assert_eq!(publish(&server, "x"), PUBLISH_START);
    drop(server);
    let user = Config::default().with("<auth><user name='a' password='b'/></auth>");
    let server = Server::start(&user);
    let Some(_known) = from_there(&server, "x?user=a&pass=b") else { return };
    server.wait_live("x");
    drop(server);
    let server = Server::start(&Config::default().set("auth/open_publish", "true"));
    let Some(_anybody) = from_there(&server, "x") else { return };
    server.wait_live("x");
    server.wait_log("EVERY address", BOUND);
}

#[test]
fn what_cannot_be_applied_refuses_to_start() {
    for (element, sentence) in [
        ("<authurl>not an url</authurl>", "authurl: \"not an url\" is not host:port"),
        ("<auth><user name='a'/></auth>", "auth/user@password: is empty"),
        ("<auth><jwt_key>no.pem</jwt_key></auth>", "no.pem cannot be read"),
        ("<auth><require>player</require></auth>", "auth/require: names player"),
        ("<auth><sign_key>pl4nted</sign_key></auth>", "auth/sign_key: is shorter"),
    ] {
        let ended = Config::default().with(element).run(&["--check"], BOUND);
        assert_eq!(ended.status.code(), Some(78), "{element}: {}", ended.stderr);
        assert!(ended.stderr.contains(sentence), "{element}: {}", ended.stderr);
        assert!(ended.stderr.contains("config.xml:"), "the line is named: {}", ended.stderr);
        assert!(!ended.stderr.contains("pl4nted"), "{}", ended.stderr);
    }
}
