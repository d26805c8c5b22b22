//! How other muxers spread access units over PES packets, and parameter sets over pictures.

use super::*;

#[test]
fn a_picture_in_several_pes_packets_and_several_in_one() {
    let key = picture(FrameKind::Keyframe, 1000, 150_000);
    let stream = annex_b(&key);
    let others: Vec<u8> =
        [1040, 1080].iter().flat_map(|ms| annex_b(&picture(FrameKind::Inter, *ms, 50))).collect();
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x30));
    tables(&[(0x1b, 0x30)], &mut out);
    for (at, piece) in stream.chunks(65_000).enumerate() {
        packets(&mut pid, &pes_packet(0xe0, (at == 0).then_some(1000), piece), &mut out);
    }
    packets(&mut pid, &pes_packet(0xe0, Some(1040), &others), &mut out);
    let found = demux(&out);
    assert_eq!(found.damage, Damage::default());
    let expected: Vec<_> = found.pictures().iter().map(|frame| frame.dts.to_millis()).collect();
    assert_eq!(expected, [1000, 1040, 1080]);
    assert_eq!(found.frames[0].payload, key.payload);
    // A continuation of what was emitted already, or never began, has no place.
    let mut stray = out.clone();
    packets(&mut pid, &pes_packet(0xe0, None, &[1, 2, 3]), &mut stray);
    assert_eq!(demux(&stray).frames.len(), 3);
}

#[test]
fn slices_in_pes_packets_of_their_own_are_joined_once_they_were_seen() {
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x30));
    tables(&[(0x1b, 0x30)], &mut out);
    for ms in (0..400).step_by(40) {
        let kind = if ms % 200 == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        let first = picture(kind, ms, 20);
        packets(&mut pid, &pes_packet(0xe0, Some(ms as u64), &annex_b(&first)), &mut out);
        // `first_mb_in_slice` is not 0. Without and with the stamp of the first slice.
        for stamp in [None, Some(ms as u64)] {
            let slice = [0, 0, 1, first.payload[4], 0x40, 7];
            packets(&mut pid, &pes_packet(0xe0, stamp, &slice), &mut out);
        }
    }
    let found = demux(&out);
    assert_eq!(found.damage, Damage { damaged_pes: 2, ..Damage::default() });
    let told = |frame: &Frame| {
        let slices = crate::codec::nal::units(&frame.payload, 4).count();
        (frame.dts.to_millis(), slices)
    };
    let told: Vec<_> = found.frames.iter().map(told).collect();
    assert_eq!(told, [(0, 1), (200, 3), (240, 3), (280, 3), (320, 3), (360, 3)]);
}

#[test]
fn fields_that_share_a_pes_packet_are_one_frame() {
    // Of an encoder asked for interlaced pictures of 320×192.
    let sps = [
        0x67, 0x64, 0x00, 0x15, 0xac, 0xd9, 0x41, 0x43, 0x36, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00,
        0x20, 0x00, 0x00, 0x06, 0x43, 0xe2, 0x85, 0x32, 0xc0,
    ];
    assert!(crate::codec::h264::may_have_fields(&sps));
    let config = tracks().video.unwrap().config;
    let pps = crate::codec::h264::parameter_sets(&config).unwrap().pps[0].to_vec();
    let field = [0x65, 0x88, 1, 2];
    let units: [&[u8]; 6] = [&[9, 0xf0], &sps, &pps, &field, &[9, 0xf0], &field];
    let stream: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 1][..], unit].concat()).collect();
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x30));
    tables(&[(0x1b, 0x30)], &mut out);
    for ms in [0, 40] {
        packets(&mut pid, &pes_packet(0xe0, Some(ms), &stream), &mut out);
    }
    let found = demux(&out);
    let times: Vec<_> = found.frames.iter().map(|frame| frame.dts.to_millis()).collect();
    assert_eq!((times, found.damage), (vec![0, 40], Damage::default()));
    assert_eq!(crate::codec::nal::units(&found.frames[1].payload, 4).count(), 2);
}

