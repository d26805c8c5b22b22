//! Coming and going: waiting viewers, second and dead publishers, outages, names, shutdown.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::certificates::{self_signed, shown};
use tests::clients::Publisher;
use tests::flv::{self, Tag};
use tests::media::{self, Clip};
use tests::rtmp::{self, Peer};
use tests::server::{Config, Server};
use tests::{http, wait};

const STARTED: &str = "NetStream.Publish.Start";

#[test]
fn play_before_publish_waits() {
    let server = Server::start(&Config::default().set("rtmp/play_wait", 10));
    let mut over_rtmp = Peer::playing(server.rtmp, "late").expect("the viewer may wait");
    let port = server.http;
    let over_http = std::thread::spawn(move || http::open(port, "/live/late.flv"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("late")) else {
        return;
    };
    let first = next_picture(&mut over_rtmp);
    assert!(first.is_keyframe(), "the waiting viewer starts with a keyframe");
    let (status, _, body) = over_http.join().expect("no panic").expect("an answer");
    assert_eq!(status, 200);
    let mut reader = flv::Reader::new(body).expect("an FLV header");
    assert!(reader.next_tag().expect("a tag").is_some());
}

#[test]
fn play_of_nothing_ends() {
    let server = Server::start(&Config::default().set("rtmp/play_wait", 1));
    let mut viewer = Peer::playing(server.rtmp, "nothing").expect("play is sent");
    let status = loop {
        let status = viewer.status_of(&["onStatus", "_error"]).expect("a status");
        if status != "NetStream.Play.Reset" && status != "NetStream.Play.Start" {
            break status;
        }
    };
    assert_eq!(status, "NetStream.Play.StreamNotFound");
    let answer = http::get(server.http, "/live/nothing.flv");
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn second_publisher_is_rejected() {
    let server = Server::start(&Config::default().set("rtmp/publish_policy", "reject"));
    let Some(mut first) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("one")) else {
        return;
    };
    server.wait_live("one");
    let mut viewer = Peer::playing(server.rtmp, "one").expect("plays");
    let last = next_picture(&mut viewer).timestamp;
    let (_, _, status) = Peer::publishing(server.rtmp, "one").expect("an answer");
    assert_eq!(status, "NetStream.Publish.BadName");
    assert!(first.alive(), "the first publisher goes on");
    assert!(next_picture(&mut viewer).timestamp > last);
}

#[test]
fn second_publisher_takes_over() {
    let Some(tags) = media::tags(Clip::VideoOnly) else { return };
    let server = Server::start(&Config::default().set("rtmp/publish_policy", "takeover"));
    let Some(mut first) = Publisher::Ffmpeg.start(Clip::VideoOnly, &server.rtmp_url("one")) else {
        return;
    };
    server.wait_live("one");
    let mut viewer = Peer::playing(server.rtmp, "one").expect("plays");
    let _ = next_picture(&mut viewer);
    let (mut second, stream, status) = Peer::publishing(server.rtmp, "one").expect("an answer");
    assert_eq!(status, STARTED);
    assert!(first.exited_within(Duration::from_secs(5)).is_some(), "the first one is closed");
    rtmp::send_paced(&mut second, stream, &tags, Duration::from_secs(2)).expect("is taken");
    let before = next_picture(&mut viewer).timestamp;
    assert!(next_picture(&mut viewer).timestamp >= before, "the viewer stays, time goes on");
}

#[test]
fn dead_publisher_is_replaced_within_a_second() {
    let config = Config::default().set("rtmp/publish_policy", "reject");
    let server = Server::start(&config.set("rtmp/publisher_dead", 1000));
    let Some(first) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("dead")) else {
        return;
    };
    server.wait_live("dead");
    first.signal(libc::SIGSTOP);
    let stopped = Instant::now();
    // One second of silence makes it dead; one more is what the replacement may take.
    let _second = wait::until("the dead publisher is replaced", Duration::from_secs(2), || {
        let (peer, _, status) = Peer::publishing(server.rtmp, "dead").expect("an answer");
        (status == STARTED).then_some(peer)
    });
    let took = stopped.elapsed();
    assert!(took > Duration::from_millis(500), "a living publisher was replaced after {took:?}");
}

