//! What each part of the judge buys: a recording judged again with one part left out at a time.
//!
//! A recording ends where the whole judge had enough. One that lacks a part and wants more than was recorded is counted
//! as wanting more; what it would then have said and cost is told by the simulations (`docs/ablations.md`).

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::{
    analysis::{
        round::{Part, RoundSettings},
        stats::{IntervalPart, median},
    },
    model::{Exchange, Mechanism, Phase, Timeline, Verdict},
};

use super::{
    EvaluateError,
    outcome::{Outcome, Recorded},
    replay::{Replayed, judge, recorded},
    tables::SLOWED,
};

/// What is left out: of the judge, or of what it is given.
#[derive(Clone, Copy)]
enum Cut {
    Nothing,
    Part(Part),
    Exchanges(fn(Vec<Exchange>) -> Vec<Exchange>),
}

const CUTS: [(&str, Cut); 11] = [
    ("nothing", Cut::Nothing),
    ("e-value beside the interval", Cut::Part(Part::Evidence)),
    ("learned stake", Cut::Part(Part::LearnedStake)),
    ("Welch below six pairs", Cut::Part(Part::Interval(IntervalPart::Welch))),
    ("trimmed mean at six and seven", Cut::Part(Part::Interval(IntervalPart::Trimmed))),
    ("ranks from eight pairs on", Cut::Part(Part::Interval(IntervalPart::Ranks))),
    ("steady control behind silence", Cut::Part(Part::SteadyControl)),
    ("unfinished transfers", Cut::Exchanges(finished_pairs)),
    ("handshake", Cut::Exchanges(same_handshakes)),
    ("free burst", Cut::Exchanges(from_first_byte)),
    ("lateness", Cut::Exchanges(never_late)),
];

/// What a judge came to.
#[derive(Default)]
struct Row {
    innocent: usize,
    normal: usize,
    accused: usize,
    slowed: usize,
    throttled: usize,
    others: usize,
    others_right: usize,
    named: usize,
    mechanism_right: usize,
    wants_more: usize,
    megabytes: Vec<f64>,
}

/// One table over all tests of a recording, and one over those with which the machine kept up.
pub fn ablate(file: &Path, pairs: u32) -> Result<String, EvaluateError> {
    let mut all: Vec<Row> = CUTS.iter().map(|_| Row::default()).collect();
    let mut kept_up: Vec<Row> = CUTS.iter().map(|_| Row::default()).collect();
    recorded(file, |test| {
        let on_time = test.outcome.kept_up();
        for (index, (_, cut)) in CUTS.iter().enumerate() {
            let settings = |without| RoundSettings { pairs_max: pairs, without, ..RoundSettings::default() };
            let replayed = match cut {
                Cut::Nothing => judge(test.clone(), &settings(None)),
                Cut::Part(part) => judge(test.clone(), &settings(Some(*part))),
                Cut::Exchanges(change) => judge(changed(&test, *change), &settings(None)),
            };
            all[index].add(&replayed);
            if on_time {
                kept_up[index].add(&replayed);
            }
        }
    })?;
    let mut text = String::from("### All tests\n\n");
    render(&mut text, &all);
    text.push_str("\n### The tests with which this machine kept up\n\n");
    render(&mut text, &kept_up);
    Ok(text)
}

fn changed(test: &Recorded, change: fn(Vec<Exchange>) -> Vec<Exchange>) -> Recorded {
    let rounds = test.rounds.iter().map(|(comparison, exchanges)| (*comparison, change(exchanges.clone())));
    Recorded { outcome: test.outcome.clone(), rounds: rounds.collect() }
}

impl Row {
    fn add(&mut self, replayed: &Replayed) {
        let one: &Outcome = &replayed.outcome;
        let accuses = one.verdict.accuses();
        if one.class.is_negative() {
            self.innocent += 1;
            self.normal += usize::from(one.is_right());
            self.accused += usize::from(accuses);
        } else if SLOWED.contains(&one.class) {
            self.slowed += 1;
            self.throttled += usize::from(one.is_right());
        } else {
            self.others += 1;
            self.others_right += usize::from(one.is_right());
        }
        if !one.class.is_negative() && one.verdict == Verdict::Throttled {
            self.named += 1;
            self.mechanism_right += usize::from(one.mechanism == one.truth.mechanism);
            debug_assert!(one.mechanism != Some(Mechanism::ConnectionLimit), "nothing names it");
        }
        self.wants_more += usize::from(replayed.wants_more);
        self.megabytes.push(one.bytes as f64 / 1e6);
    }
}

fn render(text: &mut String, rows: &[Row]) {
    text.push_str(
        "| left out | innocent: right | accused | slowed: found | other interference: right | mechanism right | wants more | MB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for ((name, _), row) in CUTS.iter().zip(rows) {
        let megabytes = median(&row.megabytes).unwrap_or_default();
        let _ = writeln!(
            text,
            "| {name} | {} of {} | {} | {} of {} | {} of {} | {} of {} | {} | {megabytes:.2} |",
            row.normal,
            row.innocent,
            row.accused,
            row.throttled,
            row.slowed,
            row.others_right,
            row.others,
            row.mechanism_right,
            row.named,
            row.wants_more,
        );
    }
}

/// Pairs and singles whose transfers all ended as asked: what does not finish is forgotten.
#[expect(clippy::needless_pass_by_value, reason = "all changes have one signature")]
fn finished_pairs(exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let whole = |unit: &&[Exchange]| unit.iter().all(Exchange::is_complete);
    exchanges.chunk_by(|one, other| one.pair == other.pair).filter(whole).flatten().cloned().collect()
}

/// Every handshake takes the same time, so that it says nothing.
fn same_handshakes(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    for exchange in &mut exchanges {
        let Some(reached) = exchange.phases.reached().filter(|&reached| reached > Phase::Tls) else {
            continue;
        };
        let mut phases = Timeline::default();
        for phase in Phase::ALL.into_iter().filter(|&phase| phase <= reached) {
            match exchange.phases.duration(phase) {
                Some(_) if phase == Phase::Tls => phases.record(phase, Duration::from_millis(50)),
                Some(duration) => phases.record(phase, duration),
                None => phases.skip(phase),
            }
        }
        exchange.phases = phases;
    }
    exchanges
}

/// Bytes are counted as if the free burst had come with the first one, so that the pace is that of the whole transfer.
fn from_first_byte(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    const BURST: u64 = 32_000;
    for exchange in &mut exchanges {
        let points = exchange.curve.points();
        let Some(first) = points.first() else { continue };
        let burst = (first.at, BURST);
        exchange.curve = std::iter::once(burst)
            .chain(points.iter().map(|point| (point.at, point.bytes + BURST)))
            .collect();
    }
    exchanges
}

/// Our own machine is believed to be on time.
fn never_late(mut exchanges: Vec<Exchange>) -> Vec<Exchange> {
    for exchange in &mut exchanges {
        exchange.lateness = Duration::ZERO;
    }
    exchanges
}
