//! Live streams in Chromium, by the players of the page and by shaka-player: real time without a
//! stall, and how far behind live.

use std::time::Duration;

use tests::clients::{self, Publisher, Steady};
use tests::media::Clip;
use tests::process::Process;
use tests::server::Server;
use tests::{http, wait};

const NAME: &str = "show";

/// How long each player is watched. `BROWSER_SECONDS=60` by hand also holds them to the clock: no
/// stall, real time, and how far behind live.
fn watched_s() -> u32 {
    std::env::var("BROWSER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn flv_by_mpegts_js() {
    page("flv", 1.5);
}

#[test]
fn hls_by_hls_js() {
    page("hls", 4.0);
}

#[test]
fn low_latency_hls_by_hls_js() {
    page("ll-hls", 1.5);
}

#[test]
fn dash_by_dash_js() {
    page("dash", 4.0);
}

#[test]
fn low_latency_dash_by_dash_js() {
    page("ll-dash", 2.0);
}

#[test]
fn hls_by_shaka_player() {
    shaka("hls", ".m3u8", 5.0, false);
}

#[test]
fn dash_by_shaka_player() {
    shaka("dash", ".mpd", 5.0, false);
}

/// With a window of segments: of two, shaka-player chooses the very end of the last to start at,
/// and waits there for seconds.
#[test]
fn low_latency_dash_by_shaka_player() {
    shaka("ll-dash", ".mpd%3Fll=1", 2.0, true);
}

fn live() -> Option<(Server, Process)> {
    let server = Server::start_default();
    let publisher = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, publisher))
}

fn page(protocol: &str, latency_s: f64) {
    let Some((server, _publisher)) = live() else { return };
    let url = format!("http://127.0.0.1:{}/?name={NAME}&protocol={protocol}", server.http);
    judge(protocol, clients::chromium_steady(&url, watched_s(), protocol), latency_s);
}

fn shaka(name: &str, extension: &str, latency_s: f64, has_window: bool) {
    let Some((server, _publisher)) = live() else { return };
    if !clients::has_npm("shaka-player") {
        return;
    }
    let segments = || {
        let answer = http::get(server.http, &format!("/live/{NAME}.m3u8?format=fmp4"));
        answer.text().matches("#EXTINF").count()
    };
    if has_window {
        wait::until_true("five segments", Duration::from_secs(15), || segments() >= 5);
    }
    let page = format!("http://127.0.0.1:{}/test-player/shaka.html", server.http);
    let url = format!("{page}?url=/live/{NAME}{extension}");
    let name = format!("shaka-{name}");
    judge(&name, clients::chromium_steady(&url, watched_s(), &name), latency_s);
}

fn judge(name: &str, seen: Option<Steady>, latency_s: f64) {
    let Some(seen) = seen else { return };
    assert!(seen.errors.is_empty(), "{name}: {:?}", seen.errors);
    assert!(seen.played > seen.wall / 2.0, "{name}: {seen:?}");
    if std::env::var_os("BROWSER_SECONDS").is_none() {
        // Other tests share the machine: only a run of its own is held to the clock.
        return;
    }
    assert_eq!(seen.stalls, 0, "{name}: {seen:?}");
    // A player that comes nearer to live plays up to a tenth faster.
    let rate = seen.played / seen.wall;
    assert!((0.99..1.11).contains(&rate), "{name}: {rate} of real time, {seen:?}");
    assert!(seen.latency <= latency_s, "{name}: {} s behind live, {seen:?}", seen.latency);
}
