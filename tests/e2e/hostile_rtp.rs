//! Hostile RTP and RTCP, row by row (T10 to T13), over UDP and within connections: what is wrong is
//! dropped, what is right goes on, and the canary on the same core never notices.

use std::net::UdpSocket;
use std::time::Duration;

use tests::canary::NAME;
use tests::rtsp::{PICTURES, Peer, SOUND, TCP, port_pair, rtp};
use tests::server::{Config, Server};
use tests::wait;

use crate::hostile_rtsp::start;

/// Samples of one packet of G.711.
const SAMPLES: u32 = 160;

/// A publisher of sound, over UDP or within its connection.
struct Sound {
    peer: Peer,
    sockets: Option<(UdpSocket, UdpSocket)>,
    sequence: u16,
}

impl Sound {
    fn publish(server: &Server, name: &str, udp: bool) -> Sound {
        let peer = Peer::open(server.rtsp).expect("connects");
        if !udp {
            let (peer, _) = peer.record(name, SOUND, TCP).expect("records");
            return Sound { peer, sockets: None, sequence: 0 };
        }
        let (rtp, rtcp, port) = port_pair("127.0.0.1");
        let ports = format!("client_port={port}-{}", port + 1);
        let lines = format!("Transport: RTP/AVP;unicast;{ports};mode=record\r\n");
        let (peer, answer) = peer.record(name, SOUND, &lines).expect("records");
        let server_port = answer.port("server_port");
        rtp.connect(("127.0.0.1", server_port)).expect("a loopback address");
        rtcp.connect(("127.0.0.1", server_port + 1)).expect("a loopback address");
        Sound { peer, sockets: Some((rtp, rtcp)), sequence: 0 }
    }

    fn send(&mut self, rtcp: bool, packet: &[u8]) {
        match &self.sockets {
            Some((media, reports)) => {
                let socket = if rtcp { reports } else { media };
                // The kernel may refuse one of no bytes or too many; that is no matter of the server.
                let _ = socket.send(packet);
            }
            None => self.peer.send(u8::from(rtcp), packet).expect("is taken"),
        }
    }

    /// A good packet.
    fn packet(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let timestamp = u32::from(self.sequence) * SAMPLES;
        rtp(8, self.sequence == 1, self.sequence, timestamp, &[0xD5; SAMPLES as usize])
    }

    /// Good packets are frames of the stream.
    fn is_heard(&mut self, server: &Server, what: &str) {
        let frames = || server.metrics().sum("smart_rtmpd_frames_in_total", &[]);
        // The canary is counted too, at 75 frames a second at most.
        let goal = frames() + 1000.0;
        let what = format!("{what}: good packets are heard");
        wait::until_true(&what, Duration::from_secs(5), || {
            for _ in 0..50 {
                let packet = self.packet();
                self.send(false, &packet);
            }
            frames() >= goal
        });
        assert!(self.peer.lives(), "{what}");
    }
}

fn hostile_rtp() -> Vec<Vec<u8>> {
    let good = rtp(8, false, 1, 160, &[0xD5; 160]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet
    };
    let mut packets: Vec<Vec<u8>> = (0..12).map(|length| good[..length].to_vec()).collect();
    packets.push(good[..12].to_vec());
    // 15 sources, of which none is there; an extension longer than the packet.
    packets.push([&[0x8F], &good[1..20]].concat());
    packets.push([&[0x90], &good[1..12], &[0xBE, 0xDE, 0xFF, 0xFF], &[0; 20]].concat());
    packets.push([&[0x90], &good[1..12], &[0xBE]].concat());
    for padding in [0, 161, 255] {
        packets.push(with(&|packet| {
            packet[0] |= 0x20;
            *packet.last_mut().expect("it has a payload") = padding;
        }));
    }
    for version in [0x00, 0x40, 0xC0] {
        packets.push(with(&|packet| packet[0] = version));
    }
    packets.push(with(&|packet| packet[1] = 96));
    packets.push(with(&|packet| packet[1] = 127));
    packets.push([good, vec![0; 60_000]].concat());
    packets
}

