//! Files on demand as real clients use them: ranges, conditions, players, uploads; and what hostile
//! ones try.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::canary::Canary;
use tests::clients;
use tests::media::Clip;
use tests::process::{Finished, Process};
use tests::server::{Config, Server};
use tests::{http, wait};

const BOUND: Duration = Duration::from_secs(30);

/// A server with a folder of files.
pub(crate) fn start(config: &Config) -> (Server, PathBuf) {
    let server = Server::start(config);
    let folder = server.folder().join("vod");
    std::fs::create_dir_all(folder.join("deep/er")).expect("the test folder is writable");
    (server, folder)
}

/// Bytes that no two places have in common.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(length);
    bytes
}

fn curl(arguments: &[&str]) -> Option<Finished> {
    let mut command = Command::new(clients::tool("curl")?);
    command.args(["-sSk", "--max-time", "20"]).args(arguments);
    Some(Process::run("curl", command, BOUND))
}

#[test]
fn curl_gets_files_ranges_and_conditions() {
    let (server, folder) = start(&Config::default());
    let film = content(3_000_001);
    std::fs::write(folder.join("deep/er/a film ü.mp4"), &film).expect("writable");
    for base in
        [format!("http://127.0.0.1:{}", server.http), format!("https://127.0.0.1:{}", server.https)]
    {
        let url = format!("{base}/vod/deep/er/a%20film%20%C3%BC.mp4");
        let get = |more: &[&str]| curl(&[more, &[url.as_str()]].concat());
        let Some(whole) = get(&[]) else { return };
        assert!(whole.stdout == film, "{base}: {} bytes", whole.stdout.len());
        for (range, part) in [
            ("0-0", &film[..1]),
            ("1000000-1999999", &film[1_000_000..2_000_000]),
            ("2999990-", &film[2_999_990..]),
            ("-11", &film[2_999_990..]),
            ("2999990-99999999999999999999", &film[2_999_990..]),
        ] {
            let got = get(&["-r", range]).expect("curl").stdout;
            assert!(got == part, "{base} {range}: {} bytes", got.len());
        }
        let several = get(&["-D", "-", "-r", "0-1,2000000-2000001"]).expect("curl").stdout_text();
        assert!(several.contains("multipart/byteranges; boundary="), "{several}");
        assert!(several.contains("Content-Range: bytes 2000000-2000001/3000001"), "{several}");
        let head = get(&["-I", "-r", "0-1"]).expect("curl").stdout_text().to_lowercase();
        assert!(head.contains(" 200") && head.contains("content-length: 3000001"), "{head}");
        assert!(head.contains("content-type: video/mp4") && head.contains("accept-ranges: bytes"));
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let status = |more: &[&str]| {
            let said =
                get(&[more, &["-o", "/dev/null", "-w", "%{http_code} %{size_download}"]].concat());
            said.expect("curl").stdout_text()
        };
        assert_eq!(status(&["-H", &format!("If-None-Match: {etag}")]), "304 0");
        assert_eq!(status(&["-z", "20370101"]), "304 0");
        assert_eq!(status(&["-r", "0-9", "-H", &format!("If-Range: {etag}")]), "206 10");
        assert_eq!(status(&["-r", "0-9", "-H", "If-Range: \"x\""]), "200 3000001");
        assert!(status(&["-r", "3000001-"]).starts_with("416 "));
    }
    let listed = server.api("/api/vod?dir=deep/er");
    assert_eq!(listed["files"], serde_json::json!(["a film ü.mp4"]));
    assert_eq!(server.api("/api/vod/deep")["dirs"], serde_json::json!(["er"]));
    assert_eq!(http::get(server.http, "/api/vod?dir=../..").status, 404);
}

