//! Every publisher against every player, every codec, every TLS form; lip sync and join time.

use std::time::{Duration, Instant};

use tests::clients::{self, Decoded, Publisher};
use tests::crowd::Crowd;
use tests::flv::{self, Tag};
use tests::media::{self, Clip};
use tests::process::Process;
use tests::rtmp::{self, Peer};
use tests::server::{Config, Server};
use tests::{http, pace, wait};

const NAME: &str = "show";
/// Seconds each player plays.
const SECONDS: u32 = 4;
/// Pictures that a player must at least have seen of them: the join costs up to a second.
const PICTURES: u64 = 60;
/// Viewers beside the one that is looked at: with fewer than 16 no pages are shared.
const CROWD: usize = 40;
/// Most a stream may lose of its lip sync, in milliseconds.
const LIP_SYNC_MS: f64 = 20.0;
/// Connect to first picture on the loopback.
const JOIN: Duration = Duration::from_millis(300);

#[test]
fn ffmpeg_to_every_player() {
    to_every_player(Publisher::Ffmpeg);
}

#[test]
fn ffmpeg9_to_every_player() {
    to_every_player(Publisher::Ffmpeg9);
}

#[test]
fn gstreamer_rtmp2sink_to_every_player() {
    to_every_player(Publisher::GstRtmp2sink);
}

#[test]
fn librtmp_to_every_player() {
    to_every_player(Publisher::Librtmp);
}

#[test]
fn lip_sync_is_the_source_s() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::H264Aac) else { return };
    let Some(source) = Clip::H264Aac.file().and_then(|file| media::lip_sync(&file)) else { return };
    for (number, url) in [server.rtmp_url(NAME), server.flv_url(NAME)].iter().enumerate() {
        let file = server.folder().join(format!("{number}.flv"));
        let Some(recorded) = clients::ffmpeg_record(url, 6, &file) else { return };
        let got = media::lip_sync(&file);
        let got = got.unwrap_or_else(|| panic!("{url}: no flash or beep: {}", recorded.stderr));
        assert!((got - source).abs() <= LIP_SYNC_MS, "{url}: {got} ms, the source has {source} ms");
    }
}

#[test]
fn first_picture_comes_at_once() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::H264Aac) else { return };
    // One group of pictures has to be in the log.
    server.wait_log("publishing", Duration::from_secs(5));
    let _ = first_pictures(&server, 30);
    for round in 0..5 {
        let start = Instant::now();
        let pictures = first_pictures(&server, 1);
        let took = start.elapsed();
        assert!(pictures[0].is_keyframe(), "the first picture is no keyframe");
        assert!(took < JOIN, "FLV join {round} took {took:?}");

        let start = Instant::now();
        let mut viewer = Peer::playing(server.rtmp, NAME).expect("plays");
        let first = loop {
            let tag = viewer.next_tag().expect("media");
            if tag.is_picture() {
                break tag;
            }
        };
        let took = start.elapsed();
        assert!(first.is_keyframe(), "the first picture is no keyframe");
        assert!(took < JOIN, "RTMP join {round} took {took:?}");
    }
}

#[test]
fn bytes_arrive_as_published() {
    let Some(source) = media::tags(Clip::H264Aac) else { return };
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::H264Aac) else { return };
    let pictures = first_pictures(&server, 100);
    assert_published(&pictures, &source);
    let steps = pictures.windows(2).map(|pair| pair[1].timestamp - pair[0].timestamp);
    let steps: Vec<u32> = steps.filter(|step| !(39..=41).contains(step)).collect();
    assert!(steps.is_empty(), "decoding times are not 40 ms apart: {steps:?}");
}

#[test]
fn large_batches_reach_a_crowd_as_published() {
    let Some(source) = media::tags(Clip::H264Aac) else { return };
    // Half a second of the clip is more than the 16 KiB from which viewers share pages.
    let bytes: usize = source.iter().map(|tag| tag.data.len()).sum();
    let seconds = f64::from(source.last().expect("a clip").timestamp) / 1000.0;
    assert!(bytes as f64 / seconds / 2.0 > 16.0 * 1024.0);
    let server = Server::start(&Config::default().set("elapse", "fixed:500"));
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url(NAME)) else {
        return;
    };
    server.wait_live(NAME);
    let shares = |server: &Server| {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
        let links = folder.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.into_iter().any(|link| link.to_string_lossy().contains("memfd:egress"))
    };
    assert!(shares(&server), "no pages to share");
    let crowd = Crowd::start(server.http, NAME, CROWD);
    crowd.wait_all_served(Duration::from_secs(5));
    assert_published(&first_pictures(&server, 100), &source);
    if let Some(decoded) = clients::ffmpeg_decode(&server.flv_url(NAME), SECONDS) {
        assert_clean("ffmpeg 5 in a crowd", &decoded, PICTURES);
    }
    assert_eq!(crowd.open(), CROWD);
    assert!(shares(&server), "the pages were given up: {}", server.log());
}

