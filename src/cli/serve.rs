//! `throttlescope serve`.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, ensure};
use bytesize::ByteSize;
use tokio::signal::unix::{SignalKind, signal};

use super::systemd;
use crate::serve::{Certificate, Limits, Server, Settings};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Answer TLS here, under any name; may be repeated, port 0 is any free one [default: port 443 on all addresses]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Answer plain HTTP here; may be repeated [default: port 80 on all addresses, unless --listen is given]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_http: Vec<SocketAddr>,
    /// PEM file of a certificate chain to show for every name, instead of one made for each; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Longest object that /bytes/N sends
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    bytes_max: ByteSize,
    /// Longest upload that is taken
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    upload_max: ByteSize,
    /// Send an object of this size at every other path too, instead of 404
    #[arg(long, value_name = "SIZE")]
    any_path: Option<ByteSize>,
    /// Send no faster than this many bytes per second under this name; `*` is every other name; may be repeated
    #[arg(long, value_name = "NAME=RATE", value_parser = parse_pace)]
    pace: Vec<(String, u64)>,
    /// Tell clients this public address of the server, for boxes that remember addresses; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    announce: Vec<IpAddr>,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Open connections of one client (an IPv4 address or an IPv6 /64)
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_client)]
    client_connections: u32,
    /// Requests of one client in a minute, each new connection counting as one
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().requests_per_minute)]
    client_requests_per_minute: u32,
    /// Bytes for one client in a minute
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(Limits::default().bytes_per_minute))]
    client_bytes_per_minute: ByteSize,
    /// Open connections of all clients
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    connections: u32,
    /// Bytes for all clients in an hour
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(Limits::default().bytes_per_hour))]
    bytes_per_hour: ByteSize,
}

impl Args {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(settings))?;
        Ok(ExitCode::SUCCESS)
    }

    fn settings(self) -> anyhow::Result<Settings> {
        let limits = self.limits.limits();
        let any_path = self.any_path.unwrap_or_default();
        for (flag, size) in
            [("--bytes-max", self.bytes_max), ("--upload-max", self.upload_max), ("--any-path", any_path)]
        {
            ensure!(
                size.0 <= limits.bytes_per_minute.min(limits.bytes_per_hour),
                "{flag} {size} is more than a client may ever have; raise --client-bytes-per-minute and --bytes-per-hour"
            );
        }
        let (https, http) = if self.listen.is_empty() && self.listen_http.is_empty() {
            (everywhere(443), everywhere(80))
        } else {
            (self.listen, self.listen_http)
        };
        let certificate = match (self.cert, self.key) {
            (Some(chain), Some(key)) => Certificate::Given { chain, key },
            _ => Certificate::Made,
        };
        Ok(Settings {
            https,
            http,
            certificate,
            bytes_max: self.bytes_max.0,
            upload_max: self.upload_max.0,
            any_path_bytes: self.any_path.map(|size| size.0),
            paces: self.pace.into_iter().collect(),
            announce: self.announce,
            limits,
        })
    }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            connections_per_client: self.client_connections,
            requests_per_minute: self.client_requests_per_minute,
            bytes_per_minute: self.client_bytes_per_minute.0,
            connections: self.connections,
            bytes_per_hour: self.bytes_per_hour.0,
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let server = Server::bind(settings).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    announce(&server);
    systemd::notify("READY=1").context("cannot tell systemd that the server is ready")?;
    let reload = server.reload_handle();
    let stopped = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => match reload.reload() {
                    Ok(()) => eprintln!("throttlescope: the certificate was read again"),
                    Err(error) => {
                        eprintln!("throttlescope: the old certificate stays: {:#}", anyhow::Error::from(error));
                    }
                },
            }
        }
    };
    server.run(stopped).await;
    Ok(())
}

/// One line for each address, `https ADDRESS:PORT` or `http ADDRESS:PORT`, then `ready`. That nobody reads them, or no
/// longer, does not keep the server from serving.
fn announce(server: &Server) {
    let https = server.https_addresses().into_iter().map(|address| format!("https {address}\n"));
    let http = server.http_addresses().into_iter().map(|address| format!("http {address}\n"));
    let lines: String = https.chain(http).chain(["ready\n".to_owned()]).collect();
    let mut stdout = io::stdout().lock();
    let _unread = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

fn parse_pace(text: &str) -> Result<(String, u64), String> {
    let (name, rate) = text.split_once('=').ok_or("write NAME=RATE, such as slow.example=20KB")?;
    let rate: ByteSize = rate.parse().map_err(|_| format!("`{rate}` is no number of bytes per second"))?;
    if name.is_empty() || rate.0 == 0 {
        return Err("the name must not be empty and the rate not zero".into());
    }
    Ok((name.to_ascii_lowercase(), rate.0))
}
