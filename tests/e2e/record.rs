//! Recording and replay with real clients: what is pushed to `rec` comes back as HLS, DASH and
//! MP4, whole or over pieces, also after the server was killed or its disk was full.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::clients::{self, Publisher};
use tests::hls_rules::{self, Snapshot};
use tests::http::{self, Answer};
use tests::media::Clip;
use tests::process::Process;
use tests::server::{Config, Server};
use tests::{skip, wait};

/// Pieces of six seconds.
fn short_pieces() -> Config {
    Config::default().set("http/recduration", "0.1")
}

fn rec_url(server: &Server, name: &str) -> String {
    format!("rtmp://127.0.0.1:{}/rec/{name}", server.rtmp)
}

fn recorded(server: &Server, what: &str) -> f64 {
    server.metrics().sum(&format!("smart_rtmpd_record_{what}"), &[])
}

fn wait_recorded(server: &Server, what: &str, least: f64, bound: u64) {
    let name = format!("{least} of {what} are recorded");
    wait::until_true(&name, Duration::from_secs(bound), || recorded(server, what) >= least);
}

/// The answer to a GET, which must have this status.
fn get(server: &Server, path: &str, status: u16) -> Answer {
    let answer = http::get(server.http, path);
    assert_eq!(answer.status, status, "GET {path}: {}", answer.text());
    answer
}

fn list(server: &Server, path: &str, key: &str) -> Vec<String> {
    let answer = server.api(path);
    let list = answer[key].as_array().unwrap_or_else(|| panic!("{path}: {answer}"));
    list.iter().map(|entry| entry.as_str().expect("a name").to_owned()).collect()
}

/// The day and the times of the pieces of a stream, in order. A test near midnight has two days.
fn pieces(server: &Server, name: &str) -> Vec<(String, String)> {
    let mut pieces = Vec::new();
    for day in list(server, &format!("/rec/{name}"), "dirs") {
        for file in list(server, &format!("/rec/{name}/{day}"), "files") {
            let time = file.split_once('.').expect("an extension").0.to_owned();
            pieces.push((day.clone(), time));
        }
    }
    pieces
}

/// Plays with two generations of ffmpeg; neither complains. Pictures seen by the older one.
fn plays(url: &str) -> u64 {
    let mut pictures = 0;
    for decoded in [clients::ffmpeg9_decode(url, 60), clients::ffmpeg_decode(url, 60)] {
        let Some(decoded) = decoded else { continue };
        assert!(decoded.complaints.is_empty(), "{url}: {:?}", decoded.complaints);
        pictures = decoded.pictures;
    }
    pictures
}

/// Publishes to `rec/NAME` until so many pieces have begun, then stops.
fn record_pieces(server: &Server, name: &str, count: f64) -> Option<()> {
    let publisher = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(server, name))?;
    wait_recorded(server, "pieces_total", count, 60);
    let fragments = recorded(server, "fragments_total");
    wait_recorded(server, "fragments_total", fragments + 4.0, 20);
    drop(publisher);
    wait::until_true("the recording is closed", Duration::from_secs(10), || {
        recorded(server, "streams") < 1.0
    });
    Some(())
}

