//! `throttlescope sweep`: one server, many names.

use std::{collections::BTreeSet, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};

use crate::model::Vantage;

use super::{compare, measuring, options::MeasuringOptions};

/// Most names of one sweep: beyond that the control's share of the evidence is no longer fresh.
const NAMES_MAX: usize = 10_000;

/// Finds out which of many names are interfered with, each compared with the control's name on one server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server that answers every name
    #[arg(long, value_name = "HOST:PORT")]
    via: String,
    /// A name that is not interfered with
    #[arg(long, value_name = "NAME")]
    control: String,
    /// What is asked for under every name
    #[arg(long, value_name = "PATH", default_value = compare::PATH)]
    path: String,
    /// The Host header of every request [default: the control's name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The names, one a line; `#` begins a comment
    #[arg(value_name = "FILE")]
    names: PathBuf,
    #[command(flatten)]
    options: MeasuringOptions,
}

impl Args {
    /// Compares every name and prints one report.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.names.display();
        let text =
            fs::read_to_string(&self.names).with_context(|| format!("{file}: cannot read the names"))?;
        let names = names(&text);
        ensure!(!names.is_empty(), "{file}: holds no name; write one a line");
        ensure!(names.len() <= NAMES_MAX, "{file}: holds {} names; at most {NAMES_MAX} go", names.len());
        let server = compare::Server::parse(&self.via, &self.path, self.host.as_deref(), &self.control)?;
        let subjects = names
            .into_iter()
            .map(|(line, name)| {
                server.subject(name, &self.options).with_context(|| format!("{file}, line {line}"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let allowance = measuring::allowance(subjects.len());
        measuring::run(&self.options, subjects, Vantage::default(), allowance)
    }
}

/// The names with the numbers of their lines, each once.
fn names(text: &str) -> Vec<(usize, &str)> {
    let mut seen = BTreeSet::new();
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or_default().trim()))
        .filter(|(_, name)| !name.is_empty() && seen.insert(*name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_name_once() {
        assert_eq!(names("# head\nt.co\n\nx.com # new\nt.co\n"), [(2, "t.co"), (4, "x.com")]);
    }
}
