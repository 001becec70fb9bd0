//! `throttlescope targets`.

mod assets;
mod check;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::bail;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{out, safety};
use crate::{
    config::{self, Config, Overrides},
    model::{EndpointKind, Role, Target, TargetId},
};

use check::Answer;

/// Lists what can be measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Configuration file
    #[arg(long, visible_alias = "config.file", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Ask every endpoint whether it answers today, and look for a better one where it does not
    Check {
        /// Platforms or targets [default: all]
        #[arg(value_name = "PLATFORM|TARGET")]
        names: Vec<String>,
        /// Go on without asking after the safety notice
        #[arg(long)]
        yes: bool,
    },
}

/// The document of `targets --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: &'static str,
    version: &'static str,
    targets: Vec<Row<'a>>,
}

/// One target.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a TargetId,
    platform: Option<&'a str>,
    role: Role,
    kind: EndpointKind,
    url: &'a str,
    bytes: u64,
    bulk: bool,
    controls: &'a [TargetId],
    built_in: bool,
    /// Only after a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Answer>,
}

impl<'a> Row<'a> {
    fn new(target: &'a Target, built_in: bool) -> Self {
        Self {
            id: &target.id,
            platform: target.id.platform().filter(|_| target.role == Role::Subject),
            role: target.role,
            kind: target.kind,
            url: target.url.as_str(),
            bytes: target.bytes,
            bulk: is_bulk(target),
            controls: &target.controls,
            built_in,
            check: None,
        }
    }
}

/// Whether its exchanges can show a rate limit (design: more than 16 KiB).
const fn is_bulk(target: &Target) -> bool {
    target.bytes > 16 * 1024
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(self.config.as_deref(), &Overrides::from_environment())?;
        let mut rows: Vec<Row<'_>> = config
            .targets
            .iter()
            .map(|configured| Row::new(&configured.target, configured.built_in))
            .collect();
        if let Some(Action::Check { names, yes }) = &self.action {
            safety::acknowledge(&config, *yes)?;
            rows = checked(&config, names, rows)?;
        }
        if self.json {
            let schema = "throttlescope/targets/1";
            let mut text = serde_json::to_string_pretty(&Document {
                schema,
                version: env!("CARGO_PKG_VERSION"),
                targets: rows,
            })?;
            text.push('\n');
            return out::write(text.as_bytes());
        }
        out::write(table(&rows, &config).as_bytes())
    }
}

/// The rows that `names` stand for, with what their endpoints answer.
fn checked<'a>(config: &'a Config, names: &[String], rows: Vec<Row<'a>>) -> anyhow::Result<Vec<Row<'a>>> {
    let is_named = |id: &TargetId| {
        names.is_empty() || names.iter().any(|name| id.as_str() == name || id.platform() == Some(name))
    };
    let mut rows: Vec<Row<'_>> = rows.into_iter().filter(|row| is_named(row.id)).collect();
    for name in names {
        if !rows.iter().any(|row| row.id.as_str() == name || row.id.platform() == Some(name)) {
            bail!("`{name}` is no platform and no target, `throttlescope targets` lists them");
        }
    }
    let targets: Vec<&Target> = config
        .targets
        .iter()
        .map(|configured| &configured.target)
        .filter(|target| is_named(&target.id))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(check::check(config, &targets))?;
    for (row, answer) in rows.iter_mut().zip(answers) {
        row.check = Some(answer);
    }
    Ok(rows)
}

fn table(rows: &[Row<'_>], config: &Config) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let is_check = rows.iter().any(|row| row.check.is_some());
    let last = if is_check { "TODAY" } else { "URL" };
    table.set_header(["TARGET", "ROLE", "KIND", "SIZE", last]);
    for row in rows {
        let size = if row.bulk { "bulk" } else { "handshake" };
        let last = row.check.as_ref().map_or_else(|| row.url.to_owned(), |answer| answer.words(row.bytes));
        table.add_row([row.id.as_str(), name(row.role), kind(row.kind), size, &last]);
    }
    if is_check {
        return table.trim_fmt() + "\n";
    }
    let mut text = table.trim_fmt() + "\n";
    for (via, name, id) in config.via_targets() {
        let _ = writeln!(text, "{id}: {name} shown to {}", via.address);
    }
    text
}

const fn name(role: Role) -> &'static str {
    match role {
        Role::Subject => "subject",
        Role::Control => "control",
        Role::Canary => "canary",
    }
}

const fn kind(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Page => "page",
        EndpointKind::Media => "media",
        EndpointKind::Api => "api",
    }
}
