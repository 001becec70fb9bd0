//! The laboratory's network: three namespaces, the devices that join them, and where packets are taken and given.
//!
//! TUN devices where `/dev/net/tun` opens; else veth pairs whose middle ends are read and written through packet sockets,
//! with all offloads off, so that every packet is a real one with a real checksum. Everything is held by open descriptors
//! alone: nothing is left when the process ends, however it ends.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::netlink::{Mac, Netlink};
use super::sys::{self, Namespaces};

/// The device at each end.
const DEVICE: &str = "lab0";
/// An Ethernet header: two addresses and a type.
const ETHERNET: usize = 14;
const MAC_CLIENT: Mac = [2, 0, 0, 0, 0, 1];
const MAC_SERVER: Mac = [2, 0, 0, 0, 0, 2];
/// The middle ends' own address: nothing is ever sent to it.
const MAC_MIDDLE: Mac = [2, 0, 0, 0, 0, 3];

/// Why the network could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct NetworkError {
    what: &'static str,
    source: io::Error,
}

fn step<T>(what: &'static str, result: io::Result<T>) -> Result<T, NetworkError> {
    result.map_err(|source| NetworkError { what, source })
}

/// What joins the namespaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Joint {
    /// TUN where it opens, else veth.
    #[default]
    Any,
    /// TUN devices.
    Tun,
    /// veth pairs with packet sockets.
    Veth,
}

/// Which addresses there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) clients: u16,
    pub(super) servers: u8,
    pub(super) joint: Joint,
}

/// The built network; the calling thread stays in the client's namespace.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) client: Port,
    pub(super) server: Port,
    server_namespace: OwnedFd,
    client_namespace: OwnedFd,
    /// Both families work.
    pub(super) ipv6: bool,
}

/// Where packets of one end are taken and given.
#[derive(Debug)]
pub(super) struct Port {
    descriptor: OwnedFd,
    /// Frames have an Ethernet header with these two addresses.
    header: Option<[u8; ETHERNET]>,
    buffer: Vec<u8>,
}

/// A client's addresses; clients are numbered from 0.
pub fn client_addresses(number: u16) -> (Ipv4Addr, Ipv6Addr) {
    let (c, d) = (number / 250, number % 250 + 1);
    (Ipv4Addr::new(100, 64, c as u8, d as u8), Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, c, d))
}

/// The number of the client with this address, private or behind its translator.
pub(super) fn client_number(address: IpAddr) -> Option<u16> {
    let (c, d) = match address {
        IpAddr::V4(v4) => match v4.octets() {
            [100, 64 | 127, c, d] => (u16::from(c), u16::from(d)),
            _ => return None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfd64 | 0xfd67, 0, 0, 0, 0, 0, c, d] => (c, d),
            _ => return None,
        },
    };
    (1..=250).contains(&d).then(|| c * 250 + d - 1)
}

/// A server's addresses; servers are numbered from 0, and the same program answers on all of them.
pub fn server_addresses(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(192, 0, 2, number + 1), Ipv6Addr::new(0xfd65, 0, 0, 0, 0, 0, 0, u16::from(number) + 1))
}

impl Network {
    /// Builds it around the calling thread, which must be alone where user namespaces are involved.
    pub(super) fn build(plan: Plan) -> Result<Self, NetworkError> {
        let server_namespace = step("make the server's network namespace", new_namespace())?;
        let client_namespace = step("make the client's network namespace", new_namespace())?;
        let tun = match plan.joint {
            Joint::Veth => None,
            Joint::Tun => Some(step("open /dev/net/tun", tuns(&client_namespace, &server_namespace))?),
            // A device file that is there but not ours is the ordinary case; veth is then as good.
            Joint::Any => tuns(&client_namespace, &server_namespace).ok(),
        };
        let (client, server) = match tun {
            Some(ports) => ports,
            None => step("join the namespaces by veth pairs", veths(&client_namespace, &server_namespace))?,
        };
        let servers = (0..plan.servers).map(server_addresses);
        step("enter the server's namespace", sys::enter(server_namespace.as_fd()))?;
        let arp = client.header.is_none();
        let server_has_ipv6 = step("set the server's device up", set_up(&servers, arp))?;
        let clients = (0..plan.clients).map(client_addresses);
        step("enter the client's namespace", sys::enter(client_namespace.as_fd()))?;
        let client_has_ipv6 = step("set the client's device up", set_up(&clients, arp))?;
        let ipv6 = server_has_ipv6 && client_has_ipv6;
        Ok(Self { client, server, server_namespace, client_namespace, ipv6 })
    }

    /// Does something in the server's namespace, and comes back to the client's.
    pub(super) fn at_server<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetworkError> {
        step("enter the server's namespace", sys::enter(self.server_namespace.as_fd()))?;
        let done = work();
        step("enter the client's namespace", sys::enter(self.client_namespace.as_fd()))?;
        Ok(done)
    }
}

