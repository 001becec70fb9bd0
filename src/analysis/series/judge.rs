//! A whole recording at once: rows in any order, one report for each series.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    detector::{SeriesDetector, Settings, block},
    evidence::{Observed, PairedTest},
};
use crate::model::{PairedRow, SeriesReport};

/// What a canary's series is called after its target.
pub const CANARY_SUFFIX: &str = "#canary";

/// A test and when it was taken.
type Timed = (Timestamp, PairedTest);

/// Judges a recording: one report for each vantage and target, and one for its canary where there is one. The order of
/// the rows, the unit of the goodputs and the time zone change nothing. Reports are sorted by vantage and target.
pub fn judge(rows: &[PairedRow]) -> Vec<SeriesReport> {
    let mut series: BTreeMap<(&str, &str, bool), Vec<Timed>> = BTreeMap::new();
    for row in rows {
        let key = (row.vantage.as_str(), row.target.as_str());
        series.entry((key.0, key.1, false)).or_default().push((row.at, pair(row.subject, row.control)));
        if row.canary.is_some() {
            series.entry((key.0, key.1, true)).or_default().push((row.at, pair(row.canary, row.control)));
        }
    }
    for samples in series.values_mut() {
        samples.sort_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| order(&a.1).partial_cmp(&order(&b.1)).unwrap_or(std::cmp::Ordering::Equal))
        });
    }
    let tests = series.values().map(|samples| windows(samples)).sum();
    let until = rows.iter().map(|row| row.at).max();
    series
        .into_iter()
        .map(|((vantage, target, canary), samples)| {
            let target = if canary { format!("{target}{CANARY_SUFFIX}") } else { target.to_owned() };
            judge_one(vantage.to_owned(), target, &samples, Settings::recorded(tests), until)
        })
        .collect()
}

fn judge_one(
    vantage: String,
    target: String,
    samples: &[Timed],
    settings: Settings,
    until: Option<Timestamp>,
) -> SeriesReport {
    let mut detector = SeriesDetector::new(settings);
    for &(at, pair) in samples {
        detector.observe(at, pair);
    }
    detector.finish();
    if let Some(until) = until {
        detector.tick(until);
    }
    SeriesReport {
        vantage,
        operator: None,
        target,
        rows: samples.len() as u64,
        tests: detector.memory().tests,
        state: detector.state(),
        last_row: detector.memory().last_at.unwrap_or(Timestamp::UNIX_EPOCH),
        incidents: detector.incidents().cloned().collect(),
    }
}

fn pair(subject: Option<f64>, control: Option<f64>) -> PairedTest {
    let observed = |goodput: Option<f64>| goodput.map_or(Observed::Unknown, Observed::Goodput);
    PairedTest { subject: observed(subject), control: observed(control) }
}

/// What rows of one moment are sorted by, so that their order in the file does not matter.
fn order(pair: &PairedTest) -> [f64; 2] {
    [pair.subject, pair.control].map(|observed| match observed {
        Observed::Goodput(goodput) | Observed::AtMost(goodput) => goodput,
        Observed::Failed | Observed::Unknown => -1.0,
    })
}

/// How many tests the samples, in order of time, count as.
fn windows(samples: &[Timed]) -> u64 {
    let window = Settings::recorded(0).window;
    samples.chunk_by(|a, b| block(a.0, window) == block(b.0, window)).count() as u64
}
