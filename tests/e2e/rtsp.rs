//! RTSP: real publishers and players over TCP, UDP and TLS, every codec, lip sync, users.

use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use tests::clients::{self, Decoded, Publisher};
use tests::media::{self, Clip};
use tests::process::Process;
use tests::rtsp::Peer;
use tests::server::{Config, Server};
use tests::{pace, wait};

const NAME: &str = "show";
/// Seconds each player plays, and pictures it must have seen of them.
const SECONDS: u32 = 4;
const PICTURES: u64 = 60;
const LIP_SYNC_MS: f64 = 20.0;
/// Transports as ffmpeg has them behind a URL.
const TRANSPORTS: [&str; 2] = ["?tcp", "?udp"];

#[test]
fn ffmpeg_publishes_over_tcp_and_udp() {
    publishes(Publisher::Ffmpeg);
}

#[test]
fn ffmpeg9_publishes_over_tcp_and_udp() {
    publishes(Publisher::Ffmpeg9);
}

#[test]
fn gstreamer_publishes_over_tcp_and_udp() {
    publishes(Publisher::GstRtspClientSink);
}

#[test]
fn every_player_plays_over_tcp_and_udp() {
    let Some((server, _publisher)) = live_by_rtmp(Clip::H264Aac) else { return };
    for transport in TRANSPORTS {
        let url = server.rtsp_url(NAME) + transport;
        if let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) {
            assert_clean(&format!("ffmpeg 5 {url}"), &decoded);
        }
        if let Some(decoded) = clients::ffmpeg9_decode(&url, SECONDS) {
            assert_clean(&format!("ffmpeg 9 {url}"), &decoded);
        }
        if let Some(seen) = clients::ffplay(&url, SECONDS) {
            assert!(seen.played >= f64::from(SECONDS), "ffplay {url}: {seen:?}");
            assert!(seen.reports > 20, "ffplay {url}: {seen:?}");
            assert!(seen.offset < 0.1, "ffplay {url}: A-V {}", seen.offset);
        }
        let by = transport.trim_start_matches('?');
        if let Some(pictures) = clients::mpv(&server.rtsp_url(NAME), by, SECONDS) {
            assert!(pictures >= PICTURES, "mpv by {by}: {pictures} pictures");
        }
    }
    // Its transports are tried one after the other, UDP first.
    if let Some(pictures) = clients::gst_pictures(&server.rtsp_url(NAME), pace::PICTURES) {
        assert!(pictures >= pace::PICTURES, "GStreamer: {pictures} pictures");
    }
}

#[test]
fn other_codecs_go_both_ways() {
    // What the elementary streams are made of, and where they must be found.
    for (clip, encode, codecs) in [
        (Clip::HevcAac, &["-c", "copy"][..], ["hevc", "aac"]),
        // The packets of AV1 are still experimental there.
        (Clip::Av1Opus, &["-c", "copy", "-strict", "experimental"], ["av1", "opus"]),
        (
            Clip::H264Aac,
            &["-c:v", "copy", "-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"],
            ["h264", "pcm_alaw"],
        ),
        (Clip::H264Aac, &["-c:v", "copy", "-c:a", "libopus", "-ac", "2"], ["h264", "opus"]),
    ] {
        let server = Server::start_default();
        let Some(_publisher) = transcoding_publisher(clip, encode, &server.rtsp_url(NAME)) else {
            return;
        };
        server.wait_live(NAME);
        let rtmp = server.rtmp_url(NAME);
        for url in [server.rtsp_url(NAME) + "?tcp", server.rtsp_url(NAME) + "?udp", rtmp] {
            let Some(decoded) = clients::ffmpeg9_decode(&url, 3) else { return };
            assert!(decoded.complaints.is_empty(), "{codecs:?} {url}: {:?}", decoded.complaints);
            assert!(decoded.pictures >= 40, "{codecs:?} {url}: {} pictures", decoded.pictures);
        }
        // The distribution's ffprobe reads no packets of AV1.
        let Some(ffprobe) = clients::tool("ffprobe").filter(|_| clip != Clip::Av1Opus) else {
            continue;
        };
        let mut command = Command::new(ffprobe);
        command.args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"]);
        command.arg(server.rtsp_url(NAME));
        let found = Process::run("ffprobe", command, Duration::from_secs(15)).stdout_text();
        let found: Vec<_> = found.lines().collect();
        assert_eq!(found, codecs);
    }
}

