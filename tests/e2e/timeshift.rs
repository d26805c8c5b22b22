//! Live streams played some seconds later, `?delay=`: from recordings and from segments in memory,
//! in every format, how much later, to the end, and what is refused.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tests::clients::{self, Publisher};
use tests::flv::{self, Tag};
use tests::hls_rules::{self, Snapshot};
use tests::media::Clip;
use tests::process::Process;
use tests::server::{Config, Server};
use tests::{http, wait};

const NAME: &str = "show";
const DELAY_S: u64 = 5;
/// How far what is played may be from where it should be.
const OFF_MAX_MS: i64 = 1000;

/// Recorded in pieces of six seconds.
fn recorded() -> Config {
    Config::default().set("http/record", "live/*").set("http/recduration", "0.1")
}

/// A stream that has been live for longer than the delay.
fn live(config: &Config, clip: Clip) -> Option<(Server, Process)> {
    let server = Server::start(config);
    let publisher = Publisher::Ffmpeg.start(clip, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    reaches_back(&server);
    Some((server, publisher))
}

/// Waits until what is kept reaches back far enough; until then it is refused.
fn reaches_back(server: &Server) {
    wait::until_true("enough is kept", Duration::from_secs(30), || {
        let status = http::get(server.http, &delayed(".m3u8")).status;
        assert!(matches!(status, 200 | 404), "{status}");
        status == 200
    });
}

fn delayed(extension: &str) -> String {
    let joint = if extension.contains('?') { '&' } else { '?' };
    format!("/live/{NAME}{extension}{joint}delay={DELAY_S}")
}

/// Tags with the moment they came, read for so long or to the end.
fn watch(port: u16, path: &str, seconds: u64) -> Vec<(Instant, Tag)> {
    let (status, _, body) = http::open(port, path).expect("an answer");
    assert_eq!(status, 200, "{path}");
    let mut reader = flv::Reader::new(body).expect("FLV");
    let (start, mut tags) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(seconds) {
        match reader.next_tag() {
            Ok(Some(tag)) => tags.push((Instant::now(), tag)),
            Ok(None) => break,
            Err(error) => panic!("{path}: {error}"),
        }
    }
    tags
}

/// Checks that the later one shows what the live one showed, so much earlier, at the same times of
/// the stream; gives how many pictures both had.
fn compare(live: &[(Instant, Tag)], later: &[(Instant, Tag)]) -> usize {
    let tags: Vec<Tag> = later.iter().map(|(_, tag)| tag.clone()).collect();
    flv::check_integrity("later", &tags);
    let shown = live.iter().filter(|(_, tag)| tag.is_picture());
    let shown: HashMap<&[u8], (Instant, u32)> =
        shown.map(|(at, tag)| (tag.payload(), (*at, tag.timestamp))).collect();
    // The first GOP comes at once, as it does live.
    let pictures: Vec<_> = later.iter().filter(|(_, tag)| tag.is_picture()).skip(30).collect();
    let mut both = 0;
    for (at, tag) in &pictures {
        let Some((live_at, timestamp)) = shown.get(tag.payload()) else { continue };
        assert!(tag.timestamp.abs_diff(*timestamp) <= 1, "{} {timestamp}", tag.timestamp);
        let apart = at.duration_since(*live_at).as_millis() as i64;
        let off = apart - DELAY_S as i64 * 1000;
        assert!(off.abs() <= OFF_MAX_MS, "{apart} ms later, at {} ms", tag.timestamp);
        both += 1;
    }
    // No picture is missing between the first and the last.
    let times: Vec<u32> = pictures.iter().map(|(_, tag)| tag.timestamp).collect();
    let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.clone().all(|step| step <= 80), "{:?}", steps.max());
    both
}

/// Watches both at once.
fn side_by_side(server: &Server, seconds: u64) {
    let port = server.http;
    let live = thread::spawn(move || watch(port, &format!("/live/{NAME}.flv"), seconds));
    let later = watch(port, &delayed(".flv"), seconds);
    let live = live.join().expect("it reads");
    let both = compare(&live, &later);
    let least = (seconds - DELAY_S - 3) * 25;
    assert!(both as u64 >= least, "{both} pictures of both, {least} expected");
}

#[test]
fn a_recording_is_the_same_stream_so_much_later() {
    let Some((server, _publisher)) = live(&recorded().cores(3), Clip::Canary) else { return };
    // Over the seams of two pieces.
    side_by_side(&server, 14);
    // It is the same stream, with a viewer more.
    let (_, _, _body) = http::open(server.http, &delayed(".flv")).expect("an answer");
    let count = || http::get(server.http, &format!("/api/live?name={NAME}&cmd=count")).text();
    wait::until_true("a viewer", Duration::from_secs(5), || count().contains("flv:1\n"));
    let streams = server.api("/api/live");
    assert_eq!(streams["live"].as_array().map(Vec::len), Some(1), "{streams}");
}

