//! Files of an encoder, round trips, damage, and what another tool says of the muxer's output.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::codec::ConfigError;
use crate::codec::opus::build_config;
use crate::container::{Item, flv};
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};

const TICKS: u32 = 90_000;

/// A file of ffmpeg 5.1 and its packets as ffprobe lists them (stream, pts, dts, flags):
///
/// ```text
/// ffmpeg -f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine=sample_rate=48000 -t 1 \
///     -c:v libx264 -g 12 -bf 2 -b:v 60k -c:a aac -b:a 48k -ac 2 -f mpegts h264_aac.ts
/// ffprobe -v error -show_entries packet=stream_index,pts,dts,flags -of csv=p=0 h264_aac.ts
/// ```
///
/// The others with `-c:v libx265`, `-bf 0 -c:a libmp3lame`, `-c:a libopus`, `-mpegts_flags latm`,
/// `-c:a ac3`, `-vn -c:a eac3`.
struct Golden {
    name: &'static str,
    file: &'static [u8],
    packets: &'static str,
    video: Option<Codec>,
    audio: Codec,
    audio_info: (u32, u8),
}

macro_rules! golden {
    ($name:literal, $video:expr, $audio:expr, $info:expr) => {
        Golden {
            name: $name,
            file: include_bytes!(concat!("testdata/", $name, ".ts")),
            packets: include_str!(concat!("testdata/", $name, ".packets")),
            video: $video,
            audio: $audio,
            audio_info: $info,
        }
    };
}

const GOLDEN: [Golden; 7] = [
    golden!("h264_aac", Some(Codec::H264), Codec::Aac, (48_000, 2)),
    golden!("h265_aac", Some(Codec::H265), Codec::Aac, (44_100, 1)),
    golden!("h264_mp3", Some(Codec::H264), Codec::Mp3, (44_100, 1)),
    golden!("h264_opus", Some(Codec::H264), Codec::Opus, (48_000, 2)),
    golden!("h264_latm", Some(Codec::H264), Codec::Aac, (48_000, 2)),
    golden!("h264_ac3", Some(Codec::H264), Codec::Ac3, (48_000, 1)),
    golden!("eac3", None, Codec::Eac3, (48_000, 1)),
];

struct Demuxed {
    tracks: Vec<Arc<Tracks>>,
    frames: Vec<Frame>,
    damage: Damage,
    ignored: Ignored,
}

impl Demuxed {
    fn pictures(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.kind.is_video()).collect()
    }

    fn sounds(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.kind == FrameKind::Audio).collect()
    }
}

fn demux_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Demuxed {
    let (mut demuxer, mut items) = (Demuxer::new(PES_BYTES_MAX), VecDeque::new());
    for piece in pieces {
        demuxer.push(piece, &mut items).unwrap();
    }
    demuxer.finish(&mut items);
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks.push(new),
            Item::Frame(frame) => frames.push(frame),
        }
    }
    Demuxed { tracks, frames, damage: demuxer.damage(), ignored: demuxer.ignored() }
}

fn demux(bytes: &[u8]) -> Demuxed {
    demux_pieces([bytes])
}

fn mux(tracks: &Tracks, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut out) = (Muxer::new(tracks), Vec::new());
    mux_on(&mut muxer, frames, &mut out);
    out
}

fn mux_on(muxer: &mut Muxer, frames: &[Frame], out: &mut Vec<u8>) {
    for frame in frames {
        if muxer.tables_due(frame) {
            muxer.write_tables(out);
        }
        assert!(muxer.write_frame(frame, out), "{:?} at {:?}", frame.kind, frame.dts);
    }
}

/// PTS, DTS and payload with kind, which is what comes through a transport stream.
fn seen(frame: &Frame, moved_ms: i64) -> (i64, i64, FrameKind, Bytes) {
    let base = moved_ms * i64::from(TICKS / 1000);
    let ticks = |time: Timestamp| time.to_ticks(TICKS) + base;
    (ticks(frame.pts()), ticks(frame.dts), frame.kind, frame.payload.clone())
}

fn all_seen<'a>(
    frames: impl IntoIterator<Item = &'a Frame>,
    moved_ms: i64,
) -> Vec<(i64, i64, FrameKind, Bytes)> {
    frames.into_iter().map(|frame| seen(frame, moved_ms)).collect()
}