#[test]
fn what_is_pushed_to_rec_is_listed_and_plays_in_every_form() {
    let server = Server::start(&short_pieces().set("http/recmode", "3"));
    if record_pieces(&server, "cam/x", 2.0).is_none() {
        return;
    }
    assert_eq!(list(&server, "/api/rec", "dirs"), ["cam/x"]);
    let days = list(&server, "/rec/cam/x", "dirs");
    let day = &days[0];
    let lines = get(&server, "/rec/cam/x?cmd=query", 200).text();
    assert_eq!(lines.lines().collect::<Vec<_>>(), days);
    let files = list(&server, &format!("/rec/cam/x?day={day}"), "files");
    assert_eq!(files, list(&server, &format!("/rec/cam/x/{day}"), "files"));
    let lines = get(&server, &format!("/rec/cam/x?cmd=query&day={day}"), 200).text();
    let newest_first: Vec<&str> = lines.lines().collect();
    assert_eq!(newest_first.len(), files.len());
    let times = |file: &str| file.split_once('.').expect("an extension").0.to_owned();
    let mut reversed: Vec<_> = newest_first.iter().map(|file| times(file)).collect();
    reversed.reverse();
    assert_eq!(reversed, files.iter().map(|file| times(file)).collect::<Vec<_>>());

    let pieces = pieces(&server, "cam/x");
    let (day, time) = &pieces[0];
    let base = format!("http://127.0.0.1:{}/rec/cam/x", server.http);
    // Six seconds up to a keyframe, with 25 pictures each.
    for address in [
        format!("{base}/{day}/{time}.m3u8"),
        format!("{base}.m3u8?day={day}&time={time}"),
        format!("{base}?day={day}&time={time}.m3u8"),
        format!("{base}?day={day}&time={time}&ext=m3u8"),
        format!("{base}/{day}/{time}.mp4"),
    ] {
        assert_eq!(plays(&address), 150, "{address}");
    }
    for address in [format!("{base}/{day}/{time}.mpd"), format!("{base}.mpd?day={day}&time={time}")]
    {
        // ffmpeg ends with the first track that ends: here the sound.
        let pictures = plays(&address);
        assert!((147..=150).contains(&pictures), "{address}: {pictures}");
    }
    let text = get(&server, &format!("/rec/cam/x/{day}/{time}.m3u8"), 200).text();
    let snapshots = [Snapshot { at_ms: 0, text: &text }];
    assert_eq!(hls_rules::violations(&snapshots), [""; 0], "{text}");
}

#[test]
fn a_stretch_of_time_plays_over_pieces_and_downloads_as_one_file() {
    let server = Server::start(&short_pieces());
    if record_pieces(&server, "x", 2.0).is_none() {
        return;
    }
    let day = pieces(&server, "x")[0].0.clone();
    let base = format!("http://127.0.0.1:{}/rec/x", server.http);
    let text = get(&server, &format!("/rec/x.m3u8?day={day}"), 200).text();
    assert_eq!(text.matches("#EXT-X-PROGRAM-DATE-TIME:").count(), 1, "{text}");
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"), "one recording has no seam: {text}");
    assert!(text.contains(".mp4?shift="), "there are two pieces: {text}");
    let snapshots = [Snapshot { at_ms: 0, text: &text }];
    assert_eq!(hls_rules::violations(&snapshots), [""; 0], "{text}");
    let pictures = plays(&format!("{base}.m3u8?day={day}"));
    assert!(pictures > 175, "{pictures} pictures over two pieces");
    assert_eq!(plays(&format!("{base}.mp4?day={day}")), pictures);

    // From the wall clock of the first picture: two seconds around the end of the first piece.
    let line = text.lines().find_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"));
    let (date, rest) = line.expect("a date").split_once('T').expect("a time");
    let clock: Vec<f64> =
        rest.trim_end_matches('Z').split(':').map(|part| part.parse().expect("a number")).collect();
    let second = clock[0] * 3600.0 + clock[1] * 60.0 + clock[2];
    let instant = |seconds: f64| {
        let at = second + seconds;
        let (hour, minute) = ((at / 3600.0).floor(), (at % 3600.0 / 60.0).floor());
        format!("{date}T{hour:02}:{minute:02}:{:06.3}Z", at % 60.0)
    };
    if second > 86_390.0 {
        return skip("the next day begins in the middle of this test");
    }
    let window = format!("start={}&end={}", instant(5.2), instant(6.8));
    let part = get(&server, &format!("/rec/x.m3u8?{window}"), 200).text();
    assert!(part.matches("#EXTINF").count() >= 2 && part.len() < text.len() + 1, "{part}");
    assert!(plays(&format!("{base}.m3u8?{window}")) >= 25);

    // Seconds 5 and 6, each from its keyframe, on a timeline that begins at 0.
    let answer = get(&server, &format!("/rec/x.mp4?{window}"), 200);
    let disposition = answer.header("content-disposition").expect("a name to save under");
    assert!(disposition.starts_with("attachment; filename=\"x_"), "{disposition}");
    let file = server.folder().join("part.mp4");
    std::fs::write(&file, &answer.body).expect("the folder is ours");
    let file = file.to_string_lossy().into_owned();
    assert_eq!(plays(&file), 50);
    let Some(packets) = clients::ffprobe_packets(&file, 60) else { return };
    let first = packets.iter().map(|packet| packet.dts).fold(f64::INFINITY, f64::min);
    assert!((0.0..0.05).contains(&first), "begins at {first}");
    let mut last = [f64::NEG_INFINITY; 2];
    for packet in &packets {
        let last = &mut last[usize::from(packet.stream == 'a')];
        assert!(packet.dts > *last && packet.dts - *last < 0.1 || last.is_infinite(), "{packet:?}");
        *last = packet.dts;
    }
    // Any range of it is that range.
    let range = http::request(
        server.http,
        "GET",
        &format!("/rec/x.mp4?{window}"),
        &["Range: bytes=1000-99999"],
    );
    assert_eq!((range.status, range.body.len()), (206, 99_000));
    assert!(range.body == answer.body[1000..100_000]);
}

