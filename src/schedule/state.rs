//! What the schedule keeps of one target: its turn, its costs, when it is due.

use std::time::Duration;

use super::{
    ScheduledTarget,
    pace::{self, RoundCost},
};

/// A closer look waits this long at most for its turn: soon, but with the spacing that boxes with a memory for addresses
/// need after a positive (papers, section 6, rule 7: 60 to 120 s). A shorter effective interval shortens it.
const CONFIRM_SPACING: Duration = Duration::from_secs(90);

/// Closer looks without an end to the suspicion are spaced four times further each time, up to this: what stands for
/// months need not be proved twice an hour.
const CONFIRM_SPACING_MAX: Duration = Duration::from_hours(6);

/// The weight of the newest round in the mean cost, at least. The first replaces the worst case that was assumed, the
/// second counts half, until this.
const COST_WEIGHT_MIN: f64 = 0.125;

/// What rounds of one kind cost on average.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeanCost {
    bytes: f64,
    rounds: u32,
}

impl MeanCost {
    pub(super) const fn assumed(bytes: u64) -> Self {
        Self { bytes: bytes as f64, rounds: 0 }
    }

    pub(super) fn learn(&mut self, used: u64) {
        self.rounds = self.rounds.saturating_add(1);
        let weight = (1.0 / f64::from(self.rounds)).max(COST_WEIGHT_MIN);
        self.bytes += weight * (used as f64 - self.bytes);
    }
}

/// What is kept of one target.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) target: ScheduledTarget,
    pub(super) cost: RoundCost,
    /// Its place among the bulk members of its group, and how many there are.
    pub(super) turn: (u64, u64),
    /// Routine rounds taken so far.
    pub(super) rounds: u64,
    pub(super) effective: Duration,
    pub(super) routine_due: Duration,
    pub(super) confirm_due: Option<Duration>,
    /// Closer looks since the suspicion began.
    pub(super) confirms: u32,
    pub(super) backoff_until: Duration,
    pub(super) running: bool,
    /// Routine rounds skipped in a row for want of budget.
    pub(super) waiting: u32,
    pub(super) bulk_cost: MeanCost,
    pub(super) cheap_cost: MeanCost,
}

impl State {
    pub(super) fn new(targets: &[ScheduledTarget], index: usize) -> Self {
        let target = targets[index];
        let cost = RoundCost::of(target.bytes, target.compared);
        Self {
            target,
            cost,
            turn: turn(targets, index),
            rounds: 0,
            effective: target.interval,
            routine_due: Duration::ZERO,
            confirm_due: None,
            confirms: 0,
            backoff_until: Duration::ZERO,
            running: false,
            waiting: 0,
            bulk_cost: MeanCost::assumed(cost.bulk),
            cheap_cost: MeanCost::assumed(cost.cheap),
        }
    }

    pub(super) fn due(&self) -> Duration {
        self.confirm_due.map_or(self.routine_due, |confirm| confirm.min(self.routine_due))
    }

    pub(super) fn is_bulk_turn(&self) -> bool {
        pace::is_bulk(self.target.bytes) && (self.rounds + self.turn.0).is_multiple_of(self.turn.1)
    }

    /// Mean bytes of a routine round, over the turns.
    pub(super) fn mean_cost(&self) -> f64 {
        if pace::is_bulk(self.target.bytes) {
            let share = 1.0 / self.turn.1 as f64;
            share * self.bulk_cost.bytes + (1.0 - share) * self.cheap_cost.bytes
        } else {
            self.cheap_cost.bytes
        }
    }

    pub(super) fn confirm_spacing(&self) -> Duration {
        let first = CONFIRM_SPACING.min(self.effective);
        first.saturating_mul(4_u32.saturating_pow(self.confirms)).min(CONFIRM_SPACING_MAX.max(first))
    }
}

/// A target's place among the bulk members of its group, and how many there are.
fn turn(targets: &[ScheduledTarget], index: usize) -> (u64, u64) {
    let target = &targets[index];
    let is_member = |other: &&ScheduledTarget| other.group == target.group && pace::is_bulk(other.bytes);
    if target.group.is_none() || !pace::is_bulk(target.bytes) {
        return (0, 1);
    }
    let place = targets[..index].iter().filter(is_member).count();
    (place as u64, targets.iter().filter(is_member).count() as u64)
}
