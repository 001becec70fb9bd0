//! How things stand, for page, API and gauges.

use std::sync::Arc;

use super::{
    super::{
        plan::{DaemonPlan, PlanItem},
        snapshot::{Standing, target_status},
        state::TargetState,
    },
    Daemon,
};
use crate::model::Snapshot;

impl Daemon {
    /// Looks at every target, sets its gauges, and publishes a snapshot.
    pub(super) fn publish(&mut self) {
        let (now, at) = (self.now(), self.wall());
        let remaining = self.setup.schedule.remaining_bytes(now);
        self.metrics.set_budget_remaining(remaining);
        let plan = &self.setup.plan;
        let items = plan.items.iter().enumerate().map(|(index, item)| {
            let id = &item.target.id;
            let effective_interval = self.setup.schedule.effective_interval(index);
            self.metrics.set_effective_interval(id, effective_interval);
            let state = self.memory.get(id).map(|memory| &memory.state);
            let standing = Standing {
                verdict: state.and_then(TargetState::verdict),
                basis: state.and_then(TargetState::basis),
                findings: state.map(TargetState::findings).unwrap_or_default(),
                last_exchange_at: state.and_then(TargetState::last_exchange_at),
                effective_interval,
            };
            if standing.is_stale(at) {
                self.metrics.set_stale(id);
            } else {
                self.metrics.set_verdict(id, standing.verdict.map(|(verdict, _)| verdict));
            }
            target_status(&item.target, standing, &self.metrics, at)
        });
        let controls = plan.controls.iter().map(|control| {
            let serves = |(_, item): &(usize, &PlanItem)| DaemonPlan::serves(item, control);
            let intervals = plan.items.iter().enumerate().filter(serves);
            let intervals = intervals.map(|(index, _)| self.setup.schedule.effective_interval(index));
            let standing = Standing {
                last_exchange_at: self.controls.get(&control.id).copied(),
                effective_interval: intervals.min().unwrap_or_default(),
                ..Standing::default()
            };
            self.metrics.set_effective_interval(&control.id, standing.effective_interval);
            target_status(control, standing, &self.metrics, at)
        });
        let snapshot = Snapshot {
            started_at: self.started_at,
            at,
            vantage: self.setup.plan.vantage.clone(),
            budget: self.setup.plan.budget(remaining),
            store_writable: self.keeper.is_writable(),
            targets: items.chain(controls).collect(),
        };
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}
