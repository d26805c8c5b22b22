//! Who may do what by HTTP: asked by a task for each request, which alone waits for the answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::auth::{By, Decision, Question, Reason, session_key};
use crate::clock;
use crate::http::api::Admission;
use crate::shard::Shard;

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
    let id = match this.inquire_as_task(referral, key.is_some(), now) {
        Ok(id) => id,
        Err(reason) => {
            this.note_denied(question, reason, now);
            return Admission::Settled(Err(reason));
        }
    };
    this.mesh.kick();
    this.mesh.kick_self();
    drop(this);
    let (shard, was_in, question) = (Rc::clone(shard), seen.is_some(), question.clone());
    Admission::Pending(Box::pin(async move {
        let application = Application { shard, id };
        let verdict = wait(&application, key, was_in).await;
        let mut this = application.shard.borrow_mut();
        match verdict {
            Ok(by) => this.counters.auth.allowed(question.role, by),
            Err(reason) => this.note_denied(&question, reason, clock::now()),
        }
        drop(this);
        verdict
    }))
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

async fn wait(
    Application { shard, id }: &Application,
    key: Option<String>,
    was_in: bool,
) -> Result<By, Reason> {
    let outcome = poll_fn(|cx| match shard.borrow_mut().outcome_for_task(*id, cx.waker()) {
        Some(outcome) => Poll::Ready(outcome),
        None => Poll::Pending,
    })
    .await;
    let Some(key) = key else { return outcome.verdict };
    let mut this = shard.borrow_mut();
    let now = clock::now();
    let again = now + this.auth.rules.options.cache;
    match outcome.verdict {
        Ok(by) => {
            this.auth.sessions.admit(key, outcome.fresh_until.unwrap_or(again), now);
            Ok(by)
        }
        // Who plays goes on when nobody can say; it is asked about again soon.
        Err(Reason::Unavailable) if was_in => {
            this.auth.sessions.admit(key, again, now);
            Ok(By::Running)
        }
        Err(reason) => {
            this.auth.sessions.expel(&key);
            Err(reason)
        }
    }
}
