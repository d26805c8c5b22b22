//! The bounded queue between the recorder of a stream, which must not wait, and its writer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::GapReason;
use super::index::{Header, Pair};
use super::tally::Tally;

/// Bytes that may wait for the disk on one shard, whatever each stream may.
const SHARD_BYTES_MAX: u64 = 256 << 20;

/// What a writer does next.
#[derive(Debug)]
pub(super) enum Job {
    /// Begin a piece.
    Open {
        /// What its index begins with.
        header: Header,
        /// What its media file begins with.
        init: Bytes,
    },
    /// Append a pair; its offset is the writer's to know.
    Pair {
        /// What the index says of it.
        pair: Pair,
        /// Both fragments.
        bytes: Vec<u8>,
    },
    /// Mark a gap.
    Gap {
        /// Why.
        reason: GapReason,
        /// Wall clock, Unix milliseconds.
        unix_ms: u64,
    },
    /// The piece is over.
    Close,
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Pair { bytes, .. } => bytes.len(),
            Self::Open { .. } | Self::Gap { .. } | Self::Close => 0,
        }
    }
}

/// The writer could not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// Why.
    pub(super) reason: GapReason,
    /// Something of the piece was written before.
    pub(super) after_media: bool,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Job>,
    bytes: usize,
    waker: Option<Waker>,
    closed: bool,
    failure: Option<Failure>,
}

/// See the module text. Both ends live on one shard.
#[derive(Debug)]
pub(super) struct Queue {
    inner: RefCell<Inner>,
    bytes_max: usize,
    tally: Rc<Tally>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize, tally: Rc<Tally>) -> Self {
        Self { inner: RefCell::default(), bytes_max, tally }
    }

    /// Whether `bytes` more may wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let here = self.inner.borrow().bytes.saturating_add(bytes) <= self.bytes_max;
        here && self.tally.counts().queue_bytes.saturating_add(bytes as u64) <= SHARD_BYTES_MAX
    }

    /// The queue has drained far enough for somebody who found it full to go on.
    pub(super) fn has_recovered(&self) -> bool {
        self.has_room(self.bytes_max / 2)
    }

    /// Appends a job. Those with bytes only after [`Queue::has_room`]; the others are few: a gap
    /// or a new piece comes after media, or at the pace of retries.
    pub(super) fn push(&self, job: Job) {
        let bytes = job.bytes();
        self.tally.enqueued(bytes);
        let waker = {
            let mut inner = self.inner.borrow_mut();
            inner.bytes += bytes;
            inner.jobs.push_back(job);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No job will follow.
    pub(super) fn close(&self) {
        let waker = {
            let mut inner = self.inner.borrow_mut();
            inner.closed = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next job; `None` when the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<Job> {
        poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            match inner.jobs.pop_front() {
                Some(job) => Poll::Ready(Some(job)),
                None if inner.closed => Poll::Ready(None),
                None => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// A job is done, or given up: its bytes do not wait any more.
    pub(super) fn done(&self, bytes: usize) {
        self.inner.borrow_mut().bytes -= bytes;
        self.tally.dequeued(bytes);
    }

    /// The piece in the making is lost: what waits for it is dropped, and the recorder told.
    pub(super) fn fail(&self, failure: Failure) {
        let dropped = {
            let mut inner = self.inner.borrow_mut();
            let next_piece = inner.jobs.iter().position(|job| matches!(job, Job::Open { .. }));
            let dropped = match next_piece {
                // The recorder has gone on by itself: nothing to tell.
                Some(at) => inner.jobs.drain(..at).map(|job| job.bytes()).sum(),
                None => {
                    inner.failure = Some(failure);
                    inner.jobs.drain(..).map(|job| job.bytes()).sum()
                }
            };
            inner.bytes -= dropped;
            dropped
        };
        self.tally.dequeued(dropped);
    }

    /// What went wrong since the last call.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.inner.borrow_mut().failure.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    fn pair(bytes: usize) -> Job {
        Job::Pair { pair: Pair::default(), bytes: vec![0; bytes] }
    }

    fn open() -> Job {
        Job::Open { header: Header::default(), init: Bytes::new() }
    }

    #[test]
    fn bytes_are_counted_in_and_out() {
        let tally = Rc::new(Tally::default());
        let queue = Queue::new(100, Rc::clone(&tally));
        assert!(queue.has_room(100) && !queue.has_room(101));
        queue.push(open());
        queue.push(pair(60));
        assert!(queue.has_room(40) && !queue.has_room(41) && !queue.has_recovered());
        assert_eq!(tally.counts().queue_bytes, 60);
        block_on(async {
            assert!(matches!(queue.next().await, Some(Job::Open { .. })));
            let Some(Job::Pair { bytes, .. }) = queue.next().await else { panic!("a pair") };
            assert!(!queue.has_room(41), "what is being written still waits");
            queue.done(bytes.len());
            assert!(queue.has_recovered());
            assert!(poll_once(queue.next()).await.is_none());
            queue.close();
            assert!(queue.next().await.is_none());
        });
        assert_eq!(tally.counts().queue_bytes, 0);
    }

    #[test]
    fn a_failure_takes_its_piece_with_it_and_no_other() {
        let tally = Rc::new(Tally::default());
        let queue = Queue::new(1000, Rc::clone(&tally));
        let failure = Failure { reason: GapReason::NoSpace, after_media: true };
        queue.push(pair(60));
        queue.push(Job::Close);
        queue.push(open());
        queue.push(pair(10));
        queue.fail(failure);
        assert_eq!((tally.counts().queue_bytes, queue.take_failure()), (10, None));
        let first = block_on(queue.next());
        assert!(matches!(first, Some(Job::Open { .. })));
        queue.fail(failure);
        assert_eq!((tally.counts().queue_bytes, queue.take_failure()), (0, Some(failure)));
        assert_eq!(queue.take_failure(), None);
    }
}
