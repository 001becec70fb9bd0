//! Calibration on real transfers: in tests where nobody interferes, exchanges of one server are exchangeable, so that a
//! fair coin may say anew whose each one was. Then every e-value that reaches 1/α is a false alarm by construction, and
//! every interval that leaves out 1 a miss, on lines with all the memory, stalls and rivals that they had.

use std::{fmt::Write as _, path::Path};

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::{
    analysis::round::{RoundJudge, RoundSettings},
    model::{Comparison, Exchange, Role},
};

use super::{Class, EvaluateError, outcome::Recorded, replay::recorded};

/// Draws after which a round ends. A recording that is shorter goes on from its beginning.
const DRAWS: usize = 60;

/// A recording with fewer exchanges is no line.
const EXCHANGES_MIN: usize = 6;

/// The stated probabilities that an e-value ever reaches their inverse, and the stated coverages.
const STATED: [f64; 3] = [0.1, 0.01, 0.001];
const CONFIDENCES: [f64; 2] = [0.9, 0.99];

/// What came out for one class.
#[derive(Clone, Copy, Default)]
struct Count {
    tests: u64,
    rounds: u64,
    reached: [u64; 3],
    missed: [u64; 2],
    accused: u64,
}

/// Judges each innocent test of a recording under `times` drawings of its labels. The table has the observed rates.
pub fn relabel(file: &Path, times: u32) -> Result<String, EvaluateError> {
    let mut counts = [Count::default(); Class::ALL.len()];
    recorded(file, |test| {
        let Some(exchanges) = exchangeable(&test) else { return };
        let count = &mut counts[test.outcome.class as usize];
        count.tests += 1;
        for time in 0..times {
            let seed = u64::from(test.outcome.number) << 32 | u64::from(time);
            count.add(&exchanges, ChaCha8Rng::seed_from_u64(seed));
        }
    })?;
    Ok(render(&counts))
}

/// The exchanges of one server in order of time, where nobody interferes with either name.
fn exchangeable(test: &Recorded) -> Option<Vec<Exchange>> {
    let (_, exchanges) = test.rounds.iter().find(|(comparison, _)| *comparison == Comparison::Sni)?;
    let judged = |one: &&Exchange| !one.warmup && !one.fallback && !one.is_late() && one.role != Role::Canary;
    let exchanges: Vec<Exchange> = exchanges.iter().filter(judged).cloned().collect();
    (test.outcome.class.is_negative() && exchanges.len() >= EXCHANGES_MIN).then_some(exchanges)
}

impl Count {
    fn add(&mut self, exchanges: &[Exchange], mut coin: ChaCha8Rng) {
        let mut next = exchanges.iter().cycle().skip(coin.random_range(0..exchanges.len()));
        let mut judges = CONFIDENCES.map(|confidence| {
            RoundJudge::new(RoundSettings {
                comparison: Comparison::Sni,
                confidence,
                ..RoundSettings::default()
            })
        });
        let (mut best, mut missed, mut accused) = (0.0_f64, [false; 2], false);
        for pair in 0..(2 + DRAWS as u32) {
            let order = if pair < 2 { &[Role::Control][..] } else { judges[1].order(coin.random()) };
            for (position, (&role, exchange)) in order.iter().zip(&mut next).enumerate() {
                let (position, id) = (position as u32, format!("{pair}-{position}"));
                let drawn = Exchange { id, pair, position, role, ..exchange.clone() };
                for judge in &mut judges {
                    judge.add(drawn.clone());
                }
            }
            for (missed, judge) in missed.iter_mut().zip(&judges) {
                let finding = judge.finding();
                let [low, high] = finding.evidence.slowdown_ci;
                *missed |= low.is_some_and(|low| low > 1.0) || high.is_some_and(|high| high < 1.0);
                best = best.max(finding.evidence.e_value);
                accused |= finding.verdict.accuses();
            }
        }
        self.rounds += 1;
        self.accused += u64::from(accused);
        for (count, stated) in self.reached.iter_mut().zip(STATED) {
            *count += u64::from(best >= 1.0 / stated);
        }
        for (count, missed) in self.missed.iter_mut().zip(missed) {
            *count += u64::from(missed);
        }
    }

    fn plus(self, other: Self) -> Self {
        let three = |one: [u64; 3], two: [u64; 3]| [one[0] + two[0], one[1] + two[1], one[2] + two[2]];
        Self {
            tests: self.tests + other.tests,
            rounds: self.rounds + other.rounds,
            reached: three(self.reached, other.reached),
            missed: [self.missed[0] + other.missed[0], self.missed[1] + other.missed[1]],
            accused: self.accused + other.accused,
        }
    }
}

fn render(counts: &[Count; Class::ALL.len()]) -> String {
    let mut text = String::from(
        "| condition | tests | drawings | e ≥ 10 (10 %) | e ≥ 100 (1 %) | e ≥ 1000 (0.1 %) | outside 90 % | outside 99 % | accused |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let all = counts.iter().copied().fold(Count::default(), Count::plus);
    let named = Class::ALL.iter().map(|class| class.name()).zip(counts);
    for (name, count) in named.chain([("all", &all)]).filter(|(_, count)| count.rounds > 0) {
        let share = |part: u64| format!("{:.3} %", 100.0 * part as f64 / count.rounds as f64);
        let cells: Vec<String> = count
            .reached
            .iter()
            .chain(&count.missed)
            .chain([&count.accused])
            .map(|&part| share(part))
            .collect();
        let _ = writeln!(text, "| {name} | {} | {} | {} |", count.tests, count.rounds, cells.join(" | "));
    }
    text
}
