//! Streams written by an encoder, round trips through the muxer, and bodies of hostile publishers.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::amf::{self, Value};
use crate::media::{Codec, Frame, FrameKind, MetaValue, Timestamp, Tracks};

const ENHANCED: Dialect = Dialect { enhanced: true, legacy_h265_id: 12 };
const LEGACY: Dialect = Dialect { enhanced: false, legacy_h265_id: 12 };

/// A file and what ffprobe says of it: video, audio, pictures, keyframes, sounds.
type Golden = (&'static [u8], Codec, Codec, usize, &'static [usize], usize);

const GOLDEN: [Golden; 8] = [
    (include_bytes!("testdata/h264_aac.flv"), Codec::H264, Codec::Aac, 25, &[0, 12, 24], 48),
    (include_bytes!("testdata/h264_mp3.flv"), Codec::H264, Codec::Mp3, 25, &[0, 12, 24], 40),
    (include_bytes!("testdata/h264_ac3.flv"), Codec::H264, Codec::Ac3, 25, &[0, 12, 24], 32),
    (include_bytes!("testdata/h265_opus.flv"), Codec::H265, Codec::Opus, 25, &[0, 9, 21], 51),
    (include_bytes!("testdata/av1_aac.flv"), Codec::Av1, Codec::Aac, 25, &[0, 12, 24], 48),
    (include_bytes!("testdata/vp9_flac.flv"), Codec::Vp9, Codec::Flac, 10, &[0], 19),
    (
        include_bytes!("testdata/flv1_alaw.flv"),
        Codec::LegacyVideo(2),
        Codec::G711A,
        25,
        &[0, 12, 24],
        48,
    ),
    // Two video tracks, the second one by multitrack packets.
    (include_bytes!("testdata/multi.flv"), Codec::H264, Codec::Aac, 13, &[0, 12], 25),
];

struct Demuxed {
    tracks: Arc<Tracks>,
    announcements: usize,
    frames: Vec<Frame>,
    ignored: Ignored,
}

fn demux(file: &[u8]) -> Demuxed {
    let (mut reader, mut demuxer) = (TagReader::new(1 << 20), Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::from(file), VecDeque::new());
    while let Some((tag, timestamp_ms, body)) = reader.next_tag(&mut input).unwrap() {
        let dts = Timestamp::from_millis(timestamp_ms.into());
        demuxer.push(tag, dts, body, &mut items).unwrap();
    }
    let (mut tracks, mut announcements, mut frames) = (Arc::default(), 0, Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => (tracks, announcements) = (new, announcements + 1),
            Item::Frame(frame) => frames.push(frame),
        }
    }
    Demuxed { tracks, announcements, frames, ignored: demuxer.ignored() }
}

fn mux(tracks: &Tracks, frames: &[Frame], dialect: Dialect) -> Vec<u8> {
    let mut out = header(tracks.audio.is_some(), tracks.video.is_some()).to_vec();
    for (tag, body) in configuration(tracks, dialect, "test") {
        write_tag(&mut out, tag, 0, &[&body]);
    }
    for frame in frames {
        let (tag, head) = frame_head(tracks, frame, dialect).unwrap();
        let timestamp_ms = u32::try_from(frame.dts.to_millis()).unwrap();
        write_tag(&mut out, tag, timestamp_ms, &[&head, &frame.payload]);
    }
    out
}

#[test]
fn files_of_an_encoder_hold_what_its_own_probe_says() {
    for (file, video, audio, pictures, keyframes, sounds) in GOLDEN {
        let demuxed = demux(file);
        let track = demuxed.tracks.video.as_ref().unwrap();
        assert_eq!(track.codec, video);
        assert_eq!((track.info.width, track.info.height), (160, 90), "{video:?}");
        assert!((track.info.frame_rate - 25.0).abs() < 0.01, "{video:?}");
        assert_eq!(demuxed.tracks.audio.as_ref().unwrap().codec, audio);
        let seen: Vec<_> = demuxed.frames.iter().filter(|frame| frame.kind.is_video()).collect();
        let keys: Vec<_> =
            (0..seen.len()).filter(|at| seen[*at].kind == FrameKind::Keyframe).collect();
        assert_eq!((seen.len(), &keys[..]), (pictures, keyframes), "{video:?}");
        let heard = demuxed.frames.iter().filter(|frame| frame.kind == FrameKind::Audio).count();
        assert_eq!(heard, sounds, "{audio:?}");
        // A FLAC encoder sends its header again at the end, with the check sum it then knows.
        let announcements_max = if audio == Codec::Flac { 3 } else { 2 };
        assert!(demuxed.announcements <= announcements_max, "{video:?} {audio:?}");
    }
}

#[test]
fn configs_and_infos_of_the_sound() {
    let info = |at: usize| demux(GOLDEN[at].0).tracks.audio.as_ref().unwrap().info;
    let facts: Vec<_> = (0..8).map(|at| (info(at).sample_rate, info(at).channels)).collect();
    let mono = (48_000, 1);
    assert_eq!(facts, [(48_000, 2), (44_100, 1), mono, mono, mono, mono, (8000, 1), mono]);
    // The record of AC-3 comes from its frames and is no sequence header.
    let tracks = demux(GOLDEN[2].0).tracks;
    assert_eq!(tracks.audio.as_ref().unwrap().config, [0x10, 0x08, 0x00][..]);
    let headers = configuration(&tracks, ENHANCED, "test").into_iter().map(|(tag, _)| tag);
    assert_eq!(headers.collect::<Vec<_>>(), [TagType::Script, TagType::Video]);
}

