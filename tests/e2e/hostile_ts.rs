//! Files on demand that are transport streams of somebody who means no good: each is one of ffmpeg's
//! with bytes changed. It is refused in clear words, or what is left of it plays.

use std::time::Duration;

use tests::canary::Canary;
use tests::clients;
use tests::http;
use tests::media::Clip;
use tests::server::{Config, Server};

use crate::vod::{durations_s, remux, start};

const PACKET_BYTES: usize = 188;
/// Where ffmpeg puts tables and tracks.
const PAT: u16 = 0;
const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const SOUND: u16 = 0x101;
const NULL: u16 = 0x1fff;
/// Memory that the server may hold more while a file is looked at, in KiB: its buffer of 256 KiB,
/// what is kept of the file, and what else may come and go.
const GROWTH_KIB: u64 = 4096;
/// How long a file may be looked at.
const BOUND: Duration = Duration::from_secs(10);

type Packet = [u8; PACKET_BYTES];

/// What comes of a file.
enum Expected {
    /// 415, with these words.
    Refused(&'static str),
    /// Every packet of its tracks.
    Whole,
    /// At least so many pictures, at a player.
    Rest(u64),
}
use Expected::{Refused, Rest, Whole};

fn pid(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// A packet of this identifier that begins with `payload`.
fn packet(pid: u16, unit_start: bool, payload: &[u8]) -> Packet {
    let mut packet = [0xff; PACKET_BYTES];
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[0x47, u8::from(unit_start) << 6 | high, low, 0x10]);
    packet[4..4 + payload.len()].copy_from_slice(payload);
    packet
}

/// CRC-32 of ISO/IEC 13818-1, annex A, bit by bit.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
        }
    }
    crc.to_be_bytes()
}

/// Changes the sections of a table, which are a packet each, and makes their check sums fit again.
fn with_sections(packets: &[Packet], table: u16, change: impl Fn(&mut [u8])) -> Vec<Packet> {
    with_packets(packets, table, |_, packet| {
        let length = usize::from(packet[6] & 0x0f) << 8 | usize::from(packet[7]);
        let (fields, sum) = packet[5..8 + length].split_at_mut(length - 1);
        change(fields);
        sum.copy_from_slice(&crc(fields));
    })
}

/// Changes the packets of an identifier, which are counted.
fn with_packets(
    packets: &[Packet],
    of: u16,
    mut change: impl FnMut(usize, &mut Packet),
) -> Vec<Packet> {
    let mut changed = packets.to_vec();
    let those = changed.iter_mut().filter(|packet| pid(packet) == of);
    those.enumerate().for_each(|(number, packet)| change(number, packet));
    changed
}

/// Puts packets behind each that is there.
fn with_more(packets: &[Packet], more: impl Fn(usize) -> Vec<Packet>) -> Vec<Packet> {
    let behind = packets.iter().enumerate().map(|(at, packet)| [vec![*packet], more(at)].concat());
    behind.flatten().collect()
}

/// Row C1: name, file, and what comes of it.
fn cases(packets: &[Packet]) -> Vec<(&'static str, Vec<u8>, Expected)> {
    let nothing = || Refused("no track that HLS carries");
    let without = |of: u16| packets.iter().filter(|packet| pid(packet) != of).copied().collect();
    let flood = |count: usize| move |_| vec![packet(NULL, false, &[]); count];
    // A PES packet of video, each in another place.
    let strange = |at: usize| {
        let of = |number: usize| 0x200 + ((at * 7 + number) % 7600) as u16;
        let begin = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
        let others = (0..7).map(of).filter(|of| *of != PMT);
        others.map(|of| packet(of, true, &begin)).collect()
    };
    let mut garbage = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        garbage.extend_from_slice(packet);
        if number % 100 == 99 {
            garbage.extend_from_slice(&[0x47; 300]);
            garbage.extend_from_slice(&[0x11; 31]);
        }
    }
    let cases: Vec<(_, Vec<Packet>, _)> = vec![
        ("no-pat", without(PAT), nothing()),
        ("no-pmt", without(PMT), nothing()),
        // The descriptors of the first stream are longer than the section.
        ("loop", with_sections(packets, PMT, |fields| fields[15..17].fill(0xff)), nothing()),
        ("info", with_sections(packets, PMT, |fields| fields[10..12].fill(0xff)), nothing()),
        ("crc", with_packets(packets, PMT, |_, packet| packet[13] ^= 1), nothing()),
        (
            "length-4093",
            with_packets(packets, PMT, |_, packet| packet[6..8].copy_from_slice(&[0xbf, 0xfd])),
            nothing(),
        ),
        (
            "pmt-is-pat",
            with_sections(packets, PAT, |fields| fields[10..12].copy_from_slice(&[0xe0, 0])),
            nothing(),
        ),
        (
            "pmt-is-video",
            with_sections(packets, PAT, |fields| fields[10..12].copy_from_slice(&[0xe1, 0])),
            nothing(),
        ),
        ("null-only", vec![packet(NULL, false, &[]); 20_000], nothing()),
        ("null-flood", with_more(packets, flood(20)), Whole),
        ("7600-pids", with_more(packets, strange), Whole),
        (
            "endless-pes",
            with_packets(packets, VIDEO, |number, packet| {
                if number > 0 {
                    packet[1] &= !0x40;
                }
            }),
            Rest(1),
        ),
        (
            "adaptation-184",
            with_packets(packets, VIDEO, |number, packet| {
                if number % 50 == 49 {
                    packet[3] |= 0x30;
                    packet[4] = 184 + (number % 72) as u8;
                }
            }),
            Rest(100),
        ),
    ];
    let bytes = |packets: Vec<Packet>| packets.as_flattened().to_vec();
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(name, packets, expected)| (name, bytes(packets), expected))
        .collect();
    cases.push(("sync-lost", garbage, Rest(100)));
    cases
}

