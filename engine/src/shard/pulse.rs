//! How often a shard's sockets have something: decides how it rests between turns.
//!
//! Being woken by a socket costs more than most messages are worth. A busy shard therefore looks
//! at its sockets by the clock. Sockets of tasks do not count: who asks for one thing after the
//! other would wait out a nap each time. Nor is there any use in being woken by media that a fixed
//! merge window holds back.

use std::time::{Duration, Instant};

/// Over so long the rate is counted.
const INTERVAL: Duration = Duration::from_millis(50);
/// Reports per interval from which on a shard dozes (40 a second, one live stream; 400 where tasks
/// may wait for the executor), takes short naps (4000) and long ones (16,000). A nap costs what
/// being woken costs: it pays when several reports fall into it.
const SOME: usize = 2;
const MANY: usize = 20;
const BUSY: usize = 200;
const VERY_BUSY: usize = 800;
/// A nap is latency for whoever sends meanwhile: short while few do.
const SHORT_NAP: Duration = Duration::from_micros(250);
const LONG_NAP: Duration = Duration::from_millis(1);
/// Whoever joins asks for one thing after the other, and is not kept waiting for so long.
const JOIN: Duration = Duration::from_millis(100);

/// How to wait for the next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// In the executor, which looks at everything there is; dear to enter and to leave.
    Sleep,
    /// At the poller alone.
    Doze,
    /// Looking at nothing for so long.
    Nap(Duration),
}

/// See the module text.
#[derive(Debug)]
pub struct Pulse {
    since: Instant,
    reports: usize,
    /// Reports in the last interval.
    rate: usize,
    /// Somebody joins until then.
    joining: Instant,
}

impl Pulse {
    /// Slow at first.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { since: now, reports: 0, rate: 0, joining: now }
    }

    /// The poller has been asked and had so many reports.
    pub fn beat(&mut self, reports: usize, now: Instant) {
        self.reports += reports;
        if now.saturating_duration_since(self.since) >= INTERVAL {
            self.rate = std::mem::take(&mut self.reports);
            self.since = now;
        }
    }

    /// A connection has come, or has asked for something.
    pub fn stir(&mut self, now: Instant) {
        self.joining = now + JOIN;
    }

    /// Reports are so many that the poller is looked at by the clock.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.rate >= BUSY
    }

    /// How to rest at the present rate, with or without tasks that may wait for the executor.
    /// Media that comes in need not be looked for sooner than after `look`.
    #[must_use]
    pub fn rest(&self, tasks: bool, look: Duration, now: Instant) -> Rest {
        match self.rate {
            0..SOME => Rest::Sleep,
            SOME..MANY if tasks => Rest::Sleep,
            SOME..BUSY if !tasks && look > LONG_NAP && now >= self.joining => Rest::Nap(look),
            SOME..BUSY => Rest::Doze,
            BUSY..VERY_BUSY => Rest::Nap(SHORT_NAP),
            _ => Rest::Nap(LONG_NAP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests_of(pulse: &Pulse, look_ms: u64, now: Instant) -> [Rest; 2] {
        let look = Duration::from_millis(look_ms);
        [pulse.rest(false, look, now), pulse.rest(true, look, now)]
    }

    #[test]
    fn follows_the_rate_of_work() {
        let mut now = crate::clock::now();
        let mut pulse = Pulse::new(now);
        let mut run = |reports| {
            for _ in 0..100 {
                now += Duration::from_millis(1);
                pulse.beat(reports, now);
            }
            rests_of(&pulse, 0, now)
        };
        assert_eq!(run(1), [Rest::Doze; 2]);
        assert_eq!(run(8), [Rest::Nap(SHORT_NAP); 2]);
        assert_eq!(run(30), [Rest::Nap(LONG_NAP); 2]);
        assert_eq!(run(0), [Rest::Sleep; 2]);
        for _ in 0..50 {
            now += Duration::from_millis(20);
            pulse.beat(1, now);
        }
        assert_eq!(rests_of(&pulse, 0, now), [Rest::Doze, Rest::Sleep]);
        assert_eq!(rests_of(&pulse, 1, now), [Rest::Doze, Rest::Sleep], "too short for a nap");
        assert_eq!(rests_of(&pulse, 10, now), [Rest::Nap(Duration::from_millis(10)), Rest::Sleep]);
        pulse.stir(now);
        assert_eq!(rests_of(&pulse, 10, now), [Rest::Doze, Rest::Sleep], "somebody joins");
        for _ in 0..6 {
            now += Duration::from_millis(20);
            pulse.beat(1, now);
        }
        assert_eq!(rests_of(&pulse, 10, now), [Rest::Nap(Duration::from_millis(10)), Rest::Sleep]);
    }
}
