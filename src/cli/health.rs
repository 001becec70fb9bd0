//! `throttlescope health`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use url::Url;

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
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn ask(self) -> anyhow::Result<()> {
        let mut shown = self.url.clone();
        // Fails only for URLs that cannot have them.
        let _without = (shown.set_password(None), shown.set_username(""));
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
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

fn tls() -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        .with_no_client_auth();
    Ok(config)
}
