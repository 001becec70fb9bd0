//! An exchange with the context in which it was taken: what is stored, exported and judged.

use serde::{Deserialize, Serialize};

use super::{Comparison, Exchange, TargetId, Vantage};

/// The version of the NDJSON record.
pub const MEASUREMENT_SCHEMA: &str = "throttlescope/measurement/1";

/// One exchange, for which subject and against which control it was taken. One line of NDJSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Always [`MEASUREMENT_SCHEMA`].
    pub schema: String,
    /// Where it was taken.
    pub vantage: Vantage,
    /// The target whose comparison this serves.
    pub subject: TargetId,
    /// What it is compared with; `None` with `history` and `none`.
    pub control: Option<TargetId>,
    /// How the two relate.
    pub comparison: Comparison,
    /// What happened.
    pub exchange: Exchange,
}