/// A new network namespace; the calling thread is in it then.
fn new_namespace() -> io::Result<OwnedFd> {
    sys::unshare(Namespaces::NET)?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

fn tuns(client: &OwnedFd, server: &OwnedFd) -> io::Result<(Port, Port)> {
    sys::enter(server.as_fd())?;
    let server = Port::new(sys::open_tun(DEVICE)?, None);
    sys::enter(client.as_fd())?;
    let client = Port::new(sys::open_tun(DEVICE)?, None);
    Ok((client, server))
}

fn veths(client: &OwnedFd, server: &OwnedFd) -> io::Result<(Port, Port)> {
    let _middle = new_namespace()?;
    let mut netlink = Netlink::open()?;
    let mut end = |name: &str, mac: Mac, namespace: &OwnedFd| {
        netlink.add_veth((name, MAC_MIDDLE), (DEVICE, mac), namespace.as_fd())?;
        // A middle end has no use for IPv6's own chatter.
        quieten(name);
        netlink.set_up(sys::index_of(name)?, false)?;
        let header = [&mac[..], &MAC_MIDDLE[..], &[8, 0]].concat();
        let header = <[u8; ETHERNET]>::try_from(header).expect("two addresses and a type are 14 bytes");
        Ok::<_, io::Error>(Port::new(sys::open_packet_socket(name)?, Some(header)))
    };
    let client = end("client", MAC_CLIENT, client)?;
    let server = end("server", MAC_SERVER, server)?;
    Ok((client, server))
}

/// Sets up loopback and the device in the calling thread's namespace; whether IPv6 works there.
fn set_up(addresses: &(impl Iterator<Item = (Ipv4Addr, Ipv6Addr)> + Clone), arp: bool) -> io::Result<bool> {
    /// `ETHTOOL_S…` of `linux/ethtool.h`: checksums, scatter-gather, and the segmentation of TCP and of all.
    const OFFLOADS: [(&str, u32); 5] =
        [("tx", 0x17), ("rx", 0x15), ("sg", 0x19), ("tso", 0x1f), ("gso", 0x24)];
    let mut netlink = Netlink::open()?;
    netlink.set_up(sys::index_of("lo")?, true)?;
    if !arp {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        for (name, command) in OFFLOADS {
            let switched = sys::switch_off(socket.as_fd(), DEVICE, command);
            // Without checksums and segmentation in software the middlebox would see packets that never existed.
            if ["tx", "tso", "gso"].contains(&name) {
                switched?;
            }
        }
    }
    quieten(DEVICE);
    let device = sys::index_of(DEVICE)?;
    netlink.set_up(device, arp)?;
    for (v4, _) in addresses.clone() {
        netlink.add_address(device, v4.into())?;
    }
    netlink.add_default_route(device, IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    // A kernel may have no IPv6, or have it switched off.
    let mut v6 = || {
        for (_, v6) in addresses.clone() {
            netlink.add_address(device, v6.into())?;
        }
        netlink.add_default_route(device, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    };
    Ok(v6().is_ok())
}

/// Keeps IPv6 from announcing and soliciting on a device; without IPv6 there is nothing to keep.
fn quieten(device: &str) {
    for (key, value) in [("accept_ra", "0"), ("router_solicitations", "0"), ("addr_gen_mode", "1")] {
        let _best_effort = std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/{key}"), value);
    }
}

/// Sets what concerns TCP in the calling thread's namespace; whether the congestion control asked for is in force.
pub(super) fn tune(congestion_control: Option<&str>) -> bool {
    let key = |name: &str| format!("/proc/sys/net/ipv4/{name}");
    // A throttled connection must not slow the next one by what the kernel remembers of the address.
    let _best_effort = std::fs::write(key("tcp_no_metrics_save"), "1");
    let _best_effort = std::fs::write(key("ip_unprivileged_port_start"), "0");
    let _best_effort = std::fs::write(key("ping_group_range"), "0 0");
    congestion_control.is_none_or(|name| std::fs::write(key("tcp_congestion_control"), name).is_ok())
}

/// The congestion control in force in the calling thread's namespace.
pub(super) fn congestion_control() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()?;
    Some(name.trim().to_owned())
}

impl Port {
    fn new(descriptor: OwnedFd, header: Option<[u8; ETHERNET]>) -> Self {
        Self { descriptor, header, buffer: vec![0; 65_536 + ETHERNET] }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Takes the next IP packet; nothing where there is none now.
    pub(super) fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let skip = if self.header.is_some() { ETHERNET } else { 0 };
        match sys::read(self.descriptor.as_fd(), &mut self.buffer) {
            Ok(length) => Ok(self.buffer.get(skip..length).map(<[u8]>::to_vec)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // A device that is down for a moment.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an IP packet to the end; whether it was taken.
    pub(super) fn give(&mut self, packet: &[u8]) -> bool {
        let given = match self.header {
            None => sys::write(self.descriptor.as_fd(), packet),
            Some(header) => {
                self.buffer[..ETHERNET].copy_from_slice(&header);
                if packet.first().is_some_and(|first| first >> 4 == 6) {
                    self.buffer[12..ETHERNET].copy_from_slice(&[0x86, 0xdd]);
                }
                let end = ETHERNET + packet.len().min(self.buffer.len() - ETHERNET);
                self.buffer[ETHERNET..end].copy_from_slice(&packet[..end - ETHERNET]);
                sys::write(self.descriptor.as_fd(), &self.buffer[..end])
            }
        };
        given.is_ok()
    }
}