#[test]
fn presentation_times_and_disposables_of_b_frames() {
    let demuxed = demux(GOLDEN[0].0);
    let pictures = demuxed.frames.iter().filter(|frame| frame.kind.is_video()).take(3);
    let pts: Vec<_> = pictures.map(|frame| frame.pts().to_millis()).collect();
    assert_eq!(pts, [80, 200, 120]);
    let disposable = |frame: &&Frame| frame.kind == FrameKind::Disposable;
    assert!(demuxed.frames.iter().filter(disposable).count() >= 8);
}

#[test]
fn only_the_default_track_of_several_is_carried() {
    let demuxed = demux(GOLDEN[7].0);
    // One sequence header and 13 pictures of the second track.
    assert_eq!(demuxed.ignored.other_tracks, 14);
    assert_eq!(demux(GOLDEN[0].0).ignored, Ignored::default());
}

#[test]
fn what_is_muxed_demuxes_to_the_same() {
    for (file, ..) in GOLDEN {
        for dialect in [ENHANCED, LEGACY] {
            let first = demux(file);
            let muxed = mux(&first.tracks, &first.frames, dialect);
            let second = demux(&muxed);
            assert_eq!(first.frames, second.frames);
            assert_eq!(first.tracks.video, second.tracks.video);
            assert_eq!(first.tracks.audio, second.tracks.audio);
            // From the second generation on the bytes do not change.
            assert_eq!(mux(&second.tracks, &second.frames, dialect), muxed);
        }
    }
}

#[test]
fn forms_on_the_wire() {
    let frame = |kind, offset_ms: i64| Frame {
        kind,
        dts: Timestamp::from_millis(1000),
        composition_offset: offset_ms * 1_000_000,
        payload: Bytes::from_static(b"x"),
    };
    let head = |at: usize, kind, offset_ms, dialect| {
        let tracks = demux(GOLDEN[at].0).tracks;
        frame_head(&tracks, &frame(kind, offset_ms), dialect).unwrap().1.to_vec()
    };
    use FrameKind::{Audio, Disposable, Inter, Keyframe};
    assert_eq!(head(0, Keyframe, 80, ENHANCED), [0x17, 1, 0, 0, 80]);
    assert_eq!(head(0, Disposable, -2, LEGACY), [0x27, 1, 0xff, 0xff, 0xfe]);
    assert_eq!(head(0, Audio, 0, LEGACY), [0xaf, 1]);
    assert_eq!(head(1, Audio, 0, LEGACY), [0x2e]);
    assert_eq!(head(3, Keyframe, 80, ENHANCED), *b"\x91hvc1\0\0\x50");
    assert_eq!(head(3, Inter, 0, ENHANCED), *b"\xa3hvc1");
    assert_eq!(head(3, Inter, 0, LEGACY), [0x2c, 1, 0, 0, 0]);
    assert_eq!(head(3, Audio, 0, LEGACY), *b"\x91Opus");
    assert_eq!(head(4, Keyframe, 0, LEGACY), *b"\x91av01");
    assert_eq!(head(6, Disposable, 0, LEGACY), [0x32]);
    assert_eq!(frame_head(&Tracks::default(), &frame(Inter, 0), LEGACY), None);
    let data = frame_head(&Tracks::default(), &frame(FrameKind::Data, 0), LEGACY).unwrap();
    assert_eq!((data.0, data.1.len()), (TagType::Script, 0));
}

/// Bodies pushed one after the other at time 0: items, errors, counts.
fn push_all(bodies: &[(TagType, &[u8])]) -> (VecDeque<Item>, Vec<FlvError>, Ignored) {
    let (mut demuxer, mut items, mut errors) = (Demuxer::new(12), VecDeque::new(), Vec::new());
    for (tag, body) in bodies {
        let body = Bytes::copy_from_slice(body);
        errors.extend(demuxer.push(*tag, Timestamp::ZERO, body, &mut items).err());
    }
    (items, errors, demuxer.ignored())
}

fn script(values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    amf::encode(values, &mut body);
    body
}