#[test]
fn viewers_stay_over_an_outage() {
    let server = Server::start(&Config::default().set("rtmp/publisher_grace", 10));
    let url = server.rtmp_url("outage");
    let Some(first) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    server.wait_live("outage");
    let viewers = [Recording::flv(&server, "outage"), Recording::rtmp(&server, "outage")];
    for viewer in &viewers {
        viewer.wait_pictures(25);
    }
    drop(first);
    let what = "the viewers stay for 3 s without publisher";
    wait::stays_true(what, Duration::from_secs(3), || viewers.iter().all(Recording::open));
    let before = viewers.each_ref().map(Recording::pictures);
    let Some(_second) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    for (viewer, before) in viewers.iter().zip(before) {
        viewer.wait_pictures(before + 50);
        flv::check_integrity("viewer over an outage", &viewer.tags());
    }
}

#[test]
fn viewers_are_let_go_after_the_grace() {
    let server = Server::start(&Config::default().set("rtmp/publisher_grace", 1));
    let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("gone")) else {
        return;
    };
    server.wait_live("gone");
    let viewers = [Recording::flv(&server, "gone"), Recording::rtmp(&server, "gone")];
    for viewer in &viewers {
        viewer.wait_pictures(5);
    }
    drop(publisher);
    for viewer in &viewers {
        wait::until_true("the viewer is let go", Duration::from_secs(6), || !viewer.open());
    }
}

#[test]
fn terminates_within_ten_seconds() {
    let mut server = Server::start_default();
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("last")) else {
        return;
    };
    server.wait_live("last");
    let viewers = [Recording::flv(&server, "last"), Recording::rtmp(&server, "last")];
    for viewer in &viewers {
        viewer.wait_pictures(5);
    }
    let _silent = Peer::open(server.rtmp).expect("connects");
    let (status, took) = server.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "after {took:?}: {}", server.log());
    for viewer in &viewers {
        wait::until_true("the viewers see the end", Duration::from_secs(1), || !viewer.open());
    }
}

#[test]
fn two_sigterms_are_one() {
    let mut server = Server::start_default();
    server.signal(libc::SIGTERM);
    let (status, _) = server.terminate(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[test]
fn stopped_server_goes_on() {
    let server = Server::start_default();
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("froze")) else {
        return;
    };
    server.wait_live("froze");
    let viewer = Recording::flv(&server, "froze");
    viewer.wait_pictures(5);
    server.signal(libc::SIGSTOP);
    wait::stays_true("nothing ends", Duration::from_secs(3), || viewer.open());
    server.signal(libc::SIGCONT);
    viewer.wait_pictures(viewer.pictures() + 100);
    assert!(viewer.open(), "time that nobody had counts against nobody");
}

#[test]
fn unknown_app_is_refused() {
    let server = Server::start_default();
    let mut peer = Peer::shaken(server.rtmp).expect("shakes hands");
    let status = peer.connect(server.rtmp, "nosuchapp").expect("an answer");
    assert_eq!(status, "NetConnection.Connect.Rejected");
    assert_eq!(http::get(server.http, "/nosuchapp/one.flv").status, 404);
}

#[test]
fn bad_names_are_refused() {
    let server = Server::start_default();
    let long = "x".repeat(4096);
    let slashes = "/".repeat(300);
    let names: [&str; 12] = [
        "",
        "..",
        "a/../b",
        "../../x",
        "%2e%2e%2fx",
        "a\0b",
        "a\r\nb",
        "\x1b[2J",
        "<script>",
        "\u{202e}evil",
        &long,
        &slashes,
    ];
    for name in names {
        let answer = Peer::publishing(server.rtmp, name);
        let status = answer.map_or_else(|_| "closed".to_owned(), |(_, _, status)| status);
        assert_ne!(status, STARTED, "{name:?} was accepted");
    }
    assert!(server.api_live().is_empty(), "{:?}", server.api_live());
    let log = server.whole_log();
    let raw = log.lines().find(|line| line.contains('\x1b') || line.contains('\u{202e}'));
    assert_eq!(raw, None, "control characters in the log");
    let files = std::fs::read_dir(server.folder()).expect("the folder is there").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let strange: Vec<String> = names.filter(|name| name.ends_with(".flv")).collect();
    assert!(strange.is_empty(), "made on disk: {strange:?}");
}

#[test]
fn extended_timestamps_of_both_habits() {
    let Some(tags) = media::tags(Clip::VideoOnly) else { return };
    let server = Server::start_default();
    for repeats in [true, false] {
        let name = format!("wrap{repeats}");
        // Starts two seconds before 24 bits are full.
        let shifted =
            |tag: &Tag| Tag { timestamp: tag.timestamp + 0xFF_FFFF - 2000, ..tag.clone() };
        let tags: Vec<Tag> = tags.iter().map(shifted).collect();
        let (mut peer, stream, status) = Peer::publishing(server.rtmp, &name).expect("an answer");
        assert_eq!(status, STARTED);
        peer.repeat_extended = repeats;
        let span = Duration::from_secs(5);
        let sender = std::thread::spawn(move || {
            rtmp::send_paced(&mut peer, stream, &tags, span).map(|()| peer)
        });
        server.wait_live(&name);
        let viewer = Recording::flv(&server, &name);
        viewer.wait_pictures(100);
        let _peer = sender.join().expect("no panic").expect("taken to its end");
        let tags = viewer.tags();
        flv::check_integrity(&name, &tags);
        let times = tags.iter().filter(|tag| tag.is_picture()).map(|tag| tag.timestamp);
        let times: Vec<u32> = times.collect();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap.is_some_and(|gap| gap <= 90), "{name}: a gap of {gap:?} ms");
    }
}

