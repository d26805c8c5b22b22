//! The promise of the design, counted: a frame crosses from one core to another once per core that
//! has viewers, however many viewers there are.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use tests::clients::Publisher;
use tests::media::Clip;
use tests::server::{Config, Metrics, Server};
use tests::{http, wait};

const RING: &str = "smart_rtmpd_ring_media_messages_total";
const FRAMES: &str = "smart_rtmpd_frames_in_total";
/// Frames a count runs over.
const FRAMES_COUNTED: f64 = 200.0;
/// How far from 0 or 1 a ratio may be: scrapes are not atomic across shards.
const TOLERANCE: f64 = 0.06;

#[test]
fn two_cores_one_message_per_frame() {
    let Some((server, _publisher)) = live(2, "two") else { return };
    let few = Viewers::attach(&server, "two", 16);
    let with_few = messages_per_frame(&server, 2);
    assert!(!with_few.is_empty(), "16 viewers are all on the publisher's core");
    let _many = Viewers::attach(&server, "two", 32);
    let with_many = messages_per_frame(&server, 2);
    assert_eq!(with_few, with_many, "more viewers, other messages");
    drop(few);
}

#[test]
fn no_viewer_no_message_beyond_the_owner() {
    let Some((server, _publisher)) = live(2, "alone") else { return };
    let pairs = messages_per_frame(&server, 2);
    assert!(pairs.len() <= 1, "only publisher to owner may be in use: {pairs:?}");
}

#[test]
fn three_cores_one_message_per_hop() {
    let server = Server::start(&Config::default().cores(3));
    // Which core gets what is up to the kernel and a hash; some name has all three apart.
    for number in 0..40 {
        let name = format!("hop{number}");
        let url = server.rtmp_url(&name);
        let Some(publisher) = Publisher::Ffmpeg.start(Clip::Canary, &url) else { return };
        server.wait_live(&name);
        let viewer = Viewers::attach(&server, &name, 1);
        let pairs = messages_per_frame(&server, 3);
        assert!(pairs.len() <= 2, "one viewer needs at most two hops: {pairs:?}");
        drop((viewer, publisher));
        let gone = format!("{name} is gone");
        wait::until_true(&gone, Duration::from_secs(15), || !server.is_live(&name));
        if let [(from, middle), (other_middle, to)] = pairs[..] {
            let chained = middle == other_middle && from != to;
            let reversed = to == from && other_middle != middle;
            let back = (from, middle) == (to, other_middle);
            if chained || reversed {
                return;
            }
            assert!(back, "two hops that do not meet: {pairs:?}");
        }
    }
    panic!("publisher, owner and viewer never sat on three cores in 40 tries");
}

#[test]
fn more_cores_than_cpus_play() {
    let Some((server, _publisher)) = live(8, "many") else { return };
    let viewers = Viewers::attach(&server, "many", 24);
    let pairs = messages_per_frame(&server, 8);
    assert!(pairs.len() <= 8, "one publisher, seven mirrors: {pairs:?}");
    drop(viewers);
}

fn live(cores: usize, name: &str) -> Option<(Server, tests::process::Process)> {
    Clip::Canary.file()?;
    let server = Server::start(&Config::default().cores(cores));
    let publisher = Publisher::Ffmpeg.start(Clip::Canary, &server.rtmp_url(name))?;
    server.wait_live(name);
    Some((server, publisher))
}

/// The pairs of cores that messages ran between while frames came in; each must have carried
/// exactly one per frame.
fn messages_per_frame(server: &Server, cores: usize) -> Vec<(usize, usize)> {
    let start = settled(server);
    let goal = start.sum(FRAMES, &[]) + FRAMES_COUNTED;
    let end = wait::until("200 more frames", Duration::from_secs(15), || {
        let metrics = server.metrics();
        (metrics.sum(FRAMES, &[]) >= goal).then_some(metrics)
    });
    let frames = end.sum(FRAMES, &[]) - start.sum(FRAMES, &[]);
    let mut used = BTreeMap::new();
    for from in 0..cores {
        for to in 0..cores {
            let labels = [format!("from=\"{from}\""), format!("to=\"{to}\"")];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            let messages = end.sum(RING, &labels) - start.sum(RING, &labels);
            let ratio = messages / frames;
            assert!(ratio < 1.0 + TOLERANCE, "{from} to {to}: {ratio:.2} messages per frame");
            if ratio > TOLERANCE {
                assert!(ratio > 1.0 - TOLERANCE, "{from} to {to}: only {ratio:.2} per frame");
                assert_ne!(from, to, "a message to the own core");
                used.insert((from, to), ratio);
            }
        }
    }
    used.into_keys().collect()
}

/// Metrics once the counters exist and run.
fn settled(server: &Server) -> Metrics {
    let before = server.metrics().sum(FRAMES, &[]);
    wait::until("frames come in", Duration::from_secs(10), || {
        let metrics = server.metrics();
        (metrics.sum(FRAMES, &[]) > before + 10.0).then_some(metrics)
    })
}

/// HTTP-FLV viewers that read and forget.
struct Viewers(Vec<TcpStream>);

impl Viewers {
    fn attach(server: &Server, name: &str, count: usize) -> Viewers {
        let path = format!("/live/{name}.flv");
        let attach = |_| {
            let (status, _, mut body) = http::open(server.http, &path).expect("an answer");
            assert_eq!(status, 200);
            body.read_exact(&mut [0; 13]).expect("an FLV header");
            let socket = body.socket().try_clone().expect("a descriptor to spare");
            std::thread::spawn(move || {
                let mut buffer = [0; 65536];
                while body.read(&mut buffer).is_ok_and(|count| count > 0) {}
            });
            socket
        };
        Viewers((0..count).map(attach).collect())
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        for socket in &self.0 {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