#[test]
fn metadata_is_kept_flat_and_bounded_and_makes_no_track() {
    let mut properties: Vec<(String, Value)> =
        (0..1000).map(|at| (format!("k{at}"), 1.0.into())).collect();
    properties.insert(0, ("width".into(), 1280.0.into()));
    properties.insert(0, ("nested".into(), Value::Object(Vec::new())));
    properties.insert(0, ("nan".into(), f64::NAN.into()));
    properties.insert(0, ("long".into(), Value::Text("x".repeat(513))));
    properties.insert(0, ("encoder".into(), "test".into()));
    let metadata =
        script(&["@setDataFrame".into(), "onMetaData".into(), Value::EcmaArray(properties)]);
    let huge = script(&["onMetaData".into(), Value::Text("x".repeat(1 << 20))]);
    let bodies = [(TagType::Script, &metadata[..]), (TagType::Script, &huge[..])];
    let (items, errors, ignored) = push_all(&bodies);
    assert!(items.is_empty() && errors.is_empty());
    assert_eq!(ignored.unsupported, 1);

    let picture = (TagType::Video, &[0x12, 1, 2][..]);
    let bodies = [bodies[0], picture, bodies[0], picture];
    let (items, ..) = push_all(&bodies);
    let [Item::Tracks(tracks), Item::Frame(_), Item::Frame(_)] =
        items.iter().collect::<Vec<_>>()[..]
    else {
        panic!("tracks are announced once")
    };
    assert_eq!(tracks.video.as_ref().unwrap().info.width, 1280);
    assert_eq!(tracks.metadata.len(), 64);
    assert_eq!(tracks.metadata[0], ("encoder".into(), MetaValue::Text("test".into())));
    assert_eq!(tracks.metadata[1].0, "width".into());
    let bodies = configuration(tracks, ENHANCED, "me");
    let values = amf::decode_all(&bodies[0].1).unwrap();
    assert_eq!(values[1].get("server").and_then(Value::as_text), Some("me"));
    assert_eq!(values[1].get("videocodecid").and_then(Value::as_number), Some(2.0));
}

#[test]
fn other_script_data_is_a_timed_item() {
    let cue = script(&["onCuePoint".into(), Value::Object(Vec::new())]);
    let wrapped = script(&["@setDataFrame".into(), "onTextData".into(), Value::Null]);
    let (items, errors, _) = push_all(&[
        (TagType::Script, &cue),
        (TagType::Script, &wrapped),
        (TagType::Script, &[2, 0, 9, b'x']),
    ]);
    let payloads: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Frame(frame) if frame.kind == FrameKind::Data => frame.payload.to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(payloads, [cue, script(&["onTextData".into(), Value::Null])]);
    assert_eq!(errors, [FlvError::BadScript(AmfError::Truncated)]);
}

#[test]
fn odd_bodies_neither_panic_nor_pass() {
    use TagType::{Audio, Video};
    let (items, errors, ignored) = push_all(&[
        (Video, b""),
        (Video, b"\x17"),
        (Audio, b"\xaf"),
        (Audio, b"\xaf\x00"),
        (Video, b"\x17\x00\0\0\0"),
        (Video, b"\x27\x01\0\0\0\0\0\0\x01\x41"),
        (Audio, b"\xaf\x01abc"),
        (Video, b"\x57\x00\0\0\0"),
        (Video, b"\x17\x02"),
    ]);
    assert!(items.is_empty() && errors.is_empty(), "{items:?} {errors:?}");
    assert_eq!((ignored.empty, ignored.before_config), (5, 2));
    let refused = |tag, body: &[u8]| push_all(&[(tag, body)]).1;
    assert_eq!(refused(Video, b"\x17\x01\0"), [FlvError::Truncated]);
    assert_eq!(refused(Video, b"\x17\x09\0\0\0"), [FlvError::UnknownPacketType(9)]);
    assert_eq!(refused(Video, b"\x1f\x00\0\0\0"), [FlvError::UnknownVideoCodec(15)]);
    assert_eq!(refused(Video, b"\x90vvc1"), [FlvError::UnknownFourCc(*b"vvc1")]);
    assert_eq!(refused(Video, b"\x91av"), [FlvError::Truncated]);
    assert_eq!(refused(Video, b"\x17\0\0\0\0\x01"), [FlvError::BadConfig(ConfigError::Truncated)]);
    assert_eq!(refused(Audio, b"\xd0ab"), [FlvError::UnknownSoundFormat(13)]);
    assert_eq!(refused(Audio, b"\x95\x55Opus"), [FlvError::BadMultitrack]);
}

#[test]
fn nal_unit_lengths_nanoseconds_and_changes_of_config() {
    use TagType::{Audio, Video};
    let first = demux(GOLDEN[0].0);
    let config = configuration(&first.tracks, LEGACY, "").remove(1).1;
    let mut other = config.clone();
    other[8] ^= 1;
    let (items, errors, ignored) = push_all(&[
        (Video, &config),
        (Video, &config),
        (Video, b"\x27\x01\0\0\0\0\0\0\x09\x41"),
        (Video, b"\x27\x01\xff\xff\xff\0\0\0\x01\x01"),
        (Video, &other),
        (Audio, b"\x97\x02\x01\xe2\x40\x01Opusabc"),
    ]);
    assert!(errors.is_empty());
    assert_eq!(ignored.malformed, 1);
    let [
        Item::Tracks(_),
        Item::Frame(picture),
        Item::Tracks(_),
        Item::Tracks(_),
        Item::Frame(sound),
    ] = items.iter().collect::<Vec<_>>()[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(picture.kind, FrameKind::Disposable);
    assert_eq!(picture.composition_offset, -1_000_000);
    assert_eq!((sound.dts.nanos(), &sound.payload[..]), (123_456, &b"abc"[..]));
}
