//! Recordings of the streams a shard owns: begun with the publisher, ended with it or the process.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::observe::Counters;
use crate::record::Hub;
use crate::shard::Shard;

/// How long the last bytes of recordings may take when the process stops.
const FINISH_MAX: Duration = Duration::from_secs(3);

impl Shard {
    /// Makes what recordings share; on the executor.
    pub(super) fn start_recordings(&mut self) {
        self.recordings = Some(Rc::new(Hub::new()));
    }

    /// A publisher has come: records what it sends if the stream is one to record.
    pub(super) fn record(&mut self, index: usize, now: Instant) {
        let Some(hub) = self.recordings.clone() else { return };
        let key = self.streams[index].key.clone();
        if !self.config.records(key.app(), key.name()) {
            return;
        }
        if let Some(recorder) = hub.record(&key, &self.config) {
            tracing::info!("recording {key}");
            self.add_taker(index, Box::new(recorder), now);
        }
    }

    /// The counters, with what recordings and sessions that go on have counted.
    pub(super) fn counters_now(&self) -> Counters {
        let mut counters = self.counters.clone();
        for (_, conn) in &self.plane.conns {
            if let Some(session) = &conn.session {
                counters.packets.add(session.packet_statistics());
            }
        }
        if let Some(hub) = &self.recordings {
            counters.recordings = hub.counts();
        }
        counters.auth.waiting = self.auth.desk.waiting();
        counters.auth.paused = usize::from(self.auth.desk.is_paused());
        counters
    }
}

/// Ends all recordings and waits for the disk, for a while.
pub(super) async fn finish(shard: &Rc<RefCell<Shard>>) {
    let hub = {
        let mut this = shard.borrow_mut();
        this.announce_ends();
        for (_, stream) in &mut this.streams {
            stream.takers.clear();
        }
        this.recordings.clone()
    };
    if let Some(hub) = hub {
        hub.finish(clock::now() + FINISH_MAX).await;
        shard.borrow().announce_pieces();
    }
}
