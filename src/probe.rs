//! One exchange, step by step: resolve, connect, tls, request, transfer. Measures and never judges.
//!
//! An exchange never returns an error: whatever the network does to it is its result. Only what we cannot set up at all
//! (a certificate file that is none, an interface that is not there) is a [`SetupError`], before any exchange begins.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use url::Url;

use crate::{
    clock,
    model::{Exchange, Failure, FailureKind, Family, HelloKind, Phase, Role, TransferCurve},
};

mod blank;
mod dial;
mod dns;
mod doh;
mod failure;
mod http;
mod link;
mod pace;
mod page;
mod route;
mod run;
mod tape;
mod tcp_info;
mod tls;
mod watch;

use self::{dial::Source, dns::Names, doh::Doh, route::Route, run::Run, tls::Tls};

/// Why no exchange can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of further certificates cannot be used.
    #[error("cannot use {} as certificates to trust: {reason}; give a PEM file with at least one certificate", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such interface or address.
    #[error("no interface is called \"{name}\"; give an interface's name or one of this machine's addresses")]
    Interface {
        /// What was asked for.
        name: String,
    },
    /// The TLS library refuses its own configuration.
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// Its words.
        reason: String,
    },
}

/// What asks whether enough is known of a transfer.
type Stop<'a> = &'a mut (dyn FnMut(&TransferCurve, Duration) -> bool + Send);

/// Makes exchanges. Cheap to clone: all clones share one set-up.
#[derive(Clone)]
pub struct Prober(Arc<Inner>);

struct Inner {
    options: Options,
    source: Source,
    names: Arc<Names>,
    doh: Option<Arc<Doh>>,
    tls: Arc<Tls>,
}

/// Where a URL's host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Addresses, best first; empty after a failure.
    pub addresses: Vec<SocketAddr>,
    /// How long it took; zero when nothing had to be looked up.
    pub duration: Duration,
    /// The address was given (a literal, `--resolve`), not looked up.
    pub pinned: bool,
    /// Why there is no address.
    pub failure: Option<Failure>,
}

impl Prober {
    /// Reads certificates and checks the interface.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        let source = Source::new(options.interface.as_deref())?;
        let tls = Tls::new(options.ca_file.as_deref())?;
        let names = Arc::new(Names::new(options.family));
        let doh = match &options.doh {
            // Whoever is asked for the truth has to show who he is, whatever is allowed of those who are measured.
            Some(url) => Some(Arc::new(Doh::new(url.clone(), tls.plain_config(true))?)),
            None => None,
        };
        Ok(Self(Arc::new(Inner { options, source, names, doh, tls: Arc::new(tls) })))
    }

    /// The same, sent from another of this machine's addresses.
    #[must_use]
    pub fn sent_from(&self, address: IpAddr) -> Self {
        Self(Arc::new(Inner {
            options: self.0.options.clone(),
            source: Source::Address(address),
            names: Arc::clone(&self.0.names),
            doh: self.0.doh.clone(),
            tls: Arc::clone(&self.0.tls),
        }))
    }

    /// The only address family that is used; `None` is either.
    pub fn family(&self) -> Option<Family> {
        self.0.options.family
    }

    /// The TLS configuration for HTTP that is not itself the measurement (`reqwest`): the same roots, and all checks
    /// unless [`Options::insecure`] says otherwise.
    pub fn tls_config(&self) -> rustls::ClientConfig {
        self.0.tls.plain_config(!self.0.options.insecure)
    }

    /// Looks up where a URL's host is, after `--connect-to` and `--resolve`, within the default budget of `resolve`.
    pub async fn resolve(&self, url: &Url) -> Lookup {
        let route = Route::of(url, &self.0.options);
        let start = clock::now();
        if route.addresses.is_some() {
            let (addresses, failure) = match self.0.known_all(&route) {
                Ok(addresses) => (addresses, None),
                Err(failure) => (Vec::new(), Some(failure)),
            };
            return Lookup { addresses, duration: Duration::ZERO, pinned: true, failure };
        }
        let budget = Budgets::default().resolve;
        let found = tokio::time::timeout(budget, self.0.names.look_up(&route.host)).await;
        let duration = clock::now() - start;
        let found = found.unwrap_or_else(|_| Err(failure::of(Phase::Resolve, FailureKind::Timeout)));
        let (addresses, failure) = match found {
            Ok(found) => {
                (found.into_iter().map(|address| SocketAddr::new(address, route.port)).collect(), None)
            }
            Err(failure) => (Vec::new(), Some(failure)),
        };
        Lookup { addresses, duration, pinned: false, failure }
    }

    /// Where a URL's host is by the independent resolver ([`Options::doh`]); empty where there is none, it does not
    /// answer, or the address is given.
    pub async fn resolve_independently(&self, url: &Url) -> Vec<SocketAddr> {
        let route = Route::of(url, &self.0.options);
        let Some(doh) = self.0.doh.as_ref().filter(|_| route.addresses.is_none()) else { return Vec::new() };
        let found = doh.look_up(&route.host, self.0.options.family).await;
        found.into_iter().map(|address| SocketAddr::new(address, route.port)).collect()
    }

    /// One exchange. Never an error. `due` is its intended start.
    pub async fn exchange(&self, plan: &Plan, due: clock::Instant) -> Exchange {
        Run::begin(&self.0, plan, due).go(None).await
    }

    /// The same, asking `stop` about every 250 ms of transfer whether enough is known; then the exchange ends, censored
    /// and without failure.
    pub async fn exchange_until(
        &self,
        plan: &Plan,
        due: clock::Instant,
        stop: &mut (dyn FnMut(&TransferCurve, Duration) -> bool + Send),
    ) -> Exchange {
        Run::begin(&self.0, plan, due).go(Some(stop)).await
    }
}

