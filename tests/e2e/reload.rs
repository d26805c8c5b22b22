//! Reloading under viewers: files with a fault change nothing, good ones only what differs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::certificates::{self_signed, shown};
use tests::clients::{self, Publisher};
use tests::crowd::Crowd;
use tests::media::Clip;
use tests::process::Process;
use tests::rtmp::Peer;
use tests::server::{Config, Server};
use tests::{flv, http, wait};

use crate::lifecycle::Recording;

const SIGHUP: i32 = 1;
const NAME: &str = "steady";
const BOUND: Duration = Duration::from_secs(10);
/// Viewers while files are broken.
const CROWD: usize = 500;

fn publish(server: &Server, name: &str) -> Option<Process> {
    let publisher = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(name))?;
    server.wait_live(name);
    Some(publisher)
}

fn write(server: &Server, file: &str, text: impl AsRef<[u8]>) {
    std::fs::write(server.folder().join(file), text).expect("the folder is writable");
}

/// Reloads by the API; status and answer.
fn reload(server: &Server) -> (u16, Value) {
    let answer = http::send_json(server.http, "POST", "/api/v1/reload", "");
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

fn options(server: &Server) -> Value {
    server.api("/api/v1/config")["options"].clone()
}

/// Reloads that failed.
fn failures(server: &Server) -> f64 {
    server.metrics().sum("smart_rtmpd_reloads_total", &["outcome=\"failed\""])
}

/// Files that must be refused: name, text, and what the answer says of it.
fn broken() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mut attributes = String::from("<config");
    for index in 0..80_000 {
        write!(attributes, " a{index}=''").expect("into a string");
    }
    attributes.push_str("/>");
    let inside = |body: &str| format!("<config>\n{body}\n</config>").into_bytes();
    let rules = |body: &str| format!("<policy>\n{body}\n</policy>").into_bytes();
    let bomb = "<!DOCTYPE c [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>\n\
        <config>&b;</config>";
    let external = "<!DOCTYPE c SYSTEM 'file:///etc/passwd'><config/>";
    vec![
        ("config.xml", Vec::new(), "holds no element"),
        ("config.xml", bomb.into(), "document type declarations"),
        ("config.xml", external.into(), "document type declarations"),
        ("config.xml", attributes.into_bytes(), "more than 32 attributes"),
        ("config.xml", vec![b' '; 10 << 20], "larger than"),
        ("config.xml", b"<?xml version='1.0' encoding='gb2312'?><config/>".to_vec(), "gb2312"),
        ("config.xml", b"\xff\xfe<\0c\0".to_vec(), "UTF-16"),
        ("config.xml", b"<config><log>\xb0\xa1</log></config>".to_vec(), "UTF-8"),
        ("config.xml", b"<config>\x1b[2J</config>".to_vec(), "control character"),
        ("config.xml", b"\x7fELF\x02\x01\x01".to_vec(), "config.xml"),
        ("config.xml", b"<config><rtmp>".to_vec(), "the file ends before </rtmp>"),
        ("config.xml", b"<config><rtmp></config>".to_vec(), "not well-formed"),
        ("config.xml", b"<policy/>".to_vec(), "root element"),
        ("config.xml", b"{\"rtmp\":{}}".to_vec(), "between elements"),
        ("config.xml", inside("<rtpm/>"), "did you mean rtmp?"),
        ("config.xml", inside("<rtmp><port>70000</port></rtmp>"), "is not a port"),
        ("config.xml", inside("<rtmp><chunksize>1</chunksize></rtmp>"), "rtmp/chunksize"),
        ("config.xml", inside("<rtmp><port>1</port><port>2</port></rtmp>"), "given twice"),
        ("config.xml", inside("<http><port>1935</port></http>"), "is 1935 like rtmp/port"),
        ("config.xml", inside("<ssl><servercert>a</servercert></ssl>"), "ssl/serverkey"),
        (
            "config.xml",
            inside("<ssl><servercert>a.pem</servercert><serverkey>b.pem</serverkey></ssl>"),
            "a.pem",
        ),
        ("config.xml", inside("<http><api_allow>lan</api_allow></http>"), "api_allow"),
        ("config.xml", inside("<events><kinds>flood</kinds></events>"), "\"flood\" is no event"),
        ("config.xml", inside("<events><url>ftp://h/</url></events>"), "events/url"),
        ("config.xml", inside("<log>verbose</log>"), "log"),
        ("policy.xml", Vec::new(), "holds no element"),
        ("policy.xml", b"<policy>".to_vec(), "policy.xml"),
        ("policy.xml", rules("<pulls><pull uri='x'/></pulls>"), "pulls/pull@uri"),
        (
            "policy.xml",
            rules("<pulls><pull url='rtsp://u:planted@h/x' stream='other/x'/></pulls>"),
            "cannot be pulled",
        ),
        (
            "policy.xml",
            rules("<pulls><pull url='rtsps://h/x' stream='live/x' ca='none.pem'/></pulls>"),
            "none.pem",
        ),
        (
            "policy.xml",
            rules("<urls><url name='http://h/live/x'><forward>h</forward></url></urls>"),
            "urls/url@name",
        ),
    ]
}

