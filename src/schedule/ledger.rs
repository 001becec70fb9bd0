//! Byte budgets that no window exceeds: reserve before, settle after.
//!
//! A reservation counts in full until it is settled; what was really used counts from then on for as long as any window
//! that contains the moment of settling. So however a round's bytes were spread over its time, no hour and no day holds
//! more than its budget, provided that a round keeps to its reservation.

use std::{collections::VecDeque, time::Duration};

/// Slots a window is divided into. Spending is kept per slot and forgotten only when the whole slot is out of every window
/// that could contain it, which costs one slot of sixty: under 2 % of the rate.
const SLOTS: u32 = 60;

/// The length that a window takes in practice: its own and one slot.
const STRETCH: f64 = (SLOTS + 1) as f64 / SLOTS as f64;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What was spent in a sliding window of fixed width.
#[derive(Debug, Clone)]
struct Window {
    budget: u64,
    slot: Duration,
    /// Slot number and bytes, oldest first; at most `SLOTS + 1` of them.
    spent: VecDeque<(u64, u64)>,
}

impl Window {
    fn new(width: Duration, budget: u64) -> Self {
        Self { budget, slot: width / SLOTS, spent: VecDeque::new() }
    }

    fn slot_at(&self, now: Duration) -> u64 {
        (now.as_nanos() / self.slot.as_nanos()) as u64
    }

    fn spent(&self, now: Duration) -> u64 {
        let slot = self.slot_at(now);
        let counts = |entry: &&(u64, u64)| entry.0 + u64::from(SLOTS) >= slot;
        self.spent.iter().filter(counts).map(|(_, bytes)| bytes).sum()
    }

    fn spend(&mut self, bytes: u64, now: Duration) {
        let slot = self.slot_at(now);
        while self.spent.front().is_some_and(|(oldest, _)| oldest + u64::from(SLOTS) < slot) {
            self.spent.pop_front();
        }
        match self.spent.back_mut() {
            // Also where time seems to have gone back: the newest slot is the one that is kept longest.
            Some((newest, sum)) if *newest >= slot => *sum += bytes,
            _ => self.spent.push_back((slot, bytes)),
        }
    }

    /// Bytes a second that it sustains.
    fn rate(&self) -> f64 {
        self.budget as f64 / (self.slot.as_secs_f64() * f64::from(SLOTS) * STRETCH)
    }
}

/// An hour's and a day's budget, spent together.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    hour: Window,
    day: Window,
    reserved: u64,
}

impl Ledger {
    pub(super) fn new(bytes_per_hour: u64, bytes_per_day: u64) -> Self {
        Self { hour: Window::new(HOUR, bytes_per_hour), day: Window::new(DAY, bytes_per_day), reserved: 0 }
    }

    /// What may still be reserved.
    pub(super) fn room(&self, now: Duration) -> u64 {
        let left =
            |window: &Window| window.budget.saturating_sub(window.spent(now)).saturating_sub(self.reserved);
        left(&self.hour).min(left(&self.day))
    }

    /// Reserves, or refuses.
    pub(super) fn reserve(&mut self, bytes: u64, now: Duration) -> bool {
        let fits = bytes <= self.room(now);
        if fits {
            self.reserved += bytes;
        }
        fits
    }

    /// Replaces a reservation by what was used.
    pub(super) fn settle(&mut self, reserved: u64, used: u64, now: Duration) {
        self.reserved = self.reserved.saturating_sub(reserved);
        self.hour.spend(used, now);
        self.day.spend(used, now);
    }

    /// What may be reserved of an empty ledger at once.
    pub(super) fn capacity(&self) -> u64 {
        self.hour.budget.min(self.day.budget)
    }

    /// Bytes a second that both windows sustain for ever.
    pub(super) fn rate(&self) -> f64 {
        self.hour.rate().min(self.day.rate())
    }

    /// Takes over what an older ledger has spent and reserved, and keeps the budgets.
    pub(super) fn inherit(&mut self, older: &Self) {
        self.hour.spent.clone_from(&older.hour.spent);
        self.day.spent.clone_from(&older.day.spent);
        self.reserved = older.reserved;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is reserved, used and waited for: no hour holds more than its budget.
        #[test]
        fn no_hour_holds_more_than_its_budget(
            steps in proptest::collection::vec((0_u64..900, 1_u64..400, 0_u64..100), 1..200),
        ) {
            let mut ledger = Ledger::new(1_000, 5_000);
            let mut now = Duration::ZERO;
            let mut used = Vec::new();
            for (wait, reserve, percent) in steps {
                now += Duration::from_secs(wait);
                if ledger.reserve(reserve, now) {
                    let bytes = reserve * percent / 100;
                    ledger.settle(reserve, bytes, now);
                    used.push((now, bytes));
                }
            }
            for (start, _) in &used {
                let within = |width: Duration| -> u64 {
                    used.iter().filter(|(at, _)| at >= start && *at < *start + width).map(|(_, bytes)| bytes).sum()
                };
                prop_assert!(within(HOUR) <= 1_000);
                prop_assert!(within(DAY) <= 5_000);
            }
        }
    }

    #[test]
    fn a_reservation_counts_until_it_is_settled() {
        let mut ledger = Ledger::new(100, 1_000);
        assert!(ledger.reserve(60, Duration::ZERO));
        assert!(!ledger.reserve(60, DAY), "a round that still runs still holds its bytes");
        ledger.settle(60, 10, DAY);
        assert_eq!(ledger.room(DAY), 90);
    }
}
