//! The TCP connection: always a fresh socket and port, sent from where the user said.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use tokio::net::{TcpSocket, TcpStream};

use super::{SetupError, failure};
use crate::model::Failure;

/// Where connections are sent from.
#[derive(Debug, Clone, Default)]
pub(super) enum Source {
    /// As the system decides.
    #[default]
    Any,
    /// From this address.
    Address(IpAddr),
    /// Through this interface.
    Interface(String),
}

impl Source {
    pub(super) fn new(interface: Option<&str>) -> Result<Self, SetupError> {
        let Some(text) = interface else { return Ok(Self::Any) };
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let unknown = text.is_empty()
            || text.contains('/')
            || (cfg!(target_os = "linux") && !std::path::Path::new("/sys/class/net").join(text).exists());
        if unknown {
            return Err(SetupError::Interface { name: text.to_owned() });
        }
        Ok(Self::Interface(text.to_owned()))
    }

    fn apply(&self, socket: &TcpSocket) -> io::Result<()> {
        match self {
            Self::Any => Ok(()),
            Self::Address(address) => socket.bind(SocketAddr::new(*address, 0)),
            #[cfg(target_os = "linux")]
            Self::Interface(name) => socket.bind_device(Some(name.as_bytes())),
            #[cfg(not(target_os = "linux"))]
            Self::Interface(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// A socket that is not connected yet, and a second handle to ask the kernel about it: the first is given away to TLS
/// and HTTP, and is gone when `connect` fails.
pub(super) struct Dialer {
    socket: TcpSocket,
    handle: Option<OwnedFd>,
}

impl Dialer {
    pub(super) fn new(address: SocketAddr, source: &Source) -> Result<Self, Failure> {
        let open = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            source.apply(&socket)?;
            // A request behind the handshake's last message must not wait for that one's acknowledgement.
            socket.set_nodelay(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| failure::connect(&error))?;
        let handle = socket.as_fd().try_clone_to_owned().ok();
        Ok(Self { socket, handle })
    }

    pub(super) fn take_handle(&mut self) -> Option<OwnedFd> {
        self.handle.take()
    }

    pub(super) async fn connect(self, address: SocketAddr) -> Result<TcpStream, Failure> {
        self.socket.connect(address).await.map_err(|error| failure::connect(&error))
    }
}
