//! RTSP through HTTP: real clients behind tunnels whose halves arrive at one core or at two, and
//! halves that do not fit together.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests::canary::{Canary, NAME};
use tests::clients::{self, Publisher};
use tests::digest::base64;
use tests::media::Clip;
use tests::rtsp::{self, Peer};
use tests::server::{Config, Server};
use tests::{http, wait};

/// Tries per client: the kernel spreads connections over the cores by their ports.
const TRIES: usize = 6;
const CLOSED: Duration = Duration::from_millis(1500);

#[test]
fn ffmpeg_plays_on_any_core() {
    let Some((server, _publisher)) = live(3) else { return };
    for number in 0..TRIES {
        let url = server.rtsp_url("show");
        let decoded = match number % 3 {
            0 => clients::ffmpeg_decode_by(&url, "http", 1),
            1 => clients::ffmpeg_decode_by(&url, "https", 1),
            _ => clients::ffmpeg9_decode_by(&url, "http", 1),
        };
        let Some(decoded) = decoded else { return };
        assert!(decoded.complaints.is_empty(), "try {number}: {decoded:?}");
        assert!(decoded.pictures >= 20, "try {number}: {decoded:?}");
    }
    nothing_is_left(&server);
    two_each(&server);
}

#[test]
fn gstreamer_plays_on_any_core() {
    let Some((server, _publisher)) = live(3) else { return };
    for number in 0..TRIES {
        let url = |scheme| server.rtsp_url("show").replace("rtsp://", scheme);
        let pictures = match number % 2 {
            0 => clients::gst_pictures(&url("rtsph://"), 20),
            // Within TLS: nobody has signed the certificate.
            _ => clients::gst_pictures_with(&url("rtspsh://"), &["tls-validation-flags=0"], 20),
        };
        let Some(pictures) = pictures else { return };
        assert!(pictures >= 20, "try {number}: {pictures} pictures");
    }
    nothing_is_left(&server);
    two_each(&server);
}

#[test]
fn every_pair_of_cores() {
    let Some((server, _publisher)) = live(3) else { return };
    // Twenty times two connections, each on one of three cores: all pairs, but once in 10^3 runs.
    for number in 0..20 {
        let cookie = format!("pair{number}");
        let mut tunnel = Tunnel::open(&server, &cookie);
        tunnel.play("show");
        for _ in 0..20 {
            tunnel.receive.next_packet().expect("media");
        }
    }
    nothing_is_left(&server);
}

#[test]
fn a_post_may_be_closed_and_opened_again() {
    let Some((server, _publisher)) = live(2) else { return };
    let mut tunnel = Tunnel::open(&server, "again");
    tunnel.play("show");
    // The server has seen the end of the first once it takes a second.
    tunnel.send = get_half_closed(&server, "again", tunnel.send);
    let session = tunnel.receive.lines.clone();
    tunnel.ask("TEARDOWN", "show", &session);
    assert_eq!(tunnel.receive.answer().expect("an answer").status, 200);
}

#[test]
fn t8_halves_that_do_not_fit() {
    let config = Config::default().cores(1).set("rtmp/handshake_timeout", 2);
    let server = Server::start(&config);
    let Some(mut canary) = Canary::start(&server) else { return };
    let refused = |name: &str, bytes: &[u8], status: &str| {
        let mut socket = http::connect(server.rtsp).expect("connects");
        socket.write_all(bytes).expect("is taken");
        let said = http::read_until_closed(&mut socket, name, CLOSED);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.lines().next().is_some_and(|line| line.contains(status)), "{name}: {said}");
    };
    refused("POST without GET", post("nobody").as_bytes(), " 404 ");
    refused("GET and POST on one connection", (get("one") + &post("one")).as_bytes(), " 400 ");
    refused("GET without cookie", b"GET /live/x HTTP/1.0\r\n\r\n", " 400 ");
    refused("empty cookie", get("").as_bytes(), " 400 ");
    refused("cookie of 65 bytes", get(&"a".repeat(65)).as_bytes(), " 400 ");
    refused("cookie of 64 KiB", get(&"a".repeat(65_536)).as_bytes(), " 400 ");
    refused("another method", get("a").replace("GET", "PUT").as_bytes(), " 400 ");

    let mut tunnel = Tunnel::open(&server, "taken");
    refused("GET of a tunnel that exists", get("taken").as_bytes(), " 409 ");
    refused("second POST", post("taken").as_bytes(), " 409 ");
    tunnel.play(NAME);
    tunnel.receive.next_packet().expect("others change nothing");
    tunnel.send.write_all(b"\0\0\0\0").expect("is taken");
    let _ = http::read_until_closed(&mut tunnel.receive.socket, "no base64", CLOSED);
    let _ = http::read_until_closed(&mut tunnel.send, "no base64", CLOSED);

    let mut tunnel = Tunnel::open(&server, "input");
    tunnel.receive.socket.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").expect("is taken");
    let _ = http::read_until_closed(&mut tunnel.send, "input on the GET", CLOSED);

    let Tunnel { receive, mut send } = Tunnel::open(&server, "gone");
    drop(receive);
    let _ = http::read_until_closed(&mut send, "the POST of a GET that has gone", CLOSED);

    let mut tunnel = Tunnel::open(&server, "inner");
    tunnel.send_text(&get("outer"));
    let _ = http::read_until_closed(&mut tunnel.receive.socket, "tunnel in a tunnel", CLOSED);
    canary.verify(&server, "halves that do not fit");
}

