//! `throttlescope lab`.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context;

use super::out;
use crate::lab::profiles::{self, Loaded};
use crate::lab::{self, Interrupt, Joint, Lab, LabReport, LabSettings, LaneSettings, ServerKind};
use crate::model::profile::{LineProfile, Loss, Profile, Rate, Span};

mod evaluate;
mod scenario;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, clap::Subcommand)]
enum LabCommand {
    /// Run a command behind a middlebox, or a whole scenario
    Run(RunArgs),
    /// Open a shell behind a middlebox
    Shell(LineArgs),
    /// List the profiles that come with the program
    List,
    /// Measure how right the verdicts are, on many drawn lines and middleboxes
    Evaluate(evaluate::Args),
}

/// Arguments of `lab run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    line: LineArgs,
    /// The command and its arguments; the server's address is in $`THROTTLESCOPE_LAB_SERVER`
    #[arg(last = true)]
    command: Vec<String>,
}

/// What a laboratory is made of, from the command line.
#[derive(Debug, clap::Args)]
struct LineArgs {
    /// A profile (see `lab list`), or the path of a profile or scenario file (.toml)
    scenario: String,
    /// Capture what passes the client's side of the middlebox
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Capture what passes the server's side of the middlebox
    #[arg(long, value_name = "FILE")]
    server_pcap: Option<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Rate of the line, both ways [default: 20Mbit]
    #[arg(long)]
    rate: Option<Rate>,
    /// Round-trip time of the empty line [default: 30ms]
    #[arg(long)]
    rtt: Option<Span>,
    /// Further delay of each packet by chance, both ways
    #[arg(long)]
    jitter: Option<Span>,
    /// Share of packets lost by chance, both ways
    #[arg(long)]
    loss: Option<f64>,
    /// Put the client behind an address translator
    #[arg(long)]
    nat: bool,
    /// Share of connections that meet the middlebox
    #[arg(long, value_name = "SHARE")]
    coverage: Option<f64>,
    /// The rules come into force this long after the start
    #[arg(long)]
    onset: Option<Span>,
    /// The rules end this long after the start
    #[arg(long)]
    lift: Option<Span>,
    /// Run this shell command as the server instead of our own
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,
    /// What joins the namespaces
    #[arg(long, value_enum, default_value_t = JointArg::Any)]
    joint: JointArg,
    /// Congestion control of both ends
    #[arg(long, value_name = "NAME")]
    congestion_control: Option<String>,
    /// Write what the laboratory did, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Say nothing at the end
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum JointArg {
    /// TUN where it opens, else veth
    Any,
    /// TUN devices
    Tun,
    /// veth pairs with packet sockets
    Veth,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            LabCommand::List => list(),
            LabCommand::Evaluate(args) => args.run(),
            LabCommand::Shell(line) => {
                let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
                run(line, vec![shell])
            }
            LabCommand::Run(RunArgs { line, command }) => run(line, command),
        }
    }
}

fn list() -> anyhow::Result<ExitCode> {
    let width = profiles::names().map(str::len).max().unwrap_or(0);
    let mut text = String::new();
    for name in profiles::names() {
        let profile = profiles::profile(name)?;
        writeln!(text, "{name:width$}  {}", profile.about)?;
    }
    out::write(text.as_bytes())
}

fn run(args: LineArgs, command: Vec<String>) -> anyhow::Result<ExitCode> {
    match profiles::load(&args.scenario)? {
        Loaded::Scenario(_, _) if !command.is_empty() => {
            anyhow::bail!(
                "{} is a scenario and brings its own command; leave out `-- COMMAND`",
                args.scenario
            )
        }
        Loaded::Scenario(scenario, profile) => scenario::run(args, *scenario, *profile),
        Loaded::Profile(_) if command.is_empty() => anyhow::bail!(
            "nothing to run; add `-- COMMAND`, like `throttlescope lab run {} -- curl https://abs.twimg.com/`",
            args.scenario
        ),
        Loaded::Profile(profile) => {
            let quiet = args.quiet;
            let report_to = args.report.clone();
            let settings = settings(args, *profile)?;
            let status = lab::contain(Interrupt::Inner, move || {
                inside(settings, &command, quiet, report_to.as_ref()).unwrap_or_else(|error| {
                    eprintln!("throttlescope: {error:#}");
                    lab::FAILED
                })
            });
            Ok(finished(status))
        }
    }
}

