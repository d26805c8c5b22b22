//! Waiting: on a condition with a deadline. The only sleep of the test crate is in here.

use std::cell::Cell;
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

thread_local! {
    /// Places that a test has.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// One of the places for a running server; given back on drop.
#[derive(Debug)]
pub struct Slot(());

/// Waits for a free place. A test that has one already takes another at once: two of them would wait
/// for each other.
pub fn slot() -> Slot {
    let own = OWN.get();
    OWN.set(own + 1);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    while own == 0 && *taken >= SLOTS {
        taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
    }
    *taken += 1;
    Slot(())
}

impl Drop for Slot {
    fn drop(&mut self) {
        OWN.set(OWN.get().saturating_sub(1));
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_place_does_not_wait_for_the_next() {
        let own: Vec<Slot> = (0..=SLOTS).map(|_| slot()).collect();
        let other = std::thread::spawn(|| drop(slot()));
        stays_true("others wait", POLL * 5, || !other.is_finished());
        drop(own);
        other.join().expect("a place is free");
    }
}
