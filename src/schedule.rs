//! When to measure what next: jittered, budgeted, faster when suspicious; seeded, and pure.
//!
//! Time is an argument, counted from the start of the process. Gaps are memoryless, so that nobody can predict or slip
//! between them. A target's interval is a wish; the effective one is what the byte budgets sustain around the clock.
//! Four fifths of each budget go to routine rounds and one fifth to closer looks, so that neither can starve the other.

mod ledger;
mod pace;
mod state;

use std::time::Duration;

use rand::{SeedableRng as _, rngs::ChaCha8Rng};

use crate::model::SkipReason;
use ledger::Ledger;
use state::State;

pub use pace::{HANDSHAKE_BYTES, RoundCost};

/// The part of each budget that is kept for closer looks.
pub const CONFIRM_SHARE: f64 = 0.2;

/// The part of the routine budget that is planned for; the rest takes up the jitter of the gaps.
const PLANNED_SHARE: f64 = 0.95;

/// How often the effective intervals are worked out anew from what rounds really cost.
const REPLAN: Duration = Duration::from_mins(10);

/// A round this far behind its time, and three of its intervals, was slept through by our machine.
const SLEPT: Duration = Duration::from_mins(1);

/// A server that asks for peace gets at least this much and at most a day.
const BACKOFF_MIN: Duration = Duration::from_mins(1);
const BACKOFF_MAX: Duration = Duration::from_hours(24);

/// The part of the routine capacity that the first look at everything may take, when it is to come sooner than the
/// effective intervals.
const FIRST_LOOK_SHARE: f64 = 0.75;

/// One target, as far as the schedule is concerned.
#[derive(Debug, Clone, Copy)]
pub struct ScheduledTarget {
    /// How often it is wished to be measured.
    pub interval: Duration,
    /// Body bytes of its bulk exchanges; at most 16 KiB is always cheap.
    pub bytes: u64,
    /// Measured together with a control, or alone.
    pub compared: bool,
    /// Targets of one group take turns with bulk rounds, handshakes fill the gaps; `None`: every round is bulk.
    pub group: Option<usize>,
}

/// The byte budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Never exceeded in any hour.
    pub bytes_per_hour: u64,
    /// Never exceeded in any day.
    pub bytes_per_day: u64,
}

/// What a round is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoundKind {
    /// Routine, with transfers that show a rate limit.
    Bulk,
    /// Routine, handshakes and small objects.
    Cheap,
    /// A closer look after a suspicion.
    Confirm,
}

/// A round that is to be run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Index of the target.
    pub target: usize,
    /// When it was due.
    pub due: Duration,
    /// What it is made of.
    pub kind: RoundKind,
    /// Bytes set aside for it. It must not use more.
    pub reserve_bytes: u64,
}

/// What became of a round that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Run it, then settle.
    Run(Due),
    /// Do not run it, and say so.
    Skipped {
        /// Index of the target.
        target: usize,
        /// Why.
        reason: SkipReason,
    },
}

/// How a round ended, as far as the schedule is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to see.
    Calm,
    /// Worth a closer look.
    Suspicious,
    /// The server asked for peace, for this long.
    Backoff(Duration),
}

/// The schedule of all targets.
#[derive(Debug)]
pub struct Schedule {
    states: Vec<State>,
    routine: Ledger,
    confirm: Ledger,
    rng: ChaCha8Rng,
    replan_at: Duration,
}

impl Schedule {
    /// A schedule that begins at time zero. The same arguments and outcomes give the same schedule.
    pub fn new(targets: &[ScheduledTarget], settings: ScheduleSettings, seed: u64) -> Self {
        let kept = |budget: u64| (budget as f64 * CONFIRM_SHARE) as u64;
        let (hour, day) = (settings.bytes_per_hour, settings.bytes_per_day);
        let mut schedule = Self {
            states: (0..targets.len()).map(|index| State::new(targets, index)).collect(),
            routine: Ledger::new(hour - kept(hour), day - kept(day)),
            confirm: Ledger::new(kept(hour), kept(day)),
            rng: ChaCha8Rng::seed_from_u64(seed),
            replan_at: REPLAN,
        };
        schedule.plan();
        schedule.spread_out();
        schedule
    }

    /// Takes over what an older schedule has spent and reserved, so that a reload does not fill the budgets anew. Times go
    /// on counting from the older schedule's zero: dues are moved to after `now`.
    pub fn inherit(&mut self, older: &Self, now: Duration) {
        self.routine.inherit(&older.routine);
        self.confirm.inherit(&older.confirm);
        for state in &mut self.states {
            state.routine_due += now;
        }
        self.replan_at = now + REPLAN;
    }

