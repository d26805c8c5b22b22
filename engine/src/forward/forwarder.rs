//! What one forward does next: a pure state machine over the stream, success and failure.

use std::time::{Duration, Instant};

use crate::pull::{Action, Backoff, Schedule};

/// How far a forward is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The stream cannot be joined yet.
    Resting,
    /// On the way to the target.
    Connecting,
    /// The target takes the stream.
    Live {
        /// Since then.
        since: Instant,
    },
    /// To be tried again.
    Waiting {
        /// Then.
        until: Instant,
    },
}

impl State {
    /// Label in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Connecting => "connecting",
            Self::Live { .. } => "live",
            Self::Waiting { .. } => "waiting",
        }
    }
}

/// See the module text.
#[derive(Debug, Clone)]
pub struct Forwarder {
    state: State,
    backoff: Backoff,
}

impl Forwarder {
    /// A forward that has not begun.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: State::Resting, backoff: Backoff::new(Schedule::TARGET, seed) }
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What is to be done now. `joinable`: the stream has a keyframe to begin with.
    pub fn step(&mut self, now: Instant, joinable: bool) -> Action {
        match self.state {
            State::Connecting | State::Live { .. } if !joinable => {
                self.state = State::Resting;
                Action::Stop
            }
            State::Waiting { until } if now < until => Action::Nothing,
            State::Resting | State::Waiting { .. } if joinable => {
                self.state = State::Connecting;
                Action::Start
            }
            State::Resting | State::Waiting { .. } | State::Connecting | State::Live { .. } => {
                Action::Nothing
            }
        }
    }

    /// The target takes the stream.
    pub fn went_live(&mut self, now: Instant) {
        if self.state == State::Connecting {
            self.state = State::Live { since: now };
        }
    }

    /// The target has failed or ended: how long to wait, unless it had been let go. `declined`: it
    /// has said no in a way that a second try would not change.
    pub fn ended(&mut self, now: Instant, declined: bool) -> Option<Duration> {
        match self.state {
            State::Resting | State::Waiting { .. } => return None,
            State::Connecting => {}
            State::Live { since } => self.backoff.lived(now.saturating_duration_since(since)),
        }
        let pause = if declined { self.backoff.declined(now) } else { self.backoff.failed(now) };
        self.state = State::Waiting { until: now + pause };
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_dials_when_there_is_something_to_send_and_lets_go_when_not() {
        let t0 = crate::clock::now();
        let mut forwarder = Forwarder::new(1);
        assert_eq!(forwarder.step(t0, false), Action::Nothing);
        assert_eq!(forwarder.step(t0, true), Action::Start);
        assert_eq!(forwarder.step(t0, true), Action::Nothing);
        forwarder.went_live(t0);
        assert_eq!(forwarder.state(), State::Live { since: t0 });
        assert_eq!(forwarder.step(t0, false), Action::Stop);
        assert_eq!(forwarder.ended(t0, false), None, "it was let go");
        assert_eq!(forwarder.step(t0, true), Action::Start, "at once: nothing had failed");
    }

    #[test]
    fn a_target_that_resets_at_once_is_left_alone_ever_longer() {
        let t0 = crate::clock::now();
        let mut forwarder = Forwarder::new(1);
        let (mut now, mut dialled) = (t0, 0);
        while now < t0 + Duration::from_secs(600) {
            if forwarder.step(now, true) == Action::Start {
                dialled += 1;
                forwarder.went_live(now);
                now += Duration::from_secs(1);
                forwarder.ended(now, false).expect("it was live");
            }
            now += Duration::from_millis(100);
        }
        assert!((20..45).contains(&dialled), "{dialled}");
    }

    #[test]
    fn a_refusal_is_not_argued_with() {
        let t0 = crate::clock::now();
        let mut forwarder = Forwarder::new(1);
        forwarder.step(t0, true);
        let pause = forwarder.ended(t0, true).unwrap();
        assert!(pause > Duration::from_secs(45), "{pause:?}");
        assert_eq!(forwarder.step(t0 + pause / 2, true), Action::Nothing);
        assert_eq!(forwarder.step(t0 + pause, true), Action::Start);
    }
}
