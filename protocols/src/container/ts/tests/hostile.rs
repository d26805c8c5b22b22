//! What somebody can make of a transport stream who means no good: a file of ffmpeg with bytes
//! changed, for the demuxer and for what cuts files.

use super::*;

/// Where ffmpeg puts the table and the pictures.
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const NULL_PACKET: [u8; PACKET_BYTES] = {
    let mut packet = [0xff; PACKET_BYTES];
    (packet[0], packet[1], packet[3]) = (SYNC_BYTE, 0x1f, 0x10);
    packet
};

/// What comes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No track is ever known.
    Nothing,
    /// Every frame of the file.
    Whole,
    /// All of its sound, and what is left of its pictures.
    Part,
}
use Outcome::{Nothing, Part, Whole};

/// A case: name, stream, what comes of it, what is counted of it.
pub(crate) type Case = (&'static str, Vec<u8>, Outcome, Damage);

fn pid(packet: &[u8; PACKET_BYTES]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// Changes every packet of `of` by its number and gives how many there are.
fn change(of: u16, mut change: impl FnMut(u64, &mut [u8; PACKET_BYTES])) -> (Vec<u8>, u64) {
    let (mut bytes, mut count) = (GOLDEN[0].file.to_vec(), 0);
    for packet in bytes.as_chunks_mut().0.iter_mut().filter(|packet| pid(packet) == of) {
        change(count, packet);
        count += 1;
    }
    (bytes, count)
}

/// Changes every section of a table, each in a packet of its own, and makes its check sum fit.
fn change_sections(of: u16, fields: impl Fn(&mut [u8])) -> Vec<u8> {
    let section = |_, packet: &mut [u8; PACKET_BYTES]| {
        let length = usize::from(packet[6] & 0x0f) << 8 | usize::from(packet[7]);
        let (body, sum) = packet[5..8 + length].split_at_mut(length - 1);
        fields(body);
        sum.copy_from_slice(&psi::crc(body).to_be_bytes());
    };
    change(of, section).0
}

/// Puts packets behind each of the file.
fn between(more: impl Fn(usize) -> Vec<[u8; PACKET_BYTES]>) -> Vec<u8> {
    let (packets, _) = GOLDEN[0].file.as_chunks();
    let all = packets.iter().enumerate().map(|(at, packet)| [vec![*packet], more(at)].concat());
    all.flatten().collect::<Vec<_>>().into_flattened()
}

pub(crate) fn cases() -> Vec<Case> {
    let none = Damage::default();
    let sections = |count| Damage { damaged_sections: count, ..none };
    let without = |of: u16| {
        let packets = GOLDEN[0].file.as_chunks().0.iter().filter(|packet| pid(packet) != of);
        packets.flatten().copied().collect()
    };
    let (crc, crcs) = change(PMT_PID, |_, packet| packet[13] ^= 1);
    let (long, longs) = change(PMT_PID, |_, packet| packet[6..8].copy_from_slice(&[0xbf, 0xfd]));
    let (endless, _) = change(VIDEO_PID, |number, packet| {
        packet[1] &= if number == 0 { 0xff } else { !0x40 };
    });
    let mut malformed = 0;
    let (adaptation, _) = change(VIDEO_PID, |number, packet| {
        if number % 20 == 19 {
            (packet[3], packet[4]) = (packet[3] | 0x30, 184 + (number % 72) as u8);
            malformed += 1;
        }
    });
    // A PES packet of pictures, in other places each time.
    let strange = |at: usize| {
        let pids = (0..40).map(move |number| 0x200 + ((at * 40 + number) % 7600) as u16);
        let packet = |pid: u16| {
            let mut packet = NULL_PACKET;
            packet[1..3].copy_from_slice(&(0x4000 | pid).to_be_bytes());
            packet[4..13].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0]);
            packet
        };
        pids.filter(|pid| *pid != PMT_PID).map(packet).collect()
    };
    vec![
        ("no PAT", without(psi::PAT_PID), Nothing, none),
        ("no PMT", without(PMT_PID), Nothing, none),
        (
            "descriptors beyond the section",
            change_sections(PMT_PID, |s| s[15..17].fill(0xff)),
            Nothing,
            none,
        ),
        (
            "program_info beyond the section",
            change_sections(PMT_PID, |s| s[10..12].fill(0xff)),
            Nothing,
            none,
        ),
        ("check sum", crc, Nothing, sections(crcs)),
        ("section_length 4093", long, Nothing, sections(longs)),
        (
            "PMT at the PAT's identifier",
            change_sections(psi::PAT_PID, |s| s[10..12].copy_from_slice(&[0xe0, 0])),
            Nothing,
            none,
        ),
        (
            "PMT at the null identifier",
            change_sections(psi::PAT_PID, |s| s[10..12].copy_from_slice(&[0xff, 0xff])),
            Nothing,
            none,
        ),
        ("null packets only", NULL_PACKET.repeat(1000), Nothing, none),
        ("flood of null packets", between(|_| vec![NULL_PACKET; 50]), Whole, none),
        ("7,600 identifiers", between(strange), Whole, none),
        ("a PES packet without end", endless, Part, none),
        (
            "adaptation_field_length 184 and more",
            adaptation,
            Part,
            Damage { malformed_packets: malformed, ..none },
        ),
    ]
}

