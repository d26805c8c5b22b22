//! Files of an encoder as segments: every sample of the file is in one of them, at its time; files
//! that are cut short or damaged are refused or end early.

use super::*;
use proptest::prelude::*;
use protocols::container::fmp4::read::TrackFragment;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::file_body::Part;

macro_rules! testdata {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(
                "../../../../protocols/src/container/fmp4/read/testdata/",
                $name
            ))
            .as_slice(),
        )
    };
}

const FILES: [(&str, &[u8]); 8] = [
    testdata!("progressive.mp4"),
    testdata!("fragmented.mp4"),
    testdata!("h264_aac.mov"),
    testdata!("h265_eac3.mp4"),
    testdata!("av1_opus.mp4"),
    testdata!("vp9_flac.mp4"),
    testdata!("ac3.mp4"),
    testdata!("mp3.mp4"),
];

/// An open file with this content, which has no name any more.
pub(in crate::http::vod) fn open(content: &[u8]) -> File {
    static SERIAL: AtomicUsize = AtomicUsize::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vod-scan-{}-{serial}", std::process::id()));
    File::create_new(&path).unwrap().write_all(content).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn walk(content: &[u8], target: Duration) -> (File, Result<Presentation, Unplayable>) {
    let file = open(content);
    let length = content.len() as u64;
    let mut walk = Box::new(Walk::new(file.try_clone().unwrap(), length, target));
    loop {
        match walk.advance() {
            Slice::More(more) => walk = more,
            Slice::Done(made) => return (file, made),
        }
    }
}

/// All segments, each as bytes.
fn segments(content: &[u8], file: &File, made: &Presentation) -> Vec<Vec<u8>> {
    let bytes = |part: Part| match part {
        Part::Bytes(bytes) => bytes.to_vec(),
        Part::File(range) => content[range.start as usize..range.end as usize].to_vec(),
    };
    let segment = |number| made.segment(number, file, content.len() as u64);
    let parts = (0..).map_while(segment).map(|parts| parts.expect("a sound file"));
    parts.map(|parts| parts.into_iter().flat_map(bytes).collect()).collect()
}

/// Payload, decode and presentation time in microseconds, and whether it is a keyframe.
type Samples = Vec<(Vec<u8>, i64, i64, bool)>;

/// What a file holds of both tracks, in whatever form.
fn samples_of(content: &[u8]) -> (Samples, Samples) {
    let whole = Bytes::copy_from_slice(content);
    let mut scanner = Scanner::new(content.len() as u64);
    let (mut movie, mut found): (Option<Movie>, Vec<TrackFragment>) = (None, Vec::new());
    loop {
        match scanner.step(0, content) {
            Step::Read { .. } => panic!("everything is there"),
            Step::Movie { offset, size } => {
                let moov = whole.slice(offset as usize..(offset + size) as usize);
                let parsed = Movie::parse(&moov, content.len() as u64).unwrap();
                scanner.set_defaults(&parsed.defaults);
                movie = Some(parsed);
            }
            Step::Fragment(fragment) => found.extend(fragment.tracks),
            Step::Done { .. } => break,
        }
    }
    let movie = movie.expect("a moov");
    let of = |kind| {
        let Some(track) = presentation::track(&movie, kind) else { return Samples::new() };
        let fragments = found.iter().filter(|fragment| fragment.track_id == track.track_id);
        let in_fragments = fragments.flat_map(|fragment| &fragment.samples).copied();
        let all = track.table.samples().chain(in_fragments);
        all.map(|sample| {
            let at = sample.offset as usize;
            let payload = whole.slice(at..at + sample.size as usize);
            let frame = movie.frame(kind, &sample, payload).unwrap();
            let micros = |time: Timestamp| time.nanos() / 1000;
            (frame.payload.to_vec(), micros(frame.dts), micros(frame.pts()), sample.keyframe)
        })
        .collect()
    };
    (of(TrackKind::Video), of(TrackKind::Audio))
}

#[test]
fn segments_hold_every_sample_at_its_time() {
    for (name, content) in FILES {
        for target in [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(4)] {
            let (file, made) = walk(content, target);
            let made = made.unwrap_or_else(|error| panic!("{name}: {error}"));
            let segments = segments(content, &file, &made);
            let whole = [&made.init()[..], &segments.concat()].concat();
            let (expected, found) = (samples_of(content), samples_of(&whole));
            for (expected, found) in [(expected.0, found.0), (expected.1, found.1)] {
                assert_eq!(expected.len(), found.len(), "{name} {target:?}");
                for (at, (before, after)) in expected.iter().zip(&found).enumerate() {
                    assert!(before.0 == after.0 && before.3 == after.3, "{name} sample {at}");
                    // A tick of the timescale of pictures is 11 microseconds.
                    let near = |a: i64, b: i64| a.abs_diff(b) <= 25;
                    let same_time = near(before.1, after.1) && near(before.2, after.2);
                    assert!(
                        same_time,
                        "{name} sample {at}: {:?} {:?}",
                        (before.1, before.2),
                        (after.1, after.2)
                    );
                }
            }
            // Each can be decoded without the others.
            for (number, segment) in segments.iter().enumerate() {
                let (video, audio) = samples_of(&[&made.init()[..], segment].concat());
                let first = video.first().or(audio.first()).expect("a sample");
                assert!(first.3, "{name} {target:?}: segment {number} begins with a keyframe");
            }
            let playlist = made.playlist("a b.mp4", "t=1");
            assert_eq!(playlist.matches("#EXTINF").count(), segments.len());
            assert!(playlist.contains("a%20b.mp4/init.mp4?t=1") && playlist.ends_with("ENDLIST\n"));
            if target == Duration::ZERO && name == "progressive.mp4" {
                assert!(segments.len() > 1, "{name} has keyframes to cut at");
            }
            assert!(made.segment(segments.len(), &file, content.len() as u64).is_none());
        }
    }
}

#[test]
fn what_is_no_movie_is_refused() {
    for content in [&b""[..], b"x", b"no movie at all, only text", &[0; 5000]] {
        assert_eq!(walk(content, Duration::ZERO).1.unwrap_err(), Unplayable::NotMp4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_files_are_bounded(
        which in 0..FILES.len(),
        cut in 0.0f64..1.0,
        changes in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 0..6),
    ) {
        let mut content = FILES[which].1.to_vec();
        content.truncate((content.len() as f64 * cut * 1.2) as usize);
        for (at, value) in changes {
            let at = (content.len() as f64 * at) as usize;
            if let Some(byte) = content.get_mut(at) {
                *byte = value;
            }
        }
        let (file, made) = walk(&content, Duration::ZERO);
        if let Ok(made) = made {
            for number in 0..50 {
                let Some(Ok(parts)) = made.segment(number, &file, content.len() as u64) else { continue };
                for part in parts {
                    if let Part::File(range) = part {
                        prop_assert!(range.start < range.end && range.end <= content.len() as u64);
                    }
                }
            }
        }
    }
}
