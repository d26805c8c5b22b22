//! What the authorisation of a shard has decided.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::auth::{By, Cause, Reason, Role};

/// Counts of one shard.
#[derive(Debug, Clone)]
pub struct AccessCounts {
    allowed: [[u64; By::ALL.len()]; Role::ALL.len()],
    denied: [[u64; Reason::ALL.len()]; Role::ALL.len()],
    unanswered: [u64; Cause::ALL.len()],
    /// Microseconds from a question to the end of its exchange.
    pub exchanges: Histogram<u64>,
    /// Running sessions that were judged again.
    pub rechecks: u64,
    /// Who waits for an answer of the server at the moment.
    pub waiting: usize,
    /// Shards that leave the server alone at the moment.
    pub paused: usize,
}

impl Default for AccessCounts {
    fn default() -> Self {
        let exchanges = Histogram::new_with_bounds(1, 60_000_000, 2);
        Self {
            allowed: Default::default(),
            denied: Default::default(),
            unanswered: Default::default(),
            exchanges: exchanges.expect("these bounds are valid constants"),
            rechecks: 0,
            waiting: 0,
            paused: 0,
        }
    }
}

impl AccessCounts {
    /// Somebody was let in.
    pub fn allowed(&mut self, role: Role, by: By) {
        self.allowed[role as usize][by as usize] += 1;
    }

    /// Somebody was not.
    pub fn denied(&mut self, role: Role, reason: Reason) {
        self.denied[role as usize][reason as usize] += 1;
    }

    /// A question had no answer.
    pub fn unanswered(&mut self, cause: Cause) {
        self.unanswered[cause as usize] += 1;
    }

    /// The server was asked, whatever came of it.
    pub fn note_exchange(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.exchanges.saturating_record(micros.max(1));
    }

    /// Role, outcome, and how often.
    pub fn decisions(&self) -> impl Iterator<Item = (Role, &'static str, &'static str, u64)> {
        Role::ALL.into_iter().flat_map(move |role| {
            let of = role as usize;
            let allowed = By::ALL
                .into_iter()
                .map(move |by| (role, "allowed", by.label(), self.allowed[of][by as usize]));
            let denied = Reason::ALL.into_iter().map(move |reason| {
                (role, "denied", reason.label(), self.denied[of][reason as usize])
            });
            allowed.chain(denied)
        })
    }

    /// Cause and how often.
    pub fn causes(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().map(|cause| (cause, self.unanswered[cause as usize]))
    }

    /// Adds another shard's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.allowed.iter_mut().zip(&other.allowed) {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        for (mine, theirs) in self.denied.iter_mut().zip(&other.denied) {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.unanswered.iter_mut().zip(other.unanswered).for_each(|(mine, more)| *mine += more);
        // Both were made with the same bounds, so adding cannot fail.
        let _ = self.exchanges.add(&other.exchanges);
        self.rechecks += other.rechecks;
        self.waiting += other.waiting;
        self.paused += other.paused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_counts_add_up() {
        let mut counts = AccessCounts::default();
        counts.allowed(Role::Player, By::Hook);
        counts.denied(Role::Publisher, Reason::Refused);
        let mut sum = counts.clone();
        sum.merge(&counts);
        let all: Vec<_> = sum.decisions().collect();
        let labels: std::collections::BTreeSet<_> =
            all.iter().map(|(role, outcome, why, _)| (role, outcome, why)).collect();
        assert_eq!(labels.len(), all.len());
        let counted = all.iter().filter(|(.., count)| *count == 2).count();
        assert_eq!(counted, 2);
        assert_eq!(all.iter().map(|(.., count)| count).sum::<u64>(), 4);
    }
}
