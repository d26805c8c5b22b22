//! When a source that failed is tried again: soon at first, then ever more seldom, never in step
//! with others.

use std::time::{Duration, Instant};

/// Before the first retry.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause while the outage is young: a source that returns is live again within 2 s.
const YOUNG_MAX: Duration = Duration::from_millis(1500);
/// So long an outage is young.
const YOUNG: Duration = Duration::from_secs(60);
/// Longest pause ever.
const OLD_MAX: Duration = Duration::from_secs(10);
/// A source that lived for less has not recovered.
const RECOVERED: Duration = Duration::from_secs(5);

/// The pauses of one source.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    failing_since: Option<Instant>,
    random: u64,
}

impl Backoff {
    /// Of a source that has not failed; `seed` makes its pauses differ from those of others.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Xorshift stays at zero.
        Self { failures: 0, failing_since: None, random: seed | 1 }
    }

    /// The source has failed: how long to wait.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        let young = now.saturating_duration_since(since) < YOUNG;
        let most = if young { YOUNG_MAX } else { OLD_MAX };
        let pause = FIRST.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.7 + 0.3 * self.next_random())
    }

    /// The source has ended after it had been live for so long.
    pub fn lived(&mut self, span: Duration) {
        if span >= RECOVERED {
            self.reset();
        }
    }

    /// Begins anew: nobody wanted the source meanwhile.
    pub fn reset(&mut self) {
        self.failures = 0;
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
        let t0 = crate::clock::now();
        let mut backoff = Backoff::new(7);
        let mut now = t0;
        let mut last = Duration::ZERO;
        for round in 0..200 {
            let pause = backoff.failed(now);
            if round == 0 {
                assert!(pause <= FIRST, "{pause:?}");
            }
            let young = now - t0 < YOUNG;
            assert!(pause <= if young { YOUNG_MAX } else { OLD_MAX }, "{round}: {pause:?}");
            assert!(pause >= FIRST.mul_f64(0.69), "{round}: {pause:?}");
            now += pause;
            last = pause;
        }
        assert!(last > Duration::from_secs(6), "an old outage is asked after seldom: {last:?}");
    }

    #[test]
    fn only_a_source_that_stays_has_recovered() {
        let now = crate::clock::now();
        let mut backoff = Backoff::new(1);
        for _ in 0..6 {
            backoff.failed(now);
        }
        backoff.lived(Duration::from_secs(1));
        assert!(backoff.failed(now) > FIRST * 5);
        backoff.lived(Duration::from_secs(60));
        assert!(backoff.failed(now) <= FIRST);
    }

    #[test]
    fn sources_do_not_retry_in_step() {
        let now = crate::clock::now();
        let pause = |seed: u64| Backoff::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).failed(now);
        let pauses: std::collections::BTreeSet<_> = (1..50).map(pause).collect();
        assert!(pauses.len() > 40, "{}", pauses.len());
    }
}
