//! The breaker before the authorisation server: when it does not answer time after time, it is left
//! alone for a while, and whoever comes then is refused at once. Pure.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long it stays open first; twice as long each time a probe fails, up to the other.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// See the module text.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    pause: Duration,
    /// One question is on its way to find out whether the server is back.
    probing: bool,
}

impl Breaker {
    /// Whether a question may be put now. An open one lets a single one through when its pause is
    /// over.
    pub fn lets_through(&mut self, now: Instant) -> bool {
        match &mut self.open {
            None => true,
            Some(open) if now >= open.until && !open.probing => {
                open.probing = true;
                true
            }
            Some(_) => false,
        }
    }

    /// The server has answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// It has not; true if that opened the breaker.
    pub fn failed(&mut self, now: Instant) -> bool {
        match &mut self.open {
            Some(open) if open.probing => {
                let pause = (open.pause * 2).min(PAUSE_MAX);
                *open = Open { until: now + pause, pause, probing: false };
                false
            }
            // Put before it opened.
            Some(_) => false,
            None => {
                self.failures += 1;
                let opens = self.failures >= FAILURES_MAX;
                if opens {
                    let until = now + PAUSE_MIN;
                    self.open = Some(Open { until, pause: PAUSE_MIN, probing: false });
                }
                opens
            }
        }
    }

    /// The question that was let through was not put after all.
    pub fn withdrawn(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// It keeps questions back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let mut now = crate::clock::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX - 1 {
            assert!(breaker.lets_through(now) && !breaker.failed(now));
        }
        breaker.answered();
        for _ in 0..FAILURES_MAX - 1 {
            assert!(!breaker.failed(now));
        }
        assert!(breaker.failed(now) && breaker.is_open());
        // Questions that were under way fail too.
        assert!(!breaker.failed(now));
        let mut pause = PAUSE_MIN;
        for _ in 0..10 {
            assert!(!breaker.lets_through(now + pause - Duration::from_millis(1)));
            now += pause;
            assert!(breaker.lets_through(now), "a probe");
            assert!(!breaker.lets_through(now), "one only");
            breaker.withdrawn();
            assert!(breaker.lets_through(now), "another one");
            assert!(!breaker.failed(now));
            pause = (pause * 2).min(PAUSE_MAX);
        }
        now += PAUSE_MAX;
        assert!(breaker.lets_through(now));
        breaker.answered();
        assert!(!breaker.is_open() && breaker.lets_through(now) && breaker.lets_through(now));
    }
}
