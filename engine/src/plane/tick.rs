//! What happens by the clock: session deadlines, waits that end, slow viewers, idle tables.
//!
//! One tick scans arrays of absolute deadlines; there is no timer per connection.

use std::time::{Duration, Instant};

use protocols::session::{Command, Input, Refusal};

use crate::conn::{CloseReason, Role};
use crate::ring::Token;
use crate::shard::{PULL_WAIT, Shard};

/// How often deadlines are looked at: their resolution.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long a viewer of a live stream waits for a keyframe, whatever `rtmp/play_wait` says.
const KEYFRAME_WAIT: Duration = Duration::from_secs(30);
/// How long it waits for the owner of the stream to say whether there is one.
const OWNER_WAIT: Duration = Duration::from_millis(500);

/// What a deadline that has passed asks for.
enum Due {
    Wake,
    Drained,
    Close(CloseReason),
    Reject(Refusal),
}

impl Shard {
    /// When the loop must turn at the latest.
    pub(crate) fn next_tick(&self) -> Instant {
        self.plane.next_tick
    }

    /// Runs the tick if it is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now < self.plane.next_tick {
            return;
        }
        self.counters.note_tick(now.saturating_duration_since(self.plane.next_tick));
        self.plane.next_tick = now + TICK;
        self.tend_slow_viewers(now);
        self.weigh();
        let mut due = Vec::new();
        for (slot, conn) in &self.plane.conns {
            if let Some(action) = self.due(conn, now) {
                due.push((self.plane.token(slot), action));
            }
        }
        for (token, action) in due {
            self.act(token, action, now);
        }
        self.remind_owners(now);
        self.tend_auth(now);
        self.tend_pulls(now);
        self.tend_forwards(now);
        self.tend_streams(now);
        self.tend_mirrors(now);
        self.tend_shelves(now);
        self.announce_pieces();
        self.resume_accepting(now);
        self.plane.admission.sweep(now);
    }

    /// Takes the weight of all streams, for the shard's budget.
    fn weigh(&mut self) {
        let bytes = |mirror: &crate::stream::Mirror| {
            let (logs, wires) = mirror.bytes();
            logs + wires
        };
        self.held_bytes = self.mirrors.iter().map(|(_, mirror)| bytes(mirror)).sum();
    }

    fn due(&self, conn: &crate::conn::Conn, now: Instant) -> Option<Due> {
        if let Some(deadline) = conn.draining {
            return (now >= deadline).then_some(Due::Drained);
        }
        if conn.timeout.is_some_and(|timeout| now >= timeout) {
            return Some(if conn.session.is_some() {
                Due::Wake
            } else {
                Due::Close(CloseReason::Limit("handshake_timeout"))
            });
        }
        let rtmp = &self.config.rtmp;
        match &conn.role {
            Role::Publisher(publishing) => {
                let idle = now.saturating_duration_since(publishing.last_media_at);
                let limit = rtmp.publisher_idle;
                (!limit.is_zero() && idle > limit).then_some(Due::Close(CloseReason::PublisherIdle))
            }
            Role::Waiting { since, mirror, relay, .. } => {
                // With a publisher there it is only the next keyframe that is waited for; and
                // the owner of the stream must have had time to answer.
                let mirror = self.mirrors.get(*mirror);
                let online = mirror.is_some_and(|mirror| mirror.online);
                let pulled = mirror.is_some_and(|mirror| self.is_pulled(&mirror.key));
                let least = match (online, pulled) {
                    (true, _) => KEYFRAME_WAIT,
                    (false, true) => PULL_WAIT,
                    (false, false) => OWNER_WAIT,
                };
                let patience = if *relay { least } else { rtmp.play_wait.max(least) };
                let over = now.saturating_duration_since(*since) > patience;
                over.then_some(Due::Reject(Refusal::StreamNotFound))
            }
            Role::Idle | Role::Applying(_) | Role::Claiming { .. } => {
                // A peer that takes nothing of what it is told, outside any play.
                let stalled = conn.blocked_since.is_some_and(|since| {
                    now.saturating_duration_since(since) > self.config.limits.viewer_stall
                });
                stalled.then_some(Due::Close(CloseReason::SlowViewer))
            }
            Role::Viewer { .. } => None,
        }
    }

    fn act(&mut self, token: Token, action: Due, now: Instant) {
        self.guarded(token, now, |shard, slot| match action {
            Due::Drained => shard.finish(slot),
            Due::Close(reason) => shard.close(slot, reason, now),
            Due::Reject(refusal) => {
                shard.detach(slot, now);
                shard.plane.commands.push_back((token, Command::Reject(refusal)));
            }
            Due::Wake => {
                shard.drive(slot, now, |session| session.handle_input(now, Input::Timeout));
                if let Some(slot) = shard.plane.slot(token) {
                    let conn = &mut shard.plane.conns[slot];
                    if !conn.input.is_empty() && conn.draining.is_none() {
                        let input = std::mem::take(&mut conn.input);
                        shard.feed(slot, input, now);
                    }
                }
                if let Some(slot) = shard.plane.slot(token) {
                    let conn = &mut shard.plane.conns[slot];
                    if conn.timeout.is_some_and(|timeout| now >= timeout) {
                        // A session that does not move its deadline must not be woken for ever.
                        debug_assert!(conn.session.is_none(), "deadline stands still");
                        conn.timeout = Some(now + Duration::from_secs(1));
                    }
                }
            }
        });
    }
}
