//! The paced start: a joining viewer gets the newest GOP at a bounded multiple of real time.
//!
//! The first picture and a little more go at once; then the viewer gains on live by the rate, so
//! that a thousand that join together share the core instead of taking it.

use std::time::{Duration, Instant};

use protocols::media::Timestamp;

use crate::conn::Conn;
use crate::shard::Shard;
use crate::stream::Wire;

/// Media time sent at once.
const HEAD_START: Duration = Duration::from_millis(300);
/// How often viewers get their next share.
const SHARE_INTERVAL: Duration = Duration::from_millis(10);

/// Joining viewers served per turn, and bytes sent to them.
const VIEWERS_PER_TURN: usize = 128;
const BYTES_PER_TURN: u64 = 1 << 20;

/// How far a joining viewer may read.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    since: Instant,
    from: Timestamp,
    rate: u32,
}

impl Pace {
    /// From a decode time on, at a multiple of real time.
    #[must_use]
    pub fn new(now: Instant, from: Timestamp, rate: u32) -> Self {
        Self { since: now, from, rate: rate.max(2) }
    }

    /// The decode time the viewer may have reached by now.
    #[must_use]
    pub fn reach(&self, now: Instant) -> Timestamp {
        let elapsed = now.saturating_duration_since(self.since);
        self.from + HEAD_START + elapsed.saturating_mul(self.rate)
    }
}

impl Conn {
    /// How far the viewer may read now; ends the pacing when that is the head.
    pub fn reach(&mut self, wire: &Wire, now: Instant) -> u64 {
        let Some(pace) = &self.pace else { return wire.head() };
        let reach = wire.offset_after(pace.reach(now));
        if reach >= wire.head() {
            self.pace = None;
        }
        reach
    }
}

impl Shard {
    /// Gives every joining viewer its next share.
    pub(crate) fn pace(&mut self, now: Instant) {
        if self.plane.pacing.is_empty() || now < self.plane.next_pace {
            return;
        }
        let all = self.plane.pacing.len();
        let before = self.counters.bytes_out;
        let mut served = 0;
        while served < all.min(VIEWERS_PER_TURN)
            && self.counters.bytes_out - before < BYTES_PER_TURN
            && let Some(token) = self.plane.pacing.pop_front()
        {
            served += 1;
            self.guarded(token, now, |shard, slot| shard.pump(slot, now));
            let conn = self.plane.slot(token).map(|slot| &self.plane.conns[slot]);
            if conn.is_some_and(|conn| conn.pace.is_some()) {
                self.plane.pacing.push_back(token);
            }
        }
        // Many at once are served in parts, each as often as if they were served together.
        let share = u32::try_from(served).unwrap_or(1).max(1);
        let of = u32::try_from(all).unwrap_or(u32::MAX).max(1);
        self.plane.next_pace = now + SHARE_INTERVAL * share / of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_on_live_by_the_rate() {
        let now = crate::clock::now();
        let pace = Pace::new(now, Timestamp::from_millis(1000), 10);
        assert_eq!(pace.reach(now), Timestamp::from_millis(1300));
        assert_eq!(pace.reach(now + Duration::from_millis(100)), Timestamp::from_millis(2300));
    }
}
