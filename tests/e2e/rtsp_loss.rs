//! A publisher whose RTP packets are lost, reordered and doubled on the way: what viewers get is
//! never a broken picture, and the server's account is the network's.

use std::time::{Duration, Instant};

use tests::clients::{self, Packet, Publisher};
use tests::media::Clip;
use tests::rtsp_relay::{RtspRelay, Tally, Weather};
use tests::server::{Config, Server};
use tests::wait;

const NAME: &str = "loss";
/// Seconds watched.
const WATCHED: u32 = 12;
/// Pictures are 40 ms apart at the source; more than this, in seconds, is a gap.
const GAP: f64 = 0.06;
/// Packets behind the last gap of a track, which nothing has shown to be one yet.
const UNDECIDED: f64 = 8.0;

/// `LOSS_SEED=N` for another pattern.
fn seed() -> u64 {
    std::env::var("LOSS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124)
}

#[test]
fn two_percent_loss() {
    through(Weather { seed: seed(), lost: 20, held: 20, doubled: 10 }, 100);
}

#[test]
fn ten_percent_loss() {
    through(Weather { seed: seed(), lost: 100, held: 50, doubled: 20 }, 25);
}

/// `least`: pictures that must come through.
fn through(weather: Weather, least: u64) {
    eprintln!("{weather:?}");
    let server = Server::start(&Config::default());
    let relay = RtspRelay::start(server.rtsp, weather);
    let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &relay.url(NAME)) else { return };
    server.wait_live(NAME);
    let urls = [server.rtmp_url(NAME), format!("http://127.0.0.1:{}/live/{NAME}.flv", server.http)];
    std::thread::scope(|scope| {
        for url in &urls {
            scope.spawn(move || decodes(url, least));
        }
        scope.spawn(|| resumes_at_keyframes(&urls[1], least));
    });
    let started = Instant::now();
    drop(publisher);
    let account = || {
        let metrics = server.metrics();
        let count = |what: &str| {
            metrics.sum("smart_rtmpd_rtp_packets_total", &[&format!("what=\"{what}\"")])
        };
        let discarded = metrics.sum("smart_rtmpd_rtp_frames_discarded_total", &[]);
        (["received", "reordered", "duplicate", "lost"].map(count), discarded)
    };
    let sum = |pick: fn(&Tally) -> u64| relay.tallies().iter().map(pick).sum::<u64>() as f64;
    // The last packets may still be under way.
    wait::until("the packets to be accounted for", Duration::from_secs(5), || {
        let ([received, ..], _) = account();
        (received >= sum(|tally| tally.received)).then_some(())
    });
    let ([received, reordered, duplicates, lost], discarded) = account();
    let tallies = relay.tallies();
    eprintln!("{tallies:?}, {discarded} frames discarded, ended in {:?}", started.elapsed());
    assert_eq!(tallies.len(), 2, "both tracks by UDP");
    assert_eq!(received, sum(|tally| tally.received));
    assert_eq!(reordered, sum(|tally| tally.reordered));
    assert_eq!(duplicates, sum(|tally| tally.duplicates));
    let truth = sum(|tally| tally.lost);
    assert!((truth - UNDECIDED..=truth).contains(&lost), "{lost} lost, of {truth}");
    assert!(lost > 0.0 && reordered > 0.0 && duplicates > 0.0 && discarded > 0.0);
}

/// A decoder has nothing to complain about.
fn decodes(url: &str, least: u64) {
    let Some(decoded) = clients::ffmpeg_decode(url, WATCHED) else { return };
    assert!(decoded.complaints.is_empty(), "{url}: {:?}", decoded.complaints);
    eprintln!("{url}: {} pictures", decoded.pictures);
    assert!(decoded.pictures >= least, "{url}: {} pictures", decoded.pictures);
}

/// Behind each gap there is a keyframe.
fn resumes_at_keyframes(url: &str, least: u64) {
    let Some(packets) = clients::ffprobe_packets(url, WATCHED) else { return };
    let pictures: Vec<&Packet> = packets.iter().filter(|packet| packet.stream == 'v').collect();
    assert!(pictures.len() as u64 >= least, "{} pictures", pictures.len());
    assert!(pictures[0].keyframe, "the first picture is no keyframe");
    let gaps = pictures.windows(2).filter(|pair| pair[1].dts - pair[0].dts > GAP);
    let gaps: Vec<_> = gaps.collect();
    assert!(!gaps.is_empty(), "no gap in {} pictures", pictures.len());
    for pair in gaps {
        let (from, to) = (pair[0].dts, pair[1].dts);
        assert!(pair[1].keyframe, "the gap from {from} to {to} ends on no keyframe");
    }
}
