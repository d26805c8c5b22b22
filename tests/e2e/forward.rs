//! Forwards: rules and targets, third parties, circles, outages, targets that mean no good.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::canary::{self, Canary};
use tests::certificates::self_signed;
use tests::clients::{self, Publisher};
use tests::digest::{md5, md5_base64};
use tests::hooks::Hooks;
use tests::media::Clip;
use tests::process::Process;
use tests::rtmp::{self, Peer};
use tests::server::{Config, Server, free_port};
use tests::tcp_relay::TcpRelay;
use tests::{flv, wait};

use crate::lifecycle::Recording;
use crate::pull::nginx_rtmp;

const NAME: &str = "match";
/// How long a change of the rules may take to be told of.
const BOUND: Duration = Duration::from_secs(15);
/// How long a target that returns may take to be live again.
const RETURN: Duration = Duration::from_secs(2);

pub(crate) fn app_rule(forwards: &str) -> String {
    let rule = format!("<vhost name='rtmp://127.0.0.1/live'>{forwards}</vhost>");
    format!("<policy><vhosts>{rule}</vhosts></policy>")
}

pub(crate) fn same(port: u16) -> String {
    format!("<forward rewrite=''>127.0.0.1:{port}</forward>")
}

pub(crate) fn one_core() -> Config {
    Config::default().cores(1)
}

/// The forwards of a stream, as the API lists them.
fn forwards(server: &Server, name: &str) -> Vec<Value> {
    let answer = server.api("/api/live");
    let live = answer["live"].as_array().cloned().unwrap_or_default();
    let stream = live.into_iter().find(|stream| stream["name"] == name);
    let list = stream.and_then(|stream| stream["forwards"].as_array().cloned());
    list.unwrap_or_default()
}

pub(crate) fn states(server: &Server, name: &str) -> Vec<String> {
    let word = |forward: &Value| forward["state"].as_str().unwrap_or_default().to_owned();
    forwards(server, name).iter().map(word).collect()
}

fn watch(server: &Server, name: &str, pictures: usize) -> Recording {
    server.wait_live(name);
    let viewer = Recording::flv(server, name);
    viewer.wait_pictures(pictures);
    flv::check_integrity(name, &viewer.tags());
    viewer
}

#[test]
fn apps_and_urls_go_where_the_rules_say() {
    let target = Server::start(&one_core());
    let to = format!("127.0.0.1:{}", target.rtmp);
    let ca = target.folder().join("ssl/self-signed.crt");
    let policy = format!(
        "<policy><vhosts><vhost name='rtmp://127.0.0.1/live'>
           <forward rewrite=''>{to}</forward><forward rewrite=''>{to}</forward><forward/>
         </vhost></vhosts>
         <urls><url name='rtmp://127.0.0.1/live/{NAME}'>
           <forward rewrite='rtmp://tv.example/live/renamed'>{to}</forward>
           <forward rewrite='rtmps://localhost/live/sealed' ca='{}'>{to}</forward>
           <forward rewrite='rtmps://localhost/live/strange'>{to}</forward>
         </url></urls></policy>",
        ca.display()
    );
    let source = Server::start_further(&Config::default().policy(&policy));
    let url = source.rtsp_url("other");
    let Some(_camera) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    for name in [NAME, "renamed", "sealed", "other"] {
        watch(&target, name, 50);
    }
    assert!(!target.is_live("strange"), "a certificate of nobody known is trusted");
    let all = forwards(&source, NAME);
    assert_eq!(all.len(), 4, "each place once: {all:?}");
    let live = all.iter().filter(|forward| forward["state"] == "live");
    wait::until_true("the forward has a rate", Duration::from_secs(5), || {
        forwards(&source, NAME)[0]["bits_per_second"].as_u64().unwrap_or(0) > 10_000
    });
    let bytes = live.clone().all(|forward| forward["bytes_out"].as_u64().unwrap_or(0) > 10_000);
    assert!(live.count() == 3 && bytes, "{all:?}");
    let strange = all.iter().find(|forward| forward["state"] != "live").expect("the strange one");
    assert_eq!(strange["target"], "rtmps://localhost/live/***");
    assert!(strange["last_error"].as_str().unwrap_or_default().starts_with("tls"), "{strange}");
    let metrics = source.metrics();
    assert!((metrics.sum("smart_rtmpd_viewers", &[]) - 0.0).abs() < 0.5, "forwards are no viewers");
    assert!(metrics.sum("smart_rtmpd_forwards", &["state=\"live\""]) > 3.5);

    drop(_publisher);
    let what = "the targets lose the stream with the publisher";
    wait::until_true(what, Duration::from_secs(5), || !target.is_live("renamed"));
    assert!(target.is_live("other"));
}

