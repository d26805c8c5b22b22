//! Renditions of one stream: the multivariant playlist in ffmpeg and hls.js, and what the playlists
//! report of each other.

use std::process::Command;
use std::time::{Duration, Instant};

use tests::clients;
use tests::hls_rules::renditions::{Rendition, violations};
use tests::http;
use tests::media::Clip;
use tests::process::Process;
use tests::server::{Config, Server};

use crate::segments::{lawful, watch};

/// A server on several shards with two renditions of `show`, both of one encoder.
fn live() -> Option<(Server, Process)> {
    let config = Config::default().cores(3).set("http/hlsvariants", "_low,_mid,_hi");
    let server = Server::start(&config);
    let (ffmpeg, clip) = (clients::tool("ffmpeg")?, Clip::H264Aac.file()?);
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-re", "-i"]).arg(clip);
    command.args(["-map", "0", "-c", "copy", "-f", "flv", &server.rtmp_url("show_hi")]);
    command.args("-map 0 -c:a copy -c:v libx264 -preset ultrafast -s 320x180".split(' '));
    command.args("-g 25 -keyint_min 25 -sc_threshold 0 -b:v 150k -f flv".split(' '));
    command.arg(server.rtmp_url("show_low"));
    let publisher = Process::spawn("ffmpeg", command);
    server.wait_live("show_low");
    server.wait_live("show_hi");
    Some((server, publisher))
}

/// The value of an attribute of a line.
fn number(line: &str, name: &str) -> u64 {
    let mut fields = line.split([',', ':']).filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("{line}"));
    value.parse().unwrap_or_else(|_| panic!("{name} of {line}"))
}

#[test]
fn the_name_without_an_ending_lists_what_is_live() {
    let Some((server, publisher)) = live() else { return };
    for query in ["", "?format=ts&token=7", "?format=fmp4&_HLS_msn=3"] {
        let text = http::get(server.http, &format!("/live/show.m3u8{query}")).text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let [low, low_uri, hi, hi_uri] = lines[lines.len() - 4..] else { panic!("{text}") };
        let kept = query.split("&_HLS").next().unwrap_or_default();
        assert_eq!(low_uri, format!("show_low.m3u8{kept}"));
        assert_eq!(hi_uri, format!("show_hi.m3u8{kept}"));
        assert!(low.contains("RESOLUTION=320x180") && hi.contains("RESOLUTION=640x360"), "{text}");
        for line in [low, hi] {
            assert!(line.contains("CODECS=\"avc1.") && line.contains(",mp4a.40.2\""), "{line}");
            assert!(line.contains("FRAME-RATE=25.000"), "{line}");
            let (peak, average) = (number(line, "BANDWIDTH"), number(line, "AVERAGE-BANDWIDTH"));
            assert!(average <= peak && (100_000..3_000_000).contains(&peak), "{line}");
        }
        assert!(number(hi, "AVERAGE-BANDWIDTH") > number(low, "AVERAGE-BANDWIDTH"), "{text}");
    }
    // A stream itself is no multivariant playlist, and nobody's renditions are none.
    let media = http::get(server.http, "/live/show_hi.m3u8").text();
    assert!(media.contains("#EXTINF") && !media.contains("RENDITION-REPORT"), "{media}");
    for path in ["/live/nobody.m3u8", "/live/show_mid.m3u8", "/live/sho.m3u8", "/live/show.mpd"] {
        assert_eq!(http::get(server.http, path).status, 404, "{path}");
    }
    drop(publisher);
}

#[test]
fn ffmpeg_picks_the_larger() {
    let Some((server, _publisher)) = live() else { return };
    let Some(ffmpeg) = clients::tool("ffmpeg") else { return };
    for format in ["ts", "fmp4"] {
        let url = format!("http://127.0.0.1:{}/live/show.m3u8?format={format}", server.http);
        let file = server.folder().join(format!("{format}.mkv"));
        let mut command = Command::new(&ffmpeg);
        command.args(["-v", "error", "-y", "-i", &url, "-t", "4", "-c", "copy"]).arg(&file);
        let ran = Process::run("ffmpeg player", command, Duration::from_secs(30));
        assert_eq!(ran.stderr, "", "{format}");
        let Some(ffprobe) = clients::tool("ffprobe") else { return };
        let mut command = Command::new(ffprobe);
        command.args(["-v", "error", "-count_packets", "-select_streams", "v"]);
        command.args(["-show_entries", "stream=width,nb_read_packets", "-of", "csv=p=0"]);
        command.arg(&file);
        let listed = Process::run("ffprobe", command, Duration::from_secs(10));
        let line = listed.stdout_text();
        let (width, pictures) = line.trim().split_once(',').expect("two fields");
        let pictures: u64 = pictures.parse().expect("a count");
        assert!(width == "640" && pictures >= 75, "{format}: {line}");
    }
}

#[test]
fn playlists_report_of_each_other() {
    let Some((server, _publisher)) = live() else { return };
    // The first one to ask has them made; on a shard that was not asked before too they are there.
    assert_eq!(http::get(server.http, "/live/show.m3u8?format=fmp4").status, 200);
    let (start, port) = (Instant::now(), server.http);
    let other = std::thread::spawn(move || watch(port, "show_low", "fmp4", start));
    let hi = watch(port, "show_hi", "fmp4", start);
    let low = other.join().expect("the other watches too");
    let (hi, low) = (lawful(&hi), lawful(&low));
    let broken = violations(&[
        Rendition { name: "show_hi.m3u8", snapshots: &hi },
        Rendition { name: "show_low.m3u8", snapshots: &low },
    ]);
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn hls_js_plays_every_level() {
    let Some((server, _publisher)) = live() else { return };
    for format in ["ts", "fmp4"] {
        let page = format!(
            "http://127.0.0.1:{}/test-player/hls.html?url=/live/show.m3u8%3Fformat={format}",
            server.http
        );
        let Some(seen) = clients::chromium_levels(&page, 4, &format!("levels-{format}")) else {
            return;
        };
        assert!(seen.errors.is_empty(), "{format}: {:?}", seen.errors);
        assert_eq!(seen.levels, [320, 640], "{format}");
        // Each after the other, and back.
        assert_eq!(seen.shown, [640, 320, 640], "{format}");
    }
}