impl Inner {
    /// The addresses that need no lookup, of the family asked for.
    fn known_all(&self, route: &Route) -> Result<Vec<SocketAddr>, Failure> {
        let fits =
            |address: &SocketAddr| self.options.family.is_none_or(|family| family == Family::from(*address));
        let given = route.addresses.iter().flatten();
        let known: Vec<_> = given.map(|&address| SocketAddr::new(address, route.port)).filter(fits).collect();
        if known.is_empty() { Err(failure::of(Phase::Resolve, FailureKind::NoAddress)) } else { Ok(known) }
    }

    fn known(&self, route: &Route) -> Result<SocketAddr, Failure> {
        self.known_all(route).map(|known| known[0])
    }
}

/// 128 random bits in hexadecimal, for [`Label::id`].
pub fn exchange_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// How this process reaches the network: what curl's flags of the same names say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only addresses of this family (`-4`, `-6`).
    pub family: Option<Family>,
    /// Interface name or local address to send from.
    pub interface: Option<String>,
    /// PEM file of certificates that are trusted beside the built-in and the system's roots (`--cacert`).
    pub ca_file: Option<std::path::PathBuf>,
    /// Do not check certificates (`-k`).
    pub insecure: bool,
    /// `--resolve HOST:PORT:ADDR`.
    pub resolve: Vec<ResolveOverride>,
    /// `--connect-to HOST1:PORT1:HOST2:PORT2`.
    pub connect_to: Vec<ConnectTo>,
    /// An independent resolver over HTTPS, asked where the system's fails or seems to lie.
    pub doh: Option<Url>,
}

/// One `--resolve`: the address to use for a host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveOverride {
    /// Host, lower case; `*` is any.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Addresses to use, first to last.
    pub addresses: Vec<IpAddr>,
}

impl fmt::Display for ResolveOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        write!(f, "{}:{}:{}", bracketed(&self.host), self.port, addresses.join(","))
    }
}

/// One `--connect-to`: where to connect instead. `None` is "any" in the first half and "unchanged" in the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    /// Host to match.
    pub from_host: Option<String>,
    /// Port to match.
    pub from_port: Option<u16>,
    /// Host to connect to.
    pub to_host: Option<String>,
    /// Port to connect to.
    pub to_port: Option<u16>,
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |host: &Option<String>| host.as_deref().map(bracketed).unwrap_or_default();
        let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
        let (from, to) = (host(&self.from_host), host(&self.to_host));
        write!(f, "{from}:{}:{to}:{}", port(self.from_port), port(self.to_port))
    }
}

/// An IPv6 address in brackets, where colons separate.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// What one exchange shall do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its place in the round.
    pub label: Label,
    /// Scheme, host, port and path that are asked for.
    pub url: Url,
    /// The name to show in the `ClientHello` instead of the URL's host.
    pub name: Option<String>,
    /// The `Host` header instead of the URL's host.
    pub host_header: Option<String>,
    /// The address to use without looking it up.
    pub address: Option<SocketAddr>,
    /// Body bytes wanted; a smaller object is asked for again on the same connection until they have come.
    pub bytes: u64,
    /// Time budgets.
    pub budgets: Budgets,
    /// Which `ClientHello`.
    pub hello: HelloKind,
    /// Which HTTP version.
    pub http: HttpChoice,
    /// Check the certificate (`Options::insecure` overrules it).
    pub check_certificate: bool,
}

/// An exchange's place in its round; copied into the [`Exchange`].
#[derive(Debug, Clone)]
pub struct Label {
    /// Unique id.
    pub id: String,
    /// Round.
    pub round: u32,
    /// Pair.
    pub pair: u32,
    /// Position within the pair.
    pub position: u32,
    /// Role.
    pub role: Role,
    /// First exchange with the object.
    pub warmup: bool,
    /// Second family after the first failed.
    pub fallback: bool,
}

impl Label {
    /// Of an exchange that stands alone: no round's, no pair's.
    pub fn lone(role: Role) -> Self {
        Self { id: exchange_id(), round: 0, pair: 0, position: 0, role, warmup: false, fallback: false }
    }
}

/// Which HTTP version to speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpChoice {
    /// HTTP/1.1, the default of bulk transfers.
    #[default]
    Http1,
    /// HTTP/2 with windows of at least 4 MiB.
    Http2,
}

/// How long each phase may take, and the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Name lookup.
    pub resolve: Duration,
    /// TCP handshake.
    pub connect: Duration,
    /// TLS handshake.
    pub tls: Duration,
    /// First byte of the response.
    pub processing: Duration,
    /// The whole transfer phase.
    pub transfer: Duration,
    /// Silence within the transfer.
    pub stall: Duration,
    /// The whole exchange; `None` is the sum of the others.
    pub whole: Option<Duration>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            processing: Duration::from_secs(10),
            transfer: Duration::from_secs(30),
            stall: Duration::from_secs(15),
            whole: None,
        }
    }
}
