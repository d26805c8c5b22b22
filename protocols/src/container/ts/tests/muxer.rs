//! The form of the output: what another tool says of it, clocks, tables, and what is refused.

use super::*;
use crate::codec::ConfigError;
use crate::codec::opus::build_config;
use crate::media::{AudioInfo, Track, VideoInfo};

/// The output of the muxer for an FLV file with B-frames, as `ffprobe` of ffmpeg 5.1 read it:
///
/// ```text
/// ffprobe -v warning -show_entries packet=stream_index,pts,dts,size,pos,flags \
///     -of csv=p=0 muxed.ts
/// ```
///
/// said nothing but this table. Sizes are those of the elementary streams, positions those of the
/// first packet of each PES packet. The same columns are read here without the demuxer's help.
#[test]
fn the_output_is_what_another_tool_read() {
    let (tracks, frames) = flv_file(include_bytes!("../../flv/testdata/h264_aac.flv"));
    let muxed = mux(&tracks, &frames);
    let (packets, _) = muxed.as_chunks::<PACKET_BYTES>();
    let mut lines = Vec::new();
    for pid in [0x100, 0x101] {
        let mut open: Option<(usize, bool, Vec<u8>)> = None;
        let mut close = |open: Option<(usize, bool, Vec<u8>)>| {
            let Some((at, key, bytes)) = open else { return };
            let pes = pes::parse(&bytes).unwrap();
            let (pts, dts) = pes.stamps.unwrap();
            // Each ADTS frame counts as a key packet, each picture with random access.
            let flags = if pid == 0x101 || key { "K_" } else { "__" };
            let size = pes.payload.len();
            let line = format!("{},{pts},{dts},{size},{},{flags}", pid - 0x100, at * PACKET_BYTES);
            lines.push((at, line));
        };
        for (at, bytes) in packets.iter().enumerate() {
            let packet = packet::parse(bytes).unwrap();
            if packet.pid != pid {
                continue;
            }
            if packet.unit_start {
                let key = bytes[3] & 0x20 != 0 && bytes[4] > 0 && bytes[5] & 0x40 != 0;
                close(open.replace((at, key, Vec::new())));
            }
            open.as_mut().unwrap().2.extend_from_slice(packet.payload.unwrap_or_default());
        }
        close(open);
    }
    let mut table: Vec<&str> = include_str!("../testdata/muxed.packets").lines().collect();
    let position = |line: &&str| line.split(',').nth(4).unwrap().parse::<usize>().unwrap();
    table.sort_by_key(position);
    lines.sort();
    let lines: Vec<_> = lines.iter().map(|(_, line)| &line[..]).collect();
    assert_eq!(lines, table);
}

/// Identifier, PCR and whether it is announced to jump, of each packet that has one.
fn clocks(muxed: &[u8]) -> Vec<(u16, u64, bool)> {
    let (packets, _) = muxed.as_chunks::<PACKET_BYTES>();
    let told =
        |bytes: &&[u8; PACKET_BYTES]| bytes[3] & 0x20 != 0 && bytes[4] > 0 && bytes[5] & 0x10 != 0;
    let clock = |bytes: &[u8; PACKET_BYTES]| {
        let coded = bytes[6..12].iter().fold(0u64, |coded, byte| coded << 8 | u64::from(*byte));
        let pid = u16::from_be_bytes([bytes[1] & 0x1f, bytes[2]]);
        (pid, (coded >> 15) * 300 + (coded & 0x1ff), bytes[5] & 0x80 != 0)
    };
    packets.iter().filter(told).map(clock).collect()
}

