//! Questions to shards: gathered with a deadline, answered in part when one is late.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::FutureExt as _;

use crate::alarm::Alarm;
use crate::observe::{ShardReport, Topic};
use crate::ring::{ControlMessage, ShardId};
use crate::shard::Shard;

/// How long an answer may take before it is left out.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Questions that may be open at a time.
const ASKS_MAX: usize = 256;

#[derive(Debug)]
struct Ask<T> {
    answers: Vec<T>,
    expected: usize,
    waker: Option<Waker>,
}

/// Open questions of one shard that are answered with `T`.
#[derive(Debug)]
pub struct Asks<T> {
    next: u64,
    open: HashMap<u64, Ask<T>>,
}

impl<T> Default for Asks<T> {
    fn default() -> Self {
        Self { next: 0, open: HashMap::new() }
    }
}

impl<T> Asks<T> {
    /// A new question with the answers that are there; `None` when too many are open.
    pub(super) fn open(&mut self, answers: Vec<T>, expected: usize) -> Option<u64> {
        if self.open.len() >= ASKS_MAX {
            return None;
        }
        self.next += 1;
        self.open.insert(self.next, Ask { answers, expected, waker: None });
        Some(self.next)
    }

    /// A shard has answered.
    pub(super) fn answer(&mut self, question: u64, answer: T) {
        // Late answers find no question and are dropped.
        let Some(ask) = self.open.get_mut(&question) else { return };
        ask.answers.push(answer);
        if ask.answers.len() >= ask.expected
            && let Some(waker) = ask.waker.take()
        {
            waker.wake();
        }
    }
}

/// The answers to a question that come in time.
pub(super) async fn gather<T>(
    shard: &Rc<RefCell<Shard>>,
    question: u64,
    asks: impl Fn(&mut Shard) -> &mut Asks<T>,
) -> Vec<T> {
    let answered = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let Some(ask) = asks(&mut this).open.get_mut(&question) else { return Poll::Ready(()) };
        if ask.answers.len() >= ask.expected {
            return Poll::Ready(());
        }
        ask.waker = Some(cx.waker().clone());
        Poll::Pending
    });
    let late = async {
        Alarm::after(ANSWER_MAX).await;
    };
    answered.or(late).await;
    let ask = asks(&mut shard.borrow_mut()).open.remove(&question);
    ask.map(|ask| ask.answers).unwrap_or_default()
}

/// Reports of all shards that answer in time, in order.
pub async fn ask_all(shard: &Rc<RefCell<Shard>>, topic: Topic) -> Vec<ShardReport> {
    let question = {
        let mut this = shard.borrow_mut();
        let own = this.report(topic);
        let shards = this.mesh.shards();
        if this.asks.open.len() >= ASKS_MAX {
            return vec![own];
        }
        let Some(question) = this.asks.open(vec![own], shards) else { return Vec::new() };
        let from = this.id;
        for to in (0..shards).filter(|to| *to != from.index()) {
            let to = ShardId(u16::try_from(to).expect("shards are counted in u16"));
            this.mesh.send(to, ControlMessage::Ask { from, question, topic });
        }
        this.mesh.kick();
        question
    };
    let mut reports = gather(shard, question, |shard| &mut shard.asks).await;
    reports.sort_by_key(|report| report.shard);
    reports
}
