//! What the page and the API ask of the past. Whoever keeps it answers; without a keeper the page says so.

mod stored;

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{Comparison, Exchange, Incident, Measurement, Mechanism, Phase, TargetId, Verdict};

pub use stored::StoredHistory;

/// The past. Calls may take a while and are made beside the measuring threads.
pub trait History: Send + Sync {
    /// Whether anything was ever kept of a target.
    fn knows(&self, target: &TargetId) -> Result<bool, HistoryError>;

    /// The last good and the last bad exchange of a target.
    fn latest(&self, target: &TargetId) -> Result<Latest, HistoryError>;

    /// What happened to a target between two moments, in so many bins of equal length, oldest first. Bins without
    /// exchanges are there and empty.
    fn series(&self, target: &TargetId, span: [Timestamp; 2], bins: usize) -> Result<Vec<Bin>, HistoryError>;

    /// The incidents that had not ended before `since`, of one target or of all, latest onset first.
    fn incidents(
        &self,
        target: Option<&TargetId>,
        since: Timestamp,
    ) -> Result<Vec<PastIncident>, HistoryError>;

    /// The last exchanges for a target and its control, newest first.
    fn exchanges(&self, target: &TargetId, limit: usize) -> Result<Vec<Measurement>, HistoryError>;

    /// One exchange by its id.
    fn exchange(&self, id: &str) -> Result<Option<Measurement>, HistoryError>;

    /// Writes the measurements of a span, of one target or of all, without holding them in memory.
    fn export(&self, wanted: &ExportRequest, out: &mut dyn Write) -> Result<(), HistoryError>;
}

/// Why the past cannot be read: one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HistoryError(pub String);

/// The last exchanges of two kinds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latest {
    /// The last complete one that no accusing verdict rests on.
    pub good: Option<Exchange>,
    /// The last one that failed, was cut short, or that an accusing verdict rests on.
    pub bad: Option<Exchange>,
}

/// What happened within one bin. Medians; `None` where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bin {
    /// Exchanges with the target.
    pub exchanges: u32,
    /// Of those, failed.
    pub failures: u32,
    /// Goodput of the target.
    pub goodput_bytes_per_second: Option<f64>,
    /// Goodput of its control.
    pub control_goodput_bytes_per_second: Option<f64>,
    /// Seconds of each phase, in the order of `Phase::ALL`.
    pub phases_s: [Option<f64>; Phase::ALL.len()],
    /// The verdict that held at its end.
    pub verdict: Option<Verdict>,
}

/// An incident, open or over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PastIncident {
    /// Whose.
    pub target: TargetId,
    /// By which comparison.
    pub comparison: Comparison,
    /// How, where known.
    pub mechanism: Option<Mechanism>,
    /// Onset, end, verdict, share, bounds.
    #[serde(flatten)]
    pub incident: Incident,
    /// Exchanges that it rests on, a few of the clearest.
    pub exchanges: Vec<String>,
    /// Numbers of the rounds that it rests on, a few of the first and the last.
    pub rounds: Vec<i64>,
    /// The sentence that can be quoted.
    pub summary: String,
}

/// What is to be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// Of one target; `None`: of all.
    pub target: Option<TargetId>,
    /// From when.
    pub from: Option<Timestamp>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// In which form.
    pub format: ExportFormat,
}

/// The forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// One measurement a line, everything kept.
    Ndjson,
    /// One pair a line.
    Csv,
    /// OONI's JSON lines.
    Ooni,
}

impl ExportFormat {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Ndjson, Self::Csv, Self::Ooni];

    /// The name used in addresses and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Ooni => "ooni",
        }
    }
}
