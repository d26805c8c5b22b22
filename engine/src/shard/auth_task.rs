//! Who may do what by HTTP: asked by a task for each request, which alone waits for the answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::auth::{Heard, Outcome};
use crate::auth::{By, Decision, Question, Reason, Role, session_key};
use crate::clock;
use crate::http::api::Admission;
use crate::shard::Shard;

/// One of many requests of a session.
struct Request {
    key: String,
    /// Others of the session were let in.
    was_in: bool,
}

/// Judges a request. With `session`, which names what all requests of one viewer are about, who was
/// let in a moment ago is not judged again.
pub(super) fn admission(
    shard: &Rc<RefCell<Shard>>,
    question: &Question,
    session: Option<&str>,
) -> Admission {
    let now = clock::now();
    let mut this = shard.borrow_mut();
    let rules = &this.auth.rules;
    let key = session.filter(|_| rules.are_costly(question.role));
    let key = key.map(|about| session_key(about, question));
    let seen = key.as_ref().and_then(|key| this.auth.sessions.find(key, now));
    if seen.is_some_and(|seen| now < seen.fresh_until) {
        this.counters.auth.allowed(question.role, By::Session);
        return Admission::Settled(Ok(By::Session));
    }
    let referral = match this.judge(question, false, now) {
        Decision::Allow(by) => {
            this.counters.auth.allowed(question.role, by);
            if let Some(key) = key.filter(|_| by == By::Token) {
                let until = now + this.auth.rules.options.cache;
                this.auth.sessions.admit(key, until, now);
            }
            return Admission::Settled(Ok(by));
        }
        Decision::Deny(reason) => {
            this.note_denied(question, reason, now);
            return Admission::Settled(Err(reason));
        }
        Decision::Refer(referral) => referral,
    };
    let request = key.map(|key| Request { key, was_in: seen.is_some() });
    let id = match this.inquire_as_task(referral, request.is_some(), now) {
        Ok(id) => id,
        Err(reason) => {
            let outcome = Outcome { verdict: Err(reason), fresh_until: None };
            return Admission::Settled(this.settle_request(question, request, outcome, now));
        }
    };
    this.mesh.kick();
    this.mesh.kick_self();
    drop(this);
    let (shard, question) = (Rc::clone(shard), question.clone());
    let session = session.map(str::to_owned);
    Admission::Pending(Box::pin(async move {
        let application = Application { shard: Rc::clone(&shard), id };
        let heard = poll_fn(|cx| match shard.borrow_mut().heard_by_task(id, cx.waker()) {
            Some(heard) => Poll::Ready(heard),
            None => Poll::Pending,
        });
        let heard = heard.await;
        drop(application);
        let anew = match heard {
            Heard::Outcome(outcome) => {
                return shard.borrow_mut().settle_request(
                    &question,
                    request,
                    outcome,
                    clock::now(),
                );
            }
            Heard::OtherRules => admission(&shard, &question, session.as_deref()),
        };
        match anew {
            Admission::Settled(verdict) => verdict,
            Admission::Pending(verdict) => verdict.await,
        }
    }))
}

impl Shard {
    /// What becomes of a request that others were asked about.
    fn settle_request(
        &mut self,
        question: &Question,
        request: Option<Request>,
        outcome: Outcome,
        now: Instant,
    ) -> Result<By, Reason> {
        let again = now + self.auth.rules.options.cache;
        let mut verdict = outcome.verdict;
        if let Some(Request { key, was_in }) = request {
            // Who plays goes on when nobody can say; it is asked about again soon.
            let plays = matches!(question.role, Role::Player | Role::Download);
            if verdict == Err(Reason::Unavailable) && was_in && plays {
                verdict = Ok(By::Running);
            }
            match verdict {
                Ok(_) => {
                    self.auth.sessions.admit(key, outcome.fresh_until.unwrap_or(again), now);
                }
                Err(_) => self.auth.sessions.expel(&key),
            }
        }
        match verdict {
            Ok(by) => self.counters.auth.allowed(question.role, by),
            Err(reason) => self.note_denied(question, reason, now),
        }
        verdict
    }
}

/// A question of a task; withdrawn when the task ends, for whatever reason.
struct Application {
    shard: Rc<RefCell<Shard>>,
    id: u64,
}

impl Drop for Application {
    fn drop(&mut self) {
        // Dropped with the executor the shard may be borrowed; then nobody asks any more.
        if let Ok(mut shard) = self.shard.try_borrow_mut() {
            shard.leave_question(self.id);
            shard.mesh.kick();
            shard.mesh.kick_self();
        }
    }
}
