//! The memory of the detector that watches one series over time, and what it reports.
//!
//! A series is one (vantage, target, comparison). The state is plain data, so that a store can keep it over a restart;
//! the rules that move it live in `analysis::series`. Everything in it is bounded.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How a series stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SeriesState {
    /// No test for longer than the series' silence: it says nothing about the present.
    #[default]
    NoData,
    /// Enough tests, and too few of them affected for an interference of a third of them.
    Normal,
    /// Evidence of an onset gathers but does not suffice. In documents `inconclusive`.
    Suspected,
    /// An incident lasts, and nearly every test is slowed down.
    Throttled,
    /// An incident lasts, and nearly every test freezes.
    Frozen,
    /// An incident lasts, and nearly every test is blocked.
    Blocked,
    /// An incident lasts, and some tests are affected while others are not: a patchy deployment.
    Mixed,
    /// The control is slow too.
    Degraded,
    /// Too few tests to say.
    Inconclusive,
}

impl SeriesState {
    /// The word used in JSON and documents; suspicion is `inconclusive` there.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::Normal => "normal",
            Self::Suspected | Self::Inconclusive => "inconclusive",
            Self::Throttled => "throttled",
            Self::Frozen => "frozen",
            Self::Blocked => "blocked",
            Self::Mixed => "mixed",
            Self::Degraded => "degraded",
        }
    }

    /// Whether an incident lasts.
    pub const fn accuses(self) -> bool {
        matches!(self, Self::Throttled | Self::Frozen | Self::Blocked | Self::Mixed)
    }
}

impl Serialize for SeriesState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl std::fmt::Display for SeriesState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A span of time in which a series was interfered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// What happened: `throttled`, `frozen` or `blocked`.
    pub verdict: Verdict,
    /// When it set in, as estimated: the first affected test, not the moment of the alarm.
    pub onset: Timestamp,
    /// The onset lies in here with 95 % probability; it cannot begin before the series does.
    pub onset_interval: [Timestamp; 2],
    /// The series begins inside the incident: the true onset may be earlier than all data.
    pub onset_before_data: bool,
    /// When the alarm was raised.
    pub alarm: Timestamp,
    /// When it ended, as estimated: the first test that is free again; `None` while it lasts. Until the evidence is strong
    /// it is provisional, and withdrawn when affected tests come back.
    pub end: Option<Timestamp>,
    /// The end lies in here with 95 % probability.
    pub end_interval: Option<[Timestamp; 2]>,
    /// The share of its tests that were affected, 0 to 1.
    pub share: f64,
    /// The tests between onset and end.
    pub tests: u64,
    /// Bound on the expected number of incidents this strong among all tests that are judged together, were there no
    /// interference at all and the chance of a slow test, given the past, as assumed.
    pub false_alarm_bound: f64,
    /// The same bound when tests within six hours may depend on each other in any way.
    pub false_alarm_bound_blocks: f64,
}

/// One counted test: all samples of one grouping window together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CountedTest {
    /// The first sample.
    pub from: Timestamp,
    /// The last sample.
    pub until: Timestamp,
    /// The share of its samples that were affected.
    pub affected: f64,
    /// Its e-value against "no interference": the mean over samples and alternatives.
    pub e_value: f64,
}

/// The samples of the grouping window that is still open, as sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenTest {
    /// The first sample.
    pub from: Timestamp,
    /// The last sample.
    pub until: Timestamp,
    /// Samples that carry information.
    pub informative: u32,
    /// Samples whose control was slow, or that were judged `degraded`.
    pub degraded: u32,
    /// Samples that were affected.
    pub affected: u32,
    /// Samples in which the control was as much slower than the subject: noise of the line.
    pub reversed: u32,
    /// Sums of the e-values, one for each alternative.
    pub e_values: Vec<f64>,
    /// Control goodputs, bytes per second; bounded.
    pub controls: Vec<f64>,
    /// Samples that were judged `frozen`.
    pub frozen: u32,
    /// Samples that were judged `blocked` or in which the subject failed.
    pub blocked: u32,
}