#[test]
fn t8_half_open_ones_are_limited_and_expire() {
    let config = Config::default().cores(1).set("rtmp/handshake_timeout", 4);
    let server = Server::start(&config);
    let Some(mut canary) = Canary::start(&server) else { return };
    let mut open = Vec::new();
    for number in 0..1030 {
        let mut socket = http::connect(server.rtsp).expect("connects");
        socket.write_all(get(&format!("half{number}")).as_bytes()).expect("is taken");
        open.push(socket);
    }
    let reasons = |label: &str| server.metrics().sum("smart_rtmpd_closed_total", &[label]);
    wait::until_true("six are too many", Duration::from_secs(3), || {
        reasons("reason=\"tunnels_half_open\"") as u32 == 6
    });
    wait::until_true("the others expire", Duration::from_secs(8), || {
        reasons("reason=\"handshake_timeout\"") as u32 == 1024
    });
    drop(open);
    canary.verify(&server, "half-open tunnels");
    let mut tunnel = Tunnel::open(&server, "half1");
    tunnel.play(NAME);
    tunnel.receive.next_packet().expect("there is room again");
    drop(tunnel);

    // 10,000 that come and go at once.
    for number in 0..10_000 {
        let mut socket = http::connect(server.rtsp).expect("connects");
        socket.write_all(get(&format!("gone{number}")).as_bytes()).expect("is taken");
    }
    canary.verify(&server, "10,000 GETs");
}

fn live(cores: usize) -> Option<(Server, tests::process::Process)> {
    let server = Server::start(&Config::default().cores(cores));
    let publisher = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("show"))?;
    server.wait_live("show");
    Some((server, publisher))
}

fn nothing_is_left(server: &Server) {
    let what = "no RTSP viewer is left";
    wait::until_true(what, Duration::from_secs(5), || {
        server.metrics().sum("smart_rtmpd_viewers", &["rtsp"]) < 1.0
    });
}

/// Each try had two connections: it was a tunnel that was played through.
fn two_each(server: &Server) {
    let what = "two connections have ended for each play";
    wait::until_true(what, Duration::from_secs(5), || {
        server.metrics().sum("smart_rtmpd_closed_total", &["proto=\"rtsp\""]) as usize >= 2 * TRIES
    });
}

fn get(cookie: &str) -> String {
    format!("GET /live/show HTTP/1.0\r\nx-sessioncookie: {cookie}\r\n\r\n")
}

fn post(cookie: &str) -> String {
    format!(
        "POST /live/show HTTP/1.0\r\nx-sessioncookie: {cookie}\r\nContent-Length: 32767\r\n\
         Content-Type: application/x-rtsp-tunnelled\r\n\r\n"
    )
}

/// Both halves.
struct Tunnel {
    receive: Peer,
    send: TcpStream,
}

impl Tunnel {
    fn open(server: &Server, cookie: &str) -> Tunnel {
        let mut receive = Peer::open(server.rtsp).expect("connects");
        receive.socket.write_all(get(cookie).as_bytes()).expect("is taken");
        assert_eq!(receive.answer().expect("an answer to the GET").status, 200);
        let mut send = http::connect(server.rtsp).expect("connects");
        send.write_all(post(cookie).as_bytes()).expect("is taken");
        Tunnel { receive, send }
    }

    fn ask(&mut self, method: &str, name: &str, lines: &str) {
        let url = self.receive.url(name);
        self.send_text(&format!("{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{lines}\r\n"));
    }

    fn send_text(&mut self, text: &str) {
        self.send.write_all(base64(text).as_bytes()).expect("is taken");
    }

    fn play(&mut self, name: &str) {
        self.ask("SETUP", &format!("{name}/trackID=0"), rtsp::TCP);
        let answer = self.receive.answer().expect("an answer to SETUP");
        assert_eq!(answer.status, 200, "{}", answer.head);
        self.receive.lines = format!("Session: {}\r\n", answer.session());
        let session = self.receive.lines.clone();
        self.ask("PLAY", name, &session);
        assert_eq!(self.receive.answer().expect("an answer to PLAY").status, 200);
    }
}

/// Closes a `POST` and opens the next, as often as it takes until the end of the first was seen.
fn get_half_closed(server: &Server, cookie: &str, send: TcpStream) -> TcpStream {
    drop(send);
    wait::until("a second POST is taken", Duration::from_secs(3), || {
        let mut send = http::connect(server.rtsp).expect("connects");
        send.write_all(post(cookie).as_bytes()).expect("is taken");
        send.set_read_timeout(Some(Duration::from_millis(300))).expect("above zero");
        // Silence: it is part of the tunnel.
        let refused = send.read(&mut [0; 64]);
        refused.is_err_and(|error| http::is_timeout(&error)).then_some(send)
    })
}
