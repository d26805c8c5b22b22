//! Pulled sources: servers chained by every protocol, sources nobody here wrote, files, outages.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::{Process, find_program};
use tests::server::{Config, Server, free_port};
use tests::{flv, http, wait};

use crate::lifecycle::Recording;

pub(crate) const NAME: &str = "source";
/// How long a source that returns may take to be live again.
const RETURN: Duration = Duration::from_secs(2);

/// These tests need both places for a server, so they come one after the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn policy(pulls: &str) -> String {
    format!("<policy><pulls>{pulls}</pulls></policy>")
}

/// A server with a publisher.
pub(crate) fn origin() -> Option<(Server, Process)> {
    let server = Server::start(&Config::default().cores(1));
    let publisher = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, publisher))
}

/// A viewer of a pulled stream sees it whole, and it goes again when the viewer has gone.
pub(crate) fn watch_on_demand(edge: &Server, name: &str, rounds: usize) {
    for _ in 0..rounds {
        assert!(!edge.is_live(name), "{name} is pulled before anybody asks");
        let viewer = Recording::flv(edge, name);
        viewer.wait_pictures(50);
        flv::check_integrity(name, &viewer.tags());
        let answer = edge.api(&format!("/api/live?app=live&name={name}"));
        assert_eq!(answer["app"]["from"], "pull", "{answer}");
        drop(viewer);
        let what = format!("{name} is let go");
        wait::until_true(&what, Duration::from_secs(12), || !edge.is_live(name));
    }
}

#[test]
fn chained_by_every_protocol() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    let (rtsp, rtmp, flv) = (origin.rtsp_url(NAME), origin.rtmp_url(NAME), origin.flv_url(NAME));
    let by_name = rtmp.replace("127.0.0.1", "localhost");
    let pulls = format!(
        "<pull url='{rtsp}' stream='live/rtsp' linger='1'/>
         <pull url='{rtsp}' stream='live/udp' transport='udp' linger='1'/>
         <pull url='{by_name}' stream='live/rtmp' linger='1'/>
         <pull url='{flv}?secret=abc' stream='live/flv' linger='1'/>"
    );
    let edge = Server::start(&Config::default().policy(&policy(&pulls)));
    for name in ["rtsp", "udp", "rtmp", "flv"] {
        watch_on_demand(&edge, name, 1);
    }
    watch_on_demand(&edge, "rtmp", 1);
    let metrics = edge.metrics();
    assert!(metrics.sum("smart_rtmpd_pull_attempts_total", &[]) >= 5.0);
    assert!(!edge.whole_log().contains("secret=abc"), "a secret is in the log");
}

#[test]
fn chained_within_tls_by_a_certificate_that_is_trusted() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    let trusted = origin.folder().join("ssl/self-signed.crt");
    let own = |url: String| url.replace("127.0.0.1", "localhost");
    let rtsp = own(origin.rtsp_url(NAME)).replace("rtsp:", "rtsps:");
    let (rtmp, flv) = (own(origin.rtmps_url(NAME)), own(origin.https_flv_url(NAME)));
    let pull = |url: &str, name: &str, ca: &str| {
        format!("<pull url='{url}' stream='live/{name}' linger='1' {ca}/>")
    };
    let ca = format!("ca='{}'", trusted.display());
    let pulls = pull(&rtsp, "rtsp", &ca)
        + &pull(&rtmp, "rtmp", &ca)
        + &pull(&flv, "flv", &ca)
        + &pull(&rtmp, "strange", "when='always'");
    let edge = Server::start(&Config::default().policy(&policy(&pulls)));
    for name in ["rtsp", "rtmp", "flv"] {
        watch_on_demand(&edge, name, 1);
    }
    assert!(!edge.is_live("strange"), "a certificate of nobody known is trusted");
    assert!(edge.metrics().sum("smart_rtmpd_pull_failures_total", &["reason=\"tls\""]) >= 1.0);
}

#[test]
fn segments_and_rtsp_players_start_a_pull() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    let url = origin.rtmp_url(NAME);
    let pulls = format!(
        "<pull url='{url}' stream='live/hls' linger='1'/>
         <pull url='{url}' stream='live/rtsp' linger='1'/>"
    );
    let edge = Server::start(&Config::default().policy(&policy(&pulls)));
    let answer = http::get(edge.http, "/live/hls.m3u8");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("#EXTINF"), "{}", answer.text());
    let Some(packets) = clients::ffprobe_packets(&edge.rtsp_url("rtsp"), 2) else { return };
    assert!(packets.len() > 40, "{} packets", packets.len());
}