/// An incident that lasts, with the running sums that close it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenIncident {
    /// What is known so far.
    pub incident: Incident,
    /// Goes on after a pause that turned out to be none: its onset is settled.
    pub resumed: bool,
    /// Tests since the onset, also those after a provisional end.
    pub tests: u64,
    /// Sum of the affected shares of those.
    pub affected: f64,
    /// The share of its last tests when nothing spoke for an end; `None` before that was so.
    pub steady_share: Option<f64>,
    /// Log evidence that it is over, without the block that is still open.
    pub end_evidence: f64,
    /// The block of tests that may depend on each other: its number since 1970, its sum of e-values, their count.
    pub end_block: Option<(i64, f64, u32)>,
    /// Log evidence of the onset, per test, at its peak.
    pub evidence: f64,
    /// The same per block of six hours.
    #[serde(default)]
    pub blocks: BlockEvidence,
    /// Affected samples that were frozen, blocked, and all.
    pub kinds: [u64; 3],
}

/// Log evidence of an onset when tests of one block may depend on each other in any way: the mean within a block, the
/// product over blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockEvidence {
    /// Of the blocks that are over.
    pub finished: f64,
    /// The block that is still open: its number since 1970, its sum of e-values, their count.
    pub open: Option<(i64, f64, u32)>,
    /// The highest that those ever reached.
    pub peak: f64,
}

/// How often affected tests come in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Excursion {
    /// Tests that came right after an affected one.
    pub followed: u32,
    /// Of those, affected themselves.
    pub again: u32,
    /// Affected samples that were frozen, blocked, and all.
    pub kinds: [u64; 3],
}

/// All that a detector remembers of a series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorState {
    /// The window that is still open.
    pub open: Option<OpenTest>,
    /// Log evidence since the last reset, one for each alternative; never below zero.
    pub evidence: Vec<f64>,
    /// Tests counted so far.
    pub tests: u64,
    /// Samples seen so far, whether informative or not.
    pub samples: u64,
    /// Sum of the shares of reversed samples.
    pub reversed: f64,
    /// What was learned of affected tests that led to no alarm.
    pub innocent: Excursion,
    /// The same since the evidence was last at nothing; learned when it falls back there.
    pub excursion: Excursion,
    /// The last tests, oldest first; reaches back at most to the end of the last incident.
    pub recent: VecDeque<CountedTest>,
    /// The first test of all.
    pub first_at: Option<Timestamp>,
    /// The last sample of all.
    pub last_at: Option<Timestamp>,
    /// The usual control goodput: medians of the last tests whose control was not slow, bytes per second.
    pub controls: VecDeque<f64>,
    /// Consecutive tests whose control was slow.
    pub slow_streak: u32,
    /// Gaps between tests, in seconds, the last few.
    pub gaps: VecDeque<f64>,
    /// The incident that lasts.
    pub incident: Option<OpenIncident>,
    /// Incidents that are over, oldest first, the last few.
    pub closed: VecDeque<Incident>,
    /// Silence was reported.
    pub silent: bool,
}

/// One row of a recording of paired tests. `None` is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedRow {
    /// When.
    pub at: Timestamp,
    /// Where, in the words of the recording.
    pub vantage: String,
    /// What.
    pub target: String,
    /// Goodput from the target, bytes per second.
    pub subject: Option<f64>,
    /// Goodput from the control, bytes per second.
    pub control: Option<f64>,
    /// Goodput from a host that only a careless rule would throttle, bytes per second.
    pub canary: Option<f64>,
}

/// What `analyze` says of one series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesReport {
    /// Where it was measured, in the words of the recording.
    pub vantage: String,
    /// Who runs the vantage's network, where the recording says so.
    pub operator: Option<String>,
    /// What was measured; a canary's name ends in `#canary`.
    pub target: String,
    /// Rows it was made of.
    pub rows: u64,
    /// Tests that counted: rows within five minutes count once, rows that say nothing not at all.
    pub tests: u64,
    /// How it stands when the recording ends.
    pub state: SeriesState,
    /// The last of its rows.
    pub last_row: Timestamp,
    /// What happened, oldest first.
    pub incidents: Vec<Incident>,
}
