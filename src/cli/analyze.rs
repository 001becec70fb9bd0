//! `throttlescope analyze`: the same judges over recorded data.

mod report;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use super::out;
use crate::{
    analysis::{
        curve::{self, Clues},
        round::{RoundJudge, RoundSettings},
        series,
    },
    model::{Comparison, Measurement, PairedRow, TargetId},
    recorded::{
        Malformed, RecordedCurve, curve_csv, ndjson, paired_csv, pcap,
        sniff::{self, Format},
    },
};
use report::{Analysis, CurveReport, RoundReport};

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
    measurements: Vec<Measurement>,
    curves: Vec<CurveReport>,
    malformed: u64,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut recorded = Recorded::default();
        for path in &self.files {
            recorded.read(path).with_context(|| path.display().to_string())?;
        }
        let mut analysis = Analysis::new();
        analysis.malformed_rows = recorded.malformed;
        analysis.series = series::judge(&recorded.rows);
        for one in &mut analysis.series {
            one.operator = recorded.operators.get(&one.vantage).cloned();
        }
        analysis.rounds = judge_rounds(recorded.measurements);
        analysis.curves = recorded.curves;
        let text =
            if self.json { serde_json::to_string_pretty(&analysis)? + "\n" } else { analysis.render() };
        out::write(text.as_bytes())?;
        Ok(ExitCode::from(analysis.exit_status()))
    }
}

impl Recorded {
    fn read(&mut self, path: &Path) -> anyhow::Result<()> {
        let (format, input) = sniff::open(path).context("cannot be read")?;
        match format {
            Some(Format::Capture) => {
                let summary = pcap::read(input, |curve| self.curves.push(judge_curve(curve)))?;
                self.note(path, "packet", &summary.malformed);
            }
            Some(Format::CurveCsv) => {
                let (curves, malformed) = curve_csv::read(input)?;
                self.curves.extend(curves.into_iter().map(judge_curve));
                self.note(path, "line", &malformed);
            }
            Some(Format::PairedCsv) => {
                let found = paired_csv::read(input)?;
                self.rows.extend(found.rows);
                self.operators.extend(found.operators);
                self.note(path, "line", &Malformed { count: found.malformed, named: found.named });
            }
            Some(Format::Ndjson) => {
                let (measurements, malformed) = ndjson::read(input)?;
                self.curves.extend(measurements.iter().filter_map(recorded_curve).map(judge_curve));
                self.measurements.extend(measurements);
                self.note(path, "line", &malformed);
            }
            Some(Format::Empty) => anyhow::bail!("is empty"),
            None => anyhow::bail!(
                "is no recording we know; pcap, pcapng, our NDJSON, paired CSV (time,vantage,…) and curve CSV \
                 (trace_id,t_ms,bytes) are, gzipped or not"
            ),
        }
        Ok(())
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

fn judge_curve(recorded: RecordedCurve) -> CurveReport {
    let clues = Clues { rtt: recorded.rtt, silence: recorded.silence, ..Clues::default() };
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

/// Judges each round as it was judged when it was taken.
fn judge_rounds(measurements: Vec<Measurement>) -> Vec<RoundReport> {
    type Key = (TargetId, Option<TargetId>, Comparison, u32);
    let mut rounds: BTreeMap<Key, Vec<Measurement>> = BTreeMap::new();
    for measurement in measurements {
        let key = (
            measurement.subject.clone(),
            measurement.control.clone(),
            measurement.comparison,
            measurement.exchange.round,
        );
        rounds.entry(key).or_default().push(measurement);
    }
    let mut reports: Vec<RoundReport> = rounds
        .into_iter()
        .filter_map(|((subject, control, comparison, round), members)| {
            let started_at = members.iter().map(|member| member.exchange.started_at).min()?;
            let mut judge = RoundJudge::new(RoundSettings { comparison, ..RoundSettings::default() });
            for member in members {
                judge.add(member.exchange);
            }
            Some(RoundReport {
                started_at,
                round,
                subject: subject.to_string(),
                control: control.map(|control| control.to_string()),
                comparison,
                finding: judge.finding(),
            })
        })
        .collect();
    reports.sort_by_key(|report| report.started_at);
    reports
}
