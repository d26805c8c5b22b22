//! Times of frames, good and hostile, through the builder.

use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{h264_aac, read_back};
use super::*;
use crate::media::{Codec, Frame, FrameKind, Timestamp, VideoInfo};

fn frame(kind: FrameKind, dts_ms: i64, composition_ms: i64) -> Frame {
    let dts = Timestamp::from_millis(dts_ms);
    let composition_offset = composition_ms * 1_000_000;
    Frame { kind, dts, composition_offset, payload: Bytes::from_static(b"\0\0\0\x01\x65") }
}

fn video_builder() -> FragmentBuilder {
    let info = VideoInfo { width: 16, height: 16, frame_rate: 25.0 };
    FragmentBuilder::video(&Track { codec: Codec::H264, config: Bytes::new(), info })
}

fn aac_builder(sample_rate: u32) -> FragmentBuilder {
    let config = Bytes::from_static(if sample_rate == 44_100 { b"\x12\x10" } else { b"\x11\x90" });
    let info = AudioInfo { sample_rate, channels: 2, sample_bits: 16 };
    FragmentBuilder::audio(&Track { codec: Codec::Aac, config, info })
}

/// The samples of written fragments by `(decode time, duration, composition offset)`.
fn samples_of(fragments: &[u8]) -> Vec<(u64, u32, i32)> {
    let init = init_segment(&h264_aac().tracks, Selection::Both).unwrap().bytes;
    let (_, fragments) = read_back(&[&init[..], fragments].concat().into());
    let samples = fragments.into_iter().flat_map(|fragment| fragment.tracks);
    let samples = samples.flat_map(|track| track.samples);
    samples.map(|one| (one.decode_time, one.duration, one.composition_offset)).collect()
}

#[test]
fn the_newest_frame_begins_the_next_fragment() {
    let (mut builder, mut out) = (video_builder(), Vec::new());
    assert_eq!(builder.base_decode_time(), None);
    assert_eq!(builder.cut(&mut out, 1, None), None);
    for at in 0..6 {
        let kind = if at == 5 { FrameKind::Keyframe } else { FrameKind::Inter };
        builder.push(&frame(kind, 1000 + 40 * at, 0));
    }
    builder.push(&frame(FrameKind::Audio, 1, 0));
    assert_eq!((builder.base_decode_time(), builder.duration()), (Some(90_000), 18_000));
    let first = builder.cut(&mut out, 1, None).unwrap();
    assert_eq!((first.base_decode_time, first.duration, first.samples), (90_000, 18_000, 5));
    assert_eq!((first.bytes, first.starts_with_keyframe), (out.len(), false));
    // Alone it can only be finished; for as long as the frame before, as nothing else is known.
    assert_eq!(builder.cut(&mut out, 2, None), None);
    assert_eq!(builder.payload_bytes(), 5);
    let last = builder.finish(None, &mut out, 2, None).unwrap();
    assert_eq!((last.base_decode_time, last.duration, last.samples), (108_000, 3600, 1));
    assert!(last.starts_with_keyframe);
    assert_eq!(builder.finish(None, &mut out, 3, None), None);
    assert_eq!(samples_of(&out).len(), 6);
    assert_eq!((builder.payload_bytes(), builder.counts()), (0, BuilderCounts::default()));
}

#[test]
fn the_last_frame_lasts_until_the_end_that_is_given() {
    let duration = |end_ms: Option<i64>| {
        let (mut builder, mut out) = (video_builder(), Vec::new());
        builder.push(&frame(FrameKind::Keyframe, 0, 0));
        builder.finish(end_ms.map(Timestamp::from_millis), &mut out, 1, None).unwrap().duration
    };
    assert_eq!(duration(Some(100)), 9000);
    // At its own time, before it, and unknown: as long as the frame rate says.
    assert_eq!([duration(Some(0)), duration(Some(-5)), duration(None)], [3600; 3]);
}

