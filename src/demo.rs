//! What the daemon does, to look at in two minutes: it watches two names on a measurement server of our own, an emulated
//! throttler sets in and is lifted. All of it on this machine; nothing leaves it.

mod relay;
mod story;

use std::{fs, io, net::SocketAddr, path::Path, path::PathBuf, sync::Arc};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

pub use relay::{Relay, Throttle};
pub use story::Stage;

use crate::{
    config::{Config, ConfigErrors, Overrides},
    engine::{Daemon, Keeper, Setup},
    metrics::{HistogramMode, Metrics},
    notify,
    probe::SetupError,
    serve::{self, ServeError},
    store::Reader,
    web::{self, StoredHistory, WebError, WebSettings},
};

/// The name that is slowed down, the one that is not, and the control.
pub const SLOWED: &str = "slowed.example";
const UNTOUCHED: &str = "untouched.example";
const CONTROL: &str = "control.example";

/// The limits of March 2021: 130 kbit/s after about 16 KB (Censored Planet, 2021), here in bytes of payload.
const RATE_BYTES_PER_SECOND: f64 = 16_250.0;
const BURST_BYTES: u64 = 16 * 1024;

/// Why the demonstration cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Nobody can be listened to.
    #[error("cannot listen on {address}; name another with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A folder for the database cannot be made.
    #[error("{}: cannot be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The measurement server does not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The prober does not start.
    #[error(transparent)]
    Probe(#[from] SetupError),
    /// The page does not start.
    #[error(transparent)]
    Web(#[from] WebError),
    /// Our own configuration is wrong.
    #[error("the demonstration's own configuration: {0}; please report it")]
    Config(#[from] ConfigErrors),
    /// Nothing can be sent.
    #[error(transparent)]
    Notify(#[from] notify::SendError),
    /// A socket of our own fails.
    #[error("a local connection cannot be made")]
    Local(#[from] io::Error),
}

/// Runs it. `folder` takes the database and is deleted at the end; `tell` hears of each stage as it is reached, first of
/// the page's address. Ends after the story when `once`, else when `stop` says so.
pub async fn run(
    listen: SocketAddr,
    folder: &Path,
    once: bool,
    stop: CancellationToken,
    tell: impl FnMut(&Stage),
) -> Result<(), DemoError> {
    let made = fs::create_dir_all(folder);
    made.map_err(|source| DemoError::Folder { path: folder.to_owned(), source })?;
    let result = show(listen, folder, once, stop, tell).await;
    // What is left there is only a demonstration's.
    fs::remove_dir_all(folder).ok();
    result
}

async fn show(
    listen: SocketAddr,
    folder: &Path,
    once: bool,
    stop: CancellationToken,
    mut tell: impl FnMut(&Stage),
) -> Result<(), DemoError> {
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|source| DemoError::Listen { address: listen, source })?;
    let page = listener.local_addr()?;
    let server = serve::Server::bind(serve::Settings {
        https: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..serve::Settings::default()
    })
    .await?;
    let throttle = Arc::new(Throttle::new(SLOWED, RATE_BYTES_PER_SECOND, BURST_BYTES));
    let Some(&behind) = server.https_addresses().first() else { return Err(ServeError::NoAddress.into()) };
    let relay = Relay::bind(behind, Arc::clone(&throttle)).await?;
    let config = config(relay.address()?, folder)?;
    let shutdown = stop.child_token();
    let server = tokio::spawn(server.run(shutdown.clone().cancelled_owned()));
    let relay = tokio::spawn(relay.run());

    let setup = Setup::of(&config, rand::random())?;
    let metrics = Metrics::new(&setup.plan.targets(), &setup.plan.vantage, HistogramMode::Target);
    let history = StoredHistory::new(Reader::new(config.store.path.clone()));
    let settings = WebSettings::load(None)?.with_history(Arc::new(history)).emulated();
    let sender = notify::Sender::new(setup.prober.tls_config())?;
    let past = Keeper::open(config.store.settings(), sender, &metrics);
    let reload = Box::new(|| Err("a demonstration has no configuration to read again".to_owned()));
    let (daemon, snapshots) = Daemon::new(setup, metrics.clone(), reload, rand::random(), past);
    let (commands, receiver) = mpsc::channel(8);
    let engine = tokio::spawn(daemon.run(receiver, shutdown.clone()));
    let stop_web = shutdown.clone().cancelled_owned();
    let web = tokio::spawn(web::serve(listener, settings, snapshots.clone(), metrics, commands, stop_web));

    tell(&Stage::Page(page));
    tokio::select! {
        () = stop.cancelled() => {}
        () = story::tell(&throttle, snapshots, &mut tell) => if !once {
            stop.cancelled().await;
        }
    }
    shutdown.cancel();
    relay.abort();
    // Tasks that panicked have been reported by the panic itself.
    engine.await.ok();
    web.await.ok();
    server.await.ok();
    Ok(())
}

/// Two names as often as they can be measured, whatever it costs: the line is this machine.
fn config(via: SocketAddr, folder: &Path) -> Result<Config, ConfigErrors> {
    let text = format!(
        "[catalog]\nplatforms = []\n[store]\npath = \"throttlescope.db\"\n[schedule]\nbytes_per_hour = \"100GB\"\n\
         bytes_per_day = \"2TB\"\n[[via]]\nid = \"emulated\"\naddress = \"{via}\"\nsubjects = [\"{SLOWED}\", \
         \"{UNTOUCHED}\"]\ncontrols = [\"{CONTROL}\"]\ninterval = \"1s\"\nbytes = \"64KiB\"\n"
    );
    Config::parse(&text, &folder.join("demo.toml"), &Overrides::default())
}
