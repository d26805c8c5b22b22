//! Media of an encoder packaged and read back, the forms of boxes, and times of hostile publishers.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::read::{FoundFragment, Movie, Scanner, Step, Stop};
use super::*;
use crate::codec::rfc6381::Manifest;
use crate::codec::{ConfigError, opus};
use crate::container::Item;
use crate::container::flv::{Demuxer, TagReader};
use crate::media::{Codec, Frame, FrameKind, Timestamp, Tracks, VideoInfo};

/// Media in the neutral form.
pub(super) struct Source {
    pub(super) tracks: Tracks,
    pub(super) frames: Vec<Frame>,
}

pub(super) fn flv(file: &[u8]) -> Source {
    let (mut reader, mut demuxer) = (TagReader::new(1 << 20), Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::from(file), VecDeque::new());
    while let Some((tag, timestamp_ms, body)) = reader.next_tag(&mut input).unwrap() {
        demuxer.push(tag, Timestamp::from_millis(timestamp_ms.into()), body, &mut items).unwrap();
    }
    let (mut tracks, mut frames) = (Tracks::default(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks = (*new).clone(),
            Item::Frame(frame) => frames.push(frame),
        }
    }
    Source { tracks, frames }
}

/// A file of frames behind headers of 12 bytes: size and time, as the IVF of VP8 has them.
fn ivf(file: &[u8]) -> Source {
    let field = |at: usize| u32::from_le_bytes(*file[at..].first_chunk().unwrap());
    let (mut at, mut frames) = (32, Vec::new());
    while at < file.len() {
        let size = field(at) as usize;
        let payload = Bytes::copy_from_slice(&file[at + 12..at + 12 + size]);
        // The lowest bit of a frame header is 0 for keyframes (RFC 6386 9.1).
        let kind = if payload[0] & 1 == 0 { FrameKind::Keyframe } else { FrameKind::Inter };
        let dts = Timestamp::from_ticks(field(at + 4).into(), 25);
        frames.push(Frame { kind, dts, composition_offset: 0, payload });
        at += 12 + size;
    }
    let info = VideoInfo { width: 160, height: 90, frame_rate: 25.0 };
    let video = Some(Track { codec: Codec::Vp8, config: Bytes::new(), info });
    Source { tracks: Tracks { video, ..Tracks::default() }, frames }
}

/// All samples of a file of sample tables.
fn mp4(file: &'static [u8]) -> Source {
    let (movie, _) = read_back(&Bytes::from_static(file));
    let mut frames = Vec::new();
    for (kind, track) in [(TrackKind::Video, &movie.video), (TrackKind::Audio, &movie.audio)] {
        for sample in track.iter().flat_map(|track| track.table.samples()) {
            let start = usize::try_from(sample.offset).unwrap();
            let payload = Bytes::from_static(&file[start..start + sample.size as usize]);
            frames.push(movie.frame(kind, &sample, payload).unwrap());
        }
    }
    frames.sort_by_key(|frame| frame.dts);
    Source { tracks: movie.tracks, frames }
}

macro_rules! testdata {
    ($name:literal) => {
        include_bytes!(concat!("../flv/testdata/", $name))
    };
    (mp4 $name:literal) => {
        include_bytes!(concat!("read/testdata/", $name))
    };
}

pub(super) fn h264_aac() -> Source {
    flv(testdata!("h264_aac.flv"))
}

/// Parts of 200 ms, cut as a packager cuts them: before a keyframe, or before a picture beyond the
/// part's duration. Without video, sound alone decides.
pub(super) fn package(source: &Source, selection: Selection) -> Vec<u8> {
    let Source { tracks, frames } = source;
    let Init { bytes, carried, .. } = init_segment(tracks, selection).unwrap();
    let mut out = bytes.to_vec();
    let mut sequence_number = 0;
    let mut number = || {
        sequence_number += 1;
        sequence_number
    };
    let video_track = tracks.video.as_ref().filter(|_| carried.contains(TrackKind::Video));
    let mut video = video_track.map(FragmentBuilder::video);
    let audio_track = tracks.audio.as_ref().filter(|_| carried.contains(TrackKind::Audio));
    let mut audio = audio_track.map(FragmentBuilder::audio);
    for frame in frames {
        let builder = if frame.kind.is_video() { &mut video } else { &mut audio };
        let Some(builder) = builder else { continue };
        builder.push(frame);
        let part = u64::from(builder.timescale() / 5);
        let cut = builder.duration() >= part || frame.kind == FrameKind::Keyframe;
        match (&mut video, &mut audio) {
            (Some(video), audio) if cut && frame.kind.is_video() => {
                video.cut(&mut out, number(), None);
                if let Some(audio) = audio {
                    audio.cut_before(frame.dts, &mut out, number(), None);
                }
            }
            (None, Some(audio)) if cut => {
                audio.cut(&mut out, number(), None);
            }
            _ => {}
        }
    }
    for builder in [&mut video, &mut audio].into_iter().flatten() {
        builder.finish(None, &mut out, number(), None);
        assert_eq!(builder.counts(), BuilderCounts::default());
    }
    out
}