#[test]
fn a_connection_goes_on_after_files() {
    let (server, folder) = start(&Config::default());
    let film = content(2 << 20);
    std::fs::write(folder.join("film.ts"), &film).expect("writable");
    let mut socket = http::connect(server.http).expect("connects");
    for round in 0..20 {
        let from = round * 100_000;
        let ask = format!(
            "GET /vod/film.ts HTTP/1.1\r\nHost: x\r\nRange: bytes={from}-\r\n\r\n\
             GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        socket.write_all(ask.as_bytes()).expect("is taken");
        let mut answer = || http::read_answer(&mut socket, false).expect("an answer");
        let part = answer();
        assert_eq!((part.status, part.header("content-type")), (206, Some("video/mp2t")));
        assert!(part.body == film[from..], "round {round}");
        assert_eq!(answer().body, b"ok\n");
    }
}

#[test]
fn files_that_are_not_in_memory_come_all_the_same() {
    let (server, folder) = start(&Config::default().cores(1));
    let Some(mut canary) = Canary::start(&server) else { return };
    let (film, path) = (content(24 << 20), folder.join("cold.mkv"));
    std::fs::write(&path, &film).expect("writable");
    let Some(dd) = clients::tool("dd") else { return };
    for base in
        [format!("http://127.0.0.1:{}", server.http), format!("https://127.0.0.1:{}", server.https)]
    {
        // Writes the file out and takes it from the page cache.
        let mut command = Command::new(&dd);
        command.args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
        command.arg(format!("of={}", path.display()));
        assert_eq!(Process::run("dd", command, BOUND).stderr, "");
        let Some(got) = curl(&[&format!("{base}/vod/cold.mkv")]) else { return };
        assert!(got.stdout == film, "{base}: {} bytes", got.stdout.len());
    }
    canary.verify(&server, "cold files");
}

#[test]
fn ab_makes_a_thousand_requests() {
    let (server, folder) = start(&Config::default());
    let film = content(1 << 20);
    std::fs::write(folder.join("test.mp4"), &film).expect("writable");
    let Some(ab) = clients::tool("ab") else { return };
    let descriptors = server.descriptors();
    for flags in [&[][..], &["-k"]] {
        let mut command = Command::new(&ab);
        command.args(["-q", "-n", "1000", "-c", "100"]).args(flags);
        command.arg(format!("http://127.0.0.1:{}/vod/test.mp4", server.http));
        let said = Process::run("ab", command, Duration::from_secs(60)).stdout_text();
        let line = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name}: {said}")).trim().to_owned()
        };
        assert_eq!(
            (line("Complete requests:").as_str(), line("Failed requests:").as_str()),
            ("1000", "0")
        );
        assert!(!said.contains("Non-2xx"), "{said}");
        assert_eq!(line("HTML transferred:"), format!("{} bytes", 1000 << 20));
    }
    let what = "all descriptors are back";
    wait::until_true(what, Duration::from_secs(5), || server.descriptors() <= descriptors + 2);
}

#[test]
fn players_play_files_and_their_playlists() {
    let (server, folder) = start(&Config::default());
    let (Some(clip), Some(hevc)) = (Clip::H264Aac.file(), Clip::HevcAac.file()) else { return };
    std::fs::copy(clip, folder.join("x.mp4")).expect("writable");
    std::fs::copy(hevc, folder.join("deep/hevc.mp4")).expect("writable");
    if let Some(ffmpeg) = clients::tool("ffmpeg") {
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-i"]).arg(folder.join("x.mp4")).args(["-c", "copy"]);
        command.args(["-t", "20", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]);
        command.arg(folder.join("frag.mp4"));
        let made = Process::run("ffmpeg", command, BOUND).stderr;
        assert_eq!(made, "");
    }
    if !(remux(&folder.join("x.mp4"), &folder.join("deep/x.ts"), &["-t", "20"])
        && remux(&folder.join("deep/hevc.mp4"), &folder.join("hevc.ts"), &[]))
    {
        return;
    }
    for name in ["x.mp4", "deep/hevc.mp4", "frag.mp4", "deep/x.ts", "hevc.ts"] {
        let file = folder.join(name);
        let on_disk = clients::ffprobe_packets(&file.display().to_string(), 8);
        for ending in ["", ".m3u8"] {
            let url = format!("http://127.0.0.1:{}/vod/{name}{ending}", server.http);
            let Some(decoded) = clients::ffmpeg_decode(&url, 5) else { return };
            assert_eq!(decoded.complaints, Vec::<String>::new(), "{url}");
            assert!(decoded.pictures >= 120, "{url}: {} pictures", decoded.pictures);
            if let Some(decoded) = clients::ffmpeg9_decode(&url, 5) {
                assert_eq!(decoded.complaints, Vec::<String>::new(), "ffmpeg 9: {url}");
            }
        }
        // The same packets at the same distances, whatever the first time is.
        let url = format!("http://127.0.0.1:{}/vod/{name}.m3u8", server.http);
        let (Some(before), Some(after)) = (on_disk, clients::ffprobe_packets(&url, 8)) else {
            return;
        };
        for stream in ['v', 'a'] {
            let of = |packets: &[clients::Packet]| {
                let own: Vec<_> = packets.iter().filter(|p| p.stream == stream).cloned().collect();
                let first = own.first().map_or(0.0, |packet| packet.dts);
                let rows = own.into_iter().take(150);
                rows.map(|p| (p.size, p.pts - first, p.dts - first)).collect::<Vec<_>>()
            };
            let (before, after) = (of(&before), of(&after));
            assert!(before.len() >= 100, "{name} {stream}: {} packets", before.len());
            for (at, (a, b)) in before.iter().zip(&after).enumerate() {
                let same = a.0 == b.0 && (a.1 - b.1).abs() < 0.001 && (a.2 - b.2).abs() < 0.001;
                assert!(same, "{name} {stream} packet {at}: {a:?} {b:?}");
            }
        }
    }
    let playlist = http::get(server.http, "/vod/x.mp4.m3u8?token=7").text();
    assert!(playlist.contains("x.mp4/seg-0.m4s?token=7"), "{playlist}");
    assert_eq!(http::get(server.http, "/vod/x.mp4/seg-100000.m4s").status, 404);
}

