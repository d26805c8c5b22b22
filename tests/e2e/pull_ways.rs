//! Pulled sources that want their media to travel one way, and sources that have moved.

use std::time::Duration;

use tests::media::Clip;
use tests::server::{Config, Server};
use tests::signpost::{Says, Signpost};
use tests::tcp_relay::TcpRelay;
use tests::wait;

use crate::lifecycle::Recording;
use crate::pull::{NAME, alone, gst_rtsp_server, origin, policy, watch_on_demand};

#[test]
fn the_way_that_a_source_takes() {
    let _alone = alone();
    let Some(clip) = Clip::H264Aac.file() else { return };
    for (only, transport) in [("UDP", "auto"), ("TCP", "udp"), ("TCP", "auto"), ("UDP", "udp")] {
        let Some((_source, port)) = gst_rtsp_server(&clip, Some(only)) else { return };
        let url = format!("rtsp://camera:s3cr3t@127.0.0.1:{port}/stream");
        let pull =
            format!("<pull url='{url}' stream='live/x' transport='{transport}' linger='1'/>");
        let edge = Server::start(&Config::default().policy(&policy(&pull)));
        watch_on_demand(&edge, "x", 1);
    }
    let Some((_source, port)) = gst_rtsp_server(&clip, Some("UDP")) else { return };
    let url = format!("rtsp://camera:s3cr3t@127.0.0.1:{port}/stream");
    let pull = format!("<pull url='{url}' stream='live/x' transport='tcp' when='always'/>");
    let edge = Server::start(&Config::default().policy(&policy(&pull)));
    let refused = || edge.metrics().sum("smart_rtmpd_pull_failures_total", &["server_refused"]);
    wait::until_true("tcp is tcp", Duration::from_secs(10), || refused() >= 1.0);
    assert!(!edge.is_live("x"));
}

#[test]
fn where_no_datagram_arrives_media_come_within_the_connection() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    // Nobody listens at the ports the source is told.
    let wall = TcpRelay::rewording(origin.rtsp, other_ports);
    let url = format!("rtsp://127.0.0.1:{}/live/{NAME}", wall.port);
    let pull = format!("<pull url='{url}' stream='live/x' transport='udp' when='always'/>");
    let edge = Server::start(&Config::default().policy(&policy(&pull)));
    wait::until_true("it is live", Duration::from_secs(20), || edge.is_live("x"));
    Recording::flv(&edge, "x").wait_pictures(50);
}

#[test]
fn sources_that_have_moved_are_followed() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    let (rtsp, rtmp, flv) = (origin.rtsp_url(NAME), origin.rtmp_url(NAME), origin.flv_url(NAME));
    let app = rtmp.replace(&format!("/{NAME}"), "");
    let rtsp = Signpost::start(|_| Says::Found(rtsp.clone()));
    let flv = Signpost::start(|_| Says::Found(flv.clone()));
    let rtmp = Signpost::start(|_| Says::Rejected(rtmp.clone()));
    let app = Signpost::start(|_| Says::Rejected(app.clone()));
    // By way of two more of its own.
    let far = format!("rtsp://127.0.0.1:{}/live/x", rtsp.port);
    let far = Signpost::start(|_| Says::Found(far.clone()));
    let farther = format!("rtsp://127.0.0.1:{}/live/x", far.port);
    let farther = Signpost::start(|_| Says::Found(farther.clone()));
    let pull = |scheme: &str, post: &Signpost, path: &str, name: &str| {
        let url = format!("{scheme}://127.0.0.1:{}/{path}", post.port);
        format!("<pull url='{url}' stream='live/{name}' linger='1'/>")
    };
    let pulls = pull("rtsp", &rtsp, "a", "rtsp")
        + &pull("rtsp", &farther, "a", "far")
        + &pull("http", &flv, "a.flv", "flv")
        + &pull("rtmp", &rtmp, "other/b", "rtmp")
        + &pull("rtmp", &app, &format!("other/{NAME}"), "app");
    let edge = Server::start(&Config::default().policy(&policy(&pulls)));
    for name in ["rtsp", "far", "flv", "rtmp", "app"] {
        watch_on_demand(&edge, name, 1);
    }
    assert_eq!(edge.metrics().sum("smart_rtmpd_pull_failures_total", &[]), 0.0);
}

#[test]
fn a_password_does_not_go_to_another_host_and_circles_end() {
    let _alone = alone();
    let server = |text: &str| Server::start(&Config::default().policy(&policy(text)));
    // The same machine by another name is another host.
    for scheme in ["rtsp", "http"] {
        let path = if scheme == "http" { "a.flv" } else { "a" };
        let stranger = Signpost::start(|_| Says::Password);
        let there = format!("{scheme}://127.0.0.1:{}/{path}", stranger.port);
        let moved = Signpost::start(|_| Says::Found(there.clone()));
        let (user, port) = ("cam:s3cr3t", moved.port);
        let url = format!("{scheme}://{user}@localhost:{port}/{path}");
        let edge = server(&format!("<pull url='{url}' stream='live/x' when='always'/>"));
        wait::until_true("the stranger is asked", Duration::from_secs(10), || {
            stranger.heard().len() >= 2
        });
        let heard = stranger.heard().concat();
        assert!(!heard.contains("Authorization") && !heard.contains("s3cr3t"), "{heard}");
        assert!(!edge.whole_log().contains("s3cr3t"), "a secret is in the log");
        if scheme == "http" {
            assert!(moved.heard().concat().contains("Authorization: Basic Y2FtOnMzY3IzdA=="));
        }
    }
    let circle = Signpost::start(|port| Says::Found(format!("rtsp://127.0.0.1:{port}/a")));
    let url = format!("rtsp://127.0.0.1:{}/a", circle.port);
    let edge = server(&format!("<pull url='{url}' stream='live/x' when='always'/>"));
    let failures = || edge.metrics().sum("smart_rtmpd_pull_failures_total", &[]);
    wait::until_true("it fails", Duration::from_secs(10), || failures() >= 2.0);
    // The first time and three redirects for each attempt, of which one is under way.
    let (asked, failed) = (circle.heard().len() as f64, failures());
    assert!(asked <= 4.0 * (failed + 1.0), "asked {asked} times in {failed} attempts");
}

/// Puts ports of nobody, discard and what follows, in place of a client's own. Its requests are
/// short enough to come whole.
fn other_ports(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let Some((before, after)) = text.split_once("client_port=") else { return bytes.to_vec() };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    format!("{before}client_port=10-11{rest}").into_bytes()
}
