//! Who may do what on this shard: what is kept for it, and questions that wait for their answers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use glommio::sync::Semaphore;

use super::auth_place::Places;
use super::owner_of_text;
use crate::auth::hash::{Comparison, Pair};
use crate::auth::{
    Answer, By, Cause, Decision, Desk, Failures, Judging, Question, Reason, Referral, Rules,
    Sessions, Target, decide,
};
use crate::clock;
use crate::conn::escape;
use crate::ring::{ControlMessage, Token};
use crate::shard::Shard;

/// Questions of this shard that may wait for answers.
const OPEN_MAX: usize = 16_384;
/// Questions that are put to the server at the same time.
const EXCHANGES_MAX: u64 = 64;
/// How much longer than the exchange an answer may take to come back.
const SLACK: Duration = Duration::from_secs(1);
/// How long a password may take to be compared, with those before it.
const COMPARE_MAX: Duration = Duration::from_secs(10);
/// Sessions judged again within one tick.
const RECHECKS_PER_TICK: usize = 64;
/// Refusals that are logged within a second.
const LINES_PER_SECOND: u32 = 20;

/// What a shard keeps for it.
pub struct Auth {
    /// The rules in force.
    pub rules: Arc<Rules>,
    pub(super) sessions: Sessions,
    pub(super) failures: Failures,
    /// Questions to the server whose shard this is.
    pub(super) desk: Desk,
    pub(super) places: Places,
    pub(super) exchanges: Rc<Semaphore>,
    /// Passwords that fit hashes of these rules: one for each hash.
    fitting: HashSet<Pair>,
    open: HashMap<u64, Open>,
    next: u64,
    log: LogBudget,
}

/// A question that waits for its answer.
struct Open {
    waiter: Waiter,
    /// What a yes means.
    then: Result<By, Reason>,
    asked: Asked,
    until: Instant,
}

enum Asked {
    /// This, of the server.
    Server(Target),
    /// Whether a password fits a hash.
    Password(Pair),
}

pub(super) enum Waiter {
    /// A connection that wants to be let in.
    Conn(Token),
    /// One that is judged again.
    Running(Token),
    /// A task.
    Task { heard: Option<Heard>, waker: Option<Waker> },
}

/// What a task hears of its question.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heard {
    /// What came of it.
    Outcome(Outcome),
    /// Nothing will: other rules are in force.
    OtherRules,
}

/// What came of a question, and how long it is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) verdict: Result<By, Reason>,
    pub(super) fresh_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct LogBudget {
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogBudget {
    /// Whether a line may be written; how many were not, if it is the first in a while.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            (self.second, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        if self.lines > LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Auth {
    /// Everything a shard keeps, for these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            sessions: Sessions::default(),
            failures: Failures::default(),
            desk: Desk::new(rules.number),
            places: Places::default(),
            exchanges: Rc::new(Semaphore::new(EXCHANGES_MAX)),
            fitting: HashSet::new(),
            open: HashMap::new(),
            next: 0,
            log: LogBudget::default(),
            rules,
        }
    }

    fn timeout(&self) -> Duration {
        self.rules.hook.as_ref().map_or(COMPARE_MAX, |(hook, _)| hook.timeout + SLACK)
    }
}