#[test]
fn t10_packets() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    for udp in [false, true] {
        let mut sound = Sound::publish(&server, &format!("t10-{udp}"), udp);
        sound.is_heard(&server, "before");
        for packet in hostile_rtp() {
            for _ in 0..20 {
                sound.send(false, &packet);
            }
            assert!(sound.peer.lives(), "after {:x?}", &packet[..packet.len().min(16)]);
        }
        // Another source with each packet.
        for source in 0..5000_u32 {
            let mut packet = sound.packet();
            packet[8..12].copy_from_slice(&source.to_be_bytes());
            sound.send(false, &packet);
        }
        assert!(sound.peer.lives());
        assert!(server.is_live(&format!("t10-{udp}")), "the stream stays");
        drop(sound);
        canary.verify_frames("T10");
        let mut next = Sound::publish(&server, &format!("t10-next-{udp}"), udp);
        next.is_heard(&server, "after");
    }
    canary.verify(&server, "T10");
}

#[test]
fn t11_packets_of_others() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let mut sound = Sound::publish(&server, "t11", true);
    sound.is_heard(&server, "before");
    let (media, reports) = sound.sockets.as_ref().expect("by UDP");
    let to = [media, reports].map(|socket| socket.peer_addr().expect("it is connected"));
    let dropped = || server.metrics().sum("smart_rtmpd_dropped_total", &["wrong_source"]) as u64;
    let before = dropped();
    // Another port of the same address, another address, and the right address at the wrong socket.
    let strangers =
        ["127.0.0.1:0", "127.0.0.2:0"].map(|from| UdpSocket::bind(from).expect("binds"));
    for stranger in &strangers {
        for to in to {
            for number in 0..10 {
                let packet = rtp(8, false, 5000 + number, 0, &[0; 160]);
                stranger.send_to(&packet, to).expect("is sent");
            }
        }
    }
    reports.send_to(&rtp(8, false, 9, 0, &[0; 160]), to[0]).expect("is sent");
    let what = "all forty-one datagrams are dropped and counted";
    wait::until_true(what, Duration::from_secs(5), || dropped() >= before + 41);
    sound.is_heard(&server, "after");
    for stranger in &strangers {
        stranger.set_nonblocking(true).expect("a socket");
        let answer = stranger.recv(&mut [0; 100]);
        assert!(answer.is_err(), "strangers are not answered: {answer:?}");
    }
    drop(sound);
    canary.verify(&server, "T11");
}

#[test]
fn t12_fragments() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let publish = |name| Peer::recording(server.rtsp, name, PICTURES, TCP).expect("records");
    let mut sequence = 0_u16;
    let mut send = |peer: &mut Peer, timestamp: u32, payload: &[u8]| {
        sequence = sequence.wrapping_add(1);
        peer.send(0, &rtp(96, false, sequence, timestamp, payload)).expect("is taken");
    };
    let mut peer = publish("starts");
    for number in 0..100_000 {
        send(&mut peer, number, &[0x7C, 0x85, 1, 2, 3, 4]);
    }
    assert!(peer.lives(), "starts without ends");
    for number in 0..10_000 {
        send(&mut peer, number, &[0x7C, 0x45, 1, 2, 3, 4]);
        send(&mut peer, number, &[0x7C, 0x05, 1, 2, 3, 4]);
        send(&mut peer, number, &[0x7C, 0x85]);
        send(&mut peer, number, &[0x7C]);
    }
    assert!(peer.lives(), "ends without starts, and heads alone");
    for payload in [
        &[0x78, 0xFF, 0xFF, 1][..],
        &[0x78, 0, 0],
        &[0x78, 0],
        &[0x78],
        &[0x79, 0, 1, 0, 4, 1],
        &[0x7D, 0x85, 0, 1, 2],
        &[0x7E],
        &[0x00],
        &[0xFF; 100],
        &[],
    ] {
        send(&mut peer, 7, payload);
    }
    assert!(peer.lives(), "aggregates that lie");
    drop(peer);
    canary.verify_frames("fragments that do not fit");

    // One access unit without end: given up at a limit, with its connection or without.
    let mut peer = publish("endless");
    let (mut first, middle) = ([0; 1400], [[0x7C, 0x05].as_slice(), &[1; 1398]].concat());
    first[..2].copy_from_slice(&[0x7C, 0x85]);
    let rss = server.rss_kib();
    let mut number = 0_u16;
    for _ in 0..48_000 {
        number = number.wrapping_add(1);
        let payload = if number == 1 { &first[..] } else { &middle };
        if peer.send(0, &rtp(96, false, number, 1, payload)).is_err() {
            break;
        }
    }
    let _ = peer.lives();
    let grown = server.rss_kib().saturating_sub(rss);
    assert!(grown < 48 * 1024, "{grown} KiB for an access unit without end");
    drop(peer);
    canary.verify_frames("an access unit without end");

    // Every third fragment lost.
    let mut peer = publish("lost");
    for number in 0..9000_u16 {
        if number % 3 != 2 {
            let payload: &[u8] = if number % 6 == 0 { &first } else { &middle };
            peer.send(0, &rtp(96, false, number, u32::from(number / 6), payload))
                .expect("is taken");
        }
    }
    assert!(peer.lives());
    drop(peer);
    canary.verify(&server, "T12");
}

