//! The command line: one file per command; each turns arguments into one call and one report.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod analyze;
pub mod check_config;
pub mod compare;
pub mod demo;
pub mod export;
pub mod health;
pub mod lab;
pub mod measure;
mod measuring;
pub mod options;
mod out;
pub mod purge;
pub mod run;
pub mod safety;
pub mod serve;
pub mod sweep;
mod systemd;
pub mod targets;

/// Exit status: nothing interferes.
pub const EXIT_CLEAR: u8 = 0;
/// Exit status: a result accuses (throttled, frozen, blocked).
pub const EXIT_ACCUSES: u8 = 1;
/// Exit status: could not run.
pub const EXIT_ERROR: u8 = 2;
/// Exit status: nothing accuses, but a result is degraded or inconclusive.
pub const EXIT_UNDECIDED: u8 = 3;

/// Tells whether a platform is being slowed down on your network, by how much, by what means, and how sure we are.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure platforms, endpoints or URLs once, and judge
    Measure(measure::Args),
    /// Compare two names on one server
    Compare(compare::Args),
    /// Measure round the clock: the daemon
    Run(run::Args),
    /// Serve as the measurement server that others compare against
    Serve(serve::Args),
    /// Find out which of many names are interfered with
    Sweep(sweep::Args),
    /// Judge recorded data: pcap, NDJSON, paired CSV, curve CSV
    Analyze(analyze::Args),
    /// The laboratory: run programs behind an emulated throttler
    Lab(lab::Args),
    /// See all of it in two minutes on this machine alone, with an emulated throttler
    Demo(demo::Args),
    /// List what the catalogue measures, or check which endpoints answer
    Targets(targets::Args),
    /// Write measurements from the daemon's database, for others to read
    Export(export::Args),
    /// Delete everything that the daemon has kept
    Purge(purge::Args),
    /// Ask a daemon whether it is ready (for containers)
    Health(health::Args),
    /// Check the configuration, or print what is in effect
    CheckConfig(check_config::Args),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Parses the command line, runs the command, and says what went wrong in one line.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    match enough_descriptors().and_then(|()| command.run()) {
        Ok(status) => status,
        Err(error) if out::is_broken_pipe(&error) => ExitCode::from(EXIT_CLEAR),
        Err(error) => {
            eprintln!("throttlescope: {error:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// File descriptors without which no command can start.
const DESCRIPTORS_MIN: usize = 16;

/// A runtime that cannot open its own pipes panics; a full table is told here instead.
fn enough_descriptors() -> anyhow::Result<()> {
    let opened: Result<Vec<_>, _> = (0..DESCRIPTORS_MIN).map(|_| std::fs::File::open("/dev/null")).collect();
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => anyhow::bail!(
            "fewer than {DESCRIPTORS_MIN} file descriptors are left for this program; raise `ulimit -n`"
        ),
        _ => Ok(()),
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Measure(args) => args.run(),
            Self::Compare(args) => args.run(),
            Self::Run(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Sweep(args) => args.run(),
            Self::Analyze(args) => args.run(),
            Self::Lab(args) => args.run(),
            Self::Demo(args) => args.run(),
            Self::Targets(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Purge(args) => args.run(),
            Self::Health(args) => args.run(),
            Self::CheckConfig(args) => args.run(),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "throttlescope", &mut script);
                out::write(&script)
            }
            Self::Man => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                out::write(&page)
            }
        }
    }
}
