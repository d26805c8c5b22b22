//! Hostile RTMP, row by row (R1 to R16): whatever arrives is refused in time or survived, and the
//! canary on the same core never notices.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tests::canary::Canary;
use tests::clients::{self, Publisher};
use tests::media::Clip;
use tests::rtmp::{Peer, header, null, number, object, string};
use tests::server::{Config, Server};
use tests::{http, wait};

/// The handshake deadline the server is given here.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// A refusal closes within a second; the rest is the client's own slowness.
const REFUSAL: Duration = Duration::from_millis(1500);

/// What has to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The server closes at once.
    Refused,
    /// The server closes when the handshake deadline has passed.
    TimesOut,
    /// The server may close or go on.
    Survived,
}

use Then::{Refused, Survived, TimesOut};

type Attack = fn(u16) -> io::Result<Peer>;

/// One input.
type Case = (&'static str, Then, Attack);

fn config() -> Config {
    // One core: the canary shares it with the attack.
    Config::default().cores(1).set("rtmp/handshake_timeout", HANDSHAKE.as_secs())
}

fn run(cases: &[Case]) {
    let server = Server::start(&config());
    let Some(mut canary) = Canary::start(&server) else { return };
    for (name, then, attack) in cases {
        let closed = closed(&server);
        let peer = attack(server.rtmp);
        let bound = match then {
            Refused => Some(REFUSAL),
            TimesOut => Some(HANDSHAKE + REFUSAL),
            Survived => None,
        };
        match (peer, bound) {
            (Ok(mut peer), Some(bound)) => {
                let _ = http::read_until_closed(&mut peer.socket, name, bound);
            }
            (Err(error), Some(_)) if http::is_timeout(&error) => {
                panic!("{name}: the server neither reads nor closes")
            }
            _ => {}
        }
        let what = format!("{name}: the end is counted");
        wait::until_true(&what, Duration::from_secs(5), || self::closed(&server) > closed);
        canary.verify_frames(name);
    }
    canary.verify(&server, "all cases");
}

fn closed(server: &Server) -> f64 {
    server.metrics().sum("smart_rtmpd_closed_total", &["proto=\"rtmp"])
}

#[test]
fn r1_first_byte() {
    run(&[
        ("version 0", Refused, |port| raw(port, &[&[0; 1], &[7; 1536][..]].concat())),
        ("version 6", Refused, |port| raw(port, &[&[6; 1], &[7; 1536][..]].concat())),
        ("version 255", Refused, |port| raw(port, &[0xFF; 4096])),
        ("1 MiB of noise", Refused, |port| {
            let mut noise = noise(1 << 20);
            noise[0] = 0x9A;
            raw(port, &noise)
        }),
    ]);
}

#[test]
fn r1_http_on_the_rtmp_port() {
    let server = Server::start(&config());
    let answer = http::get(server.rtmp, "/live/one.flv");
    assert_eq!(answer.status, 400);
    let port = server.http.to_string();
    assert!(answer.text().contains(&port), "no port {port} in {:?}", answer.text());
}

#[test]
fn r2_slow_and_silent() {
    run(&[
        ("a byte each 100 ms", TimesOut, |port| {
            let mut peer = Peer::open(port)?;
            let mut broken = Ok(());
            wait::paced(Duration::from_millis(100), HANDSHAKE + REFUSAL, || {
                broken = peer.socket.write_all(&[3]);
                broken.is_ok()
            });
            broken.map(|()| peer)
        }),
        ("half of C1", TimesOut, |port| raw(port, &[3; 800])),
        ("connect and silence", TimesOut, |port| raw(port, &[])),
        ("handshake and silence", TimesOut, Peer::shaken),
        ("500 silent ones", TimesOut, |port| {
            let peers: io::Result<Vec<Peer>> = (0..500).map(|_| Peer::open(port)).collect();
            for mut peer in peers? {
                let bound = HANDSHAKE + REFUSAL + Duration::from_secs(2);
                let _ = http::read_until_closed(&mut peer.socket, "one of 500", bound);
            }
            Peer::open(port)
        }),
    ]);
}

#[test]
fn r3_lenient_handshake() {
    let server = Server::start(&config());
    let mut peer = Peer::open(server.rtmp).expect("connects");
    let hello = [&[3], &[0; 1536][..]].concat();
    peer.socket.write_all(&hello).expect("takes C0 and C1");
    let mut answer = [0; 3073];
    io::Read::read_exact(&mut peer.socket, &mut answer).expect("S0, S1, S2");
    peer.socket.write_all(&[0x55; 1536]).expect("takes a C2 that echoes nothing");
    let status = peer.connect(server.rtmp, "live").expect("an answer");
    assert_eq!(status, "NetConnection.Connect.Success");
}

#[test]
fn r4_chunk_size() {
    run(&[
        ("chunk size 0", Refused, |port| chunk_size(port, 0)),
        ("chunk size with the top bit", Refused, |port| chunk_size(port, 0x8000_0000)),
        ("chunk size of ones", Refused, |port| chunk_size(port, 0xFFFF_FFFF)),
        ("largest chunk size", Survived, |port| {
            let mut peer = chunk_size(port, 0x7FFF_FFFF)?;
            peer.chunk_size_out = 1 << 20;
            expect_connected(peer, port)
        }),
        ("chunk size 1", Survived, |port| {
            let mut peer = chunk_size(port, 1)?;
            peer.chunk_size_out = 1;
            expect_connected(peer, port)
        }),
        ("100,000 changes", Survived, |port| {
            let mut peer = Peer::shaken(port)?;
            let mut flood = Vec::new();
            for size in 0..100_000_u32 {
                flood.extend(header(2, 0, 4, 1, 0));
                flood.extend((128 + size % 2).to_be_bytes());
            }
            peer.socket.write_all(&flood).map(|()| peer)
        }),
    ]);
}

#[test]
fn r5_half_messages() {
    run(&[
        ("16 MiB announced, 200 KiB/s dripped", Survived, |port| {
            let mut peer = Peer::connected(port, "live")?;
            let mut start = header(4, 0, 0xFF_FFFF, 9, 1);
            start.extend([0; 128]);
            peer.socket.write_all(&start)?;
            for _ in 0..1000 {
                peer.socket.write_all(&[&[0xC4], &[0; 128][..]].concat())?;
            }
            Ok(peer)
        }),
        ("65,536 chunk streams half full", Refused, |port| {
            let mut peer = Peer::connected(port, "live")?;
            for id in 0..=u16::MAX {
                let mut bytes = vec![1];
                bytes.extend(id.to_le_bytes());
                bytes.extend(&header(0, 0, 0xFF_FFFF, 9, 1)[1..]);
                bytes.extend([0; 128]);
                peer.socket.write_all(&bytes)?;
            }
            Ok(peer)
        }),
    ]);
}

#[test]
fn r6_chunk_headers_out_of_the_blue() {
    run(&[
        ("type 1 first", Refused, |port| after_connect(port, &[0x45, 0, 0, 1, 0, 0, 1, 9, 0])),
        ("type 2 first", Refused, |port| after_connect(port, &[0x85, 0, 0, 1, 0, 0, 0, 0])),
        ("type 3 first", Refused, |port| after_connect(port, &[0xC5, 0, 0, 0, 0, 0, 0, 0])),
        ("length changes inside a message", Refused, |port| {
            let mut bytes = header(4, 0, 1000, 9, 1);
            bytes.extend([0; 128]);
            bytes.extend([0x44, 0, 0, 0, 0, 0, 10, 9]);
            bytes.extend([0; 128]);
            after_connect(port, &bytes)
        }),
    ]);
}

#[test]
fn r8_control_messages() {
    run(&[
        ("abort of an unknown id", Survived, |port| control(port, 2, &99_u32.to_be_bytes())),
        ("abort without body", Survived, |port| control(port, 2, &[])),
        ("acknowledgement window 0", Survived, |port| window(port, 0)),
        ("acknowledgement window 1", Survived, |port| window(port, 1)),
        ("peer bandwidth 0", Survived, |port| control(port, 6, &[0, 0, 0, 0, 2])),
        ("user control cut", Survived, |port| control(port, 4, &[0])),
        ("user control of 3 bytes", Survived, |port| control(port, 4, &[0, 3, 0])),
        ("message type 0", Survived, |port| control(port, 0, &[1, 2, 3])),
        ("message type 255", Survived, |port| control(port, 255, &[1, 2, 3])),
        ("100,000 pings", Survived, |port| {
            let mut peer = Peer::connected(port, "live")?;
            let ping = [&header(2, 0, 6, 4, 0)[..], &[0, 6, 0, 0, 0, 1]].concat();
            // Nobody reads the answers: the server must not keep them all.
            let _ = peer.socket.write_all(&ping.repeat(100_000));
            Ok(peer)
        }),
        ("aggregate that lies", Survived, |port| {
            control(port, 22, &[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1])
        }),
    ]);
}

#[test]
fn r9_amf() {
    run(&[
        ("objects 10,000 deep", Refused, |port| command(port, &[3, 0, 1, b'a'].repeat(10_000))),
        ("array of 2^32-1", Refused, |port| command(port, &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("object without end", Refused, |port| command(port, &[3, 0, 1, b'a', 5])),
        ("string beyond the message", Refused, |port| command(port, &[2, 0xFF, 0xFF, b'x'])),
        ("long string beyond it", Refused, |port| {
            command(port, &[0x0C, 0xFF, 0xFF, 0xFF, 0xFF, b'x'])
        }),
        ("transaction NaN", Survived, |port| transaction(port, f64::NAN)),
        ("transaction infinite", Survived, |port| transaction(port, f64::INFINITY)),
        ("transaction minus infinite", Survived, |port| transaction(port, f64::NEG_INFINITY)),
        ("AMF3 switch", Survived, |port| command(port, &[0x11, 0x0A, 0x0B, 1])),
        ("reference to itself", Survived, |port| command(port, &[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9])),
        ("AMF3 command of nothing", Survived, |port| control(port, 17, &[])),
        ("command of nothing", Survived, |port| control(port, 20, &[])),
    ]);
}

#[test]
fn r10_order_of_commands() {
    run(&[
        ("connect twice", Survived, |port| {
            let mut peer = Peer::connected(port, "live")?;
            let _ = peer.connect(port, "live");
            Ok(peer)
        }),
        ("publish before connect", Survived, |port| {
            let mut peer = Peer::shaken(port)?;
            let arguments = [null(), string("early"), string("live")].concat();
            peer.command("publish", 1, &arguments).map(|()| peer)
        }),
        ("publish before createStream", Survived, |port| {
            let mut peer = Peer::connected(port, "live")?;
            let arguments = [null(), string("early"), string("live")].concat();
            peer.command("publish", 7, &arguments).map(|()| peer)
        }),
        ("two publishes", Survived, |port| {
            let (mut peer, stream, _) = Peer::publishing(port, "first")?;
            let _ = peer.publish(stream, "second");
            Ok(peer)
        }),
        ("publish and play on one stream", Survived, |port| {
            let (mut peer, stream, _) = Peer::publishing(port, "both")?;
            let arguments = [null(), string("both")].concat();
            peer.command("play", stream, &arguments).map(|()| peer)
        }),
        ("deleteStream of another", Survived, |port| {
            let (mut peer, ..) = Peer::publishing(port, "mine")?;
            peer.command("deleteStream", 0, &[null(), number(9e9)].concat()).map(|()| peer)
        }),
        ("10,000 createStream", Survived, |port| {
            let mut peer = Peer::connected(port, "live")?;
            for _ in 0..10_000 {
                if peer.command("createStream", 0, &null()).is_err() {
                    break;
                }
            }
            Ok(peer)
        }),
    ]);
}

#[test]
fn r10_nothing_half_registered() {
    let server = Server::start(&config());
    let mut peer = Peer::shaken(server.rtmp).expect("shakes hands");
    let arguments = [null(), string("early"), string("live")].concat();
    let _ = peer.command("publish", 1, &arguments);
    drop(peer);
    let (peer, ..) = Peer::publishing(server.rtmp, "first").expect("publishes");
    drop(peer);
    let what = "nothing is listed after all have gone";
    wait::until_true(what, Duration::from_secs(8), || server.api_live().is_empty());
}

#[test]
fn r12_r13_media() {
    run(&[
        ("tag of 0 bytes", Survived, |port| media(port, 9, &[&[]])),
        ("tags of 1 byte", Survived, |port| media(port, 9, &[&[0x17], &[0x27], &[0x90], &[0xFF]])),
        ("sound of 0 and 1 byte", Survived, |port| media(port, 8, &[&[], &[0xAF], &[0x90]])),
        ("empty AVC configuration", Survived, |port| media(port, 9, &[&[0x17, 0, 0, 0, 0]])),
        ("empty AAC configuration", Survived, |port| media(port, 8, &[&[0xAF, 0]])),
        ("NAL unit beyond its tag", Survived, |port| {
            media(port, 9, &[AVC, &[0x17, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x65]])
        }),
        ("picture before configuration", Survived, |port| {
            media(port, 9, &[&[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]])
        }),
        ("unknown FourCC", Survived, |port| media(port, 9, &[b"\x90evil\x01\x02"])),
        ("multitrack of nothing", Survived, |port| media(port, 9, &[&[0x96, 0x20], &[0x96]])),
        ("multitrack that lies", Survived, |port| {
            media(port, 9, &[b"\x96\x10avc1\x00\xFF\xFF\xFF\x01", b"\x96\x20\xFF"])
        }),
        ("ModEx without end", Survived, |port| media(port, 9, &[&[0x97; 4096]])),
        ("ModEx that lies", Survived, |port| media(port, 8, &[&[0x97, 0xFF, 0xFF, 0xFF, 0]])),
        ("SPS of zeros", Survived, |port| sps(port, &[0x67, 0x42, 0, 30, 0, 0, 0, 0, 0, 0])),
        ("SPS of ones", Survived, |port| sps(port, &[0x67, 0x64, 0, 51, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("SPS of one byte", Survived, |port| sps(port, &[0x67])),
        ("SPS of noise", Survived, |port| {
            let noise = noise(200);
            for start in 0..100 {
                let mut bytes = vec![0x67, 0x64, 0, 40];
                bytes.extend(&noise[start..start + 40]);
                drop(sps(port, &bytes)?);
            }
            Peer::open(port)
        }),
    ]);
}

#[test]
fn r14_metadata() {
    run(&[
        ("20,000 keys", Survived, |port| {
            let (mut peer, stream, _) = Peer::publishing(port, "meta")?;
            for number in 0..20_000 {
                let value = object(&[(&format!("key{number}"), string("value"))]);
                let body = [string("@setDataFrame"), string("onMetaData"), value].concat();
                if peer.send(4, 0, 18, stream, &body).is_err() {
                    break;
                }
            }
            Ok(peer)
        }),
        ("15 MiB at once", Survived, |port| {
            let (mut peer, stream, _) = Peer::publishing(port, "meta")?;
            let value = object(&[("key", string("x".repeat(60_000)))]).repeat(250);
            let body = [string("@setDataFrame"), string("onMetaData"), value].concat();
            let _ = peer.send(4, 0, 18, stream, &body);
            Ok(peer)
        }),
    ]);
}

#[test]
fn r15_play_of_nothing_again_and_again() {
    let server = Server::start(&config().set("rtmp/play_wait", 0));
    let Some(mut canary) = Canary::start(&server) else { return };
    for number in 0..1000 {
        let peer = Peer::playing(server.rtmp, &format!("nothing{}", number % 7));
        drop(peer.expect("play is sent"));
    }
    canary.verify(&server, "1,000 plays of nothing");
}

#[test]
fn r16_tls() {
    run(&[
        ("TLS record and silence", TimesOut, |port| raw(port, &[0x16, 3, 1])),
        ("TLS record of noise", Refused, |port| {
            raw(port, &[&[0x16, 3, 1, 0x10, 0][..], &noise(4096)].concat())
        }),
        ("ClientHello in records of one byte", Survived, |port| {
            let hello = client_hello("localhost");
            let mut bytes = Vec::new();
            for byte in &hello[5..] {
                bytes.extend([0x16, 3, 1, 0, 1, *byte]);
            }
            raw(port, &bytes)
        }),
        ("close_notify inside the handshake", Refused, |port| {
            let bytes = [client_hello("localhost"), vec![0x15, 3, 3, 0, 2, 1, 0]].concat();
            raw(port, &bytes)
        }),
        ("half a ClientHello", TimesOut, |port| raw(port, &client_hello("localhost")[..60])),
        ("long server name", TimesOut, |port| {
            raw(port, &client_hello(&vec!["x".repeat(60); 4].join(".")))
        }),
        ("ClientHello and silence", TimesOut, |port| raw(port, &client_hello("localhost"))),
    ]);
}

#[test]
fn panics_stay_with_their_session() {
    // A publisher with sane media works after everything above on one server.
    let server = Server::start(&config());
    for byte in 0..=255 {
        let _ = raw(server.rtmp, &[byte; 3073]);
    }
    let url = server.rtmp_url("sane");
    let Some(_publisher) = Publisher::Ffmpeg.start(Clip::H264Aac, &url) else { return };
    server.wait_live("sane");
    let Some(decoded) = clients::ffmpeg_decode(&url, 2) else { return };
    assert!(decoded.complaints.is_empty() && decoded.pictures > 20, "{decoded:?}");
}

/// An AVC configuration as ffmpeg writes it for a small baseline picture.
const AVC: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 9, 0x67, 0x42, 0xC0, 0x1E, 0xD9, 0, 0xA0,
    0x47, 0xFE, 1, 0, 4, 0x68, 0xCB, 0x83, 0xCB,
];

fn raw(port: u16, bytes: &[u8]) -> io::Result<Peer> {
    let mut peer = Peer::open(port)?;
    peer.socket.write_all(bytes)?;
    Ok(peer)
}

fn after_connect(port: u16, bytes: &[u8]) -> io::Result<Peer> {
    let mut peer = Peer::connected(port, "live")?;
    peer.socket.write_all(bytes)?;
    Ok(peer)
}

fn chunk_size(port: u16, size: u32) -> io::Result<Peer> {
    let mut peer = Peer::shaken(port)?;
    peer.send(2, 0, 1, 0, &size.to_be_bytes())?;
    Ok(peer)
}

fn expect_connected(mut peer: Peer, port: u16) -> io::Result<Peer> {
    let status = peer.connect(port, "live").expect("a legal chunk size works");
    assert_eq!(status, "NetConnection.Connect.Success");
    Ok(peer)
}

fn control(port: u16, kind: u8, body: &[u8]) -> io::Result<Peer> {
    let mut peer = Peer::connected(port, "live")?;
    peer.send(2, 0, kind, 0, body)?;
    Ok(peer)
}

/// Sets our acknowledgement window and sends a little: a storm of answers would show.
fn window(port: u16, size: u32) -> io::Result<Peer> {
    let mut peer = control(port, 5, &size.to_be_bytes())?;
    for _ in 0..1000 {
        peer.send(4, 0, 9, 1, &[0; 100])?;
    }
    peer.socket.shutdown(std::net::Shutdown::Write)?;
    let bytes = http::read_until_closed(&mut peer.socket, "window", Duration::from_secs(5));
    assert!(bytes.len() < 200_000, "{} B of acknowledgements", bytes.len());
    Ok(peer)
}

fn command(port: u16, argument: &[u8]) -> io::Result<Peer> {
    let mut peer = Peer::shaken(port)?;
    peer.command("connect", 0, argument)?;
    Ok(peer)
}

fn transaction(port: u16, id: f64) -> io::Result<Peer> {
    let mut peer = Peer::connected(port, "live")?;
    let body = [string("createStream"), number(id), null()].concat();
    peer.send(3, 0, 20, 0, &body)?;
    Ok(peer)
}

fn media(port: u16, kind: u8, bodies: &[&[u8]]) -> io::Result<Peer> {
    let (mut peer, stream, _) = Peer::publishing(port, "hostile")?;
    for (number, body) in (0..).zip(bodies) {
        peer.send(4, number * 40, kind, stream, body)?;
    }
    peer.socket.shutdown(std::net::Shutdown::Write)?;
    let _ = http::read_until_closed(&mut peer.socket, "hostile media", Duration::from_secs(5));
    // The name is free again before the next one takes it.
    Ok(peer)
}

fn sps(port: u16, sps: &[u8]) -> io::Result<Peer> {
    let mut body = vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 40, 0xFF, 0xE1, 0, sps.len() as u8];
    body.extend(sps);
    body.extend([1, 0, 4, 0x68, 0xCB, 0x83, 0xCB]);
    media(port, 9, &[&body, &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x88]])
}

/// The bytes of a real ClientHello.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a DNS name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("into a vector");
    bytes
}

/// Bytes of a fixed xorshift sequence.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
