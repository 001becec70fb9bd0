//! The measurement server: accepts TLS under any name, sends or takes what is asked, and keeps nothing.
//!
//! A volunteer runs one where nobody throttles; the laboratory and the tests run it in their own process. It stands on
//! the open internet, so everything about it is bounded: connections, requests and bytes of one client and of all,
//! headers, waits, and memory. It writes no log: addresses live in memory for the limits alone, names not at all beyond
//! the cache of certificates.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, ResolvesServerCert},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::clock;

mod certificates;
mod connection;
mod content;
mod limits;
mod requests;

pub use certificates::Certificate;
pub use limits::Limits;

/// How long transfers under way may go on after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Connections the kernel holds ready for us.
const BACKLOG: i32 = 1024;

/// What a server is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses for TLS; port 0 is any free one.
    pub https: Vec<SocketAddr>,
    /// Addresses for plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Where certificates come from.
    pub certificate: Certificate,
    /// Longest object, in bytes.
    pub bytes_max: u64,
    /// Longest upload, in bytes.
    pub upload_max: u64,
    /// Length of the object at every other path, in bytes; `None` answers 404 there.
    pub any_path_bytes: Option<u64>,
    /// Steady rates in bytes per second by name, lower case; `*` is every name without one of its own. The name is the
    /// one in the `ClientHello`, or where there is none the host asked for.
    pub paces: BTreeMap<String, u64>,
    /// All addresses under which this server is reached at the same ports; told to every client, unless there are none.
    pub announce: Vec<IpAddr>,
    /// What clients may ask for.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            https: Vec::new(),
            http: Vec::new(),
            certificate: Certificate::Made,
            bytes_max: 64 << 20,
            upload_max: 64 << 20,
            any_path_bytes: None,
            paces: BTreeMap::new(),
            announce: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Why the server could not start, or its certificate not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing to listen on.
    #[error("no address to listen on is given")]
    NoAddress,
    /// An address could not be listened on.
    #[error("cannot listen on {address}{}", listen_advice(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A PEM file could not be read.
    #[error("cannot read {}, which must be a PEM file", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not belong together.
    #[error("{} and {} cannot be used together", chain.display(), key.display())]
    Mismatch {
        /// The certificate chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The TLS library refused our settings.
    #[error("cannot set TLS up")]
    Tls(#[from] rustls::Error),
}

fn listen_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; stop the other program there or choose another port",
        io::ErrorKind::PermissionDenied => "; choose a port above 1023, or grant CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; choose an address of this machine",
        _ => "",
    }
}

/// A measurement server that listens, and answers once it is [run](Self::run).
#[derive(Debug)]
pub struct Server {
    settings: Arc<Settings>,
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    tls: TlsConfig,
}

#[derive(Debug)]
struct TlsConfig {
    config: Arc<ServerConfig>,
    authority_pem: Option<String>,
    reload: Reload,
}

/// Reads the given certificate again, as a renewal asks for.
#[derive(Debug, Clone)]
pub struct Reload(Option<Arc<certificates::Given>>);

impl Reload {
    /// Reads the files again; on an error the old certificate stays. Made certificates need none of this.
    pub fn reload(&self) -> Result<(), ServeError> {
        self.0.as_ref().map_or(Ok(()), |given| given.reload())
    }
}

impl Server {
    /// Listens on all addresses. The sockets are made by the calling thread, in its network namespace, before this
    /// first yields.
    #[allow(
        clippy::unused_async,
        reason = "needs a tokio runtime around it, which a plain function would not show"
    )]
    pub async fn bind(settings: Settings) -> Result<Self, ServeError> {
        if settings.https.is_empty() && settings.http.is_empty() {
            return Err(ServeError::NoAddress);
        }
        let https = listen_all(&settings.https)?;
        let http = listen_all(&settings.http)?;
        let tls = TlsConfig::new(settings.certificate.clone())?;
        content::prepare();
        Ok(Self { settings: Arc::new(settings), https, http, tls })
    }

    /// The addresses that TLS is answered on, with their real ports.
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.https)
    }

    /// The addresses that plain HTTP is answered on, with their real ports.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.http)
    }

    /// The certificate, in PEM, that clients must trust for certificates to check; `None` where they are given.
    pub fn authority_pem(&self) -> Option<&str> {
        self.tls.authority_pem.as_deref()
    }

    /// A handle for reading the given certificate again while the server runs.
    pub fn reload_handle(&self) -> Reload {
        self.tls.reload.clone()
    }

    /// Answers until `shutdown` is done, then lets transfers finish for a few seconds and breaks off the rest.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let gate = limits::Gate::new(self.settings.limits.clone(), clock::now());
        let stop = connection::Stop::default();
        let tracker = TaskTracker::new();
        let acceptor = TlsAcceptor::from(self.tls.config);
        let secure = self.https.into_iter().map(|listener| (listener, Some(acceptor.clone())));
        let plain = self.http.into_iter().map(|listener| (listener, None));
        for (listener, tls) in secure.chain(plain) {
            let door = Door { listener, tls, gate: gate.clone(), settings: Arc::clone(&self.settings) };
            tracker.spawn(door.open(stop.clone(), tracker.clone()));
        }
        shutdown.await;
        stop.drain.cancel();
        tracker.close();
        if tokio::time::timeout(DRAIN_MAX, tracker.wait()).await.is_err() {
            stop.now.cancel();
            tracker.wait().await;
        }
    }
}

/// One listening socket and what its connections need.
struct Door {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    gate: limits::Gate,
    settings: Arc<Settings>,
}

impl Door {
    async fn open(self, stop: connection::Stop, tracker: TaskTracker) {
        while let Some(stream) = stop.drain.run_until_cancelled(self.accept()).await {
            let Ok(peer) = stream.peer_addr() else { continue };
            let Some(visit) = self.gate.enter(peer.ip(), clock::now()) else { continue };
            // A delayed last segment would look like a slow line.
            let _best_effort = stream.set_nodelay(true);
            let settings = Arc::clone(&self.settings);
            tracker.spawn(connection::serve(stream, self.tls.clone(), visit, settings, stop.clone()));
        }
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                // A client that left early, or no file descriptors: the first is none of our business, the second
                // passes as connections end. The pause keeps it from spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl TlsConfig {
    fn new(certificate: Certificate) -> Result<Self, ServeError> {
        let (resolver, authority_pem, reload): (Arc<dyn ResolvesServerCert>, _, _) = match certificate {
            Certificate::Made => {
                let maker = certificates::Maker::new()?;
                let pem = maker.authority_pem().to_owned();
                (Arc::new(maker), Some(pem), None)
            }
            Certificate::Given { chain, key } => {
                let given = Arc::new(certificates::Given::read(chain, key)?);
                (given.clone(), None, Some(given))
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Every connection is measured whole: nothing is resumed, and no ticket mixes with the first response bytes.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), authority_pem, reload: Reload(reload) })
    }
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Listens on each address. "All IPv6 addresses" beside another is left out on a machine without IPv6.
fn listen_all(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners = Vec::with_capacity(wanted.len());
    for &address in wanted {
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if wanted.len() > 1 && lacks_ipv6(address, &error) => {}
            Err(source) => return Err(ServeError::Listen { address, source }),
        }
    }
    Ok(listeners)
}

fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let missing = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL];
    address.is_ipv6()
        && address.ip().is_unspecified()
        && error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // So that both families can be listened on with the same port.
        socket.set_only_v6(true)?;
    }
    // A restarted server takes its port back although old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