#[test]
fn the_clock_is_told_often_and_never_overtakes_what_is_to_come() {
    let sound = |ms| frame(FrameKind::Audio, ms, vec![7; 90]);
    // Pictures at 25 and at 2 a second, with sound up to 250 ms ahead; sound alone.
    for (step, lead, with_video) in
        [(40, 0, true), (40, 250, true), (500, 100, true), (0, 0, false)]
    {
        let mut frames: Vec<_> = (0..150).map(|at| (at * 20 - lead, sound(at * 20))).collect();
        if with_video {
            let kind = |ms| if ms % 1000 == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
            let times = (0..3000).step_by(step as usize);
            frames.extend(times.map(|ms| (ms, picture(kind(ms), ms, 900))));
        }
        frames.sort_by_key(|(arrival, frame)| (*arrival, frame.kind == FrameKind::Audio));
        let frames: Vec<_> = frames.into_iter().map(|(_, frame)| frame).collect();
        let mut tracks = tracks();
        if !with_video {
            tracks.video = None;
        }
        let (mut muxer, mut told) = (Muxer::new(&tracks), Vec::new());
        for frame in &frames {
            let mut out = Vec::new();
            mux_on(&mut muxer, std::slice::from_ref(frame), &mut out);
            for (pid, clock, jumps) in clocks(&out) {
                assert_eq!((pid, jumps), (if with_video { 0x100 } else { 0x101 }, false));
                told.push(clock);
            }
            let dts = (frame.dts.to_millis() + TIME_BASE_MS) as u64 * 27_000;
            assert!(told.is_empty() || dts > told[told.len() - 1], "{step} {lead}");
        }
        // How rare pictures are shows with the second one.
        told.retain(|clock| *clock > (step + TIME_BASE_MS - PCR_DELAY_MS) as u64 * 27_000);
        let gaps = told.windows(2).map(|pair| (pair[1] - pair[0]) / 27_000);
        let longest = gaps.max().unwrap();
        assert!(longest <= 100, "{step} {lead}: {longest}");
    }
}

#[test]
fn a_timeline_that_begins_anew_is_announced() {
    let mut muxer = Muxer::new(&tracks());
    let mut out = Vec::new();
    mux_on(&mut muxer, &second(10_000), &mut out);
    mux_on(&mut muxer, &second(0), &mut out);
    let jumps: Vec<_> = clocks(&out).into_iter().filter(|(.., jumps)| *jumps).collect();
    assert_eq!(jumps, [(0x100, (TIME_BASE_MS - PCR_DELAY_MS) as u64 * 27_000, true)]);
    let found = demux(&out);
    assert_eq!((found.damage, found.frames.len()), (Damage::default(), 150));

    let before = out.len();
    muxer.mark_discontinuity();
    mux_on(&mut muxer, &second(1000), &mut out);
    let (packets, _) = out[before..].as_chunks::<PACKET_BYTES>();
    for pid in [0, 0x1000, 0x100, 0x101] {
        let of_pid = packets.iter().map(|bytes| packet::parse(bytes).unwrap());
        let marks: Vec<_> =
            of_pid.filter(|packet| packet.pid == pid).map(|packet| packet.discontinuity).collect();
        assert!(marks[0] && !marks[1..].contains(&true), "{pid:#x}");
    }
    let found = demux(&out);
    assert_eq!((found.damage, found.frames.len()), (Damage::default(), 225));
    assert_eq!(found.ignored.discontinuities, 3);
}

#[test]
fn changed_tracks_get_a_new_version_and_counters_go_on() {
    let first = tracks();
    let mut other = first.clone();
    other.audio = demux(GOLDEN[3].file).tracks[0].audio.clone();
    let mut muxer = Muxer::new(&first);
    let mut out = Vec::new();
    mux_on(&mut muxer, &second(0), &mut out);
    muxer.set_tracks(&first);
    assert!(!muxer.tables_due(&frame(FrameKind::Audio, 990, vec![1])));
    muxer.set_tracks(&other);
    assert!(muxer.tables_due(&frame(FrameKind::Audio, 990, vec![1])));
    let opus = |at: i64| frame(FrameKind::Audio, 1000 + at * 20, vec![0xfc, at as u8]);
    let sounds: Vec<_> = (0..10).map(opus).collect();
    mux_on(&mut muxer, &[picture(FrameKind::Keyframe, 1000, 10)], &mut out);
    mux_on(&mut muxer, &sounds, &mut out);
    let found = demux(&out);
    assert_eq!(found.damage, Damage::default());
    let codecs: Vec<_> =
        found.tracks.iter().map(|tracks| tracks.audio.as_ref().map(|track| track.codec)).collect();
    assert_eq!(codecs, [Some(Codec::Aac), None, Some(Codec::Opus)]);
    assert_eq!(found.sounds().len(), 60);
    let (packets, _) = out.as_chunks::<PACKET_BYTES>();
    let versions: Vec<_> = packets
        .iter()
        .filter(|packet| packet[1..3] == [0x50, 0])
        .map(|packet| packet[10] >> 1 & 0x1f)
        .collect();
    assert_eq!(versions, [0, 0, 0, 1]);
}

