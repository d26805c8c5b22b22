//! Questions to the authorisation server that belong to this shard: put once, under a deadline, and
//! answered to whoever waits, on whichever shard.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures_lite::FutureExt as _;

use super::auth_place::Found;
use super::dial::RESOLVE_MAX;
use crate::alarm::Alarm;
use crate::auth::{Answer, Cause, Rules, Step, Target, Waiting, hook};
use crate::clock;
use crate::net::resolve::Asker;
use crate::ring::ControlMessage;
use crate::shard::Shard;

impl Shard {
    /// A shard has a question.
    pub(super) fn on_ask_hook(
        &mut self,
        target: Target,
        rules: &Arc<Rules>,
        keep: bool,
        who: Waiting,
        now: Instant,
    ) {
        match self.auth.desk.take(&target, who, keep, now) {
            Step::Answer(answer, fresh_until) => self.answer_hook(who, answer, fresh_until),
            Step::Wait => {}
            Step::Ask => {
                let rules = Arc::clone(rules);
                let (Some(shard), Some((hook, _))) = (self.this.upgrade(), &rules.hook) else {
                    let answer = Some(Answer::Unknown(Cause::Busy));
                    return self.settle_hook(&target, &rules, answer, now);
                };
                let deadline = now + hook.timeout;
                // The executor polls a new task at once, and this shard is borrowed: the loop
                // spawns it.
                self.leaving.push(Box::pin(async move {
                    let answer = put(&shard, &rules, &target, deadline).await;
                    let now_then = clock::now();
                    let mut this = shard.borrow_mut();
                    if answer.is_some() {
                        let took = now_then.saturating_duration_since(now);
                        this.counters.auth.note_exchange(took);
                    }
                    this.settle_hook(&target, &rules, answer, now_then);
                    this.mesh.kick();
                    this.mesh.kick_self();
                }));
            }
        }
    }

    fn settle_hook(
        &mut self,
        target: &Target,
        rules: &Rules,
        answer: Option<Answer>,
        now: Instant,
    ) {
        let cache = rules.options.cache;
        let (waiting, fresh_until) = self.auth.desk.settle(target, answer, cache, now);
        // Nobody waits for a question that was not put.
        let answer = answer.unwrap_or(Answer::Unknown(Cause::Busy));
        for who in waiting {
            self.answer_hook(who, answer, fresh_until);
        }
    }

    fn answer_hook(&mut self, who: Waiting, answer: Answer, fresh_until: Option<Instant>) {
        // A lost one is given up by its shard in time.
        self.mesh.send(who.from, ControlMessage::Judged { id: who.id, answer, fresh_until });
    }
}

/// Puts a question, unless everybody leaves before it is answered.
async fn put(
    shard: &Rc<RefCell<Shard>>,
    rules: &Rules,
    target: &Target,
    deadline: Instant,
) -> Option<Answer> {
    let (hook, tls) = rules.hook.as_ref()?;
    let abandoned =
        poll_fn(|cx| match shard.borrow_mut().auth.desk.is_wanted(target, cx.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(None),
        });
    let asked = async {
        let exchanges = Rc::clone(&shard.borrow().auth.exchanges);
        // Waiting for a turn counts: it is the peer's time.
        let Ok(_turn) = exchanges.acquire_permit(1).await else {
            return Some(Answer::Unknown(Cause::Busy));
        };
        let addresses = match addresses(shard, &hook.url.host, hook.url.port).await {
            Ok(addresses) => addresses,
            Err(cause) => return Some(Answer::Unknown(cause)),
        };
        let answer = hook::exchange(hook, tls, &addresses, target, deadline).await;
        if answer == Answer::Unknown(Cause::Connect) {
            // It may have moved.
            shard.borrow_mut().auth.places.forget((&hook.url.host, hook.url.port));
        }
        Some(answer)
    };
    let late = async {
        Alarm::at(deadline).await;
        Some(Answer::Unknown(Cause::Timeout))
    };
    abandoned.or(asked).or(late).await
}

/// The addresses of the server.
async fn addresses(
    shard: &Rc<RefCell<Shard>>,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, Cause> {
    let found = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let now = clock::now();
        let attempt = match this.auth.places.find((host, port), cx.waker(), now) {
            Found::Addresses(addresses) => return Poll::Ready(Ok(addresses)),
            Found::None => return Poll::Ready(Err(Cause::Resolve)),
            Found::Soon => return Poll::Pending,
            Found::Never(attempt) => attempt,
        };
        match this.look_up(Asker::Hook, attempt, (host, port), now) {
            Ok(Ok(addresses)) => Poll::Ready(Ok(addresses.into())),
            Ok(Err(until)) => {
                this.auth.places.asked((host, port), attempt, cx.waker(), until);
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(Cause::Busy)),
        }
    });
    let late = async {
        Alarm::after(RESOLVE_MAX).await;
        Err(Cause::Resolve)
    };
    found.or(late).await
}
