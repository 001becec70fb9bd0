//! Status page, metrics, API, health and reload over HTTP.
//!
//! Reads snapshots and metrics, sends commands, and knows nothing of the engine behind them. Everything is bounded:
//! connections, headers, time, renderings at once; whatever takes a core for a while runs beside the measuring threads.

mod accept;
mod auth;
mod exposition;
mod live;
mod page;
mod probe;
mod routes;
mod settings;
mod tls;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

use crate::{
    metrics::Metrics,
    model::{Command, Snapshot},
};

/// How the web side is configured (`--web.config.file`), read and checked.
#[derive(Debug)]
pub struct WebSettings {
    live: live::Live,
}

impl WebSettings {
    /// Reads the file and the certificates it names; without a file: plain HTTP for everybody who can connect.
    pub fn load(config_file: Option<&Path>) -> Result<Self, WebError> {
        Ok(Self { live: live::Live::load(config_file)? })
    }
}

/// Why the web configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file says what cannot be.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        problem: String,
    },
}

/// Answers on `listener` until `shutdown`, then lets running answers finish for two seconds at most.
pub async fn serve(
    listener: TcpListener,
    settings: WebSettings,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    metrics: Metrics,
    commands: mpsc::Sender<Command>,
    shutdown: impl Future<Output = ()>,
) {
    let live = Arc::new(settings.live);
    let router = routes::router(routes::Shared::new(snapshots, metrics, commands, Arc::clone(&live)));
    accept::accept(listener, router, live, shutdown).await;
}
