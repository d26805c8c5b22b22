//! HLS, low-latency HLS, DASH, HTTP-TS and HTTP-MP4 of live streams: every player, the rules of
//! the specifications, and what happens when publishers change.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::clients::{self, Publisher};
use tests::hls_rules::{self, Snapshot};
use tests::media::{self, Clip};
use tests::process::Process;
use tests::server::{Config, Server};
use tests::{http, pace, wait};

const NAME: &str = "show";
const SECONDS: u32 = 4;
const PICTURES: u64 = 60;
const LIP_SYNC_MS: f64 = 20.0;
/// From picture to picture, and from sound to sound, of [`Clip::H264Aac`].
const PICTURE_MS: f64 = 40.0;
const SOUND_MS: f64 = 1024.0 / 48.0;

/// Media may last so much shorter or longer than the same media at its source.
const DURATION_MS: f64 = 20.0;

/// Seconds that a test takes, unless a variable of the environment says otherwise.
fn seconds(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How long playlists are watched; 300 in a long run by hand.
fn watched() -> Duration {
    Duration::from_secs(seconds("HLS_SECONDS", 12).into())
}

fn live(clip: Clip) -> Option<(Server, Process)> {
    // Several shards: requests come in on any, segments are made on one.
    let server = Server::start(&Config::default().cores(3));
    let publisher = Publisher::Ffmpeg.start(clip, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, publisher))
}

fn url(server: &Server, extension: &str) -> String {
    format!("http://127.0.0.1:{}/live/{NAME}{extension}", server.http)
}

#[test]
fn every_player_plays_every_form() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    for extension in [".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4", ".mpd"] {
        let url = url(&server, extension);
        for (who, decoded) in [
            ("ffmpeg", clients::ffmpeg_decode(&url, SECONDS)),
            ("ffmpeg 9", clients::ffmpeg9_decode(&url, SECONDS)),
            ("VLC", clients::vlc(&url, SECONDS + 4)),
        ] {
            let Some(decoded) = decoded else { continue };
            if who == "VLC" && matches!(extension, ".mp4" | ".mpd") {
                // VLC 3 wants to seek in an MP4 whose fragments are of one track each, and on a
                // busy machine finds no clock in a live manifest now and then.
                continue;
            }
            let pictures = decoded.pictures;
            assert!(
                pictures >= PICTURES,
                "{who} {extension}: {pictures}: {:?}",
                decoded.complaints
            );
            // What ffmpeg says of every stream of this kind, from whatever server.
            let usual =
                ["Found duplicated MOOV", "Last message repeated", "skipping ", "non monoton"];
            let complaints: Vec<_> = decoded
                .complaints
                .iter()
                .filter(|line| !usual.iter().any(|text| line.contains(text)))
                .collect();
            assert!(complaints.is_empty(), "{who} {extension}: {complaints:?}");
        }
        // Its launcher pauses a live manifest until a buffer is full that never fills at live pace.
        if extension == ".mpd" {
            continue;
        }
        let Some(pictures) = clients::gst_pictures(&url, pace::PICTURES) else { continue };
        assert!(pictures >= pace::PICTURES, "GStreamer {extension}: {pictures} pictures");
    }
}

#[test]
fn other_codecs_go_where_they_can() {
    for (clip, extensions) in [
        (Clip::HevcAac, &[".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4"][..]),
        (Clip::AudioOnly, &[".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4"]),
        (Clip::VideoOnly, &[".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4", ".mpd"]),
    ] {
        let server = Server::start_default();
        let Some(_publisher) = Publisher::Ffmpeg9.start(clip, &server.rtmp_url(NAME)) else {
            return;
        };
        server.wait_live(NAME);
        for extension in extensions {
            let Some(packets) = clients::ffprobe_packets(&url(&server, extension), 3) else {
                return;
            };
            let of = |kind| packets.iter().filter(|packet| packet.stream == kind).count();
            let (pictures, sounds) = (of('v'), of('a'));
            assert!(clip == Clip::AudioOnly || pictures > 30, "{clip:?} {extension}: {pictures}");
            assert!(
                clip == Clip::VideoOnly || sounds > 30,
                "{clip:?} {extension}: {sounds} sounds"
            );
        }
    }
}

