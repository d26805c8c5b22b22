//! Play by multicast: one group for all viewers of a stream, real players, and what is refused.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::process::Process;
use tests::rtsp::{Answer, Peer};
use tests::server::{Config, Server};
use tests::{pace, wait};

const NAME: &str = "show";
const MULTICAST: &str = "Transport: RTP/AVP;multicast\r\n";
const GROUPS: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(239, 255, 7, 0), Ipv4Addr::new(239, 255, 7, 15));

/// A network with nothing but a loopback that multicast is routed to.
fn own_network() -> Option<()> {
    clients::own_network(&[
        "link set lo up",
        "link set lo multicast on",
        "route add 224.0.0.0/4 dev lo",
    ])
}

fn live(cores: usize) -> Option<(Server, Process)> {
    let config = Config::default()
        .cores(cores)
        .set("rtsp/multicast", format!("{}-{}", GROUPS.0, GROUPS.1))
        .set("rtsp/multicast@port", 20_000)
        .set("rtsp/multicast@ttl", 3);
    let server = Server::start(&config);
    let publisher = Publisher::Ffmpeg.start(Clip::H264Aac, &server.rtmp_url(NAME))?;
    server.wait_live(NAME);
    Some((server, publisher))
}

fn viewers(server: &Server) -> f64 {
    server.metrics().sum("smart_rtmpd_viewers", &["proto=\"rtsp\""])
}

/// A viewer of the pictures.
fn playing(server: &Server) -> (Peer, Answer) {
    let mut peer = Peer::open(server.rtsp).expect("connects");
    let answer = peer.set_up(&format!("{NAME}/trackID=0"), MULTICAST).expect("a group");
    let answered = peer.ask("PLAY", NAME, "", "").expect("an answer");
    assert_eq!(answered.status, 200, "{}", answered.head);
    (peer, answer)
}

/// Group, lowest port and time to live of an answer.
fn group(answer: &Answer) -> (Ipv4Addr, u16, u16) {
    let transport = answer.field("Transport").unwrap_or_default();
    let address = transport.split(';').find_map(|part| part.strip_prefix("destination="));
    let address = address.and_then(|address| address.parse().ok());
    (address.expect("a group"), answer.port("port"), answer.port("ttl"))
}

fn receiver((address, port): (Ipv4Addr, u16)) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).expect("the port is free");
    socket.join_multicast_v4(&address, &Ipv4Addr::LOCALHOST).expect("joins");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("above zero");
    socket
}

/// Sequence numbers of what comes for so long.
fn sequence(socket: &UdpSocket, span: Duration) -> Vec<u16> {
    let (start, mut found, mut buffer) = (Instant::now(), Vec::new(), [0; 2048]);
    while start.elapsed() < span
        && let Ok(count) = socket.recv(&mut buffer)
    {
        assert!(count > 12 && buffer[1] & 0x7F == 96, "no RTP of pictures");
        found.push(u16::from_be_bytes([buffer[2], buffer[3]]));
    }
    found
}

#[test]
fn nobody_is_sent_to_a_group_unless_it_is_configured() {
    let server = Server::start(&Config::default().cores(1));
    let mut peer = Peer::open(server.rtsp).expect("connects");
    assert_eq!(peer.status("SETUP", &format!("{NAME}/trackID=0"), MULTICAST, ""), 461);
    let both = "Transport: RTP/AVP;multicast,RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let answer = peer.set_up(&format!("{NAME}/trackID=0"), both).expect("the other way");
    assert!(answer.field("Transport").is_some_and(|transport| transport.contains("interleaved")));

    // Nor by an interface that there is not; all else goes on.
    let config = Config::default()
        .cores(1)
        .set("rtsp/multicast", format!("{}-{}", GROUPS.0, GROUPS.1))
        .set("rtsp/multicast@interface", "192.0.2.77");
    let server = Server::start(&config);
    let mut peer = Peer::open(server.rtsp).expect("connects");
    assert_eq!(peer.status("SETUP", &format!("{NAME}/trackID=0"), MULTICAST, ""), 461);
    server.wait_log("cannot send to multicast groups", Duration::from_secs(5));
    let datagrams = "Transport: RTP/AVP;unicast;client_port=10-11\r\n";
    peer.set_up(&format!("{NAME}/trackID=0"), datagrams).expect("the other way");
}

