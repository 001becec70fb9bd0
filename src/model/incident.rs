//! An incident with all that belongs to it: what is stored, shown and told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Comparison, Evidence, Incident, Mechanism, TargetId};

/// An incident of one target, open or over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Unique among the incidents of all time: the target and the moment of the alarm.
    pub id: String,
    /// Whose.
    pub target: TargetId,
    /// By which comparison.
    pub comparison: Comparison,
    /// How, where known.
    pub mechanism: Option<Mechanism>,
    /// Onset, end, verdict, share, bounds.
    #[serde(flatten)]
    pub incident: Incident,
    /// The numbers of the finding that it rests on; `None` where pairs of goodputs alone raised it.
    pub evidence: Option<Evidence>,
    /// The sentence that can be quoted.
    pub summary: String,
    /// One command line that repeats the test.
    pub repeat: String,
    /// Numbers of the rounds that it rests on, a few of the first and the last.
    pub rounds: Vec<i64>,
    /// Ids of exchanges that it rests on, a few of the clearest.
    pub exchanges: Vec<String>,
}

impl IncidentRecord {
    /// The id of an incident of this target that was raised then.
    pub fn id_of(target: &TargetId, alarm: Timestamp) -> String {
        format!("{target}@{alarm}")
    }
}

/// What people are told of an incident, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentChange {
    /// It began.
    Began,
    /// It ended.
    Ended,
}

impl IncidentChange {
    /// The name used in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Ended => "ended",
        }
    }
}
