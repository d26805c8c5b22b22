//! The order in which the viewers of a wire get their batches.
//!
//! Within a merge window the viewers are served in slots spread over it, so that each waits for
//! one window at most and no batch is longer than its slot. A join point is held back for nobody:
//! it starts a sweep over all viewers at once.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Slots are this far apart at least, and on a common grid: wires share wake-ups.
const SLOT: Duration = Duration::from_millis(10);
/// Fewer viewers than this are not worth a slot of their own.
const VIEWERS_PER_SLOT: usize = 100;

/// See the module text.
#[derive(Debug)]
pub struct Sweep {
    /// Bytes have been appended that no slot has seen.
    pub fresh: bool,
    /// A join point has been appended.
    pub urgent: bool,
    /// The wire is in the shard's list of wires to flush.
    pub queued: bool,
    /// When the next slot is due.
    due: Instant,
    /// Viewers of the slot being served.
    range: Range<usize>,
    /// The next slot.
    slot: usize,
    /// Slots until every viewer has been served everything.
    left: usize,
    epoch: Instant,
}

impl Sweep {
    /// Nothing to do.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            fresh: false,
            urgent: false,
            queued: false,
            due: now,
            range: 0..0,
            slot: 0,
            left: 0,
            epoch: now,
        }
    }

    /// When there is something to do: `None` means at once.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let at_once = self.urgent || !self.range.is_empty();
        (!at_once).then_some(self.due)
    }

    /// The viewers to serve now, `budget` of them at most; ends a slot when it has served all of
    /// it. `None` when every viewer has been served.
    pub fn next(
        &mut self,
        viewers: usize,
        window: Duration,
        budget: usize,
        now: Instant,
    ) -> Option<Range<usize>> {
        let most = usize::try_from(window.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX);
        let slots = (viewers / VIEWERS_PER_SLOT).clamp(1, most.max(1));
        if std::mem::take(&mut self.urgent) {
            self.range = 0..viewers;
            self.left = 0;
            self.fresh = false;
        } else if self.range.is_empty() {
            if std::mem::take(&mut self.fresh) {
                self.left = slots;
            }
            if self.left == 0 {
                return None;
            }
            self.slot = (self.slot + 1) % slots;
            self.left = self.left.min(slots) - 1;
            self.range = viewers * self.slot / slots..viewers * (self.slot + 1) / slots;
            self.due = self.grid(now, window / u32::try_from(slots).unwrap_or(u32::MAX));
        }
        let end = self.range.end.min(viewers);
        let start = self.range.start.min(end);
        let stop = end.min(start + budget);
        self.range = stop..end;
        Some(start..stop)
    }

    /// A viewer has changed places: it may have missed its slot.
    pub fn disturb(&mut self) {
        if self.queued {
            self.fresh = true;
        }
    }

    /// A step from now, on the grid if the step is worth one.
    fn grid(&self, now: Instant, step: Duration) -> Instant {
        if step < SLOT {
            return now + step;
        }
        let at = now.saturating_duration_since(self.epoch) + step;
        let slots = at.as_nanos() / SLOT.as_nanos();
        let aligned = u64::try_from(slots * SLOT.as_nanos()).unwrap_or(u64::MAX);
        self.epoch + Duration::from_nanos(aligned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(50);

    #[test]
    fn without_a_window_everybody_is_served_at_once() {
        let now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        assert_eq!(sweep.next(500, Duration::ZERO, 1000, now), None);
        sweep.fresh = true;
        assert_eq!(sweep.next(500, Duration::ZERO, 300, now), Some(0..300));
        assert_eq!(sweep.due(), None, "goes on at once");
        assert_eq!(sweep.next(500, Duration::ZERO, 300, now), Some(300..500));
        assert_eq!(sweep.next(500, Duration::ZERO, 300, now), None);
    }

    #[test]
    fn a_window_is_cut_into_slots_that_reach_every_viewer_once() {
        let mut now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.fresh = true;
        let mut served = vec![0; 1003];
        for _ in 0..5 {
            let range = sweep.next(1003, WINDOW, 10_000, now).unwrap();
            assert!(range.len() <= 201);
            range.for_each(|viewer| served[viewer] += 1);
            now = sweep.due().unwrap();
        }
        assert!(served.iter().all(|count| *count == 1));
        assert_eq!(sweep.next(1003, WINDOW, 10_000, now), None);
    }

    #[test]
    fn a_join_point_goes_to_all_at_once() {
        let now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.fresh = true;
        sweep.next(1000, WINDOW, 10_000, now);
        sweep.urgent = true;
        assert_eq!(sweep.due(), None);
        assert_eq!(sweep.next(1000, WINDOW, 10_000, now), Some(0..1000));
        assert_eq!(sweep.next(1000, WINDOW, 10_000, now), None);
    }

    #[test]
    fn few_viewers_keep_one_slot_and_the_whole_window() {
        let now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.fresh = true;
        assert_eq!(sweep.next(20, WINDOW, 100, now), Some(0..20));
        assert_eq!(sweep.due(), Some(now + WINDOW));
    }
}
