//! Losses, marks, garbage and limits.

use super::*;

#[test]
fn a_lost_packet_costs_its_access_unit_and_pictures_up_to_a_keyframe() {
    let frames = [second(0), second(1000)].concat();
    let muxed = mux(&tracks(), &frames);
    let (packets, _) = muxed.as_chunks::<PACKET_BYTES>();
    let nth = |pid, nth| {
        let of_pid = |packet: &&[u8; PACKET_BYTES]| packet::parse(packet).unwrap().pid == pid;
        let wanted = packets.iter().filter(of_pid).nth(nth).unwrap();
        packets.iter().position(|packet| std::ptr::eq(packet, wanted)).unwrap()
    };
    let without = |gone: usize| {
        let left = packets.iter().enumerate().filter(|(at, _)| *at != gone);
        demux_pieces(left.map(|(_, packet)| &packet[..]))
    };
    // Inside the fifth picture: 17 packets of the keyframe, 3 of each picture after it.
    let found = without(nth(0x100, 17 + 3 * 3 + 1));
    let damage = Damage { continuity_errors: 1, damaged_pes: 1, ..Damage::default() };
    assert_eq!(found.damage, damage);
    assert_eq!(found.ignored.before_keyframe, 20);
    let kept: Vec<_> = found.pictures().iter().map(|frame| frame.dts.to_millis()).collect();
    assert_eq!(kept[..5], [1000, 1040, 1080, 1120, 2000]);
    assert_eq!((kept.len(), found.sounds().len()), (29, 100));
    // The first packet of a picture: nothing is open, so nothing but the rest is dropped.
    let found = without(nth(0x100, 17 + 3));
    assert_eq!(found.damage, Damage { continuity_errors: 1, ..Damage::default() });
    assert_eq!(found.pictures().len(), 2 + 25);
    // One of the sound: that frame only.
    let found = without(nth(0x101, 7));
    assert_eq!((found.sounds().len(), found.pictures().len()), (99, 50));
    assert_eq!(found.damage.continuity_errors, 1);
    // A packet twice is none too many.
    let twice = [&packets[..30], &packets[29..]].concat();
    let found = demux(twice.as_flattened());
    assert_eq!((found.damage, found.ignored.duplicate_packets), (Damage::default(), 1));
    assert_eq!(found.frames.len(), 150);
}

#[test]
fn marked_packets_are_not_read() {
    let frames = second(0);
    let muxed = mux(&tracks(), &frames);
    let with = |at: usize, byte: usize, bits: u8| {
        let mut bytes = muxed.clone();
        bytes[at * PACKET_BYTES + byte] |= bits;
        demux(&bytes)
    };
    // Packet 5 is inside the first picture.
    let found = with(5, 1, 0x80);
    assert_eq!((found.damage.transport_errors, found.damage.continuity_errors), (1, 1));
    let found = with(5, 3, 0x80);
    assert_eq!((found.damage.scrambled_packets, found.damage.damaged_pes), (1, 1));
    assert_eq!((found.pictures().len(), found.sounds().len()), (0, 50));
    // The tables: nothing can be read without them, until they come again.
    let found = with(1, 12, 0x40);
    assert_eq!(found.damage.damaged_sections, 1);
    assert!(found.frames.len() < 100);
    let found = with(5, 3, 0x30);
    assert!(found.damage != Damage::default());
}

#[test]
fn garbage_and_a_late_start_are_survived() {
    let frames = [second(0), second(1000)].concat();
    let muxed = mux(&tracks(), &frames);
    let late = [&[0x11; 77][..], &muxed[40 * PACKET_BYTES + 50..]].concat();
    let found = demux(&late);
    assert_eq!(found.pictures()[0].kind, FrameKind::Keyframe);
    assert!(found.pictures().len() >= 25 && found.damage.skipped_bytes >= 77);
    // Sound waits for the pictures' first keyframe.
    assert_eq!((found.tracks.len(), found.frames[0].kind), (1, FrameKind::Audio));
}

#[test]
fn a_pes_packet_beyond_the_limit_is_dropped() {
    let key = annex_b(&picture(FrameKind::Keyframe, 0, 90_000));
    let small = annex_b(&picture(FrameKind::Keyframe, 40, 100));
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x30));
    tables(&[(0x1b, 0x30)], &mut out);
    packets(&mut pid, &pes_packet(0xe0, Some(0), &key), &mut out);
    packets(&mut pid, &pes_packet(0xe0, Some(40), &small), &mut out);
    let (mut demuxer, mut items) = (Demuxer::new(80_000), VecDeque::new());
    demuxer.push(&out, &mut items).unwrap();
    demuxer.finish(&mut items);
    assert_eq!(demuxer.damage(), Damage { oversized_pes: 1, ..Damage::default() });
    assert_eq!(items.len(), 2);
}

#[test]
fn a_stream_without_media_is_refused() {
    let (mut demuxer, mut items) = (Demuxer::new(PES_BYTES_MAX), VecDeque::new());
    assert_eq!(demuxer.push(&[0; 80_000], &mut items), Err(TsError::NotTs));
    let wide: Vec<u8> =
        GOLDEN[0].file.chunks(PACKET_BYTES).flat_map(|packet| [&[0; 4], packet].concat()).collect();
    let mut demuxer = Demuxer::new(PES_BYTES_MAX);
    assert_eq!(demuxer.push(&wide, &mut items), Err(TsError::PacketBytes(192)));
    assert!(items.is_empty());
}