#[test]
fn codecs_of_enhanced_rtmp_arrive_as_they_left() {
    let target = Server::start(&one_core());
    let source = Server::start_further(&one_core().policy(&app_rule(&same(target.rtmp))));
    for (name, clip, codec) in [("hevc", Clip::HevcAac, "hvc1"), ("av1", Clip::Av1Opus, "av01")] {
        let url = source.rtmp_url(name);
        let Some(_publisher) = Publisher::Ffmpeg9.start(clip, &url) else { return };
        let viewer = watch(&target, name, 50);
        let tags = viewer.tags();
        let picture = tags.iter().find(|tag| tag.is_picture()).expect("there are some");
        assert!(picture.is_enhanced() && picture.codec() == codec, "{name}: {}", picture.codec());
    }
}

#[test]
fn to_nginx_rtmp() {
    let Some((_nginx, port)) = nginx_rtmp() else { return };
    let source = Server::start(&one_core().policy(&app_rule(&same(port))));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    source.wait_live(NAME);
    let live = || states(&source, NAME) == ["live"];
    wait::until_true("nginx takes the stream", Duration::from_secs(10), live);
    let url = format!("rtmp://127.0.0.1:{port}/live/{NAME}");
    let Some(decoded) = clients::ffmpeg_decode(&url, 3) else { return };
    assert!(decoded.pictures >= 50, "{decoded:?}");
    assert!(live(), "it stays");
}

#[test]
fn to_an_ffmpeg_that_listens() {
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    let port = free_port();
    let rule = format!(
        "<policy><urls><url name='rtmp://127.0.0.1/live/{NAME}'>
         <forward rewrite='rtmp://127.0.0.1/app/s3cr3t-key'>127.0.0.1:{port}</forward>
         </url></urls></policy>"
    );
    let source = Server::start(&one_core().policy(&rule));
    let file = source.folder().join("taken.flv");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-v", "warning", "-listen", "1", "-i"]);
    command.arg(format!("rtmp://127.0.0.1:{port}/app/s3cr3t-key"));
    command.args(["-t", "3", "-c", "copy", "-f", "flv"]).arg(&file);
    let mut listener = Process::spawn("ffmpeg -listen", command);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    let ended = listener.exited_within(Duration::from_secs(30));
    assert!(ended.is_some_and(|status| status.success()), "{}", listener.stderr());
    let tags = flv::parse(&std::fs::read(&file).expect("ffmpeg wrote it")).expect("an FLV");
    let pictures = tags.iter().filter(|tag| tag.is_picture()).count();
    assert!(pictures >= 60, "{pictures} pictures");
    wait::until_true("the end is seen", Duration::from_secs(5), || {
        forwards(&source, NAME)[0]["last_error"].is_string()
    });
    assert!(!source.whole_log().contains("s3cr3t-key"), "a key is in the log");
    assert!(!source.api("/api/live").to_string().contains("s3cr3t-key"));
}

