//! What `analyze` says: one document, or lines for a person.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    analysis::curve::{CurveFinding, CurveMechanism},
    cli::{EXIT_ACCUSES, EXIT_CLEAR, EXIT_UNDECIDED},
    model::{Comparison, Finding, SeriesReport, SeriesState, Verdict},
};

/// The version of the document.
const SCHEMA: &str = "throttlescope/analysis/1";

/// Everything that was found in the files.
#[derive(Serialize)]
pub(super) struct Analysis {
    schema: &'static str,
    version: &'static str,
    pub(super) malformed_rows: u64,
    pub(super) series: Vec<SeriesReport>,
    pub(super) rounds: Vec<RoundReport>,
    pub(super) curves: Vec<CurveReport>,
}

/// One round of our own measurements, judged again.
#[derive(Serialize)]
pub(super) struct RoundReport {
    pub(super) started_at: jiff::Timestamp,
    pub(super) round: u32,
    pub(super) subject: String,
    pub(super) control: Option<String>,
    pub(super) comparison: Comparison,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

/// One transfer curve.
#[derive(Serialize)]
pub(super) struct CurveReport {
    id: String,
    name: Option<String>,
    mechanism: &'static str,
    limit_bytes_per_second: Option<f64>,
    limit_ci: Option<[f64; 2]>,
    burst_bytes: Option<u64>,
    confidence: f64,
    bytes: u64,
    duration_s: f64,
    rtt_s: Option<f64>,
    segments: Option<u64>,
    losses: Option<u64>,
}

impl CurveReport {
    pub(super) fn new(curve: crate::recorded::RecordedCurve, finding: &CurveFinding) -> Self {
        let last = curve.points.last();
        Self {
            id: curve.id,
            name: curve.name,
            mechanism: finding.mechanism.name(),
            limit_bytes_per_second: finding.limit.map(|limit| limit.value),
            limit_ci: finding.limit.map(|limit| [limit.low, limit.high]),
            burst_bytes: finding.burst_bytes,
            confidence: finding.confidence,
            bytes: last.map_or(0, |point| point.bytes),
            duration_s: last.map_or(0.0, |point| point.at.as_secs_f64()),
            rtt_s: curve.rtt.map(|rtt| rtt.as_secs_f64()),
            segments: curve.segments,
            losses: curve.losses,
        }
    }
}

impl Analysis {
    pub(super) fn new() -> Self {
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            malformed_rows: 0,
            series: Vec::new(),
            rounds: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Curves alone never accuse, nor do they leave anything undecided.
    pub(super) fn exit_status(&self) -> u8 {
        let accuses = self.series.iter().any(|one| !one.incidents.is_empty())
            || self.rounds.iter().any(|round| round.finding.verdict.accuses());
        let undecided = self.series.iter().any(|one| one.state != SeriesState::Normal)
            || self.rounds.iter().any(|round| round.finding.verdict != Verdict::Normal);
        match (accuses, undecided) {
            (true, _) => EXIT_ACCUSES,
            (false, true) => EXIT_UNDECIDED,
            (false, false) => EXIT_CLEAR,
        }
    }

    /// The same for a person.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        render_series(&mut text, &self.series);
        for round in &self.rounds {
            let _ = writeln!(
                text,
                "{} {} ({}): {}",
                round.started_at,
                round.subject,
                round.comparison.name(),
                round.finding.verdict
            );
        }
        render_curves(&mut text, &self.curves);
        if self.malformed_rows > 0 {
            let _ = writeln!(text, "{} malformed rows were left out", self.malformed_rows);
        }
        text
    }
}

/// One line for each series with an incident, and a count of the rest.
fn render_series(text: &mut String, series: &[SeriesReport]) {
    if series.is_empty() {
        return;
    }
    for one in series.iter().filter(|one| !one.incidents.is_empty()) {
        let _ = writeln!(text, "{} {}: {}", one.vantage, one.target, one.state);
        for incident in &one.incidents {
            let end = incident.end.map_or_else(|| "lasting".to_owned(), |end| format!("until {end}"));
            let _ = writeln!(
                text,
                "  {} since {} ({end}), {:.0} % of {} tests",
                incident.verdict,
                incident.onset,
                incident.share * 100.0,
                incident.tests
            );
        }
    }
    let quiet = series.iter().filter(|one| one.incidents.is_empty()).count();
    let _ = writeln!(text, "{quiet} series without an incident");
}

/// Curves a person still reads one by one.
const CURVES_LISTED_MAX: usize = 50;

fn render_curves(text: &mut String, curves: &[CurveReport]) {
    if curves.is_empty() {
        return;
    }
    for curve in curves.iter().take(CURVES_LISTED_MAX) {
        let _ = write!(text, "{}", curve.id);
        if let Some(name) = &curve.name {
            let _ = write!(text, " ({name})");
        }
        let _ = write!(text, ": {} bytes in {:.2} s, {}", curve.bytes, curve.duration_s, curve.mechanism);
        if let (Some(limit), Some([low, high])) = (curve.limit_bytes_per_second, curve.limit_ci) {
            let [limit, low, high] = [limit, low, high].map(|value| value * 8.0 / 1e3);
            let _ = write!(text, " at {limit:.0} kbit/s ({low:.0} to {high:.0})");
        }
        let _ = writeln!(text);
    }
    if curves.len() > CURVES_LISTED_MAX {
        let _ = writeln!(text, "… and {} more", curves.len() - CURVES_LISTED_MAX);
    }
    let _ = write!(text, "{} curves:", curves.len());
    for mechanism in CurveMechanism::ALL {
        let count = curves.iter().filter(|curve| curve.mechanism == mechanism.name()).count();
        if count > 0 {
            let _ = write!(text, " {count} {mechanism}");
        }
    }
    let _ = writeln!(text, " (a curve describes; it accuses nobody)");
}
