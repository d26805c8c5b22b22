//! Fuzz bodies of the MP4 readers, of the builder, and of the codec headers both lean on.

use bytes::Bytes;

use super::read::{FileSample, Movie, Scanner, Step};
use super::{FragmentBuilder, Selection, TrackKind, codecs, init_segment};
use crate::codec::rfc6381::Manifest;
use crate::codec::{ac3_config, flac, frame_samples::FrameSamples, mp3, vp};
use crate::fuzzing::Target;
use crate::media::{AudioInfo, Codec, Frame, FrameKind, Timestamp, Track, Tracks, VideoInfo};

/// The targets of this module by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("fmp4_file", fmp4_file),
    ("fmp4_movie", fmp4_movie),
    ("fmp4_builder", fmp4_builder),
    ("audio_headers", audio_headers),
    ("sample_entries", sample_entries),
];

/// Samples of a table walked; a small box may announce millions.
const SAMPLES_MAX: usize = 4096;

/// A file: every step of a scanner, and the movies it finds.
pub fn fmp4_file(data: &[u8]) {
    let mut scanner = Scanner::new(data.len() as u64);
    let mut window = (0u64, &data[..0]);
    let mut end = 0;
    loop {
        match scanner.step(window.0, window.1) {
            Step::Read { offset, bytes } => {
                let rest = data.get(offset as usize..).unwrap_or_default();
                assert!(bytes <= rest.len());
                window = (offset, &rest[..bytes]);
            }
            Step::Movie { offset, size } => {
                let start = offset as usize;
                let moov = Bytes::copy_from_slice(&data[start..start + size as usize]);
                if let Ok(movie) = Movie::parse(&moov, data.len() as u64) {
                    scanner.set_defaults(&movie.defaults);
                    walk(&movie, data.len() as u64);
                    let behind = Bytes::copy_from_slice(&data[start + size as usize..]);
                    let _ = movie.frames(&behind);
                }
            }
            Step::Fragment(fragment) => {
                assert!(fragment.offset >= end);
                end = fragment.offset + fragment.size;
                assert!(end <= data.len() as u64);
            }
            Step::Done { whole_bytes, .. } => {
                assert!(whole_bytes >= end && whole_bytes <= data.len() as u64);
                return;
            }
        }
    }
}

/// The body of a `moov`.
pub fn fmp4_movie(data: &[u8]) {
    let size = u32::try_from(data.len() + 8).unwrap_or(u32::MAX);
    let moov = Bytes::from([&size.to_be_bytes()[..], b"moov", data].concat());
    for file_bytes in [0, 1 << 40] {
        if let Ok(movie) = Movie::parse(&moov, file_bytes) {
            walk(&movie, file_bytes);
        }
    }
}

fn walk(movie: &Movie, file_bytes: u64) {
    for (kind, track) in [(TrackKind::Video, &movie.video), (TrackKind::Audio, &movie.audio)] {
        let Some(track) = track else { continue };
        for sample in track.table.samples().take(SAMPLES_MAX) {
            let FileSample { offset, size, .. } = sample;
            assert!(offset + u64::from(size) <= file_bytes);
            let _ = movie.frame(kind, &sample, Bytes::new());
        }
    }
    // What is read must be writable, or named as what is not.
    let _ = init_segment(&movie.tracks, Selection::Both);
    let _ = codecs(&movie.tracks, Selection::Both, Manifest::Hls);
}

/// Frames of times and sizes the data picks; every fragment must begin where the last one ended.
pub fn fmp4_builder(data: &[u8]) {
    let info = AudioInfo { sample_rate: 44_100, channels: 2, sample_bits: 16 };
    let codec = if data.len().is_multiple_of(2) { Codec::Opus } else { Codec::Flac };
    let sound = Track { codec, config: Bytes::new(), info };
    let picture = Track { codec: Codec::Av1, config: Bytes::new(), info: VideoInfo::default() };
    for (mut builder, kind) in [
        (FragmentBuilder::video(&picture), FrameKind::Inter),
        (FragmentBuilder::audio(&sound), FrameKind::Audio),
    ] {
        let (mut time, mut out, mut end) = (0i64, Vec::new(), 0);
        for piece in data.chunks(11) {
            let step = piece.iter().take(8).fold(0i64, |step, byte| step << 8 | i64::from(*byte));
            time = time.saturating_add(step >> (piece.len() * 4));
            let payload = Bytes::copy_from_slice(piece);
            let (dts, composition_offset) = (Timestamp::from_nanos(time), step);
            builder.push(&Frame { kind, dts, composition_offset, payload });
            let fragment = match step % 5 {
                0 => builder.cut(&mut out, 1, Some(7)),
                1 => builder.cut_before(Timestamp::from_nanos(time / 2), &mut out, 1, None),
                2 => builder.finish(Some(Timestamp::from_nanos(step)), &mut out, 1, None),
                _ => None,
            };
            if let Some(fragment) = fragment {
                assert!(fragment.base_decode_time >= end && fragment.duration > 0);
                end = fragment.base_decode_time + fragment.duration;
            }
        }
        let mut scanner = Scanner::new(out.len() as u64);
        while let Step::Fragment(found) = scanner.step(0, &out) {
            assert!(found.tracks.iter().all(|track| !track.samples.is_empty()));
        }
    }
}

/// Headers of sound frames.
pub fn audio_headers(data: &[u8]) {
    let _ = mp3::info(data);
    let _ = FrameSamples::Opus.count(data);
    let _ = flac::frame_samples(data);
    let _ = ac3_config::access_unit_samples(data);
    let synced = [&[0x0b, 0x77], data].concat();
    let _ = ac3_config::access_unit_samples(&synced);
    if let Some(header) = ac3_config::parse(&synced) {
        let info = ac3_config::parse_config(header.codec, &header.record());
        let same = |read: &AudioInfo| read.channels == header.info.channels;
        assert!(info.is_ok_and(|info| same(&info)));
    }
}

/// Configuration records of every codec: what an initialisation segment takes reads back.
pub fn sample_entries(data: &[u8]) {
    let config = Bytes::copy_from_slice(data);
    let _ = vp::parse_config(data);
    for codec in [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp8, Codec::Vp9] {
        let video = Some(Track { codec, config: config.clone(), info: VideoInfo::default() });
        round_trip(&Tracks { video, ..Tracks::default() });
    }
    let info = AudioInfo { sample_rate: 48_000, channels: 2, sample_bits: 16 };
    for codec in [Codec::Aac, Codec::Opus, Codec::Flac, Codec::Ac3, Codec::Eac3, Codec::Mp3] {
        let track = Track { codec, config: config.clone(), info };
        let _ = FrameSamples::of(&track).count(data);
        round_trip(&Tracks { audio: Some(track), ..Tracks::default() });
    }
}

fn round_trip(tracks: &Tracks) {
    let _ = codecs(tracks, Selection::Both, Manifest::Dash);
    let Ok(init) = init_segment(tracks, Selection::Both) else { return };
    let mut scanner = Scanner::new(init.bytes.len() as u64);
    let Step::Movie { offset, size } = scanner.step(0, &init.bytes) else {
        panic!("no movie in an initialisation segment");
    };
    let range = offset as usize..(offset + size) as usize;
    let movie = Movie::parse(&init.bytes.slice(range), init.bytes.len() as u64);
    let movie = movie.expect("what was written reads back");
    let codecs = |tracks: &Tracks| {
        let video = tracks.video.as_ref().map(|track| track.codec);
        (video, tracks.audio.as_ref().map(|track| track.codec))
    };
    assert_eq!(codecs(&movie.tracks), codecs(tracks));
}