/// `AV_SECONDS=300` for a long run by hand.
#[test]
fn lip_sync_and_duration_are_the_source_s() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let Some(clip) = Clip::H264Aac.file() else { return };
    let Some(source) = media::lip_sync(&clip) else { return };
    let (server, span) = (&server, seconds("AV_SECONDS", 6));
    // What the publisher makes of so much of its clip, the seams of its loop included.
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    let published = server.folder().join("published.flv");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-v", "error", "-stream_loop", "-1", "-i"]).arg(clip);
    command.args(["-t", &span.to_string(), "-c", "copy", "-f", "flv"]).arg(&published);
    assert!(Process::run("ffmpeg", command, Duration::from_secs(30)).status.success());
    let Some(published) = excess_ms(&published, span) else { return };
    std::thread::scope(|scope| {
        for (number, extension) in
            [".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4"].into_iter().enumerate()
        {
            scope.spawn(move || {
                let file = server.folder().join(format!("{number}.flv"));
                let recorded = clients::ffmpeg_record(&url(server, extension), span, &file);
                let Some(recorded) = recorded else { return };
                let got = media::lip_sync(&file);
                let got = got.unwrap_or_else(|| panic!("{extension}: {}", recorded.stderr));
                let Some(excess) = excess_ms(&file, span) else { return };
                eprintln!("{extension}: lip sync {got:.1} ms, at the source {source:.1} ms");
                eprintln!(
                    "{extension}: longer by {excess:.1?} ms, as published {published:.1?} ms"
                );
                assert!((got - source).abs() <= LIP_SYNC_MS, "{extension}: {got} ms, not {source}");
                for (excess, published) in excess.iter().zip(published) {
                    let off = excess - published;
                    assert!(off.abs() <= DURATION_MS, "{extension}: {off} ms longer");
                }
            });
        }
    });
}

/// How much longer than their number says the pictures and the sounds of a recording last, which
/// must have about all pictures of its span.
fn excess_ms(file: &Path, span: u32) -> Option<[f64; 2]> {
    let packets = clients::ffprobe_packets(&file.to_string_lossy(), span + 10)?;
    Some([('v', PICTURE_MS), ('a', SOUND_MS)].map(|(stream, each)| {
        let of_stream = packets.iter().filter(|packet| packet.stream == stream);
        let times: Vec<f64> = of_stream.map(|packet| packet.dts * 1000.0).collect();
        let first = times.iter().copied().fold(f64::INFINITY, f64::min);
        let last = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let expected = (times.len() as f64 - 1.0) * each;
        assert!(expected >= f64::from(span) * 950.0, "{}: {}", file.display(), times.len());
        last - first - expected
    }))
}

/// What a client receives of a media playlist while it reloads it, with the time since `start` in
/// milliseconds: blocking, and by delta updates in between.
pub(crate) fn watch(port: u16, name: &str, format: &str, start: Instant) -> Vec<(u64, String)> {
    let low_latency = format == "fmp4";
    let mut texts: Vec<(u64, String)> = Vec::new();
    let mut next: Option<(u64, Option<u64>)> = None;
    while start.elapsed() < watched() {
        let mut path = format!("/live/{name}.m3u8?format={format}");
        if let Some((sequence, part)) = next {
            path += &format!("&_HLS_msn={sequence}");
            path += &part.map_or(String::new(), |part| format!("&_HLS_part={part}"));
            path += if texts.len().is_multiple_of(3) { "&_HLS_skip=YES" } else { "" };
        }
        let asked = Instant::now();
        let answer = http::get(port, &path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let waited = asked.elapsed();
        let bound = Duration::from_millis(if low_latency { 500 } else { 1500 });
        assert!(next.is_none() || waited < bound, "{path} took {waited:?}");
        let text = answer.text();
        next = Some(if low_latency { next_part(&text) } else { (next_segment(&text), None) });
        texts.push((u64::try_from(start.elapsed().as_millis()).unwrap_or(0), text));
    }
    let least = if low_latency { 4 } else { 1 } * watched().as_secs() as usize / 2;
    assert!(texts.len() > least, "{name} {format}: {} playlists only", texts.len());
    texts
}

/// What was received, as the judge takes it; it has broken no rule.
pub(crate) fn lawful(texts: &[(u64, String)]) -> Vec<Snapshot<'_>> {
    let snapshots: Vec<_> =
        texts.iter().map(|(at_ms, text)| Snapshot { at_ms: *at_ms, text }).collect();
    let broken = hls_rules::violations(&snapshots);
    assert!(broken.is_empty(), "{broken:#?}");
    snapshots
}

