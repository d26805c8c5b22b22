//! Which origins are well. Each shard finds out for itself.

use std::collections::HashMap;
use std::time::Instant;

use crate::pull::{Backoff, Schedule};

/// Origins of one shard that have failed lately, by URL.
#[derive(Debug, Default)]
pub struct Health(HashMap<String, Sick>);

#[derive(Debug)]
struct Sick {
    backoff: Backoff,
    until: Instant,
}

impl Health {
    /// The origin may be asked.
    #[must_use]
    pub fn is_well(&self, url: &str, now: Instant) -> bool {
        self.0.get(url).is_none_or(|sick| now >= sick.until)
    }

    /// The origin could not be reached, or did not speak: it is set aside for a while.
    pub fn failed(&mut self, url: &str, seed: u64, now: Instant) {
        let backoff = Backoff::new(Schedule::SOURCE, seed);
        let sick = self.0.entry(url.to_owned()).or_insert(Sick { backoff, until: now });
        // Those who were under way to it when it failed say nothing new.
        if now >= sick.until {
            sick.until = now + sick.backoff.failed(now);
        }
    }

    /// The origin has answered.
    pub fn answered(&mut self, url: &str) {
        self.0.remove(url);
    }

    /// Forgets origins that are not asked any more.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.0.retain(|url, _| known(url));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_sick_origin_is_set_aside_ever_longer_and_recovers_at_once() {
        let t0 = crate::clock::now();
        let mut health = Health::default();
        let mut now = t0;
        let mut rounds = 0;
        while now < t0 + Duration::from_secs(30) {
            health.failed("a", 1, now);
            health.failed("a", 1, now);
            assert!(!health.is_well("a", now) && health.is_well("b", now));
            while !health.is_well("a", now) {
                now += Duration::from_millis(10);
            }
            rounds += 1;
        }
        assert!((18..60).contains(&rounds), "{rounds}");
        health.failed("a", 1, now);
        health.answered("a");
        assert!(health.is_well("a", now));
    }
}
