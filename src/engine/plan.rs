//! What the daemon measures: targets joined with their controls.

use std::time::Duration;

use crate::{
    methods::Shape,
    metrics::HistogramMode,
    model::{BudgetStatus, Target, Vantage},
};

use super::oneshot::Subject;

/// Everything the daemon's engine is told by the configuration. Built fully before it replaces an older one.
#[derive(Debug, Clone)]
pub struct DaemonPlan {
    /// Where the probe stands.
    pub vantage: Vantage,
    /// What is measured on its own schedule, in the order of the configuration.
    pub items: Vec<PlanItem>,
    /// Controls that are measured within pairs alone.
    pub controls: Vec<Target>,
    /// What all exchanges have in common; each item has its own number of bytes.
    pub shape: Shape,
    /// What may be spent in any hour.
    pub bytes_per_hour: u64,
    /// What may be spent in any day.
    pub bytes_per_day: u64,
    /// How histograms are kept.
    pub histograms: HistogramMode,
}

impl DaemonPlan {
    /// The targets in the order of the configuration, then the controls that are measured within pairs.
    pub fn targets(&self) -> Vec<Target> {
        self.items.iter().map(|item| &item.target).chain(&self.controls).cloned().collect()
    }

    /// Whether this control is one of the item's.
    pub(super) fn serves(item: &PlanItem, control: &Target) -> bool {
        item.subject.controls.iter().any(|leg| leg.id == control.id)
    }

    pub(super) const fn budget(&self, remaining_bytes: u64) -> BudgetStatus {
        BudgetStatus {
            bytes_per_hour: self.bytes_per_hour,
            bytes_per_day: self.bytes_per_day,
            remaining_bytes,
        }
    }
}

/// One target with its own schedule.
#[derive(Debug, Clone)]
pub struct PlanItem {
    /// The target.
    pub target: Target,
    /// It and its controls as legs.
    pub subject: Subject,
    /// How often it is wished to be measured.
    pub interval: Duration,
}
