//! Where authorisation servers are: what their names were resolved to, kept for a while, and who
//! waits to hear it. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How long the addresses of a name are good, and that it has none.
const ADDRESSES_GOOD: Duration = Duration::from_secs(30);
const NONE_GOOD: Duration = Duration::from_secs(1);

/// See the module text. There is one place, but that of the rules before may be asked for as well.
#[derive(Debug, Default)]
pub(super) struct Places {
    attempts: u64,
    known: HashMap<(String, u16), Place>,
}

#[derive(Debug)]
enum Place {
    /// It is being looked up; the answer is given up when the time is over.
    Asked { attempt: u64, until: Instant, waiting: Vec<Waker> },
    /// These are good for a while.
    Resolved { addresses: Vec<SocketAddr>, until: Instant },
}

/// What is known of a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its addresses.
    Addresses(Vec<SocketAddr>),
    /// It has none.
    None,
    /// The task is woken when it is known.
    Soon,
    /// It has to be looked up, by an attempt of that number.
    Never(u64),
}

impl Places {
    /// Finds a place for a task.
    pub(super) fn find(&mut self, at: (&str, u16), task: &Waker, now: Instant) -> Found {
        match self.known.get_mut(&owned(at)) {
            Some(Place::Resolved { addresses, until }) if now < *until => {
                let addresses = addresses.clone();
                if addresses.is_empty() { Found::None } else { Found::Addresses(addresses) }
            }
            Some(Place::Asked { until, waiting, .. }) if now < *until => {
                if !waiting.iter().any(|waker| waker.will_wake(task)) {
                    waiting.push(task.clone());
                }
                Found::Soon
            }
            _ => {
                self.attempts += 1;
                Found::Never(self.attempts)
            }
        }
    }

    /// The attempt is under way, for a task and those who waited for the one before; it is given up
    /// at that time.
    pub(super) fn asked(&mut self, at: (&str, u16), attempt: u64, task: &Waker, until: Instant) {
        let at = owned(at);
        let mut waiting = match self.known.remove(&at) {
            Some(Place::Asked { waiting, .. }) => waiting,
            Some(Place::Resolved { .. }) | None => Vec::new(),
        };
        waiting.push(task.clone());
        self.known.insert(at, Place::Asked { attempt, until, waiting });
    }

    /// An attempt has its answer; one that was given up is passed over.
    pub(super) fn found(&mut self, attempt: u64, addresses: Vec<SocketAddr>, now: Instant) {
        let meant = |place: &&mut Place| matches!(place, Place::Asked { attempt: of, .. } if *of == attempt);
        let Some(place) = self.known.values_mut().find(meant) else { return };
        let good = if addresses.is_empty() { NONE_GOOD } else { ADDRESSES_GOOD };
        let resolved = Place::Resolved { addresses, until: now + good };
        wake(std::mem::replace(place, resolved));
    }

    /// It may have moved.
    pub(super) fn forget(&mut self, at: (&str, u16)) {
        let at = owned(at);
        if matches!(self.known.get(&at), Some(Place::Resolved { .. })) {
            self.known.remove(&at);
        }
    }

    /// Other rules are in force; who waits still finds its place anew.
    pub(super) fn clear(&mut self) {
        self.known.drain().for_each(|(_, place)| wake(place));
    }
}

fn owned((host, port): (&str, u16)) -> (String, u16) {
    (host.to_owned(), port)
}

fn wake(place: Place) {
    if let Place::Asked { waiting, .. } = place {
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const AT: (&str, u16) = ("auth.example", 80);
    const PATIENCE: Duration = Duration::from_secs(10);

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn task() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), count.into())
    }

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 80).into()
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_and_for_a_while() {
        let now = crate::clock::now();
        let mut places = Places::default();
        let ((first, a), (second, b)) = (task(), task());
        assert_eq!(places.find(AT, &a, now), Found::Never(1));
        places.asked(AT, 1, &a, now + PATIENCE);
        for _ in 0..3 {
            assert_eq!(places.find(AT, &b, now), Found::Soon);
        }
        places.found(1, vec![address(1)], now);
        let woken = [&first, &second].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1], "each once, however often it has asked");
        assert_eq!(places.find(AT, &a, now), Found::Addresses(vec![address(1)]));
        assert_eq!(places.find(("other.example", 80), &a, now), Found::Never(2));
        assert_eq!(places.find(AT, &a, now + ADDRESSES_GOOD), Found::Never(3));
        places.forget(AT);
        assert_eq!(places.find(AT, &a, now), Found::Never(4));
        places.asked(AT, 4, &a, now + PATIENCE);
        places.found(4, Vec::new(), now);
        assert_eq!(places.find(AT, &a, now), Found::None);
        assert_eq!(places.find(AT, &a, now + NONE_GOOD), Found::Never(5));
    }

    #[test]
    fn an_answer_that_is_lost_is_asked_for_again() {
        let now = crate::clock::now();
        let mut places = Places::default();
        let ((_, a), (joined, b)) = (task(), task());
        assert_eq!(places.find(AT, &a, now), Found::Never(1));
        places.asked(AT, 1, &a, now + PATIENCE);
        assert_eq!(places.find(AT, &b, now), Found::Soon);
        let later = now + PATIENCE;
        assert_eq!(places.find(AT, &a, later), Found::Never(2));
        places.asked(AT, 2, &a, later + PATIENCE);
        // The first one comes after all.
        places.found(1, vec![address(1)], later);
        assert_eq!(places.find(AT, &a, later), Found::Soon);
        places.found(2, vec![address(2)], later);
        assert_eq!(places.find(AT, &a, later), Found::Addresses(vec![address(2)]));
        assert_eq!(joined.0.load(Ordering::Relaxed), 1, "who waited for the first is told too");
    }

    #[test]
    fn other_rules_find_their_place_anew() {
        let now = crate::clock::now();
        let mut places = Places::default();
        let (count, a) = task();
        places.asked(AT, 1, &a, now + PATIENCE);
        places.clear();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(places.find(AT, &a, now), Found::Never(1));
        places.asked(AT, 2, &a, now + PATIENCE);
        places.found(2, vec![address(1)], now);
        places.clear();
        assert_ne!(places.find(AT, &a, now), Found::Addresses(vec![address(1)]));
    }
}
