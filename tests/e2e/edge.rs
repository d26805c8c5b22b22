//! Edge: unknown streams are fetched from origins, once, by every protocol, and not at all in
//! circles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::Process;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::tcp_relay::TcpRelay;
use tests::{flv, http, wait};

use crate::lifecycle::Recording;

const NAME: &str = "show";
/// First requests at the same moment.
const CROWD: usize = 500;

fn edge_of(urls: &[String]) -> Config {
    edge_with(urls, "")
}

fn edge_with(urls: &[String], attributes: &str) -> Config {
    let origins: String = urls.iter().map(|url| format!("<origin url='{url}'/>")).collect();
    let group = format!("<origins app='live' linger='1' {attributes}>{origins}</origins>");
    Config::default().policy(&format!("<policy>{group}</policy>"))
}

fn rtmp_base(port: u16) -> String {
    format!("rtmp://127.0.0.1:{port}/live")
}

fn origin() -> Option<(Server, Process)> {
    let server = Server::start(&Config::default().cores(1));
    let publisher = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, publisher))
}

#[test]
fn unknown_streams_come_from_the_origin_by_every_protocol() {
    let Some((origin, _publisher)) = origin() else { return };
    for base in [
        rtmp_base(origin.rtmp),
        format!("rtsp://127.0.0.1:{}/live", origin.rtsp),
        format!("http://127.0.0.1:{}/live", origin.http),
        format!("rtmps://localhost:{}/live", origin.rtmp),
    ] {
        let ca = format!("ca='{}'", origin.folder().join("ssl/self-signed.crt").display());
        let edge = Server::start_further(&edge_with(std::slice::from_ref(&base), &ca));
        let viewer = Recording::flv(&edge, NAME);
        viewer.wait_pictures(50);
        flv::check_integrity(&base, &viewer.tags());
        let answer = edge.api(&format!("/api/live?app=live&name={NAME}"));
        assert_eq!(answer["app"]["from"], "pull", "{base}: {answer}");
        assert_eq!(answer["app"]["source"].as_str().map(|url| url.starts_with(&base)), Some(true));
        drop(viewer);
        let what = format!("{base}: let go after the linger");
        wait::until_true(&what, Duration::from_secs(15), || !edge.is_live(NAME));
        let missing = http::get(edge.http, "/live/nobody.flv");
        assert_eq!(missing.status, 404, "{base}: {}", missing.text());
    }
}

#[test]
fn every_output_asks_the_origin() {
    let Some((origin, _publisher)) = origin() else { return };
    let edge = Server::start_further(&edge_of(&[rtmp_base(origin.rtmp)]));
    let playlist = http::get(edge.http, &format!("/live/{NAME}.m3u8"));
    assert_eq!(playlist.status, 200, "{}", playlist.text());
    assert!(playlist.text().contains("#EXTINF"), "{}", playlist.text());
    let what = "let go after the last playlist";
    wait::until_true(what, Duration::from_secs(50), || !edge.is_live(NAME));
    let Some(packets) = clients::ffprobe_packets(&edge.rtsp_url(NAME), 2) else { return };
    assert!(packets.len() > 40, "{} packets", packets.len());
    let Some(packets) = clients::ffprobe_packets(&edge.rtmp_url(NAME), 2) else { return };
    assert!(packets.len() > 40, "{} packets", packets.len());
    let missing = http::get(edge.http, "/live/nobody.m3u8");
    assert_eq!(missing.status, 404, "{}", missing.text());
}

