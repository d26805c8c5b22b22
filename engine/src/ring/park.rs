//! The coalesced wake-up of a shard: a flag that says "I sleep" and the waker to end it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Context, Waker};

/// Where a shard parks and others kick it.
#[derive(Debug, Default)]
pub struct Park {
    parked: AtomicBool,
    // Touched only by a shard going to sleep and by the one kick that ends the sleep: never on
    // the media path of a core that is awake.
    waker: Mutex<Option<Waker>>,
}

impl Park {
    /// Wakes the shard if it sleeps. Call once per batch, after the pushes.
    pub fn kick(&self) {
        // Pairs with the fence in `prepare`: either the producer sees `parked`, or the consumer
        // sees the pushed message in its re-check.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            let waker = self.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Announces sleep. The caller must look at its queues once more afterwards and call
    /// [`Park::cancel`] if something is there.
    pub fn prepare(&self, cx: &Context<'_>) {
        let mut slot = self.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *slot {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            other => *other = Some(cx.waker().clone()),
        }
        drop(slot);
        self.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub fn cancel(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}
