//! A disk that is full, slow, read-only, failing or gone: gaps where it was, and nothing else.

use std::cell::RefCell;
use std::io;

use futures_lite::future::yield_now;

use super::super::disk::{Disk, PieceFiles, Which};
use super::super::index::Index;
use super::super::queue::Queue;
use super::super::tally::Tally;
use super::super::writer::{Complaints, Writer};
use super::*;

/// A disk in memory that does what the test says.
#[derive(Default)]
struct Bad {
    pieces: Vec<[Vec<u8>; 2]>,
    /// The next piece cannot be made.
    create_error: Option<i32>,
    /// Writes beyond so many bytes in all fail.
    space: Option<(usize, i32)>,
    /// Writes do not end.
    stuck: bool,
    sync_error: Option<i32>,
}

#[derive(Clone, Default)]
struct BadDisk(Rc<RefCell<Bad>>);

struct BadPiece {
    disk: BadDisk,
    index: usize,
}

impl Disk for BadDisk {
    type Piece = BadPiece;

    async fn create(&self, _: u64) -> io::Result<BadPiece> {
        let mut disk = self.0.borrow_mut();
        if let Some(error) = disk.create_error {
            return Err(io::Error::from_raw_os_error(error));
        }
        disk.pieces.push(Default::default());
        let index = disk.pieces.len() - 1;
        drop(disk);
        Ok(BadPiece { disk: self.clone(), index })
    }
}

impl PieceFiles for BadPiece {
    fn name(&self) -> PieceName {
        PieceName::at(0)
    }

    async fn write(&self, which: Which, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        while self.disk.0.borrow().stuck {
            yield_now().await;
        }
        let mut disk = self.disk.0.borrow_mut();
        let used: usize = disk.pieces.iter().flatten().map(Vec::len).sum();
        let room = disk.space.map_or(usize::MAX, |(space, _)| space.saturating_sub(used));
        let fitting = bytes.len().min(room);
        let file = &mut disk.pieces[self.index][which as usize];
        assert_eq!(at, file.len() as u64, "appended only");
        file.extend_from_slice(&bytes[..fitting]);
        match disk.space {
            Some((_, error)) if fitting < bytes.len() => Err(io::Error::from_raw_os_error(error)),
            _ => Ok(()),
        }
    }

    async fn truncate(&self, which: Which, bytes: u64) -> io::Result<()> {
        self.disk.0.borrow_mut().pieces[self.index][which as usize].truncate(bytes as usize);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.disk
            .0
            .borrow()
            .sync_error
            .map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
    }

    async fn close(self) {}

    async fn discard(self) {
        self.disk.0.borrow_mut().pieces[self.index] = Default::default();
    }
}

struct Bench {
    disk: BadDisk,
    tally: Rc<Tally>,
    recorder: Recorder,
    writer: glommio::Task<()>,
    start: Instant,
    round: i64,
    clip: Clip,
}

impl Bench {
    fn new(queue_bytes: usize) -> Self {
        let (disk, tally) = (BadDisk::default(), Rc::new(Tally::default()));
        let queue = Rc::new(Queue::new(queue_bytes, Rc::clone(&tally)));
        let complaints = Rc::new(Complaints::default());
        let writer = Writer::new(
            disk.clone(),
            place(),
            Rc::clone(&queue),
            Rc::clone(&tally),
            Rc::clone(&complaints),
        );
        let writer = glommio::spawn_local(writer.run());
        let piece = Duration::from_secs(600);
        let recorder = Recorder::new(place(), 1, piece, queue, Rc::clone(&tally), complaints);
        let start = clock::now();
        Self { disk, tally, recorder, writer, start, round: 0, clip: clip(H264_AAC) }
    }

    /// A second of the stream, and time for the writer.
    async fn second(&mut self) {
        let clip =
            std::mem::replace(&mut self.clip, Clip { tracks: Arc::default(), frames: Vec::new() });
        self.recorder.take(&MediaItem::Tracks(Arc::clone(&clip.tracks)), self.start);
        for item in clip.round(self.round, self.start) {
            let MediaItem::Frame(ingested) = &item else { continue };
            self.recorder.take(&item, ingested.at);
        }
        self.clip = clip;
        self.round += 1;
        for _ in 0..20 {
            yield_now().await;
        }
    }

    async fn seconds(&mut self, count: usize) {
        for _ in 0..count {
            self.second().await;
        }
    }

    fn gaps(&self, reason: GapReason) -> u64 {
        self.tally.counts().gaps(reason)
    }

    /// Ends the recording; every piece as its index and its media. Each must be sound.
    async fn end(self) -> Vec<(Index, Vec<u8>)> {
        drop(self.recorder);
        self.writer.await;
        assert_eq!(self.tally.counts().queue_bytes, 0);
        let pieces = std::mem::take(&mut self.disk.0.borrow_mut().pieces);
        let sound = pieces.into_iter().filter_map(|[media, index]| {
            let index = Index::parse(&index, media.len() as u64)?;
            samples(&media[..index.media_bytes() as usize]);
            Some((index, media))
        });
        sound.collect()
    }
}