#[test]
fn a_killed_server_loses_a_fragment_at_most() {
    let folder = Folder::new("killed");
    let config = short_pieces().set("http/rec_dir", folder.0.display());
    let before = Server::start(&config);
    let Some(publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(&before, "x")) else {
        return;
    };
    wait_recorded(&before, "pieces_total", 2.0, 60);
    let fragments = recorded(&before, "fragments_total");
    wait_recorded(&before, "fragments_total", fragments + 5.0, 20);
    let fragments = recorded(&before, "fragments_total");
    before.signal(libc::SIGKILL);
    drop((publisher, before));

    let server = Server::start(&config);
    let what = "the torn piece is recovered";
    wait::until_true(what, Duration::from_secs(10), || recorded(&server, "recovered_total") >= 1.0);
    let pieces = pieces(&server, "x");
    assert_eq!(pieces.len(), 2);
    let base = format!("http://127.0.0.1:{}/rec/x", server.http);
    let mut pictures = 0;
    for (day, time) in &pieces {
        let hls = plays(&format!("{base}/{day}/{time}.m3u8"));
        let dash = plays(&format!("{base}/{day}/{time}.mpd"));
        assert!(hls > 0 && dash + 4 >= hls, "{hls} and {dash} pictures");
        assert_eq!(plays(&format!("{base}/{day}/{time}.mp4")), hls);
        pictures += hls;
    }
    // A second of pictures to every two fragments that were counted before.
    let counted = fragments / 2.0 * 25.0;
    assert!(pictures as f64 >= counted - 25.0, "{pictures} pictures of {counted}");
    let day = &pieces[0].0;
    assert_eq!(plays(&format!("{base}.mp4?day={day}")), pictures);
}

/// `RECORD_KILLS=100` for a long run by hand. All kills hit the same recording, whose pieces must
/// all play in the end.
#[test]
fn killed_at_any_moment_a_recording_plays() {
    let kills = std::env::var("RECORD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let seed: u64 = std::env::var("RECORD_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("RECORD_SEED={seed}");
    let folder = Folder::new("kills");
    let config = short_pieces().set("http/rec_dir", folder.0.display());
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut seen = Vec::new();
    let (mut missing, mut torn) = (Vec::new(), 0.0);
    let mut server = Server::start(&config);
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // From the first fragment to the second piece.
        let moment = Duration::from_millis(random % 7000);
        let Some(mut publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(&server, "x"))
        else {
            return;
        };
        wait_recorded(&server, "fragments_total", 1.0, 20);
        wait::stays_true("it is published", moment, || publisher.alive());
        let fragments = recorded(&server, "fragments_total");
        server.signal(libc::SIGKILL);
        drop((publisher, server));
        server = Server::start(&config);
        let new = new_pieces(&server, &mut seen);
        let pictures: u64 = new.iter().map(|piece| plays_alike(&server, piece)).sum();
        torn += recorded(&server, "recovered_total");
        // A second of pictures to every two fragments that were counted before.
        let lost = (fragments / 2.0).floor() * 25.0 - pictures as f64;
        assert!(lost <= 25.0, "kill {kill} after {moment:?}: {pictures} of {fragments} fragments");
        missing.push(lost);
    }
    missing.sort_by(f64::total_cmp);
    let pieces = seen.len();
    eprintln!("{kills} kills, {pieces} pieces, {torn} torn, pictures missing: {missing:?}");
    let day = &seen[0].0;
    let whole = plays(&format!("http://127.0.0.1:{}/rec/x.m3u8?day={day}", server.http));
    assert!(whole > 0);
}