#[test]
fn c1_transport_streams() {
    let (server, folder) = start(&Config::default().cores(1));
    let Some(clip) = Clip::H264Aac.file() else { return };
    if !remux(&clip, &folder.join("whole.ts"), &["-t", "20"]) {
        return;
    }
    let whole = std::fs::read(folder.join("whole.ts")).expect("is there");
    let (packets, rest) = whole.as_chunks::<PACKET_BYTES>();
    assert!(rest.is_empty() && packets.iter().any(|packet| pid(packet) == PMT));
    let Some(mut canary) = Canary::start(&server) else { return };
    let before = server.held_kib();
    for (name, bytes, expected) in cases(packets) {
        std::fs::write(folder.join(format!("{name}.ts")), &bytes).expect("writable");
        let start = std::time::Instant::now();
        let answer = http::get(server.http, &format!("/vod/{name}.ts.m3u8"));
        assert!(start.elapsed() < BOUND, "{name} took {:?}", start.elapsed());
        let text = answer.text();
        match expected {
            Refused(words) => {
                assert_eq!(answer.status, 415, "{name}: {text}");
                assert!(text.contains(words), "{name}: {text}");
                assert_eq!(http::get(server.http, &format!("/vod/{name}.ts/seg-0.ts")).status, 415);
            }
            Whole => {
                let found = segments(&server, name, &text);
                assert!(tracks(&found) == tracks(packets), "{name}: {} packets", found.len());
            }
            Rest(least) => {
                segments(&server, name, &text);
                let url = format!("http://127.0.0.1:{}/vod/{name}.ts.m3u8", server.http);
                let Some(decoded) = clients::ffmpeg_decode(&url, 60) else { return };
                let pictures = decoded.pictures;
                eprintln!("{name}: {pictures} pictures");
                assert!(pictures >= least, "{name}: {pictures}: {:?}", decoded.complaints);
            }
        }
        let grown = server.held_kib().saturating_sub(before);
        assert!(grown <= GROWTH_KIB, "{name}: {grown} KiB more");
        canary.verify_frames(name);
    }
    canary.verify(&server, "hostile transport streams");
}

/// The packets of pictures and sound.
fn tracks(packets: &[Packet]) -> Vec<&Packet> {
    packets.iter().filter(|packet| [VIDEO, SOUND].contains(&pid(packet))).collect()
}

/// The packets of every segment that is listed.
fn segments(server: &Server, name: &str, playlist: &str) -> Vec<Packet> {
    let uris: Vec<&str> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!uris.is_empty() && uris.len() == durations_s(playlist).len(), "{name}: {playlist}");
    let mut packets = Vec::new();
    for uri in &uris {
        let answer = http::get(server.http, &format!("/vod/{uri}"));
        assert_eq!(answer.status, 200, "{name}: {uri}");
        let (those, rest) = answer.body.as_chunks::<PACKET_BYTES>();
        assert!(rest.is_empty() && !those.is_empty(), "{name}: {uri}: {}", answer.body.len());
        assert!(those.iter().all(|packet| packet[0] == 0x47), "{name}: {uri}");
        packets.extend_from_slice(those);
    }
    packets
}
