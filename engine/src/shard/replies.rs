//! Questions of a task to several shards, gathered with a deadline.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::FutureExt as _;

use crate::alarm::Alarm;
use crate::shard::Shard;

/// How long an answer may take before it is left out.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Open questions of one kind.
#[derive(Debug)]
pub(super) struct Replies<T> {
    next: u64,
    open: HashMap<u64, Reply<T>>,
}

#[derive(Debug)]
struct Reply<T> {
    answers: Vec<T>,
    expected: usize,
    waker: Option<Waker>,
}

impl<T> Default for Replies<T> {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new() }
    }
}

impl<T> Replies<T> {
    /// A new question, and how many answer it.
    pub(super) fn open(&mut self, expected: usize) -> u64 {
        self.next += 1;
        self.open.insert(self.next, Reply { answers: Vec::new(), expected, waker: None });
        self.next
    }

    /// A shard has answered.
    pub(super) fn answer(&mut self, question: u64, answer: T) {
        // Late answers find no question and are dropped.
        let Some(reply) = self.open.get_mut(&question) else { return };
        reply.answers.push(answer);
        if reply.answers.len() >= reply.expected
            && let Some(waker) = reply.waker.take()
        {
            waker.wake();
        }
    }
}

/// The answers of all shards that answer in time.
pub(super) async fn gather<T>(
    shard: &Rc<RefCell<Shard>>,
    question: u64,
    of: impl Fn(&mut Shard) -> &mut Replies<T>,
) -> Vec<T> {
    let answered = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let Some(reply) = of(&mut this).open.get_mut(&question) else { return Poll::Ready(()) };
        if reply.answers.len() >= reply.expected {
            return Poll::Ready(());
        }
        reply.waker = Some(cx.waker().clone());
        Poll::Pending
    });
    let late = async {
        Alarm::after(ANSWER_MAX).await;
    };
    answered.or(late).await;
    of(&mut shard.borrow_mut()).open.remove(&question).map_or_else(Vec::new, |reply| reply.answers)
}