/// The exit status of a laboratory that ran, or the sentence of one that could not.
fn finished(status: Result<u8, lab::ContainError>) -> ExitCode {
    ExitCode::from(status.unwrap_or_else(|error| {
        eprintln!("throttlescope: {error:#}");
        lab::FAILED
    }))
}

/// One lane with this profile on the line asked for.
fn settings(args: LineArgs, profile: Profile) -> anyhow::Result<LabSettings> {
    let mut line = profile.line.clone().unwrap_or_default();
    change(&mut line, &args);
    let mut profile = profile.between(args.onset, args.lift);
    if let Some(share) = args.coverage {
        profile.coverage.share = share;
    }
    if let Some(what) = line.check().into_iter().chain(profile.check()).next() {
        anyhow::bail!("{what}");
    }
    let paces = profile.server_rate.take().map(|rate| ("*".to_owned(), rate.0 as u64)).into_iter().collect();
    let mut settings = LabSettings {
        lanes: vec![LaneSettings { line, profile, seed: args.seed }],
        joint: match args.joint {
            JointArg::Any => Joint::Any,
            JointArg::Tun => Joint::Tun,
            JointArg::Veth => Joint::Veth,
        },
        client_pcap: args.pcap,
        server_pcap: args.server_pcap,
        server: args.server.map_or(ServerKind::Own { paces }, ServerKind::Command),
        ..LabSettings::default()
    };
    if let Some(name) = args.congestion_control {
        settings.congestion_control = vec![name];
    }
    Ok(settings)
}

/// Changes a line by what the command line says about it.
fn change(line: &mut LineProfile, args: &LineArgs) {
    for way in [&mut line.down, &mut line.up] {
        way.rate = args.rate.unwrap_or(way.rate);
        way.jitter = args.jitter.unwrap_or(way.jitter);
        way.loss = args.loss.map_or(way.loss, Loss::Random);
    }
    line.rtt = args.rtt.unwrap_or(line.rtt);
    line.nat |= args.nat;
}

/// Inside the laboratory's process: builds it, runs the command, ends it.
fn inside(
    settings: LabSettings,
    command: &[String],
    quiet: bool,
    report_to: Option<&PathBuf>,
) -> anyhow::Result<u8> {
    let asked = settings.congestion_control.clone();
    let lab = Lab::start(settings)?;
    tell_notes(&lab, &asked, quiet);
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]);
    lab.tell(&mut child);
    let status = match child.status() {
        Ok(status) => status_of(status),
        Err(error) => {
            eprintln!("throttlescope: cannot run `{}`: {error}", command[0]);
            if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
        }
    };
    let report = lab.finish()?;
    if let Some(path) = report_to {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    tell_lateness(&report, quiet);
    Ok(status)
}

/// As a shell says it: the program's own, or 128 and the signal's number.
fn status_of(status: ExitStatus) -> u8 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8
}

fn tell_notes(lab: &Lab, asked: &[String], quiet: bool) {
    if quiet {
        return;
    }
    for note in &lab.notes {
        eprintln!("lab: {note}");
    }
    if let (Some(first), Some(got)) = (asked.first(), &lab.congestion_control)
        && asked.len() == 1
        && first != got
    {
        eprintln!("lab: this kernel does not offer {first} to namespaces; TCP runs {got}");
    }
}

/// An overloaded laboratory is told of even when quiet: its results are not to be used.
fn tell_lateness(report: &LabReport, quiet: bool) {
    let late = &report.lateness;
    let milliseconds = |seconds: f64| seconds * 1e3;
    if late.overloaded {
        eprintln!(
            "lab: overloaded: packets left up to {:.1} ms late (1 in 100 by {:.1} ms), {} were lost by the lab itself; \
             do not trust this run",
            milliseconds(late.max_s),
            milliseconds(late.p99_s),
            late.refused,
        );
    } else if !quiet {
        eprintln!(
            "lab: {} packets, at most {:.2} ms late (1 in 100 by {:.2} ms)",
            late.packets,
            milliseconds(late.max_s),
            milliseconds(late.p99_s),
        );
    }
}
