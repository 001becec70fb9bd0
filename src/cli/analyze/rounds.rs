//! Our own measurements: each round judged again, and its pairs as paired CSV has them.

use std::{collections::VecDeque, io};

use jiff::SignedDuration;

use super::report::RoundReport;
use crate::{
    analysis::round::{RoundJudge, RoundSettings},
    model::Measurement,
    report::paired::PairedWriter,
};

/// Exchanges that are held while the rest of their rounds may follow. An export has those of a round one after another;
/// other tools may have mixed them.
const HELD_MAX: usize = 2_048;

/// No round lasts so long: one of the same number that is further away is another's, after a restart.
const ROUND_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Puts exchanges together to rounds, and judges each round as it was judged when it was taken.
pub(super) struct Rounds<'a> {
    open: VecDeque<Vec<Measurement>>,
    held: usize,
    pairs: PairedWriter<&'a mut Vec<u8>>,
    reports: Vec<RoundReport>,
}

impl<'a> Rounds<'a> {
    /// The pairs are written into `csv`.
    pub(super) fn new(csv: &'a mut Vec<u8>) -> io::Result<Self> {
        Ok(Self { open: VecDeque::new(), held: 0, pairs: PairedWriter::new(csv)?, reports: Vec::new() })
    }

    pub(super) fn add(&mut self, measurement: Measurement) -> io::Result<()> {
        match self.open.iter_mut().rev().find(|members| is_of_round(members, &measurement)) {
            Some(members) => members.push(measurement),
            None => self.open.push_back(vec![measurement]),
        }
        self.held += 1;
        if self.held > HELD_MAX { self.close_first() } else { Ok(()) }
    }

    /// The rounds in order of time; the pairs are all written then.
    pub(super) fn finish(mut self) -> io::Result<Vec<RoundReport>> {
        while !self.open.is_empty() {
            self.close_first()?;
        }
        self.pairs.finish()?;
        self.reports.sort_by_key(|report| report.started_at);
        Ok(self.reports)
    }

    fn close_first(&mut self) -> io::Result<()> {
        let Some(members) = self.open.pop_front() else { return Ok(()) };
        self.held -= members.len();
        let number = self.reports.len().cast_signed() as i64;
        for member in &members {
            self.pairs.add(number, member)?;
        }
        self.reports.extend(judge(members));
        Ok(())
    }
}

fn is_of_round(members: &[Measurement], one: &Measurement) -> bool {
    members.first().is_some_and(|first| {
        let apart = one.exchange.started_at.duration_since(first.exchange.started_at);
        (one.exchange.round, one.comparison) == (first.exchange.round, first.comparison)
            && (&one.subject, &one.control, &one.vantage) == (&first.subject, &first.control, &first.vantage)
            && apart.abs() < ROUND_MAX
    })
}

fn judge(members: Vec<Measurement>) -> Option<RoundReport> {
    let started_at = members.iter().map(|member| member.exchange.started_at).min()?;
    let Measurement { subject, control, comparison, exchange, .. } = members.first()?;
    let (comparison, round) = (*comparison, exchange.round);
    let (subject, control) = (subject.to_string(), control.as_ref().map(ToString::to_string));
    let mut judge = RoundJudge::new(RoundSettings { comparison, ..RoundSettings::default() });
    for member in members {
        judge.add(member.exchange);
    }
    Some(RoundReport { started_at, round, subject, control, comparison, finding: judge.finding() })
}