#[test]
fn parameter_sets_change_at_keyframes_only() {
    let other = demux(GOLDEN[2].file).tracks[0].video.clone().unwrap().config;
    let other = crate::codec::h264::parameter_sets(&other).unwrap();
    let with = |units: &[&[u8]], frame: &Frame| -> Vec<u8> {
        let sets = units.iter().flat_map(|unit| [&[0, 0, 1][..], unit].concat());
        sets.chain([0, 0, 1]).chain(frame.payload[4..].iter().copied()).collect()
    };
    let sets: Vec<&[u8]> = [other.sps, other.pps].concat();
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x30));
    tables(&[(0x1b, 0x30)], &mut out);
    let pictures = [
        annex_b(&picture(FrameKind::Keyframe, 0, 9)),
        with(&sets, &picture(FrameKind::Inter, 40, 9)),
        with(&sets[1..], &picture(FrameKind::Keyframe, 80, 9)),
        with(&sets, &picture(FrameKind::Keyframe, 120, 9)),
        annex_b(&picture(FrameKind::Inter, 160, 9)),
    ];
    for (at, stream) in pictures.iter().enumerate() {
        packets(&mut pid, &pes_packet(0xe0, Some(at as u64 * 40), stream), &mut out);
    }
    let found = demux(&out);
    assert_eq!((found.tracks.len(), found.frames.len()), (2, 5));
    let units = |frame: &Frame| crate::codec::nal::units(&frame.payload, 4).count();
    // In band where the configuration does not have them.
    let counts: Vec<_> = found.frames.iter().map(units).collect();
    assert_eq!(counts, [1, 3, 2, 1, 1]);
}

#[test]
fn sound_across_pes_packets_and_behind_garbage() {
    let form = crate::codec::aac::adts_form(&[0x11, 0x90]).unwrap();
    let adts = |fill: u8| [&form.header(60).unwrap()[..], &[fill; 60]].concat();
    let stream: Vec<u8> = (1..=6).flat_map(adts).collect();
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x31));
    tables(&[(0x0f, 0x31), (0x0f, 0x32), (0x02, 0x33)], &mut out);
    // Two frames and the head of the third; its rest and the fourth, which has the stamp; garbage.
    packets(&mut pid, &pes_packet(0xc0, Some(1000), &stream[..140]), &mut out);
    packets(&mut pid, &pes_packet(0xc0, Some(2000), &stream[140..4 * 67]), &mut out);
    let garbage = [&[0xff, 0x12, 3][..], &stream[4 * 67..]].concat();
    packets(&mut pid, &pes_packet(0xc0, Some(3000), &garbage), &mut out);
    let found = demux(&out);
    let told: Vec<_> =
        found.frames.iter().map(|frame| (frame.dts.to_millis(), frame.payload[0])).collect();
    let frame_ms = |count: i64| (count * 1024 * 1000 + 24_000) / 48_000;
    let expected = [
        (1000, 1),
        (1000 + frame_ms(1), 2),
        (1000 + frame_ms(2), 3),
        (2000, 4),
        (3000, 5),
        (3000 + frame_ms(1), 6),
    ];
    assert_eq!(told, expected);
    let damage = Damage { skipped_audio_bytes: 3, ..Damage::default() };
    assert_eq!((found.damage, found.ignored.other_streams), (damage, 2));
    // What looks like a header by chance is found out where its frame would end.
    let chance = [&[0xff, 0xf1, 3][..], &stream.repeat(30)].concat();
    packets(&mut pid, &pes_packet(0xc0, Some(4000), &chance), &mut out);
    let found = demux(&out);
    assert_eq!((found.frames.len(), found.tracks.len()), (6 + 180, 1));
    assert_eq!(found.damage.skipped_audio_bytes, 6);
}

#[test]
fn substreams_stay_with_the_access_unit_they_belong_to() {
    // Enhanced AC-3 of 64 bytes and 6 blocks, then a dependent substream of 32 bytes.
    let independent = [&[0x0b, 0x77, 0x00, 31, 0x34, 0x80][..], &[1; 58]].concat();
    let dependent = [&[0x0b, 0x77, 0x40, 15, 0x34, 0x80][..], &[2; 26]].concat();
    let both = [&independent[..], &dependent].concat();
    let (mut out, mut pid) = (Vec::new(), packet::Pid::new(0x31));
    tables(&[(0x87, 0x31)], &mut out);
    packets(&mut pid, &pes_packet(0xbd, Some(1000), &both.repeat(2)), &mut out);
    // A dependent one without what it belongs to, and more of them than any stream has.
    packets(&mut pid, &pes_packet(0xbd, Some(2000), &both), &mut out);
    packets(&mut pid, &pes_packet(0xbd, Some(3000), &dependent), &mut out);
    let endless = [&independent[..], &dependent.repeat(1500)].concat();
    packets(&mut pid, &pes_packet(0xbd, Some(4000), &endless), &mut out);
    let found = demux(&out);
    let told = |frame: &Frame| (frame.dts.to_millis(), frame.payload.len());
    let told: Vec<_> = found.frames.iter().map(told).collect();
    assert_eq!(told[..3], [(1000, 96), (1032, 96), (2000, 96)]);
    assert_eq!((told.len(), told[3].0), (4, 4000));
    assert!(told[3].1 <= (1 << 15) + 32);
}
