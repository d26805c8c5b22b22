//! Event callbacks: what happened to streams and sessions, told to HTTP servers that asked for it.
//!
//! A shard hands an [`Event`] to the bounded queue of each URL and goes on; a thread per URL sends
//! them in order, as JSON with a signature, again after a failure and never for ever. What finds a
//! queue full is counted and gone: media do not wait for anybody's web server.
//!
//! Request: `POST` with `Content-Type: application/json`, `X-Event` (its name), `X-Event-Id` (the
//! same for each attempt), `X-Timestamp` (Unix seconds) and, where a secret is configured,
//! `X-Signature: sha256=HEX`, the HMAC-SHA256 of timestamp, `.` and body.

mod event;
mod sender;
mod sign;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use sha2::{Digest as _, Sha256};

pub use event::{Event, EventKind, EventSession, EventStream};
pub use sign::signature;

use crate::clock;
use crate::config::model::EventOptions;

/// What became of events.
#[derive(Debug, Default)]
pub struct EventCounts {
    /// Taken by their server.
    pub delivered: AtomicU64,
    /// Sent again after a failure.
    pub retried: AtomicU64,
    /// Given up, refused or never answered.
    pub failed: AtomicU64,
    /// Found their queue full.
    pub overflowed: AtomicU64,
}

impl EventCounts {
    /// All of them with their labels.
    #[must_use]
    pub fn by_outcome(&self) -> [(&'static str, u64); 4] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("delivered", of(&self.delivered)),
            ("retried", of(&self.retried)),
            ("failed", of(&self.failed)),
            ("overflowed", of(&self.overflowed)),
        ]
    }
}

/// An event on its way.
#[derive(Debug, Clone)]
struct Queued {
    unix_ms: u64,
    event: Arc<Event>,
}

#[derive(Debug, Clone)]
struct Target {
    queue: Sender<Queued>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
}

/// The way to the queues: cheap to clone, one in each shard.
#[derive(Debug, Clone, Default)]
pub struct Events {
    options: Arc<EventOptions>,
    /// Digest of the file of authorities, if there is one.
    authorities: Option<[u8; 32]>,
    targets: Arc<[Target]>,
    /// Counted over all configurations of a process.
    pub counts: Arc<EventCounts>,
}

impl Events {
    /// Starts a thread per URL. The threads end when the last clone of this is gone and their
    /// queues are empty.
    ///
    /// # Errors
    /// A file of authorities is unusable, or there are no more threads.
    pub fn start(options: &EventOptions, counts: &Arc<EventCounts>) -> Result<Self, String> {
        // Before it is read: one that changes meanwhile makes a difference to the next look.
        let authorities = digest(options);
        let mut targets = Vec::new();
        for url in &options.urls {
            let (queue, waiting) = crossbeam_channel::bounded(options.queue);
            let ended = sender::start(url, options, waiting, Arc::clone(counts))?;
            targets.push(Target { queue, ended });
        }
        let options = Arc::new(options.clone());
        Ok(Self { options, authorities, targets: targets.into(), counts: Arc::clone(counts) })
    }

    /// The same configuration and authorities: nothing is to be started anew.
    #[must_use]
    pub fn is_of(&self, options: &EventOptions) -> bool {
        *self.options == *options && self.authorities == digest(options)
    }

    /// Somebody wants to be told of this kind.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        !self.targets.is_empty() && self.options.kinds.contains(&kind)
    }

    /// Tells of an event; never waits.
    pub fn announce(&self, event: Event) {
        if !self.wants(event.kind()) {
            return;
        }
        let queued = Queued { unix_ms: clock::unix_millis(), event: Arc::new(event) };
        for target in self.targets.iter() {
            match target.queue.try_send(queued.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.counts.overflowed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Gives this way up and waits for the threads to send what waits, but not beyond the
    /// deadline. Other clones must be gone.
    pub fn finish(self, deadline: Instant) {
        let ended: Vec<_> = self.targets.iter().map(|target| target.ended.clone()).collect();
        drop(self);
        // Nothing is ever sent on these: they only end.
        let late =
            |ended: &Receiver<()>| ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout);
        let late = ended.iter().filter(|ended| late(ended)).count();
        if late > 0 {
            tracing::warn!(targets = late, "not all of the last events are told");
        }
    }
}

/// What stands in the file of authorities; one that cannot be read is refused where it is.
fn digest(options: &EventOptions) -> Option<[u8; 32]> {
    let path = options.ca.as_deref()?;
    Some(Sha256::digest(std::fs::read(path).unwrap_or_default()).into())
}
