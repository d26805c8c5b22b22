//! The merge window: how long egress holds frames back so that one send carries several.
//!
//! Adaptive: zero while the shard has time to spare, growing with its load to a ceiling. Load is
//! the share of wall time the shard's turns took over the last interval.

use std::time::{Duration, Instant};

use crate::config::MergeWindow;

/// How often the load is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Below this share the window shrinks, above [`GROW_ABOVE`] it grows; between them it stays.
const SHRINK_BELOW: f64 = 0.45;
const GROW_ABOVE: f64 = 0.65;
/// The first step away from zero.
const FIRST_STEP: Duration = Duration::from_millis(2);
/// See [`Window::look`].
const LOOKS_PER_WINDOW: u32 = 5;

/// See the module text.
#[derive(Debug)]
pub struct Window {
    mode: MergeWindow,
    current: Duration,
    busy: Duration,
    since: Instant,
}

impl Window {
    /// A window as configured.
    #[must_use]
    pub fn new(mode: MergeWindow, now: Instant) -> Self {
        let current = match mode {
            MergeWindow::Fixed(window) => window,
            MergeWindow::Adaptive { .. } => Duration::ZERO,
        };
        Self { mode, current, busy: Duration::ZERO, since: now }
    }

    /// Another mode from now on; an adaptive window finds its width again.
    pub fn set_mode(&mut self, mode: MergeWindow, now: Instant) {
        if mode != self.mode {
            *self = Self::new(mode, now);
        }
    }

    /// The window in force.
    #[must_use]
    pub fn current(&self) -> Duration {
        self.current
    }

    /// How soon media that comes in has to be looked for: it is held back anyway where the window
    /// is fixed. An adaptive one is there for want of time, and then none may be wasted.
    #[must_use]
    pub fn look(&self) -> Duration {
        match self.mode {
            MergeWindow::Fixed(window) => window / LOOKS_PER_WINDOW,
            MergeWindow::Adaptive { .. } => Duration::ZERO,
        }
    }

    /// A turn of the shard took so long.
    pub fn note_turn(&mut self, length: Duration, now: Instant) {
        self.busy += length;
        let wall = now.saturating_duration_since(self.since);
        if wall < INTERVAL {
            return;
        }
        let load = self.busy.as_secs_f64() / wall.as_secs_f64();
        self.busy = Duration::ZERO;
        self.since = now;
        let MergeWindow::Adaptive { ceiling } = self.mode else { return };
        if load > GROW_ABOVE {
            self.current = (self.current * 3 / 2).max(FIRST_STEP).min(ceiling);
        } else if load < SHRINK_BELOW {
            self.current = self.current * 2 / 3;
            if self.current < FIRST_STEP {
                self.current = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(window: &mut Window, now: &mut Instant, load: f64, rounds: usize) {
        for _ in 0..rounds {
            *now += INTERVAL;
            window.note_turn(INTERVAL.mul_f64(load), *now);
        }
    }

    #[test]
    fn grows_with_load_to_the_ceiling_and_falls_back_to_nothing() {
        let mut now = crate::clock::now();
        let ceiling = Duration::from_millis(50);
        let mut window = Window::new(MergeWindow::Adaptive { ceiling }, now);
        run(&mut window, &mut now, 0.3, 5);
        assert_eq!(window.current(), Duration::ZERO);
        run(&mut window, &mut now, 0.95, 30);
        assert_eq!(window.current(), ceiling);
        run(&mut window, &mut now, 0.55, 10);
        assert_eq!(window.current(), ceiling, "steady between the thresholds");
        assert_eq!(window.look(), Duration::ZERO, "no time is wasted");
        run(&mut window, &mut now, 0.1, 30);
        assert_eq!(window.current(), Duration::ZERO);
    }

    #[test]
    fn a_fixed_window_stays_whatever_the_load() {
        let mut now = crate::clock::now();
        let width = Duration::from_millis(20);
        let mut window = Window::new(MergeWindow::Fixed(width), now);
        run(&mut window, &mut now, 0.99, 10);
        run(&mut window, &mut now, 0.01, 10);
        assert_eq!(window.current(), width);
        assert_eq!(window.look(), width / 5);
    }
}
