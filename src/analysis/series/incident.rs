//! The rules of onset and end: when evidence suffices, and what is then reported.

use jiff::Timestamp;

use super::{
    detector::Settings,
    evidence::ALTERNATIVES,
    moment::{Change, change},
};
use crate::model::{CountedTest, DetectorState, Incident, OpenIncident, OpenTest, Verdict};

/// Evidence that an incident is over must reach this: a false end about once in a thousand tests at most. It accuses
/// nobody, and the incident is found again.
const END_RUN_LENGTH: f64 = 1_000.0;

/// The chance of an affected test outside incidents, as far as moments and ends are concerned.
const BACKGROUND: f64 = 0.03;

/// The share that an incident is held to have when its end is looked for. Not more than this: on the most thoroughly
/// throttled networks one visitor behind a tunnel tests several times in a row.
const END_SHARE: [f64; 2] = [0.15, 0.8];

/// The onset is estimated anew with every test until the incident has so many.
const SETTLED_TESTS: u64 = 128;

/// Tests within this time may depend on each other in any way, for the second bound.
const BLOCK_SECONDS: i64 = 6 * 3600;

/// A bound below this would claim more than any assumption carries.
const BOUND_MIN: f64 = 1e-12;

/// The log evidence at which an alarm is raised: the alternatives share the run length equally.
pub(super) fn alarm_level(run_length: f64) -> f64 {
    (run_length * ALTERNATIVES.len() as f64).ln()
}

/// Outside an incident: multiplies the evidence, and opens an incident when it suffices.
pub(super) fn look_for_onset(
    state: &mut DetectorState,
    open: &OpenTest,
    values: &[f64],
    settings: &Settings,
) -> Option<Incident> {
    for (evidence, value) in state.evidence.iter_mut().zip(values) {
        *evidence = evidence.max(0.0) + value.ln();
    }
    let highest = state.evidence.iter().copied().fold(0.0, f64::max);
    if highest < alarm_level(settings.run_length) || open.affected == 0 {
        return None;
    }
    let mut found = OpenIncident {
        incident: Incident {
            verdict: Verdict::Throttled,
            onset: open.from,
            onset_interval: [open.from; 2],
            onset_before_data: false,
            alarm: open.until,
            end: None,
            end_interval: None,
            share: 0.0,
            tests: 0,
            false_alarm_bound: 1.0,
            false_alarm_bound_blocks: 1.0,
        },
        affected: 0.0,
        end_evidence: 0.0,
        evidence: highest,
        kinds: [u64::from(open.frozen), u64::from(open.blocked), u64::from(open.affected)],
    };
    place_onset(state, &mut found, settings);
    state.evidence.fill(0.0);
    let incident = found.incident.clone();
    state.incident = Some(found);
    Some(incident)
}

/// Within an incident: adds the test, and closes the incident when the evidence for its end suffices.
pub(super) fn go_on(
    state: &mut DetectorState,
    open: &OpenTest,
    test: &CountedTest,
    values: &[f64],
    settings: &Settings,
) -> Option<Incident> {
    let mut lasting = state.incident.take()?;
    lasting.kinds[0] += u64::from(open.frozen);
    lasting.kinds[1] += u64::from(open.blocked);
    lasting.kinds[2] += u64::from(open.affected);
    lasting.incident.verdict = verdict(lasting.kinds);
    lasting.evidence += values.iter().copied().fold(0.0, f64::max).ln().max(0.0);
    if lasting.incident.tests < SETTLED_TESTS {
        place_onset(state, &mut lasting, settings);
    } else {
        lasting.incident.tests += 1;
        lasting.affected += test.affected;
        lasting.incident.share = lasting.affected / lasting.incident.tests as f64;
    }
    let share = lasting.incident.share.clamp(END_SHARE[0], END_SHARE[1]);
    // The mean over the samples of a window, as everywhere: rows of one window may be one visitor.
    let value =
        test.affected * (BACKGROUND / share) + (1.0 - test.affected) * (1.0 - BACKGROUND) / (1.0 - share);
    lasting.end_evidence = (lasting.end_evidence + value.ln()).max(0.0);
    if lasting.end_evidence < END_RUN_LENGTH.ln() {
        state.incident = Some(lasting);
        return None;
    }
    let incident = close(state, lasting);
    state.closed.push_back(incident.clone());
    Some(incident)
}