#[test]
fn thirty_broken_files_under_viewers_change_nothing() {
    let server = Server::start(&Config::default().policy("<policy></policy>"));
    let Some(_publisher) = publish(&server, NAME) else { return };
    let crowd = Crowd::start(server.http, NAME, CROWD);
    crowd.wait_all_served(BOUND);
    let player = Recording::rtmp(&server, NAME);
    player.wait_pictures(10);
    let (config, policy) = ("config.xml", "policy.xml");
    let read = |file: &str| std::fs::read(server.folder().join(file)).expect("it is there");
    let good = [(config, read(config)), (policy, read(policy))];
    let before = options(&server);
    let broken = broken();
    assert_eq!(broken.len(), 31);
    let mut failed = 0.0;
    for (round, (file, text, why)) in broken.iter().enumerate() {
        // One fault at a time.
        for (name, good) in good.iter().filter(|(name, _)| name != file) {
            write(&server, name, good);
        }
        write(&server, file, text);
        // By each way in turn.
        let shown = match round % 3 {
            0 => {
                let (status, answer) = reload(&server);
                assert_eq!(status, 422, "{file}: {why}: {answer}");
                answer["detail"].as_str().expect("a sentence").to_owned()
            }
            way => {
                if way == 1 {
                    server.signal(SIGHUP);
                }
                wait::until("the fault is told of", BOUND, || {
                    let last = server.api("/api/v1/reload");
                    let error = last["error"].as_str().unwrap_or_default().to_owned();
                    (failures(&server) > failed && error.contains(why)).then_some(error)
                })
            }
        };
        assert!(shown.contains(why), "{file}: {why}: {shown}");
        assert!(!shown.contains("planted"), "{shown}");
        assert_eq!(options(&server), before, "{why}");
        failed = failures(&server);
    }
    assert_eq!(crowd.open(), CROWD, "nobody was let go");
    crowd.wait_all_served(BOUND);
    for (file, text) in &good {
        write(&server, file, text);
    }
    let (status, answer) = reload(&server);
    assert_eq!((status, &answer["changed"]), (200, &json!([])), "{answer}");
    player.wait_pictures(player.pictures() + 50);
    flv::check_integrity("a player under broken files", &player.tags());
    assert_eq!(crowd.open(), CROWD);
    wait::until_true("each is told of", Duration::from_secs(5), || {
        server.log_count("not reloaded: nothing changes") >= broken.len()
    });
}

