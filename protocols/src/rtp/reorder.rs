//! Puts the packets of one source back into order, bounded in number and time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Packets that came too early, until those before them came or are given up.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    packets_max: usize,
    patience: Duration,
    /// The sequence number that is due.
    next: Option<i64>,
    early: BTreeMap<i64, (Instant, T)>,
    /// The arrival of the packet that waits longest.
    waits_since: Option<Instant>,
    /// Sequence numbers whose turn came without their packet.
    pub(super) given_up: u64,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<T> {
    /// It is the one that was due.
    Due(T),
    /// It came early and is kept.
    Kept,
    /// Its place was given up before it came.
    Late,
}

impl<T> Reorder<T> {
    pub(super) fn new(packets_max: usize, patience: Duration) -> Self {
        let early = BTreeMap::new();
        Self { packets_max, patience, next: None, early, waits_since: None, given_up: 0 }
    }

    /// Takes a packet that was not there before; [`Reorder::pop`] until `None` comes next.
    pub(super) fn push(&mut self, now: Instant, sequence: i64, packet: T) -> Place<T> {
        let next = *self.next.get_or_insert(sequence);
        if sequence < next {
            return Place::Late;
        }
        if sequence == next {
            self.next = Some(next + 1);
            return Place::Due(packet);
        }
        self.early.insert(sequence, (now, packet));
        self.waits_since.get_or_insert(now);
        Place::Kept
    }

    /// The next packet that waits no longer, and whether packets before it are given up.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(bool, T)> {
        let next = self.next?;
        let first = *self.early.first_key_value()?.0;
        let impatient =
            self.early.len() > self.packets_max || self.deadline().is_some_and(|at| at <= now);
        if first != next && !impatient {
            return None;
        }
        let (sequence, (_, packet)) = self.early.pop_first()?;
        self.next = Some(sequence + 1);
        self.given_up += (sequence - next).unsigned_abs();
        let follows = |(first, _): (&i64, &_)| *first == sequence + 1;
        if !self.early.first_key_value().is_some_and(follows) {
            self.waits_since = self.early.values().map(|(arrival, _)| *arrival).min();
        }
        Some((sequence != next, packet))
    }

    /// When [`Reorder::pop`] gives up on what is missing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waits_since.map(|since| since + self.patience)
    }

    /// Nothing came before the packet that is pushed next. What waits is given out first.
    pub(super) fn restart(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.next = None;
        self.waits_since = None;
        std::mem::take(&mut self.early).into_values().map(|(_, packet)| packet)
    }

    /// What waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.early.values().map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::virtual_epoch;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn drain(reorder: &mut Reorder<i64>, now: Instant) -> Vec<(bool, i64)> {
        std::iter::from_fn(|| reorder.pop(now)).collect()
    }

    #[test]
    fn early_packets_wait_for_those_before() {
        let (mut reorder, now) = (Reorder::new(3, PATIENCE), virtual_epoch());
        assert_eq!(reorder.push(now, 10, 10), Place::Due(10));
        assert_eq!(reorder.push(now, 12, 12), Place::Kept);
        assert_eq!(drain(&mut reorder, now), []);
        assert_eq!(reorder.push(now, 11, 11), Place::Due(11));
        assert_eq!(drain(&mut reorder, now), [(false, 12)]);
        assert_eq!((reorder.deadline(), reorder.push(now, 9, 9)), (None, Place::Late));
    }

    #[test]
    fn patience_and_room_end() {
        let (mut reorder, now) = (Reorder::new(3, PATIENCE), virtual_epoch());
        reorder.push(now, 0, 0);
        reorder.push(now, 2, 2);
        let later = now + PATIENCE / 2;
        reorder.push(later, 4, 4);
        assert_eq!(reorder.deadline(), Some(now + PATIENCE));
        assert_eq!(drain(&mut reorder, now + PATIENCE), [(true, 2)]);
        assert_eq!(reorder.deadline(), Some(later + PATIENCE));
        for sequence in [6, 7, 8] {
            reorder.push(later, sequence, sequence);
        }
        assert_eq!(drain(&mut reorder, later), [(true, 4)]);
        reorder.push(later, 9, 9);
        let given_up = [(true, 6), (false, 7), (false, 8), (false, 9)];
        assert_eq!(drain(&mut reorder, later), given_up);
        assert_eq!(reorder.given_up, 3);
        assert_eq!(reorder.restart().count(), 0);
    }
}