#[test]
fn lip_sync_is_the_source_s() {
    let Some(source) = Clip::H264Aac.file().and_then(|file| media::lip_sync(&file)) else { return };
    let server = Server::start_default();
    let by_rtsp = server.rtsp_url("by-rtsp");
    let Some(_first) = Publisher::Ffmpeg.start(Clip::H264Aac, &(by_rtsp + "?tcp")) else { return };
    let by_rtmp = server.rtmp_url("by-rtmp");
    let Some(_second) = Publisher::Ffmpeg.start(Clip::H264Aac, &by_rtmp) else { return };
    server.wait_live("by-rtsp");
    server.wait_live("by-rtmp");
    let hls = format!("http://127.0.0.1:{}/live/by-rtsp.m3u8", server.http);
    let cases = [
        server.rtmp_url("by-rtsp"),
        hls,
        server.rtsp_url("by-rtsp") + "?tcp",
        server.rtsp_url("by-rtmp") + "?tcp",
        server.rtsp_url("by-rtmp") + "?udp",
    ];
    for (number, url) in cases.iter().enumerate() {
        let file = server.folder().join(format!("{number}.mkv"));
        let Some(recorded) = clients::ffmpeg_decode_to(url, 6, &file) else { return };
        let got = media::lip_sync(&file);
        let got = got.unwrap_or_else(|| panic!("{url}: no flash or beep: {}", recorded.stderr));
        assert!((got - source).abs() <= LIP_SYNC_MS, "{url}: {got} ms, the source has {source} ms");
    }
}

#[test]
fn rtsps_both_ways() {
    let server = Server::start_default();
    let url = server.rtsp_url(NAME).replace("rtsp:", "rtsps:");
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    server.wait_live(NAME);
    let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) else { return };
    assert_clean(&url, &decoded);
}

#[test]
fn only_users_come_in_where_there_are_any() {
    let server = Server::start(&Config::default().set("rtsp/user", "cam:se cret"));
    let url = |user: &str| server.rtsp_url(NAME).replace("rtsp://", &format!("rtsp://{user}"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url("cam:se%20cret@")) else {
        return;
    };
    server.wait_live(NAME);
    let Some(decoded) = clients::ffmpeg_decode(&url("cam:se%20cret@"), SECONDS) else { return };
    assert_clean("with the password", &decoded);
    for wrong in ["", "cam:guess@", "nobody:se%20cret@"] {
        let Some(refused) = clients::ffmpeg_decode(&url(wrong), SECONDS) else { return };
        assert_eq!(refused.pictures, 0, "{wrong}");
        assert!(refused.complaints.iter().any(|line| line.contains("401")), "{refused:?}");
    }
    assert!(!server.whole_log().contains("se cret"), "a password in the log");
}

#[test]
fn wrong_apps_and_unknown_streams_are_named() {
    let server = Server::start(&Config::default().set("rtmp/play_wait", "0.2"));
    let other = server.rtsp_url(NAME).replace("/live/", "/other/");
    for (url, reason) in [(other, "no such application"), (server.rtsp_url(NAME), "not found")] {
        let Some(refused) = clients::ffmpeg_decode(&url, 2) else { return };
        let told = |line: &String| line.contains("404") && line.contains(reason);
        assert!(refused.complaints.iter().any(told), "{url}: {refused:?}");
    }
}

#[test]
fn a_viewer_outlives_its_publisher() {
    let Some((_server, _second, viewer)) = replaced(8, Clip::H264Aac) else { return };
    let Some(decoded) = viewer.join().expect("the viewer does not panic") else { return };
    assert!(decoded.pictures >= 120, "{decoded:?}");
}

#[test]
fn a_viewer_is_not_left_with_another_codec() {
    let Some((server, _second, viewer)) = replaced(60, Clip::HevcAac) else { return };
    server.wait_log("closed tracks_changed", Duration::from_secs(10));
    let ended = viewer.join().expect("the viewer does not panic");
    assert!(ended.is_some_and(|decoded| decoded.pictures > 0));
    let Some(again) = clients::ffmpeg_decode(&(server.rtsp_url(NAME) + "?tcp"), 2) else { return };
    assert!(again.pictures >= 30 && again.complaints.is_empty(), "{again:?}");
}

#[test]
fn udp_ports_come_from_the_range_and_sessions_leave_nothing() {
    let config = Config::default().cores(1).set("rtmp/rtp@size", "1200");
    let server = Server::start(&config);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url(NAME)) else {
        return;
    };
    server.wait_live(NAME);
    let url = server.rtsp_url(NAME) + "?udp";
    let Some(first) = clients::ffmpeg_decode(&url, 2) else { return };
    assert!(first.pictures > 20, "{first:?}");
    // The pair of ports is bound once and stays.
    let descriptors = server.descriptors();
    for _ in 0..3 {
        let Some(again) = clients::ffmpeg_decode(&url, 1) else { return };
        assert!(again.pictures > 10, "{again:?}");
    }
    let what = "descriptors return";
    wait::until_true(what, Duration::from_secs(10), || server.descriptors() <= descriptors);
    let viewers = || server.metrics().sum("smart_rtmpd_viewers", &["proto=\"rtsp\""]);
    wait::until_true("no viewer is left", Duration::from_secs(10), || viewers() == 0.0);
}

