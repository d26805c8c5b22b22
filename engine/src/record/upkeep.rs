//! The thread beside the shards that looks after recordings: recovery at the start, retention
//! from then on. It may wait for the disk for as long as that takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::library::{Library, pieces_of};
use super::recovery::{Recovered, recover};
use super::retention::{Keep, apply, delete};
use crate::clock;
use crate::config::model::Record;

/// How often recordings are measured against what is to be kept.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// What was done, counted.
#[derive(Debug, Default)]
pub struct UpkeepCounts {
    /// Pieces whose index was made again.
    pub recovered: AtomicU64,
    /// Pieces deleted because of their age, or the size of all.
    pub deleted: AtomicU64,
}

/// The thread; ends when this is dropped, but is not waited for.
#[derive(Debug)]
pub struct Upkeep {
    _stop: Sender<()>,
}

impl Upkeep {
    /// Starts the thread.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn start(record: &Record, counts: &Arc<UpkeepCounts>) -> std::io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let library = Library::new(&record.dir);
        let keep = Keep { age_max: record.age_max, bytes_max: record.bytes_max };
        let counts = Arc::clone(counts);
        std::thread::Builder::new()
            .name("recordings".to_owned())
            .spawn(move || run(&library, keep, &counts, &stopped))?;
        Ok(Self { _stop: stop })
    }
}

fn run(library: &Library, keep: Keep, counts: &UpkeepCounts, stopped: &Receiver<()>) {
    let over = || stopped.try_recv() != Err(crossbeam_channel::TryRecvError::Empty);
    recover_all(library, counts, over);
    if keep.is_for_ever() {
        return;
    }
    loop {
        let removed = apply(library.stored(), keep, clock::unix_millis(), |piece| {
            if over() {
                return false;
            }
            delete(library, piece).unwrap_or_else(|error| {
                let (day, time) = (piece.name.day_text(), piece.name.time_text());
                tracing::warn!(place = piece.folder, day, time, %error, "cannot be deleted");
                false
            })
        });
        if removed > 0 {
            counts.deleted.fetch_add(removed as u64, Ordering::Relaxed);
            tracing::info!(pieces = removed, "old recordings deleted");
        }
        match stopped.recv_timeout(RETENTION_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Makes the index of every piece again that lacks it.
fn recover_all(library: &Library, counts: &UpkeepCounts, over: impl Fn() -> bool) {
    let (mut rebuilt, mut removed) = (0, 0);
    library.for_each_day(|folder, day, directory| {
        for name in pieces_of(directory, day).unwrap_or_default() {
            if over() {
                return;
            }
            match recover(directory, name) {
                Ok(Recovered::Untouched) => {}
                Ok(Recovered::Rebuilt) => rebuilt += 1,
                Ok(Recovered::Removed) => removed += 1,
                Err(error) => {
                    let (day, time) = (name.day_text(), name.time_text());
                    tracing::warn!(place = folder, day, time, %error, "cannot be recovered");
                }
            }
        }
    });
    counts.recovered.fetch_add(rebuilt, Ordering::Relaxed);
    if rebuilt > 0 || removed > 0 {
        tracing::info!(rebuilt, without_media = removed, "recordings recovered");
    }
}