#[test]
fn one_sender_for_all_viewers_of_a_stream() {
    let Some(()) = own_network() else { return };
    let Some((server, _publisher)) = live(1) else { return };
    let (first, answer) = playing(&server);
    let (address, port, ttl) = group(&answer);
    assert!((GROUPS.0..=GROUPS.1).contains(&address) && ttl == 3, "{}", answer.head);
    let (media, reports) = (receiver((address, port)), receiver((address, port + 1)));
    let (second, again) = playing(&server);
    assert_eq!(group(&again), (address, port, ttl), "another group for the same stream");
    wait::until_true("two watch", Duration::from_secs(3), || viewers(&server) == 2.0);

    let once = |numbers: &[u16]| {
        let distinct: BTreeSet<_> = numbers.iter().collect();
        assert!(numbers.len() > 30, "{} packets", numbers.len());
        assert_eq!(distinct.len(), numbers.len(), "packets come twice");
        let next = |pair: &[u16]| pair[1] == pair[0].wrapping_add(1);
        assert!(numbers.windows(2).all(next), "{numbers:?}");
    };
    let numbers = sequence(&media, Duration::from_secs(2));
    once(&numbers);
    let mut report = [0; 2048];
    assert!(reports.recv(&mut report).is_ok() && report[1] == 200, "no sender report");

    // The one for whom the packets were sent leaves: they go on without a gap.
    drop(first);
    wait::until_true("one watches", Duration::from_secs(3), || viewers(&server) == 1.0);
    let later = sequence(&media, Duration::from_secs(2));
    once(&[numbers, later].concat());

    drop(second);
    wait::until_true("nobody watches", Duration::from_secs(3), || viewers(&server) == 0.0);
    sequence(&media, Duration::from_millis(200));
    let later = sequence(&media, Duration::from_secs(3));
    assert!(later.is_empty(), "{} packets for nobody", later.len());
}

#[test]
fn groups_are_limited_and_given_back() {
    let Some(()) = own_network() else { return };
    let config = Config::default()
        .cores(1)
        .set("rtsp/multicast", format!("{0}-{0}", GROUPS.0))
        .set("rtsp/multicast@interface", "127.0.0.1");
    let server = Server::start(&config);
    let mut publishers = Vec::new();
    for name in ["a", "b"] {
        let url = server.rtmp_url(name);
        let Some(publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
        publishers.push(publisher);
        server.wait_live(name);
    }
    let mut nobody = Peer::open(server.rtsp).expect("connects");
    assert_eq!(nobody.status("SETUP", "c/trackID=0", MULTICAST, ""), 404);
    let mut first = Peer::open(server.rtsp).expect("connects");
    first.set_up("a/trackID=0", MULTICAST).expect("the group");
    first.set_up("a/trackID=1", MULTICAST).expect("the same for the other track");
    let mut second = Peer::open(server.rtsp).expect("connects");
    assert_eq!(second.status("SETUP", "b/trackID=0", MULTICAST, ""), 461);
    drop(first);
    wait::until_true("the group is free", Duration::from_secs(3), || {
        second.status("SETUP", "b/trackID=0", MULTICAST, "") == 200
    });
}

#[test]
fn groups_are_for_who_may_play() {
    let Some(()) = own_network() else { return };
    let users = "<auth><user name='ann' password='sesame'/></auth>";
    let config = Config::default()
        .cores(1)
        .set("rtsp/multicast", format!("{0}-{0}", GROUPS.0))
        .set("rtsp/multicast@interface", "127.0.0.1")
        .with(users);
    let server = Server::start(&config);
    let mut publishers = Vec::new();
    for name in ["a", "b"] {
        let url = format!("{}?user=ann&pass=sesame", server.rtmp_url(name));
        let Some(publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
        publishers.push(publisher);
        server.wait_log(&format!("publishing live/{name}"), Duration::from_secs(5));
    }
    let mut stranger = Peer::open(server.rtsp).expect("connects");
    assert_eq!(stranger.status("SETUP", "a/trackID=0", MULTICAST, ""), 401);
    // It has taken nothing.
    let mut user = Peer::open(server.rtsp).expect("connects");
    let basic = format!("{MULTICAST}Authorization: Basic YW5uOnNlc2FtZQ==\r\n");
    assert_eq!(user.status("SETUP", "b/trackID=0", &basic, ""), 200);
}

#[test]
fn real_players() {
    let Some(()) = own_network() else { return };
    let Some((server, _publisher)) = live(2) else { return };
    let url = server.rtsp_url(NAME);
    for decoded in [
        clients::ffmpeg_decode_by(&url, "udp_multicast", 4),
        clients::ffmpeg9_decode_by(&url, "udp_multicast", 4),
    ] {
        let Some(decoded) = decoded else { return };
        assert!(decoded.pictures >= 60 && decoded.complaints.is_empty(), "{decoded:?}");
        wait::until_true("it leaves", Duration::from_secs(5), || viewers(&server) == 0.0);
    }
    if let Some(seen) = clients::ffplay_with(&["-rtsp_transport", "udp_multicast"], &url, 4) {
        assert!(seen.played >= 4.0, "{seen:?}");
        assert!(seen.reports > 20 && seen.offset < 0.1, "{seen:?}");
    }
    if let Some(pictures) =
        clients::gst_pictures_with(&url, &["protocols=udp-mcast"], pace::PICTURES)
    {
        assert!(pictures >= pace::PICTURES, "GStreamer: {pictures} pictures");
    }
    wait::until_true("all leave", Duration::from_secs(5), || viewers(&server) == 0.0);
}
