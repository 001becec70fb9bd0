//! Findings for people and programs: terminal, JSON, OONI, CSV.
//!
//! Translates and never judges. Bits appear here and only here: programs get bytes per second, people kbit/s.

pub mod json;
pub mod ooni;
pub mod paired;
pub mod text;
pub mod units;
pub mod words;

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Judgement, Vantage};

/// All that one run of `measure`, `compare` or `sweep` came to.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Where the probe stands.
    pub vantage: Vantage,
    /// One per subject and comparison, the strongest comparison of a subject first.
    pub judgements: Vec<Judgement>,
}