#[test]
fn a_target_within_tls_is_shown_our_certificate() {
    let Some(openssl) = clients::tool("openssl") else { return };
    let server = Server::start(&one_core());
    let folder = server.folder().to_path_buf();
    for (name, subject) in [("target", "/CN=localhost"), ("ours", "/CN=smart")] {
        let file = |kind: &str| folder.join(format!("{name}.{kind}"));
        let made = self_signed(&file("crt"), &file("key"), subject, "DNS:localhost");
        made.expect("openssl is there");
    }
    let (port, file) = (free_port(), |name: &str| folder.join(name).display().to_string());
    let mut command = Command::new(&openssl);
    command.args(["s_server", "-rev", "-accept", &port.to_string()]);
    command.args(["-cert", &file("target.crt"), "-key", &file("target.key")]);
    // Nobody without a certificate comes in.
    command.args(["-Verify", "1", "-CAfile", &file("ours.crt"), "-verify_return_error"]);
    let target = Process::spawn("openssl s_server", command);
    let listens = || target.stdout().contains("ACCEPT");
    wait::until_true("openssl listens", Duration::from_secs(10), listens);
    let rule =
        app_rule(&format!("<forward rewrite='rtmps://localhost/live'>127.0.0.1:{port}</forward>"));
    let config = one_core()
        .set("ssl/clientca", file("target.crt"))
        .set("ssl/clientcert", file("ours.crt"))
        .set("ssl/clientkey", file("ours.key"));
    let source = Server::start_further(&config.policy(&rule));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    wait::until_true("openssl has seen who we are", Duration::from_secs(15), || {
        let said = target.stderr();
        said.contains("Peer certificate: CN = smart") && said.contains("Verification: OK")
    });
}

/// A server that wants to know who publishes, in the words of either style. It says in which query
/// it was asked, and admits nobody.
fn asking_server(style: &'static str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (said, heard) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let Ok(mut peer) = Peer::accepted(socket) else { continue };
            let connect = std::iter::from_fn(|| peer.read_message().ok())
                .find(|message| message.command().as_deref() == Some("connect"));
            let app = connect.and_then(|message| message.text_of("app")).unwrap_or_default();
            let (_, query) = app.split_once('?').unwrap_or_default();
            let description = match (query.contains("response="), query.contains("user=")) {
                (true, _) => format!("authmod={style} : ?reason=authfailed"),
                (_, true) => format!(
                    "[ authmod={style} ] : ?reason=needauth&user=us&salt=abcd&challenge=xyz&\
                     opaque=opq&nonce=n0nce"
                ),
                _ => {
                    format!("[ AccessManager.Reject ] : [ code=403 need auth; authmod={style} ] :")
                }
            };
            let _ = peer.reject(&[("description", rtmp::string(&description))]);
            if said.send(query.to_owned()).is_err() {
                return;
            }
        }
    });
    (port, heard)
}

#[test]
fn a_server_that_asks_who_publishes_is_answered_as_by_ffmpeg() {
    for style in ["adobe", "llnw"] {
        let (port, heard) = asking_server(style);
        let proofs = |who: &str| {
            let query = wait::until(who, Duration::from_secs(15), || {
                heard.try_recv().ok().filter(|query| query.contains("response="))
            });
            let of = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            let [ours, response] =
                [if style == "adobe" { "challenge" } else { "cnonce" }, "response"].map(of);
            let (ours, response) = (ours.unwrap_or_default(), response.unwrap_or_default());
            let expected = if style == "adobe" {
                let secret = md5_base64("usabcdpw");
                md5_base64(&format!("{secret}opq{ours}"))
            } else {
                let (ha1, ha2) = (md5("us:live:pw"), md5("publish:/live/_definst_"));
                md5(&format!("{ha1}:n0nce:00000001:{ours}:auth:{ha2}"))
            };
            assert_eq!(response, expected, "{who}, {style}: {query}");
            let names =
                query.split('&').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            names.collect::<Vec<_>>()
        };
        let url = format!("rtmp://us:pw@127.0.0.1:{port}/live/x");
        let Some(_ffmpeg) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
        let theirs = proofs("ffmpeg");

        let rule = app_rule(&format!(
            "<forward rewrite='rtmp://us:pw@127.0.0.1/live'>127.0.0.1:{port}</forward>"
        ));
        let source = Server::start(&one_core().policy(&rule));
        let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
            return;
        };
        assert_eq!(proofs("a forward"), theirs, "{style}");
        wait::until_true("the refusal is seen", Duration::from_secs(5), || {
            let forwards = forwards(&source, NAME);
            let error = forwards[0]["last_error"].as_str().unwrap_or_default().to_owned();
            error.starts_with("unauthorised") && forwards[0]["retry_seconds"].as_f64() > Some(40.0)
        });
        assert!(!source.whole_log().contains("us:pw"), "a password is in the log");
    }
}