/// Who comes through a NAT is told the outer addresses, and reaches the stream by either name.
#[test]
fn outer_addresses_are_told_where_there_are_any() {
    let config = Config::default()
        .set("nat/rtp", "203.0.113.9")
        .set("nat/rtsp", "cameras.example:9554")
        .set("nat/rtmp", "cameras.example");
    let server = Server::start(&config);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url(NAME)) else {
        return;
    };
    server.wait_live(NAME);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    let described = peer.ask("DESCRIBE", NAME, "Accept: application/sdp\r\n", "").expect("told");
    assert_eq!(described.status, 200, "{}", described.head);
    assert!(described.body.contains("IN IP4 203.0.113.9"), "{}", described.body);
    let stream = server.api(&format!("/api/live?vhost=cameras.example&name={NAME}"));
    let urls = stream["urls"].to_string();
    // Without a port of its own it is the one we have.
    let rtmp = format!("rtmp://cameras.example:{}/live/{NAME}", server.rtmp);
    for url in ["rtsp://cameras.example:9554/live/show", &rtmp] {
        assert!(urls.contains(url), "{url}: {urls}");
    }
}

fn live_by_rtmp(clip: Clip) -> Option<(Server, Process)> {
    clip.file()?;
    let server = Server::start_default();
    let process = Publisher::Ffmpeg.start(clip, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, process))
}

/// A stream that somebody plays for so many seconds, whose publisher has gone and whose second one
/// is starting.
fn replaced(seconds: u32, second: Clip) -> Option<(Server, Process, JoinHandle<Option<Decoded>>)> {
    let server = Server::start_default();
    let url = server.rtsp_url(NAME) + "?tcp";
    let first = Publisher::Ffmpeg.start(Clip::H264Aac, &url)?;
    server.wait_live(NAME);
    let viewer = std::thread::spawn({
        let url = url.clone();
        move || clients::ffmpeg_decode(&url, seconds)
    });
    server.wait_log("playing", Duration::from_secs(10));
    let watches = || server.metrics().sum("smart_rtmpd_viewers", &["proto=\"rtsp\""]) == 1.0;
    wait::stays_true("the viewer watches", Duration::from_secs(2), watches);
    drop(first);
    wait::until_true("the stream is gone", Duration::from_secs(10), || !server.is_live(NAME));
    let second = Publisher::Ffmpeg.start(second, &url)?;
    Some((server, second, viewer))
}

/// Publishes over both transports and plays what comes in by RTMP, FLV, HLS and RTSP.
fn publishes(publisher: Publisher) {
    for transport in TRANSPORTS {
        let server = Server::start_default();
        let url = server.rtsp_url(NAME);
        let Some(process) = publisher.start(Clip::H264Aac, &(url.clone() + transport)) else {
            return;
        };
        server.wait_live(NAME);
        let hls = format!("http://127.0.0.1:{}/live/{NAME}.m3u8", server.http);
        for url in [server.rtmp_url(NAME), server.flv_url(NAME), hls, url + "?tcp"] {
            let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) else { return };
            assert_clean(&format!("{publisher:?}{transport} to {url}"), &decoded);
        }
        drop(process);
        let what = "the stream leaves with its publisher";
        wait::until_true(what, Duration::from_secs(15), || !server.is_live(NAME));
    }
}

fn transcoding_publisher(clip: Clip, encode: &[&str], url: &str) -> Option<Process> {
    let mut command = Command::new(clients::ffmpeg9()?);
    command.args(["-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]);
    command.arg(clip.file()?).args(encode).args(["-f", "rtsp", "-rtsp_transport", "tcp", url]);
    Some(Process::spawn("ffmpeg publisher", command))
}

fn assert_clean(who: &str, decoded: &Decoded) {
    assert!(decoded.complaints.is_empty(), "{who}: {:?}", decoded.complaints);
    assert!(decoded.pictures >= PICTURES, "{who}: {} pictures", decoded.pictures);
}