/// The movie and the fragments of a file in memory, which must be whole.
pub(super) fn read_back(file: &Bytes) -> (Movie, Vec<FoundFragment>) {
    let (mut scanner, mut movie, mut fragments) = (Scanner::new(file.len() as u64), None, vec![]);
    loop {
        match scanner.step(0, file) {
            Step::Movie { offset, size } => {
                let range = offset as usize..(offset + size) as usize;
                movie = Some(Movie::parse(&file.slice(range), file.len() as u64).unwrap());
            }
            Step::Fragment(fragment) => fragments.push(fragment),
            Step::Done { whole_bytes, stop } => {
                assert_eq!((whole_bytes, stop), (file.len() as u64, Stop::End));
                return (movie.unwrap(), fragments);
            }
            step @ Step::Read { .. } => panic!("{step:?}"),
        }
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name, media, and hashes of what it becomes: both tracks, video, sound.
fn golden() -> Vec<(&'static str, Source, [&'static str; 3])> {
    vec![
        ("h264_aac", h264_aac(), ["798ff4b7ac25", "38489396a23c", "d6753641c7eb"]),
        (
            "h264_mp3",
            flv(testdata!("h264_mp3.flv")),
            ["3ca0b35020a6", "b58d94fada66", "cbc45492073e"],
        ),
        (
            "h264_ac3",
            flv(testdata!("h264_ac3.flv")),
            ["99ad5ac35e3d", "769800845524", "2be0533e1b17"],
        ),
        (
            "h265_opus",
            flv(testdata!("h265_opus.flv")),
            ["f294702371f9", "1410b78d1591", "d6241194af52"],
        ),
        (
            "av1_aac",
            flv(testdata!("av1_aac.flv")),
            ["f82ffd291cb7", "7276769366de", "29482e127531"],
        ),
        (
            "vp9_flac",
            flv(testdata!("vp9_flac.flv")),
            ["53b5ab336f65", "df6905ce44bf", "d2c376a9e87e"],
        ),
        ("alaw", flv(testdata!("flv1_alaw.flv")), ["20598a8172ac", "", "20598a8172ac"]),
        ("vp8", ivf(include_bytes!("testdata/vp8.ivf")), ["dd1c56b80062", "dd1c56b80062", ""]),
        (
            "h265_eac3",
            mp4(testdata!(mp4 "h265_eac3.mp4")),
            ["1f3e9e0a0864", "eab7705ca3a4", "41a040f48de7"],
        ),
        ("mp3_mpeg2", mp4(testdata!(mp4 "mp3.mp4")), ["49d69589f6b4", "", "49d69589f6b4"]),
    ]
}

/// Prints the file whose name `FMP4_SHOW` holds, in hexadecimal.
fn show(name: &str, file: &[u8]) {
    if std::env::var("FMP4_SHOW").is_ok_and(|wanted| wanted == name) {
        let digits: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("hex {digits}");
    }
}

/// The hashes stand for files other tools were asked about; after a wanted change ask again, with
/// NAME one of `h264_aac_Both`, `h264_aac_Video`, `h264_aac_Audio` and so on:
///
/// ```text
/// FMP4_SHOW=NAME cargo test -p protocols fmp4::tests -- --nocapture 2>&1 |
///     sed -n 's/^hex //p' | xxd -r -p > NAME.mp4
/// ffprobe -v warning -show_entries packet=stream_index,pts_time,dts_time,size,flags NAME.mp4
/// ffmpeg -v warning -i NAME.mp4 -f null -
/// mediainfo NAME.mp4
/// ```
///
/// No tool may warn, and the packets must be those of the source. Of others, mp4box 2.4.1 (npm) and
/// mp4-atom 0.17.0 read every file; the former misreads every `dfLa`. Chromium 156 plays those of
/// H.264, AV1, VP9, AAC, Opus and FLAC through `MediaSource`, appended 1000 bytes at a time; it
/// accepts no MP3, AC-3, VP8 or G.711 in MP4.
#[test]
fn golden_files() {
    let mut wrong = Vec::new();
    for (name, source, hashes) in golden() {
        for (selection, expected) in
            [Selection::Both, Selection::Video, Selection::Audio].into_iter().zip(hashes)
        {
            if init_segment(&source.tracks, selection).is_err() {
                assert_eq!(expected, "", "{name} {selection:?}");
                continue;
            }
            let file = package(&source, selection);
            show(&format!("{name}_{selection:?}"), &file);
            if hash(&file) != expected {
                wrong.push((name, selection, hash(&file)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_packaged_reads_back_the_same() {
    for (name, source, _) in golden() {
        let file = Bytes::from(package(&source, Selection::Both));
        let (movie, fragments) = read_back(&file);
        for (kind, track) in [(TrackKind::Video, &movie.video), (TrackKind::Audio, &movie.audio)] {
            let expected: Vec<_> = source
                .frames
                .iter()
                .filter(|frame| TrackKind::of(frame.kind) == Some(kind))
                .collect();
            let Some(track) = track else { continue };
            assert_eq!(track.track_id, kind.id());
            let mut found = Vec::new();
            for fragment in fragments.iter().flat_map(|fragment| &fragment.tracks) {
                if fragment.track_id == track.track_id {
                    found.extend_from_slice(&fragment.samples);
                }
            }
            assert_eq!(found.len(), expected.len(), "{name} {kind:?}");
            let jitter = match kind {
                TrackKind::Video => 0,
                TrackKind::Audio => track.timescale / 500,
            };
            for (sample, frame) in found.iter().zip(expected) {
                let start = sample.offset as usize;
                let payload = file.slice(start..start + sample.size as usize);
                assert!(frame.payload.ends_with(&payload), "{name} {kind:?}");
                assert!(frame.payload.len() - payload.len() <= 2);
                let ticks = frame.dts.to_ticks(track.timescale).unsigned_abs();
                assert!(ticks.abs_diff(sample.decode_time) <= u64::from(jitter), "{name}");
                let read = movie.frame(kind, sample, payload).unwrap();
                assert!((read.pts() - frame.pts()).abs() <= 2_000_000 + 12_000, "{name}");
                assert_eq!(
                    read.kind == FrameKind::Keyframe,
                    frame.kind == FrameKind::Keyframe,
                    "{name}"
                );
            }
        }
        let same = |a: &Tracks, b: &Tracks| {
            let (a, b) = (a.audio.as_ref(), b.audio.as_ref());
            let facts = |track: &Track<AudioInfo>| (track.codec, track.config.clone(), track.info);
            assert_eq!(a.map(facts), b.map(facts), "{name}");
        };
        same(&movie.tracks, &source.tracks);
        if let (Some(read), Some(video)) = (&movie.tracks.video, &source.tracks.video) {
            assert_eq!(read.codec, video.codec);
            let (read_size, size) =
                [read, video].map(|track| (track.info.width, track.info.height)).into();
            assert_eq!(read_size, size);
            // VP8 without a record gets one; all others keep theirs byte for byte.
            assert!(read.config == video.config || video.codec == Codec::Vp8, "{name}");
        }
    }
}

#[test]
fn what_cannot_be_carried_is_named() {
    let Source { mut tracks, .. } = flv(testdata!("flv1_alaw.flv"));
    let legacy = LeftOut { codec: Codec::LegacyVideo(2), reason: Reason::Codec };
    let init = init_segment(&tracks, Selection::Both).unwrap();
    assert_eq!((init.carried, &init.left_out[..]), (Selection::Audio, &[legacy][..]));
    let nothing = init_segment(&tracks, Selection::Video).unwrap_err();
    assert_eq!(nothing.left_out, [legacy]);
    assert_eq!(codecs(&tracks, Selection::Both, Manifest::Hls), "alaw");
    let mut reason = |codec, config: &'static [u8], sample_rate| {
        let info = AudioInfo { sample_rate, channels: 0, sample_bits: 0 };
        tracks.audio = Some(Track { codec, config: Bytes::from_static(config), info });
        init_segment(&tracks, Selection::Audio).map_err(|nothing| nothing.left_out[0].reason)
    };
    assert_eq!(reason(Codec::Speex, b"", 16_000), Err(Reason::Codec));
    assert_eq!(reason(Codec::Aac, b"", 48_000), Err(Reason::NoConfig));
    assert_eq!(reason(Codec::Ac3, b"", 48_000), Err(Reason::NoConfig));
    assert_eq!(reason(Codec::Ac3, b"\x10", 48_000), Err(ConfigError::Truncated.into()));
    assert_eq!(reason(Codec::Mp3, b"", 0), Err(Reason::NoSampleRate));
    assert_eq!(init_segment(&Tracks::default(), Selection::Both).unwrap_err().left_out, []);
}

#[test]
fn opus_without_a_header_and_with_a_channel_mapping() {
    let read = |config: &[u8], channels| {
        let info = AudioInfo { sample_rate: 48_000, channels, sample_bits: 16 };
        let track = Track { codec: Codec::Opus, config: Bytes::copy_from_slice(config), info };
        let tracks = Tracks { audio: Some(track), ..Tracks::default() };
        let init = init_segment(&tracks, Selection::Audio).ok()?;
        read_back(&init.bytes).0.tracks.audio.map(|track| track.config)
    };
    assert_eq!(read(b"", 0).unwrap(), opus::build_config(2, 0, 48_000)[..]);
    assert_eq!(read(b"", 6), None);
    let mut header = opus::build_config(6, 312, 44_100).to_vec();
    (header[16], header[18]) = (7, 1);
    header.extend_from_slice(&[4, 2, 0, 4, 1, 2, 3, 5]);
    assert_eq!(read(&header, 6).unwrap(), header);
}

#[test]
fn names_for_playlists() {
    let names = |source: &Source, manifest| codecs(&source.tracks, Selection::Both, manifest);
    let found: Vec<_> =
        golden().iter().map(|(_, source, _)| names(source, Manifest::Dash)).collect();
    // As the npm package mp4box 2.4.1 names the tracks of the golden files, but for case.
    let expected = [
        "avc1.64000b,mp4a.40.2",
        "avc1.64000b,mp4a.6B",
        "avc1.64000b,ac-3",
        "hvc1.1.6.L30.90,opus",
        "av01.0.00M.08,mp4a.40.2",
        "vp09.00.10.08,flac",
        "alaw",
        "vp08.00.10.08",
        "hvc1.4.10.L30.9E.8,ec-3",
        "mp4a.69",
    ];
    assert_eq!(found, expected);
    assert_eq!(names(&golden()[1].1, Manifest::Hls), "avc1.64000b,mp4a.40.34");
}

/// Read with ISO/IEC 14496-12 8.8 and 8.16.5 in hand; players agree by the golden files.
#[test]
fn the_bytes_of_a_fragment() {
    let sample = |kind, composition_offset, payload: &'static [u8]| Sample {
        duration: 3000,
        composition_offset,
        kind,
        payload: Bytes::from_static(payload),
    };
    let head = FragmentHead {
        track: TrackKind::Video,
        sequence_number: 7,
        base_decode_time: 0x1_0000_0002,
        ntp_timestamp: Some(ntp_timestamp(1_500_000_000)),
    };
    let samples =
        [sample(FrameKind::Keyframe, 6000, b"abc"), sample(FrameKind::Disposable, -3000, b"d")];
    let mut out = Vec::new();
    write_fragment(&mut out, &head, &samples).unwrap();
    let expected = [
        &b"\0\0\0\x20prft\x01\0\0\x08\0\0\0\x01"[..],
        &(2_208_988_801u64 << 32 | 1 << 31).to_be_bytes(),
        &0x1_0000_0002u64.to_be_bytes(),
        b"\0\0\0\x78moof\0\0\0\x10mfhd\0\0\0\0\0\0\0\x07\0\0\0\x60traf",
        b"\0\0\0\x18tfhd\0\x02\0\x28\0\0\0\x01\0\0\x0b\xb8\x01\x01\0\0",
        b"\0\0\0\x14tfdt\x01\0\0\0\0\0\0\x01\0\0\0\x02",
        b"\0\0\0\x2ctrun\x01\0\x0e\x01\0\0\0\x02\0\0\0\x80",
        b"\0\0\0\x03\x02\0\0\0\0\0\x17\x70\0\0\0\x01\x01\x81\0\0\xff\xff\xf4\x48",
        b"\0\0\0\x0cmdatabcd",
    ]
    .concat();
    assert_eq!(out, expected);
    out.clear();
    let head = FragmentHead { track: TrackKind::Audio, ntp_timestamp: None, ..head };
    let mut samples = [sample(FrameKind::Audio, 0, b"ab"), sample(FrameKind::Audio, 0, b"c")];
    samples[1].duration = 3001;
    write_fragment(&mut out, &head, &samples).unwrap();
    let trun =
        b"\0\0\0\x24trun\x01\0\x03\x01\0\0\0\x02\0\0\0\x74\0\0\x0b\xb8\0\0\0\x02\0\0\x0b\xb9";
    assert!(out.windows(trun.len()).any(|window| window == trun), "{}", out.escape_ascii());
    out.clear();
    write_fragment(&mut out, &head, &[]).unwrap();
    assert!(out.is_empty());
    write_segment_type(&mut out);
    assert_eq!(out, b"\0\0\0\x18stypmsdh\0\0\0\0msdhcmfs");
}

#[test]
fn the_bytes_of_indexes() {
    let mut out = Vec::new();
    let index = SegmentIndex {
        track: TrackKind::Video,
        timescale: 90_000,
        earliest_presentation_time: 7200,
        first_offset: 0,
    };
    let reference = SegmentReference { bytes: 500, duration: 18_000, starts_with_keyframe: true };
    write_segment_index(&mut out, &index, &[reference]);
    let expected = [
        &b"\0\0\0\x34sidx\x01\0\0\0\0\0\0\x01\0\x01\x5f\x90\0\0\0\0\0\0\x1c\x20"[..],
        b"\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\x01\xf4\0\0\x46\x50\x80\0\0\0",
    ];
    assert_eq!(out, expected.concat());
    out.clear();
    out.push(0xaa);
    let point = |track, presentation_time, moof_offset| RandomAccessPoint {
        track,
        presentation_time,
        moof_offset,
    };
    write_random_access(&mut out, &[point(TrackKind::Video, 9, 1000)]);
    let expected = [
        &b"\xaa\0\0\0\x43mfra\0\0\0\x2btfra\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"[..],
        b"\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\x03\xe8\x01\x01\x01\0\0\0\x10mfro\0\0\0\0\0\0\0\x43",
    ];
    assert_eq!(out, expected.concat());
}

/// A finished recording of one track: index in front, reference times, random access at the end.
/// Shown as `indexed`; `ffprobe -v trace -use_mfra_for pts` lists `sidx`, `prft` and `mfra`.
#[test]
fn a_file_with_indexes() {
    let Source { tracks, frames } = h264_aac();
    let mut builder = FragmentBuilder::video(tracks.video.as_ref().unwrap());
    let (mut media, mut written) = (Vec::new(), Vec::new());
    for frame in frames.iter().filter(|frame| frame.kind.is_video()) {
        builder.push(frame);
        if frame.kind == FrameKind::Keyframe {
            let now = ntp_timestamp(1_700_000_000_000_000_000 + frame.dts.nanos().unsigned_abs());
            written.extend(builder.cut(&mut media, written.len() as u32 + 1, Some(now)));
        }
    }
    written.extend(builder.finish(None, &mut media, 3, None));
    let reference = |fragment: &Fragment| SegmentReference {
        bytes: fragment.bytes as u32,
        duration: fragment.duration as u32,
        starts_with_keyframe: fragment.starts_with_keyframe,
    };
    let references: Vec<_> = written.iter().map(reference).collect();
    let index = SegmentIndex {
        track: TrackKind::Video,
        timescale: VIDEO_TIMESCALE,
        earliest_presentation_time: 7200,
        first_offset: 0,
    };
    let mut file = init_segment(&tracks, Selection::Video).unwrap().bytes.to_vec();
    write_segment_index(&mut file, &index, &references);
    let start = file.len();
    file.extend_from_slice(&media);
    let (_, found) = read_back(&file.clone().into());
    let point = |(fragment, found): (&Fragment, &FoundFragment)| RandomAccessPoint {
        track: TrackKind::Video,
        presentation_time: fragment.base_decode_time + 7200,
        moof_offset: found.offset,
    };
    let points: Vec<_> = written.iter().zip(&found).map(point).collect();
    write_random_access(&mut file, &points);
    let ends: Vec<_> = found.iter().map(|found| found.offset + found.size).collect();
    let summed = references.iter().scan(start as u64, |end, reference| {
        *end += u64::from(reference.bytes);
        Some(*end)
    });
    assert_eq!(ends, summed.collect::<Vec<_>>());
    show("indexed", &file);
    assert_eq!(hash(&file), "bac6564a4765");
}
