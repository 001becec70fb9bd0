//! One exchange, step by step: resolve, connect, tls, request, transfer. Measures and never judges.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use url::Url;

use crate::model::{Family, HelloKind, Role};

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

/// An exchange's place in its round; copied into the [`Exchange`](crate::model::Exchange).
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
