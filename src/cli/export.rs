//! `throttlescope export`: the past as others can read it.

use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{anyhow, bail, ensure};
use jiff::{SignedDuration, Timestamp};

use crate::{
    clock,
    config::{self, Overrides},
    model::TargetId,
    store::Reader,
    web::{ExportFormat, ExportRequest, History as _, StoredHistory},
};

/// Writes measurements from the daemon's database to standard output.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// In which form: our own records, paired CSV, or OONI's JSON lines
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Format,
    /// From when: 2026-11-23, 2026-11-23T21:05:00Z, or so long ago: 7d, 12h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Until when, in the same forms
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Of this target alone
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Configuration file, which names the database
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// `--format`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Ndjson,
    Csv,
    Ooni,
}

impl Args {
    /// Writes it all.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let (Some(since), Some(until)) = (self.since, self.until) {
            ensure!(since < until, "--since must be before --until");
        }
        let path = store(self.store, self.config.as_deref())?;
        let wanted = ExportRequest {
            target: self.target.map(TargetId::new),
            from: self.since,
            until: self.until,
            format: match self.format {
                Format::Ndjson => ExportFormat::Ndjson,
                Format::Csv => ExportFormat::Csv,
                Format::Ooni => ExportFormat::Ooni,
            },
        };
        let history = StoredHistory::new(Reader::new(path.clone()));
        if let Some(target) = &wanted.target {
            let known = history.knows(target).map_err(|error| anyhow!(error))?;
            ensure!(known, "{}: the database knows no target `{target}`", path.display());
        }
        let mut out = Watched { inner: BufWriter::new(io::stdout().lock()), broken: None };
        let result = history.export(&wanted, &mut out);
        if let Err(error) = out.inner.flush() {
            out.broken.get_or_insert(error);
        }
        match (out.broken, result) {
            // Whoever reads has enough; that is how pipes end.
            (Some(error), _) => Err(error.into()),
            (None, result) => result.map(|()| ExitCode::SUCCESS).map_err(|error| anyhow!(error)),
        }
    }
}

/// Where the database is.
pub(super) fn store(given: Option<PathBuf>, config: Option<&std::path::Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) => Ok(path),
        None => Ok(config::load(config, &Overrides::from_environment())?.store.path),
    }
}

/// Keeps the error of the output apart from those of the store.
struct Watched<W> {
    inner: W,
    broken: Option<io::Error>,
}

impl<W: io::Write> io::Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).inspect_err(|error| self.broken = Some(error.kind().into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A moment, a day (its beginning, UTC), or a duration before now.
fn moment(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(day) = format!("{text}T00:00:00Z").parse() {
        return Ok(day);
    }
    if let Ok(age) = humantime::parse_duration(text) {
        return Ok(clock::wall().checked_sub(SignedDuration::try_from(age)?)?);
    }
    bail!("write a time as 2026-11-23T21:05:00Z or 2026-11-23, or as so long ago: 7d, 12h")
}