#[test]
fn segments_in_memory_are_the_same_stream_so_much_later() {
    let config = Config::default().set("http/hlsalways", "live");
    let Some((server, _publisher)) = live(&config, Clip::Canary) else { return };
    side_by_side(&server, 12);
    // Eleven segments of a second are held, one of which is about to go.
    let status = |delay_s| http::get(server.http, &format!("/live/{NAME}.m3u8?delay={delay_s}"));
    let refused = status(11);
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert!(refused.text().contains(" 10 s only") || refused.text().contains(" 9 s only"));
    assert_eq!(status(9).status, 200);
}

#[test]
fn a_publisher_that_returns_does_so_later_too() {
    let server = Server::start(&recorded());
    let url = format!("rtmp://127.0.0.1:{}/rec/{NAME}", server.rtmp);
    let Some(first) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
    let path = format!("/rec/{NAME}.flv?delay={DELAY_S}");
    wait::until_true("enough is kept", Duration::from_secs(30), || {
        http::open(server.http, &path).expect("an answer").0 == 200
    });
    let port = server.http;
    let playlist = format!("/rec/{NAME}.m3u8?delay={DELAY_S}");
    assert_eq!(http::get(port, &playlist).status, 200);
    let live = thread::spawn(move || watch(port, &format!("/rec/{NAME}.flv"), 12));
    let later = thread::spawn(move || watch(port, &path, 12));
    let fragments = || server.metrics().sum("smart_rtmpd_record_fragments_total", &[]);
    let before = fragments();
    wait::until_true("a second more", Duration::from_secs(5), || fragments() >= before + 4.0);
    drop(first);
    let recorded = || server.metrics().sum("smart_rtmpd_record_streams", &[]);
    wait::until_true("the publisher is gone", Duration::from_secs(5), || recorded() < 1.0);
    // Another beginning of the same pictures, at other times.
    let Some(_second) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    wait::until_true("a discontinuity", Duration::from_secs(20), || {
        http::get(port, &playlist).text().contains("#EXT-X-DISCONTINUITY\n")
    });
    let (live, later) = (live.join().expect("it reads"), later.join().expect("it reads"));
    assert!(compare(&live, &later) > 25);
    let configurations = later.iter().filter(|(_, tag)| tag.kind == flv::VIDEO);
    let configurations = configurations.filter(|(_, tag)| tag.is_configuration()).count();
    assert_eq!(configurations, 2, "one per publisher");
}

#[test]
fn a_websocket_plays_later() {
    let Some((server, _publisher)) = live(&recorded(), Clip::Canary) else { return };
    let mut socket = http::connect(server.http).expect("a connection");
    write!(
        socket,
        "GET {} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        delayed(".flv")
    )
    .expect("it takes the request");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.len() < 20_000 {
        let count = socket.read(&mut buffer).expect("the stream");
        assert!(count > 0, "closed: {}", bytes.escape_ascii());
        bytes.extend_from_slice(&buffer[..count]);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{}", bytes[..200].escape_ascii());
    assert!(bytes.windows(4).any(|four| four == b"FLV\x01"));
}

/// By mpegts.js, hls.js and dash.js, which take the stream for live.
#[test]
fn browsers_play_later() {
    let Some((server, _publisher)) = live(&recorded(), Clip::H264Aac) else { return };
    for extension in [".flv", ".m3u8", ".m3u8?format=fmp4", ".mpd"] {
        let address = delayed(extension).replace('?', "%3F").replace('&', "%26");
        let page = format!("http://127.0.0.1:{}/?url={address}", server.http);
        let name: String = extension.chars().filter(char::is_ascii_alphanumeric).collect();
        let Some(seen) = clients::chromium_steady(&page, 8, &format!("later-{name}")) else {
            return;
        };
        assert!(seen.errors.is_empty(), "{extension}: {:?}", seen.errors);
        assert!(seen.played > seen.wall / 2.0, "{extension}: {seen:?}");
    }
}

#[test]
fn every_format_plays_later() {
    let Some((server, _publisher)) = live(&recorded(), Clip::H264Aac) else { return };
    for extension in [".flv", ".ts", ".mp4", ".m3u8", ".m3u8?format=fmp4", ".mpd", ".mpd?ll=1"] {
        let url = format!("http://127.0.0.1:{}{}", server.http, delayed(extension));
        for decoded in [clients::ffmpeg_decode(&url, 4), clients::ffmpeg9_decode(&url, 4)] {
            let Some(decoded) = decoded else { continue };
            let pictures = decoded.pictures;
            assert!(pictures >= 75, "{extension}: {pictures}: {:?}", decoded.complaints);
            // What ffmpeg says of every live stream of this kind.
            let usual =
                ["Found duplicated MOOV", "Last message repeated", "skipping ", "non monoton"];
            let mut complaints = decoded.complaints;
            complaints.retain(|line| !usual.iter().any(|text| line.contains(text)));
            assert!(complaints.is_empty(), "{extension}: {complaints:?}");
        }
    }
}

/// When the newest segment of a playlist ends, Unix milliseconds.
fn playlist_end(text: &str) -> i64 {
    let mut end = 0.0;
    for line in text.lines() {
        if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            end = unix_s(date);
        } else if let Some(length) = line.strip_prefix("#EXTINF:") {
            end += length.trim_end_matches(',').parse::<f64>().expect("a length");
        }
    }
    (end * 1000.0) as i64
}