#[test]
fn playlists_obey_the_rules() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    std::thread::scope(|scope| {
        for format in ["ts", "fmp4"] {
            let port = server.http;
            scope.spawn(move || {
                lawful(&watch(port, NAME, format, Instant::now()));
            });
        }
    });
}

/// Number of the segment that is being made.
fn next_segment(text: &str) -> u64 {
    let value = |tag: &str| text.lines().find_map(|line| line.strip_prefix(tag)?.parse().ok());
    let first: u64 = value("#EXT-X-MEDIA-SEQUENCE:").expect("a media sequence");
    let skipped: u64 = value("#EXT-X-SKIP:SKIPPED-SEGMENTS=").unwrap_or(0);
    first + skipped + text.lines().filter(|line| line.starts_with("#EXTINF:")).count() as u64
}

/// The part that the playlist hints at.
fn next_part(text: &str) -> (u64, Option<u64>) {
    let hint = text.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT")).expect("a hint");
    let name = hint.split("part-").nth(1).and_then(|rest| rest.split('.').next()).expect("a part");
    let numbers: Vec<u64> =
        name.split('-').map(|number| number.parse().expect("a number")).collect();
    (numbers[1], Some(numbers[2]))
}

#[test]
fn every_segment_decodes_alone() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    for format in ["ts", "fmp4"] {
        let playlist = http::get(server.http, &format!("/live/{NAME}.m3u8?format={format}")).text();
        let map =
            playlist.lines().find_map(|line| line.split("MAP:URI=\"").nth(1)?.split('"').next());
        let init =
            map.map_or(Vec::new(), |map| http::get(server.http, &format!("/live/{map}")).body);
        let mut segments = playlist.lines().filter(|line| line.contains("/seg-"));
        let segment = segments.next_back().expect("a segment");
        let body = http::get(server.http, &format!("/live/{segment}")).body;
        let file = server.folder().join(format!("alone.{format}"));
        std::fs::write(&file, [init, body].concat()).expect("the folder is ours");
        let mut command = Command::new(&ffmpeg);
        command.args(["-v", "warning", "-i"]).arg(&file).args(["-f", "null", "-"]);
        let decoded = Process::run("ffmpeg", command, Duration::from_secs(10));
        assert_eq!(decoded.stderr.trim(), "", "{format}");
    }
}

#[test]
fn a_part_is_answered_when_it_is_there() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let playlist = format!("/live/{NAME}.m3u8?format=fmp4");
    for _ in 0..5 {
        let text = http::get(server.http, &playlist).text();
        let hint =
            text.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT")).expect("a hint");
        let part =
            hint.split("URI=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("URI");
        let answer = http::get(server.http, &format!("/live/{part}"));
        assert_eq!(answer.status, 200, "{part}");
        assert!(answer.body.len() > 100, "{part}: {} bytes", answer.body.len());
        assert!(answer.header("cache-control").is_some_and(|value| value.contains("immutable")));
    }
}

