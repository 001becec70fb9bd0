//! `throttlescope health`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail, ensure};
use url::Url;

use crate::probe::{Options, Prober};

/// How long the daemon may take to answer: below the five seconds that the image gives a check.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to ask; may hold a user and a password
    #[arg(
        env = "THROTTLESCOPE_HEALTH_URL",
        default_value = "http://127.0.0.1:10474/-/ready",
        hide_env_values = true
    )]
    url: Url,
    /// PEM file of certificates that are trusted beside the built-in and the system's roots
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Do not check the certificate
    #[arg(short = 'k', long)]
    insecure: bool,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn ask(self) -> anyhow::Result<()> {
        ensure!(
            matches!(self.url.scheme(), "http" | "https"),
            "`{}` cannot be asked; write http:// or https://, as in http://127.0.0.1:10474/-/ready",
            self.url.scheme()
        );
        let mut shown = self.url.clone();
        // Fails only for URLs that cannot have them.
        let _without = (shown.set_password(None), shown.set_username(""));
        let options = Options { ca_file: self.cacert, insecure: self.insecure, ..Options::default() };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(Prober::new(options)?.tls_config())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_MAX)
            .build()?;
        let answer = client.get(self.url).send().await.map_err(reqwest::Error::without_url);
        let answer = answer.with_context(|| format!("no answer from {shown}"))?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{shown} is not ready: it answers {status}");
        }
        Ok(())
    }
}