/// Copies the streams of a file into a transport stream.
pub(crate) fn remux(from: &Path, to: &Path, more: &[&str]) -> bool {
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return false };
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-y", "-i"]).arg(from).args(["-c", "copy"]).args(more);
    command.args(["-f", "mpegts"]).arg(to);
    assert_eq!(Process::run("ffmpeg", command, BOUND).stderr, "");
    true
}

/// Seconds from the first presentation time to the end of the last frame.
fn span_s(input: &str) -> Option<f64> {
    let mut command = Command::new(clients::tool("ffprobe")?);
    command.args(["-v", "error", "-show_entries", "packet=pts_time,duration_time"]);
    command.args(["-of", "csv=p=0", input]);
    let listed = Process::run("ffprobe", command, BOUND).stdout_text();
    let rows = listed.lines().filter_map(|line| {
        let mut fields = line.split(',').map(|field| field.parse::<f64>().ok());
        Some((fields.next()??, fields.next()??))
    });
    let (begin, end) = rows.fold((f64::MAX, f64::MIN), |(begin, end), (pts, duration)| {
        (begin.min(pts), end.max(pts + duration))
    });
    Some(end - begin)
}

pub(crate) fn durations_s(playlist: &str) -> Vec<f64> {
    let lines = playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    lines.map(|line| line.trim_end_matches(',').parse().expect("seconds")).collect()
}

#[test]
fn transport_streams_are_cut_exactly() {
    let (server, folder) = start(&Config::default());
    let (Some(clip), Some(sound)) = (Clip::H264Aac.file(), Clip::AudioOnly.file()) else { return };
    let file = |name: &str| folder.join(name);
    // The last one wraps 8 s after it began.
    for (name, from, more) in [
        ("whole.ts", &clip, &["-t", "30"][..]),
        ("sound.ts", &sound, &[]),
        ("wraps.ts", &clip, &["-t", "16", "-output_ts_offset", "95435"]),
    ] {
        if !remux(from, &file(name), more) {
            return;
        }
    }
    let whole = std::fs::read(file("whole.ts")).expect("is there");
    let wraps = std::fs::read(file("wraps.ts")).expect("is there");
    std::fs::write(file("both.ts"), [&whole[..], &wraps].concat()).expect("writable");
    let expected = [
        ("whole.ts", span_s(&file("whole.ts").display().to_string()), 7..9, 0),
        ("sound.ts", span_s(&file("sound.ts").display().to_string()), 2..4, 0),
        ("wraps.ts", span_s(&file("wraps.ts").display().to_string()), 4..6, 0),
        ("both.ts", None, 11..14, 1),
    ];
    let mut total_s = 0.0;
    for (name, span, counts, discontinuities) in expected {
        let playlist = http::get(server.http, &format!("/vod/{name}.m3u8?token=7")).text();
        let durations = durations_s(&playlist);
        let sum: f64 = durations.iter().sum();
        match span {
            Some(span) => assert!((sum - span).abs() < 0.02, "{name}: {sum} s, {span} s"),
            None => assert!((sum - total_s).abs() < 0.001, "{name}: {sum} s, {total_s} s"),
        }
        total_s += if name == "sound.ts" { 0.0 } else { sum };
        assert!(counts.contains(&durations.len()), "{name}: {durations:?}");
        let marks = playlist.matches("#EXT-X-DISCONTINUITY\n").count();
        assert_eq!(marks, discontinuities, "{name}: {playlist}");
        // Each segment plays alone, and is as long as it is said to be.
        let uris = playlist.lines().filter(|line| !line.starts_with('#'));
        for (uri, said) in uris.zip(&durations) {
            let url = format!("http://127.0.0.1:{}/vod/{uri}", server.http);
            let Some(decoded) = clients::ffmpeg_decode(&url, 60) else { return };
            assert_eq!(decoded.complaints, Vec::<String>::new(), "{url}");
            let pictures = (said * 25.0).round() as u64;
            let off = decoded.pictures.abs_diff(pictures);
            assert!(name == "sound.ts" || off <= 3, "{url}: {} {said}", decoded.pictures);
        }
        let url = format!("http://127.0.0.1:{}/vod/{name}.m3u8", server.http);
        let Some(decoded) = clients::ffmpeg_decode(&url, 90) else { return };
        // ffmpeg counts packets on across a discontinuity, and complains that they do not.
        assert!(discontinuities > 0 || decoded.complaints.is_empty(), "{url}: {decoded:?}");
        let pictures = (sum * 25.0).round() as u64;
        let off = decoded.pictures.abs_diff(pictures);
        assert!(name == "sound.ts" || off <= 8, "{url}: {} {sum}", decoded.pictures);
    }
}

