//! A viewer that reads too slowly: what it misses, and that what it gets still is a stream.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use tests::clients::{self, Publisher};
use tests::flv;
use tests::media::Clip;
use tests::server::{Config, Server};
use tests::{http, sys, wait};

/// Bytes per second the slow viewer takes: about half of the clip's.
const RATE: usize = 40_000;
/// Bytes before the first tag, and around the data of each.
const FLV_HEADER: usize = 13;
const TAG_HEADER: usize = 15;
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn what_a_slow_viewer_gets_decodes() {
    let config = Config::default()
        .set("limits/viewer_lag", 1500)
        .set("limits/viewer_jumps", 1000)
        .set("sock/sendbuffer", 16);
    let server = Server::start(&config);
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url("slow")) else {
        return;
    };
    server.wait_live("slow");
    let bytes = read_slowly(server.http);
    let metrics = server.metrics();
    let jumps = metrics.sum("smart_rtmpd_dropped_total", &["reason=\"lag_skip\""]);
    assert!(jumps > 0.0, "it was never moved: {} bytes in {WATCHED:?}", bytes.len());

    // The last tag was cut off by the end of the watching.
    let mut reader = flv::Reader::new(&bytes[..]).expect("an FLV header");
    let (mut tags, mut whole) = (Vec::new(), FLV_HEADER);
    while let Ok(Some(tag)) = reader.next_tag() {
        whole += TAG_HEADER + tag.data.len();
        tags.push(tag);
    }
    let pictures: Vec<_> = tags.iter().filter(|tag| tag.is_picture()).collect();
    assert!(pictures.first().is_some_and(|first| first.is_keyframe()));
    // Of the clip's pictures one in three is referred to by others; a longer gap is a jump.
    let gaps = pictures.windows(2).filter(|pair| pair[1].timestamp - pair[0].timestamp > 200);
    let jumped: Vec<_> = gaps.collect();
    assert!(!jumped.is_empty(), "no jump in {} pictures", pictures.len());
    for pair in jumped {
        let (from, to) = (pair[0].timestamp, pair[1].timestamp);
        assert!(pair[1].is_keyframe(), "the jump from {from} to {to} ends on no keyframe");
    }

    let file = server.folder().join("slow.flv");
    std::fs::write(&file, &bytes[..whole]).expect("the folder is ours");
    let Some(decoded) = clients::ffmpeg_decode(&file.to_string_lossy(), 600) else { return };
    let of_file = "Estimating duration from bitrate";
    let complaints = decoded.complaints.iter().filter(|line| !line.contains(of_file));
    let complaints: Vec<_> = complaints.collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(decoded.pictures > 100, "{} pictures", decoded.pictures);
}

/// Reads HTTP-FLV at [`RATE`]; gives the body.
fn read_slowly(port: u16) -> Vec<u8> {
    let mut socket = http::connect(port).expect("connects");
    sys::set_receive_buffer(&socket, 8 * 1024);
    let request = b"GET /live/slow.flv HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(request).expect("sends");
    let (mut bytes, start) = (Vec::new(), Instant::now());
    let mut buffer = [0; 2048];
    while start.elapsed() < WATCHED {
        let due = Duration::from_secs_f64(bytes.len() as f64 / RATE as f64);
        // This is the slowness itself, not a wait for something.
        wait::until_instant(start + due);
        match socket.read(&mut buffer).expect("the server keeps it") {
            0 => panic!("closed after {} bytes", bytes.len()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a response head");
    bytes.split_off(head + 4)
}
