//! `throttlescope compare`: one server, two names.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Context as _;
use url::{Position, Url};

use crate::{
    config,
    engine::{Subject, subjects},
    model::{TargetId, Vantage},
};

use super::{
    measuring,
    options::{MeasuringOptions, quoted},
};

/// What both legs ask for unless told otherwise: our own measurement server has it.
pub(super) const PATH: &str = "/bytes/131072";

/// Compares two names on one server: both legs send the same Host and path and differ in the name alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server that answers both names
    #[arg(long, value_name = "HOST:PORT")]
    via: String,
    /// The name that may be throttled
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// The name that is not
    #[arg(long, value_name = "NAME")]
    control: String,
    /// What both legs ask for
    #[arg(long, value_name = "PATH", default_value = PATH)]
    path: String,
    /// The Host header of both legs [default: the control's name]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    options: MeasuringOptions,
}

impl Args {
    /// Runs the comparison and prints its report.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let server = Server::parse(&self.via, &self.path, self.host.as_deref(), &self.control)?;
        let subject = server.subject(&self.subject, &self.options)?;
        measuring::run(&self.options, vec![subject], Vantage::default(), measuring::allowance(1))
    }
}

/// A server under which names are compared.
pub(super) struct Server<'a> {
    via: &'a str,
    url: Url,
    host: Option<&'a str>,
    control: &'a str,
}

impl<'a> Server<'a> {
    pub(super) fn parse(
        via: &'a str,
        path: &str,
        host: Option<&'a str>,
        control: &'a str,
    ) -> anyhow::Result<Self> {
        let root = Url::parse(&format!("https://{via}"))
            .ok()
            .filter(|url| url.host().is_some() && url.path() == "/" && url.query().is_none())
            .with_context(|| format!("--via {via}: expected HOST:PORT"))?;
        let url = root
            .join(path)
            .ok()
            .filter(|url| path.starts_with('/') && url.host() == root.host())
            .with_context(|| format!("--path {path}: expected an absolute path such as {PATH}"))?;
        Ok(Self { via, url, host, control })
    }

    /// The comparison of `name` with the control's.
    pub(super) fn subject(&self, name: &str, options: &MeasuringOptions) -> anyhow::Result<Subject> {
        for name in [name, self.control] {
            config::host_name(name).map_err(anyhow::Error::msg)?;
        }
        anyhow::ensure!(
            !name.eq_ignore_ascii_case(self.control),
            "`{name}` is its own control, so that nothing differs; name another control"
        );
        let host = self.host.unwrap_or(self.control);
        let mut subject = subjects::same_server(TargetId::new(name), &self.url, host, name, self.control);
        subject.repeat = self.repeat(name, options);
        Ok(subject)
    }

    fn repeat(&self, name: &str, options: &MeasuringOptions) -> String {
        let mut command =
            format!("throttlescope compare --via {} --subject {name} --control {}", self.via, self.control);
        let path = &self.url[Position::BeforePath..];
        if path != PATH {
            let _ = write!(command, " --path {}", quoted(path));
        }
        if let Some(host) = self.host {
            let _ = write!(command, " --host {host}");
        }
        command + &options.repeat()
    }
}