#[test]
fn a_source_that_returns_is_live_again_and_viewers_stay() {
    let _alone = alone();
    for protocol in ["rtmp", "rtsp"] {
        let Some((origin, publisher)) = origin() else { return };
        let (rtmp, rtsp, http) = (origin.rtmp, origin.rtsp, origin.http);
        let url = if protocol == "rtmp" { origin.rtmp_url(NAME) } else { origin.rtsp_url(NAME) };
        let pull = format!("<pull url='{url}' stream='live/{NAME}' when='always'/>");
        let config = Config::default().set("rtmp/publisher_grace", 1).policy(&policy(&pull));
        let edge = Server::start(&config);
        let viewer = Recording::flv(&edge, NAME);
        viewer.wait_pictures(25);
        drop(publisher);
        drop(origin);
        wait::until_true("the outage is seen", Duration::from_secs(5), || !edge.is_live(NAME));
        let what = "the viewer stays for 4 s without source";
        wait::stays_true(what, Duration::from_secs(4), || viewer.open());

        let before = viewer.pictures();
        let config = Config::default().cores(1).set("rtmp/port", rtmp).set("rtsp/port", rtsp);
        let origin = Server::start(&config.set("http/port", http));
        let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &origin.rtmp_url(NAME)) else {
            return;
        };
        origin.wait_live(NAME);
        let back = Instant::now();
        wait::until_true("live again", RETURN, || viewer.pictures() > before);
        eprintln!("{protocol}: live again {:?} after the source", back.elapsed());
        viewer.wait_pictures(before + 50);
        flv::check_integrity("viewer over an outage", &viewer.tags());
        assert!(edge.metrics().sum("smart_rtmpd_pull_failures_total", &[]) >= 1.0);
    }
}