#[test]
fn damaged_transport_streams_are_refused_or_cut() {
    let (server, folder) = start(&Config::default());
    let Some(clip) = Clip::H264Aac.file() else { return };
    if !remux(&clip, &folder.join("whole.ts"), &["-t", "20"]) {
        return;
    }
    let whole = std::fs::read(folder.join("whole.ts")).expect("is there");
    let wide: Vec<u8> = whole.chunks(188).flat_map(|p| [&[0; 4][..], p].concat()).collect();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).expect("writable");
        http::get(server.http, &format!("/vod/{name}.m3u8"))
    };
    for (name, bytes, why) in [
        ("none.ts", &content(300_000)[..], "not an MPEG-TS stream"),
        ("empty.ts", &[], "not an MPEG-TS stream"),
        ("wide.ts", &wide, "packets of 192 bytes are not supported"),
    ] {
        let answer = write(name, bytes);
        assert_eq!(answer.status, 415, "{name}");
        assert!(answer.text().contains(why), "{name}: {}", answer.text());
    }
    // From the middle of a GOP, with garbage inside, and cut short.
    let half = whole.len() / 2 / 188 * 188;
    let end = whole.len() - whole.len() / 10;
    let damaged = [&whole[100_000..half], &content(100_000), &whole[half..end]].concat();
    let answer = write("damaged.ts", &damaged);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let durations = durations_s(&answer.text());
    let sum: f64 = durations.iter().sum();
    assert!(durations.len() >= 3 && (14.0..19.0).contains(&sum), "{durations:?}");
    let first = http::get(server.http, "/vod/damaged.ts/seg-0.ts").body;
    assert!(first.len() > 100_000 && first.len().is_multiple_of(188), "{} bytes", first.len());
    let url = format!("http://127.0.0.1:{}/vod/damaged.ts/seg-0.ts", server.http);
    let Some(decoded) = clients::ffmpeg_decode(&url, 20) else { return };
    assert_eq!(decoded.complaints, Vec::<String>::new());
    server.wait_log("damaged.ts", BOUND);
}

#[test]
fn the_walk_over_a_long_file_goes_on_alone_and_is_not_felt() {
    let config = Config::default().cores(1).set("log", "info,engine::http::vod=debug");
    let (server, folder) = start(&config);
    let Some(clip) = Clip::H264Aac.file() else { return };
    if !remux(&clip, &folder.join("short.ts"), &["-t", "20"]) {
        return;
    }
    let Some(mut canary) = Canary::start(&server) else { return };
    let short = std::fs::read(folder.join("short.ts")).expect("is there");
    let times = (128 << 20) / short.len();
    std::fs::write(folder.join("long.ts"), short.repeat(times)).expect("writable");
    // This one does not wait for its answer.
    let mut hasty = http::connect(server.http).expect("connects");
    hasty.write_all(b"GET /vod/long.ts.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n").expect("is taken");
    drop(hasty);
    canary.verify_frames("a long walk");
    let playlist = http::get(server.http, "/vod/long.ts.m3u8");
    assert_eq!(playlist.status, 200, "{}", playlist.text());
    let marks = playlist.text().matches("#EXT-X-DISCONTINUITY\n").count();
    assert_eq!(marks, times - 1);
    server.wait_log("a file was walked over", Duration::from_secs(5));
    assert_eq!(server.log_count("a file was walked over"), 1, "the first walk went on");
    canary.verify(&server, "a long walk");
}