#[test]
fn each_is_refused_or_read_as_far_as_it_goes() {
    let golden = demux(GOLDEN[0].file);
    let whole: Vec<_> = golden.frames.iter().map(|frame| &frame.payload).collect();
    for (name, bytes, outcome, damage) in cases() {
        for piece in [bytes.len(), 1316, 1] {
            let found = demux_pieces(bytes.chunks(piece));
            let counted = Damage { continuity_errors: 0, damaged_pes: 0, ..found.damage };
            assert_eq!(counted, damage, "{name}");
            let frames: Vec<_> = found.frames.iter().map(|frame| &frame.payload).collect();
            match outcome {
                Nothing => assert!(found.tracks.is_empty() && frames.is_empty(), "{name}"),
                Whole => assert_eq!(frames, whole, "{name}"),
                Part => {
                    // Sound is not concerned.
                    assert_eq!(found.sounds(), golden.sounds(), "{name}");
                    assert!(found.pictures().len() <= golden.pictures().len(), "{name}");
                }
            }
        }
    }
}

#[test]
fn what_never_ends_is_dropped_at_the_limit() {
    let file = cases().into_iter().find(|case| case.0 == "a PES packet without end");
    let (_, file, ..) = file.unwrap();
    let (mut demuxer, mut items) = (Demuxer::new(4096), VecDeque::new());
    demuxer.push(&file, &mut items).unwrap();
    demuxer.finish(&mut items);
    assert_eq!(demuxer.damage().oversized_pes, 1);
    let picture = |item: &Item| matches!(item, Item::Frame(frame) if frame.kind.is_video());
    assert!(!items.iter().any(picture));
}

#[test]
fn sync_that_is_lost_again_and_again_is_found_again() {
    let golden = demux(GOLDEN[0].file);
    let mut bytes = Vec::new();
    for packets in GOLDEN[0].file.chunks(30 * PACKET_BYTES) {
        bytes.extend_from_slice(packets);
        // What looks like packets, and what does not.
        bytes.extend_from_slice(&[SYNC_BYTE; 300]);
        bytes.extend_from_slice(&[0x11; 31]);
    }
    let found = demux(&bytes);
    assert!(found.damage.sync_losses > 1 && found.damage.skipped_bytes > 0, "{:?}", found.damage);
    let known: Vec<_> = golden.frames.iter().map(|frame| &frame.payload).collect();
    assert!(!found.pictures().is_empty() && found.sounds().len() > golden.sounds().len() / 2);
    assert!(found.sounds().iter().all(|frame| known.contains(&&frame.payload)));
}
