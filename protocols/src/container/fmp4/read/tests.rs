//! Files of an encoder against the packets its probe prints, files cut anywhere, hostile boxes.

use std::fmt::Write;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::*;
use crate::codec::ac3_config;
use crate::codec::frame_samples::FrameSamples;
use crate::container::fmp4::tests::{h264_aac, package, read_back};
use crate::container::fmp4::{
    FragmentHead, Sample, Selection, TrackKind, init_segment, write_fragment,
};
use crate::media::{Codec, FrameKind};

macro_rules! testdata {
    ($name:literal) => {
        Bytes::from_static(include_bytes!(concat!("testdata/", $name)))
    };
}

/// The packets of a track as the probe prints them: its edits applied, nothing shifted.
fn packets(track: &MovieTrack, samples: &[FileSample]) -> (usize, String) {
    let mut table = String::new();
    for sample in samples {
        let dts = sample.decode_time as i64 + track.edit_offset;
        let (pts, key) = (dts + i64::from(sample.composition_offset), sample.keyframe);
        let (size, offset, flag) = (sample.size, sample.offset, if key { 'K' } else { '_' });
        writeln!(table, "{pts},{dts},{size},{offset},{flag}").unwrap();
    }
    let digest = Sha256::digest(&table);
    (samples.len(), digest[..6].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Codec, packets and hash of their table, for video and for sound. Tables by
///
/// ```text
/// ffprobe -v error -select_streams v -show_entries packet=pts,dts,size,pos,flags \
///     -of csv=p=0 FILE | grep . | sed -E 's/,([K_]).*$/,\1/' | sha256sum
/// ```
#[test]
fn samples_are_those_a_probe_prints() {
    use Codec::{Aac, Ac3, Av1, Eac3, Flac, H264, H265, Mp3, Opus, Vp9};
    type Expected = Option<(Codec, usize, &'static str)>;
    let files: [(&str, Bytes, Expected, Expected); 8] = [
        (
            "progressive.mp4",
            testdata!("progressive.mp4"),
            Some((H264, 25, "5ed038933769")),
            Some((Aac, 48, "0c02cd57dee0")),
        ),
        ("ac3.mp4", testdata!("ac3.mp4"), None, Some((Ac3, 16, "7c9bcfd3b0d9"))),
        (
            "av1_opus.mp4",
            testdata!("av1_opus.mp4"),
            Some((Av1, 10, "64d5321d73eb")),
            Some((Opus, 21, "f324666bbd60")),
        ),
        (
            "h265_eac3.mp4",
            testdata!("h265_eac3.mp4"),
            Some((H265, 13, "45206a08ea9d")),
            Some((Eac3, 16, "d4acad791afd")),
        ),
        ("mp3.mp4", testdata!("mp3.mp4"), None, Some((Mp3, 23, "976510242cc1"))),
        (
            "vp9_flac.mp4",
            testdata!("vp9_flac.mp4"),
            Some((Vp9, 8, "a604cd6cdb8a")),
            Some((Flac, 4, "7217de98b5a2")),
        ),
        // A sound description of version 1, and the descriptor inside `wave`.
        (
            "h264_aac.mov",
            testdata!("h264_aac.mov"),
            Some((H264, 13, "024a2e739aa0")),
            Some((Aac, 25, "540d70442182")),
        ),
        ("h264_alaw.mov", testdata!("h264_alaw.mov"), Some((H264, 8, "90e923362d56")), None),
    ];
    for (name, file, video, audio) in files {
        let (movie, fragments) = read_back(&file);
        assert!(fragments.is_empty() && !movie.fragmented, "{name}");
        let table = |track: &Option<MovieTrack>| {
            let track = track.as_ref()?;
            Some(packets(track, &track.table.samples().collect::<Vec<_>>()))
        };
        let found = table(&movie.video).zip(movie.tracks.video.as_ref());
        let expected = |expected: Expected| {
            expected.map(|(codec, count, hash)| ((count, hash.to_owned()), codec))
        };
        assert_eq!(found.map(|(table, track)| (table, track.codec)), expected(video), "{name}");
        let found = table(&movie.audio).zip(movie.tracks.audio.as_ref());
        assert_eq!(found.map(|(table, track)| (table, track.codec)), expected(audio), "{name}");
        let passed_over: &[[u8; 4]] = if name == "h264_alaw.mov" { &[*b"alaw"] } else { &[] };
        assert_eq!(movie.passed_over, passed_over, "{name}");
    }
}

/// Durations and records of another writer are what the headers of the frames say.
#[test]
fn headers_of_frames_agree_with_their_file() {
    for file in [
        testdata!("progressive.mp4"),
        testdata!("ac3.mp4"),
        testdata!("av1_opus.mp4"),
        testdata!("h265_eac3.mp4"),
        testdata!("mp3.mp4"),
        testdata!("vp9_flac.mp4"),
    ] {
        let (movie, _) = read_back(&file);
        let (track, found) = (movie.tracks.audio.unwrap(), movie.audio.unwrap());
        let frame_samples = FrameSamples::of(&track);
        let samples: Vec<_> = found.table.samples().collect();
        // The last one is cut to the length of the file.
        for sample in &samples[..samples.len() - 1] {
            let start = sample.offset as usize;
            let payload = &file[start..start + sample.size as usize];
            assert_eq!(frame_samples.count(payload), Some(sample.duration), "{:?}", track.codec);
            if let Some(header) = ac3_config::parse(payload) {
                assert_eq!(header.record(), track.config);
                assert_eq!(header.info, track.info);
                assert_eq!((header.frame_bytes, header.codec), (sample.size, track.codec));
            }
        }
    }
}

/// Two tracks in one `moof`, defaults in `trex`, absolute offsets. Hashes as above.
#[test]
fn fragments_of_another_writer() {
    let file = testdata!("fragmented.mp4");
    let (movie, fragments) = read_back(&file);
    assert!(movie.fragmented);
    for (track, expected) in [
        (movie.video.as_ref().unwrap(), (25, "d9f974a43a26")),
        (movie.audio.as_ref().unwrap(), (48, "7c53dd58f7e8")),
    ] {
        assert_eq!(track.table.count(), 0);
        let of_track = fragments.iter().flat_map(|fragment| &fragment.tracks);
        let of_track = of_track.filter(|fragment| fragment.track_id == track.track_id);
        let samples: Vec<_> = of_track.flat_map(|fragment| fragment.samples.clone()).collect();
        assert_eq!(packets(track, &samples), (expected.0, expected.1.to_owned()));
    }
}

#[test]
fn times_are_edited_and_begin_at_zero() {
    let (movie, _) = read_back(&testdata!("progressive.mp4"));
    let first = |kind, track: &Option<MovieTrack>| {
        let sample = track.as_ref().unwrap().table.samples().next().unwrap();
        let frame = movie.frame(kind, &sample, Bytes::new()).unwrap();
        (frame.dts.nanos(), frame.pts().nanos())
    };
    // Presentation is 80 ms behind decoding for video, 21.3 ms of sound go before.
    assert_eq!(first(TrackKind::Video, &movie.video), (0, 80_000_000));
    assert_eq!(first(TrackKind::Audio, &movie.audio), (58_666_667, 58_666_667));
    let info = movie.tracks.video.unwrap().info;
    assert_eq!((info.width, info.height), (160, 90));
}

/// Steps through a file that ends early; what is whole must be found and nothing else.
fn scan(file: &[u8], piece_bytes: usize) -> (Vec<FoundFragment>, u64, Stop) {
    let mut scanner = Scanner::new(file.len() as u64);
    let (mut window, mut fragments) = ((0, &file[..0]), Vec::new());
    loop {
        match scanner.step(window.0, window.1) {
            Step::Read { offset, bytes } => {
                let start = usize::try_from(offset).unwrap();
                assert!(bytes <= file.len() - start);
                let end = (start + bytes.max(piece_bytes)).min(file.len());
                window = (offset, &file[start..end]);
            }
            Step::Movie { .. } => {}
            Step::Fragment(fragment) => fragments.push(fragment),
            Step::Done { whole_bytes, stop } => return (fragments, whole_bytes, stop),
        }
    }
}

#[test]
fn a_recording_cut_at_any_byte_is_whole_to_its_last_fragment() {
    let file = package(&h264_aac(), Selection::Both);
    let (fragments, whole_bytes, stop) = scan(&file, 0);
    assert_eq!((whole_bytes, stop), (file.len() as u64, Stop::End));
    assert_eq!(scan(&file, 100_000).0, fragments);
    let header_bytes = fragments[0].offset;
    for length in 0..file.len() as u64 {
        let (found, whole_bytes, stop) = scan(&file[..length as usize], 64);
        let whole: Vec<_> =
            fragments.iter().filter(|one| one.offset + one.size <= length).cloned().collect();
        let end = whole.last().map_or(0, |one| one.offset + one.size);
        if length >= header_bytes {
            assert_eq!(whole_bytes, end.max(header_bytes), "{length}");
        }
        assert_eq!(stop == Stop::End, whole_bytes == length, "{length}");
        assert_eq!(found, whole, "{length}");
    }
}

#[test]
fn fragments_say_where_they_begin_and_how_long_they_last() {
    let (fragments, ..) = scan(&package(&h264_aac(), Selection::Both), 64);
    let mut ends = [None; 3];
    for fragment in &fragments {
        let [track] = &fragment.tracks[..] else { panic!("{fragment:?}") };
        let end = &mut ends[track.track_id as usize];
        assert_eq!(track.base_decode_time, end.unwrap_or(track.base_decode_time));
        *end = Some(track.base_decode_time + track.duration);
    }
    let starts = |id| fragments.iter().filter(move |one| one.tracks[0].track_id == id);
    let keyframes = starts(1).filter(|one| one.tracks[0].starts_with_keyframe()).count();
    // Keyframes at pictures 0, 12 and 24, and parts of 5 pictures between them.
    assert_eq!((keyframes, starts(1).count()), (3, 7));
}

/// Our one fragment with a byte of its `moof` replaced; what the scanner makes of it.
fn with_bytes(at: usize, bytes: &[u8]) -> Stop {
    let payload = Bytes::from_static(b"abc");
    let sample =
        Sample { duration: 3000, composition_offset: 0, kind: FrameKind::Keyframe, payload };
    let head = FragmentHead {
        track: TrackKind::Video,
        sequence_number: 1,
        base_decode_time: 0,
        ntp_timestamp: None,
    };
    let mut file = Vec::new();
    write_fragment(&mut file, &head, &[sample]).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let (_, whole_bytes, stop) = scan(&file, 0);
    assert_eq!(stop == Stop::End, whole_bytes == file.len() as u64);
    stop
}

#[test]
fn hostile_fragments_end_the_walk() {
    let bad = |name| Stop::Bad(ReadError::BadBox(name));
    assert_eq!(with_bytes(4, b"moof"), Stop::End);
    // Size 0 reaches to the end of the file, where an `mdat` should be.
    assert_eq!(with_bytes(0, &[0, 0, 0, 0]), Stop::Incomplete);
    assert_eq!(with_bytes(0, &[0, 0, 0, 7]), bad(*b"moof"));
    assert_eq!(with_bytes(0, &[0xff; 4]), Stop::Incomplete);
    // Size 1 announces 64 bits, which the next box is taken for.
    assert_eq!(with_bytes(0, &[0, 0, 0, 1]), Stop::Incomplete);
    // The count of the run, then its box.
    let count = 8 + 16 + 8 + 24 + 20 + 12;
    assert_eq!(with_bytes(count, &[0xff; 4]), Stop::Bad(ReadError::TooLarge));
    assert_eq!(with_bytes(count, &[0, 0, 0, 9]), bad(*b"trun"));
    assert_eq!(with_bytes(8 + 16 + 8 + 4, b"free"), bad(*b"tfhd"));
    // No decode time: it goes on from 0.
    assert_eq!(with_bytes(8 + 16 + 8 + 24 + 4, b"free"), Stop::End);
}

#[test]
fn limits_hold_and_bytes_that_do_not_come_end_the_walk() {
    let huge = |name: &[u8; 4], size: u64| {
        let header = [&[0, 0, 0, 1][..], name, &size.to_be_bytes()].concat();
        Scanner::new(size).step(0, &header)
    };
    let too_large = Step::Done { whole_bytes: 0, stop: Stop::Bad(ReadError::TooLarge) };
    assert_eq!(huge(b"moof", MOOF_BYTES_MAX + 1), too_large);
    assert_eq!(huge(b"moov", MOOV_BYTES_MAX + 1), too_large);
    assert_eq!(huge(b"moov", MOOV_BYTES_MAX), Step::Movie { offset: 0, size: MOOV_BYTES_MAX });
    let mut scanner = Scanner::new(100);
    assert_eq!(scanner.step(0, &[]), Step::Read { offset: 0, bytes: 16 });
    assert_eq!(scanner.step(0, &[0; 8]), Step::Done { whole_bytes: 0, stop: Stop::NotRead });
    // Past the limit of boxes nothing is read any more.
    let mut scanner = Scanner::new(u64::MAX);
    let boxes = b"\0\0\0\x08free".repeat(1 << 16);
    let mut offset = 0;
    let done = loop {
        match scanner.step(offset, &boxes) {
            Step::Read { offset: next, .. } => offset = next,
            step => break step,
        }
    };
    let whole_bytes = u64::from(TOP_LEVEL_BOXES_MAX) * 8;
    assert_eq!(done, Step::Done { whole_bytes, stop: Stop::TooManyBoxes });
}

/// The `moov` of a file with bytes of it replaced, found by name.
fn damaged(file: &Bytes, name: &[u8; 4], at: usize, bytes: &[u8]) -> Result<Movie, ReadError> {
    let start = file.windows(4).position(|window| window == b"moov").unwrap() - 4;
    let mut moov = file[start..].to_vec();
    let place = moov.windows(4).position(|window| window == name).unwrap() + 4 + at;
    moov[place..place + bytes.len()].copy_from_slice(bytes);
    Movie::parse(&moov.into(), file.len() as u64)
}

#[test]
fn hostile_tables_are_refused_or_end_early() {
    let file = testdata!("progressive.mp4");
    let count = |damaged: Result<Movie, ReadError>| {
        damaged.map(|movie| movie.video.map_or(0, |track| track.table.samples().count()))
    };
    let bad = |name| Err(ReadError::BadBox(name));
    assert_eq!(count(damaged(&file, b"stsz", 0, &[0])), Ok(25));
    for name in [b"stsz", b"stts", b"ctts", b"stsc", b"stco", b"stss"] {
        let at = if name == b"stsz" { 8 } else { 4 };
        assert_eq!(count(damaged(&file, name, at, &[0xff; 4])), bad(*name));
    }
    // One size for 2^32 - 1 samples; then for 25 that do not fit the file.
    assert_eq!(
        count(damaged(&file, b"stsz", 4, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])),
        Err(ReadError::TooLarge)
    );
    assert_eq!(count(damaged(&file, b"stsz", 4, &[0, 1, 0, 0])), Ok(0));
    // Durations for 0 samples and of 2^32 - 1 ticks; chunks without samples; a chunk elsewhere.
    assert_eq!(count(damaged(&file, b"stts", 8, &[0; 4])), Ok(0));
    assert_eq!(count(damaged(&file, b"stts", 12, &[0xff; 4])), Ok(25));
    assert_eq!(count(damaged(&file, b"stco", 8, &[0xff; 4])), Ok(0));
    assert_eq!(count(damaged(&file, b"stss", 8, &[0xff; 4])), Ok(25));
    assert_eq!(damaged(&file, b"mdhd", 12, &[0; 4]).unwrap_err(), ReadError::BadBox(*b"mdhd"));
    assert_eq!(damaged(&file, b"avcC", 0, &[9]).unwrap().passed_over, [*b"avc1"]);
    assert_eq!(Movie::parse(&Bytes::new(), 0).unwrap_err(), ReadError::BadBox(*b"moov"));
}

#[test]
fn an_initialisation_segment_is_a_movie_without_samples() {
    let source = h264_aac();
    let init = init_segment(&source.tracks, Selection::Both).unwrap().bytes;
    let (movie, fragments) = read_back(&init);
    assert!(movie.fragmented && fragments.is_empty() && movie.passed_over.is_empty());
    assert_eq!(movie.tracks.audio, source.tracks.audio);
    let video = movie.video.unwrap();
    assert_eq!((video.track_id, video.timescale, video.table.count()), (1, 90_000, 0));
    let ids: Vec<_> = movie.defaults.iter().map(|defaults| defaults.track_id).collect();
    assert_eq!(ids, [1, 2]);
}