#[test]
fn a_slow_disk_leaves_a_gap_up_to_a_keyframe() {
    on_executor(|| async {
        let mut bench = Bench::new(40_000);
        bench.seconds(3).await;
        bench.disk.0.borrow_mut().stuck = true;
        bench.seconds(12).await;
        assert_eq!(bench.gaps(GapReason::QueueFull), 1, "one gap, however long");
        assert!(bench.tally.counts().queue_bytes <= 40_000);
        bench.disk.0.borrow_mut().stuck = false;
        bench.seconds(3).await;
        let pieces = bench.end().await;
        assert_eq!(pieces.len(), 1, "the piece goes on");
        let (index, media) = &pieces[0];
        assert!(index.ended && index.media_bytes() == media.len() as u64);
        assert_eq!(index.gaps.len(), 1);
        let gap = index.gaps[0];
        assert_eq!(gap.reason, GapReason::QueueFull);
        let (before, after) = (index.pairs[gap.before - 1], index.pairs[gap.before]);
        assert!(after.keyframe);
        let missing = after.video.time - before.video.time - u64::from(before.video.duration);
        assert!(missing > 3 * 90_000, "{missing}");
        assert!(after.unix_ms - before.unix_ms > 3000, "the wall clock goes on");
    });
}

#[test]
fn a_full_disk_is_tried_again_until_it_has_room() {
    on_executor(|| async {
        let mut bench = Bench::new(1 << 20);
        bench.seconds(4).await;
        let used: usize = bench.disk.0.borrow().pieces.iter().flatten().map(Vec::len).sum();
        // Room for a part of the next pair.
        bench.disk.0.borrow_mut().space = Some((used + 1000, libc::ENOSPC));
        bench.seconds(20).await;
        let tried = bench.gaps(GapReason::NoSpace);
        assert!((3..=8).contains(&tried), "{tried} attempts in 20 s");
        bench.disk.0.borrow_mut().space = None;
        bench.seconds(40).await;
        assert_eq!(bench.gaps(GapReason::NoSpace), tried);
        let pieces = bench.end().await;
        let with_media: Vec<_> =
            pieces.iter().filter(|(index, _)| !index.pairs.is_empty()).collect();
        assert_eq!(with_media.len(), 2);
        for (index, media) in with_media {
            assert!(index.ended && index.media_bytes() == media.len() as u64, "no torn bytes");
        }
    });
}

#[test]
fn errors_are_counted_by_their_reason() {
    for (code, reason) in [
        (libc::ENOSPC, GapReason::NoSpace),
        (libc::EDQUOT, GapReason::NoSpace),
        (libc::EFBIG, GapReason::NoSpace),
        (libc::EROFS, GapReason::ReadOnly),
        (libc::EIO, GapReason::Device),
        (libc::ENOENT, GapReason::Gone),
        (libc::ESTALE, GapReason::Gone),
        (libc::EACCES, GapReason::Denied),
        (libc::EMFILE, GapReason::Other),
    ] {
        on_executor(move || async move {
            let mut bench = Bench::new(1 << 20);
            bench.disk.0.borrow_mut().create_error = Some(code);
            bench.seconds(3).await;
            assert!(bench.gaps(reason) >= 1, "{code}");
            bench.disk.0.borrow_mut().create_error = None;
            bench.seconds(10).await;
            let pieces = bench.end().await;
            assert_eq!(pieces.len(), 1, "{code}: recorded once it can be");
        });
    }
}

#[test]
fn a_device_that_does_not_sync_is_counted() {
    on_executor(|| async {
        let mut bench = Bench::new(1 << 20);
        bench.disk.0.borrow_mut().sync_error = Some(libc::EIO);
        bench.seconds(3).await;
        let tally = Rc::clone(&bench.tally);
        let pieces = bench.end().await;
        assert_eq!(tally.counts().gaps(GapReason::Device), 1, "at the end at the latest");
        assert!(pieces[0].0.ended, "what was written is believed");
    });
}

#[test]
fn a_folder_that_goes_is_noticed_and_made_again() {
    let root = Folder::new();
    let config = config(&root.0);
    let folder = root.0.clone();
    let counts = on_executor(move || async move {
        let hub = Hub::new();
        for round in 0..2 {
            let mut recorder = hub.record(&key(), &config).unwrap();
            clip(H264_AAC).play(&mut recorder, 0..3, clock::now());
            while hub.counts().fragments < (round + 1) * 4 {
                yield_now().await;
            }
            if round == 0 {
                std::fs::remove_dir_all(&folder).unwrap();
            }
            drop(recorder);
            hub.finish(clock::now() + Duration::from_secs(10)).await;
        }
        hub.counts()
    });
    assert_eq!(counts.gaps(GapReason::Gone), 1);
    assert_eq!(pieces(&root.0).len(), 1, "the second one");
}
