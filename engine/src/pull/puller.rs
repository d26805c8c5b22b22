//! What one pull does next: a pure state machine over demand, success and failure.

use std::time::{Duration, Instant};

use super::{Backoff, Schedule};

/// Who wants the stream now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nobody.
    Nobody,
    /// Another shard keeps a mirror; its last viewer may have left this long ago.
    Mirrored(Duration),
    /// Viewers on the owner shard, or requests for segments.
    Here,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Go there.
    Start,
    /// Let go of it.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not under way.
    Resting,
    /// Being fetched; live since then, if it is.
    Running { live_since: Option<Instant> },
    /// To be tried again then.
    Waiting { until: Instant },
    /// Played once, to its end.
    Done,
}

/// See the module text.
#[derive(Debug, Clone)]
pub struct Puller {
    always: bool,
    linger: Duration,
    phase: Phase,
    backoff: Backoff,
    wanted_at: Option<Instant>,
}

impl Puller {
    /// A pull that has not begun.
    #[must_use]
    pub fn new(always: bool, linger: Duration, seed: u64) -> Self {
        let backoff = Backoff::new(Schedule::SOURCE, seed);
        Self { always, linger, phase: Phase::Resting, backoff, wanted_at: None }
    }

    /// One word for what it does.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Resting => "idle",
            Phase::Running { live_since: None } => "connecting",
            Phase::Running { live_since: Some(_) } => "live",
            Phase::Waiting { .. } => "waiting",
            Phase::Done => "done",
        }
    }

    /// It has been played to its end and will not be again.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// It is not under way, nor waits to be.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.phase == Phase::Resting
    }

    /// What is to be done now. `occupied`: somebody else publishes the stream.
    pub fn step(&mut self, now: Instant, demand: Demand, occupied: bool) -> Action {
        let wanted = self.is_wanted(now, demand);
        match self.phase {
            Phase::Running { .. } if !wanted => {
                self.phase = Phase::Resting;
                self.backoff.reset();
                Action::Stop
            }
            Phase::Waiting { .. } if !wanted => {
                self.phase = Phase::Resting;
                self.backoff.reset();
                Action::Nothing
            }
            Phase::Waiting { until } if now < until => Action::Nothing,
            Phase::Resting | Phase::Waiting { .. } if wanted && !occupied => {
                self.phase = Phase::Running { live_since: None };
                Action::Start
            }
            Phase::Resting | Phase::Waiting { .. } | Phase::Running { .. } | Phase::Done => {
                Action::Nothing
            }
        }
    }

    fn is_wanted(&mut self, now: Instant, demand: Demand) -> bool {
        match demand {
            Demand::Here => self.wanted_at = Some(now),
            // A mirror outlives its viewers: they may have left when the wait for them began.
            Demand::Mirrored(grace) => self.wanted_at = now.checked_sub(grace).or(Some(now)),
            Demand::Nobody => {}
        }
        let lingers = |at| now.saturating_duration_since(at) < self.linger;
        self.always || demand != Demand::Nobody || self.wanted_at.is_some_and(lingers)
    }

    /// The source publishes.
    pub fn went_live(&mut self, now: Instant) {
        if let Phase::Running { live_since: live_since @ None } = &mut self.phase {
            *live_since = Some(now);
        }
    }

    /// The source publishes, or did when it was last heard of.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Running { live_since: Some(_) })
    }

    /// The source has failed or ended: how long to wait, unless it had been let go.
    pub fn ended(&mut self, now: Instant) -> Option<Duration> {
        let Phase::Running { live_since } = self.phase else { return None };
        if let Some(since) = live_since {
            self.backoff.lived(now.saturating_duration_since(since));
        }
        let pause = self.backoff.failed(now);
        self.phase = Phase::Waiting { until: now + pause };
        Some(pause)
    }

    /// The source was to be played once, and has been.
    pub fn finished(&mut self) {
        self.phase = Phase::Done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    #[test]
    fn on_demand_it_comes_with_the_first_viewer_and_lingers_after_the_last() {
        let t0 = crate::clock::now();
        let mut puller = Puller::new(false, LINGER, 1);
        assert_eq!(puller.step(t0, Demand::Nobody, false), Action::Nothing);
        assert_eq!(puller.step(t0, Demand::Here, false), Action::Start);
        assert_eq!(puller.step(t0, Demand::Here, true), Action::Nothing, "it is its own publisher");
        let t1 = t0 + LINGER / 2;
        assert_eq!(puller.step(t1, Demand::Nobody, true), Action::Nothing);
        assert_eq!(puller.step(t1, Demand::Here, true), Action::Nothing);
        assert_eq!(puller.step(t1 + LINGER, Demand::Nobody, true), Action::Stop);
        assert_eq!(puller.ended(t1 + LINGER), None, "it was let go");
        assert_eq!(puller.step(t1 + LINGER, Demand::Here, false), Action::Start);
    }

    #[test]
    fn a_mirror_that_outlives_its_viewers_does_not_add_to_the_linger() {
        let t0 = crate::clock::now();
        let mut puller = Puller::new(false, LINGER, 1);
        let mirrored = Demand::Mirrored(LINGER);
        assert_eq!(puller.step(t0, mirrored, false), Action::Start);
        assert_eq!(puller.step(t0 + LINGER * 9, mirrored, true), Action::Nothing);
        let gone = t0 + LINGER * 9 + Duration::from_millis(1);
        assert_eq!(puller.step(gone, Demand::Nobody, true), Action::Stop);
    }

    #[test]
    fn it_tries_again_after_a_pause_and_never_beside_another_publisher() {
        let t0 = crate::clock::now();
        let mut puller = Puller::new(true, LINGER, 1);
        assert_eq!(puller.step(t0, Demand::Nobody, true), Action::Nothing);
        assert_eq!(puller.step(t0, Demand::Nobody, false), Action::Start);
        let pause = puller.ended(t0).expect("it was running");
        assert_eq!(puller.step(t0 + pause / 2, Demand::Nobody, false), Action::Nothing);
        assert_eq!(puller.step(t0 + pause, Demand::Nobody, true), Action::Nothing);
        assert_eq!(puller.step(t0 + pause, Demand::Nobody, false), Action::Start);
        puller.went_live(t0 + pause);
        assert!(puller.is_live());
    }

    #[test]
    fn what_is_played_once_does_not_come_again() {
        let t0 = crate::clock::now();
        let mut puller = Puller::new(true, LINGER, 1);
        puller.step(t0, Demand::Here, false);
        puller.finished();
        assert_eq!(puller.step(t0 + LINGER, Demand::Here, false), Action::Nothing);
    }
}