#[test]
fn a_chain_of_three_passes_the_stream_on() {
    let last = Server::start(&one_core());
    let middle = Server::start_further(&one_core().policy(&app_rule(&same(last.rtmp))));
    let first = Server::start_further(&one_core().policy(&app_rule(&same(middle.rtmp))));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &first.rtmp_url(NAME)) else {
        return;
    };
    watch(&last, NAME, 75);
    watch(&middle, NAME, 25);
    assert_eq!((states(&first, NAME), states(&last, NAME)), (vec!["live".to_owned()], Vec::new()));
}

#[test]
fn circles_are_seen_and_left_alone() {
    let (a, b) = (free_port(), free_port());
    // To each other, and to themselves by another name.
    let rules = |other| app_rule(&format!("{}<forward>localhost:{a}</forward>", same(other)));
    let first = Server::start(&one_core().set("rtmp/port", a).policy(&rules(b)));
    let second = Server::start_further(&one_core().set("rtmp/port", b).policy(&rules(a)));
    let url = first.rtmp_url(NAME);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    watch(&second, NAME, 50);
    let refused = |server: &Server| {
        let states = states(server, NAME);
        states.iter().filter(|state| *state == "waiting").count()
    };
    wait::until_true("the circles are refused", Duration::from_secs(5), || {
        refused(&first) == 1 && refused(&second) >= 1
    });
    let errors = |server: &Server| server.log_count("not forwarded, trying again");
    let (before, cpu) = ((errors(&first), errors(&second)), (first.cpu(), second.cpu()));
    let what = "a stream stays where it is";
    wait::stays_true(what, Duration::from_secs(5), || first.is_live(NAME) && second.is_live(NAME));
    assert_eq!((errors(&first), errors(&second)), before, "a refusal is not argued with");
    let used = (first.cpu() - cpu.0, second.cpu() - cpu.1);
    eprintln!("CPU over 5 s: {used:?}");
    assert!(used.0 + used.1 < Duration::from_secs(4), "{used:?}");
    assert!(
        forwards(&second, NAME).iter().all(|forward| {
            forward["attempts"].as_u64() <= Some(2) && forward["state"] != "live"
        })
    );

    // The other way at the same time.
    let url = second.rtmp_url("back");
    let Some(_other) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    watch(&first, "back", 50);
    watch(&second, NAME, 25);
}

#[test]
fn a_target_that_dies_ten_times_is_back_within_two_seconds_and_its_viewers_stay() {
    let target = Server::start(&one_core());
    let mut wire = TcpRelay::start(target.rtmp);
    let source = Server::start_further(&one_core().policy(&app_rule(&same(wire.port))));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    let viewer = watch(&target, NAME, 25);
    let near = Recording::flv(&source, NAME);
    let mut longest = Duration::ZERO;
    for round in 0..10 {
        wire.cut();
        wait::until_true("the outage is seen", Duration::from_secs(5), || !target.is_live(NAME));
        let away = Duration::from_millis(200 * (1 + round % 3));
        wait::stays_true("viewers stay", away, || viewer.open() && near.open());
        let before = viewer.pictures();
        wire.mend();
        let back = Instant::now();
        wait::until_true("live again", RETURN, || viewer.pictures() > before);
        longest = longest.max(back.elapsed());
    }
    eprintln!("back after {longest:?} at the longest, {} connections", wire.accepted());
    viewer.wait_pictures(viewer.pictures() + 50);
    flv::check_integrity("a viewer over ten outages", &viewer.tags());
    near.wait_pictures(25);
    flv::check_integrity("a viewer beside them", &near.tags());
    assert!(wire.accepted() < 20, "{} attempts", wire.accepted());
}

