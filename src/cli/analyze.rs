//! `throttlescope analyze`.

use std::{
    fmt::Write as _,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use serde::Serialize;

use super::{EXIT_ACCUSES, EXIT_CLEAR, EXIT_UNDECIDED, out};
use crate::{
    analysis::series,
    model::{PairedRow, SeriesReport, SeriesState},
    recorded::paired_csv,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings: paired CSV, gzipped or not
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Analysis {
    schema: &'static str,
    version: &'static str,
    malformed_rows: u64,
    series: Vec<SeriesReport>,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut rows: Vec<PairedRow> = Vec::new();
        let mut malformed = 0;
        for path in &self.files {
            let found = paired_csv::read(open(path)?).with_context(|| path.display().to_string())?;
            for bad in &found.named {
                eprintln!("throttlescope: {} line {}: {}", path.display(), bad.line, bad.reason);
            }
            malformed += found.malformed;
            rows.extend(found.rows);
        }
        let analysis = Analysis {
            schema: "throttlescope/analysis/1",
            version: env!("CARGO_PKG_VERSION"),
            malformed_rows: malformed,
            series: series::judge(&rows),
        };
        let status = exit_status(&analysis.series);
        let text = if self.json {
            serde_json::to_string_pretty(&analysis)? + "\n"
        } else {
            render(&analysis.series, malformed)
        };
        out::write(text.as_bytes())?;
        Ok(ExitCode::from(status))
    }
}

/// Opens a file, unpacking gzip by its first two bytes.
fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let gzip = std::io::BufRead::fill_buf(&mut reader)
        .with_context(|| format!("cannot read {}", path.display()))?
        .starts_with(&[0x1f, 0x8b]);
    Ok(if gzip { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

fn exit_status(series: &[SeriesReport]) -> u8 {
    if series.iter().any(|one| !one.incidents.is_empty()) {
        EXIT_ACCUSES
    } else if series.iter().any(|one| one.state != SeriesState::Normal) {
        EXIT_UNDECIDED
    } else {
        EXIT_CLEAR
    }
}

/// One line for each series with an incident, and a count of the rest.
fn render(series: &[SeriesReport], malformed: u64) -> String {
    let mut text = String::new();
    for one in series.iter().filter(|one| !one.incidents.is_empty()) {
        let _ = writeln!(text, "{} {}: {}", one.vantage, one.target, one.state);
        for incident in &one.incidents {
            let end = incident.end.map_or_else(|| "lasting".to_owned(), |end| format!("until {end}"));
            let _ = writeln!(
                text,
                "  {} since {} ({end}), {:.0} % of {} tests",
                incident.verdict,
                incident.onset,
                incident.share * 100.0,
                incident.tests
            );
        }
    }
    let quiet = series.iter().filter(|one| one.incidents.is_empty()).count();
    let _ = writeln!(text, "{quiet} series without an incident, {malformed} malformed rows");
    text
}
