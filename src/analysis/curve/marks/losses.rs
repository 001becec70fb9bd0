//! Where losses show: in a stall, or in a window of which only the first part came in order.

use super::{Gap, STALL, Steps};

/// A window returns after about a round trip.
const RETURN: f64 = 0.85;

/// Less than this share of the window before is a window whose end is missing.
const PART: f64 = 0.75;

/// Segments of a window of which a part can be missing.
const WINDOW_MIN: f64 = 3.0;

/// For each gap whether a loss made it.
pub(super) struct Losses {
    shows: Vec<bool>,
    dips: usize,
}

impl Losses {
    pub(super) fn of(steps: &Steps, gaps: &[Gap]) -> Self {
        let dips: Vec<bool> = gaps.iter().map(|gap| is_dip(steps, gap)).collect();
        let shows = gaps.iter().zip(&dips).map(|(gap, &dip)| dip || gap.trips > STALL).collect();
        Self { shows, dips: dips.iter().filter(|dip| **dip).count() }
    }

    /// Of each gap, in order.
    pub(super) fn shows(&self) -> impl Iterator<Item = bool> {
        self.shows.iter().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.shows().filter(|shows| *shows).count()
    }

    /// For each of so many segments; half a loss is added, so that none is not nothing.
    pub(super) fn rate(&self, segments: f64) -> f64 {
        (self.count() as f64 + 0.5) / segments
    }

    /// Share of those that show in a window's missing end alone; as if half of one of two more had.
    pub(super) fn dips(&self) -> f64 {
        (self.dips as f64 + 0.5) / (self.count() as f64 + 2.0)
    }
}

/// The end of the window is missing, and comes with the next one.
fn is_dip(steps: &Steps, gap: &Gap) -> bool {
    if gap.trips <= RETURN || gap.trips > STALL {
        return false;
    }
    let come = steps.window_before(gap.from);
    let full = steps.window_at(gap.from, 1.05).max(steps.window_at(gap.from, 2.05));
    full >= WINDOW_MIN && come < PART * full && gap.jump >= full - come
}