/// A task is told what has become of its question.
fn tell(heard: &mut Option<Heard>, waker: &mut Option<Waker>, news: Heard) {
    *heard = Some(news);
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Shard {
    /// When a session that is let in now is judged again.
    pub(super) fn recheck_at(&self, now: Instant) -> Option<Instant> {
        let interval = self.auth.rules.options.recheck;
        (!interval.is_zero()).then(|| now + interval)
    }

    /// The decision as far as this shard can make it.
    pub(super) fn judge(&self, question: &Question, running: bool, now: Instant) -> Decision {
        let judging = Judging {
            unix_s: clock::unix_millis() / 1000,
            suspect: !running && self.is_suspect(question.peer, now),
            running,
        };
        match decide(question, &self.auth.rules, judging) {
            Decision::Refer(Referral::Compare { hash, password, then: Ok(by) })
                if self.auth.fitting.contains(&Pair::of(&hash, &password)) =>
            {
                Decision::Allow(by)
            }
            decision => decision,
        }
    }

    /// Other rules from now on: nobody is let in any more because of the old ones. Whoever waits is
    /// judged by the new ones, and who is in at its time.
    pub(super) fn apply_rules(&mut self, rules: Arc<Rules>, now: Instant) {
        let auth = &mut self.auth;
        auth.sessions = Sessions::default();
        auth.desk.renew(rules.number);
        auth.places.clear();
        auth.fitting.clear();
        auth.rules = rules;
        let next = self.recheck_at(now);
        let held = self.plane.conns.iter_mut().filter_map(|(_, conn)| conn.admittance.as_mut());
        held.for_each(|held| held.recheck_by(next));
        let open: Vec<u64> = self.auth.open.keys().copied().collect();
        for id in open {
            self.judge_anew(id, now);
        }
    }

    /// A question was put by rules that are no longer in force.
    fn judge_anew(&mut self, id: u64, now: Instant) {
        let Some(open) = self.auth.open.get_mut(&id) else { return };
        match &mut open.waiter {
            Waiter::Task { heard, waker } => tell(heard, waker, Heard::OtherRules),
            Waiter::Conn(token) => {
                let token = *token;
                self.leave_question(id);
                self.guarded(token, now, |shard, slot| shard.apply_anew(slot, id, now));
            }
            Waiter::Running(token) => {
                let token = *token;
                self.leave_question(id);
                if let Some(slot) = self.plane.slot(token) {
                    self.recheck(slot, now);
                }
            }
        }
    }

    /// Counts a denial, logs it, and remembers it if it may have been a guess.
    pub(super) fn note_denied(&mut self, question: &Question, reason: Reason, now: Instant) {
        self.counters.auth.denied(question.role, reason);
        if reason == Reason::BadCredential {
            self.auth.failures.note(question.peer, now);
        }
        let Some(left_out) = self.auth.log.take(now) else { return };
        let (peer, role, reason) = (question.peer, question.role.name(), reason.label());
        let resource = escape(&question.resource);
        if left_out > 0 {
            tracing::info!(left_out, "refusals that were not logged one by one");
        }
        tracing::info!(%peer, role, resource, reason, "not let in");
    }

    /// A session has refused credentials itself.
    pub(crate) fn note_guess(&mut self, slot: usize, now: Instant) {
        let peer = self.plane.conns[slot].peer.ip();
        self.auth.failures.note(peer, now);
    }

    /// Too much that came from there was wrong to listen to guesses by a session.
    pub(crate) fn is_suspect(&self, peer: IpAddr, now: Instant) -> bool {
        let limit = self.auth.rules.options.failures;
        self.auth.failures.are_too_many(peer, limit, now)
    }

    /// Puts a question that others have to answer. Its number, or why it cannot be put.
    pub(super) fn inquire(
        &mut self,
        referral: Referral,
        waiter: Waiter,
        keep: bool,
        now: Instant,
    ) -> Result<u64, Reason> {
        if self.auth.open.len() >= OPEN_MAX {
            self.counters.auth.unanswered(Cause::Busy);
            return Err(Reason::Unavailable);
        }
        self.auth.next += 1;
        let id = self.auth.next;
        let (then, asked, until) = match referral {
            Referral::Compare { hash, password, then } => {
                let pair = Pair::of(&hash, &password);
                let comparison = Comparison { shard: self.id, id, hash, password };
                let comparer = self.shared.comparer.as_ref();
                if !comparer.is_some_and(|comparer| comparer.ask(comparison)) {
                    self.counters.auth.unanswered(Cause::Busy);
                    return Err(Reason::Unavailable);
                }
                (then, Asked::Password(pair), now + COMPARE_MAX)
            }
            Referral::Ask(target) => {
                let to = owner_of_text(&target.text, self.mesh.shards());
                let (asked, rules) = (target.clone(), Arc::clone(&self.auth.rules));
                let ask = ControlMessage::AskHook { target: asked, rules, keep, from: self.id, id };
                if !self.mesh.send(to, ask) {
                    self.counters.auth.unanswered(Cause::Busy);
                    return Err(Reason::Unavailable);
                }
                (Ok(By::Hook), Asked::Server(target), now + self.auth.timeout())
            }
        };
        self.auth.open.insert(id, Open { waiter, then, asked, until });
        Ok(id)
    }

    /// As a task: the question number, whose outcome is polled for.
    pub(super) fn inquire_as_task(
        &mut self,
        referral: Referral,
        keep: bool,
        now: Instant,
    ) -> Result<u64, Reason> {
        self.inquire(referral, Waiter::Task { heard: None, waker: None }, keep, now)
    }

    /// What there is for a task, or a note to wake it.
    pub(super) fn heard_by_task(&mut self, id: u64, task: &Waker) -> Option<Heard> {
        let lost = Outcome { verdict: Err(Reason::Unavailable), fresh_until: None };
        let lost = Heard::Outcome(lost);
        let Some(open) = self.auth.open.get_mut(&id) else { return Some(lost) };
        match &mut open.waiter {
            Waiter::Task { heard, waker } => {
                if heard.is_none() {
                    *waker = Some(task.clone());
                }
                *heard
            }
            Waiter::Conn(_) | Waiter::Running(_) => Some(lost),
        }
    }

    /// Nobody waits for that answer any more.
    pub(super) fn leave_question(&mut self, id: u64) {
        let Some(Open { asked: Asked::Server(target), waiter, .. }) = self.auth.open.remove(&id)
        else {
            return;
        };
        // It has come.
        if matches!(waiter, Waiter::Task { heard: Some(Heard::Outcome(_)), .. }) {
            return;
        }
        let to = owner_of_text(&target.text, self.mesh.shards());
        self.mesh.send(to, ControlMessage::LeaveHook { target, from: self.id, id });
    }

    /// An answer has come.
    pub(super) fn on_judged(
        &mut self,
        id: u64,
        answer: Answer,
        fresh_until: Option<Instant>,
        now: Instant,
    ) {
        // Late ones find no question.
        let Some(open) = self.auth.open.get_mut(&id) else { return };
        if let Waiter::Task { heard: Some(_), .. } = open.waiter {
            // Its question is about to be put anew.
            return;
        }
        if let (Answer::Yes, Asked::Password(pair)) = (answer, &open.asked) {
            self.auth.fitting.insert(*pair);
        }
        let verdict = match (answer, &open.asked) {
            (Answer::Yes, _) => open.then,
            (Answer::No, Asked::Server(_)) => Err(Reason::Refused),
            (Answer::No, Asked::Password(_)) => Err(Reason::BadCredential),
            (Answer::Unknown(cause), _) => {
                self.counters.auth.unanswered(cause);
                Err(Reason::Unavailable)
            }
        };
        match &mut open.waiter {
            Waiter::Task { heard, waker } => {
                tell(heard, waker, Heard::Outcome(Outcome { verdict, fresh_until }));
            }
            Waiter::Conn(token) => {
                let token = *token;
                self.auth.open.remove(&id);
                self.guarded(token, now, |shard, slot| {
                    shard.end_application(slot, id, verdict, now);
                });
            }
            Waiter::Running(token) => {
                let token = *token;
                self.auth.open.remove(&id);
                self.end_recheck(token, verdict, now);
            }
        }
    }

    /// By the clock: answers that stay away, and sessions that are to be judged again.
    pub(crate) fn tend_auth(&mut self, now: Instant) {
        if !self.auth.open.is_empty() {
            let late = self.auth.open.iter().filter(|(_, open)| now >= open.until);
            let late: Vec<u64> = late.map(|(id, _)| *id).collect();
            for id in late {
                let waiter = self.auth.open.get(&id).map(|open| &open.waiter);
                if matches!(waiter, Some(Waiter::Task { heard: Some(_), .. })) {
                    // Its task is gone.
                    self.auth.open.remove(&id);
                } else {
                    self.on_judged(id, Answer::Unknown(Cause::Timeout), None, now);
                }
            }
        }
        if self.auth.rules.options.recheck.is_zero() {
            return;
        }
        let due = |at: Instant| now >= at;
        let conns = self.plane.conns.iter().filter(|(_, conn)| {
            conn.admittance.as_ref().is_some_and(|held| held.recheck_at.is_some_and(due))
        });
        let due: Vec<usize> = conns.map(|(slot, _)| slot).take(RECHECKS_PER_TICK).collect();
        for slot in due {
            self.recheck(slot, now);
        }
    }
}
