//! Files of an encoder cut at their keyframes: each segment plays alone, all of them together are
//! the file, and their lengths add up to its.

use super::*;
use crate::container::ts::packet::{self, Pid};
use crate::container::ts::scan::tables::Tables;
use crate::container::ts::tests::{
    Demuxed, GOLDEN, demux, demux_pieces, hostile, mux, second, tables, tracks,
};
use crate::container::ts::{Muxer, PACKET_BYTES, psi};
use crate::media::{Frame, FrameKind, Timestamp};

fn scan(bytes: &[u8], target: Duration, step: usize) -> Result<Cuts, ScanError> {
    let mut scanner = Scanner::new(target);
    bytes.chunks(step).try_for_each(|piece| scanner.push(piece))?;
    scanner.finish()
}

fn cut(bytes: &[u8]) -> Cuts {
    scan(bytes, Duration::ZERO, 65_536).unwrap()
}

fn bytes_of(segment: &Segment, file: &[u8]) -> Vec<u8> {
    let piece = |range: &Range<u64>| &file[range.start as usize..range.end as usize];
    segment.ranges.iter().flat_map(piece).copied().collect()
}

/// Kind, DTS, PTS and payload.
type Seen<'a> = (FrameKind, i64, i64, &'a [u8]);

fn seen(frames: &[Frame]) -> Vec<Seen<'_>> {
    let ticks = |time: Timestamp| time.to_ticks(90_000) % (1 << 33);
    let mut seen: Vec<_> = frames
        .iter()
        .map(|frame| (frame.kind, ticks(frame.dts), ticks(frame.pts()), &frame.payload[..]))
        .collect();
    // Streams are held back for each other at a beginning: only the order of each is a promise.
    seen.sort_by_key(|(kind, dts, ..)| (!kind.is_video(), *dts));
    seen
}

/// Frames of all segments, each read by itself.
fn alone(cuts: &Cuts, file: &[u8]) -> Vec<Demuxed> {
    cuts.segments.iter().map(|segment| demux(&bytes_of(segment, file))).collect()
}

/// The sound of the frames made to order has 1024 samples, which is more than the 20 ms they are
/// apart: the last one ends late.
fn near(duration: Duration, ms: u64) -> bool {
    duration.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(2)
}

fn total(cuts: &Cuts) -> Duration {
    cuts.segments.iter().map(|segment| segment.duration).sum()
}

#[test]
fn segments_play_alone_and_are_the_file() {
    for golden in &GOLDEN {
        let name = golden.name;
        for step in [188, 1000, 65_536] {
            let cuts = scan(golden.file, Duration::ZERO, step).unwrap();
            assert_eq!(cuts, cut(golden.file), "{name} {step}");
        }
        let cuts = cut(golden.file);
        assert_eq!((cuts.skipped_bytes, cuts.unreachable_bytes), (0, 0), "{name}");
        assert!(cuts.segments.len() > 1, "{name}: {} segments", cuts.segments.len());
        assert!(cuts.segments.iter().all(|segment| !segment.discontinuity));
        let (whole, parts) = (demux(golden.file), alone(&cuts, golden.file));
        for part in &parts {
            assert_eq!(part.damage, Default::default(), "{name}");
            assert_eq!(part.ignored.before_keyframe, 0, "{name}");
            assert_eq!(part.tracks[0].video.is_some(), golden.video.is_some(), "{name}");
        }
        // One after the other they are the file, and but for LATM, which tells its configuration
        // once in a while, so they are each for itself.
        let pieces: Vec<_> = cuts.segments.iter().map(|s| bytes_of(s, golden.file)).collect();
        let joined = demux_pieces(pieces.iter().map(Vec::as_slice));
        assert!(seen(&joined.frames) == seen(&whole.frames), "{name}");
        let frames: Vec<Frame> = parts.into_iter().flat_map(|part| part.frames).collect();
        let (frames, whole) = (seen(&frames), seen(&whole.frames));
        let is_latm = name == "h264_latm";
        assert!(frames.iter().all(|frame| whole.contains(frame)), "{name}");
        assert!(is_latm == (frames.len() < whole.len()), "{name}: {} frames", frames.len());
        // From the first presentation time to the end of the last frame, as ffprobe has them.
        let rows = golden.packets.lines().map(|row| row.split(',').collect::<Vec<_>>());
        let pts: Vec<(bool, i64)> =
            rows.map(|row| (row[0] == "0", row[1].parse().unwrap())).collect();
        let (rate, _) = golden.audio_info;
        let last = |first| pts.iter().filter(|(is, _)| *is == first).map(|(_, pts)| *pts).max();
        let (of_video, of_audio) = if golden.video.is_some() {
            (last(true).unwrap() + 3600, last(false).unwrap())
        } else {
            (0, last(true).unwrap())
        };
        // The last frame of sound is no shorter than 20 ms and no longer than 35.
        let first = pts.iter().map(|(_, pts)| *pts).min().unwrap();
        let ends = of_video.max(of_audio + 1800) - first..=of_video.max(of_audio + 3150) - first;
        let ticks = (total(&cuts).as_nanos() * 9 + 50_000) / 100_000;
        assert!(ends.contains(&(ticks as i64)), "{name} at {rate}: {ticks} {ends:?}");
        // One that is longer than the file has everything.
        let one = scan(golden.file, Duration::from_secs(60), 65_536).unwrap();
        assert_eq!((one.segments.len(), total(&one)), (1, total(&cuts)), "{name}");
        assert_eq!(bytes_of(&one.segments[0], golden.file), golden.file, "{name}");
    }
}

