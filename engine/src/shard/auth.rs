//! Who may do what on this shard: connections that wait to be let in, those that are judged again,
//! and what is kept for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use glommio::sync::Semaphore;
use protocols::media::StreamKey;
use protocols::session::{AccessRequest, Command, Refusal};

use super::owner_of_text;
use crate::auth::hash::Comparison;
use crate::auth::{
    Admittance, Answer, By, Cause, Decision, Desk, Failures, Judging, Query, Question, Reason,
    Referral, Role as Wanted, Rules, Sessions, Shown, Target, Via, decide,
};
use crate::clock;
use crate::conn::{CloseReason, Protocol, Role, escape};
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

/// What a session wants, to be gone on with when it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To publish.
    Publish,
    /// To play.
    Play,
    /// To know what a stream consists of.
    Describe,
}

/// A connection that waits to be let in.
#[derive(Debug)]
pub struct Applicant {
    /// Its question number.
    id: u64,
    wish: Wish,
    request: AccessRequest,
    question: Question,
    key: StreamKey,
}

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

enum Waiter {
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
    /// A session wants something that needs permission.
    pub(crate) fn authorise(
        &mut self,
        slot: usize,
        wish: Wish,
        request: AccessRequest,
        now: Instant,
    ) {
        let conn = &self.plane.conns[slot];
        let via = match conn.protocol {
            Protocol::Rtmp => Via::Rtmp,
            Protocol::Rtsp => Via::Rtsp,
            // They were judged when their request came, or were not asked for by anybody.
            Protocol::Live(_) | Protocol::Http | Protocol::Pull | Protocol::Forward => {
                return self.go_on(slot, wish, &request, now);
            }
        };
        let role = if wish == Wish::Publish { Wanted::Publisher } else { Wanted::Player };
        let key = self.resolve(&request);
        // What cannot be is refused where it is looked at.
        let Ok(key) = key else { return self.go_on(slot, wish, &request, now) };
        let conn = &self.plane.conns[slot];
        let covered = conn.admittance.as_ref().is_some_and(|held| held.covers(role, &key));
        if covered || !matches!(conn.role, Role::Idle) {
            return self.go_on(slot, wish, &request, now);
        }
        let resource = format!("{}/{}", key.app(), key.name());
        let question = Question {
            role,
            via,
            peer: conn.peer.ip(),
            at_home: false,
            path: format!("/{resource}"),
            resource,
            query: Query(request.query.clone()),
            shown: Shown::of_identity(&request.identity),
            unasked: false,
            operates: false,
        };
        let token = self.plane.token(slot);
        match self.judge(&question, false, now) {
            Decision::Allow(by) => self.admit_conn(slot, by, question, key, wish, &request, now),
            Decision::Deny(reason) => self.refuse_conn(token, &question, reason, now),
            Decision::Refer(referral) => {
                match self.inquire(referral, Waiter::Conn(token), false, now) {
                    Ok(id) => {
                        let applicant = Applicant { id, wish, request, question, key };
                        self.plane.conns[slot].role = Role::Applying(Box::new(applicant));
                    }
                    Err(reason) => self.refuse_conn(token, &question, reason, now),
                }
            }
        }
    }

    /// What was held back until it was known that it may be.
    fn go_on(&mut self, slot: usize, wish: Wish, request: &AccessRequest, now: Instant) {
        match wish {
            Wish::Publish => self.request_publish(slot, request),
            Wish::Play => self.request_play(slot, request, now),
            Wish::Describe => self.request_description(slot, request, now),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of what was asked and what came of it")]
    fn admit_conn(
        &mut self,
        slot: usize,
        by: By,
        question: Question,
        key: StreamKey,
        wish: Wish,
        request: &AccessRequest,
        now: Instant,
    ) {
        self.counters.auth.allowed(question.role, by);
        let asks_again = question.via == Via::Rtsp && by != By::Open;
        let recheck_at = self.recheck_at(now);
        if asks_again || recheck_at.is_some() {
            let admittance = Admittance { question, key, recheck_at };
            self.plane.conns[slot].admittance = Some(Box::new(admittance));
        }
        self.go_on(slot, wish, request, now);
    }

    fn refuse_conn(&mut self, token: Token, question: &Question, reason: Reason, now: Instant) {
        self.note_denied(question, reason, now);
        self.command(token, Command::Reject(reason.refusal()));
    }

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
    fn inquire(
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

    /// A connection that waited to be let in is about to end.
    pub(crate) fn withdraw_application(&mut self, slot: usize) {
        let Some(conn) = self.plane.conns.get_mut(slot) else { return };
        match std::mem::replace(&mut conn.role, Role::Idle) {
            Role::Applying(applicant) => self.leave_question(applicant.id),
            other => conn.role = other,
        }
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

    fn end_application(&mut self, slot: usize, id: u64, verdict: Result<By, Reason>, now: Instant) {
        let conn = &mut self.plane.conns[slot];
        let applicant = match std::mem::replace(&mut conn.role, Role::Idle) {
            Role::Applying(applicant) if applicant.id == id => *applicant,
            other => {
                conn.role = other;
                return;
            }
        };
        let Applicant { wish, request, question, key, .. } = applicant;
        match verdict {
            Ok(by) => self.admit_conn(slot, by, question, key, wish, &request, now),
            Err(reason) => {
                let token = self.plane.token(slot);
                self.refuse_conn(token, &question, reason, now);
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

    /// Judges a running session again.
    fn recheck(&mut self, slot: usize, now: Instant) {
        let next = self.recheck_at(now);
        let token = self.plane.token(slot);
        let Some(held) = &mut self.plane.conns[slot].admittance else { return };
        held.recheck_at = next;
        let question = held.question.clone();
        self.counters.auth.rechecks += 1;
        match self.judge(&question, true, now) {
            Decision::Allow(_) => {}
            Decision::Deny(reason) => self.end_recheck(token, Err(reason), now),
            Decision::Refer(referral) => {
                // A question that cannot be put now is put at the next time.
                let _ = self.inquire(referral, Waiter::Running(token), false, now);
            }
        }
    }

    /// A session that runs ends when it is refused, not when nobody can say.
    fn end_recheck(&mut self, token: Token, verdict: Result<By, Reason>, now: Instant) {
        let Err(reason) = verdict else { return };
        if matches!(reason, Reason::Unavailable | Reason::Failures) {
            return;
        }
        let Some(slot) = self.plane.slot(token) else { return };
        let question = self.plane.conns[slot].admittance.as_ref().map(|held| held.question.clone());
        if let Some(question) = question {
            self.note_denied(&question, reason, now);
        }
        self.dismiss(token, Refusal::Forbidden, now);
    }

    /// Says goodbye to a peer and closes its connection.
    pub(super) fn dismiss(&mut self, token: Token, refusal: Refusal, now: Instant) {
        self.guarded(token, now, |shard, slot| {
            shard.drive(slot, now, |session| session.handle_command(now, Command::Close(refusal)));
            shard.close_token(token, CloseReason::Refused(refusal), now);
        });
    }
}