    /// What is due next, and when; `None` without targets.
    pub fn next(&self) -> Option<(Duration, usize)> {
        self.states.iter().enumerate().map(|(index, state)| (state.due(), index)).min()
    }

    /// Takes the next round that is due at `now`; `None` when none is. Call it until it is.
    pub fn take(&mut self, now: Duration) -> Option<Taken> {
        if now >= self.replan_at {
            self.replan_at = now + REPLAN;
            self.plan();
            self.pull_in(now);
        }
        let (due, target) = self.next().filter(|(due, _)| *due <= now)?;
        let state = &self.states[target];
        let closer = state.confirm_due == Some(due);
        let taken =
            if closer { self.take_closer(target, due, now) } else { self.take_routine(target, due, now) };
        Some(match taken {
            Ok(run) => {
                self.states[target].running = true;
                Taken::Run(run)
            }
            Err(reason) => Taken::Skipped { target, reason },
        })
    }

    /// Settles a round: what it really used, and how it ended. After a reload `due.target` must be the target's new index.
    pub fn settle(&mut self, due: &Due, used: u64, now: Duration, outcome: Outcome) {
        self.release(due, used, now);
        let Some(state) = self.states.get_mut(due.target) else { return };
        state.running = false;
        match due.kind {
            RoundKind::Bulk => state.bulk_cost.learn(used),
            RoundKind::Cheap => state.cheap_cost.learn(used),
            RoundKind::Confirm => {}
        }
        match outcome {
            Outcome::Calm if due.kind == RoundKind::Confirm => {
                state.confirms = 0;
                state.confirm_due = None;
            }
            Outcome::Calm => {}
            Outcome::Suspicious => {
                let spacing = pace::gap(state.confirm_spacing(), &mut self.rng);
                state.confirm_due = Some(state.confirm_due.unwrap_or(now + spacing));
            }
            Outcome::Backoff(pause) => {
                state.backoff_until = now + pause.clamp(BACKOFF_MIN, BACKOFF_MAX);
                state.confirm_due = None;
            }
        }
    }

    /// Settles the bytes of a round whose target a reload has removed.
    pub fn release(&mut self, due: &Due, used: u64, now: Duration) {
        let ledger = if due.kind == RoundKind::Confirm { &mut self.confirm } else { &mut self.routine };
        ledger.settle(due.reserve_bytes, used, now);
    }

    /// Sets bytes aside for a measurement on demand; `false` where the budget does not allow it. They come from the part
    /// that is kept for closer looks, of which half is left alone. Settled with [`Self::settle_on_demand`].
    pub fn reserve_on_demand(&mut self, bytes: u64, now: Duration) -> bool {
        let kept = self.confirm.capacity() / 2;
        self.confirm.room(now) >= bytes.saturating_add(kept) && self.confirm.reserve(bytes, now)
    }

    /// Settles a measurement on demand.
    pub fn settle_on_demand(&mut self, reserved: u64, used: u64, now: Duration) {
        self.confirm.settle(reserved, used, now);
    }

    /// How often the budgets let a target be measured; its wish where they allow it. Zero for an index out of range.
    pub fn effective_interval(&self, target: usize) -> Duration {
        self.states.get(target).map_or(Duration::ZERO, |state| state.effective)
    }

    /// Of how many routine rounds of a target one is bulk; `None` where none is.
    pub fn bulk_every(&self, target: usize) -> Option<u64> {
        let state = self.states.get(target).filter(|state| pace::is_bulk(state.target.bytes))?;
        Some(state.turn.1)
    }

    /// What may still be spent now without exceeding any budget.
    pub fn remaining_bytes(&self, now: Duration) -> u64 {
        self.routine.room(now) + self.confirm.room(now)
    }

    /// Bytes a day that routine rounds will take at the effective intervals, by their mean cost so far.
    pub fn planned_bytes_per_day(&self) -> u64 {
        let a_day = |state: &State| state.mean_cost() * DAY_SECONDS / state.effective.as_secs_f64();
        self.states.iter().map(a_day).sum::<f64>() as u64
    }

