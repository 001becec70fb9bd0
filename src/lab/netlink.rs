//! The few requests to the kernel's routing socket (rtnetlink(7)) that devices need: made, given addresses, routed to.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

const NLM_F_REQUEST_ACK: u16 = 0x0005;
const NLM_F_CREATE_EXCL: u16 = 0x0600;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;

/// A routing socket of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A hardware address.
pub(super) type Mac = [u8; 6];

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(libc::NETLINK_ROUTE)),
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A veth pair: one end here, the other in another namespace, each with a hardware address.
    pub(super) fn add_veth(
        &mut self,
        here: (&str, Mac),
        there: (&str, Mac),
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let end = |(name, mac): (&str, Mac)| {
            let mut attributes = Attributes::default();
            attributes.text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac).number(IFLA_TXQLEN, 10_000);
            attributes
        };
        let mut peer = Attributes(link_header(0, 0, 0));
        peer.0.extend(end(there).0);
        peer.number(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        let mut data = Attributes::default();
        data.bytes(VETH_INFO_PEER, &peer.0);
        let mut info = Attributes::default();
        info.bytes(IFLA_INFO_KIND, b"veth").bytes(IFLA_INFO_DATA, &data.0);
        let mut body = link_header(0, 0, 0);
        body.extend(end(here).0);
        body.extend(Attributes::default().bytes(IFLA_LINKINFO, &info.0).0.clone());
        self.request(RTM_NEWLINK, NLM_F_CREATE_EXCL, &body)
    }

    /// Switches a device on, with room for packets that wait for the middlebox; `arp` off answers every next hop.
    pub(super) fn set_up(&mut self, device: u32, arp: bool) -> io::Result<()> {
        let flags = if arp { IFF_UP } else { IFF_UP | IFF_NOARP };
        let mut body = link_header(device, flags, flags);
        body.extend(Attributes::default().number(IFLA_TXQLEN, 10_000).0.clone());
        self.request(RTM_NEWLINK, 0, &body)
    }

    /// Gives a device an address of its own.
    pub(super) fn add_address(&mut self, device: u32, address: IpAddr) -> io::Result<()> {
        let (octets, bits) = octets(address);
        let mut body = vec![family(address), bits, IFA_F_NODAD, 0];
        body.extend(device.to_ne_bytes());
        let mut attributes = Attributes::default();
        attributes.bytes(IFA_LOCAL, &octets).bytes(IFA_ADDRESS, &octets);
        body.extend(attributes.0);
        self.request(RTM_NEWADDR, NLM_F_CREATE_EXCL, &body)
    }

    /// Routes everything of a family (that of `like`) to a device.
    pub(super) fn add_default_route(&mut self, device: u32, like: IpAddr) -> io::Result<()> {
        const TABLE_MAIN: u8 = 254;
        const PROTOCOL_STATIC: u8 = 4;
        const SCOPE_LINK: u8 = 253;
        const SCOPE_UNIVERSE: u8 = 0;
        const TYPE_UNICAST: u8 = 1;
        let scope = if like.is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
        let mut body =
            vec![family(like), 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, TYPE_UNICAST, 0, 0, 0, 0];
        body.extend(Attributes::default().number(RTA_OIF, device).0.clone());
        self.request(RTM_NEWROUTE, NLM_F_CREATE_EXCL, &body)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST_ACK | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        self.socket.send(&message)?;
        let mut answer = [0; 4096];
        let length = io::Read::read(&mut &self.socket, &mut answer)?;
        let answer = &answer[..length];
        let (Some(kind), Some(code)) = (answer.get(4..6), answer.get(16..20)) else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        };
        if u16::from_ne_bytes([kind[0], kind[1]]) != NLMSG_ERROR {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        }
    }
}

/// `struct ifinfomsg`.
fn link_header(device: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0, 0, 0, 0];
    header.extend(device.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> (Vec<u8>, u8) {
    match address {
        IpAddr::V4(v4) => (v4.octets().to_vec(), 32),
        IpAddr::V6(v6) => (v6.octets().to_vec(), 128),
    }
}

/// Attributes in their wire form: length, kind, value, filled up to four bytes.
#[derive(Debug, Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }

    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }
}
