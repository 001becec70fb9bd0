//! `throttlescope analyze`: the same judges over recorded data.

mod report;
mod rounds;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use super::{EXIT_ERROR, out};
use crate::{
    analysis::{
        curve::{self, Clues},
        series,
    },
    model::{Measurement, PairedRow},
    recorded::{
        Malformed, RecordedCurve, curve_csv, ndjson, paired_csv, pcap,
        sniff::{self, Format, Recording},
    },
};
use report::{Analysis, CurveReport, RoundReport};
use rounds::Rounds;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings, gzipped or not: pcap, pcapng, our NDJSON, paired CSV, curve CSV
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What all files together hold.
#[derive(Default)]
struct Recorded {
    rows: Vec<PairedRow>,
    operators: BTreeMap<String, String>,
    rounds: Vec<RoundReport>,
    curves: Vec<CurveReport>,
    malformed: u64,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut recorded = Recorded::default();
        for path in &self.files {
            let name = path.display().to_string();
            if let Some(what) = recorded.read(path).with_context(|| name.clone())? {
                eprintln!("throttlescope: {name}: holds nothing to judge: {what}");
            }
        }
        if recorded.is_empty() {
            return Ok(ExitCode::from(EXIT_ERROR));
        }
        let mut analysis = Analysis::new();
        analysis.malformed_rows = recorded.malformed;
        analysis.series = series::judge(&recorded.rows);
        for one in &mut analysis.series {
            one.operator = recorded.operators.get(&one.vantage).cloned();
        }
        analysis.rounds = recorded.rounds;
        analysis.rounds.sort_by_key(|round| round.started_at);
        analysis.curves = recorded.curves;
        let text =
            if self.json { serde_json::to_string_pretty(&analysis)? + "\n" } else { analysis.render() };
        out::write(text.as_bytes())?;
        Ok(ExitCode::from(analysis.exit_status()))
    }
}

impl Recorded {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.rounds.is_empty() && self.curves.is_empty()
    }

    /// Reads one file. Where there is nothing to judge in it, says what is missing.
    fn read(&mut self, path: &Path) -> anyhow::Result<Option<String>> {
        let (format, input) = sniff::open(path).context("cannot be read")?;
        let held = self.curves.len();
        let missing = match format {
            Some(Format::Capture) => {
                let summary = pcap::read(input, |curve| self.curves.push(judge_curve(curve)))?;
                self.note(path, "packet", &summary.malformed);
                let packets = summary.packets;
                (self.curves.len() == held).then(|| match packets {
                    0 => "no packet".to_owned(),
                    1 => "no TCP payload in its only packet".to_owned(),
                    _ => format!("no TCP payload in {packets} packets"),
                })
            }
            Some(Format::CurveCsv) => {
                let (curves, malformed) = curve_csv::read(input)?;
                self.note(path, "line", &malformed);
                self.curves.extend(curves.into_iter().map(judge_curve));
                (self.curves.len() == held).then(|| no("curve below the header", &malformed))
            }
            Some(Format::PairedCsv) => {
                let found = paired_csv::read(input)?;
                let malformed = Malformed { count: found.malformed, named: found.named };
                self.note(path, "line", &malformed);
                let missing = found.rows.is_empty().then(|| no("test below the header", &malformed));
                self.rows.extend(found.rows);
                self.operators.extend(found.operators);
                missing
            }
            Some(Format::Ndjson) => {
                let (rounds, malformed) = self.read_measurements(input)?;
                self.note(path, "line", &malformed);
                let missing = rounds.is_empty().then(|| no("measurement", &malformed));
                self.rounds.extend(rounds);
                missing
            }
            Some(Format::Judged(kind)) => anyhow::bail!(
                "is our own {kind} (--json), which is judged already; give the recording: pcap, pcapng, NDJSON or CSV \
                 (`throttlescope export`)"
            ),
            Some(Format::Empty) => Some("the file is empty".to_owned()),
            None => anyhow::bail!(
                "is no recording we know; pcap, pcapng, our NDJSON, paired CSV (time,vantage,…) and curve CSV \
                 (trace_id,t_ms,bytes) are, gzipped or not"
            ),
        };
        Ok(missing)
    }

    /// The rounds of our own measurements. Their curves are kept, and their pairs as `export --format csv` writes them.
    fn read_measurements(&mut self, input: Recording) -> anyhow::Result<(Vec<RoundReport>, Malformed)> {
        let mut csv = Vec::new();
        let mut rounds = Rounds::new(&mut csv)?;
        let malformed = ndjson::read(input, |measurement| {
            self.curves.extend(recorded_curve(&measurement).map(judge_curve));
            rounds.add(measurement)
        })?;
        let rounds = rounds.finish()?;
        let paired = paired_csv::read(csv.as_slice())?;
        self.rows.extend(paired.rows);
        self.operators.extend(paired.operators);
        Ok((rounds, malformed))
    }

    /// Names what could not be read.
    fn note(&mut self, path: &Path, unit: &str, malformed: &Malformed) {
        for bad in &malformed.named {
            eprintln!("throttlescope: {} {unit} {}: {}", path.display(), bad.line, bad.reason);
        }
        let more = malformed.count - malformed.named.len() as u64;
        if more > 0 {
            eprintln!("throttlescope: {}: {more} more malformed rows", path.display());
        }
        self.malformed += malformed.count;
    }
}

/// That a file holds none of `what`, and whether that is for lack of lines.
fn no(what: &str, malformed: &Malformed) -> String {
    match malformed.count {
        0 => format!("no {what}"),
        1 => format!("no {what}, and its only line cannot be read"),
        count => format!("no {what}, and none of its {count} lines can be read"),
    }
}

fn judge_curve(recorded: RecordedCurve) -> CurveReport {
    // Where points were left out an even stream comes in steps of up to two spans: no shorter silence means anything.
    let idle = recorded.rtt.or_else(|| recorded.points.first().map(|point| point.at));
    let rtt = idle.map(|idle| idle.max(2 * recorded.resolution));
    let clues = Clues { rtt, silence: recorded.silence, ..Clues::default() };
    let finding = curve::classify(&recorded.points, &clues);
    CurveReport::new(recorded, &finding)
}

/// The curve of a measured exchange; `None` where nothing was transferred.
fn recorded_curve(measurement: &Measurement) -> Option<RecordedCurve> {
    let exchange = &measurement.exchange;
    let rtt = exchange.tcp.and_then(|tcp| tcp.connect?.rtt);
    (!exchange.curve.is_empty()).then(|| RecordedCurve {
        id: exchange.id.clone(),
        name: Some(exchange.name.clone()),
        points: exchange.curve.points().to_vec(),
        rtt: rtt.or_else(|| exchange.phases.duration(crate::model::Phase::Connect)),
        ..RecordedCurve::default()
    })
}
