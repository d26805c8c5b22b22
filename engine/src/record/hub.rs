//! What the recordings of one shard share: the task queue, the counts, the way to start one.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt as _;
use glommio::timer::Timer;
use glommio::{Latency, Shares, TaskQueueHandle};
use protocols::media::StreamKey;

use super::disk::Folder;
use super::name::Place;
use super::queue::Queue;
use super::recorder::Recorder;
use super::tally::{Counts, Finished, Tally};
use super::writer::{Complaints, Writer};
use crate::clock;
use crate::config::Config;

/// Of a core's time while media and recordings both want it; media has 1000 by default.
const SHARES: usize = 100;
/// How often the end of the last writers is looked for.
const END_INTERVAL: Duration = Duration::from_millis(5);

/// See the module text.
#[derive(Debug)]
pub struct Hub {
    queue: TaskQueueHandle,
    tally: Rc<Tally>,
    complaints: Rc<Complaints>,
    writers: Rc<Cell<usize>>,
    sessions: Cell<u64>,
}

impl Hub {
    /// On the executor of the shard.
    #[must_use]
    pub fn new() -> Self {
        let shares = Shares::Static(SHARES);
        Self {
            queue: glommio::executor().create_task_queue(shares, Latency::NotImportant, "record"),
            tally: Rc::default(),
            complaints: Rc::default(),
            writers: Rc::default(),
            // Unique over shards and starts, near enough: only neighbours are compared.
            sessions: Cell::new(clock::unix_millis() << 16),
        }
    }

    /// A recorder of a stream whose publisher has come, and the task that writes what it gives.
    #[must_use]
    pub fn record(&self, key: &StreamKey, config: &Config) -> Option<Recorder> {
        let place = Place::of(key, &config.rtmp.rec_app);
        let queue = Rc::new(Queue::new(config.record.queue_bytes, Rc::clone(&self.tally)));
        let writer = Writer::new(
            Folder::new(&config.record.dir, &place),
            place.clone(),
            Rc::clone(&queue),
            Rc::clone(&self.tally),
            Rc::clone(&self.complaints),
        );
        let (writers, tally) = (Rc::clone(&self.writers), Rc::clone(&self.tally));
        writers.set(writers.get() + 1);
        tally.stream(true);
        let task = async move {
            if AssertUnwindSafe(writer.run()).catch_unwind().await.is_err() {
                tracing::error!("a writer of recordings panicked");
            }
            writers.set(writers.get() - 1);
            tally.stream(false);
        };
        match glommio::spawn_local_into(task, self.queue) {
            Ok(task) => drop(task.detach()),
            Err(error) => {
                tracing::error!(%place, %error, "cannot record");
                self.writers.set(self.writers.get() - 1);
                self.tally.stream(false);
                return None;
            }
        }
        self.sessions.set(self.sessions.get() + 1);
        let (tally, complaints) = (Rc::clone(&self.tally), Rc::clone(&self.complaints));
        let session = self.sessions.get();
        Some(Recorder::new(place, session, config.record.piece, queue, tally, complaints))
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Pieces that were completed since this was asked for last.
    #[must_use]
    pub fn take_finished(&self) -> Vec<Finished> {
        self.tally.take_finished()
    }

    /// Waits until all that recorders gave is on the disk, but not beyond the deadline.
    pub async fn finish(&self, deadline: Instant) {
        while self.writers.get() > 0 {
            if clock::now() >= deadline {
                tracing::warn!(writers = self.writers.get(), "recordings are cut short");
                return;
            }
            Timer::new(END_INTERVAL).await;
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}