#[test]
fn sound_in_milliseconds_gets_its_true_durations() {
    let (mut builder, mut out) = (aac_builder(44_100), Vec::new());
    for at in 0..1000i64 {
        // Truncated, as most encoders do it.
        builder.push(&frame(FrameKind::Audio, at * 1024 * 1000 / 44_100, 0));
    }
    builder.finish(None, &mut out, 1, None);
    let samples = samples_of(&out);
    assert!(samples.iter().all(|(_, duration, _)| *duration == 1024));
    assert_eq!(samples[999].0, 999 * 1024);
    assert_eq!(builder.counts(), BuilderCounts::default());
}

#[test]
fn gaps_and_other_clocks_of_sound_are_kept() {
    // A gap of one second; then a clock 1 % fast, followed within 2 ms for ever.
    let (mut builder, mut out) = (aac_builder(48_000), Vec::new());
    let mut times: Vec<i64> = (0..10).map(|at| at * 1024 * 1000 / 48_000).collect();
    times.extend((0..1000).map(|at| 1300 + at * 1034 * 1000 / 48_000));
    for time in &times {
        builder.push(&frame(FrameKind::Audio, *time, 0));
    }
    builder.finish(None, &mut out, 1, None);
    let samples = samples_of(&out);
    for (sample, time) in samples.iter().zip(&times) {
        assert!((sample.0 as i64 - time * 48).abs() <= 96, "{sample:?} {time}");
    }
    assert_eq!(samples[10].0, 1300 * 48);
    let unequal = samples.iter().filter(|(_, duration, _)| *duration != 1024).count();
    assert!((50..200).contains(&unequal), "{unequal}");
}

#[test]
fn sound_beyond_the_boundary_stays_for_the_next_part() {
    let (mut builder, mut out) = (aac_builder(48_000), Vec::new());
    let boundary = Timestamp::from_millis(100);
    assert_eq!(builder.cut_before(boundary, &mut out, 1, None), None);
    for at in 0..12 {
        builder.push(&frame(FrameKind::Audio, at * 64 / 3, 0));
    }
    // Frames at 0, 21.3, … 85.3 ms begin before it.
    let part = builder.cut_before(boundary, &mut out, 1, None).unwrap();
    assert_eq!((part.samples, part.duration), (5, 5 * 1024));
    assert_eq!(builder.cut_before(boundary, &mut out, 2, None), None);
    assert_eq!(builder.base_decode_time(), Some(5 * 1024));
    let part = builder.cut_before(Timestamp::from_millis(9000), &mut out, 2, None).unwrap();
    assert_eq!((part.base_decode_time, part.samples), (5 * 1024, 6));
}

#[test]
fn times_that_go_back_are_moved_and_keep_their_presentation() {
    let (mut builder, mut out) = (video_builder(), Vec::new());
    for (dts, composition) in [(-40, 40), (0, 80), (0, 40), (-500, 600), (40, 0)] {
        builder.push(&frame(FrameKind::Inter, dts, composition));
    }
    let first = builder.finish(None, &mut out, 1, None).unwrap();
    assert_eq!(first.base_decode_time, 0);
    let samples = samples_of(&out);
    let times: Vec<_> = samples.iter().map(|(time, ..)| *time).collect();
    assert_eq!(times, [0, 1, 2, 3, 3600]);
    let presented: Vec<_> =
        samples.iter().map(|(time, _, offset)| *time as i64 + i64::from(*offset)).collect();
    assert_eq!(presented, [0, 7200, 3600, 9000, 3600]);
    // The last is as long as the one before; what follows cannot begin earlier than its end.
    builder.push(&frame(FrameKind::Inter, 41, 0));
    assert_eq!(builder.base_decode_time(), Some(3600 + 3597));
    assert_eq!(builder.counts().moved, 5);
}

#[test]
fn times_far_ahead_are_reached_in_steps_of_32_bits() {
    let (mut builder, mut out) = (video_builder(), Vec::new());
    builder.push(&frame(FrameKind::Keyframe, 0, 0));
    builder.push(&frame(FrameKind::Inter, i64::MAX / 1_000_000, 0));
    let part = builder.cut(&mut out, 1, None).unwrap();
    assert_eq!((part.duration, builder.counts().moved), (u32::MAX.into(), 1));
}

