//! What `analyze` says: one document, or lines for a person.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{
    analysis::{
        curve::{CurveFinding, CurveMechanism},
        series::{CANARY_SUFFIX, EXPECTED_FALSE},
    },
    cli::{EXIT_ACCUSES, EXIT_CLEAR, EXIT_UNDECIDED},
    model::{Comparison, Finding, Incident, SeriesReport, SeriesState, Verdict},
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

    fn is_limited(&self) -> bool {
        ![CurveMechanism::None, CurveMechanism::Unknown].map(CurveMechanism::name).contains(&self.mechanism)
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

    /// Curves alone never accuse, nor do they leave anything undecided. What a target's rounds leave open, its series may
    /// settle, and the reverse: a routine round is one pair, and a few rounds make no series.
    pub(super) fn exit_status(&self) -> u8 {
        let accuses = self.series.iter().any(|one| !one.incidents.is_empty())
            || self.rounds.iter().any(|round| round.finding.verdict.accuses());
        let mut clear: BTreeMap<&str, [Option<bool>; 2]> = BTreeMap::new();
        for one in &self.series {
            let target = one.target.strip_suffix(CANARY_SUFFIX).unwrap_or(&one.target);
            let [by_series, _] = clear.entry(target).or_default();
            *by_series = Some(by_series.unwrap_or(true) && one.state == SeriesState::Normal);
        }
        for one in &self.rounds {
            let [_, by_rounds] = clear.entry(one.subject.as_str()).or_default();
            *by_rounds = Some(by_rounds.unwrap_or(true) && one.finding.verdict == Verdict::Normal);
        }
        let undecided = clear.values().any(|target| !target.contains(&Some(true)));
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
        render_rounds(&mut text, &self.rounds);
        render_curves(&mut text, &self.curves);
        if self.malformed_rows > 0 {
            let _ = writeln!(text, "{} malformed rows were left out", self.malformed_rows);
        }
        text
    }
}

/// Each series with an incident, and how the others stand.
fn render_series(text: &mut String, series: &[SeriesReport]) {
    if series.is_empty() {
        return;
    }
    for one in series.iter().filter(|one| !one.incidents.is_empty()) {
        let operator = one.operator.as_ref().map_or_else(String::new, |operator| format!(" {operator},"));
        let _ = write!(text, "{}{operator} {}: {}", one.vantage, one.target, one.state);
        if one.state == SeriesState::NoData {
            let _ = write!(text, " after {}", one.last_row);
        }
        text.push('\n');
        one.incidents.iter().for_each(|incident| render_incident(text, incident));
    }
    let tests: u64 = series.iter().map(|one| one.tests).sum();
    let _ = write!(text, "{} series, {tests} tests:", series.len());
    let mut states: Vec<(&str, usize)> = Vec::new();
    for one in series {
        match states.iter_mut().find(|(state, _)| *state == one.state.name()) {
            Some((_, count)) => *count += 1,
            None => states.push((one.state.name(), 1)),
        }
    }
    states.sort_by_key(|&(state, count)| (std::cmp::Reverse(count), state));
    let states: Vec<String> = states.iter().map(|(state, count)| format!(" {count} {state}")).collect();
    let incidents: usize = series.iter().map(|one| one.incidents.len()).sum();
    let _ = writeln!(
        text,
        "{}. {incidents} incidents, of which {EXPECTED_FALSE} by chance are to be expected at most",
        states.join(",")
    );
}

fn render_incident(text: &mut String, incident: &Incident) {
    let span = |[from, until]: [jiff::Timestamp; 2]| format!("{from} to {until}");
    let _ = write!(text, "  {} since {}", incident.verdict, incident.onset);
    let _ = write!(text, " ({})", span(incident.onset_interval));
    if incident.onset_before_data {
        text.push_str(" or before the recording");
    }
    match (incident.end, incident.end_interval) {
        (Some(end), Some(interval)) => {
            let _ = write!(text, " until {end} ({})", span(interval));
        }
        _ => text.push_str(", lasting"),
    }
    let _ = writeln!(
        text,
        "; {:.0} % of {} tests; by chance {:.1e} times in all tests, {:.1e} where those of six hours belong together",
        incident.share * 100.0,
        incident.tests,
        incident.false_alarm_bound,
        incident.false_alarm_bound_blocks,
    );
}

/// Rounds and curves that a person still reads one by one.
const ROUNDS_LISTED_MAX: usize = 50;
const CURVES_LISTED_MAX: usize = 50;

/// Each round, of many only those that accuse, and how many came to what.
fn render_rounds(text: &mut String, rounds: &[RoundReport]) {
    if rounds.is_empty() {
        return;
    }
    let many = rounds.len() > ROUNDS_LISTED_MAX;
    let listed = rounds.iter().filter(|round| !many || round.finding.verdict.accuses());
    for round in listed.take(ROUNDS_LISTED_MAX) {
        let (at, subject, comparison) = (round.started_at, &round.subject, round.comparison.name());
        let _ = writeln!(text, "{at} {subject} ({comparison}): {}", round.finding.verdict);
    }
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .map(|verdict| (verdict, rounds.iter().filter(|round| round.finding.verdict == *verdict).count()))
        .filter(|&(_, count)| count > 0)
        .map(|(verdict, count)| format!(" {count} {verdict}"))
        .collect();
    let plural = if rounds.len() == 1 { "" } else { "s" };
    let _ = writeln!(text, "{} round{plural}, each judged alone:{}", rounds.len(), counts.join(","));
}

fn render_curves(text: &mut String, curves: &[CurveReport]) {
    if curves.is_empty() {
        return;
    }
    // Of many the limited ones are worth a line.
    let mut listed: Vec<&CurveReport> = curves.iter().collect();
    if curves.len() > CURVES_LISTED_MAX {
        listed.sort_by_key(|curve| !curve.is_limited());
    }
    for curve in listed.into_iter().take(CURVES_LISTED_MAX) {
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
    let plural = if curves.len() == 1 { "" } else { "s" };
    let _ = write!(text, "{} curve{plural}:", curves.len());
    for mechanism in CurveMechanism::ALL {
        let count = curves.iter().filter(|curve| curve.mechanism == mechanism.name()).count();
        if count > 0 {
            let _ = write!(text, " {count} {mechanism}");
        }
    }
    let _ = writeln!(text, " (a curve describes; it accuses nobody)");
}
