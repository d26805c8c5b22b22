//! When somebody who failed is dialled again: soon at first, then ever more seldom, never in step
//! with others.

use std::time::{Duration, Instant};

/// A peer that lived for less has not recovered.
const RECOVERED: Duration = Duration::from_secs(5);

/// How the pauses grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Before the first retry; each pause is twice the one before, up to a bound.
    pub first: Duration,
    /// Longest pause while the outage is young.
    pub young_max: Duration,
    /// So long an outage is young.
    pub young: Duration,
    /// Longest pause ever.
    pub old_max: Duration,
    /// Each pause is drawn from this part of it to that.
    pub jitter: (f64, f64),
}

impl Schedule {
    /// Of sources: one that returns is live again within 2 s.
    pub const SOURCE: Self = Self {
        first: Duration::from_millis(100),
        young_max: Duration::from_millis(1500),
        young: Duration::from_secs(60),
        old_max: Duration::from_secs(10),
        jitter: (0.7, 1.0),
    };
    /// Of targets, which belong to others more often: each second for half a minute, then up to a
    /// minute.
    pub const TARGET: Self = Self {
        first: Duration::from_secs(1),
        young_max: Duration::from_secs(1),
        young: Duration::from_secs(30),
        old_max: Duration::from_secs(60),
        jitter: (0.8, 1.2),
    };
}

/// The pauses of one peer.
#[derive(Debug, Clone)]
pub struct Backoff {
    schedule: Schedule,
    next: Duration,
    failing_since: Option<Instant>,
    random: u64,
}

impl Backoff {
    /// Of a peer that has not failed; `seed` makes its pauses differ from those of others.
    #[must_use]
    pub fn new(schedule: Schedule, seed: u64) -> Self {
        // Xorshift stays at zero.
        Self { schedule, next: schedule.first, failing_since: None, random: seed | 1 }
    }

    /// The peer has failed: how long to wait.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        let young = now.saturating_duration_since(since) < self.schedule.young;
        let most = if young { self.schedule.young_max } else { self.schedule.old_max };
        let pause = self.next.min(most);
        self.next = pause.saturating_mul(2).min(self.schedule.old_max);
        self.jittered(pause)
    }

    /// The peer has said something that a second try would not change: the longest pause.
    pub fn declined(&mut self, now: Instant) -> Duration {
        self.failing_since.get_or_insert(now);
        self.next = self.schedule.old_max;
        self.jittered(self.next)
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        let (least, most) = self.schedule.jitter;
        pause.mul_f64(least + (most - least) * self.next_random())
    }

    /// The peer has ended after it had been live for so long.
    pub fn lived(&mut self, span: Duration) {
        if span >= RECOVERED {
            self.reset();
        }
    }

    /// Begins anew: nobody wanted the peer meanwhile.
    pub fn reset(&mut self) {
        self.next = self.schedule.first;
        self.failing_since = None;
    }

    /// From 0 to 1.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_quick_then_seldom_and_bounded() {
        for schedule in [Schedule::SOURCE, Schedule::TARGET] {
            let Schedule { first, young_max, young, old_max, jitter } = schedule;
            let t0 = crate::clock::now();
            let mut backoff = Backoff::new(schedule, 7);
            let mut now = t0;
            let mut last = Duration::ZERO;
            for round in 0..200 {
                let pause = backoff.failed(now);
                if round == 0 {
                    assert!(pause <= first.mul_f64(jitter.1), "{pause:?}");
                }
                let most = if now - t0 < young { young_max } else { old_max };
                assert!(pause <= most.mul_f64(jitter.1), "{round}: {pause:?}");
                assert!(pause >= first.mul_f64(jitter.0), "{round}: {pause:?}");
                now += pause;
                last = pause;
            }
            assert!(last > old_max.mul_f64(0.6), "an old outage is asked after seldom: {last:?}");
        }
    }

    #[test]
    fn a_target_is_dialled_each_second_for_half_a_minute_then_ever_more_seldom() {
        let t0 = crate::clock::now();
        let mut backoff = Backoff::new(Schedule::TARGET, 3);
        let (mut now, mut attempts) = (t0, 0);
        while now - t0 < Duration::from_secs(30) {
            now += backoff.failed(now);
            attempts += 1;
        }
        assert!((25..=38).contains(&attempts), "{attempts}");
        let later: Vec<_> = (0..7).map(|_| backoff.failed(now).as_secs_f64()).collect();
        let expected = [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        for (pause, expected) in later.iter().zip(expected) {
            assert!((0.79..=1.21).contains(&(pause / expected)), "{later:?}");
        }
    }

    #[test]
    fn only_a_source_that_stays_has_recovered() {
        let now = crate::clock::now();
        let first = Schedule::SOURCE.first;
        let mut backoff = Backoff::new(Schedule::SOURCE, 1);
        for _ in 0..6 {
            backoff.failed(now);
        }
        backoff.lived(Duration::from_secs(1));
        assert!(backoff.failed(now) > first * 5);
        backoff.lived(Duration::from_secs(60));
        assert!(backoff.failed(now) <= first);
        assert!(backoff.declined(now) > first * 50);
    }

    #[test]
    fn sources_do_not_retry_in_step() {
        let now = crate::clock::now();
        let pause = |seed: u64| {
            Backoff::new(Schedule::SOURCE, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).failed(now)
        };
        let pauses: std::collections::BTreeSet<_> = (1..50).map(pause).collect();
        assert!(pauses.len() > 40, "{}", pauses.len());
    }
}