/// Seconds since 1970 of `2024-05-01T12:34:56.789Z`.
fn unix_s(date: &str) -> f64 {
    hls_rules::syntax::date_time_ms(date).expect("a time") as f64 / 1000.0
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    now.as_millis() as i64
}

#[test]
fn playlists_move_on_so_much_behind_live_and_obey_the_rules() {
    let Some((server, _publisher)) = live(&recorded().cores(3), Clip::H264Aac) else { return };
    for format in ["ts", "fmp4"] {
        let (start, mut texts) = (Instant::now(), Vec::new());
        let path = delayed(&format!(".m3u8?format={format}"));
        wait::paced(Duration::from_millis(400), Duration::from_secs(8), || {
            let answer = http::get(server.http, &path);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let (text, now) = (answer.text(), now_ms());
            let behind = now - playlist_end(&text);
            // A segment of a second is listed when it is whole.
            let range = DELAY_S as i64 * 1000 - OFF_MAX_MS..DELAY_S as i64 * 1000 + 2 * OFF_MAX_MS;
            assert!(range.contains(&behind), "{behind} ms behind: {text}");
            assert!(text.contains(&format!("delay={DELAY_S}")), "{text}");
            texts.push((start.elapsed().as_millis() as u64, text));
            true
        });
        let snapshots: Vec<_> =
            texts.iter().map(|(at_ms, text)| Snapshot { at_ms: *at_ms, text }).collect();
        assert!(snapshots.len() > 10);
        let broken = hls_rules::violations(&snapshots);
        assert!(broken.is_empty(), "{format}: {broken:#?}");
        let next = |text: &str| {
            let value = text.lines().find_map(|l| l.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
            let first: u64 = value.and_then(|value| value.parse().ok()).expect("a media sequence");
            first + text.matches("#EXTINF:").count() as u64
        };
        // The first answer may take some seconds of them.
        let moved = next(&texts[texts.len() - 1].1) - next(&texts[0].1);
        assert!((4..=9).contains(&moved), "{moved} segments in eight seconds");
    }
}

/// `NAME="VALUE"` of a manifest, the last one.
fn attribute<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.rsplit_once(&format!(" {name}=\"")).expect(name);
    rest.split_once('"').expect("a quote").0
}

/// Where the newest segment of the pictures ends: on the timeline of the stream, and by the clock
/// of the manifest as Unix seconds.
fn manifest_end(text: &str) -> (f64, f64) {
    let pictures = text.split("<AdaptationSet ").nth(1).expect("pictures");
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let timescale = number(attribute(pictures, "timescale"));
    let offset = attribute_or_zero(pictures, "presentationTimeOffset");
    let mut end = 0.0;
    for line in pictures.split("<S ").skip(1) {
        let line = format!(" {}", line.split("/>").next().expect("an end"));
        if line.contains(" t=") {
            end = number(attribute(&line, "t"));
        }
        end += number(attribute(&line, "d")) * (attribute_or_zero(&line, "r") + 1.0);
    }
    let begin = unix_s(attribute(text, "availabilityStartTime"));
    (end / timescale, begin + (end - offset) / timescale)
}

fn attribute_or_zero(text: &str, name: &str) -> f64 {
    let found = text.contains(&format!(" {name}=\"")).then(|| attribute(text, name));
    found.map_or(0.0, |value| value.parse().expect("a number"))
}