#[test]
fn hevc_by_fourcc() {
    let codec = |tags: &[Tag]| tags.iter().any(|tag| tag.is_picture() && tag.codec() == "hvc1");
    enhanced(Clip::HevcAac, codec);
}

#[test]
fn av1_and_opus_by_fourcc() {
    let codec = |tags: &[Tag]| {
        let has = |name: &str| tags.iter().any(|tag| tag.codec() == name);
        has("av01") && has("Opus")
    };
    enhanced(Clip::Av1Opus, codec);
}

#[test]
fn hevc_by_legacy_id() {
    let Some(tags) = media::tags(Clip::HevcAac) else { return };
    let tags: Vec<Tag> = tags.into_iter().map(legacy_hevc).collect();
    let server = Server::start_default();
    let (mut peer, stream, status) =
        Peer::publishing(server.rtmp, NAME).expect("the server answers");
    assert_eq!(status, "NetStream.Publish.Start");
    let publisher = std::thread::spawn(move || {
        rtmp::send_paced(&mut peer, stream, &tags, Duration::from_secs(10))
    });
    server.wait_live(NAME);
    if let Some(decoded) = clients::ffmpeg9_decode(&server.flv_url(NAME), 3) {
        assert_clean("ffmpeg 9, HTTP-FLV", &decoded, 40);
    }
    let sent = publisher.join().expect("the publisher does not panic");
    sent.expect("the server takes the stream to its end");
}

#[test]
fn audio_only() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::AudioOnly) else { return };
    for url in [server.rtmp_url(NAME), server.flv_url(NAME)] {
        let Some(packets) = clients::ffprobe_packets(&url, 2) else { return };
        let sound = packets.iter().filter(|packet| packet.stream == 'a').count();
        assert!(sound > 60, "{url}: {sound} audio packets in 2 s");
        assert_eq!(sound, packets.len(), "{url}: pictures from nowhere");
    }
}

#[test]
fn video_only() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::VideoOnly) else { return };
    for url in [server.rtmp_url(NAME), server.flv_url(NAME)] {
        let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) else { return };
        assert_clean(&url, &decoded, PICTURES);
    }
}

#[test]
fn rtmps_both_ways() {
    let server = Server::start_default();
    let url = server.rtmps_url(NAME);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    server.wait_live(NAME);
    let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) else { return };
    assert_clean(&url, &decoded, PICTURES);
}

#[test]
fn https_on_both_ports() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::H264Aac) else { return };
    let on_plain_port = server.flv_url(NAME).replace("http:", "https:");
    for url in [server.https_flv_url(NAME), on_plain_port] {
        let Some(decoded) = clients::ffmpeg_decode(&url, SECONDS) else { return };
        assert_clean(&url, &decoded, PICTURES);
    }
}

#[test]
fn player_page_plays_every_transport() {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg, Clip::H264Aac) else { return };
    let (plain, tls) = (server.http, server.https);
    let cases = [
        ("http-flv", format!("http://127.0.0.1:{plain}"), server.flv_url(NAME)),
        ("ws-flv", format!("http://127.0.0.1:{plain}"), server.ws_url(NAME)),
        ("https-flv", format!("https://127.0.0.1:{tls}"), server.https_flv_url(NAME)),
        ("wss-flv", format!("https://127.0.0.1:{tls}"), server.wss_url(NAME)),
    ];
    for (name, page, url) in cases {
        browser_plays(name, &page, &url);
    }
}

/// A server with one live stream called [`NAME`].
fn live(publisher: Publisher, clip: Clip) -> Option<(Server, Process)> {
    clip.file()?;
    let server = Server::start_default();
    let process = publisher.start(clip, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, process))
}

