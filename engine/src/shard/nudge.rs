//! The way out of an executor that sleeps although a task of it can run.
//!
//! glommio parks without looking at its task queues when its preempt timer has fired, or a
//! cancelled one still reports, just before it would run them. The tasks that were woken by then
//! have no timer and no poll left to end the sleep. So each shard says when it means to be awake
//! again, and the supervisor wakes one that is late. Waking a task that is already queued does
//! nothing, hence tasks that do nothing but wait to be woken from outside; several, for each is
//! good for one sleep until it has run.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Sleeps in a row that can be ended from outside.
const TASKS: usize = 8;
/// A shard is late when it has overslept by this much.
const LATE: Duration = Duration::from_millis(20);

/// The outside's end of one shard.
#[derive(Debug)]
pub struct Nudge {
    origin: Instant,
    /// Milliseconds from `origin` at which the shard means to be awake.
    due: AtomicU64,
    nudged: AtomicU64,
    sleepers: [Mutex<Option<Waker>>; TASKS],
}

impl Nudge {
    /// For a shard that is about to start.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        let due = AtomicU64::new(u64::MAX);
        Self { origin, due, nudged: AtomicU64::new(0), sleepers: Default::default() }
    }

    /// Starts the tasks that wait to be woken; on the shard's executor.
    pub(super) fn start(self: &Arc<Self>) {
        for index in 0..TASKS {
            let this = Arc::clone(self);
            glommio::spawn_local(async move { this.wait_for_ever(index).await }).detach();
        }
    }

    async fn wait_for_ever(&self, index: usize) {
        poll_fn::<(), _>(|cx| {
            let mut sleeper = self.sleepers[index].lock().unwrap_or_else(PoisonError::into_inner);
            *sleeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The shard goes to sleep and means to be awake then.
    pub(super) fn asleep_until(&self, when: Instant) {
        self.due.store(self.millis(when), Ordering::Relaxed);
    }

    /// The shard is awake.
    pub(super) fn awake(&self) {
        self.due.store(u64::MAX, Ordering::Relaxed);
    }

    /// Wakes the shard if it is late; true if so.
    pub fn wake_if_late(&self, now: Instant) -> bool {
        let late = u64::try_from(LATE.as_millis()).unwrap_or(u64::MAX);
        if self.millis(now) <= self.due.load(Ordering::Relaxed).saturating_add(late) {
            return false;
        }
        for sleeper in &self.sleepers {
            let waker = sleeper.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
                self.nudged.fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// How often the shard had to be woken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.nudged.load(Ordering::Relaxed)
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};

    #[test]
    fn a_late_shard_is_woken_once_per_task_and_a_punctual_one_never() {
        let origin = crate::clock::now();
        let nudge = Arc::new(Nudge::new(origin));
        let inside = Arc::clone(&nudge);
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .spawn(move || async move {
                inside.start();
                let now = crate::clock::now();
                assert!(!inside.wake_if_late(now), "awake");
                inside.asleep_until(now + Duration::from_millis(5));
                assert!(!inside.wake_if_late(now + Duration::from_millis(24)));
                let late = now + Duration::from_millis(40);
                let woken = (0..TASKS + 3).filter(|_| inside.wake_if_late(late)).count();
                assert_eq!(woken, TASKS, "none of them has run since");
                glommio::timer::sleep(Duration::from_millis(1)).await;
                assert!(inside.wake_if_late(late), "they have run and wait again");
                inside.awake();
                assert!(!inside.wake_if_late(late));
            })
            .expect("an executor starts");
        executor.join().expect("the checks hold");
        assert_eq!(nudge.count(), TASKS as u64 + 1);
    }
}
