//! Judges a recording again with the judge as it is now: the same exchanges, in the order in which they came, stopped
//! where this judge stops.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use crate::{
    analysis::round::{Next, RoundJudge, RoundSettings},
    model::{Comparison, Exchange, Finding, Role},
};

use super::{
    EvaluateError, Evaluation,
    outcome::{Outcome, Recorded},
};

/// The tests of a recording, judged again. What a judge would have asked for beyond what was recorded it does not get.
pub fn again(file: &Path, pairs: u32) -> Result<Evaluation, EvaluateError> {
    let settings = RoundSettings { pairs_max: pairs, ..RoundSettings::default() };
    let mut outcomes = Vec::new();
    recorded(file, |test| outcomes.push(judge(test, &settings).outcome))?;
    outcomes.sort_by_key(|one| one.number);
    Ok(Evaluation {
        seed: 0,
        parallel: 0,
        tests: outcomes.len() as u32,
        seconds: outcomes.iter().map(|one| one.seconds).sum(),
        laboratories: Vec::new(),
        outcomes,
    })
}

/// Reads a recording, one test at a time. One without any says nothing, and is an error.
pub(super) fn recorded(file: &Path, mut each: impl FnMut(Recorded)) -> Result<(), EvaluateError> {
    let wrong = |what: String| EvaluateError::Record { file: file.to_owned(), what };
    let open = File::open(file).map_err(|error| wrong(error.to_string()))?;
    let mut tests = 0;
    for line in BufReader::new(open).lines() {
        let line = line.map_err(|error| wrong(error.to_string()))?;
        tests += 1;
        each(serde_json::from_str(&line).map_err(|error| wrong(format!("line {tests}: {error}")))?);
    }
    if tests == 0 { Err(wrong("it holds no test".to_owned())) } else { Ok(()) }
}

/// A test judged again.
pub(super) struct Replayed {
    pub(super) outcome: Outcome,
    /// The judge would have gone on where the recording ends.
    pub(super) wants_more: bool,
}

/// Judges a test again; the comparison is the recording's own.
pub(super) fn judge(recorded: Recorded, settings: &RoundSettings) -> Replayed {
    let mut outcome = recorded.outcome;
    let judged: Vec<(Comparison, Round)> = recorded
        .rounds
        .iter()
        .map(|(comparison, exchanges)| {
            let settings = RoundSettings { comparison: *comparison, ..settings.clone() };
            (*comparison, round(settings, exchanges))
        })
        .collect();
    let accusing = judged.iter().find(|(_, round)| round.finding.verdict.accuses());
    let Some((comparison, Round { finding, wants_more, .. })) =
        accusing.or_else(|| judged.iter().max_by_key(|one| one.0))
    else {
        return Replayed { outcome, wants_more: false };
    };
    outcome.comparison = *comparison;
    outcome.verdict = finding.verdict;
    outcome.mechanism = finding.mechanism;
    outcome.blocked_at = finding.blocked_at;
    outcome.evidence = finding.evidence.clone();
    outcome.caveats.clone_from(&finding.caveats);
    let used = || recorded.rounds.iter().zip(&judged).flat_map(|((_, all), (_, round))| &all[..round.used]);
    outcome.exchanges = used().count() as u32;
    outcome.late = used().filter(|one| one.is_late()).count() as u32;
    outcome.bytes = used().map(Exchange::received_bytes).sum();
    outcome.seconds = used().map(|one| one.duration.as_secs_f64()).sum();
    Replayed { outcome, wants_more: *wants_more }
}

struct Round {
    finding: Finding,
    /// Exchanges it took.
    used: usize,
    wants_more: bool,
}

fn round(settings: RoundSettings, exchanges: &[Exchange]) -> Round {
    let mut judge = RoundJudge::new(settings);
    let first =
        exchanges.iter().filter(|one| one.role == Role::Subject && !one.warmup).map(|one| one.pair).min();
    let mut used = 0;
    for unit in exchanges.chunk_by(|one, other| one.pair == other.pair) {
        for one in unit {
            judge.add(one.clone());
        }
        used += unit.len();
        if first.is_some_and(|first| unit[0].pair >= first) && judge.next() == Next::Enough {
            break;
        }
    }
    Round { wants_more: judge.next() != Next::Enough, finding: judge.finding(), used }
}