/// The pieces that have come to be since the last time.
fn new_pieces(server: &Server, seen: &mut Vec<(String, String)>) -> Vec<(String, String)> {
    let mut new = Vec::new();
    wait::until_true("the pieces are listed", Duration::from_secs(10), || {
        new = pieces(server, "x");
        new.retain(|piece| !seen.contains(piece));
        !new.is_empty()
    });
    seen.extend(new.iter().cloned());
    new
}

/// Pictures of a piece, which are the same as HLS and as a file.
fn plays_alike(server: &Server, (day, time): &(String, String)) -> u64 {
    let base = format!("http://127.0.0.1:{}/rec/x/{day}/{time}", server.http);
    let hls = plays(&format!("{base}.m3u8"));
    assert!(hls > 0 && plays(&format!("{base}.mp4")) == hls, "{base}: {hls} pictures");
    hls
}

#[test]
fn a_stopped_server_closes_its_recordings() {
    let folder = Folder::new("stopped");
    let config = Config::default().set("http/rec_dir", folder.0.display());
    let mut server = Server::start(&config);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(&server, "x")) else {
        return;
    };
    wait_recorded(&server, "fragments_total", 6.0, 20);
    let (status, _) = server.terminate(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let server = Server::start(&config);
    let (day, time) = pieces(&server, "x").remove(0);
    let base = format!("http://127.0.0.1:{}/rec/x", server.http);
    assert!(plays(&format!("{base}/{day}/{time}.m3u8")) >= 75);
    assert!(recorded(&server, "recovered_total") < 1.0, "it was whole");
}

#[test]
fn a_piece_plays_while_it_is_written() {
    let server = Server::start_default();
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(&server, "x")) else {
        return;
    };
    wait_recorded(&server, "fragments_total", 8.0, 20);
    let (day, time) = pieces(&server, "x").remove(0);
    let base = format!("http://127.0.0.1:{}/rec/x", server.http);
    for form in ["m3u8", "mpd", "mp4"] {
        assert!(plays(&format!("{base}/{day}/{time}.{form}")) >= 75, "{form}");
    }
    // And live, beside it.
    let decoded = clients::ffmpeg_decode(&format!("{base}.flv"), 2);
    assert!(decoded.is_none_or(|decoded| decoded.pictures >= 45));
    let live = server.api("/api/live");
    assert_eq!(live["live"][0]["app"]["rec"], true, "{live}");
}

#[test]
fn streams_are_recorded_by_rule() {
    let server = Server::start(&Config::default().set("http/record", "live/cam*"));
    let Some(_one) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("cam1")) else {
        return;
    };
    let Some(_two) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url("other")) else {
        return;
    };
    server.wait_live("other");
    wait_recorded(&server, "fragments_total", 4.0, 20);
    assert_eq!(list(&server, "/api/rec", "dirs"), ["live/cam1"]);
    assert_eq!(recorded(&server, "streams"), 1.0);
    let (day, time) = pieces(&server, "live/cam1").remove(0);
    get(&server, &format!("/rec/live/cam1/{day}/{time}.m3u8"), 200);
}

