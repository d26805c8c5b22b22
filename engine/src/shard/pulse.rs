//! How often a shard's sockets have something: decides how long it naps between turns.
//!
//! Being woken by a socket costs more than most messages are worth, and one wake through the
//! executor nine system calls. A busy shard therefore looks at its sockets by the clock. Sockets of
//! tasks do not count: who asks for one thing after the other would wait out a nap each time.

use std::time::{Duration, Instant};

/// Over so long the rate is counted.
const INTERVAL: Duration = Duration::from_millis(50);
/// Reports per interval from which on a shard naps (400 a second), and takes long naps (16,000).
const BUSY: usize = 20;
const VERY_BUSY: usize = 800;
/// A nap is latency for whoever sends meanwhile: short while few do.
const SHORT_NAP: Duration = Duration::from_micros(250);
const LONG_NAP: Duration = Duration::from_millis(1);

/// See the module text.
#[derive(Debug)]
pub struct Pulse {
    since: Instant,
    reports: usize,
    nap: Option<Duration>,
}

impl Pulse {
    /// Slow at first.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, reports: 0, nap: None }
    }

    /// The poller has been asked and had so many reports.
    pub fn beat(&mut self, reports: usize, now: Instant) {
        self.reports += reports;
        if now.saturating_duration_since(self.since) >= INTERVAL {
            self.nap = match self.reports {
                0..BUSY => None,
                BUSY..VERY_BUSY => Some(SHORT_NAP),
                _ => Some(LONG_NAP),
            };
            self.reports = 0;
            self.since = now;
        }
    }

    /// How long to nap instead of waiting for the sockets; `None` when they are quiet.
    #[must_use]
    pub fn nap(&self) -> Option<Duration> {
        self.nap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rate_of_work() {
        let mut now = crate::clock::now();
        let mut pulse = Pulse::new(now);
        let mut run = |reports| {
            for _ in 0..100 {
                now += Duration::from_millis(1);
                pulse.beat(reports, now);
            }
            pulse.nap()
        };
        assert_eq!(run(1), Some(SHORT_NAP));
        assert_eq!(run(30), Some(LONG_NAP));
        assert_eq!(run(0), None);
    }
}