#[test]
fn a_good_file_touches_only_its_difference() {
    // Viewers are limited per shard.
    let config = Config::default().cores(1).set("rtmp/chunksize", 4096);
    let server = Server::start(&config);
    let Some(_publisher) = publish(&server, NAME) else { return };
    let players = [Recording::rtmp(&server, NAME), Recording::flv(&server, NAME)];
    for player in &players {
        player.wait_pictures(20);
    }
    let gone = || server.metrics().sum("smart_rtmpd_closed_total", &["proto=\"rtmp\""]);
    let before = gone();
    let new = config
        .clone()
        .set("rtmp/chunksize", 512)
        .set("rtmp/port", 19_350)
        .set("engine/ring_depth", 128)
        .set("rtmp/hasflv", false)
        .set("http/record", format!("live/{NAME}"))
        .set("limits/viewers_per_stream", 3)
        .set("log", "debug");
    write(&server, "config.xml", new.xml());
    server.wait_log("reloaded: changed", BOUND);
    let last = server.api("/api/v1/reload");
    assert_eq!(last["cause"], "file", "{last}");
    assert_eq!(
        last["changed"],
        json!(["log", "rtmp/chunksize", "rtmp/hasflv", "http/record", "limits/viewers_per_stream"])
    );
    assert_eq!(last["restart"], json!(["engine/ring_depth", "rtmp/port"]));
    // New for those who come now.
    assert_eq!(http::get(server.http, &format!("/live/{NAME}.flv")).status, 404);
    let bound = Duration::from_secs(5);
    wait::until_true("the live stream is recorded", bound, || {
        server.metrics().sum("smart_rtmpd_record_streams", &[]) == 1.0
    });
    let newcomer = Recording::rtmp(&server, NAME);
    newcomer.wait_pictures(20);
    flv::check_integrity("a viewer with new chunks", &newcomer.tags());
    let mut passing = 1.0;
    wait::until_true("the fourth viewer is refused", bound, || {
        passing += 1.0;
        let mut fourth = Peer::playing(server.rtmp, NAME).expect("play is sent");
        let status = fourth.status_of(&["onStatus", "_error"]).expect("a status");
        status == "NetStream.Play.Failed"
    });
    server.wait_log("DEBUG", Duration::from_secs(5));
    // The same for those who were there.
    for player in &players {
        player.wait_pictures(player.pictures() + 50);
        flv::check_integrity("a viewer from before", &player.tags());
        assert!(player.open());
    }
    drop(newcomer);
    // And back.
    write(&server, "config.xml", config.xml());
    let (status, answer) = reload(&server);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["restart"], json!([]), "{answer}");
    wait::until_true("the recording has ended", bound, || {
        server.metrics().sum("smart_rtmpd_record_streams", &[]) == 0.0
    });
    assert_eq!(
        server.api("/api/v1/recordings/default/live%2Fsteady")["days"].as_array().map(Vec::len),
        Some(1)
    );
    for player in &players {
        player.wait_pictures(player.pictures() + 20);
    }
    // Only those who came in between have gone.
    wait::until_true("they have gone", bound, || gone() - before >= passing);
    assert_eq!(gone() - before, passing);
}

#[test]
fn a_hundred_signals_are_harmless() {
    let mut server = Server::start_default();
    let Some(_publisher) = publish(&server, NAME) else { return };
    let player = Recording::rtmp(&server, NAME);
    player.wait_pictures(10);
    let config = Config::default().set("rtmp/play_wait", 3).xml();
    write(&server, "config.xml", config);
    let mut sent = 0;
    wait::paced(Duration::from_millis(10), BOUND, || {
        server.signal(SIGHUP);
        sent += 1;
        sent < 100
    });
    assert_eq!(sent, 100);
    server.wait_log("reloaded: changed rtmp/play_wait", BOUND);
    player.wait_pictures(player.pictures() + 50);
    flv::check_integrity("a player under signals", &player.tags());
    let reloads = server.metrics().sum("smart_rtmpd_reloads_total", &["succeeded"]);
    assert!((1.0..=101.0).contains(&reloads), "{reloads}");
    server.wait_log("reloaded: changed", Duration::from_secs(5));
    assert_eq!(server.log_count("reloaded: changed"), 1, "once is enough");
    assert!(server.alive());
}

#[test]
fn certificates_follow_their_files_and_their_names() {
    let Some(_) = clients::tool("openssl") else { return };
    let server = Server::start_default();
    let first = shown(server.https);
    let make = |cert: &Path, key: &Path, name: &str| {
        let made = self_signed(cert, key, &format!("/CN={name}"), &format!("DNS:{name}"));
        made.expect("openssl is there");
    };
    // The files in use, replaced: nobody has to say so.
    let ssl = server.folder().join("ssl");
    make(&ssl.join("self-signed.crt"), &ssl.join("self-signed.key"), "second");
    wait::until_true("the replaced certificate is shown", BOUND, || {
        let now = shown(server.https);
        !now.is_empty() && now != first
    });
    let second = shown(server.https);
    // Other files, by the configuration.
    make(&server.folder().join("own.crt"), &server.folder().join("own.key"), "third");
    let change = r#"{"options":{"ssl/servercert":"own.crt","ssl/serverkey":"own.key"}}"#;
    let answer = http::send_json(server.http, "PUT", "/api/v1/config", change);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let third = shown(server.https);
    assert!(!third.is_empty() && third != second, "the new files are in force with the answer");
    assert_eq!(shown(server.rtmp), third, "RTMPS shows the same");
}