fn next_picture(viewer: &mut Peer) -> Tag {
    loop {
        let tag = viewer.next_tag().expect("the stream goes on");
        if tag.is_picture() {
            return tag;
        }
    }
}

/// A viewer in a thread of its own that keeps what it gets.
pub(crate) struct Recording {
    tags: Arc<Mutex<Vec<Tag>>>,
    thread: JoinHandle<()>,
}

impl Recording {
    pub(crate) fn flv(server: &Server, name: &str) -> Recording {
        let (port, path) = (server.http, format!("/live/{name}.flv"));
        let (status, _, body) = http::open(port, &path).expect("an answer");
        assert_eq!(status, 200);
        body.socket().set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut reader = flv::Reader::new(body).expect("an FLV header");
        Recording::spawn(move || reader.next_tag().ok().flatten())
    }

    pub(crate) fn rtmp(server: &Server, name: &str) -> Recording {
        let mut peer = Peer::playing(server.rtmp, name).expect("plays");
        peer.socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Recording::spawn(move || peer.next_tag().ok())
    }

    fn spawn(mut next: impl FnMut() -> Option<Tag> + Send + 'static) -> Recording {
        let tags = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&tags);
        let thread = std::thread::spawn(move || {
            while let Some(tag) = next() {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(tag);
                if Arc::strong_count(&into) == 1 {
                    return;
                }
            }
        });
        Recording { tags, thread }
    }

    pub(crate) fn open(&self) -> bool {
        !self.thread.is_finished()
    }

    pub(crate) fn tags(&self) -> Vec<Tag> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn pictures(&self) -> usize {
        let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.iter().filter(|tag| tag.is_picture()).count()
    }

    pub(crate) fn wait_pictures(&self, count: usize) {
        let what = format!("{count} pictures at a viewer");
        wait::until_true(&what, Duration::from_secs(15), || self.pictures() >= count);
    }
}

#[test]
fn certificates_are_reloaded_without_a_restart() {
    const SIGHUP: i32 = 1;
    let Some(_) = tests::clients::tool("openssl") else { return };
    let server = Server::start_default();
    let (cert, key) =
        (server.folder().join("ssl/self-signed.crt"), server.folder().join("ssl/self-signed.key"));
    let before = shown(server.https);
    assert!(!before.is_empty());
    self_signed(&cert, &key, "/CN=renewed", "DNS:renewed").expect("openssl is there");
    server.signal(SIGHUP);
    let bound = Duration::from_secs(5);
    wait::until_true("the new certificate is shown", bound, || {
        let now = shown(server.https);
        !now.is_empty() && now != before
    });
    let renewed = shown(server.rtmp);
    assert_eq!(renewed, shown(server.https), "RTMPS shows the same");
    std::fs::write(&cert, "no certificate").expect("the file is ours");
    server.signal(SIGHUP);
    server.wait_log("not reloaded", bound);
    assert_eq!(shown(server.https), renewed, "a bad file changes nothing");
}
