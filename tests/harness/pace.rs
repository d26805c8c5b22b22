//! Whether media come to a player at their pace: pictures, their times and the clock, held against
//! each other.

use std::time::{Duration, Instant};

/// So many pictures are enough to tell half the rate, and double, from the right one.
pub const PICTURES: u64 = 100;
/// How long a player may take until it has anything: most of it is for machines that have much
/// else to do.
const START: Duration = Duration::from_secs(40);
/// Pictures a second of every clip.
const RATE: f64 = 25.0;
/// So many pictures a server has kept for whoever comes, at most: one group of every clip.
pub const KEPT: u64 = 25;
/// Media may take so many times as long as they last, or as little of it ...
const STRETCH: f64 = 1.5;
/// ... and so many seconds more, for a player that is late at the end ...
const LATE: f64 = 1.0;
/// ... or less, for one that was late at the beginning.
const EARLY: f64 = 0.4;
/// By how much pictures and their times may differ: as a part of the whole, and in seconds ...
const TIMES: f64 = 0.15;
/// ... where a player passes on the times that it gets ...
pub const EXACT: f64 = 0.1;
/// ... or makes them fit its clock: what a server has kept comes early, by a second at most.
pub const SKEWED: f64 = 1.0;

/// What a player has got, from the first look at it on.
#[derive(Debug)]
pub struct Pace {
    who: String,
    start: Instant,
    in_segments: bool,
    /// When it had all that may have been kept, and how many seconds of media that were.
    begun: Option<(Instant, f64)>,
    /// Seconds of media that came after that.
    more: f64,
    /// How long they took.
    took: Duration,
}

impl Pace {
    /// Starts the clock of `who`.
    pub fn of(who: &str) -> Pace {
        let (who, more, took) = (who.to_owned(), 0.0, Duration::ZERO);
        Pace { who, start: Instant::now(), in_segments: false, begun: None, more, took }
    }

    /// Of a player that gets more than [`KEPT`] pictures at once, because it begins with older segments.
    pub fn in_segments(self, in_segments: bool) -> Pace {
        Pace { in_segments, ..self }
    }

    /// The longest that `pictures` may take to be there, start included.
    pub fn bound(pictures: u64) -> Duration {
        START + Duration::from_secs_f64(pictures as f64 / RATE * STRETCH + LATE)
    }

    /// Notes that a player has so many pictures by now; as [`Pace::media`].
    pub fn pictures(&mut self, pictures: u64) -> bool {
        self.media((pictures > 0).then_some(pictures as f64 / RATE))
    }

    /// Notes how many seconds of media a player has; false when it has not begun in time.
    pub fn media(&mut self, at: Option<f64>) -> bool {
        let now = Instant::now();
        let Some(at) = at else { return now - self.start < START };
        if at >= KEPT as f64 / RATE {
            let (began, from) = *self.begun.get_or_insert((now, at));
            if at - from > self.more {
                (self.more, self.took) = (at - from, now - began);
            }
        }
        true
    }

    /// Asserts that what came after the kept ones came neither late nor early.
    pub fn verify(&self) {
        let Pace { who, more, took, .. } = self;
        assert!(self.in_time(), "{who}: {more:.2} s of media took {took:.2?}");
    }

    fn in_time(&self) -> bool {
        let took = self.took.as_secs_f64();
        let early = !self.in_segments && took < self.more / STRETCH - EARLY;
        !early && took <= self.more * STRETCH + LATE
    }
}

/// Asserts that there are as many pictures as their times, in seconds, say; `slack`: how well the
/// player keeps them.
pub fn verify_times(who: &str, times: impl IntoIterator<Item = f64>, slack: f64) {
    let (count, shown) = span(times);
    let due = f64::from(count.saturating_sub(1)) / RATE;
    let fits = count == 0 || fits(due, shown, slack);
    assert!(fits, "{who}: {count} pictures within {shown:.2} s of media instead of {due:.2} s");
}

/// How many times there are, and from which to which.
fn span(times: impl IntoIterator<Item = f64>) -> (u32, f64) {
    let seen = times.into_iter().fold((0, f64::INFINITY, f64::NEG_INFINITY), |seen, time| {
        (seen.0 + 1, time.min(seen.1), time.max(seen.2))
    });
    (seen.0, seen.2 - seen.1)
}

fn fits(due: f64, shown: f64, slack: f64) -> bool {
    (shown - due).abs() <= slack + TIMES * due
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether [`PICTURES`] that come at once for a second and then at `rate` of theirs pass.
    fn at_rate(rate: f64) -> bool {
        let mut pace = Pace::of("a player");
        assert!(pace.pictures(KEPT));
        let took = (PICTURES - KEPT) as f64 / RATE / rate;
        let began = Instant::now().checked_sub(Duration::from_secs_f64(took));
        pace.begun = Some((began.expect("the clock has run for a while"), 1.0));
        assert!(pace.pictures(PICTURES));
        pace.in_time()
    }

    #[test]
    fn half_the_rate_and_double_do_not_pass() {
        assert!(at_rate(1.0) && at_rate(0.8) && at_rate(1.2));
        assert!(!at_rate(0.5) && !at_rate(2.0));
    }

    #[test]
    fn what_is_not_there_in_time_ends() {
        let mut pace = Pace::of("a player");
        assert!(pace.pictures(0));
        pace.start = Instant::now().checked_sub(START).expect("the clock has run for a while");
        assert!(!pace.pictures(0));
        assert!(pace.pictures(25), "late, but at its pace from then on");
    }

    #[test]
    fn times_at_half_the_rate_and_double_do_not_fit() {
        let every = |step: f64| span((0..PICTURES).map(move |number| number as f64 * step));
        let due = (PICTURES - 1) as f64 / RATE;
        for slack in [EXACT, SKEWED] {
            assert!(fits(due, every(0.04).1, slack));
            assert!(!fits(due, every(0.02).1, slack) && !fits(due, every(0.08).1, slack));
        }
        // Twenty are enough for that.
        assert!(!fits(19.0 / RATE, 19.0 * 0.02, EXACT) && !fits(19.0 / RATE, 19.0 * 0.08, EXACT));
    }
}