fn hostile_rtcp() -> Vec<Vec<u8>> {
    let report =
        |ntp: [u8; 8]| [&[0x80, 200, 0, 6, 1, 2, 3, 4], &ntp[..], &[0; 4], &[0; 8]].concat();
    let mut packets = vec![
        vec![],
        vec![0x80],
        vec![0x80, 200, 0xFF, 0xFF, 1, 2, 3, 4],
        vec![0x9F, 201, 0, 1, 1, 2, 3, 4],
        // A goodbye of others, one of 31 sources of which none is there, one whose reason lies.
        vec![0x81, 203, 0, 1, 9, 9, 9, 9],
        vec![0x9F, 203, 0, 1, 1, 2, 3, 4],
        vec![0x81, 203, 0, 2, 9, 9, 9, 9, 0xFF, b'x', b'y', b'z'],
        report([0; 8]),
        report([0xFF; 8]),
        report([0, 0, 0, 0, 0, 0, 0, 1]),
        vec![0x8F, 206, 0, 2, 1, 2, 3, 4, 1, 2, 3, 4],
        vec![0x8F, 206, 0, 0],
        // An SDES whose item is longer than the packet, an APP, an XR, an unknown type.
        vec![0x81, 202, 0, 2, 1, 2, 3, 4, 1, 0xFF, b'a', b'b'],
        vec![0x80, 204, 0, 0],
        vec![0x80, 207, 0, 1, 1, 2, 3, 4],
        vec![0x80, 255, 0, 0],
        vec![0; 1400],
        vec![0xFF; 1400],
    ];
    // A compound of 1,000, and the loss of 65,535 packets.
    packets.push([0x80, 201, 0, 1, 1, 2, 3, 4].repeat(1000));
    let mut loss = vec![0x81, 205, 0x0F, 0x02, 1, 2, 3, 4, 1, 2, 3, 4];
    for number in 0..3840_u16 {
        loss.extend((number * 17).to_be_bytes());
        loss.extend([0xFF, 0xFF]);
    }
    packets.push(loss);
    packets
}

#[test]
fn t13_reports_of_publishers() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    for udp in [false, true] {
        let mut sound = Sound::publish(&server, &format!("t13-{udp}"), udp);
        sound.is_heard(&server, "before");
        for packet in hostile_rtcp() {
            for _ in 0..20 {
                sound.send(true, &packet);
            }
            assert!(sound.peer.lives(), "after {:x?}", &packet[..packet.len().min(16)]);
        }
        sound.is_heard(&server, "after");
    }
    canary.verify(&server, "T13");
}

#[test]
fn t13_reports_of_players() {
    let Some((server, mut canary)) = start(Config::default()) else { return };
    let mut peer = Peer::playing(server.rtsp, NAME).expect("plays");
    let (rtp, rtcp, port) = port_pair("127.0.0.1");
    let mut other = Peer::open(server.rtsp).expect("connects");
    let lines = format!("Transport: RTP/AVP;unicast;client_port={port}-{}\r\n", port + 1);
    let answer = other.set_up(&format!("{NAME}/trackID=0"), &lines).expect("is set up");
    let server_port = answer.port("server_port");
    assert_eq!(other.status("PLAY", NAME, "", ""), 200);
    for packet in hostile_rtcp() {
        for _ in 0..20 {
            peer.send(1, &packet).expect("is taken");
            let _ = rtcp.send_to(&packet, ("127.0.0.1", server_port + 1));
            let _ = rtp.send_to(&packet, ("127.0.0.1", server_port));
        }
        assert!(peer.lives() && other.lives());
        peer.next_packet().expect("plays on");
        plays_on(&rtp);
    }
    drop((peer, other));
    canary.verify(&server, "T13 of players");
}

/// What the last second left in the socket is thrown away; then more comes.
fn plays_on(socket: &UdpSocket) {
    socket.set_nonblocking(true).expect("a socket");
    while socket.recv(&mut [0; 2048]).is_ok() {}
    socket.set_nonblocking(false).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("above zero");
    for _ in 0..3 {
        let result = socket.recv(&mut [0; 2048]);
        assert!(result.is_ok(), "no media: {result:?}");
    }
}
