//! A curve as it grows, within a bound.

use std::time::Duration;

use crate::model::CurvePoint;

/// Points kept for one curve; beyond it the time slots double.
pub(super) const POINTS_MAX: usize = 4_096;

/// One point for each slot of this length at first.
const SLOT: Duration = Duration::from_millis(1);

/// A curve with at most one point for each slot of time, the last one; bounded.
pub(super) struct Slots {
    pub(super) slot: Duration,
    /// Position at the request.
    base: Option<u64>,
    pub(super) points: Vec<CurvePoint>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { slot: SLOT, base: None, points: Vec::new() }
    }
}

impl Slots {
    pub(super) fn push(&mut self, at: Duration, before: u64, position: u64) {
        let bytes = position - *self.base.get_or_insert(before);
        self.put(CurvePoint { at, bytes });
        self.thin(POINTS_MAX);
    }

    pub(super) fn thin(&mut self, points_max: usize) {
        while self.points.len() > points_max {
            self.slot *= 2;
            for point in std::mem::take(&mut self.points) {
                self.put(point);
            }
        }
    }

    fn put(&mut self, point: CurvePoint) {
        let slot = self.slot.as_nanos();
        let number = |at: Duration| at.as_nanos() / slot;
        match self.points.last_mut() {
            Some(last) if number(last.at) == number(point.at) => *last = point,
            _ => self.points.push(point),
        }
    }
}
