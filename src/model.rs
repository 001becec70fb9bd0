//! The nouns: what is measured, what was seen, what is made of it.
//!
//! Pure data. Nothing here reads a clock, opens a socket or knows a file; times are arguments, units are bytes and
//! seconds, "unknown" is `None`. Every other room speaks in these words.

mod command;
mod curve;
mod detector;
mod exchange;
mod failure;
mod incident;
mod judgement;
mod measurement;
mod phase;
pub mod profile;
pub mod seconds;
mod status;
mod target;
mod tcp;
mod verdict;

pub use command::{Command, ProbeRefusal, Reply};
pub use curve::{CURVE_POINTS_MAX, CurvePoint, TransferCurve};
pub use detector::{
    BlockEvidence, CountedTest, DetectorState, Excursion, Incident, OpenIncident, OpenTest, PairedRow,
    SeriesReport, SeriesState,
};
pub use exchange::{Exchange, Family, Hello, HelloKind, LATENESS_MAX, Request, Role};
pub use failure::{Failure, FailureDetail, FailureKind};
pub use incident::{IncidentChange, IncidentRecord};
pub use judgement::Judgement;
pub use measurement::{MEASUREMENT_SCHEMA, Measurement};
pub use phase::{Phase, Timeline};
pub use status::{
    BudgetStatus, Event, FindingStatus, PhaseQuantiles, Quantiles, SkipReason, Snapshot, TargetStatus,
};
pub use target::{EndpointKind, Network, Target, TargetId, Vantage};
pub use tcp::{TcpInfo, TcpStats};
pub use verdict::{BlockedAt, Caveat, Comparison, Evidence, Finding, Mechanism, Verdict};
