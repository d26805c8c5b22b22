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
    /// When the first of those bytes came.
    fresh_since: Option<Instant>,
    /// When the next slot is planned, and when it is due for that: on the grid.
    planned: Instant,
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
            fresh_since: None,
            planned: now,
            due: now,
            range: 0..0,
            slot: 0,
            left: 0,
            epoch: now,
        }
    }

    /// Bytes have been appended, which came `at` that time.
    pub fn add(&mut self, at: Option<Instant>) {
        if !std::mem::replace(&mut self.fresh, true) {
            self.fresh_since = at;
        }
    }

    /// When there is something to do: `None` means at once.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let at_once = self.urgent || !self.range.is_empty();
        (!at_once).then_some(self.due)
    }

    /// The viewers to serve now, of them as many at most as `budget` says for the first; ends a slot
    /// when it has served all of it. `None` when every viewer has been served.
    pub fn next(
        &mut self,
        viewers: usize,
        window: Duration,
        budget: impl FnOnce(usize) -> usize,
        now: Instant,
    ) -> Option<Range<usize>> {
        let most = usize::try_from(window.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX);
        let slots = (viewers / VIEWERS_PER_SLOT).clamp(1, most.max(1));
        let step = window / u32::try_from(slots).unwrap_or(u32::MAX);
        if std::mem::take(&mut self.urgent) {
            self.range = 0..viewers;
            self.left = 0;
            self.fresh = false;
            self.plan(now + step, step);
        } else if self.range.is_empty() {
            // A slot that is served late does not put off those behind it, or every viewer would
            // wait for a window and what each of its slots was late. It is not late while there
            // was nothing to serve, and by more than a window nothing is caught up with.
            let mut from = self.planned.max(now.checked_sub(window).unwrap_or(now));
            if std::mem::take(&mut self.fresh) {
                if self.left == 0 {
                    from = from.max(self.fresh_since.unwrap_or(now).min(now));
                }
                self.left = slots;
            }
            if self.left == 0 {
                return None;
            }
            self.slot = (self.slot + 1) % slots;
            self.left = self.left.min(slots) - 1;
            self.range = viewers * self.slot / slots..viewers * (self.slot + 1) / slots;
            self.plan(from + step, step);
        }
        let end = self.range.end.min(viewers);
        let start = self.range.start.min(end);
        let stop = end.min(start + budget(start).max(1));
        self.range = stop..end;
        Some(start..stop)
    }

    /// A viewer has changed places: it may have missed its slot.
    pub fn disturb(&mut self) {
        if self.queued {
            self.fresh = true;
        }
    }

    /// The next slot, on the grid if a step is worth one.
    fn plan(&mut self, at: Instant, step: Duration) {
        self.planned = at;
        self.due = at;
        if step >= SLOT {
            let slots = at.saturating_duration_since(self.epoch).as_nanos() / SLOT.as_nanos();
            let aligned = u64::try_from(slots * SLOT.as_nanos()).unwrap_or(u64::MAX);
            self.due = self.epoch + Duration::from_nanos(aligned);
        }
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
        assert_eq!(sweep.next(500, Duration::ZERO, |_| 1000, now), None);
        sweep.add(Some(now));
        assert_eq!(sweep.next(500, Duration::ZERO, |_| 300, now), Some(0..300));
        assert_eq!(sweep.due(), None, "goes on at once");
        assert_eq!(sweep.next(500, Duration::ZERO, |_| 300, now), Some(300..500));
        assert_eq!(sweep.next(500, Duration::ZERO, |_| 300, now), None);
    }

    #[test]
    fn a_window_is_cut_into_slots_that_reach_every_viewer_once() {
        let mut now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.add(Some(now));
        let mut served = vec![0; 1003];
        for _ in 0..5 {
            let range = sweep.next(1003, WINDOW, |_| 10_000, now).unwrap();
            assert!(range.len() <= 201);
            range.for_each(|viewer| served[viewer] += 1);
            now = sweep.due().unwrap();
        }
        assert!(served.iter().all(|count| *count == 1));
        assert_eq!(sweep.next(1003, WINDOW, |_| 10_000, now), None);
    }

    /// Serves all slots that are due at `now`; counts how often each viewer is.
    fn serve(sweep: &mut Sweep, served: &mut [u32], now: Instant) {
        while sweep.due().is_none_or(|due| due <= now)
            && let Some(range) = sweep.next(served.len(), WINDOW, |_| 10_000, now)
        {
            served[range].iter_mut().for_each(|count| *count += 1);
        }
    }

    /// The same, after bytes have come.
    fn feed(sweep: &mut Sweep, served: &mut [u32], now: Instant) {
        sweep.add(Some(now));
        serve(sweep, served, now);
    }

    #[test]
    fn slots_that_do_not_fit_the_grid_keep_the_window() {
        let start = crate::clock::now();
        let mut sweep = Sweep::new(start);
        let mut served = [0; 400];
        for ms in 0..5000 {
            feed(&mut sweep, &mut served, start + Duration::from_millis(ms));
        }
        assert!(served.iter().all(|count| (99..=101).contains(count)), "{served:?}");
    }

    #[test]
    fn late_slots_are_not_put_off_for_good_and_idle_ones_not_caught_up_with() {
        let start = crate::clock::now();
        let mut sweep = Sweep::new(start);
        let mut served = [0; 1000];
        // Each look comes after more other work than a slot has time for.
        for turn in 0..1000 {
            feed(&mut sweep, &mut served, start + Duration::from_millis(13 * turn));
        }
        assert!(served.iter().all(|count| (259..=261).contains(count)), "{:?}", served[0]);
        for ms in 13_000..13_100 {
            serve(&mut sweep, &mut served, start + Duration::from_millis(ms));
        }
        let later = start + Duration::from_secs(60);
        let before = served;
        feed(&mut sweep, &mut served, later);
        let again = served.iter().zip(before).filter(|(now, before)| **now > *before).count();
        assert_eq!(again, 200, "a slot, not all that were missed");
    }

    #[test]
    fn a_join_point_goes_to_all_at_once() {
        let now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.add(Some(now));
        sweep.next(1000, WINDOW, |_| 10_000, now);
        sweep.urgent = true;
        assert_eq!(sweep.due(), None);
        assert_eq!(sweep.next(1000, WINDOW, |_| 10_000, now), Some(0..1000));
        assert_eq!(sweep.due(), Some(now + WINDOW / 5), "everybody has everything");
        assert_eq!(sweep.next(1000, WINDOW, |_| 10_000, now), None);
    }

    #[test]
    fn few_viewers_keep_one_slot_and_the_whole_window() {
        let now = crate::clock::now();
        let mut sweep = Sweep::new(now);
        sweep.add(Some(now));
        assert_eq!(sweep.next(20, WINDOW, |_| 100, now), Some(0..20));
        assert_eq!(sweep.due(), Some(now + WINDOW));
    }
}
