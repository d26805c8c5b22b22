//! How a shard rests between two turns.
//!
//! The executor's sleep sees everything: sockets, timers and files of tasks, other shards; entering
//! and leaving it takes nine system calls. A doze waits for the shard's poller alone, in one call.
//! A nap looks at nothing. Which it is, [`Pulse`](super::Pulse) says by the rate of reports; and a
//! shard whose tasks have just been served dozes a moment, for who has got an answer asks again.
//! With more to do at once it goes on, a few turns in a row, unless a task may want the executor.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;

use super::nudge::Nudge;
use super::pulse::Rest;
use crate::clock;
use crate::net::sys_bell::Bell;
use crate::shard::{LocalBoxFuture, Shard};

/// Longest yield, see [`Rests::yield_to_tasks`].
const YIELD_MAX: Duration = Duration::from_millis(1);
/// Shortest sleep: less is not worth a timer.
const SLEEP_MIN: Duration = Duration::from_micros(50);

/// Naps of a busy shard end after so long together, for the executor's other tasks.
const NAPS_MAX: Duration = Duration::from_millis(8);
/// As do turns that follow one another at once, so many.
const TURNS_MAX: u32 = 4;
/// A nap counts for so much at least.
const NAP_MIN: Duration = Duration::from_micros(50);

/// Longest doze, for what the executor alone sees; where tasks may wait for that, and after one of
/// them has been served. The first is longer than the kernel's tick and needs no timer of its own,
/// which costs nearly as much as being woken.
const DOZE_MAX: Duration = Duration::from_millis(10);
const DOZE_MAX_TASKS: Duration = Duration::from_millis(1);
const DOZE_MAX_SERVED: Duration = Duration::from_micros(200);

/// What a turn says about the next.
pub(super) enum Next {
    /// At once, after others had their turn.
    Now,
    /// When something happens, or then.
    At(Instant),
    /// Never: the shard has stopped.
    Stop,
}

/// What one rest leaves for the next.
pub(super) struct Rests {
    nudge: Arc<Nudge>,
    /// The poller as the executor waits for it.
    poller: PollableFd<OwnedFd>,
    armed: PollState,
    /// What others end a doze with.
    bell: Waker,
    /// Time napped since tasks have run.
    naps: Duration,
    /// Turns without a rest since then.
    turns: u32,
    /// Held by each task that is alive.
    alive: Rc<()>,
}

impl Rests {
    /// # Errors
    /// The executor cannot watch the poller, or no descriptor is left.
    pub(super) fn new(shard: &RefCell<Shard>) -> io::Result<Self> {
        let this = shard.borrow();
        let nudge = Arc::clone(&this.shared.nudges[this.id.index()]);
        nudge.start();
        let bell = Arc::new(Bell::new()?);
        this.plane.watch_bell(&bell)?;
        Ok(Self {
            nudge,
            poller: PollableFd::new(this.plane.epoll.try_clone_fd()?).map_err(io::Error::other)?,
            armed: PollState::new(),
            bell: Waker::from(bell),
            naps: Duration::ZERO,
            turns: 0,
            alive: Rc::default(),
        })
    }

    /// Starts a task that sockets, files, timers or threads may keep waiting.
    pub(super) fn spawn(&self, task: LocalBoxFuture) {
        let alive = Rc::clone(&self.alive);
        glommio::spawn_local(async move {
            task.await;
            drop(alive);
        })
        .detach();
    }

    /// Rests until the next turn; `tasks` have been woken in the last one.
    ///
    /// # Errors
    /// The executor cannot wait for the poller.
    pub(super) async fn rest(
        &mut self,
        shard: &Rc<RefCell<Shard>>,
        next: Next,
        tasks: bool,
    ) -> io::Result<()> {
        let Next::At(when) = next else {
            self.turns += 1;
            if tasks || self.turns >= TURNS_MAX || self.may_wait_elsewhere(&shard.borrow()) {
                (self.naps, self.turns) = (Duration::ZERO, 0);
                self.yield_to_tasks().await;
            }
            return Ok(());
        };
        let rest = {
            let this = shard.borrow();
            this.pulse.rest(self.may_wait_elsewhere(&this), this.look(), clock::now())
        };
        match rest {
            Rest::Nap(nap) if self.naps < NAPS_MAX && !tasks => {
                let nap = nap.min(when.saturating_duration_since(clock::now()));
                self.naps += nap.max(NAP_MIN);
                std::thread::sleep(nap);
                return Ok(());
            }
            Rest::Nap(_) => self.yield_to_tasks().await,
            Rest::Sleep if !tasks => {
                self.nudge.asleep_until(when);
                self.sleep(shard, when).await?;
                self.nudge.awake();
            }
            Rest::Sleep => self.doze(shard, when, DOZE_MAX_SERVED).await,
            Rest::Doze => self.doze(shard, when, DOZE_MAX_TASKS).await,
        }
        (self.naps, self.turns) = (Duration::ZERO, 0);
        Ok(())
    }

    /// Whether a task may wait for what the executor alone sees. Peers are seen by the poller.
    fn may_wait_elsewhere(&self, shard: &Shard) -> bool {
        Rc::strong_count(&self.alive) - 1 > shard.plane.waiters.patient()
    }

    /// Lets other tasks of the executor run once. With a timer beside it: a task that only yields
    /// would leave nothing that could end a sleep of the kind [`super::nudge`] tells of.
    async fn yield_to_tasks(&self) {
        self.nudge.asleep_until(clock::now() + YIELD_MAX);
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
        self.nudge.awake();
    }

    /// Lets other tasks run, then waits until the poller reports, another shard or one of those
    /// tasks kicks, the time has come, or for as long as a doze may be: `elsewhere` when a task may
    /// wait for the executor.
    async fn doze(&self, shard: &Rc<RefCell<Shard>>, when: Instant, elsewhere: Duration) {
        shard.borrow().mesh.park().prepare(&Context::from_waker(&self.bell));
        self.yield_to_tasks().await;
        let mut this = shard.borrow_mut();
        if !this.mesh.has_work() {
            let most = if self.may_wait_elsewhere(&this) { elsewhere } else { DOZE_MAX };
            this.plane.epoll.wait(most.min(when.saturating_duration_since(clock::now())));
        }
        this.mesh.park().cancel();
    }

    /// Sleeps until the poller reports, another shard kicks, or the time has come. The poll stays
    /// armed across calls: it costs a system call to arm and another to disarm.
    async fn sleep(&mut self, shard: &Rc<RefCell<Shard>>, when: Instant) -> io::Result<()> {
        let wait = when.saturating_duration_since(clock::now());
        let mut timer = pin!(Timer::new(wait.max(SLEEP_MIN)));
        poll_fn(|cx| {
            let this = shard.borrow();
            let park = this.mesh.park();
            park.prepare(cx);
            let outcome = if this.mesh.has_work() {
                Poll::Ready(Ok(()))
            } else if let Poll::Ready(ready) = self.poller.poll_readable(cx, &mut self.armed) {
                self.armed = PollState::new();
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
}
