//! New rules while somebody waits or plays: who waits is judged by them, who plays at its time, and
//! nothing is held against a new authorisation server.

use std::thread;
use std::time::{Duration, Instant};

use tests::auth_stub::{Reply, Stub};
use tests::clients::Publisher;
use tests::media::Clip;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{http, rtsp, wait};

const BOUND: Duration = Duration::from_secs(10);
const PUBLISH_START: &str = "NetStream.Publish.Start";
const PUBLISH_FAILED: &str = "NetStream.Publish.Failed";

fn asking(stub: &Stub) -> Config {
    let url = format!("<authurl timeout='8000'>{}</authurl>", stub.place());
    Config::default().with(&url).set("auth/ask", "publisher,player")
}

/// Another configuration, at once.
fn reload(server: &Server, config: &Config) {
    std::fs::write(server.folder().join("config.xml"), config.xml()).expect("is writable");
    let answer = http::send_json(server.http, "POST", "/api/v1/reload", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn told(server: &Server, name: &str) -> String {
    Peer::publishing(server.rtmp, name).expect("an answer").2
}

#[test]
fn rechecks_reach_who_plays_already() {
    let server = Server::start(&Config::default());
    let Some(mut publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("r")) else {
        return;
    };
    server.wait_live("r");
    let mut player = Peer::playing(server.rtmp, "r").expect("connects");
    player.next_tag().expect("plays");
    let mut watcher = rtsp::Peer::playing(server.rtsp, "r").expect("plays");
    let (status, _, mut body) = http::open(server.http, "/live/r.flv").expect("opens");
    assert_eq!(status, 200);

    let deny = "<address roles='player' deny='127.0.0.0/8'/>";
    reload(&server, &Config::default().with(&format!("<auth>{deny}</auth>")));
    assert_eq!(http::get(server.http, "/live/r.m3u8").status, 403);
    player.next_tag().expect("plays on: nobody is judged again");

    let recheck = format!("<auth><recheck>0.5</recheck>{deny}</auth>");
    reload(&server, &Config::default().with(&recheck));
    wait::until_true("they end", BOUND, || server.log_count("closed forbidden") >= 3);
    while player.next_tag().is_ok() {}
    while watcher.next_packet().is_ok() {}
    std::io::copy(&mut body, &mut std::io::sink()).expect("ends");
    assert!(publisher.alive());
}

#[test]
fn who_waits_is_judged_by_the_new_rules() {
    let silent = Stub::start(|_| Reply::Hang);
    let server = Server::start(&asking(&silent));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                let server = &server;
                scope.spawn(move || told(server, &format!("x{number}")))
            })
            .collect();
        let playlist = scope.spawn(|| http::get(server.http, "/live/y.m3u8").status);
        wait::until_true("all are asked about", BOUND, || silent.count() >= 5);
        let allowing = Stub::start(|_| Reply::Status(200));
        let start = Instant::now();
        reload(&server, &asking(&allowing));
        for peer in waiting {
            assert_eq!(peer.join().expect("no panic"), PUBLISH_START);
        }
        assert_eq!(playlist.join().expect("no panic"), 404, "there is no such stream");
        assert!(start.elapsed() < Duration::from_secs(5), "the old server was not waited for");
        assert_eq!(allowing.count(), 5);
    });
}

#[test]
fn a_new_server_is_asked_whatever_the_old_one_did() {
    let failing = Stub::start(|_| Reply::Status(500));
    let config = asking(&failing).cores(1);
    let server = Server::start(&config);
    let paused = || server.metrics().sum("smart_rtmpd_auth_paused_shards", &[]) > 0.0;
    let mut number = 0;
    wait::until_true("the server is left alone", BOUND, || {
        number += 1;
        assert_eq!(told(&server, &format!("x{number}")), PUBLISH_FAILED);
        paused()
    });
    let allowing = Stub::start(|_| Reply::Status(200));
    reload(&server, &asking(&allowing).cores(1));
    assert_eq!(told(&server, "y"), PUBLISH_START);
    assert!(!paused());
}
