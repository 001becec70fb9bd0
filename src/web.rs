//! Status page, metrics, API, health and reload over HTTP.
//!
//! Reads snapshots and metrics, sends commands, and knows nothing of the engine behind them. Everything is bounded:
//! connections, headers, time, renderings at once; whatever takes a core for a while runs beside the measuring threads.

mod accept;
mod api;
mod auth;
mod chart;
mod exposition;
mod history;
mod html;
mod live;
mod page;
mod probe;
mod routes;
mod settings;
mod texts;
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
use tokio_util::sync::CancellationToken;

pub use history::{
    Bin, ExportFormat, ExportRequest, History, HistoryError, Latest, PastIncident, StoredHistory,
};

use crate::{
    metrics::Metrics,
    model::{Command, Snapshot},
};

/// How the web side is configured (`--web.config.file`), read and checked.
pub struct WebSettings {
    live: live::Live,
    history: Option<Arc<dyn History>>,
    emulated: bool,
}

impl WebSettings {
    /// Reads the file and the certificates it names; without a file: plain HTTP for everybody who can connect.
    pub fn load(config_file: Option<&Path>) -> Result<Self, WebError> {
        Ok(Self { live: live::Live::load(config_file)?, history: None, emulated: false })
    }

    /// Shows the past as well.
    #[must_use]
    pub fn with_history(self, history: Arc<dyn History>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// Says on every page that the throttler is part of this program.
    #[must_use]
    pub fn emulated(self) -> Self {
        Self { emulated: true, ..self }
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
    let (live, stop) = (Arc::new(settings.live), CancellationToken::new());
    let [renderings, exports] = routes::Shared::permits();
    let shared = routes::Shared {
        snapshots,
        metrics,
        commands,
        live: Arc::clone(&live),
        history: settings.history,
        emulated: settings.emulated,
        stop: stop.clone(),
        renderings,
        exports,
    };
    accept::accept(listener, routes::router(shared), live, stop, shutdown).await;
}
