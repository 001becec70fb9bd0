//! `throttlescope run`: the daemon.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{self, Config, Overrides},
    engine::{Daemon, Keeper, Setup},
    metrics::Metrics,
    model::Command,
    notify,
    store::Reader,
    web::{self, StoredHistory, WebSettings},
};

use super::{check_config::short, safety};

/// Commands that wait for the engine; a page that asks faster is told to come back.
const COMMANDS_WAITING_MAX: usize = 64;

/// Measures round the clock.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(long, visible_alias = "config.file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on without asking after the safety notice
    #[arg(long)]
    yes: bool,
    /// Where to answer [default: 127.0.0.1:10474]
    #[arg(long = "web.listen-address", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// TLS and basic authentication, as Prometheus exporters have it
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Seed of the schedule and the random order [default: drawn]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What is logged: error, warn, info, debug, trace
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// How it is logged
    #[arg(long = "log.format", value_enum, default_value = "logfmt")]
    log_format: LogFormat,
}

/// `--log.format`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

impl Args {
    /// Runs until SIGTERM or Ctrl-C.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.start_logging()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve())?;
        // Whatever a starved transfer still holds must not keep the process.
        runtime.shutdown_background();
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(self) -> anyhow::Result<()> {
        let web_settings = WebSettings::load(self.web_config.as_deref())?;
        let (setup, config) = self.setup()?;
        let listen = self.listen.unwrap_or(config.web.listen);
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; is another instance running? --web.listen-address names another port")
        })?;
        let metrics = Metrics::new(&setup.plan.targets(), &setup.plan.vantage, setup.plan.histograms);
        let address = listener.local_addr()?;
        info!(%address, targets = setup.plan.items.len(), "measuring");
        for (index, item) in setup.plan.items.iter().enumerate() {
            let (every, wished) = (short(setup.schedule.effective_interval(index)), short(item.interval));
            info!(id = %item.target.id, every, wished, "effective interval");
        }
        let (commands, receiver) = mpsc::channel(COMMANDS_WAITING_MAX);
        let shutdown = CancellationToken::new();
        let seed = self.seed.unwrap_or_else(rand::random);
        let settings = config.store.settings();
        let (was_web, was_store) = (config.web.listen, settings.path.clone());
        let reload = Box::new(move || {
            let (setup, config) = self.setup().map_err(|error| format!("{error:#}"))?;
            if self.listen.is_none() && config.web.listen != was_web {
                warn!("[web] listen has changed and takes effect at the next start");
            }
            if config.store.settings().path != was_store {
                warn!("[store] path has changed and takes effect at the next start");
            }
            Ok(setup)
        });
        let web_settings =
            web_settings.with_history(Arc::new(StoredHistory::new(Reader::new(settings.path.clone()))));
        let sender = notify::Sender::new(setup.prober.tls_config())?;
        let past = Keeper::open(settings, sender, &metrics);
        let (daemon, snapshots) = Daemon::new(setup, metrics.clone(), reload, seed, past);
        let engine = tokio::spawn(daemon.run(receiver, shutdown.clone()));
        let stop_web = shutdown.clone().cancelled_owned();
        let web =
            tokio::spawn(web::serve(listener, web_settings, snapshots, metrics, commands.clone(), stop_web));
        listen_to_signals(&commands, &shutdown).await?;
        info!("shutting down");
        engine.await?;
        web.await?;
        Ok(())
    }

    /// Everything built fully from the configuration as it is now.
    fn setup(&self) -> anyhow::Result<(Setup, Config)> {
        let config = config::load(self.config.as_deref(), &Overrides::from_environment())?;
        safety::acknowledge(&config, self.yes)?;
        let setup = Setup::of(&config, self.seed.unwrap_or_else(rand::random))?;
        Ok((setup, config))
    }

    fn start_logging(&self) -> anyhow::Result<()> {
        // A word that is no level would be taken for the name of a part of the program, and everything else be silent.
        let level = &self.log_level;
        let known =
            level.contains(['=', ',']) || level.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let filter = EnvFilter::try_new(level).ok().filter(|_| known);
        let filter = filter.with_context(|| {
            format!("--log.level {level}: not a level; it is one of error, warn, info, debug, trace")
        })?;
        let registry = tracing_subscriber::registry().with(filter);
        match self.log_format {
            LogFormat::Logfmt => registry
                .with(tracing_logfmt::builder().with_location(false).layer().with_writer(std::io::stderr))
                .try_init()?,
            LogFormat::Json => registry
                .with(
                    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr),
                )
                .try_init()?,
        }
        Ok(())
    }
}

/// Returns at SIGTERM or Ctrl-C, after telling `shutdown`; SIGHUP reloads.
async fn listen_to_signals(
    commands: &mpsc::Sender<Command>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // The engine itself logs how it went.
                let reload = Command::Reload { reply: Box::new(|_| {}) };
                if commands.send(reload).await.is_err() {
                    break;
                }
            }
        }
    }
    shutdown.cancel();
    Ok(())
}
