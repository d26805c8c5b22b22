//! The loop of a shard: wait for sockets, other shards or the clock; turn; flush; wait again.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;

use crate::clock;
use crate::plane::is_of_task;
use crate::shard::Shard;

/// Sockets are served for so long before the rest of a turn gets its share; the poller gives a few
/// dozen at a time.
const SERVE_MAX: Duration = Duration::from_millis(1);

/// Longest yield, see [`yield_to_tasks`].
const YIELD_MAX: Duration = Duration::from_millis(1);
/// Longest sleep of a shard that has streams, for the same reason.
const ACTIVE_SLEEP_MAX: Duration = Duration::from_millis(20);

/// Naps of a busy shard end after so long together, for the executor's other tasks.
const NAPS_MAX: Duration = Duration::from_millis(8);
/// A nap counts for so much at least.
const NAP_MIN: Duration = Duration::from_micros(50);

/// What a turn says about the next.
enum Next {
    /// At once, after others had their turn.
    Now,
    /// When something happens, or then.
    At(Instant),
    /// Never: the shard has stopped.
    Stop,
}

/// Runs a shard to its end.
///
/// # Errors
/// The executor cannot watch the shard's poller.
pub async fn run(shard: Rc<RefCell<Shard>>) -> io::Result<()> {
    {
        let mut this = shard.borrow_mut();
        this.this = Rc::downgrade(&shard);
        this.start_recordings();
        this.start_http();
        this.start_accepting()?;
    }
    let nudge = {
        let this = shard.borrow();
        Arc::clone(&this.shared.nudges[this.id.index()])
    };
    nudge.start();
    let poller = shard.borrow().plane.epoll.try_clone_fd()?;
    let poller = PollableFd::new(poller).map_err(io::Error::other)?;
    let mut armed = PollState::new();
    let mut naps = Duration::ZERO;
    loop {
        let next = shard.borrow_mut().turn();
        let leaving = std::mem::take(&mut shard.borrow_mut().leaving);
        let spawned = !leaving.is_empty();
        for task in leaving {
            glommio::spawn_local(task).detach();
        }
        let nap = shard.borrow().pulse.nap();
        let tasks = shard.borrow().plane.waiters.take_woken() || spawned;
        match (next, nap) {
            (Next::At(when), Some(nap)) if naps < NAPS_MAX && !tasks => {
                let nap = nap.min(when.saturating_duration_since(clock::now()));
                naps += nap.max(NAP_MIN);
                std::thread::sleep(nap);
            }
            (Next::At(when), nap) if naps.is_zero() && (nap.is_none() || !tasks) => {
                nudge.asleep_until(when);
                sleep(&shard, &poller, &mut armed, when).await?;
                nudge.awake();
            }
            (Next::Now | Next::At(_), _) => {
                naps = Duration::ZERO;
                nudge.asleep_until(clock::now() + YIELD_MAX);
                yield_to_tasks().await;
                nudge.awake();
            }
            (Next::Stop, _) => {
                super::recording::finish(&shard).await;
                shard.borrow_mut().let_go();
                return Ok(());
            }
        }
    }
}

/// Lets other tasks of the executor run once. With a timer beside it: a task that only yields
/// would leave nothing that could end a sleep of the kind [`super::nudge`] tells of.
async fn yield_to_tasks() {
    let mut timer = pin!(Timer::new(YIELD_MAX));
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sleeps until the poller reports, another shard kicks, or the time has come. The poll stays
/// armed across calls: it costs a system call to arm and another to disarm.
async fn sleep(
    shard: &Rc<RefCell<Shard>>,
    poller: &PollableFd<std::os::fd::OwnedFd>,
    armed: &mut PollState,
    when: Instant,
) -> io::Result<()> {
    let wait = when.saturating_duration_since(clock::now());
    let mut timer = pin!(Timer::new(wait.max(Duration::from_micros(50))));
    poll_fn(|cx| {
        let this = shard.borrow();
        let park = this.mesh.park();
        park.prepare(cx);
        let outcome = if this.mesh.has_work() {
            Poll::Ready(Ok(()))
        } else if let Poll::Ready(ready) = poller.poll_readable(cx, armed) {
            *armed = PollState::new();
            Poll::Ready(ready.map_err(io::Error::other))
        } else {
            timer.as_mut().poll(cx).map(|_| Ok(()))
        };
        if outcome.is_ready() {
            park.cancel();
        }
        outcome
    })
    .await
}

impl Shard {
    /// One turn at a time of the test's choosing.
    #[cfg(test)]
    pub(super) fn turn_for_test(&mut self, now: Instant) {
        self.turn_at(|| now);
    }

    fn turn(&mut self) -> Next {
        self.turn_at(clock::now)
    }

    fn turn_at(&mut self, clock: impl Fn() -> Instant) -> Next {
        let start = clock();
        self.beat();
        let mut more = self.drain_inbox(start);
        let mut ready = std::mem::take(&mut self.plane.ready);
        more |= loop {
            let full = self.plane.epoll.poll(&mut ready);
            let tasks = ready.iter().filter(|report| is_of_task(report)).count();
            self.pulse.beat(ready.len() - tasks, start);
            // One clock read per batch: frames of a batch share their ingest time.
            let now = clock();
            for report in ready.drain(..) {
                self.on_ready(report, now);
            }
            if !full || now.saturating_duration_since(start) >= SERVE_MAX {
                break full;
            }
        };
        self.plane.ready = ready;
        self.run_again(&clock);
        let now = clock();
        self.settle(now);
        if !self.plane.dirty.is_empty() {
            more |= self.flush(now);
        }
        self.pace(now);
        self.tick(clock());
        self.settle(now);
        self.mesh.kick();
        self.finish_turn(start, clock(), more)
    }

    /// Commands lead to attachments and attachments to commands: until neither is left.
    fn settle(&mut self, now: Instant) {
        while !self.plane.commands.is_empty() || !self.plane.accepted.is_empty() {
            self.run_commands(now);
            self.finish_attachments(now);
        }
        self.move_halves();
    }

    fn finish_turn(&mut self, start: Instant, end: Instant, more: bool) -> Next {
        self.beat();
        let length = end.saturating_duration_since(start);
        self.counters.note_turn(length);
        self.plane.window.note_turn(length, end);
        if let Some(deadline) = self.stopping
            && (self.plane.conns.is_empty() || end >= deadline)
        {
            return Next::Stop;
        }
        if more || !self.plane.again.is_empty() {
            return Next::Now;
        }
        let mut when = self.next_tick();
        if !self.mirrors.is_empty() {
            when = when.min(end + ACTIVE_SLEEP_MAX);
        }
        if !self.plane.pacing.is_empty() {
            when = when.min(self.plane.next_pace);
        }
        if let Some(flush) = self.next_flush(end) {
            when = when.min(flush);
        }
        Next::At(when)
    }
}
