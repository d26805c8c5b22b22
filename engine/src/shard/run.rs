//! The loop of a shard: wait for sockets, other shards or the clock; turn; flush; wait again.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::rest::{Next, Rests};
use crate::clock;
use crate::plane::is_of_task;
use crate::shard::Shard;

/// Sockets are served for so long before the rest of a turn gets its share; the poller gives a few
/// dozen at a time.
const SERVE_MAX: Duration = Duration::from_millis(1);
/// Longest rest of a shard that has streams: see [`super::nudge`].
const ACTIVE_REST_MAX: Duration = Duration::from_millis(20);

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
    let mut rests = Rests::new(&shard)?;
    loop {
        let next = shard.borrow_mut().turn();
        if matches!(next, Next::Stop) {
            super::recording::finish(&shard).await;
            shard.borrow_mut().let_go();
            return Ok(());
        }
        let leaving = std::mem::take(&mut shard.borrow_mut().leaving);
        let spawned = !leaving.is_empty();
        leaving.into_iter().for_each(|task| rests.spawn(task));
        let tasks = shard.borrow().plane.waiters.take_woken() || spawned;
        rests.rest(&shard, next, tasks).await?;
    }
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
        more |= self.read_put_off(clock());
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
            self.pulse.stir(now);
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
            when = when.min(end + ACTIVE_REST_MAX);
        }
        if !self.plane.pacing.is_empty() {
            when = when.min(self.plane.next_pace);
        }
        let others = [self.next_flush(end), self.next_put_off()];
        when = others.into_iter().flatten().fold(when, Instant::min);
        Next::At(when)
    }
}
