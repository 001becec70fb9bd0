//! `throttlescope purge`: deletes everything that was kept.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::bail;

use super::{export, out};
use crate::{
    report::units,
    store::{self, Purged},
};

/// Deletes the daemon's database and what lies beside it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Delete without asking
    #[arg(long)]
    yes: bool,
    /// Configuration file, which names the database
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

impl Args {
    /// Asks, deletes, and says what it deleted.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let path = export::store(self.store, self.config.as_deref())?;
        let found = store::purge(&path, false)?;
        if found.files.is_empty() {
            out::write(format!("{}: there is nothing to delete.\n", path.display()).as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes {
            ask(&found)?;
        }
        let Purged { files, bytes } = store::purge(&path, true)?;
        let mut said: Vec<String> = files.iter().map(|file| format!("deleted {}", file.display())).collect();
        said.push(format!(
            "{} of measurements, incidents and unsent notifications are gone.\n",
            units::size(bytes as f64)
        ));
        out::write(said.join("\n").as_bytes())
    }
}

fn ask(found: &Purged) -> anyhow::Result<()> {
    let (stdin, mut screen) = (io::stdin(), io::stderr().lock());
    if !stdin.is_terminal() {
        bail!("nothing was deleted: nobody can be asked here, use --yes");
    }
    for file in &found.files {
        writeln!(screen, "{}", file.display())?;
    }
    write!(screen, "Delete all measurements and incidents ({})? [y/N] ", units::size(found.bytes as f64))?;
    screen.flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    if matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    bail!("nothing was deleted")
}