#[test]
fn what_a_fragment_cannot_hold_is_dropped() {
    let (mut builder, mut out) = (video_builder(), Vec::new());
    let payload = Bytes::from(vec![0; 1 << 26]);
    for at in 0..17 {
        let payload = payload.clone();
        builder.push(&Frame { payload, ..frame(FrameKind::Inter, at, 0) });
    }
    assert_eq!((builder.payload_bytes(), builder.counts().dropped), (FRAGMENT_BYTES_MAX, 1));
    let sample = Sample { duration: 1, composition_offset: 0, kind: FrameKind::Inter, payload };
    let head = FragmentHead {
        track: TrackKind::Video,
        sequence_number: 1,
        base_decode_time: 0,
        ntp_timestamp: None,
    };
    assert_eq!(write_fragment(&mut out, &head, &vec![sample; 17]), Err(FragmentTooLarge));
    assert!(out.is_empty());
}

#[test]
fn temporal_delimiters_are_no_part_of_a_sample() {
    let info = VideoInfo::default();
    let track = Track { codec: Codec::Av1, config: Bytes::new(), info };
    let (mut builder, mut out) = (FragmentBuilder::video(&track), Vec::new());
    let payload = Bytes::from_static(&[0x12, 0, 0x32, 1, 0]);
    builder.push(&Frame { payload, ..frame(FrameKind::Keyframe, 0, 0) });
    builder.finish(None, &mut out, 1, None);
    assert!(out.ends_with(&[b'd', b'a', b't', 0x32, 1, 0]));
}

proptest! {
    /// Whatever times come and wherever it is cut: fragments follow each other without a gap,
    /// every duration is more than 0, they add up, and what is written is what was said.
    #[test]
    fn durations_add_up(
        steps in prop::collection::vec((-30i64..200, -50i64..300, any::<u8>()), 2..200),
        audio in any::<bool>(),
    ) {
        let mut builder = if audio { aac_builder(44_100) } else { video_builder() };
        let kind = if audio { FrameKind::Audio } else { FrameKind::Inter };
        let (mut time, mut out, mut written) = (0, Vec::new(), Vec::new());
        for (sequence_number, (step, composition, choice)) in (0u32..).zip(&steps) {
            time += step;
            builder.push(&frame(kind, time, *composition));
            match choice % 8 {
                0 => written.extend(builder.cut(&mut out, sequence_number, None)),
                1 => {
                    let boundary = Timestamp::from_millis(time - 50);
                    written.extend(builder.cut_before(boundary, &mut out, sequence_number, None));
                }
                2 if *choice > 200 => {
                    let end = Timestamp::from_millis(time + 10);
                    written.extend(builder.finish(Some(end), &mut out, sequence_number, None));
                    // What comes next may leave a gap; it begins the next fragment.
                    break;
                }
                _ => {}
            }
        }
        written.extend(builder.finish(None, &mut out, u32::MAX, None));
        let samples = samples_of(&out);
        prop_assert!(samples.iter().all(|(_, duration, _)| *duration > 0));
        prop_assert_eq!(samples.len(), written.iter().map(|one| one.samples).sum::<usize>());
        let mut rest = &samples[..];
        for (at, fragment) in written.iter().enumerate() {
            let (own, next) = rest.split_at(fragment.samples);
            rest = next;
            prop_assert_eq!(own[0].0, fragment.base_decode_time);
            let sum: u64 = own.iter().map(|(_, duration, _)| u64::from(*duration)).sum();
            prop_assert_eq!(sum, fragment.duration);
            if let Some(next) = written.get(at + 1) {
                prop_assert_eq!(fragment.base_decode_time + sum, next.base_decode_time);
            }
        }
        prop_assert_eq!(out.len(), written.iter().map(|one| one.bytes).sum::<usize>());
    }
}