#[test]
fn segments_are_as_long_as_asked_for() {
    let frames: Vec<Frame> = (0..10).flat_map(|at| second(at * 1000)).collect();
    let file = mux(&tracks(), &frames);
    let cuts = scan(&file, Duration::from_secs(4), 65_536).unwrap();
    let lengths: Vec<Duration> = cuts.segments.iter().map(|segment| segment.duration).collect();
    // The last picture ends at 10 s.
    assert_eq!(lengths[..2], [Duration::from_secs(4); 2]);
    assert!(lengths.len() == 3 && near(lengths[2], 2000), "{lengths:?}");
    assert!(cuts.segments.iter().all(|segment| segment.ranges.len() == 1));
}

#[test]
fn tables_are_put_in_front_where_there_are_none() {
    // One PAT and PMT at the beginning of the file only.
    let frames: Vec<Frame> = (0..3).flat_map(|at| second(at * 1000)).collect();
    let (mut muxer, mut file) = (Muxer::new(&tracks()), Vec::new());
    muxer.write_tables(&mut file);
    for frame in &frames {
        assert!(muxer.write_frame(frame, &mut file));
    }
    let cuts = cut(&file);
    assert_eq!(cuts.segments.len(), 3);
    assert_eq!(cuts.segments[1].ranges[..2], [0..188, 188..376]);
    let parts = alone(&cuts, &file);
    let frames_of: Vec<usize> = parts.iter().map(|part| part.frames.len()).collect();
    assert_eq!(frames_of, [75, 75, 75]);
    assert!(parts.iter().all(|part| part.damage == Default::default()));
}

#[test]
fn time_wraps_and_begins_anew() {
    // The first 33-bit stamp is 2 s before the wrap.
    let wrap_ms = (1i64 << 33) / 90 - 1000;
    let frames: Vec<Frame> = (0..4).flat_map(|at| second(wrap_ms - 2000 + at * 1000)).collect();
    let wrapping = mux(&tracks(), &frames);
    let cuts = cut(&wrapping);
    assert_eq!(cuts.segments.len(), 4);
    assert!(cuts.segments.iter().all(|s| !s.discontinuity), "a wrap is no discontinuity");
    assert!(near(total(&cuts), 4000), "{:?}", total(&cuts));
    // Files one after the other, backwards and far ahead.
    let file = |ms| mux(&tracks(), &[second(ms), second(ms + 1000)].concat());
    for (first, then) in [(0, 0), (50_000, 0), (0, 500_000), (0, 1800)] {
        let both = [file(first), file(then)].concat();
        let cuts = cut(&both);
        let marks: Vec<bool> = cuts.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(marks, [false, false, true, false], "{first} {then}");
        // Both files end late.
        assert!(near(total(&cuts), 4001), "{first} {then}: {:?}", total(&cuts));
        assert_eq!(alone(&cuts, &both).iter().map(|part| part.frames.len()).sum::<usize>(), 300);
    }
    // Pictures missing for a second are part of the timeline.
    let gap = cut(&mux(&tracks(), &[second(0), second(2000)].concat()));
    assert!(gap.segments.len() == 2 && near(total(&gap), 3000), "{gap:?}");
}

