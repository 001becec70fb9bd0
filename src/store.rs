//! The past on disk: SQLite, one writer thread behind a bounded queue, readers of their own.
//!
//! A round with its exchanges, what the detectors remember after it, incidents and what people are to be told of them are
//! one transaction: whenever the process ends, the store tells one story. Where it cannot be written, nothing waits for
//! it: what was not written is tried again, and what does not fit the queue meanwhile is counted.

mod codec;
mod error;
mod latest;
mod migrate;
mod open;
mod purge;
mod read;
mod restore;
mod retain;
mod write;
mod writer;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::model::{
    Comparison, DetectorState, Exchange, Finding, IncidentRecord, TargetId, Vantage, Verdict,
};

pub use error::StoreError;
pub use migrate::VERSION;
pub use purge::{Purged, purge};
pub use read::{Reader, Row, Span};
pub use restore::Restored;
pub use writer::Store;

/// How a store is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its folder is made when it is not there.
    pub path: PathBuf,
    /// How long rounds are kept. Incidents are kept ten times as long: they are few, and what is asked for later.
    pub retention: Duration,
    /// The database's own size may not exceed this; the oldest rounds go first.
    pub max_bytes: u64,
}

/// What happened to the store, for metrics and log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It takes writes again, or for the first time.
    Writable,
    /// A write failed, for this reason; it is tried again.
    Failed(String),
    /// Batches were lost because the queue was full.
    Dropped(u64),
}

/// One judged round, or one exchange on demand (no finding then).
#[derive(Debug, Clone)]
pub struct RoundRecord {
    /// Its number: unique, ascending.
    pub number: i64,
    /// When it ended.
    pub at: Timestamp,
    /// Where the probe stands.
    pub vantage: Vantage,
    /// The target whose comparison this serves.
    pub target: TargetId,
    /// What it is compared with.
    pub control: Option<TargetId>,
    /// How the two relate.
    pub comparison: Comparison,
    /// A closer look, not routine.
    pub closer: bool,
    /// The finding of this round.
    pub finding: Option<Finding>,
    /// The verdict that stands after it.
    pub verdict: Option<Verdict>,
    /// One command line that repeats it.
    pub repeat: String,
    /// Its exchanges, in order of time.
    pub exchanges: Vec<Exchange>,
}

/// What belongs together: it is written whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// A round.
    pub round: Option<Box<RoundRecord>>,
    /// What is remembered of a target, in a form that the engine knows.
    pub memory: Option<(TargetId, String)>,
    /// The detectors that moved.
    pub detectors: Vec<(TargetId, Comparison, Box<DetectorState>)>,
    /// Incidents that began, changed or ended.
    pub incidents: Vec<IncidentRecord>,
    /// Messages that are to be sent: a unique id and the message. Known ids are left alone.
    pub outbox: Vec<(String, String)>,
    /// Messages that were delivered or given up.
    pub sent: Vec<String>,
    /// Cancelled when it is written, or never will be.
    pub settled: CancellationToken,
}

/// A start of the daemon and how long it is known to have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Run {
    /// When it started.
    pub started_at: Timestamp,
    /// When it last wrote.
    pub seen_at: Timestamp,
    /// It ended in order.
    pub ended: bool,
}