#[test]
fn hls_js_plays_a_transport_stream_file() {
    let (server, folder) = start(&Config::default());
    let Some(clip) = Clip::H264Aac.file() else { return };
    let file = |name: &str| folder.join(name);
    if !(remux(&clip, &file("a.ts"), &["-t", "5"]) && remux(&clip, &file("b.ts"), &["-t", "5"])) {
        return;
    }
    let read = |name: &str| std::fs::read(file(name)).expect("is there");
    std::fs::write(file("both.ts"), [read("a.ts"), read("b.ts")].concat()).expect("writable");
    let page = format!("http://127.0.0.1:{}/?url=/vod/both.ts.m3u8", server.http);
    // Across the discontinuity, which lies 5 s in.
    let Some(seen) = clients::chromium(&page, 8, "vod-ts") else { return };
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert!(seen.played >= 8.0 && seen.frames >= 150, "{seen:?}");
}

#[test]
fn h4_no_way_out_of_the_files() {
    let (server, folder) = start(&Config::default());
    std::fs::write(folder.join(".hidden"), "secret").expect("writable");
    std::fs::create_dir_all(server.folder().join("vod_secret")).expect("writable");
    std::fs::write(server.folder().join("vod_secret/x.mp4"), "secret").expect("writable");
    let link = std::os::unix::fs::symlink("../config.xml", folder.join("link.mp4"));
    link.expect("links can be made");
    std::os::unix::fs::symlink("../vod_secret", folder.join("folder")).expect("links can be made");
    if let Some(mkfifo) = clients::tool("mkfifo") {
        let made = Command::new(mkfifo).arg(folder.join("fifo.mp4")).status();
        assert!(made.is_ok_and(|status| status.success()));
    }
    let long = format!("/vod/{}", "x".repeat(4096));
    let paths: [&str; 23] = [
        "/vod/../config.xml",
        "/vod/..%2fconfig.xml",
        "/vod/%2e%2e/config.xml",
        "/vod/%2e%2e%2fconfig.xml",
        "/vod/%252e%252e%252fconfig.xml",
        "/vod/..%5cconfig.xml",
        "/vod/deep/../../config.xml",
        "/vod//etc/passwd",
        "/vod/%2fetc/passwd",
        "/vod/config.xml",
        "/vod/link.mp4",
        "/vod/link.mp4.m3u8",
        "/vod/folder/x.mp4",
        "/vod/deep\\er",
        "/vod/deep%00/x.mp4",
        "/vod/fifo.mp4",
        "/vod/.hidden",
        "/vod/x%00.mp4",
        "/vod/../vod_secret/x.mp4",
        "/vod_secret/x.mp4",
        "/vod",
        "/vod/deep",
        &long,
    ];
    for path in paths {
        let answer = http::get(server.http, path);
        assert!(matches!(answer.status, 400 | 404 | 414), "{path}: {}", answer.status);
        let text = answer.text();
        let leaks = ["<http>", "root:", "secret"].iter().any(|word| text.contains(word));
        assert!(!leaks, "{path}: {text}");
    }
    let listed = server.api("/api/vod");
    assert_eq!(listed["files"], serde_json::json!([]));
    assert_eq!(listed["dirs"], serde_json::json!(["deep"]));
}

#[test]
fn h3_range_abuse_is_bounded() {
    let (server, folder) = start(&Config::default().cores(1));
    let Some(mut canary) = Canary::start(&server) else { return };
    std::fs::write(folder.join("film.mp4"), content(1 << 20)).expect("writable");
    let thousand = (0..1000).map(|at| format!("{at}-")).collect::<Vec<_>>().join(",");
    let overlapping = ["0-"; 16].join(",");
    for (range, status) in [
        ("-", 416),
        ("5-2", 416),
        ("18446744073709551616-", 416),
        (thousand.as_str(), 416),
        (overlapping.as_str(), 206),
    ] {
        let answer =
            http::request(server.http, "GET", "/vod/film.mp4", &[&format!("Range: bytes={range}")]);
        assert_eq!(answer.status, status, "{range:.40}");
        assert!(answer.body.len() <= 1 << 20, "{range:.40}: {} bytes", answer.body.len());
        canary.verify_frames("ranges");
    }
    canary.verify(&server, "ranges");
}