#[test]
fn other_streams_or_parameter_sets_are_a_discontinuity() {
    let of = |name| GOLDEN.iter().find(|golden| golden.name == name).unwrap().file;
    for (first, then) in [("h264_aac", "h264_mp3"), ("h264_aac", "h265_aac"), ("h264_ac3", "eac3")]
    {
        let (first, then) = (of(first), of(then));
        let both = [first, then].concat();
        let (a, b, cuts) = (cut(first), cut(then), cut(&both));
        assert_eq!(cuts.segments.len(), a.segments.len() + b.segments.len());
        let marks: Vec<usize> =
            (0..cuts.segments.len()).filter(|at| cuts.segments[*at].discontinuity).collect();
        assert_eq!(marks, [a.segments.len()]);
        assert_eq!(total(&cuts), total(&a) + total(&b));
    }
}

#[test]
fn what_cannot_be_shown_is_left_out() {
    let file = mux(&tracks(), &[second(0), second(1000), second(2000)].concat());
    // Garbage inside the second second, a beginning inside the first.
    let (packets, half) = (file.len() / PACKET_BYTES, file.len() / 2 / PACKET_BYTES * PACKET_BYTES);
    let damaged = [&file[20 * PACKET_BYTES + 31..half], &[0x11; 500], &file[half..]].concat();
    let cuts = cut(&damaged);
    assert_eq!(cuts.segments.len(), 2);
    assert!(cuts.unreachable_bytes > 0 && cuts.skipped_bytes >= 500 + 157, "{cuts:?}");
    for segment in &cuts.segments {
        let bytes = bytes_of(segment, &damaged);
        let (whole, rest) = bytes.as_chunks::<PACKET_BYTES>();
        assert!(rest.is_empty() && whole.iter().all(|packet| packet[0] == 0x47));
    }
    // The sound behind the last picture that is left out stays.
    assert_eq!(cuts.segments[0].duration, Duration::from_millis(1040));
    // A file that ends early ends there.
    let cuts = cut(&file[..(packets - 30) * PACKET_BYTES + 99]);
    assert_eq!((cuts.segments.len(), cuts.skipped_bytes), (3, 99));
    assert!(total(&cuts) < Duration::from_secs(3));
}

#[test]
fn what_is_no_transport_stream_is_refused() {
    let refused = |bytes: &[u8]| scan(bytes, Duration::ZERO, 65_536).unwrap_err();
    assert_eq!(refused(&[]), ScanError::Ts(TsError::NotTs));
    assert_eq!(refused(&[7; 100_000]), ScanError::Ts(TsError::NotTs));
    let file = GOLDEN[0].file;
    let wide: Vec<u8> =
        file.chunks(PACKET_BYTES).flat_map(|packet| [&[0; 4][..], packet].concat()).collect();
    assert_eq!(refused(&wide), ScanError::Ts(TsError::PacketBytes(192)));
    let mut scrambled = file.to_vec();
    for packet in scrambled.chunks_mut(PACKET_BYTES) {
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        packet[3] |= if (0x100..0x1000).contains(&pid) { 0x80 } else { 0 };
    }
    assert_eq!(refused(&scrambled), ScanError::Scrambled);
    let (mut empty, mut late) = (Vec::new(), Vec::new());
    (0..4).for_each(|_| tables(&[(0x80, 0x30)], &mut empty));
    assert_eq!(refused(&empty), ScanError::NoTrack);
    let frames = second(0);
    late.extend(mux(&tracks(), &frames));
    // The first picture is gone.
    let from = late.chunks(PACKET_BYTES).position(|p| p[1] == 0x41 && p[2] == 1).unwrap();
    let without = [&late[..2 * PACKET_BYTES], &late[from * PACKET_BYTES..]].concat();
    assert_eq!(refused(&without), ScanError::NoKeyframe);
}