#[test]
fn a_crowd_of_first_requests_makes_one_connection_to_the_origin() {
    let Some((origin, _publisher)) = origin() else { return };
    let wire = TcpRelay::start(origin.rtmp);
    let edge = Server::start_further(&edge_of(&[rtmp_base(wire.port)]));
    let started = Arc::new(AtomicUsize::new(0));
    let viewers: Vec<_> = (0..CROWD)
        .map(|number| {
            let (started, http, rtmp) = (Arc::clone(&started), edge.http, edge.rtmp);
            let watch = move || {
                let pictures = if number % 2 == 0 {
                    let path = format!("/live/{NAME}.flv");
                    let (status, _, body) = http::open(http, &path).expect("an answer");
                    assert_eq!(status, 200);
                    let mut reader = flv::Reader::new(body).expect("an FLV header");
                    let tags = std::iter::from_fn(move || reader.next_tag().ok().flatten());
                    tags.filter(flv::Tag::is_picture).take(10).count()
                } else {
                    let mut peer = Peer::playing(rtmp, NAME).expect("plays");
                    let tags = std::iter::from_fn(move || peer.next_tag().ok());
                    tags.filter(flv::Tag::is_picture).take(10).count()
                };
                assert_eq!(pictures, 10, "viewer {number}");
                started.fetch_add(1, Ordering::Relaxed);
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn(watch).expect("a thread")
        })
        .collect();
    wait::until_true("everybody watches", Duration::from_secs(60), || {
        started.load(Ordering::Relaxed) == CROWD || viewers.iter().any(|v| v.is_finished())
    });
    for viewer in viewers {
        viewer.join().expect("a viewer got ten pictures");
    }
    assert_eq!(wire.accepted(), 1, "connections to the origin");
    let attempts = edge.metrics().sum("smart_rtmpd_pull_attempts_total", &[]);
    assert!((attempts - 1.0).abs() < 0.5, "{attempts} attempts");
}

#[test]
fn what_no_origin_has_is_said_soon_and_remembered() {
    let Some((origin, _publisher)) = origin() else { return };
    let wire = TcpRelay::start(origin.rtmp);
    let edge = Server::start_further(&edge_of(&[rtmp_base(wire.port)]));
    let start = Instant::now();
    let answer = http::get(edge.http, "/live/nobody.flv");
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(wire.accepted(), 1);
    for _ in 0..50 {
        let asked = Instant::now();
        assert_eq!(http::get(edge.http, "/live/nobody.flv").status, 404);
        if start.elapsed() < Duration::from_secs(2) {
            assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        }
    }
    assert!(wire.accepted() <= 2, "{} connections", wire.accepted());
    let Ok(mut peer) = Peer::playing(edge.rtmp, "nobody2") else { panic!("plays") };
    let status = peer.status_of(&["onStatus"]).expect("an answer");
    assert_eq!(status, "NetStream.Play.StreamNotFound");
    // It comes, and is asked for again.
    let url = origin.rtmp_url("nobody");
    let Some(_later) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    origin.wait_live("nobody");
    wait::until_true("it is found", Duration::from_secs(10), || {
        http::open(edge.http, "/live/nobody.flv").is_ok_and(|(status, ..)| status == 200)
    });
}

#[test]
fn an_origin_that_is_away_is_passed_over() {
    let Some((origin, _publisher)) = origin() else { return };
    let mut wire = TcpRelay::start(origin.rtmp);
    let nobody = TcpRelay::start(1);
    let urls = [rtmp_base(nobody.port), rtmp_base(wire.port)];
    let edge = Server::start_further(&edge_of(&urls));
    let viewer = Recording::flv(&edge, NAME);
    viewer.wait_pictures(25);
    // The only one that has it goes and comes back.
    wire.cut();
    wait::until_true("the outage is seen", Duration::from_secs(5), || !edge.is_live(NAME));
    let what = "the viewer stays";
    wait::stays_true(what, Duration::from_secs(1), || viewer.open());
    let before = viewer.pictures();
    wire.mend();
    let back = Instant::now();
    wait::until_true("live again", Duration::from_secs(3), || viewer.pictures() > before);
    eprintln!("live again {:?} after the origin", back.elapsed());
    viewer.wait_pictures(before + 50);
    flv::check_integrity("a viewer over an outage of the origin", &viewer.tags());
}

#[test]
fn edges_of_each_other_do_not_go_round() {
    let ports: Vec<u16> = (0..2)
        .map(|_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("it is bound").port()
        })
        .collect();
    let config = |own: u16, other: u16| edge_of(&[rtmp_base(other)]).set("rtmp/port", own);
    let first = Server::start(&config(ports[0], ports[1]).cores(1));
    let second = Server::start_further(&config(ports[1], ports[0]).cores(1));
    let start = Instant::now();
    let answer = http::get(first.http, "/live/nobody.flv");
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // A stream of either is seen at the other.
    for (here, there) in [(&first, &second), (&second, &first)] {
        let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &here.rtmp_url(NAME)) else {
            return;
        };
        here.wait_live(NAME);
        let viewer = wait::until("it is found", Duration::from_secs(10), || {
            let (status, ..) = http::open(there.http, &format!("/live/{NAME}.flv")).ok()?;
            (status == 200).then(|| Recording::flv(there, NAME))
        });
        viewer.wait_pictures(25);
        drop((viewer, _publisher));
        wait::until_true("both have let go", Duration::from_secs(30), || {
            !here.is_live(NAME) && !there.is_live(NAME)
        });
    }
}