    fn take_closer(&mut self, target: usize, due: Duration, now: Duration) -> Result<Due, SkipReason> {
        let room = self.confirm.room(now);
        let state = &mut self.states[target];
        state.confirm_due = None;
        if state.running {
            // How the running round ends decides whether there is to be another look.
            return Err(SkipReason::Overrun);
        }
        if now < state.backoff_until {
            return Err(SkipReason::Backoff);
        }
        state.confirms = state.confirms.saturating_add(1);
        // A small budget must not make closer looks impossible: half a round is better than none.
        let (least, most) = (state.cost.confirm_min, state.cost.confirm_max);
        if room < least {
            state.confirm_due = Some(now + pace::gap(state.confirm_spacing(), &mut self.rng));
            return Err(SkipReason::Budget);
        }
        let reserve_bytes = most.min(room);
        self.confirm.reserve(reserve_bytes, now);
        Ok(Due { target, due, kind: RoundKind::Confirm, reserve_bytes })
    }

    fn take_routine(&mut self, target: usize, due: Duration, now: Duration) -> Result<Due, SkipReason> {
        let room = self.routine.room(now).saturating_sub(self.kept_for_others(target));
        let capacity = self.routine.capacity();
        let state = &mut self.states[target];
        let late = now.saturating_sub(due);
        if late > SLEPT && late > state.effective * 3 {
            // Spread out again: after a sleep everything is due at once.
            state.routine_due = now + pace::splay(state.effective, &mut self.rng);
            return Err(SkipReason::Local);
        }
        // From when it was due, not from now: a slow round must not thin out the schedule.
        state.routine_due = due + pace::gap(state.effective, &mut self.rng);
        if state.running {
            return Err(SkipReason::Overrun);
        }
        if now < state.backoff_until {
            return Err(SkipReason::Backoff);
        }
        // A bulk round that no budget could ever hold is taken as a cheap one rather than never.
        let bulk = state.is_bulk_turn() && state.cost.bulk <= capacity;
        let (kind, reserve_bytes) =
            if bulk { (RoundKind::Bulk, state.cost.bulk) } else { (RoundKind::Cheap, state.cost.cheap) };
        if reserve_bytes > room {
            state.waiting = state.waiting.saturating_add(1);
            return Err(SkipReason::Budget);
        }
        self.routine.reserve(reserve_bytes, now);
        state.waiting = 0;
        state.rounds += 1;
        Ok(Due { target, due, kind, reserve_bytes })
    }

    /// Bytes that others have waited for longer than `target`: without them set aside small rounds would for ever take what
    /// becomes free before a large one can.
    fn kept_for_others(&self, target: usize) -> u64 {
        let mine = self.states[target].waiting.max(1);
        let capacity = self.routine.capacity();
        let needs =
            |state: &State| if state.cost.bulk <= capacity { state.cost.bulk } else { state.cost.cheap };
        self.states.iter().filter(|state| state.waiting > mine).map(needs).max().unwrap_or(0)
    }

    /// Works out the effective intervals.
    fn plan(&mut self) {
        let load = |state: &State| (state.target.interval.as_secs_f64(), state.mean_cost());
        let loads: Vec<(f64, f64)> = self.states.iter().map(load).collect();
        let sustained = pace::sustained_interval(&loads, self.routine.rate() * PLANNED_SHARE);
        let sustained = Duration::try_from_secs_f64(sustained).unwrap_or(Duration::MAX);
        for state in &mut self.states {
            state.effective = state.target.interval.max(sustained.min(INTERVAL_MAX));
        }
    }

    /// Draws anew what was put off by longer intervals than the present ones.
    fn pull_in(&mut self, now: Duration) {
        for state in &mut self.states {
            if state.routine_due > now + pace::longest_gap(state.effective) {
                state.routine_due = now + pace::gap(state.effective, &mut self.rng);
            }
        }
    }

    /// Draws the first due times: over the wished interval where a first look at everything is a small part of the budget,
    /// else over the effective one.
    fn spread_out(&mut self) {
        let first_look: u64 = self
            .states
            .iter()
            .map(|state| if state.is_bulk_turn() { state.cost.bulk } else { state.cost.cheap })
            .sum();
        let affordable = first_look as f64 <= self.routine.capacity() as f64 * FIRST_LOOK_SHARE;
        for state in &mut self.states {
            let span = if affordable { state.target.interval } else { state.effective };
            state.routine_due = pace::splay(span, &mut self.rng);
        }
    }
}

const DAY_SECONDS: f64 = 86_400.0;

/// No effective interval is longer than this: a budget that does not sustain even one round a week is as good as none,
/// and its rounds are skipped for want of it, visibly.
const INTERVAL_MAX: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests;
