//! How often a shard's sockets have something: decides how it waits for them.

use std::time::{Duration, Instant};

/// Over so long the rate is counted.
const INTERVAL: Duration = Duration::from_millis(50);
/// So many wakes with work per interval make a shard fast: 400 a second.
const FAST: u32 = 20;

/// See the module text.
#[derive(Debug)]
pub struct Pulse {
    since: Instant,
    count: u32,
    fast: bool,
}

impl Pulse {
    /// Slow at first.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, count: 0, fast: false }
    }

    /// The poller has been asked and had something, or not.
    pub fn beat(&mut self, work: bool, now: Instant) {
        self.count += u32::from(work);
        if now.saturating_duration_since(self.since) >= INTERVAL {
            self.fast = self.count >= FAST;
            self.count = 0;
            self.since = now;
        }
    }

    /// Work comes often.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rate_of_work() {
        let mut now = crate::clock::now();
        let mut pulse = Pulse::new(now);
        for _ in 0..100 {
            now += Duration::from_millis(1);
            pulse.beat(true, now);
        }
        assert!(pulse.is_fast());
        for _ in 0..100 {
            now += Duration::from_millis(1);
            pulse.beat(false, now);
        }
        assert!(!pulse.is_fast());
    }
}