#[test]
fn what_is_left_out_is_said() {
    let video = |codec| Track { codec, config: Bytes::new(), info: VideoInfo::default() };
    let audio =
        |codec, config: Vec<u8>| Track { codec, config: config.into(), info: AudioInfo::default() };
    let left = |video: Option<_>, audio: Option<_>| {
        let tracks = Tracks { video, audio, ..Tracks::default() };
        let muxer = Muxer::new(&tracks);
        (muxer.left_out().to_vec(), muxer.is_empty())
    };
    let config = LeftOut::Config(ConfigError::Truncated);
    for (codec, why) in [
        (Codec::H264, config),
        (Codec::H265, config),
        (Codec::Av1, LeftOut::Codec),
        (Codec::Vp8, LeftOut::Codec),
        (Codec::Vp9, LeftOut::Codec),
        (Codec::LegacyVideo(2), LeftOut::Codec),
    ] {
        assert_eq!(left(Some(video(codec)), None), (vec![(codec, why)], true));
    }
    for (codec, config, why) in [
        (Codec::Flac, vec![], LeftOut::Codec),
        (Codec::G711A, vec![], LeftOut::Codec),
        (Codec::Speex, vec![], LeftOut::Codec),
        (Codec::LegacyAudio(0x6a), vec![], LeftOut::Codec),
        (Codec::Aac, vec![0xf8, 0xe8, 0x50], LeftOut::NoAdtsForm),
        (Codec::Opus, build_config(3, 0, 48_000).to_vec(), LeftOut::ChannelMapping),
    ] {
        assert_eq!(left(None, Some(audio(codec, config))), (vec![(codec, why)], true));
    }
    let opus = audio(Codec::Opus, vec![]);
    let (both, empty) = left(Some(video(Codec::Vp9)), Some(opus));
    assert_eq!((both, empty), (vec![(Codec::Vp9, LeftOut::Codec)], false));
    assert_eq!(LeftOut::Codec.to_string(), "MPEG-TS has no form for the codec");
}

#[test]
fn frames_without_a_form_are_not_written() {
    let (mut muxer, mut out) = (Muxer::new(&tracks()), Vec::new());
    for refused in [
        frame(FrameKind::Data, 0, vec![1]),
        frame(FrameKind::Audio, 0, vec![]),
        frame(FrameKind::Audio, 0, vec![1; 8185]),
        frame(FrameKind::Inter, 0, vec![]),
        frame(FrameKind::Inter, 0, vec![0, 0, 0, 9, 1]),
        frame(FrameKind::Inter, 0, vec![0, 0, 0, 2, 9, 0xf0]),
    ] {
        assert!(!muxer.write_frame(&refused, &mut out), "{refused:?}");
    }
    assert!(out.is_empty());
    let without = Tracks { video: tracks().video, ..Tracks::default() };
    assert!(!Muxer::new(&without).write_frame(&frame(FrameKind::Audio, 0, vec![1]), &mut out));
    // Before its decode: moved, not wrapped.
    let mut early = picture(FrameKind::Keyframe, 0, 10);
    early.composition_offset = -40_000_000;
    let found = demux(&mux(&tracks(), &[early]));
    assert_eq!(found.frames[0].composition_offset, 0);
}
