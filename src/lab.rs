//! The laboratory: a middlebox with known rules between real kernel TCP stacks.
//!
//! `middlebox` and `line` are pure machines: packet and time in, packets out. Around them stand the devices, the
//! namespaces and the loop that moves real packets through them. Profiles are data. A laboratory has lanes: each is a
//! client address with a line, a profile and a seed of its own, so that hundreds of differently conditioned flows run
//! at once. All lanes lead to the same server, which has several addresses.

mod contain;
mod lateness;
pub mod line;
pub mod middlebox;
mod names;
mod netlink;
mod network;
mod pcap;
pub mod profiles;
mod runner;
mod server;
mod sys;

use std::collections::BTreeMap;
use std::io::{self, PipeWriter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::Duration;

pub use contain::{ContainError, FAILED, Interrupt, contain};
pub use lateness::LatenessReport;
pub use network::{Joint, NetworkError, client_addresses, server_addresses};
pub use runner::LabReport;
pub use server::ServerError;

use crate::clock;
use crate::model::profile::{LineProfile, Profile};

/// Lanes of one laboratory at most.
pub const LANES_MAX: u16 = 4096;

/// A client with its line and its middlebox.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// The line.
    pub line: LineProfile,
    /// The middlebox on it.
    pub profile: Profile,
    /// Everything drawn in this lane comes from it.
    pub seed: u64,
}

/// What a laboratory is made of.
#[derive(Debug, Clone)]
pub struct LabSettings {
    /// One per client address, in their order ([`client_addresses`]).
    pub lanes: Vec<LaneSettings>,
    /// How many addresses the server has ([`server_addresses`]).
    pub servers: u8,
    /// What joins the namespaces.
    pub joint: Joint,
    /// Congestion controls of both ends, the first that the kernel offers to namespaces; the kernel's default where none
    /// is.
    pub congestion_control: Vec<String>,
    /// Captures what passes the client's side.
    pub client_pcap: Option<PathBuf>,
    /// Captures what passes the server's side.
    pub server_pcap: Option<PathBuf>,
    /// Who answers.
    pub server: ServerKind,
}

/// Who answers in the server's namespace.
#[derive(Debug, Clone)]
pub enum ServerKind {
    /// Our measurement server, with steady rates (bytes a second) by name (`*`: all others).
    Own {
        /// Rates by name.
        paces: BTreeMap<String, u64>,
    },
    /// Another program, by a shell's command line; it is waited for until it listens on port 80 or 443.
    Command(String),
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            servers: 4,
            joint: Joint::Any,
            congestion_control: vec!["cubic".to_owned(), "reno".to_owned()],
            client_pcap: None,
            server_pcap: None,
            server: ServerKind::Own { paces: BTreeMap::new() },
        }
    }
}

