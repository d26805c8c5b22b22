//! Questions to all shards: gathered with a deadline, answered in part when one is late.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::FutureExt as _;

use crate::alarm::Alarm;
use crate::observe::ShardReport;
use crate::ring::{ControlMessage, ShardId};
use crate::shard::Shard;

/// How long an answer may take before it is left out.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Questions that may be open at a time.
const ASKS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Ask {
    reports: Vec<ShardReport>,
    expected: usize,
    waker: Option<Waker>,
}

/// Open questions of one shard.
#[derive(Debug, Default)]
pub struct Asks {
    next: u64,
    open: HashMap<u64, Ask>,
}

impl Asks {
    /// A shard has answered.
    pub(super) fn answer(&mut self, question: u64, report: ShardReport) {
        // Late answers find no question and are dropped.
        let Some(ask) = self.open.get_mut(&question) else { return };
        ask.reports.push(report);
        if ask.reports.len() >= ask.expected
            && let Some(waker) = ask.waker.take()
        {
            waker.wake();
        }
    }
}

/// Reports of all shards that answer in time, in order.
pub async fn ask_all(shard: &Rc<RefCell<Shard>>, streams_only: bool) -> Vec<ShardReport> {
    let question = {
        let mut this = shard.borrow_mut();
        let own = this.report(streams_only);
        if this.asks.open.len() >= ASKS_MAX {
            return vec![own];
        }
        this.asks.next += 1;
        let question = this.asks.next;
        let shards = this.mesh.shards();
        let ask = Ask { reports: vec![own], expected: shards, waker: None };
        this.asks.open.insert(question, ask);
        let from = this.id;
        for to in (0..shards).filter(|to| *to != from.index()) {
            let to = ShardId(u16::try_from(to).expect("shards are counted in u16"));
            this.mesh.send(to, ControlMessage::Ask { from, question, streams_only });
        }
        this.mesh.kick();
        question
    };
    let answered = poll_fn(|cx| {
        let mut this = shard.borrow_mut();
        let Some(ask) = this.asks.open.get_mut(&question) else { return Poll::Ready(()) };
        if ask.reports.len() >= ask.expected {
            return Poll::Ready(());
        }
        ask.waker = Some(cx.waker().clone());
        Poll::Pending
    });
    let late = async {
        Alarm::after(ANSWER_MAX).await;
    };
    answered.or(late).await;
    let ask = shard.borrow_mut().asks.open.remove(&question).unwrap_or_default();
    let mut reports = ask.reports;
    reports.sort_by_key(|report| report.shard);
    reports
}
