//! What `measure`, `compare` and `sweep` share: run, show progress, report, exit.

use std::{
    io::{IsTerminal as _, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rand::{SeedableRng as _, rngs::ChaCha8Rng};

use crate::{
    clock,
    engine::{Allowance, OneShot, Subject},
    model::{Exchange, Judgement, Vantage, Verdict},
    probe::Prober,
    report::{self, Report, units},
};

use super::{EXIT_ACCUSES, EXIT_CLEAR, EXIT_UNDECIDED, options::MeasuringOptions, out};

/// Most of the time that one comparison takes; what is not known by then needs another hour or another line.
const TIME_MAX: Duration = Duration::from_mins(5);

/// What so many comparisons of named subjects may cost: generous, the judge mostly stops long before.
pub(super) fn allowance(comparisons: usize) -> Allowance {
    Allowance { pairs: 60, time: Some(TIME_MAX * comparisons as u32), bytes: 1 << 30 }
}

/// Measures `subjects`, prints the report and returns the exit status.
pub(super) fn run(
    options: &MeasuringOptions,
    subjects: Vec<Subject>,
    vantage: Vantage,
    allowance: Allowance,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (started_at, start) = (clock::wall(), clock::now());
    let judgements = runtime.block_on(measure(options, subjects, allowance))?;
    let report = Report { started_at, duration: clock::now() - start, vantage, judgements };
    if options.json {
        out::write(&report::json::render(&report)?)?;
    } else {
        let color = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        out::write(report::text::render(&report, color).as_bytes())?;
    }
    Ok(ExitCode::from(exit_status(&report.judgements)))
}

async fn measure(
    options: &MeasuringOptions,
    subjects: Vec<Subject>,
    allowance: Allowance,
) -> anyhow::Result<Vec<Judgement>> {
    let prober = Prober::new(options.probe_options())?;
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let allowance = Allowance { pairs: options.pairs.unwrap_or(allowance.pairs), ..allowance };
    let progress = progress(options.quiet);
    let mut bytes = 0;
    let mut seen = |exchange: &Exchange| {
        bytes += exchange.received_bytes();
        progress.set_message(format!("{} of payload", units::size(bytes as f64)));
        progress.set_prefix(exchange.name.clone());
        progress.inc(1);
    };
    let engine = OneShot { prober: &prober, shape: options.shape(), allowance };
    let judgements = engine.run(subjects, &mut rng, &mut seen).await;
    progress.finish_and_clear();
    Ok(judgements)
}

/// A spinner on standard error where that is a terminal, else nothing.
fn progress(quiet: bool) -> ProgressBar {
    if quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} exchanges, {msg}, {elapsed}: {prefix}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// 1 if any result accuses, else 3 if any is degraded or inconclusive, else 0.
fn exit_status(judgements: &[Judgement]) -> u8 {
    let any = |test: fn(Verdict) -> bool| judgements.iter().any(|judgement| test(judgement.finding.verdict));
    if any(Verdict::accuses) {
        EXIT_ACCUSES
    } else if any(|verdict| verdict != Verdict::Normal) {
        EXIT_UNDECIDED
    } else {
        EXIT_CLEAR
    }
}
