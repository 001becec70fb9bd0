//! The one loop that both daemon and one-shot run: whom to compare with what, permits, budgets, shutdown.

mod daemon;
mod job;
mod oneshot;
mod plan;
mod snapshot;
mod state;
pub mod subjects;

pub use daemon::{Daemon, Reload, Setup};
pub use oneshot::{Allowance, OneShot, Subject};
pub use plan::{DaemonPlan, PlanItem};