/// A port on which everybody is answered by `answer`, in a thread each.
fn hostile(answer: fn(std::net::TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || answer(socket));
        }
    });
    port
}

fn handshake(socket: &std::net::TcpStream) -> std::io::Result<Peer> {
    Peer::accepted(socket.try_clone()?)
}

#[test]
fn targets_that_mean_no_good_disturb_nobody() {
    let answers: [fn(std::net::TcpStream); 5] = [
        // Takes the connection and never reads.
        |socket| wait::stays_true("held", Duration::from_secs(60), || socket.peer_addr().is_ok()),
        // Shakes hands and answers garbage.
        |mut socket| {
            let _ = handshake(&socket).and_then(|_| socket.write_all(&[0xFF; 100_000]));
        },
        // Sends us to the metadata service of a cloud.
        |socket| {
            let to = rtmp::string("rtmp://169.254.169.254/live/match");
            let elsewhere = [("ex", rtmp::object(&[("redirect", to)]))];
            let told = handshake(&socket).and_then(|mut peer| peer.reject(&elsewhere));
            let _ = told.and_then(|()| (&socket).read_to_end(&mut Vec::new()));
        },
        // Resets after a second.
        |socket| {
            let start = Instant::now();
            wait::stays_true("held", Duration::from_secs(1), || start.elapsed().as_secs() < 60);
            drop(socket);
        },
        // Announces 16 MB of metadata, byte by byte.
        |mut socket| {
            let head = rtmp::header(5, 0, 0xFF_FFFF, 18, 1);
            let mut sent = handshake(&socket).and_then(|_| socket.write_all(&head));
            while sent.is_ok() {
                sent = socket.write_all(&[0; 128]).and_then(|()| socket.write_all(&[0xC5]));
            }
        },
    ];
    let targets: String = answers.into_iter().map(|answer| same(hostile(answer))).collect();
    let config = one_core().set("rtmp/fwdtimeout", "2000").policy(&app_rule(&targets));
    let source = Server::start(&config);
    let Some(mut canary) = Canary::start(&source) else { return };
    let tried = || {
        let attempts = |forward: &Value| forward["attempts"].as_u64().unwrap_or(0);
        forwards(&source, canary::NAME).iter().map(attempts).collect::<Vec<_>>()
    };
    wait::until_true("each target is tried three times", Duration::from_secs(30), || {
        tried().iter().all(|attempts| *attempts >= 3)
    });
    let all = forwards(&source, canary::NAME);
    let error = |at: usize| all[at]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error(0).contains("start_timeout"), "{all:?}");
    assert!(error(2).contains("address_refused"), "{all:?}");
    assert!(all.iter().all(|forward| forward["state"] != "live"), "{all:?}");
    let most = tried().into_iter().max();
    assert!(most < Some(30), "{all:?}");
    canary.verify(&source, "hostile targets");
}

#[test]
fn a_target_that_never_reads_is_given_up_and_the_publisher_is_not_disturbed() {
    // It takes the stream like a server, then stops reading.
    let port = hostile(|socket| {
        let take = |mut peer: Peer| {
            for (id, value) in [(1.0, rtmp::null()), (4.0, rtmp::number(1.0))] {
                let body = [rtmp::number(id), rtmp::null(), value].concat();
                peer.send(3, 0, 20, 0, &[rtmp::string("_result"), body].concat())?;
            }
            let code = [("code", rtmp::string("NetStream.Publish.Start"))];
            let body = [rtmp::number(0.0), rtmp::null(), rtmp::object(&code)].concat();
            peer.send(3, 0, 20, 1, &[rtmp::string("onStatus"), body].concat())
        };
        let _ = handshake(&socket).and_then(take);
        wait::stays_true("held", Duration::from_secs(60), || socket.peer_addr().is_ok());
    });
    let config = one_core().set("limits/viewer_stall", "3").set("sock/sendbuffer", "8");
    let source = Server::start(&config.policy(&app_rule(&same(port))));
    let Some(mut canary) = Canary::start(&source) else { return };
    let live = || states(&source, canary::NAME) == ["live"];
    wait::until_true("it takes the stream", Duration::from_secs(10), live);
    wait::until_true("it is given up", Duration::from_secs(50), || {
        forwards(&source, canary::NAME)[0]["last_error"] == "slow_viewer"
    });
    canary.verify(&source, "a target that never reads");
}

