//! Files of an encoder, and what is muxed read again.

use proptest::prelude::*;

use super::*;

#[test]
fn files_of_an_encoder_hold_what_its_own_probe_says() {
    for golden in GOLDEN {
        let name = golden.name;
        let found = demux_pieces(golden.file.chunks(1316));
        assert_eq!(found.damage, Damage::default(), "{name}");
        assert_eq!(found.ignored, Ignored::default(), "{name}");
        let [tracks] = &found.tracks[..] else { panic!("{name}: {:?}", found.tracks) };
        assert_eq!(tracks.video.as_ref().map(|track| track.codec), golden.video, "{name}");
        if let Some(video) = &tracks.video {
            assert_eq!((video.info.width, video.info.height), (160, 90), "{name}");
        }
        let audio = tracks.audio.as_ref().unwrap();
        assert_eq!(audio.codec, golden.audio, "{name}");
        assert_eq!((audio.info.sample_rate, audio.info.channels), golden.audio_info, "{name}");

        let audio_index = if golden.video.is_some() { "1" } else { "0" };
        let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
        for line in golden.packets.lines() {
            let fields: Vec<_> = line.split(',').collect();
            let times: [i64; 2] = [1, 2].map(|at: usize| fields[at].parse().unwrap());
            let list = if fields[0] == audio_index { &mut sounds } else { &mut pictures };
            list.push((times[0], times[1], fields[3].starts_with('K')));
        }
        let ticks = |frame: &&Frame| {
            let key = frame.kind == FrameKind::Keyframe;
            (frame.pts().to_ticks(TICKS), frame.dts.to_ticks(TICKS), key)
        };
        assert_eq!(found.pictures().iter().map(ticks).collect::<Vec<_>>(), pictures, "{name}");
        assert_eq!(found.sounds().len(), sounds.len(), "{name}");
        for (ours, theirs) in found.sounds().iter().map(ticks).zip(sounds) {
            // The probe rounds frame after frame where a rate does not divide the clock's.
            assert!((ours.0 - theirs.0).abs() <= 1, "{name}: {ours:?} {theirs:?}");
        }
    }
}

#[test]
fn the_cut_of_the_input_does_not_matter() {
    for golden in GOLDEN {
        let whole = demux(golden.file);
        for piece in [1, 187, 188, 189, 5000] {
            let found = demux_pieces(golden.file.chunks(piece));
            assert_eq!((found.frames, found.tracks), (whole.frames.clone(), whole.tracks.clone()));
        }
    }
}

#[test]
fn what_is_muxed_demuxes_to_the_same() {
    for golden in GOLDEN {
        let first = demux(golden.file);
        let muxed = mux(&first.tracks[0], &first.frames);
        let second = demux(&muxed);
        assert_eq!(second.damage, Damage::default());
        assert_eq!(second.ignored, Ignored::default());
        assert_eq!(second.tracks, first.tracks, "{}", golden.name);
        // Pictures end at their length, so that the order stays too.
        let (ours, theirs) = (all_seen(&second.frames, 0), all_seen(&first.frames, TIME_BASE_MS));
        assert!(ours == theirs, "{}", golden.name);
    }
}

#[test]
fn parameter_sets_of_other_containers_go_before_keyframes() {
    for (file, rate) in [
        (&include_bytes!("../../flv/testdata/h264_aac.flv")[..], 25.0),
        (include_bytes!("../../flv/testdata/h265_opus.flv"), 0.0),
        (include_bytes!("../../flv/testdata/h264_ac3.flv"), 25.0),
        (include_bytes!("../../flv/testdata/h264_mp3.flv"), 25.0),
    ] {
        let (tracks, frames) = flv_file(file);
        let found = demux(&mux(&tracks, &frames));
        assert_eq!(found.damage, Damage::default());
        let (ours, theirs) = (found.tracks[0].video.as_ref(), tracks.video.as_ref());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(ours.codec, theirs.codec);
        assert_eq!((ours.info.width, ours.info.height), (160, 90));
        assert!((ours.info.frame_rate - rate).abs() < 0.01);
        let times = |frames: &[Frame], moved: i64| -> Vec<_> {
            let each = frames.iter().map(|frame| seen(frame, moved));
            each.map(|(pts, dts, kind, _)| (pts, dts, kind)).collect()
        };
        assert_eq!(times(&found.frames, 0), times(&frames, TIME_BASE_MS));
        // Every keyframe stands for itself: what follows its tables can be read alone.
        let muxed = mux(&tracks, &frames);
        let pat = |packet: &[u8]| packet[1..3] == [0x40, 0];
        let starts: Vec<_> = (0..muxed.len() / PACKET_BYTES)
            .filter(|at| pat(&muxed[at * PACKET_BYTES..][..PACKET_BYTES]))
            .collect();
        assert!(starts.len() >= 3);
        let keyframes = frames.iter().filter(|frame| frame.kind == FrameKind::Keyframe).count();
        let last = demux(&muxed[starts[starts.len() - 1] * PACKET_BYTES..]);
        assert_eq!((last.tracks.len(), last.damage), (1, Damage::default()));
        assert!(last.pictures()[0].kind == FrameKind::Keyframe && keyframes == 3);
    }
}

#[test]
fn time_goes_on_where_stamps_wrap() {
    let wrap_ms = clock::WRAP / 90;
    let from = wrap_ms - TIME_BASE_MS - 500;
    let frames = [second(from), second(from + 1000)].concat();
    let found = demux(&mux(&tracks(), &frames));
    assert_eq!(found.damage, Damage::default());
    assert_eq!(all_seen(&found.frames, 0), all_seen(&frames, TIME_BASE_MS));
    // What begins before the base of written times begins near their end.
    let frames = second(-1500);
    let found = demux(&mux(&tracks(), &frames));
    let expected: Vec<_> = all_seen(&frames, TIME_BASE_MS)
        .into_iter()
        .map(|(pts, dts, ..)| (pts + clock::WRAP, dts + clock::WRAP))
        .collect();
    let told: Vec<_> =
        all_seen(&found.frames, 0).into_iter().map(|(pts, dts, ..)| (pts, dts)).collect();
    assert_eq!(told, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_of_any_size_come_through_in_any_pieces(
        sizes in prop::collection::vec((1usize..2000, 1usize..4000), 1..12),
        huge in prop::option::of(60_000usize..140_000),
        offsets in prop::collection::vec(0i64..4, 12),
        piece in 1usize..3000,
    ) {
        let mut frames = Vec::new();
        for (at, (video, audio)) in sizes.iter().enumerate() {
            let ms = at as i64 * 40;
            let kind = if at == 0 { FrameKind::Keyframe } else { FrameKind::Disposable };
            let bytes = huge.filter(|_| at == sizes.len() / 2).unwrap_or(*video);
            let mut picture = picture(kind, ms, bytes);
            picture.composition_offset = offsets[at] * 40_000_000;
            frames.push(picture);
            frames.push(frame(FrameKind::Audio, ms, vec![at as u8; *audio]));
        }
        let muxed = mux(&tracks(), &frames);
        let found = demux_pieces(muxed.chunks(piece));
        prop_assert_eq!(found.damage, Damage::default());
        prop_assert_eq!(found.ignored, Ignored::default());
        let video = |frame: &&Frame| frame.kind.is_video();
        prop_assert_eq!(
            all_seen(found.pictures(), 0),
            all_seen(frames.iter().filter(video), TIME_BASE_MS)
        );
        prop_assert_eq!(
            all_seen(found.sounds(), 0),
            all_seen(frames.iter().filter(|frame| !video(frame)), TIME_BASE_MS)
        );
    }
}