fn to_every_player(publisher: Publisher) {
    let Some((server, process)) = live(publisher, Clip::H264Aac) else { return };
    let (rtmp, flv) = (server.rtmp_url(NAME), server.flv_url(NAME));
    for url in [&rtmp, &flv] {
        if let Some(mut decoded) = clients::ffmpeg_decode(url, SECONDS) {
            publisher.excuse(&mut decoded);
            assert_clean(&format!("ffmpeg 5 {url}"), &decoded, PICTURES);
        }
        if let Some(mut decoded) = clients::ffmpeg9_decode(url, SECONDS) {
            publisher.excuse(&mut decoded);
            assert_clean(&format!("ffmpeg 9 {url}"), &decoded, PICTURES);
        }
        if let Some(packets) = clients::ffprobe_packets(url, 3) {
            let first = packets.iter().find(|packet| packet.stream == 'v');
            assert!(first.is_some_and(|packet| packet.keyframe), "{url}: starts with {first:?}");
        }
    }
    if let Some(seen) = clients::ffplay(&rtmp, SECONDS) {
        assert!(seen.played >= f64::from(SECONDS), "ffplay: {seen:?}");
        assert!(seen.reports > 20, "ffplay: {seen:?}");
        assert!(seen.complaints.is_empty(), "ffplay: {:?}", seen.complaints);
        assert!(seen.offset < 0.1, "ffplay: A-V {}", seen.offset);
    }
    if let Some(recorded) = clients::vlc(&rtmp, SECONDS) {
        assert_clean("VLC", &recorded, PICTURES);
    }
    for (who, tags) in [
        ("rtmpdump", clients::rtmpdump(&rtmp, pace::PICTURES)),
        ("rtmp2src", clients::gst_rtmp2src(&rtmp, pace::PICTURES)),
    ] {
        let Some(tags) = tags else { continue };
        flv::check_integrity(who, &tags);
        let pictures = tags.iter().filter(|tag| tag.is_picture()).count() as u64;
        assert!(pictures >= pace::PICTURES, "{who}: {pictures} pictures");
    }
    browser_plays(&format!("{publisher:?}"), &format!("http://127.0.0.1:{}", server.http), &flv);
    drop(process);
    let what = "the stream leaves /api/live with its publisher";
    wait::until_true(what, Duration::from_secs(10), || !server.is_live(NAME));
}

fn browser_plays(name: &str, page: &str, url: &str) {
    let escaped = url.replace(':', "%3A").replace('/', "%2F");
    let Some(seen) = clients::chromium(&format!("{page}/?url={escaped}"), 3, name) else { return };
    assert!(seen.played >= 3.0, "Chromium, {url}: {seen:?}");
    assert!(seen.frames > 50, "Chromium, {url}: {seen:?}");
    assert!(seen.errors.is_empty(), "Chromium, {url}: {:?}", seen.errors);
}

/// Publishes with ffmpeg 9 and plays by RTMP and HTTP-FLV with ffmpeg 9; `codec` looks for the
/// FourCC in what an FLV viewer gets.
fn enhanced(clip: Clip, codec: impl Fn(&[Tag]) -> bool) {
    let Some((server, _publisher)) = live(Publisher::Ffmpeg9, clip) else { return };
    for url in [server.rtmp_url(NAME), server.flv_url(NAME)] {
        let Some(decoded) = clients::ffmpeg9_decode(&url, 3) else { return };
        assert_clean(&url, &decoded, 40);
    }
    let tags = flv_tags(&server, |tags| tags.len() > 100);
    flv::check_integrity("FLV viewer", &tags);
    assert!(codec(&tags), "no FourCC in the FLV output");
}

fn assert_clean(who: &str, decoded: &Decoded, pictures: u64) {
    assert!(decoded.complaints.is_empty(), "{who}: {:?}", decoded.complaints);
    assert!(decoded.pictures >= pictures, "{who}: {} pictures", decoded.pictures);
}

/// The pictures are some of the publisher's, in a row.
fn assert_published(pictures: &[Tag], source: &[Tag]) {
    let source: Vec<u64> = source.iter().filter(|tag| tag.is_picture()).map(Tag::digest).collect();
    let got: Vec<u64> = pictures.iter().map(Tag::digest).collect();
    let found = source.windows(got.len()).any(|window| window == got);
    assert!(found, "{} pictures in a row are not the publisher's", got.len());
}

fn first_pictures(server: &Server, count: usize) -> Vec<Tag> {
    let enough = |tags: &[Tag]| tags.iter().filter(|tag| tag.is_picture()).count() >= count;
    let tags = flv_tags(server, enough);
    flv::check_integrity("FLV viewer", &tags);
    tags.into_iter().filter(Tag::is_picture).collect()
}

fn flv_tags(server: &Server, enough: impl Fn(&[Tag]) -> bool) -> Vec<Tag> {
    let path = format!("/live/{NAME}.flv");
    let (status, headers, body) = http::open(server.http, &path).expect("the server answers");
    assert_eq!(status, 200, "{headers:?}");
    let mut reader = flv::Reader::new(body).expect("an FLV header");
    let mut tags = Vec::new();
    while !enough(&tags) {
        tags.push(reader.next_tag().expect("a tag").expect("the stream goes on"));
    }
    tags
}

/// Rewrites an enhanced HEVC tag as the old id 12 says it.
fn legacy_hevc(tag: Tag) -> Tag {
    if !(tag.kind == flv::VIDEO && tag.is_enhanced()) {
        return tag;
    }
    let frame_type = tag.data[0] >> 4 & 0x07;
    let composition_time = match tag.packet_type() {
        1 => [tag.data[5], tag.data[6], tag.data[7]],
        _ => [0; 3],
    };
    let packet_type = u8::from(!tag.is_configuration());
    let mut data = vec![frame_type << 4 | 12, packet_type];
    data.extend(composition_time);
    data.extend(tag.payload());
    Tag { data, ..tag }
}