#[test]
fn addresses_of_the_neighbourhood_are_not_dialled() {
    let policy = format!(
        "<policy><urls><url name='rtmp://127.0.0.1/live/{NAME}'>
           <forward rewrite=''>169.254.169.254</forward>
           <forward rewrite='rtmp://x/live/y'>[fe80::1]</forward>
           <forward rewrite='rtmp://x/live/z'>0.0.0.0</forward>
         </url></urls>
         <pulls><pull url='rtmp://169.254.169.254/live/x' stream='live/x' when='always'/></pulls>
         </policy>"
    );
    let source = Server::start(&one_core().policy(&policy));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &source.rtmp_url(NAME)) else {
        return;
    };
    source.wait_live(NAME);
    wait::until_true("all are refused", Duration::from_secs(5), || {
        let errors = |forward: &Value| forward["last_error"].as_str().unwrap_or("").to_owned();
        let errors: Vec<String> = forwards(&source, NAME).iter().map(errors).collect();
        errors == ["address_refused", "address_refused", "address_unusable"]
    });
    let refused = ["reason=\"address_refused\""];
    assert!(source.metrics().sum("smart_rtmpd_pull_failures_total", &refused) >= 1.0);
    for (rewrite, sentence) in [
        ("file:///etc/passwd", "is not an rtmp:// or rtmps:// URL"),
        ("http://x/live/y", "is not an rtmp:// or rtmps:// URL"),
    ] {
        let rule = format!(
            "<policy><urls><url name='rtmp://h/live/x'><forward rewrite='{rewrite}'>h</forward>\
             </url></urls></policy>"
        );
        let ended = Config::default().policy(&rule).run(&[], Duration::from_secs(10));
        assert!(!ended.status.success() && ended.stderr.contains(sentence), "{}", ended.stderr);
    }
}

#[test]
fn rules_that_come_and_go_are_followed_and_told_of() {
    let hooks = Hooks::start(|_| Some(200));
    let target = Server::start(&one_core());
    let server = Server::start_further(&Config::default().set("events/url", hooks.url("/hook")));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME)) else {
        return;
    };
    server.wait_live(NAME);
    let file = server.folder().join("policy.xml");
    std::fs::write(&file, app_rule(&same(target.rtmp))).expect("the rules are written");
    let up = hooks.wait_event("forward_up", BOUND).json();
    assert_eq!(up["stream"]["name"], NAME);
    let viewer = watch(&target, NAME, 20);
    let answer = server.api("/api/v1/forwards");
    let [forward] = answer["forwards"].as_array().expect("a list").as_slice() else {
        panic!("{answer}");
    };
    assert_eq!((&forward["state"], &forward["stream"]["name"]), (&"live".into(), &NAME.into()));
    assert!(forward["bytes_out"].as_u64() > Some(10_000), "{forward}");

    std::fs::write(&file, "<policy/>").expect("the rules are written");
    let down = hooks.wait_event("forward_down", BOUND).json();
    assert_eq!((&down["target"], &down["reason"]), (&up["target"], &"nothing to forward".into()));
    wait::until("nothing is forwarded", BOUND, || {
        let list = server.api("/api/v1/forwards")["forwards"].as_array().map(Vec::len);
        (list == Some(0)).then_some(())
    });
    drop(viewer);
}