#[test]
fn a_segment_can_be_read_while_it_grows() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let text = http::get(server.http, &format!("/live/{NAME}.m3u8?format=fmp4")).text();
    let (sequence, _) = next_part(&text);
    let epoch =
        text.split("/seg-").nth(1).and_then(|rest| rest.split('-').next()).expect("an epoch");
    let path = format!("/live/{NAME}/v-{epoch}-{}.m4s", sequence + 1);
    let (status, _, mut body) = http::open(server.http, &path).expect("an answer");
    assert_eq!(status, 200, "{path}");
    let mut first = [0; 8];
    body.read_exact(&mut first).expect("the first fragment");
    let began = Instant::now();
    let mut rest = Vec::new();
    body.read_to_end(&mut rest).expect("the rest");
    // A second of pictures in parts of a fifth: what follows the first part takes time.
    assert!(began.elapsed() > Duration::from_millis(400), "{:?}", began.elapsed());
    assert!(rest.windows(4).filter(|name| name == b"moof").count() >= 4);
}

#[test]
fn another_publisher_is_a_discontinuity_and_the_last_one_the_end() {
    let config = Config::default().set("rtmp/publisher_grace", 3);
    let server = Server::start(&config);
    let start = |clip| Publisher::Ffmpeg.start(clip, &server.rtmp_url(NAME));
    let Some(first) = start(Clip::H264Aac) else { return };
    server.wait_live(NAME);
    let playlist = |format| http::get(server.http, &format!("/live/{NAME}.m3u8?format={format}"));
    for format in ["ts", "fmp4"] {
        assert_eq!(playlist(format).status, 200);
    }
    drop(first);
    wait::until_true("the publisher is gone", Duration::from_secs(5), || !server.is_live(NAME));
    let Some(second) = start(Clip::Canary) else { return };
    for format in ["ts", "fmp4"] {
        wait::until_true("a discontinuity", Duration::from_secs(10), || {
            playlist(format).text().contains("#EXT-X-DISCONTINUITY\n")
        });
    }
    let maps = playlist("fmp4").text().matches("#EXT-X-MAP").count();
    assert_eq!(maps, 2, "one configuration per publisher");
    let periods = http::get(server.http, &format!("/live/{NAME}.mpd")).text();
    assert!(periods.contains("utc:http-iso:2014\" value=\"/time\""), "{periods}");
    assert_eq!(http::get(server.http, "/time").header("access-control-allow-origin"), Some("*"));
    assert_eq!(periods.matches("<Period ").count(), 2, "{periods}");
    drop(second);
    for format in ["ts", "fmp4"] {
        wait::until_true("the end", Duration::from_secs(10), || {
            playlist(format).text().contains("#EXT-X-ENDLIST")
        });
    }
}

#[test]
fn what_is_not_there_is_said() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let status = |path: &str| http::get(server.http, path).status;
    assert_eq!(status(&format!("/live/{NAME}.m3u8")), 200);
    for (path, expected) in [
        ("/live/nobody.m3u8", 404),
        ("/live/nobody.mpd", 404),
        ("/other/show.m3u8", 404),
        ("/live/show/seg-1-0.ts", 404),
        ("/live/show.m3u8?_HLS_msn=x", 400),
        ("/live/show.m3u8?_HLS_part=1", 400),
        ("/live/show.m3u8?_HLS_msn=1000000", 400),
        ("/live/show.m3u8?format=flac", 400),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
}

#[test]
fn caches_are_told_what_they_need() {
    let Some((server, _publisher)) = live(Clip::H264Aac) else { return };
    let path = format!("/live/{NAME}.m3u8");
    let plain = http::request(server.http, "GET", &path, &["Origin: http://example.org"]);
    assert_eq!(plain.header("access-control-allow-origin"), Some("*"));
    assert_eq!(plain.header("content-type"), Some("application/vnd.apple.mpegurl"));
    let zipped = http::request(server.http, "GET", &path, &["Accept-Encoding: gzip"]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.starts_with(&[0x1f, 0x8b]));
    // The playlist changes once a second: ask until both questions fall into the same.
    wait::until_true("not modified", Duration::from_secs(5), || {
        let tag = http::get(server.http, &path).header("etag").map(str::to_owned).expect("a tag");
        let again = format!("If-None-Match: {tag}");
        http::request(server.http, "GET", &path, &[&again]).status == 304
    });
    let options = http::request(server.http, "OPTIONS", &path, &[]);
    assert_eq!(options.status, 204);
}
