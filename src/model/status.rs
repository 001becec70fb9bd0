//! What the running engine tells the other rooms: events as they happen, and a snapshot of how things stand.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Comparison, EndpointKind, Finding, Measurement, Phase, Role, TargetId, Vantage, Verdict, seconds,
};

/// Something that happened, told to metrics, store and notifications.
#[derive(Debug, Clone)]
pub enum Event {
    /// An exchange was taken.
    Measured(Box<Measurement>),
    /// A round of `target` was judged.
    Judged {
        /// The subject.
        target: TargetId,
        /// By which comparison.
        comparison: Comparison,
        /// What was found.
        finding: Box<Finding>,
        /// When, for people.
        at: Timestamp,
    },
    /// A round that was due was not run.
    Skipped {
        /// Whose round.
        target: TargetId,
        /// Why.
        reason: SkipReason,
    },
    /// A round began this long after it was due.
    Lagged(Duration),
}

/// Why a round that was due was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SkipReason {
    /// It would exceed the byte budget.
    Budget,
    /// The previous round of the same target was still running.
    Overrun,
    /// The server asked for peace (`Retry-After`, 429, challenges).
    Backoff,
    /// Our own machine is out of a resource.
    Local,
}

impl SkipReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Budget, Self::Overrun, Self::Backoff, Self::Local];

    /// The name used in metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Overrun => "overrun",
            Self::Backoff => "backoff",
            Self::Local => "local",
        }
    }
}

/// How things stand. Published by the engine after every change, read by page and API.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// When the daemon started.
    pub started_at: Timestamp,
    /// When this was put together.
    pub at: Timestamp,
    /// Where the probe stands.
    pub vantage: Vantage,
    /// What is left of the byte budgets.
    pub budget: BudgetStatus,
    /// Whether what is measured now can be stored.
    pub store_writable: bool,
    /// Every target, in the order of the configuration.
    pub targets: Vec<TargetStatus>,
}

/// The byte budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// Allowed in any hour.
    pub bytes_per_hour: u64,
    /// Allowed in any day.
    pub bytes_per_day: u64,
    /// What may still be spent now without exceeding either.
    pub remaining_bytes: u64,
}

/// One target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    /// Its id.
    pub id: TargetId,
    /// Subject, control or canary.
    pub role: Role,
    /// Page, media or API.
    pub kind: EndpointKind,
    /// Host of its URL.
    pub host: String,
    /// The verdict by the strongest comparison so far; `None` before the first judged round, and when stale.
    pub verdict: Option<Verdict>,
    /// Since when that verdict holds.
    pub since: Option<Timestamp>,
    /// The finding that it rests on. Findings since may say less: an accusation stands until several calm rounds.
    pub basis: Option<FindingStatus>,
    /// No exchange for three effective intervals: the verdict no longer speaks of the present.
    pub stale: bool,
    /// The last finding of each comparison, strongest first.
    pub findings: Vec<FindingStatus>,
    /// When the last exchange ended.
    pub last_exchange_at: Option<Timestamp>,
    /// The interval that budgets allow.
    #[serde(rename = "effective_interval_s", with = "seconds")]
    pub effective_interval: Duration,
    /// Quantiles of this process's phases, in seconds.
    pub phases: Vec<PhaseQuantiles>,
    /// Quantiles of this process's goodput, in bytes per second.
    pub goodput: Option<Quantiles>,
}

/// A finding and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingStatus {
    /// By which comparison.
    pub comparison: Comparison,
    /// When.
    pub at: Timestamp,
    /// What.
    pub finding: Finding,
    /// The control, where there is one.
    pub control: Option<TargetId>,
    /// One command line that repeats the test.
    pub repeat: String,
    /// Ids of the exchanges of the round, in order of time.
    pub exchanges: Vec<String>,
}

/// Quantiles of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PhaseQuantiles {
    /// The phase.
    pub phase: Phase,
    /// Its quantiles in seconds.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// A few quantiles, within 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Observations.
    pub count: u64,
    /// Half are below.
    pub p50: f64,
    /// Nine in ten are below.
    pub p90: f64,
    /// Ninety-nine in a hundred are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}