/// Estimates the onset from the tests since the last incident, and counts the tests since.
fn place_onset(state: &DetectorState, lasting: &mut OpenIncident, settings: &Settings) {
    let shares: Vec<f64> = state.recent.iter().map(|test| test.affected).collect();
    let rough = change(&shares, BACKGROUND, 0.5).at;
    let since = &shares[rough.min(shares.len())..];
    let share = (since.iter().sum::<f64>() / since.len().max(1) as f64).clamp(0.1, 0.95);
    let found = change(&shares, BACKGROUND, share);
    let since = &shares[found.at.min(shares.len())..];
    lasting.affected = since.iter().sum();
    lasting.incident.tests = since.len() as u64;
    lasting.incident.share = lasting.affected / since.len().max(1) as f64;
    if let Some((onset, interval)) = moment(state, found) {
        lasting.incident.onset = onset;
        lasting.incident.onset_interval = interval;
    }
    lasting.incident.onset_before_data =
        found.earliest == 0 && state.first_at == state.recent.front().map(|test| test.from);
    let bound = |evidence: f64| {
        let expected = settings.tests_together as f64 * ALTERNATIVES.len() as f64 * (-evidence).exp();
        expected.clamp(BOUND_MIN, 1.0)
    };
    lasting.incident.false_alarm_bound = bound(lasting.evidence);
    lasting.incident.false_alarm_bound_blocks = bound(block_evidence(state, found.at));
}

/// The log evidence of the tests from `onset` on, when those of one block may depend on each other in any way: the mean
/// within a block, the product over blocks.
fn block_evidence(state: &DetectorState, onset: usize) -> f64 {
    let tests: Vec<&CountedTest> = state.recent.iter().skip(onset).collect();
    tests
        .chunk_by(|a, b| block(a.from) == block(b.from))
        .map(|block| (block.iter().map(|test| test.e_value).sum::<f64>() / block.len() as f64).ln())
        .sum()
}

fn block(at: Timestamp) -> i64 {
    at.as_second().div_euclid(BLOCK_SECONDS)
}

/// Closes an incident: estimates its end and takes back the tests after it.
fn close(state: &mut DetectorState, mut lasting: OpenIncident) -> Incident {
    let onset = state.recent.partition_point(|test| test.from < lasting.incident.onset);
    let shares: Vec<f64> = state.recent.iter().skip(onset).map(|test| test.affected).collect();
    let share = lasting.incident.share.clamp(END_SHARE[0], 0.95);
    let found = change(&shares, share, BACKGROUND);
    let found =
        Change { at: found.at + onset, earliest: found.earliest + onset, latest: found.latest + onset };
    if let Some((end, interval)) = moment(state, found) {
        lasting.incident.end = Some(end);
        lasting.incident.end_interval = Some(interval);
    }
    for test in state.recent.iter().skip(found.at) {
        lasting.affected -= test.affected;
        lasting.incident.tests = lasting.incident.tests.saturating_sub(1);
    }
    lasting.incident.share = (lasting.affected / lasting.incident.tests.max(1) as f64).clamp(0.0, 1.0);
    state.recent.drain(..found.at.min(state.recent.len()));
    lasting.incident
}

/// The moment of a change, and its interval: it lies after the test before it and not after the test that shows it.
fn moment(state: &DetectorState, found: Change) -> Option<(Timestamp, [Timestamp; 2])> {
    let at = state.recent.get(found.at)?.from;
    let before = found.earliest.saturating_sub(1);
    let from = if found.earliest == 0 { state.recent.front()?.from } else { state.recent.get(before)?.until };
    Some((at, [from, state.recent.get(found.latest)?.from]))
}

/// What most of the affected samples were.
fn verdict([frozen, blocked, affected]: [u64; 3]) -> Verdict {
    if 2 * blocked > affected {
        Verdict::Blocked
    } else if 2 * frozen > affected {
        Verdict::Frozen
    } else {
        Verdict::Throttled
    }
}
