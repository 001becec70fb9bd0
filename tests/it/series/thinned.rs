//! The crowd measurements of 2021 as fewer visitors would have left them.
//!
//! `THROTTLESCOPE_SERIES_SIZE=100` draws 200 times and repeats the table of `docs/accuracy-series.md`.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng, seq::SliceRandom};
use throttlescope::{analysis::series::judge, model::PairedRow};

use super::{FULLY, NEVER, crowd, size, tests_until};

/// Operators that throttled about a third of their lines.
const PARTLY: [&str; 2] = ["AS12389", "AS15378"];

/// The tests within which they are to be found, from the first one of the (thinned) series.
const FULLY_WITHIN: usize = 4;
const PARTLY_WITHIN: usize = 15;

/// What is kept of the recording.
#[derive(Clone, Copy)]
enum Kept {
    /// Every row with this probability.
    Share(f64),
    /// One row of an operator and hour, drawn: a visitor who tests again does so mostly within the hour.
    SingleVisitors,
}

impl Kept {
    fn of(self, rows: &[PairedRow], random: &mut ChaCha8Rng) -> Vec<PairedRow> {
        match self {
            Self::Share(share) => rows.iter().filter(|_| random.random_bool(share)).cloned().collect(),
            Self::SingleVisitors => {
                let mut shuffled: Vec<&PairedRow> = rows.iter().collect();
                shuffled.shuffle(random);
                let mut seen = BTreeSet::new();
                let mut kept: Vec<PairedRow> = shuffled
                    .into_iter()
                    .filter(|row| seen.insert((row.vantage.as_str(), row.at.as_second() / 3_600)))
                    .cloned()
                    .collect();
                kept.sort_by_key(|row| row.at);
                kept
            }
        }
    }
}

/// What came of all draws of one kind.
#[derive(Default)]
struct Tally {
    tests: u64,
    fully: BTreeMap<usize, usize>,
    partly: usize,
    partly_found: usize,
    false_incidents: usize,
    false_most: usize,
    canary: usize,
}

impl Tally {
    fn take(&mut self, rows: &[PairedRow]) {
        let mut false_incidents = 0;
        for report in judge(rows) {
            if report.target.ends_with("#canary") {
                self.canary += report.incidents.len();
                continue;
            }
            let vantage = report.vantage.as_str();
            let alarm = || report.incidents.first().map(|first| tests_until(rows, vantage, first.alarm));
            if FULLY.contains(&vantage) {
                *self.fully.entry(alarm().unwrap_or(usize::MAX)).or_default() += 1;
            } else if PARTLY.contains(&vantage) {
                self.partly_found += usize::from(alarm().is_some());
                self.partly += usize::from(alarm().is_some_and(|test| test <= PARTLY_WITHIN));
            } else if NEVER.contains(&vantage) {
                self.tests += report.tests;
                false_incidents += report.incidents.len();
            }
        }
        self.false_incidents += false_incidents;
        self.false_most = self.false_most.max(false_incidents);
    }

    fn fully_within(&self, tests: usize) -> usize {
        self.fully.range(..=tests).map(|(_, count)| count).sum()
    }
}

#[test]
fn crowd_of_2021_thinned() {
    let Some(rows) = crowd() else { return };
    let draws = 2 * size();
    println!(
        "| kept | fully throttled: within 4, 6, 10 tests, ever | a third: within 15, ever | false incidents on the ten | canary |"
    );
    println!("|---|---|---|---|---|");
    let kinds = [
        ("one half", Kept::Share(0.5)),
        ("one quarter", Kept::Share(0.25)),
        ("single visitors", Kept::SingleVisitors),
    ];
    for (name, kept) in kinds {
        let mut tally = Tally::default();
        for seed in 0..draws as u64 {
            tally.take(&kept.of(&rows, &mut ChaCha8Rng::seed_from_u64(seed)));
        }
        let (fully, partly) = (FULLY.len() * draws, PARTLY.len() * draws);
        let [four, six, ten, ever] = [FULLY_WITHIN, 6, 10, usize::MAX - 1].map(|n| tally.fully_within(n));
        println!(
            "| {name} | {four}, {six}, {ten}, {ever} of {fully} | {}, {} of {partly} | {} in {} tests, {} at most in one draw | {} |",
            tally.partly,
            tally.partly_found,
            tally.false_incidents,
            tally.tests,
            tally.false_most,
            tally.canary
        );
        assert!(
            four * 4 >= fully * 3,
            "{name}: {four} of {fully} fully throttled ones are found within four tests"
        );
        assert_eq!(ever, fully, "{name}");
        assert!(tally.false_most <= 1, "{name}: {} false incidents in one draw", tally.false_most);
        assert!(tally.canary <= draws.div_ceil(20), "{name}: {} incidents of the canary", tally.canary);
    }
}
