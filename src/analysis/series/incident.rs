//! The rules of onset and end: when evidence suffices, and what is then reported.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    detector::{SeriesEvent, Settings, block},
    evidence::ALTERNATIVES,
    moment::{Change, change},
};
use crate::model::{BlockEvidence, CountedTest, DetectorState, Incident, OpenIncident, OpenTest, Verdict};

/// From this evidence on an end is reported, provisionally: twenty to one. It accuses nobody, and is withdrawn when affected
/// tests bring the evidence below [`END_WITHDRAWN`].
const END_LIKELY: f64 = 20.0;
const END_WITHDRAWN: f64 = 3.0;

/// The chance of an affected test outside incidents, as far as moments and ends are concerned.
const BACKGROUND: f64 = 0.03;

/// The share that an incident is held to have when its end is looked for. Not more than this: on the most thoroughly
/// throttled networks one visitor behind a tunnel tests several times in a row.
const END_SHARE: [f64; 2] = [0.15, 0.7];

/// A patchy share drifts with who tests when; the end is held against the smaller of that of the whole incident and that
/// of so many last tests.
const STEADY_TESTS: usize = 128;

/// The onset is estimated anew with every test until the incident has so many.
const SETTLED_TESTS: u64 = 128;

/// Tests within this time may depend on each other in any way, for the second bound.
const BLOCK: Duration = Duration::from_hours(6);

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
    follows: bool,
    settings: &Settings,
) -> Option<SeriesEvent> {
    let excursion = &mut state.excursion;
    excursion.followed += u32::from(follows);
    excursion.again += u32::from(follows && 2 * open.affected >= open.informative);
    for (sum, more) in excursion.kinds.iter_mut().zip([open.frozen, open.blocked, open.affected]) {
        *sum += u64::from(more);
    }
    let highest = multiply(state, values);
    if highest <= 0.0 {
        let excursion = std::mem::take(&mut state.excursion);
        state.innocent.followed += excursion.followed;
        state.innocent.again += excursion.again;
    }
    if highest < alarm_level(settings.run_length) || open.affected == 0 {
        return None;
    }
    let kinds = std::mem::take(&mut state.excursion).kinds;
    let mut found = OpenIncident {
        incident: Incident {
            verdict: verdict(kinds),
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
        resumed: false,
        tests: 0,
        affected: 0.0,
        steady_share: None,
        end_evidence: 0.0,
        end_block: None,
        evidence: highest,
        blocks: BlockEvidence::default(),
        kinds,
    };
    place_onset(state, &mut found, settings);
    let event = if resume(state, &mut found) {
        SeriesEvent::Resumed(found.incident.clone())
    } else {
        SeriesEvent::Onset(found.incident.clone())
    };
    state.incident = Some(found);
    Some(event)
}

/// Multiplies the evidence of each alternative by that of a test; the product starts afresh when it falls below one. Gives
/// the highest.
fn multiply(state: &mut DetectorState, values: &[f64]) -> f64 {
    for (evidence, value) in state.evidence.iter_mut().zip(values) {
        *evidence = evidence.max(0.0) + value.ln();
    }
    state.evidence.iter().copied().fold(0.0, f64::max)
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
    lasting.evidence = lasting.evidence.max(multiply(state, values));
    if lasting.tests < SETTLED_TESTS && !lasting.resumed {
        place_onset(state, &mut lasting, settings);
    } else {
        lasting.tests += 1;
        lasting.affected += test.affected;
        count_all(&mut lasting);
        add_to_blocks(&mut lasting.blocks, test);
        state_bounds(&mut lasting, settings);
    }
    let evidence = add_end_evidence(&mut lasting, test, settings.end_block);
    if evidence <= 0.0 {
        let last = state.recent.iter().rev().take(STEADY_TESTS);
        let (count, affected) =
            last.fold((0_u32, 0.0), |(count, sum), test| (count + 1, sum + test.affected));
        lasting.steady_share = (count > 0).then(|| affected / f64::from(count));
    }
    if evidence < END_WITHDRAWN.ln() {
        (lasting.incident.end, lasting.incident.end_interval) = (None, None);
    } else if evidence >= END_LIKELY.ln() || lasting.incident.end.is_some() {
        let after = place_end(state, &mut lasting);
        if evidence >= settings.end_evidence.ln() {
            state.evidence.fill(0.0);
            state.recent.drain(..after.min(state.recent.len()));
            state.closed.push_back(lasting.incident.clone());
            return Some(lasting.incident);
        }
    }
    state.incident = Some(lasting);
    None
}

/// Adds a test to the evidence for an end and gives all of it. Tests of one block are averaged, as samples of one window
/// are: within an hour they may be one visitor.
fn add_end_evidence(lasting: &mut OpenIncident, test: &CountedTest, length: Duration) -> f64 {
    let share = lasting.affected / lasting.tests.max(1) as f64;
    let share =
        lasting.steady_share.map_or(share, |steady| steady.min(share)).clamp(END_SHARE[0], END_SHARE[1]);
    let value =
        test.affected * (BACKGROUND / share) + (1.0 - test.affected) * (1.0 - BACKGROUND) / (1.0 - share);
    let mean = |sum: f64, count: u32| (sum / f64::from(count)).ln();
    let number = block(test.from, length);
    let (sum, count) = match lasting.end_block {
        Some((open, sum, count)) if open == number && !length.is_zero() => (sum + value, count + 1),
        finished => {
            let last = finished.map_or(0.0, |(_, sum, count)| mean(sum, count));
            lasting.end_evidence = (lasting.end_evidence + last).max(0.0);
            (value, 1)
        }
    };
    lasting.end_block = Some((number, sum, count));
    (lasting.end_evidence + mean(sum, count)).max(0.0)
}

/// Reports all tests since the onset as the incident's.
fn count_all(lasting: &mut OpenIncident) {
    lasting.incident.tests = lasting.tests;
    lasting.incident.share = lasting.affected / lasting.tests.max(1) as f64;
}

/// Joins a new incident to the one before where the end of that and this onset may be the same moment: then no pause is
/// established. Tests of the supposed pause are counted as well.
fn resume(state: &mut DetectorState, found: &mut OpenIncident) -> bool {
    let touches =
        |last: &mut Incident| last.end_interval.is_some_and(|end| end[1] >= found.incident.onset_interval[0]);
    let Some(last) = state.closed.pop_back_if(touches) else { return false };
    found.resumed = true;
    found.tests = last.tests + state.recent.len() as u64;
    found.affected =
        last.share * last.tests as f64 + state.recent.iter().map(|test| test.affected).sum::<f64>();
    found.incident = Incident { end: None, end_interval: None, ..last };
    count_all(found);
    true
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
    lasting.tests = since.len() as u64;
    count_all(lasting);
    if let Some((onset, interval)) = moment(state, found) {
        lasting.incident.onset = onset;
        lasting.incident.onset_interval = interval;
    }
    lasting.incident.onset_before_data =
        found.earliest == 0 && state.first_at == state.recent.front().map(|test| test.from);
    lasting.blocks = BlockEvidence::default();
    state.recent.iter().skip(found.at).for_each(|test| add_to_blocks(&mut lasting.blocks, test));
    state_bounds(lasting, settings);
}

/// Writes the bounds on false alarms at the evidence reached. An incident that goes on after a pause keeps what it had.
fn state_bounds(lasting: &mut OpenIncident, settings: &Settings) {
    let resumed = lasting.resumed;
    let bound = |evidence: f64, before: f64| {
        let expected = settings.tests_together as f64 * ALTERNATIVES.len() as f64 * (-evidence).exp();
        expected.clamp(BOUND_MIN, if resumed { before } else { 1.0 })
    };
    let incident = &mut lasting.incident;
    incident.false_alarm_bound = bound(lasting.evidence, incident.false_alarm_bound);
    incident.false_alarm_bound_blocks =
        bound(block_evidence(&lasting.blocks), incident.false_alarm_bound_blocks);
}

/// Tests of one block may depend on each other in any way: their mean counts.
fn add_to_blocks(blocks: &mut BlockEvidence, test: &CountedTest) {
    let number = block(test.from, BLOCK);
    let (sum, count) = match blocks.open {
        Some((open, sum, count)) if open == number => (sum + test.e_value, count + 1),
        finished => {
            blocks.finished += finished.map_or(0.0, |(_, sum, count)| (sum / f64::from(count)).ln());
            blocks.peak = blocks.peak.max(blocks.finished);
            (test.e_value, 1)
        }
    };
    blocks.open = Some((number, sum, count));
}

/// The highest that finished blocks reached, or all of them with the open one as it is.
fn block_evidence(blocks: &BlockEvidence) -> f64 {
    let open = blocks.open.map_or(0.0, |(_, sum, count)| (sum / f64::from(count)).ln());
    blocks.peak.max(blocks.finished + open)
}

/// Estimates the end from the tests since the onset, and reports those before it as the incident's. Returns the index of
/// the first test after the end.
fn place_end(state: &DetectorState, lasting: &mut OpenIncident) -> usize {
    let onset = state.recent.partition_point(|test| test.from < lasting.incident.onset);
    let shares: Vec<f64> = state.recent.iter().skip(onset).map(|test| test.affected).collect();
    let share = (lasting.affected / lasting.tests.max(1) as f64).clamp(END_SHARE[0], 0.95);
    let found = change(&shares, share, BACKGROUND);
    let found =
        Change { at: found.at + onset, earliest: found.earliest + onset, latest: found.latest + onset };
    (lasting.incident.end, lasting.incident.end_interval) = moment(state, found).unzip();
    let after = state.recent.iter().skip(found.at);
    let (count, affected) = after.fold((0, 0.0), |(count, sum), test| (count + 1, sum + test.affected));
    lasting.incident.tests = lasting.tests.saturating_sub(count);
    lasting.incident.share =
        ((lasting.affected - affected) / lasting.incident.tests.max(1) as f64).clamp(0.0, 1.0);
    found.at
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
