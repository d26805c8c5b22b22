//! Publishers that nobody watches are read in larger bites.
//!
//! A read costs what it costs, with the acknowledgement it causes, whether it gives one message or
//! four, and most streams of an ingest node have no viewer at the moment. On a busy shard what they
//! send waits a little in their sockets. The owner of a stream says whether anybody waits for it
//! (see `tend_streams`); whoever joins gets the newest GOP first, and by the time that is over the
//! publisher is read at once. A connection waits in the queue once, so its length is bounded by
//! theirs.

use std::time::{Duration, Instant};

use crate::conn::{Protocol, Publishing, Role};
use crate::net::sys_epoll::Ready;
use crate::ring::Token;
use crate::shard::Shard;

/// How long bytes wait: less than a delayed acknowledgement (40 ms), which would be one more.
const PUT_OFF: Duration = Duration::from_millis(30);
/// How much later they may be read when the shard has nothing else to do.
const SLACK: Duration = Duration::from_millis(5);
/// A bite of so much makes the next read an early one: receive windows are not to fill up while
/// nobody looks.
const BITE_MAX: u64 = 32 * 1024;
/// Publishers read for it in one turn.
const PER_TURN: usize = 64;

/// What a publisher's reads follow.
#[derive(Debug, Default)]
pub struct Unhurried {
    /// Nobody waits for the stream; until the owner has said so, somebody may.
    pub unwatched: bool,
    /// It has sent something that is to be read when its turn comes.
    waits: bool,
    /// The last bite was large.
    full: bool,
}

impl Shard {
    /// The owner of a stream says whether anybody waits for what a connection of ours publishes.
    pub(crate) fn on_watched(&mut self, token: Token, stream: Token, watched: bool) {
        if let Some(publishing) = self.publishing(token)
            && publishing.stream == stream
        {
            publishing.unhurried.unwatched = !watched;
        }
    }

    fn publishing(&mut self, token: Token) -> Option<&mut Publishing> {
        let slot = self.plane.slot(token)?;
        match &mut self.plane.conns[slot].role {
            Role::Publisher(publishing) => Some(publishing),
            Role::Idle
            | Role::Applying(_)
            | Role::Claiming { .. }
            | Role::Waiting { .. }
            | Role::Viewer { .. } => None,
        }
    }

    /// Leaves what a publisher has sent in its socket for a while, if nobody waits for it: true if
    /// so. Others than RTMP are read at once: RTP takes the time of arrival into account.
    pub(super) fn put_off(&mut self, slot: usize, ready: &Ready, now: Instant) -> bool {
        let token = self.plane.token(slot);
        if ready.hung_up || !self.pulse.is_busy() {
            return false;
        }
        let conn = &mut self.plane.conns[slot];
        let (Protocol::Rtmp, Role::Publisher(publishing)) = (conn.protocol, &mut conn.role) else {
            return false;
        };
        let unhurried = &mut publishing.unhurried;
        if !unhurried.unwatched || std::mem::take(&mut unhurried.full) {
            return false;
        }
        if !std::mem::replace(&mut unhurried.waits, true) {
            self.plane.unhurried.push_back((now + PUT_OFF, token));
        }
        true
    }

    /// Reads publishers that have been put off long enough; true when more of them are due.
    pub(crate) fn read_put_off(&mut self, now: Instant) -> bool {
        for _ in 0..PER_TURN {
            let Some(&(due, token)) = self.plane.unhurried.front() else { return false };
            if due > now {
                return false;
            }
            self.plane.unhurried.pop_front();
            self.guarded(token, now, |shard, slot| {
                let before = shard.plane.conns[slot].bytes_in;
                shard.read_ready(slot, false, now);
                let Some(slot) = shard.plane.slot(token) else { return };
                let bite = shard.plane.conns[slot].bytes_in - before;
                if let Some(publishing) = shard.publishing(token) {
                    publishing.unhurried.waits = false;
                    publishing.unhurried.full = bite >= BITE_MAX;
                }
            });
        }
        true
    }

    /// When the shard must turn for them at the latest. A busy one turns sooner than that, and its
    /// rests are not to be cut short for it.
    pub(crate) fn next_put_off(&self) -> Option<Instant> {
        self.plane.unhurried.front().map(|(due, _)| *due + SLACK)
    }
}