/// What `/api/v1/pulls` says of a stream.
fn pull(server: &Server, name: &str) -> Value {
    let pulls = server.api("/api/v1/pulls");
    let list = pulls["pulls"].as_array().expect("a list");
    list.iter().find(|pull| pull["stream"]["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn pulls_follow_the_policy_and_those_that_stay_run_on() {
    let Some(clip) = Clip::Canary.file() else { return };
    let rule = |name: &str| format!("<pull url='file:a.flv' stream='live/{name}' when='always'/>");
    let policy = |names: &[&str]| {
        let rules: String = names.iter().map(|name| rule(name)).collect();
        format!("<policy>\n<!-- ours -->\n<pulls>{rules}</pulls></policy>")
    };
    let server = Server::start(&Config::default().policy(&policy(&[])));
    std::fs::create_dir_all(server.folder().join("vod")).expect("a folder");
    std::fs::copy(clip, server.folder().join("vod/a.flv")).expect("a copy");
    write(&server, "policy.xml", policy(&["stays", "goes"]));
    assert_eq!(reload(&server).1["policy_changed"], true);
    server.wait_live("stays");
    server.wait_live("goes");
    let viewer = Recording::rtmp(&server, "stays");
    viewer.wait_pictures(20);
    write(&server, "policy.xml", policy(&["comes", "stays"]));
    server.wait_live("comes");
    wait::until_true("the one that is gone ends", BOUND, || !server.is_live("goes"));
    viewer.wait_pictures(viewer.pictures() + 50);
    flv::check_integrity("a viewer of a pull that stays", &viewer.tags());
    let stays = pull(&server, "stays");
    assert_eq!((&stays["attempts"], &stays["state"]), (&json!(1), &json!("live")), "{stays}");
    assert_eq!(pull(&server, "goes"), Value::Null);
    // The place that has become free is taken, and a stale answer of the one before is no matter.
    write(&server, "policy.xml", policy(&["comes", "stays", "goes"]));
    server.wait_live("goes");
    assert_eq!(pull(&server, "stays")["attempts"], json!(1));
}

#[test]
fn authorities_renewed_under_their_name_are_trusted() {
    let origin = Server::start_default();
    let Some(_publisher) = publish(&origin, NAME) else { return };
    let server = Server::start(&Config::default().policy("<policy/>"));
    let (own, theirs) = (server.folder(), origin.folder());
    let trusted = own.join("trusted.pem");
    std::fs::copy(own.join("ssl/self-signed.crt"), &trusted).expect("a copy");
    let url = origin.rtmps_url(NAME).replace("127.0.0.1", "localhost");
    let rule = format!("<pull url='{url}' stream='live/x' when='always' ca='trusted.pem'/>");
    write(&server, "policy.xml", format!("<policy><pulls>{rule}</pulls></policy>"));
    assert_eq!(reload(&server).1["policy_changed"], true);
    wait::until_true("a stranger is not trusted", BOUND, || {
        server.metrics().sum("smart_rtmpd_pull_failures_total", &["reason=\"tls\""]) >= 1.0
    });
    std::fs::copy(theirs.join("ssl/self-signed.crt"), own.join("new.pem")).expect("a copy");
    std::fs::rename(own.join("new.pem"), &trusted).expect("in the same folder");
    // Nobody has to say so; the next attempt is due within its pause.
    wait::until_true("the renewed one is", BOUND * 3, || server.is_live("x"));
    let last = server.api("/api/v1/reload");
    assert_eq!(
        (&last["cause"], &last["policy_changed"]),
        (&json!("file"), &json!(false)),
        "{last}"
    );
}