#[test]
fn hostile_streams_are_refused_or_cut_where_whole_packets_are() {
    let golden = cut(GOLDEN[0].file);
    for (name, bytes, outcome, _) in hostile::cases() {
        for piece in [bytes.len(), 1316, 1] {
            let found = scan(&bytes, Duration::ZERO, piece);
            if outcome == hostile::Outcome::Nothing {
                assert_eq!(found, Err(ScanError::NoTrack), "{name}");
                continue;
            }
            let found = found.unwrap();
            let ranges = found.segments.iter().flat_map(|segment| &segment.ranges);
            for range in ranges {
                assert!(range.start < range.end && range.end <= bytes.len() as u64, "{name}");
                assert!((range.end - range.start).is_multiple_of(PACKET_BYTES as u64), "{name}");
            }
            if outcome == hostile::Outcome::Whole {
                assert_eq!(found.segments.len(), golden.segments.len(), "{name}");
                assert_eq!(total(&found), total(&golden), "{name}");
            }
        }
    }
}

#[test]
fn sound_plays_without_the_pictures_that_a_table_promises() {
    let mut frames: Vec<Frame> = (0..30).flat_map(|at| second(at * 1000)).collect();
    frames.retain(|frame| frame.kind == FrameKind::Audio);
    let file = mux(&tracks(), &frames);
    let cuts = scan(&file, Duration::from_secs(4), 65_536).unwrap();
    assert!(!cuts.has_video && cuts.segments.len() >= 4, "{}", cuts.segments.len());
    let off = total(&cuts).abs_diff(Duration::from_secs(30));
    assert!(off < Duration::from_millis(40), "{off:?}");
    let pieces: Vec<Vec<u8>> = cuts.segments.iter().map(|s| bytes_of(s, &file)).collect();
    let found = demux_pieces(pieces.iter().map(Vec::as_slice));
    assert_eq!(found.sounds().len(), demux(&file).sounds().len());
}

#[test]
fn the_end_of_a_table_may_stand_in_front_of_the_next() {
    // Two PMTs of two packets each, as one run of sections: the second begins in the packet in
    // which the first one ends, which a player that joins later must get whole.
    let streams = [(0x1b, 0x30), (0x0f, 0x31)];
    let filler: Vec<_> = (0..40).map(|at| (0x06, 0x100 + at)).collect();
    let pmt = |version| {
        let streams = streams.iter().chain(&filler).map(|(stream_type, pid)| psi::PmtStream {
            stream_type: *stream_type,
            pid: *pid,
            descriptors: &[],
        });
        psi::build_pmt(version, 0x30, &streams.collect::<Vec<_>>())
    };
    let (first, second) = (pmt(0), pmt(0));
    let room = PACKET_BYTES - 4;
    let tail = first.len() - (room - 1);
    assert!((1..room / 2).contains(&tail), "{tail}");
    // The second one is not over yet.
    let begun = room - 1 - tail;
    assert!(begun < second.len());
    let transport = |at: u8, payload: &[u8]| {
        let head = [0x47, 0x40, 0x20, 0x10 | at];
        [&head[..], payload].concat()
    };
    let mut file = Vec::new();
    psi::write_section(&mut file, &mut Pid::new(0), &psi::build_pat(0x20));
    file.extend(transport(0, &[&[0], &first[..room - 1]].concat()));
    file.extend(transport(1, &[&[tail as u8], &first[room - 1..], &second[..begun]].concat()));
    let mut tables = Tables::default();
    for (at, bytes) in file.as_chunks().0.iter().enumerate() {
        tables.on_packet((at * PACKET_BYTES) as u64, &packet::parse(bytes).unwrap());
    }
    assert!(tables.selected().video.is_some_and(|(pid, _)| pid == 0x30));
    assert_eq!(tables.entry(10_000).tables, [0..188, 188..564]);
}
