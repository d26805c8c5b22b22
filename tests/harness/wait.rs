//! Waiting: on a condition with a deadline. The only sleep of the test crate is in here.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Servers that may run at the same time: the tests are heavy and the machine is small.
const SLOTS: usize = 2;

/// Polls until `condition` gives a value; panics, naming `what`, when `deadline` has passed.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// Polls until `condition` is true; panics, naming `what`, when `deadline` has passed.
pub fn until_true(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    until(what, deadline, || condition().then_some(()));
}

/// Checks again and again for `span` that `condition` stays true; panics when it does not.
pub fn stays_true(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(condition(), "no longer true after {:?}: {what}", start.elapsed());
        std::thread::sleep(POLL);
    }
}

/// Calls `action` every `period` until `span` has passed or it says stop by returning false.
pub fn paced(period: Duration, span: Duration, mut action: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span && action() {
        std::thread::sleep(period);
    }
}

/// Waits for an instant: the pace of a publisher.
pub fn until_instant(instant: Instant) {
    std::thread::sleep(instant.saturating_duration_since(Instant::now()));
}

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// One of the places for a running server; given back on drop.
#[derive(Debug)]
pub struct Slot(());

/// Waits for a free place.
pub fn slot() -> Slot {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken >= SLOTS {
        taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken += 1;
    Slot(())
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
