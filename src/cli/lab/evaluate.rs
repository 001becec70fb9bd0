//! `lab evaluate`: how right the verdicts are, on a drawn corpus with known truth.

use std::{
    fs::OpenOptions,
    io::{IsTerminal as _, Write as _, stderr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use crate::{
    cli::{EXIT_CLEAR, EXIT_ERROR},
    evaluate::{self, Evaluation, Settings, curves},
    lab::{self, Interrupt},
};

/// Arguments of `lab evaluate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Judge single curves instead: so many of each known cause
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000),
        conflicts_with_all = ["tests", "pairs", "json", "plots"])]
    curves: Option<u32>,
    /// How many tests to draw; 6000 take some 40 minutes with --parallel 200 on two idle cores
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tests: u32,
    /// What the corpus is drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Tests under way at once; most of the time they wait
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallel: u32,
    /// Most pairs of a comparison
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Write every test and its truth, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the plots into this directory, as SVG
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// Keep every exchange, one test a line, to be judged again
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Measure nothing; judge the exchanges of a recording again
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    judge: Option<PathBuf>,
    /// Judge the recording with one part of the method left out at a time, and print what each buys
    #[arg(long, requires = "judge", conflicts_with = "relabel")]
    ablate: bool,
    /// Draw anew, so many times, whose each exchange was in the recording's innocent tests, and print how often the stated
    /// error rates are exceeded
    #[arg(long, value_name = "TIMES", requires = "judge", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    relabel: Option<u32>,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.check_outputs()?;
        if let Some(recording) = &self.judge {
            self.judge(recording)?;
            return Ok(ExitCode::SUCCESS);
        }
        let status = lab::contain(Interrupt::Ends, move || match self.measure_what_is_asked() {
            Ok(()) => EXIT_CLEAR,
            Err(error) => {
                eprintln!("throttlescope: {error:#}");
                EXIT_ERROR
            }
        })?;
        Ok(ExitCode::from(status))
    }

    /// What cannot be written is found before hours of measuring, not after them. Nothing is overwritten yet.
    fn check_outputs(&self) -> anyhow::Result<()> {
        let plots = self.plots.iter().flat_map(|directory| evaluate::PLOTS.map(|name| directory.join(name)));
        if let Some(directory) = &self.plots {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        }
        for path in self.json.iter().chain(&self.record).cloned().chain(plots) {
            let open = OpenOptions::new().append(true).create(true).open(&path);
            open.with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn judge(&self, recording: &Path) -> anyhow::Result<()> {
        let text = match (self.curves, self.ablate, self.relabel) {
            (Some(_), ..) => curves::render(&curves::again(recording)?),
            (None, true, _) => evaluate::ablate(recording, self.pairs)?,
            (None, false, Some(times)) => evaluate::relabel(recording, times)?,
            (None, false, None) => return self.report(&evaluate::again(recording, self.pairs)?),
        };
        super::out::write(text.as_bytes())?;
        Ok(())
    }

    fn measure_what_is_asked(&self) -> anyhow::Result<()> {
        match self.curves {
            Some(number) => self.measure_curves(number),
            None => self.measure(),
        }
    }

    fn measure_curves(&self, number: u32) -> anyhow::Result<()> {
        let settings = curves::Settings {
            curves: number,
            seed: self.seed,
            parallel: self.parallel as usize,
            record: self.record.clone(),
        };
        let judged = curves::inside(&settings, &mut self.progress(number as usize * curves::KINDS.len()))?;
        super::out::write(curves::render(&judged).as_bytes())?;
        Ok(())
    }

    /// Counts on a terminal.
    fn progress(&self, all: usize) -> impl FnMut() + use<> {
        let shown = !self.quiet && stderr().is_terminal();
        let mut done = 0;
        move || {
            done += 1;
            if shown {
                let end = if done == all { "\n" } else { "" };
                let _gone = write!(stderr(), "\r{done} of {all}{end}");
            }
        }
    }

    fn measure(&self) -> anyhow::Result<()> {
        let settings = Settings {
            tests: self.tests,
            seed: self.seed,
            parallel: self.parallel as usize,
            pairs: self.pairs,
            record: self.record.clone(),
        };
        let mut progress = self.progress(settings.tests as usize);
        let evaluation = evaluate::inside(&settings, &mut |_| progress())?;
        self.report(&evaluation)
    }

    /// The tables first: they are there whatever becomes of the files, and the files whoever reads the tables.
    fn report(&self, evaluation: &Evaluation) -> anyhow::Result<()> {
        let printed = super::out::write(evaluate::render(evaluation).as_bytes());
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_vec(evaluation)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(directory) = &self.plots {
            evaluate::write_plots(evaluation, directory)
                .with_context(|| format!("cannot write plots into {}", directory.display()))?;
        }
        printed?;
        Ok(())
    }
}
