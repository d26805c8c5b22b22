//! Where questions to the authorisation server come together: on the shard that a question hashes
//! to, so that what many ask at the same time, on whichever shard, is asked once. Pure.

use std::collections::HashMap;
use std::task::Waker;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Answer, Breaker, Cause, Target};
use crate::ring::ShardId;

/// Questions that may be under way, and that may wait for one answer.
const ASKED_MAX: usize = 8192;
const WAITING_MAX: usize = 65_536;
/// Answers kept at a time.
const KEPT_MAX: usize = 65_536;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Shard.
    pub from: ShardId,
    /// Its question number.
    pub id: u64,
}

#[derive(Debug, Default)]
struct Asked {
    waiting: Vec<Waiting>,
    /// Somebody will ask again soon.
    keep: bool,
    /// Wakes the task that asks when nobody waits any more.
    task: Option<Waker>,
}

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// This is the answer; good until then.
    Answer(Answer, Option<Instant>),
    /// It will come: somebody has asked already.
    Wait,
    /// Ask.
    Ask,
}

/// See the module text.
#[derive(Debug, Default)]
pub struct Desk {
    asked: HashMap<Target, Asked>,
    /// What was allowed a moment ago: digests, for it may be long and is not to be kept.
    kept: HashMap<[u8; 32], Instant>,
    waiting: usize,
    /// Number of the rules in force.
    rules: u64,
    /// Before their server.
    breaker: Breaker,
}

impl Desk {
    /// For questions by the rules of that number.
    #[must_use]
    pub fn new(rules: u64) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Other rules are in force: what is known of the server that was asked, and what it allowed,
    /// does not hold. Questions under way go on for who waits for them; those by the new rules are
    /// others.
    pub fn renew(&mut self, rules: u64) {
        self.rules = rules;
        self.breaker = Breaker::default();
        self.forget();
    }

    /// Takes a question. `keep`: its answer may be that of a moment ago, and is good for another.
    pub fn take(&mut self, target: &Target, who: Waiting, keep: bool, now: Instant) -> Step {
        if keep && !self.kept.is_empty() {
            let digest = digest(target);
            match self.kept.get(&digest) {
                Some(until) if now < *until => return Step::Answer(Answer::Yes, Some(*until)),
                Some(_) => _ = self.kept.remove(&digest),
                None => {}
            }
        }
        if self.waiting >= WAITING_MAX {
            return Step::Answer(Answer::Unknown(Cause::Busy), None);
        }
        if let Some(asked) = self.asked.get_mut(target) {
            asked.waiting.push(who);
            asked.keep |= keep;
            self.waiting += 1;
            return Step::Wait;
        }
        if self.asked.len() >= ASKED_MAX {
            return Step::Answer(Answer::Unknown(Cause::Busy), None);
        }
        // Shards do not come to new rules in the same moment.
        if target.rules == self.rules && !self.breaker.lets_through(now) {
            return Step::Answer(Answer::Unknown(Cause::Paused), None);
        }
        self.asked.insert(target.clone(), Asked { waiting: vec![who], keep, task: None });
        self.waiting += 1;
        Step::Ask
    }

    /// Somebody waits no longer.
    pub fn leave(&mut self, target: &Target, who: Waiting) {
        let Some(asked) = self.asked.get_mut(target) else { return };
        let before = asked.waiting.len();
        asked.waiting.retain(|waiting| *waiting != who);
        self.waiting -= before - asked.waiting.len();
        if asked.waiting.is_empty()
            && let Some(task) = asked.task.take()
        {
            task.wake();
        }
    }

    /// Whether anybody waits for the answer; the task is woken when that ends.
    pub fn is_wanted(&mut self, target: &Target, task: &Waker) -> bool {
        let Some(asked) = self.asked.get_mut(target) else { return false };
        asked.task = Some(task.clone());
        !asked.waiting.is_empty()
    }

    /// The answer has come (`None`: it was not asked after all). Who waits for it, and how long it
    /// is good.
    pub fn settle(
        &mut self,
        target: &Target,
        answer: Option<Answer>,
        cache: Duration,
        now: Instant,
    ) -> (Vec<Waiting>, Option<Instant>) {
        let in_force = target.rules == self.rules;
        if in_force {
            self.note(answer, now);
        }
        let Some(asked) = self.asked.remove(target) else { return (Vec::new(), None) };
        self.waiting -= asked.waiting.len();
        let mut until = None;
        if answer == Some(Answer::Yes) && asked.keep && in_force && !cache.is_zero() {
            until = Some(now + cache);
            if self.kept.len() >= KEPT_MAX {
                self.kept.retain(|_, until| now < *until);
            }
            if self.kept.len() < KEPT_MAX {
                self.kept.insert(digest(target), now + cache);
            }
        }
        (asked.waiting, until)
    }

    /// What an exchange says of the server.
    fn note(&mut self, answer: Option<Answer>, now: Instant) {
        match answer {
            None => self.breaker.withdrawn(),
            Some(Answer::Unknown(_)) => {
                if self.breaker.failed(now) {
                    tracing::warn!("the authorisation server does not answer: all are refused");
                }
            }
            Some(Answer::Yes | Answer::No) => {
                if self.breaker.is_open() {
                    tracing::info!("the authorisation server answers again");
                }
                self.breaker.answered();
            }
        }
    }

    /// The server of the rules in force is left alone.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.breaker.is_open()
    }

    /// Forgets what was allowed.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

