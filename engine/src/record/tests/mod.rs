//! Recordings end to end on a real executor: frames in, files on a disk or on a bad one, and out
//! again by the reader of MP4 files.

mod disk;
mod follow;
mod read_back;
mod recovery;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use glommio::LocalExecutorBuilder;
use protocols::container::flv::{Demuxer, Item, TagReader};
use protocols::container::fmp4::TrackKind;
use protocols::container::fmp4::read::{Scanner, Step};
use protocols::media::{Frame, StreamKey, Timestamp, Tracks};

use super::*;
use crate::clock;
use crate::config::Config;
use crate::ring::{Ingested, MediaItem};
use crate::stream::Subscriber;

/// From the beginning of a clip to that of its next round, in milliseconds.
const ROUND_MS: i64 = 1040;

const H264_AAC: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/h264_aac.flv");
const H264_AC3: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/h264_ac3.flv");
const H265_OPUS: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/h265_opus.flv");
const AV1_AAC: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/av1_aac.flv");
const VP9_FLAC: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/vp9_flac.flv");
const FLV1_ALAW: &[u8] =
    include_bytes!("../../../../protocols/src/container/flv/testdata/flv1_alaw.flv");

/// A clip of a second.
struct Clip {
    tracks: Arc<Tracks>,
    frames: Vec<Frame>,
}

fn clip(file: &[u8]) -> Clip {
    let (mut reader, mut demuxer) = (TagReader::new(1 << 20), Demuxer::new(12));
    let (mut input, mut items) = (BytesMut::from(file), VecDeque::new());
    while let Some((tag, timestamp_ms, body)) = reader.next_tag(&mut input).unwrap() {
        let dts = Timestamp::from_millis(timestamp_ms.into());
        demuxer.push(tag, dts, body, &mut items).unwrap();
    }
    let (mut tracks, mut frames) = (Arc::default(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(new) => tracks = new,
            Item::Frame(frame) => frames.push(frame),
        }
    }
    Clip { tracks, frames }
}

impl Clip {
    /// The frames of one round, as if they came in real time from `start` on.
    fn round(&self, round: i64, start: Instant) -> impl Iterator<Item = MediaItem> {
        self.frames.iter().map(move |frame| {
            let dts = Timestamp::from_millis(frame.dts.to_millis() + round * ROUND_MS);
            let at = start + Duration::from_millis(dts.to_millis().unsigned_abs());
            let frame = Frame { dts, ..frame.clone() };
            MediaItem::Frame(Arc::new(Ingested { frame, at }))
        })
    }

    /// Gives a recorder rounds of the clip.
    fn play(&self, taker: &mut dyn Subscriber, rounds: std::ops::Range<i64>, start: Instant) {
        taker.take(&MediaItem::Tracks(Arc::clone(&self.tracks)), start);
        for round in rounds {
            for item in self.round(round, start) {
                taker.take(&item, start);
            }
        }
    }

    fn payloads(&self, video: bool, rounds: usize) -> Vec<Bytes> {
        let of_track = self.frames.iter().filter(|frame| {
            TrackKind::of(frame.kind)
                == Some(if video { TrackKind::Video } else { TrackKind::Audio })
        });
        // A temporal delimiter is not part of a sample.
        let payload = |frame: &Frame| match frame.payload.strip_prefix(&[0x12, 0]) {
            Some(rest) if video => Bytes::copy_from_slice(rest),
            _ => frame.payload.clone(),
        };
        let once: Vec<Bytes> = of_track.map(payload).collect();
        (0..rounds).flat_map(|_| once.clone()).collect()
    }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("rec-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(root: &Path) -> Config {
    let mut config = Config::default();
    config.record.dir = root.to_owned();
    config
}

fn key() -> StreamKey {
    StreamKey::new("", "rec", "x").unwrap()
}

fn place() -> Place {
    Place::find("", "x").unwrap()
}

/// Runs on an executor of its own, as a shard does.
fn on_executor<T: Send + 'static, F: Future<Output = T> + 'static>(
    run: impl FnOnce() -> F + Send + 'static,
) -> T {
    let executor = LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(64);
    executor.spawn(move || async move { run().await }).unwrap().join().unwrap()
}

/// Records rounds of a clip into a folder, the recorder ended with its publisher.
fn record(root: &Path, clip: &'static [u8], rounds: i64, change: fn(&mut Config)) -> Counts {
    let mut config = config(root);
    change(&mut config);
    on_executor(move || async move {
        let hub = Hub::new();
        let mut recorder = hub.record(&key(), &config).unwrap();
        let start = clock::now();
        self::clip(clip).play(&mut recorder, 0..rounds, start);
        recorder.take(&MediaItem::Offline, start);
        assert!(!recorder.tend(start), "done");
        drop(recorder);
        hub.finish(clock::now() + Duration::from_secs(10)).await;
        hub.counts()
    })
}

/// All pieces of the one stream, in order.
fn pieces(root: &Path) -> Vec<(Piece, File)> {
    let library = Library::new(root);
    let days = library.days(&place()).unwrap();
    let names = days.into_iter().flat_map(|day| library.pieces(&place(), day).unwrap());
    names.map(|name| library.piece(&place(), name).unwrap()).collect()
}

/// Samples of one track of a file: payload, decode time, whether it is a keyframe.
type Samples = Vec<(Bytes, u64, bool)>;

/// Every sample of a media file, by the reader of MP4 files alone.
fn samples(file: &[u8]) -> [Samples; 2] {
    let mut scanner = Scanner::new(file.len() as u64);
    let mut samples: [Samples; 2] = Default::default();
    loop {
        match scanner.step(0, file) {
            Step::Movie { .. } => {}
            Step::Fragment(found) => {
                for track in found.tracks {
                    for sample in track.samples {
                        let offset = sample.offset as usize;
                        let payload = &file[offset..offset + sample.size as usize];
                        let sample =
                            (Bytes::copy_from_slice(payload), sample.decode_time, sample.keyframe);
                        samples[track.track_id as usize - 1].push(sample);
                    }
                }
            }
            Step::Done { whole_bytes, stop } => {
                assert_eq!(whole_bytes, file.len() as u64, "{stop:?}");
                return samples;
            }
            Step::Read { .. } => panic!("everything is there"),
        }
    }
}

fn bytes_of(file: &File, bytes: u64) -> Vec<u8> {
    let mut read = vec![0; bytes as usize];
    file.read_exact_at(&mut read, 0).unwrap();
    read
}