/// Why there is no laboratory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Too many lanes, or none.
    #[error("a laboratory has 1 to {LANES_MAX} lanes; {0} were asked for")]
    Lanes(usize),
    /// Namespaces or devices.
    #[error("cannot build the laboratory's network")]
    Network(#[from] NetworkError),
    /// The server.
    #[error("cannot start the laboratory's server")]
    Server(#[from] ServerError),
    /// Another program as server.
    #[error("the server `{command}` {what}")]
    Stranger {
        /// Its command line.
        command: String,
        /// What went wrong.
        what: String,
    },
    /// A capture file.
    #[error("cannot write the capture {}", file.display())]
    Pcap {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The loop or what it needs.
    #[error("cannot {0}")]
    Run(&'static str, #[source] io::Error),
    /// The loop died.
    #[error("the laboratory's loop ended by itself")]
    Died,
}

/// A running laboratory. The thread that started it is in the client's namespace, and so is every thread and process it
/// starts from then on.
#[derive(Debug)]
pub struct Lab {
    /// The server's addresses, IPv4 first, then IPv6 where the machine has it.
    pub servers: Vec<IpAddr>,
    /// The certificate that clients must trust, as a file seen from inside; nothing with another program as server.
    pub authority: Option<PathBuf>,
    /// The same, in PEM.
    pub authority_pem: Option<String>,
    /// The congestion control in force.
    pub congestion_control: Option<String>,
    /// What is not as asked for, in sentences.
    pub notes: Vec<String>,
    stop: PipeWriter,
    runner: JoinHandle<io::Result<LabReport>>,
    stranger: Option<Child>,
}

impl Lab {
    /// Builds it. To be called inside [`contain()`], or as root.
    pub fn start(settings: LabSettings) -> Result<Self, LabError> {
        let clients = u16::try_from(settings.lanes.len()).unwrap_or(u16::MAX);
        if !(1..=LANES_MAX).contains(&clients) {
            return Err(LabError::Lanes(settings.lanes.len()));
        }
        let mut notes = Vec::new();
        let plan = network::Plan { clients, servers: settings.servers.max(1), joint: settings.joint };
        let network = network::Network::build(plan)?;
        let congestion_control = tune(&network, &settings.congestion_control)?;
        let servers = addresses(plan.servers, network.ipv6);
        if !network.ipv6 {
            notes.push("IPv6 is not available here; the laboratory has IPv4 alone".to_owned());
        }
        network
            .at_server(|| server::start_resolver(&servers, network.ipv6))?
            .map_err(|source| LabError::Run("start the resolver", source))?;
        let (authority_pem, stranger) = network.at_server(|| answer(&settings.server, &servers))??;
        let authority = match names(servers[0], authority_pem.as_deref()) {
            Ok(authority) => authority,
            Err(error) => {
                notes.push(format!("names do not resolve to the laboratory's server inside it: {error}"));
                None
            }
        };
        let (stop, runner) = run(settings, network)?;
        Ok(Self { servers, authority, authority_pem, congestion_control, notes, stop, runner, stranger })
    }

    /// Tells a command where it is: `THROTTLESCOPE_LAB_SERVER` and the like, and the certificate to trust.
    pub fn tell(&self, command: &mut Command) {
        let all: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        command.env("THROTTLESCOPE_LAB_SERVER", &all[0]).env("THROTTLESCOPE_LAB_SERVERS", all.join(" "));
        if let Some(v6) = self.servers.iter().find(|address| address.is_ipv6()) {
            command.env("THROTTLESCOPE_LAB_SERVER6", v6.to_string());
        }
        if let Some(authority) = &self.authority {
            command.env("THROTTLESCOPE_LAB_CA", authority);
            // The names under which curl, and OpenSSL and Rust programs look for roots.
            command.env("CURL_CA_BUNDLE", authority).env("SSL_CERT_FILE", authority);
        }
    }

    /// Ends it, and says what it did.
    pub fn finish(self) -> Result<LabReport, LabError> {
        drop(self.stop);
        if let Some(mut stranger) = self.stranger {
            let _gone_already = stranger.kill();
            let _gone_already = stranger.wait();
        }
        let report = self.runner.join().map_err(|_| LabError::Died)?;
        report.map_err(|source| LabError::Run("move packets", source))
    }
}

/// The server's addresses.
fn addresses(servers: u8, ipv6: bool) -> Vec<IpAddr> {
    let all = || (0..servers).map(server_addresses);
    let v4 = all().map(|(v4, _): (Ipv4Addr, Ipv6Addr)| IpAddr::V4(v4));
    v4.chain(all().filter(|_| ipv6).map(|(_, v6)| IpAddr::V6(v6))).collect()
}

/// Sets TCP at both ends; the congestion control in force at the server, which sends most.
fn tune(network: &network::Network, wanted: &[String]) -> Result<Option<String>, LabError> {
    let set = || {
        network::tune(None);
        let _found = wanted.iter().any(|name| network::tune(Some(name)));
        network::congestion_control()
    };
    set();
    Ok(network.at_server(set)?)
}

/// Starts who answers, in the calling thread's namespace.
fn answer(kind: &ServerKind, servers: &[IpAddr]) -> Result<(Option<String>, Option<Child>), LabError> {
    match kind {
        ServerKind::Own { paces } => {
            let settings = crate::serve::Settings { paces: paces.clone(), ..server::settings(servers) };
            Ok((server::start(settings)?, None))
        }
        ServerKind::Command(line) => {
            let failed = |what: String| LabError::Stranger { command: line.clone(), what };
            let mut command = Command::new("/bin/sh");
            command.args(["-c", line]).env("THROTTLESCOPE_LAB_SERVER", servers[0].to_string());
            let mut child =
                command.spawn().map_err(|error| failed(format!("could not be started: {error}")))?;
            wait_until_it_listens(servers[0], &mut child).map_err(failed)?;
            Ok((None, Some(child)))
        }
    }
}

fn wait_until_it_listens(server: IpAddr, child: &mut Child) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let start = clock::now();
    while clock::now() - start < PATIENCE {
        if [80, 443].iter().any(|&port| std::net::TcpStream::connect((server, port)).is_ok()) {
            return Ok(());
        }
        // A server that goes to the background ends its first process with success.
        if let Ok(Some(status)) = child.try_wait()
            && !status.success()
        {
            return Err(format!("ended at once: {status}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("does not listen on port 80 or 443 of {server} after {} s", PATIENCE.as_secs()))
}

/// Names and certificate for programs inside; the certificate's path.
fn names(resolver: IpAddr, authority: Option<&str>) -> io::Result<Option<PathBuf>> {
    let names = names::Names::new()?;
    names.resolve_at(resolver)?;
    authority.map(|pem| names.write("ca.pem", pem)).transpose()
}

/// Starts the loop in a thread of its own.
fn run(
    settings: LabSettings,
    network: network::Network,
) -> Result<(PipeWriter, JoinHandle<io::Result<LabReport>>), LabError> {
    let wall = clock::wall().as_duration().unsigned_abs();
    let pcap = |file: Option<&Path>| {
        file.map(|file| {
            pcap::Pcap::create(file, wall).map_err(|source| LabError::Pcap { file: file.to_owned(), source })
        })
        .transpose()
    };
    let client_pcap = pcap(settings.client_pcap.as_deref())?;
    let server_pcap = pcap(settings.server_pcap.as_deref())?;
    let lanes =
        settings.lanes.into_iter().map(|lane| line::Lane::new(lane.line, lane.profile, lane.seed)).collect();
    let (watched, stop) = io::pipe().map_err(|source| LabError::Run("make a pipe", source))?;
    let runner = runner::Runner {
        lanes,
        client: network.client,
        server: network.server,
        client_pcap,
        server_pcap,
        start: clock::now(),
        stop: watched.into(),
    };
    let runner = std::thread::Builder::new()
        .name("lab".to_owned())
        .spawn(move || runner.run())
        .map_err(|source| LabError::Run("start a thread", source))?;
    Ok((stop, runner))
}
