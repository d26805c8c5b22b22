//! Packets of ffmpeg come out as the frames ffprobe found in what was sent.

use super::{CAPTURES, Capture};
use crate::media::{Codec, Frame, FrameKind};

/// Presentation and decode time in microseconds, size, keyframe. The decode time of the first
/// pictures is not known to all.
type Row = (i64, Option<i64>, usize, bool);

fn rows(capture: &Capture, kind: &str) -> Vec<Row> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let micros =
            |at: usize| fields[at].parse().ok().map(|time: f64| (time * 1e6).round() as i64);
        let (kind_of, keyframe) = (fields[0], fields.get(4)?.starts_with('K'));
        let row = || Some((micros(1)?, micros(2), fields[3].parse().ok()?, keyframe));
        (kind_of == kind).then(|| row().unwrap())
    };
    capture.packets.lines().filter(|line| !line.is_empty()).filter_map(row).collect()
}

fn check(frames: &[Frame], rows: &[Row], in_band: (usize, usize), name: &str) {
    assert_eq!(frames.len(), rows.len(), "{name}");
    let first = (frames[0].pts(), rows[0].0);
    for (at, (frame, row)) in frames.iter().zip(rows).enumerate() {
        let pts = (frame.pts() - first.0) / 1000;
        // Containers round to milliseconds, timestamps to their ticks.
        let near = |found: i64, expected: i64| (found - expected).abs() <= 1200;
        assert!(near(pts, row.0 - first.1), "{name}, frame {at}: {pts} for {}", row.0 - first.1);
        let offset = frame.composition_offset / 1000;
        let known = row.1.is_none_or(|dts| near(offset, row.0 - dts));
        assert!(known, "{name}, frame {at}: {offset}");
        let sets = if frame.kind == FrameKind::Keyframe { in_band.1 } else { 0 };
        let taken_out = if frame.kind.is_video() { in_band.0 + sets } else { 0 };
        assert_eq!(frame.payload.len() + taken_out, row.2, "{name}, frame {at}");
        if frame.kind.is_video() {
            assert_eq!(frame.kind == FrameKind::Keyframe, row.3, "{name}, frame {at}");
        }
    }
}

#[test]
fn every_frame_comes_out_with_its_times() {
    for capture in &CAPTURES {
        let received = capture.received();
        let name =
            capture.sdp.lines().filter(|line| line.starts_with("a=rtpmap")).collect::<String>();
        check(&received.of(true), &rows(capture, "video"), capture.in_band, &name);
        let audio = rows(capture, "audio");
        let sound = received.of(false);
        assert_eq!(sound.len(), audio.len() - capture.unsent, "{name}");
        let steady = sound.len() - capture.moved;
        check(&sound[..steady], &audio[..steady], (0, 0), &name);
        let receiver = received.receiver.unwrap();
        for track in 0..2 {
            let account = receiver.statistics(track);
            let faults = (account.lost, account.malformed_payloads, account.discarded_frames);
            assert_eq!((faults, account.moved_frames), ((0, 0, 0), 0), "{name}");
        }
    }
}

#[test]
fn tracks_are_those_of_the_description() {
    let told = |capture: &Capture| {
        let received = capture.received();
        assert_eq!(received.tracks.len(), 1);
        let (video, audio) = (received.tracks[0].video.clone(), received.tracks[0].audio.clone());
        let (video, audio) = (video.unwrap(), audio.unwrap());
        // AV1 is coded in whole blocks of 8; its frame size is what the sequence header says.
        assert_eq!((video.info.width, video.info.height), (160, 90));
        assert!(!video.config.is_empty());
        (video.codec, audio.codec, audio.info.sample_rate, audio.info.channels)
    };
    let expected = [
        (Codec::H264, Codec::Aac, 48_000, 1),
        (Codec::H265, Codec::Opus, 48_000, 1),
        (Codec::Vp8, Codec::Mp3, 48_000, 1),
        (Codec::Vp9, Codec::G711A, 8000, 1),
        (Codec::Av1, Codec::Aac, 48_000, 1),
        (Codec::H264, Codec::Aac, 48_000, 1),
    ];
    assert_eq!(CAPTURES.each_ref().map(told), expected);
}

#[test]
fn both_tracks_stand_on_one_clock() {
    for capture in &CAPTURES {
        let received = capture.received();
        // At the end, for GStreamer sends the first report of both tracks seconds into the stream.
        let (video, audio) = (received.of(true), received.of(false));
        let (last_video, last_audio) = (video.len() - 1, audio.len() - 1);
        let apart = audio[last_audio].pts() - video[last_video].pts();
        // Two outputs of ffmpeg count from two moments, which are some milliseconds apart, and each
        // is moved so that its first decode time is not negative.
        let of = |kind: &str, at: usize| {
            let rows = rows(capture, kind);
            rows[at].0 - rows[0].1.unwrap_or(0).min(0)
        };
        let expected = (of("audio", last_audio) - of("video", last_video)) * 1000;
        assert!((apart - expected).abs() < 20_000_000, "{apart} for {expected}");
    }
}

#[test]
fn any_end_of_a_capture_holds_no_broken_frame() {
    for capture in &CAPTURES {
        let whole = capture.received();
        let mut pictures = 0;
        for skipped in (1..40).step_by(3) {
            let epoch = crate::fuzzing::virtual_epoch();
            let mut receiver = super::Receiver::new(epoch, 1, super::LIMITS, capture.formats());
            for (channel, arrival, datagram) in capture.datagrams().into_iter().skip(skipped) {
                super::deliver(&mut receiver, epoch + arrival, channel, &datagram);
            }
            let mut received = super::Received::default();
            received.take(&mut receiver);
            let video = received.of(true);
            assert!(video.first().is_none_or(|frame| frame.kind == FrameKind::Keyframe));
            let known = whole.of(true);
            pictures += video.len();
            for frame in video {
                // Remarks in front of the first slice may be missing, for that is no part of it.
                let same = |known: &Frame| known.payload.ends_with(&frame.payload);
                assert!(known.iter().any(same), "{} of {} bytes", capture.sdp, frame.payload.len());
            }
        }
        assert!(pictures > 0, "none of any end of {}", capture.sdp);
    }
}