fn digest(target: &Target) -> [u8; 32] {
    let Target { text, rules } = target;
    Sha256::new().chain_update(rules.to_be_bytes()).chain_update(&**text).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: u64) -> Waiting {
        Waiting { from: ShardId(0), id }
    }

    fn target(text: &str) -> Target {
        Target { text: text.into(), rules: 0 }
    }

    const CACHE: Duration = Duration::from_secs(5);

    #[test]
    fn what_many_ask_is_asked_once() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        let (a, b) = (target("a"), target("b"));
        assert_eq!(desk.take(&a, who(1), false, now), Step::Ask);
        assert_eq!(desk.take(&a, who(2), true, now), Step::Wait);
        assert_eq!(desk.take(&b, who(3), false, now), Step::Ask);
        assert_eq!(desk.waiting(), 3);
        let (waiting, until) = desk.settle(&a, Some(Answer::Yes), CACHE, now);
        assert_eq!(waiting, [who(1), who(2)]);
        assert_eq!(until, Some(now + CACHE));
        // Who may have an answer of a moment ago gets it, others do not.
        assert_eq!(desk.take(&a, who(4), true, now), Step::Answer(Answer::Yes, Some(now + CACHE)));
        assert_eq!(desk.take(&a, who(5), false, now), Step::Ask);
        assert_eq!(desk.settle(&a, Some(Answer::No), CACHE, now), (vec![who(5)], None));
        assert_eq!(desk.take(&a, who(6), true, now + CACHE), Step::Ask);
        // A refusal is not kept.
        assert_eq!(desk.settle(&a, Some(Answer::No), CACHE, now).1, None);
        assert_eq!(desk.take(&a, who(7), true, now + CACHE), Step::Ask);
        assert_eq!(desk.waiting(), 2);
    }

    #[test]
    fn who_leaves_frees_its_place_and_the_last_one_ends_the_question() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        let a = target("a");
        desk.take(&a, who(1), false, now);
        desk.take(&a, who(2), false, now);
        assert!(desk.is_wanted(&a, Waker::noop()));
        desk.leave(&a, who(1));
        desk.leave(&a, who(1));
        assert!(desk.is_wanted(&a, Waker::noop()));
        desk.leave(&a, who(2));
        assert!(!desk.is_wanted(&a, Waker::noop()));
        assert_eq!(desk.waiting(), 0);
        assert_eq!(desk.settle(&a, None, CACHE, now), (Vec::new(), None));
        assert_eq!(desk.take(&a, who(3), false, now), Step::Ask);
    }

    #[test]
    fn other_rules_are_other_questions_to_another_server() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        let (a, new_a) = (target("a"), Target { rules: 1, ..target("a") });
        for number in 0..4 {
            let failing = target(&number.to_string());
            desk.take(&failing, who(0), false, now);
            desk.settle(&failing, Some(Answer::Unknown(Cause::Connect)), CACHE, now);
        }
        desk.take(&target("kept"), who(0), true, now);
        desk.settle(&target("kept"), Some(Answer::Yes), CACHE, now);
        assert_eq!(desk.take(&a, who(1), true, now), Step::Ask);
        desk.renew(1);
        assert_eq!(desk.take(&target("kept"), who(0), true, now), Step::Ask);
        // The same words by the new rules are asked anew, and are not answered by the old server.
        assert_eq!(desk.take(&new_a, who(2), true, now), Step::Ask);
        let (waiting, until) = desk.settle(&a, Some(Answer::Yes), CACHE, now);
        assert_eq!((waiting, until), (vec![who(1)], None));
        assert_eq!(desk.take(&new_a, who(3), true, now), Step::Wait);
        // Nor does its silence tell anything of the new one.
        for number in 0..10 {
            let old = target(&number.to_string());
            desk.take(&old, who(0), false, now);
            desk.settle(&old, Some(Answer::Unknown(Cause::Timeout)), CACHE, now);
        }
        assert!(!desk.is_paused());
        let (waiting, until) = desk.settle(&new_a, Some(Answer::Yes), CACHE, now);
        assert_eq!((waiting, until), (vec![who(2), who(3)], Some(now + CACHE)));
    }

    #[test]
    fn a_server_that_was_silent_is_not_held_against_its_successor() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        while !desk.is_paused() {
            desk.take(&target("a"), who(1), false, now);
            desk.settle(&target("a"), Some(Answer::Unknown(Cause::Timeout)), CACHE, now);
        }
        desk.renew(1);
        let new = Target { rules: 1, ..target("a") };
        assert_eq!(desk.take(&new, who(1), false, now), Step::Ask);
    }

    #[test]
    fn everything_is_bounded() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        let busy = Step::Answer(Answer::Unknown(Cause::Busy), None);
        for number in 0..ASKED_MAX {
            assert_eq!(desk.take(&target(&number.to_string()), who(0), false, now), Step::Ask);
        }
        assert_eq!(desk.take(&target("one more"), who(0), false, now), busy);
        let same = target("0");
        for _ in ASKED_MAX..WAITING_MAX {
            assert_eq!(desk.take(&same, who(1), false, now), Step::Wait);
        }
        assert_eq!(desk.take(&same, who(1), false, now), busy);
    }

    #[test]
    fn a_server_that_is_silent_is_left_alone() {
        let now = crate::clock::now();
        let mut desk = Desk::default();
        let silent = Some(Answer::Unknown(Cause::Timeout));
        let paused = Step::Answer(Answer::Unknown(Cause::Paused), None);
        let a = target("a");
        while !desk.is_paused() {
            assert_eq!(desk.take(&a, who(1), false, now), Step::Ask);
            desk.settle(&a, silent, CACHE, now);
        }
        assert_eq!(desk.take(&a, who(1), false, now), paused);
        let later = now + Duration::from_secs(1);
        assert_eq!(desk.take(&a, who(1), false, later), Step::Ask);
        assert_eq!(desk.take(&target("b"), who(1), false, later), paused);
        desk.settle(&a, Some(Answer::No), CACHE, later);
        assert_eq!(desk.take(&target("b"), who(1), false, later), Step::Ask);
    }
}
