//! The past as the store has it.

use std::io::{self, Write};

use jiff::Timestamp;

use super::{Bin, ExportFormat, ExportRequest, History, HistoryError, Latest, PastIncident};
use crate::{
    model::{Measurement, Phase, Role, TargetId},
    report::{ooni, paired::PairedWriter},
    store::{Reader, Row, Span, StoreError},
};

/// Answers from a database, each question on a connection of its own.
#[derive(Debug, Clone)]
pub struct StoredHistory {
    reader: Reader,
}

impl StoredHistory {
    /// The past in this database.
    pub const fn new(reader: Reader) -> Self {
        Self { reader }
    }
}

impl From<StoreError> for HistoryError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// Why an export ended early.
enum Broken {
    Store(StoreError),
    Output(io::Error),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl History for StoredHistory {
    fn knows(&self, target: &TargetId) -> Result<bool, HistoryError> {
        Ok(self.reader.knows(target)?)
    }

    fn latest(&self, target: &TargetId) -> Result<Latest, HistoryError> {
        let [good, bad] = self.reader.latest(target)?;
        let exchange = |measurement: Measurement| measurement.exchange;
        Ok(Latest { good: good.map(exchange), bad: bad.map(exchange) })
    }

    fn series(&self, target: &TargetId, span: [Timestamp; 2], bins: usize) -> Result<Vec<Bin>, HistoryError> {
        let [from, until] = span;
        let length = (until.as_microsecond() - from.as_microsecond()).max(1);
        let mut heaps: Vec<Heap> = Vec::new();
        heaps.resize_with(bins, Heap::default);
        self.reader.rows(target, Span { from: Some(from), until: Some(until) }, |row| {
            let since = i128::from(row.at.as_microsecond() - from.as_microsecond());
            let bin = since * bins as i128 / i128::from(length);
            if let Some(heap) = usize::try_from(bin).ok().and_then(|bin| heaps.get_mut(bin)) {
                heap.add(&row);
            }
        })?;
        Ok(heaps.into_iter().map(Heap::into_bin).collect())
    }

    fn incidents(
        &self,
        target: Option<&TargetId>,
        since: Timestamp,
    ) -> Result<Vec<PastIncident>, HistoryError> {
        let records = self.reader.incidents(target, since)?;
        let past = records.into_iter().map(|record| PastIncident {
            target: record.target,
            comparison: record.comparison,
            mechanism: record.mechanism,
            incident: record.incident,
            exchanges: record.exchanges,
            rounds: record.rounds,
            summary: record.summary,
        });
        Ok(past.collect())
    }

    fn exchanges(&self, target: &TargetId, limit: usize) -> Result<Vec<Measurement>, HistoryError> {
        Ok(self.reader.exchanges(target, limit)?)
    }

    fn exchange(&self, id: &str) -> Result<Option<Measurement>, HistoryError> {
        Ok(self.reader.exchange(id)?)
    }

    fn export(&self, wanted: &ExportRequest, out: &mut dyn Write) -> Result<(), HistoryError> {
        let span = Span { from: wanted.from, until: wanted.until };
        let target = wanted.target.as_ref();
        let written = match wanted.format {
            ExportFormat::Ndjson => self.reader.measurements(target, span, |_, measurement| {
                serde_json::to_writer(&mut *out, &measurement).map_err(io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            }),
            ExportFormat::Ooni => self.reader.measurements(target, span, |_, measurement| {
                serde_json::to_writer(&mut *out, &ooni::measurement(&measurement))
                    .map_err(io::Error::from)?;
                Ok(out.write_all(b"\n")?)
            }),
            ExportFormat::Csv => (|| {
                let mut pairs = PairedWriter::new(&mut *out)?;
                self.reader.measurements::<Broken>(target, span, |round, measurement| {
                    Ok(pairs.add(round, &measurement)?)
                })?;
                Ok(pairs.finish()?)
            })(),
        };
        written.map_err(|error: Broken| match error {
            Broken::Store(error) => error.into(),
            // Whoever reads went away; the answer is cut off either way.
            Broken::Output(error) => HistoryError(error.to_string()),
        })
    }
}

/// What falls into one bin.
#[derive(Default)]
struct Heap {
    exchanges: u32,
    failures: u32,
    goodput: Vec<f64>,
    control: Vec<f64>,
    phases: [Vec<f64>; Phase::ALL.len()],
    verdict: Option<(Timestamp, crate::model::Verdict)>,
}

impl Heap {
    fn add(&mut self, row: &Row) {
        if let Some(verdict) = row.verdict.filter(|_| self.verdict.is_none_or(|(at, _)| at <= row.at)) {
            self.verdict = Some((row.at, verdict));
        }
        if row.role == Role::Control {
            self.control.extend(row.goodput);
            return;
        }
        self.exchanges += 1;
        if row.fallback {
            return;
        }
        self.failures += u32::from(row.failed);
        self.goodput.extend(row.goodput);
        for (phase, seconds) in self.phases.iter_mut().zip(row.phases) {
            phase.extend(seconds);
        }
    }

    fn into_bin(self) -> Bin {
        Bin {
            exchanges: self.exchanges,
            failures: self.failures,
            goodput_bytes_per_second: median(self.goodput),
            control_goodput_bytes_per_second: median(self.control),
            phases_s: self.phases.map(median),
            verdict: self.verdict.map(|(_, verdict)| verdict),
        }
    }
}

/// The lower median; `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = (values.len() - 1) / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
