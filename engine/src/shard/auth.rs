//! Who may do what on this shard: what is kept for it, and questions that wait for their answers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use glommio::sync::Semaphore;

use super::owner_of_text;
use crate::auth::hash::Comparison;
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
    pub(super) place: Place,
    pub(super) exchanges: Rc<Semaphore>,
    open: HashMap<u64, Open>,
    next: u64,
    log: LogBudget,
}

/// A question that waits for its answer.
struct Open {
    waiter: Waiter,
    /// What a yes means.
    then: Result<By, Reason>,
    /// What was asked of the server; `None`: a password is compared.
    target: Option<Target>,
    until: Instant,
}

pub(super) enum Waiter {
    /// A connection that wants to be let in.
    Conn(Token),
    /// One that is judged again.
    Running(Token),
    /// A task.
    Task { outcome: Option<Outcome>, waker: Option<Waker> },
}

/// What came of a question, and how long it is good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) verdict: Result<By, Reason>,
    pub(super) fresh_until: Option<Instant>,
}

/// Where the server is.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// What its name was last resolved to, and when.
    pub(super) addresses: Option<(Vec<SocketAddr>, Instant)>,
    /// It is being resolved; these wait.
    pub(super) waiting: Option<Vec<Waker>>,
}

impl Place {
    /// The name has been looked up.
    pub(super) fn found(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        self.addresses = Some((addresses, now));
        self.waiting.take().into_iter().flatten().for_each(Waker::wake);
    }
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
            rules,
            sessions: Sessions::default(),
            failures: Failures::default(),
            desk: Desk::default(),
            place: Place::default(),
            exchanges: Rc::new(Semaphore::new(EXCHANGES_MAX)),
            open: HashMap::new(),
            next: 0,
            log: LogBudget::default(),
        }
    }

    /// Other rules from now on: nobody is let in any more because of the old ones, and who is in
    /// is judged again at its time.
    pub fn replace(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.sessions = Sessions::default();
        self.desk.forget();
        self.place.addresses = None;
    }

    fn timeout(&self) -> Duration {
        self.rules.hook.as_ref().map_or(COMPARE_MAX, |(hook, _)| hook.timeout + SLACK)
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
        decide(question, &self.auth.rules, judging)
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
        let (then, target, until) = match referral {
            Referral::Compare { hash, password, then } => {
                let comparison = Comparison { shard: self.id, id, hash, password };
                let comparer = self.shared.comparer.as_ref();
                if !comparer.is_some_and(|comparer| comparer.ask(comparison)) {
                    self.counters.auth.unanswered(Cause::Busy);
                    return Err(Reason::Unavailable);
                }
                (then, None, now + COMPARE_MAX)
            }
            Referral::Ask(target) => {
                let to = owner_of_text(&target.0, self.mesh.shards());
                let ask =
                    ControlMessage::AskHook { target: target.clone(), keep, from: self.id, id };
                if !self.mesh.send(to, ask) {
                    self.counters.auth.unanswered(Cause::Busy);
                    return Err(Reason::Unavailable);
                }
                (Ok(By::Hook), Some(target), now + self.auth.timeout())
            }
        };
        self.auth.open.insert(id, Open { waiter, then, target, until });
        Ok(id)
    }

    /// As a task: the question number, whose outcome is polled for.
    pub(super) fn inquire_as_task(
        &mut self,
        referral: Referral,
        keep: bool,
        now: Instant,
    ) -> Result<u64, Reason> {
        self.inquire(referral, Waiter::Task { outcome: None, waker: None }, keep, now)
    }

    /// The outcome for a task, or a note to wake it.
    pub(super) fn outcome_for_task(&mut self, id: u64, task: &Waker) -> Option<Outcome> {
        let lost = Outcome { verdict: Err(Reason::Unavailable), fresh_until: None };
        let Some(open) = self.auth.open.get_mut(&id) else { return Some(lost) };
        match &mut open.waiter {
            Waiter::Task { outcome, waker } => {
                if outcome.is_none() {
                    *waker = Some(task.clone());
                }
                *outcome
            }
            Waiter::Conn(_) | Waiter::Running(_) => Some(lost),
        }
    }

    /// Nobody waits for that answer any more.
    pub(super) fn leave_question(&mut self, id: u64) {
        let Some(Open { target: Some(target), waiter, .. }) = self.auth.open.remove(&id) else {
            return;
        };
        // It has come.
        if matches!(waiter, Waiter::Task { outcome: Some(_), .. }) {
            return;
        }
        let to = owner_of_text(&target.0, self.mesh.shards());
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
        let verdict = match (answer, open.target.is_some()) {
            (Answer::Yes, _) => open.then,
            (Answer::No, true) => Err(Reason::Refused),
            (Answer::No, false) => Err(Reason::BadCredential),
            (Answer::Unknown(cause), _) => {
                self.counters.auth.unanswered(cause);
                Err(Reason::Unavailable)
            }
        };
        match &mut open.waiter {
            Waiter::Task { outcome, waker } => {
                *outcome = Some(Outcome { verdict, fresh_until });
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
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
                if matches!(waiter, Some(Waiter::Task { outcome: Some(_), .. })) {
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