#[test]
fn a_full_disk_is_a_gap_and_no_more() {
    let folder = Folder::new("full");
    let Some(disk) = Disk::mount(&folder.0, 600) else { return };
    let server = Server::start(&Config::default().set("http/rec_dir", folder.0.display()));
    let Some(mut publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &rec_url(&server, "x")) else {
        return;
    };
    let gaps = || {
        let labels = ["reason=\"no_space\""];
        server.metrics().sum("smart_rtmpd_record_gaps_total", &labels)
    };
    wait::until_true("the disk is full", Duration::from_secs(30), || gaps() >= 2.0);
    let url = format!("http://127.0.0.1:{}/rec/x.flv", server.http);
    let live = clients::ffmpeg_decode(&url, 4);
    assert!(live.is_none_or(|live| live.pictures >= 95 && live.complaints.is_empty()));
    assert!(publisher.alive());
    server.wait_log("a gap in the recording", Duration::from_secs(5));
    assert_eq!(server.log_count("a gap in the recording"), 1, "said once a minute");
    let before = recorded(&server, "fragments_total");
    assert!(disk.resize(64_000));
    wait_recorded(&server, "fragments_total", before + 4.0, 60);
    drop(publisher);
    wait::until_true("the recording is closed", Duration::from_secs(10), || {
        recorded(&server, "streams") < 1.0
    });
    let pieces = pieces(&server, "x");
    assert_eq!(pieces.len(), 2, "the one that was cut off and the one after");
    for (day, time) in &pieces {
        let base = format!("http://127.0.0.1:{}/rec/x/{day}/{time}", server.http);
        for form in ["m3u8", "mpd", "mp4"] {
            assert!(plays(&format!("{base}.{form}")) > 20, "{base}.{form}");
        }
    }
}

#[test]
fn odd_addresses_are_refused_with_a_reason() {
    let server = Server::start_default();
    std::fs::create_dir_all(server.folder().join("rec/default/x/2024-05-01")).expect("ours");
    let outside = server.folder().join("config.xml");
    let link = server.folder().join("rec/default/x/2024-05-01/10-00-00.mp4");
    std::os::unix::fs::symlink(&outside, &link).expect("ours");
    for (path, status) in [
        ("/rec/nothing", 404),
        ("/rec/nothing?cmd=query", 404),
        ("/rec/nothing/2024-05-01", 404),
        ("/rec/nothing/2024-05-01/10-00-00.m3u8", 404),
        ("/rec/x/2024-05-01/10-00-00.mp4", 404),
        ("/rec/x/2024-05-01/10-00-00.m3u8", 404),
        ("/rec/x/2024-05-01/10-00-00/video/init.mp4", 404),
        ("/rec/x.mp4?day=2024-05-01", 404),
        ("/rec/..%2f..%2fconfig.xml", 404),
        ("/rec/%2e%2e/config.xml", 404),
        ("/rec/x%00y", 404),
        ("/rec/x?day=../..", 400),
        ("/rec/x?day=2024-02-31", 400),
        ("/rec/x?day=9223372036854775808", 400),
        ("/rec/x?day=*", 400),
        ("/rec/x?day=%2fetc%2fpasswd", 400),
        ("/rec/x?day=2024-05-01&time=..%2f..%2fx", 400),
        ("/rec/x.m3u8?day=2024-05-01&time=99-00-00", 400),
        ("/rec/x/2024-02-31", 400),
        ("/rec/x/2024-05-01/x.m3u8", 400),
        ("/rec/x/2024-05-01/10-00-00.idx", 400),
        ("/rec/x?cmd=delete", 400),
        ("/rec/x.m3u8?start=yesterday", 400),
        ("/rec/x.m3u8?start=2024-05-01T00:00:00Z&end=2024-06-01T00:00:00Z", 400),
    ] {
        let answer = get(&server, path, status);
        assert!(answer.text().len() > 10 && !answer.text().contains("<config>"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
    }
    let post = http::request(server.http, "POST", "/rec/x?day=2024-05-01", &[]);
    assert_eq!(post.status, 405);
    let preflight = http::request(server.http, "OPTIONS", "/rec/x/2024-05-01/10-00-00.mp4", &[]);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("Authorization, Range"));
    assert!(!Path::new("/rec/default").exists());
}

/// A folder that outlives a server.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = tests::root().join(format!("target/e2e/{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("target/ is writable");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A small file system of its own.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// Mounts one; not everybody may.
    fn mount(at: &'a Path, kib: u32) -> Option<Self> {
        let mut command = Command::new(clients::tool("mount")?);
        command.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "rec-test"]).arg(at);
        if !Process::run("mount", command, Duration::from_secs(5)).status.success() {
            skip("a file system cannot be mounted here");
            return None;
        }
        Some(Self(at))
    }

    fn resize(&self, kib: u32) -> bool {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,size={kib}k")]).arg(self.0);
        Process::run("mount", command, Duration::from_secs(5)).status.success()
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg("-l").arg(self.0);
        let _ = Process::run("umount", command, Duration::from_secs(5));
    }
}
