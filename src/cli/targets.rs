//! `throttlescope targets`.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::out;
use crate::{
    config::{self, Config, Overrides},
    model::{EndpointKind, Role, Target, TargetId},
};

/// Lists what can be measured.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Configuration file
    #[arg(long, visible_alias = "config.file", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
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
        let rows: Vec<Row<'_>> = config
            .targets
            .iter()
            .map(|configured| Row::new(&configured.target, configured.built_in))
            .collect();
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

fn table(rows: &[Row<'_>], config: &Config) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["TARGET", "ROLE", "KIND", "SIZE", "URL"]);
    for row in rows {
        let size = if row.bulk { "bulk" } else { "handshake" };
        table.add_row([row.id.as_str(), name(row.role), kind(row.kind), size, row.url]);
    }
    let mut text = format!("{table}\n");
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
