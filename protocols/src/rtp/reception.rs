//! What arrived of one source: sequence numbers, loss and jitter (RFC 3550 6.4.1, A.1, A.3, A.8).

/// A step ahead by this many is a loss, beyond it a new start (A.1).
const DROPOUT_MAX: i64 = 3000;
/// Packets behind the newest that are remembered; what is older is told from no new start.
const WINDOW: i64 = 128;
/// Largest loss that a report can say (24 bits, signed).
const LOST_MAX: i64 = 0x7f_ffff;

/// What a sequence number says about its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// New, with its number unwrapped.
    New(i64),
    /// It was there before.
    Duplicate,
    /// Too far from all others; perhaps the source started again.
    Stray,
}

/// The account of one source.
#[derive(Debug, Default)]
pub(super) struct Reception {
    started: bool,
    base: i64,
    highest: i64,
    /// Bit `n`: the packet `n` before the newest was there.
    window: u128,
    /// Packets of this source, those sent twice included, as reports count them.
    arrived: i64,
    expected_before: i64,
    arrived_before: i64,
    /// Jitter in ticks, times 16.
    jitter: u64,
    transit: Option<i64>,
    /// Packets, without those sent twice, of this and earlier starts.
    pub(super) received: u64,
    pub(super) reordered: u64,
    pub(super) duplicates: u64,
    /// Packets of earlier starts that never came.
    lost_before_restart: u64,
    received_this_start: i64,
}

impl Reception {
    /// Takes the sequence number of a packet into account.
    pub(super) fn on_sequence(&mut self, sequence_number: u16) -> Verdict {
        if !self.started {
            self.restart(sequence_number);
            return Verdict::New(self.highest);
        }
        let step = i64::from(sequence_number.wrapping_sub(self.highest as u16).cast_signed());
        match step {
            1..DROPOUT_MAX => {
                self.highest += step;
                self.window = if step < WINDOW { self.window << step | 1 } else { 1 };
            }
            step if step <= 0 && step > -WINDOW => {
                let bit = 1u128 << -step;
                if self.window & bit != 0 {
                    self.arrived += 1;
                    self.duplicates += 1;
                    return Verdict::Duplicate;
                }
                self.window |= bit;
                self.base = self.base.min(self.highest + step);
                self.reordered += 1;
            }
            _ => return Verdict::Stray,
        }
        self.arrived += 1;
        self.received += 1;
        self.received_this_start += 1;
        Verdict::New(self.highest + step.min(0))
    }

    /// The source starts again here; the account of loss goes on. Returns the number unwrapped,
    /// which is beyond all before.
    pub(super) fn restart(&mut self, sequence_number: u16) -> i64 {
        self.lost_before_restart = self.lost();
        let cycle = if self.started { (self.highest >> 16) + 1 } else { 1 };
        self.highest = cycle << 16 | i64::from(sequence_number);
        self.base = self.highest;
        self.started = true;
        self.window = 1;
        (self.arrived, self.received_this_start) = (1, 1);
        (self.expected_before, self.arrived_before) = (0, 0);
        (self.jitter, self.transit) = (0, None);
        self.received += 1;
        self.highest
    }

    /// Takes arrival and timestamp of a packet into account, both in ticks (A.8).
    pub(super) fn on_transit(&mut self, arrival_ticks: i64, timestamp_ticks: i64) {
        let transit = arrival_ticks.wrapping_sub(timestamp_ticks);
        if let Some(before) = self.transit.replace(transit) {
            let change = transit.wrapping_sub(before).unsigned_abs().min(u64::from(u32::MAX));
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4).min(self.jitter);
        }
    }

    /// Mean deviation of the transit time in ticks.
    pub(super) fn jitter(&self) -> u32 {
        u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX)
    }

    /// The newest sequence number with the count of wraps.
    pub(super) fn extended_highest(&self) -> u32 {
        // The first cycle is 1, so that packets before the first one have a number too.
        (self.highest - (1 << 16)) as u32
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        let missing = self.expected() - self.received_this_start;
        self.lost_before_restart.saturating_add(missing.max(0).unsigned_abs())
    }

    fn expected(&self) -> i64 {
        if self.started { self.highest - self.base + 1 } else { 0 }
    }

    /// The fraction lost since the last call, in 1/256, and the loss so far as 24 bits (A.3).
    pub(super) fn report_loss(&mut self) -> (u8, u32) {
        let expected = self.expected();
        let expected_since = expected - self.expected_before;
        let lost_since = expected_since - (self.arrived - self.arrived_before);
        (self.expected_before, self.arrived_before) = (expected, self.arrived);
        let fraction = if expected_since > 0 && lost_since > 0 {
            (lost_since * 256 / expected_since).min(255)
        } else {
            0
        };
        let lost = (expected - self.arrived).clamp(-LOST_MAX, LOST_MAX);
        (u8::try_from(fraction).unwrap_or(u8::MAX), (lost as u32) & 0xff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: i64 = 1 << 16;

    #[test]
    fn numbers_are_unwrapped_and_judged() {
        let mut reception = Reception::default();
        assert_eq!(reception.on_sequence(65_534), Verdict::New(FIRST + 65_534));
        assert_eq!(reception.on_sequence(1), Verdict::New(FIRST + 65_537));
        assert_eq!(reception.on_sequence(65_535), Verdict::New(FIRST + 65_535));
        assert_eq!(reception.on_sequence(65_535), Verdict::Duplicate);
        assert_eq!(reception.on_sequence(1), Verdict::Duplicate);
        // Before the first one, but near it.
        assert_eq!(reception.on_sequence(65_530), Verdict::New(FIRST + 65_530));
        assert_eq!(reception.on_sequence(40_000), Verdict::Stray);
        let counts = (reception.received, reception.reordered, reception.duplicates);
        assert_eq!(counts, (4, 2, 2));
        // 65,531 to 65,533 and 0.
        assert_eq!((reception.lost(), reception.extended_highest()), (4, 65_537));
        assert_eq!(reception.restart(7), (2 << 16 | 7) + FIRST);
        assert_eq!((reception.lost(), reception.received), (4, 5));
    }

    #[test]
    fn reports_count_as_the_specification_does() {
        let mut reception = Reception::default();
        for sequence in (0..100u16).filter(|sequence| sequence % 4 != 1) {
            reception.on_sequence(sequence);
        }
        assert_eq!(reception.report_loss(), (64, 25));
        for sequence in 100..200u16 {
            reception.on_sequence(sequence);
        }
        assert_eq!(reception.report_loss(), (0, 25));
        // What is sent twice counts as received.
        for _ in 0..30 {
            reception.on_sequence(199);
        }
        assert_eq!(reception.report_loss(), (0, 0xff_fffb));
        assert_eq!(reception.lost(), 25);
    }

    #[test]
    fn jitter_approaches_the_mean_deviation() {
        let mut reception = Reception::default();
        for at in 0..400 {
            reception.on_transit(at * 3000 + (at % 2) * 160, at * 3000);
        }
        assert!((155..=160).contains(&reception.jitter()), "{}", reception.jitter());
        reception.on_transit(i64::MIN, i64::MAX);
    }
}