fn flv_file(file: &[u8]) -> (Arc<Tracks>, Vec<Frame>) {
    let (mut reader, mut demuxer) = (flv::TagReader::new(1 << 20), flv::Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::from(file), VecDeque::new());
    while let Some((tag, timestamp_ms, body)) = reader.next_tag(&mut input).unwrap() {
        demuxer.push(tag, Timestamp::from_millis(timestamp_ms.into()), body, &mut items).unwrap();
    }
    let (mut tracks, mut frames) = (Arc::default(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks = new,
            Item::Frame(frame) => frames.push(frame),
        }
    }
    (tracks, frames)
}

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
        (&include_bytes!("../flv/testdata/h264_aac.flv")[..], 25.0),
        (include_bytes!("../flv/testdata/h265_opus.flv"), 0.0),
        (include_bytes!("../flv/testdata/h264_ac3.flv"), 25.0),
        (include_bytes!("../flv/testdata/h264_mp3.flv"), 25.0),
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

/// Tracks of H.264 and AAC with the parameter sets of a real file.
fn tracks() -> Tracks {
    Tracks::clone(&demux(GOLDEN[0].file).tracks[0])
}

fn frame(kind: FrameKind, ms: i64, payload: impl Into<Bytes>) -> Frame {
    let dts = Timestamp::from_millis(ms);
    Frame { kind, dts, composition_offset: 0, payload: payload.into() }
}

/// A picture of one slice of so many bytes, without anything that looks like a start code.
fn picture(kind: FrameKind, ms: i64, bytes: usize) -> Frame {
    let header = match kind {
        FrameKind::Keyframe => 0x65,
        FrameKind::Inter => 0x41,
        _ => 0x01,
    };
    let mut payload = u32::try_from(bytes + 2).unwrap().to_be_bytes().to_vec();
    payload.extend_from_slice(&[header, 0x88]);
    payload.extend((0..bytes).map(|at| (at % 250) as u8 + 1));
    frame(kind, ms, payload)
}

/// A second of pictures every 40 ms and sound every 20 ms.
fn second(from_ms: i64) -> Vec<Frame> {
    let mut frames = Vec::new();
    for at in 0..25 {
        let ms = from_ms + at * 40;
        let kind = if at == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        frames.push(picture(kind, ms, if at == 0 { 3000 } else { 500 }));
        frames.push(frame(FrameKind::Audio, ms, vec![at as u8; 80]));
        frames.push(frame(FrameKind::Audio, ms + 20, vec![at as u8; 90]));
    }
    frames
}

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
    let (tracks, frames) = flv_file(include_bytes!("../flv/testdata/h264_aac.flv"));
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
    let mut table: Vec<&str> = include_str!("testdata/muxed.packets").lines().collect();
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

/// PES packets as they are, cut into transport packets of one identifier.
fn packets(pid: &mut packet::Pid, pes: &[u8], out: &mut Vec<u8>) {
    let none = packet::Adaptation::default();
    packet::UnitWriter::begin(out, pid, none, pes.len()).put(pes);
}

fn tables(streams: &[(u8, u16)], out: &mut Vec<u8>) {
    let streams: Vec<_> = streams
        .iter()
        .map(|(stream_type, pid)| psi::PmtStream {
            stream_type: *stream_type,
            pid: *pid,
            descriptors: &[],
        })
        .collect();
    psi::write_section(out, &mut packet::Pid::new(0), &psi::build_pat(0x20));
    psi::write_section(out, &mut packet::Pid::new(0x20), &psi::build_pmt(0, 0x30, &streams));
}

fn pes_packet(stream_id: u8, ms: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let ticks = ms.unwrap_or(0) * 90;
    let (mut header, length) = pes::header(stream_id, ticks, ticks, payload.len()).unwrap();
    if ms.is_none() {
        // The bytes of the stamp stay as stuffing.
        header[7] = 0;
    }
    [&header[..length], payload].concat()
}

/// A picture in annex B with the parameter sets of a real file before a keyframe.
fn annex_b(frame: &Frame) -> Vec<u8> {
    let config = tracks().video.unwrap().config;
    let sets = crate::codec::h264::parameter_sets(&config).unwrap();
    let sets = [sets.sps, sets.pps].concat();
    let own = [&frame.payload[4..]];
    let keyframe = frame.kind == FrameKind::Keyframe;
    let units = sets.into_iter().filter(|_| keyframe).chain(own);
    units.flat_map(|unit| [&[0, 0, 1][..], unit].concat()).collect()
}

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
