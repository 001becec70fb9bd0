//! What answers in the server's namespace: the measurement server on all addresses, and a resolver that knows every
//! name.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::sys;
use crate::serve::{Limits, ServeError, Server, Settings};
use crate::wire::dns;

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The measurement server would not start.
    #[error("cannot start the measurement server")]
    Serve(#[from] ServeError),
    /// Its runtime or the resolver's socket could not be had.
    #[error("cannot start the server's threads")]
    Io(#[from] io::Error),
}

/// Settings of the measurement server on these addresses: TLS on 443 and HTTP on 80, an object at every path.
pub(super) fn settings(addresses: &[IpAddr]) -> Settings {
    /// What any page of a platform is good for here.
    const ANY_PATH_BYTES: u64 = 128 << 10;
    let at = |port: u16| addresses.iter().map(|&address| SocketAddr::new(address, port)).collect();
    Settings {
        https: at(443),
        http: at(80),
        any_path_bytes: Some(ANY_PATH_BYTES),
        announce: addresses.to_vec(),
        limits: Limits::generous(),
        ..Settings::default()
    }
}

/// Starts the measurement server in a thread of its own, in the calling thread's namespace; the certificate that its
/// clients must trust. It runs as long as the process.
pub(super) fn start(settings: Settings) -> Result<Option<String>, ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = runtime.block_on(Server::bind(settings))?;
    let authority = server.authority_pem().map(str::to_owned);
    std::thread::Builder::new()
        .name("lab-server".to_owned())
        .spawn(move || runtime.block_on(server.run(std::future::pending())))?;
    Ok(authority)
}

/// Starts the resolver: a socket on each address, made in the calling thread's namespace. Every name leads to the first
/// server; `host2.` in front of it to the second, and so on.
pub(super) fn start_resolver(addresses: &[IpAddr], ipv6: bool) -> io::Result<()> {
    for &address in addresses {
        let socket = UdpSocket::bind(SocketAddr::new(address, 53))?;
        std::thread::Builder::new().name("lab-resolver".to_owned()).spawn(move || resolve(&socket, ipv6))?;
    }
    Ok(())
}

fn resolve(socket: &UdpSocket, ipv6: bool) {
    let mut buffer = [0; 4096];
    loop {
        // An error is about an earlier answer whose asker has gone.
        let Ok((length, asker)) = socket.recv_from(&mut buffer) else { continue };
        let query = &buffer[..length];
        let Some(name) = dns::question(query) else { continue };
        let number = name
            .strip_prefix("host")
            .and_then(|rest| rest.split('.').next())
            .and_then(|number| number.parse::<u8>().ok())
            .map_or(0, |number| number.saturating_sub(1));
        let (v4, v6) = super::network::server_addresses(number);
        let mut addresses = vec![IpAddr::V4(v4)];
        addresses.extend(ipv6.then_some(IpAddr::V6(v6)));
        if let Some(answer) = dns::answer(query, &addresses) {
            let _gone = socket.send_to(&answer, asker);
        }
    }
}

/// Waits in a thread until `watched` comes to its end, then ends the process: whoever held the other end is gone.
pub(super) fn end_with(watched: BorrowedFd<'_>) -> io::Result<()> {
    let watched = watched.try_clone_to_owned()?;
    std::thread::Builder::new().name("lab-watch".to_owned()).spawn(move || {
        while let Ok([false]) = sys::wait_readable([watched.as_fd()], None) {}
        std::process::exit(125);
    })?;
    Ok(())
}