#[test]
fn manifests_have_their_newest_segment_now_and_it_is_so_old() {
    let Some((server, _publisher)) = live(&recorded(), Clip::H264Aac) else { return };
    let get = |path: &str| {
        let answer = http::get(server.http, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    };
    let live_path = format!("/live/{NAME}.mpd");
    get(&live_path);
    get(&delayed(".mpd"));
    for _ in 0..5 {
        let (live, later) = (get(&live_path), get(&delayed(".mpd")));
        let ((live_end, live_at), (end, at)) = (manifest_end(&live), manifest_end(&later));
        let behind = live_end - end;
        assert!((behind - DELAY_S as f64).abs() <= 1.1, "{behind} s behind: {later}");
        // To a player both are live.
        assert!((at - live_at).abs() <= 1.2, "{at} {live_at}: {later}");
        assert!((now_ms() as f64 / 1000.0 - at).abs() <= 2.5, "{later}");
    }
}

#[test]
fn what_was_recorded_is_played_out_when_the_publisher_has_gone() {
    // Three seconds of silence tell that the publisher has gone, then this: together less than a
    // read of the harness waits.
    let config = recorded().set("rtmp/publisher_grace", 1);
    let Some((server, publisher)) = live(&config, Clip::Canary) else { return };
    let port = server.http;
    let live = thread::spawn(move || watch(port, &format!("/live/{NAME}.flv"), 40));
    let later = thread::spawn(move || watch(port, &delayed(".flv"), 40));
    let playlist = || http::get(server.http, &delayed(".m3u8"));
    wait::stays_true("a playlist without end", Duration::from_secs(2), || {
        !playlist().text().contains("#EXT-X-ENDLIST")
    });
    drop(publisher);
    let gone = Instant::now();
    wait::until_true("the end of the playlist", Duration::from_secs(25), || {
        let answer = playlist();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().contains("#EXT-X-ENDLIST")
    });
    assert!(gone.elapsed() >= Duration::from_secs(DELAY_S), "{:?}", gone.elapsed());
    let (live, later) = (live.join().expect("it reads"), later.join().expect("it reads"));
    assert!(compare(&live, &later) > 25);
    let last = |tags: &[(Instant, Tag)]| {
        let picture = tags.iter().rev().find(|(_, tag)| tag.is_picture()).expect("pictures");
        picture.1.timestamp
    };
    assert!(last(&live).abs_diff(last(&later)) <= 1, "{} {}", last(&live), last(&later));
    wait::until_true("it is forgotten", Duration::from_secs(20), || {
        http::get(server.http, &delayed(".flv")).status == 404
    });
}

#[test]
fn what_is_not_kept_so_long_is_refused_with_how_long_it_is() {
    let server = Server::start(&recorded());
    for extension in [".flv", ".m3u8", ".mpd"] {
        let answer = http::get(server.http, &delayed(extension));
        assert_eq!((answer.status, answer.text().trim()), (404, "no such stream is live"));
    }
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME)) else {
        return;
    };
    server.wait_live(NAME);
    reaches_back(&server);
    for extension in [".flv", ".ts", ".mp4", ".m3u8", ".mpd"] {
        let answer = http::get(server.http, &format!("/live/{NAME}{extension}?delay=3600"));
        let text = answer.text();
        assert_eq!(answer.status, 404, "{extension}: {text}");
        let seconds = text.split(" for ").nth(1).and_then(|rest| rest.split(' ').next());
        let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect("how long");
        assert!((DELAY_S..30).contains(&seconds), "{text}");
    }
    for bad in ["x", "", "-5", "4.5", "86401"] {
        let answer = http::get(server.http, &format!("/live/{NAME}.flv?delay={bad}"));
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
    }
    // Neither recorded nor segmented.
    let plain = Server::start_default();
    let Some(_other) = Publisher::Ffmpeg.start(Clip::Canary, &plain.rtmp_url(NAME)) else { return };
    plain.wait_live(NAME);
    let answer = http::get(plain.http, &delayed(".flv"));
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("kept"), "{}", answer.text());
}

#[test]
fn segments_are_made_before_anybody_asks() {
    let server = Server::start(&Config::default().set("http/hlsalways", "true").cores(3));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(NAME)) else {
        return;
    };
    let held = || server.metrics().sum("smart_rtmpd_mem_bytes", &["class=\"segments\""]);
    // Of 150 kbit/s in two packagings: some seconds.
    wait::until_true("segments", Duration::from_secs(20), || held() > 300_000.0);
    for path in [format!("/live/{NAME}.m3u8"), format!("/live/{NAME}.mpd")] {
        let asked = Instant::now();
        let answer = http::get(server.http, &path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    }
    let text = http::get(server.http, &format!("/live/{NAME}.m3u8")).text();
    assert!(text.matches("#EXTINF").count() >= 3, "{text}");
}