#[test]
fn a_local_publisher_keeps_its_stream_and_a_pull_takes_over_after_it() {
    let _alone = alone();
    let Some((origin, _publisher)) = origin() else { return };
    let pull = format!("<pull url='{}' stream='live/both' when='always'/>", origin.rtmp_url(NAME));
    let config = Config::default().set("rtmp/publish_policy", "takeover").policy(&policy(&pull));
    let edge = Server::start(&config);
    edge.wait_live("both");
    let from = || {
        let answer = http::get(edge.http, "/api/live?app=live&name=both");
        let detail: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        detail["app"]["from"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(from(), "pull");
    let Some(local) = Publisher::Ffmpeg.start(Clip::Canary, &edge.rtmp_url("both")) else { return };
    wait::until_true("the publisher takes over", Duration::from_secs(10), || from() == "rtmp");
    let what = "the pull leaves the publisher alone";
    wait::stays_true(what, Duration::from_secs(3), || from() == "rtmp");
    drop(local);
    wait::until_true("the pull is back", Duration::from_secs(5), || from() == "pull");
}

#[test]
fn a_looped_file_is_a_live_stream() {
    let _alone = alone();
    let Some(clip) = Clip::H264Aac.file() else { return };
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    let folder = tests::root().join(format!("target/e2e/pull-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("target/ is writable");
    let make = |name: &str, options: &[&str]| {
        let mut command = Command::new(&ffmpeg);
        command.args(["-v", "error", "-y", "-i"]).arg(&clip).args(["-t", "3", "-c", "copy"]);
        command.args(options).arg(folder.join(name));
        let made = Process::run("ffmpeg", command, Duration::from_secs(20));
        assert!(made.status.success(), "{}", made.stderr);
    };
    make("plain.mp4", &[]);
    make("pieces.mp4", &["-movflags", "frag_keyframe+empty_moov+default_base_moof"]);
    make("tags.flv", &[]);
    make("packets.ts", &[]);
    let files = ["plain.mp4", "pieces.mp4", "tags.flv", "packets.ts"];
    let pulls: String = files
        .iter()
        .map(|file| format!("<pull url='file:{file}' stream='live/{file}' linger='1'/>"))
        .collect();
    let pulls = pulls + "<pull url='file:plain.mp4' stream='live/once' play='once'/>";
    let config = Config::default().set("http/vod_dir", folder.display()).policy(&policy(&pulls));
    let edge = Server::start(&config);
    let start = Instant::now();
    let viewers = files.map(|file| (file, Recording::flv(&edge, file)));
    let once = Recording::flv(&edge, "once");
    for (file, viewer) in &viewers {
        // More than two rounds of 75 pictures.
        viewer.wait_pictures(180);
        flv::check_integrity(file, &viewer.tags());
        let took = start.elapsed();
        assert!(took > Duration::from_secs(5), "{file}: 7 s of pictures after {took:?}");
    }
    wait::until_true("a file played once ends", Duration::from_secs(10), || !edge.is_live("once"));
    assert!(once.pictures() >= 70, "{} pictures", once.pictures());
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn from_gst_rtsp_server_with_digest() {
    let _alone = alone();
    let Some(clip) = Clip::H264Aac.file() else { return };
    let Some((_source, port)) = gst_rtsp_server(&clip, None) else { return };
    let url = format!("rtsp://camera:s3cr3t@127.0.0.1:{port}/stream");
    let pulls = format!(
        "<pull url='{url}' stream='live/tcp' linger='1'/>
         <pull url='{url}' stream='live/udp' transport='udp' linger='1'/>"
    );
    let edge = Server::start(&Config::default().policy(&policy(&pulls)));
    for name in ["tcp", "udp"] {
        watch_on_demand(&edge, name, 1);
    }
    assert!(!edge.whole_log().contains("s3cr3t"), "a secret is in the log");
    edge.wait_log("rtsp://***@127.0.0.1", Duration::from_secs(5));
}

/// GStreamer's RTSP server with one stream behind a password, whose media travel by `UDP` or `TCP`
/// only if that is said; `None` when it is not installed.
pub(crate) fn gst_rtsp_server(clip: &Path, only: Option<&str>) -> Option<(Process, u16)> {
    let script = r#"
import sys, gi
gi.require_version('Gst', '1.0')
gi.require_version('GstRtspServer', '1.0')
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address('127.0.0.1')
server.set_service('0')
auth = GstRtspServer.RTSPAuth()
auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
token = GstRtspServer.RTSPToken()
token.set_string('media.factory.role', 'viewer')
auth.add_digest('camera', 's3cr3t', token)
server.set_auth(auth)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch('( filesrc location=%s ! qtdemux name=d  d.video_0 ! queue ! h264parse ! '
                   'rtph264pay name=pay0 pt=96 config-interval=-1  d.audio_0 ! queue ! aacparse ! '
                   'rtpmp4gpay name=pay1 pt=97 )' % sys.argv[1])
permissions = GstRtspServer.RTSPPermissions()
permissions.add_permission_for_role('viewer', 'media.factory.access', True)
permissions.add_permission_for_role('viewer', 'media.factory.construct', True)
factory.set_permissions(permissions)
if len(sys.argv) > 2:
    factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, sys.argv[2]))
server.get_mount_points().add_factory('/stream', factory)
server.attach(None)
print('port', server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"#;
    let mut command = Command::new(clients::system_python()?);
    command.args(["-c", script]).arg(clip).args(only);
    let mut process = Process::spawn("gst-rtsp-server", command);
    let port = wait::until("gst-rtsp-server starts", Duration::from_secs(20), || {
        let port =
            process.stdout().lines().find_map(|line| line.strip_prefix("port ")?.parse().ok());
        port.map(Some).or_else(|| (!process.alive()).then_some(None))
    });
    if port.is_none() {
        tests::skip(&format!("gst-rtsp-server cannot be started: {}", process.stderr()));
    }
    port.map(|port| (process, port))
}

#[test]
fn from_nginx_rtmp() {
    let _alone = alone();
    let Some((_nginx, port)) = nginx_rtmp() else { return };
    let url = format!("rtmp://127.0.0.1:{port}/live/{NAME}");
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    let pull = format!("<pull url='{url}' stream='live/{NAME}' linger='1'/>");
    let edge = Server::start(&Config::default().policy(&policy(&pull)));
    watch_on_demand(&edge, NAME, 2);
}

/// nginx with its RTMP module and an app `live`, and its port; `None` when it is not installed.
pub(crate) fn nginx_rtmp() -> Option<(Process, u16)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let module = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
    let Some(nginx) = find_program("nginx").filter(|_| Path::new(module).exists()) else {
        tests::skip("nginx with its RTMP module is not installed");
        return None;
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = tests::root().join(format!("target/e2e/nginx-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("target/ is writable");
    let port = free_port();
    let text = format!(
        "load_module {module};\ndaemon off;\npid {0}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).expect("target/ is writable");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&folder).arg("-c").arg(&file);
    let process = Process::spawn("nginx", command);
    wait::until_true("nginx listens", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some((process, port))
}

#[test]
fn a_policy_that_cannot_be_is_refused() {
    for (pull, sentence) in [
        ("<pull url='srt://u:s3cr3t@h/x' stream='live/x'/>", "srt://***@h/x"),
        ("<pull url='rtsps://h/x' stream='live/x' ca='missing.pem'/>", "missing.pem"),
        ("<pull url='rtsp://h/x' stream='other/x'/>", "no such application"),
    ] {
        let config = Config::default().policy(&policy(pull));
        let ended = config.run(&[], Duration::from_secs(10));
        assert!(!ended.status.success());
        assert!(ended.stderr.contains(sentence), "{}", ended.stderr);
        assert!(!ended.stderr.contains("s3cr3t"), "{}", ended.stderr);
    }
}
