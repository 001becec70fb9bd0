//! The one loop that both daemon and one-shot run: whom to compare with what, permits, budgets, shutdown.

mod build;
mod daemon;
mod incidents;
mod job;
mod keeper;
mod notifier;
mod oneshot;
mod plan;
mod series;
mod snapshot;
mod state;
mod steady;
pub mod subjects;

pub use daemon::{Daemon, Reload, Setup};
pub use keeper::Keeper;
pub use oneshot::{Allowance, OneShot, Subject};
pub use plan::{DaemonPlan, PlanItem};
