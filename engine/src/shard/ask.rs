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

/// Open questions of one shard that are answered with `T`.
#[derive(Debug)]
pub struct Asks<T>(Rc<RefCell<Table<T>>>);

#[derive(Debug)]
struct Table<T> {
    next: u64,
    open: HashMap<u64, Ask<T>>,
}

#[derive(Debug)]
struct Ask<T> {
    answers: Vec<T>,
    expected: usize,
    waker: Option<Waker>,
}

/// A question that is open for as long as somebody may read its answers.
pub(super) struct Question<T> {
    /// What shards say in their answers.
    pub(super) number: u64,
    table: Rc<RefCell<Table<T>>>,
}

impl<T> Default for Asks<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Table { next: 0, open: HashMap::new() })))
    }
}

impl<T> Asks<T> {
    /// A new question with the answers that are there.
    ///
    /// # Errors
    /// Too many are open: the answers again.
    pub(super) fn open(&self, answers: Vec<T>, expected: usize) -> Result<Question<T>, Vec<T>> {
        let mut table = self.0.borrow_mut();
        if table.open.len() >= ASKS_MAX {
            return Err(answers);
        }
        table.next += 1;
        let number = table.next;
        table.open.insert(number, Ask { answers, expected, waker: None });
        Ok(Question { number, table: Rc::clone(&self.0) })
    }

    /// A shard has answered.
    pub(super) fn answer(&self, question: u64, answer: T) {
        let waker = {
            let mut table = self.0.borrow_mut();
            // Late answers find no question and are dropped.
            let Some(ask) = table.open.get_mut(&question) else { return };
            ask.answers.push(answer);
            if ask.answers.len() < ask.expected { None } else { ask.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Question<T> {
    /// The answers that come in time.
    pub(super) async fn answers(self) -> Vec<T> {
        let answered = poll_fn(|cx| {
            let mut table = self.table.borrow_mut();
            let Some(ask) = table.open.get_mut(&self.number) else { return Poll::Ready(()) };
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
        self.close().map(|ask| ask.answers).unwrap_or_default()
    }

    fn close(&self) -> Option<Ask<T>> {
        self.table.borrow_mut().open.remove(&self.number)
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        // Whoever asked may be gone before the answers are there.
        let _ = self.close();
    }
}

/// Reports of all shards that answer in time, in order.
pub async fn ask_all(shard: &Rc<RefCell<Shard>>, topic: Topic) -> Vec<ShardReport> {
    let question = {
        let mut this = shard.borrow_mut();
        let own = this.report(topic);
        let shards = this.mesh.shards();
        let question = match this.asks.open(vec![own], shards) {
            Ok(question) => question,
            Err(own) => return own,
        };
        let (from, number) = (this.id, question.number);
        for to in (0..shards).filter(|to| *to != from.index()) {
            let to = ShardId(u16::try_from(to).expect("shards are counted in u16"));
            this.mesh.send(to, ControlMessage::Ask { from, question: number, topic });
        }
        this.mesh.kick();
        question
    };
    let mut reports = question.answers().await;
    reports.sort_by_key(|report| report.shard);
    reports
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn questions_whose_asker_has_gone_are_forgotten() {
        let asks = Asks::default();
        let mut cx = Context::from_waker(Waker::noop());
        for number in 1..=2 * ASKS_MAX as u64 {
            let question = asks.open(vec![0], 2).expect("there is room");
            assert_eq!(question.number, number);
            if number % 2 == 0 {
                drop(question);
                continue;
            }
            // As when the connection of a request goes.
            drop(question.answers());
        }
        let open: Vec<_> = (0..ASKS_MAX).map(|_| asks.open(Vec::new(), 1)).collect();
        assert!(open.iter().all(Result::is_ok));
        assert_eq!(asks.open(vec![7], 1).err(), Some(vec![7]), "no more than that");
        drop(open);
        let question = asks.open(vec![1], 3).expect("there is room again");
        let number = question.number;
        asks.answer(number, 2);
        asks.answer(number, 3);
        let mut answers = pin!(question.answers());
        assert_eq!(answers.as_mut().poll(&mut cx), Poll::Ready(vec![1, 2, 3]));
        asks.answer(number, 4);
    }
}