#[test]
fn h1_slow_readers_of_files_cost_little() {
    let (server, folder) = start(&Config::default().cores(1));
    let Some(mut canary) = Canary::start(&server) else { return };
    std::fs::write(folder.join("film.mp4"), content(64 << 20)).expect("writable");
    canary.verify_stalled_readers(&server, "/vod/film.mp4");
}

#[test]
fn uploads_arrive_whole_and_replace_nothing_unasked() {
    let (server, folder) =
        start(&Config::default().set("http/upload_mb", 80).set("http/httpmaxbody", 0));
    let film = content(20_000_003);
    let source = server.folder().join("source.mp4");
    std::fs::write(&source, &film).expect("writable");
    let form = |name: &str| format!("file=@{};filename={name}", source.display());
    let base = format!("http://127.0.0.1:{}/vod", server.http);
    let post = |url: &str, form: &[&str], more: &[&str]| {
        let forms: Vec<&str> = form.iter().flat_map(|form| ["-F", *form]).collect();
        let out = curl(&[&["-w", "|%{http_code}"], more, &forms, &[url]].concat())?;
        Some(out.stdout_text())
    };
    let Some(first) = post(&base, &[&form("film.mp4"), "note=x"], &[]) else { return };
    assert!(first.ends_with("|201") && first.contains("\"url\":\"/vod/film.mp4\""), "{first}");
    assert!(std::fs::read(folder.join("film.mp4")).expect("is there") == film);
    assert!(curl(&[&format!("{base}/film.mp4")]).expect("curl").stdout == film);
    let status = |url: &str, forms: &[&str], more: &[&str], code: u16| {
        let said = post(url, forms, more).expect("curl");
        assert!(said.ends_with(&format!("|{code}")), "{url} {forms:?} {more:?}: {said}");
    };
    status(&base, &[&form("film.mp4")], &[], 409);
    status(&format!("{base}?overwrite=1"), &[&form("film.mp4")], &[], 201);
    status(&format!("{base}/deep/"), &[&form("a.mp4"), &form("b.mp4")], &[], 201);
    status(&format!("{base}/deep/named.mp4"), &[&form("other.mp4")], &[], 201);
    status(&base, &[&form("deep")], &[], 409);
    status(&format!("{base}?overwrite=1"), &[&form("deep")], &[], 409);
    status(&base, &[&form("../../escaped.mp4")], &[], 201);
    status(&base, &[&form(".hidden")], &[], 400);
    status(&base, &["note=only"], &[], 400);
    status(&format!("{base}/none/x.mp4"), &[&form("x.mp4")], &[], 404);
    status(&format!("{base}/%2e%2e/x.mp4"), &[&form("x.mp4")], &[], 400);
    status(&base, &[&form("x.mp4")], &["-H", "Origin: http://evil.example"], 403);
    status(&base, &[&form("x.mp4")], &["-H", "Host: evil.example"], 403);
    status(&base, &[&form("x.mp4")], &["-H", "X-Forwarded-For: 10.0.0.1"], 403);
    status(&base, &[&form("x.mp4")], &["-H", "Transfer-Encoding: chunked"], 411);
    status(&base, &[&form("1"), &form("2"), &form("3"), &form("4"), &form("5")], &[], 413);
    let secure = format!("https://127.0.0.1:{}/vod/deep/", server.https);
    status(&secure, &[&form("two.mp4")], &["--http2"], 201);
    assert!(std::fs::read(folder.join("deep/two.mp4")).expect("is there") == film);
    // A sender that leaves in the middle leaves nothing.
    let mut socket = http::connect(server.http).expect("connects");
    let head = "POST /vod/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\
        Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n\
        Content-Disposition: form-data; filename=left.mp4\r\n\r\nbeginning";
    socket.write_all(head.as_bytes()).expect("is taken");
    let hidden = || {
        let names = std::fs::read_dir(&folder).expect("is there").flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().starts_with(".upload")).count()
    };
    wait::until_true("the upload has begun", BOUND, || hidden() == 1);
    drop(socket);
    wait::until_true("nothing is left of it", BOUND, || hidden() == 0);
    assert!(!folder.join("left.mp4").exists() && !server.folder().join("escaped.mp4").exists());
    let off = Server::start(
        &Config::default().set("http/upload_mb", 0).set("http/httpmaxbody", 64 << 20),
    );
    status(&format!("http://127.0.0.1:{}/vod", off.http), &[&form("x.mp4")], &[], 403);
}
