//! One captured frame into the TCP segment within it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::wire::tls;

/// How frames begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// With an Ethernet header.
    Ethernet,
    /// With the IP header.
    Ip,
    /// With this many bytes of which the last two are an Ethernet type (Linux cooked).
    Cooked,
    /// With the second version's header: the type comes first, in 20 bytes.
    Cooked2,
    /// With four bytes that name the address family (BSD loopback).
    Loopback,
}

impl Link {
    /// By its number in <https://www.tcpdump.org/linktypes.html>.
    pub(super) const fn of(link_type: i32) -> Option<Self> {
        match link_type {
            1 => Some(Self::Ethernet),
            // 12 and 14 are raw IP on some systems.
            12 | 14 | 101 | 228 | 229 => Some(Self::Ip),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            0 | 108 => Some(Self::Loopback),
            _ => None,
        }
    }
}

/// Source and destination of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Pair {
    /// The same pair for both directions, and whether this one is its forward direction.
    pub(super) fn normalised(self) -> (Self, bool) {
        if self.source <= self.destination {
            (self, true)
        } else {
            (Self { source: self.destination, destination: self.source }, false)
        }
    }
}

/// What a segment says.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    /// `None` without the ACK flag.
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// Payload bytes as sent, by the IP header: the capture may have cut them.
    pub(super) length: u32,
    /// The name in a ClientHello that lies whole within this segment.
    pub(super) name: Option<String>,
}

/// The TCP segment in a frame; `None` for anything else.
pub(super) fn parse(link: Link, frame: &[u8]) -> Option<(Pair, Segment)> {
    let cooked = |at: usize, skip: usize| {
        let kind = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        Some(LaxSlicedPacket::from_ether_type(EtherType(kind), frame.get(skip..)?))
    };
    let sliced = match link {
        Link::Ethernet => LaxSlicedPacket::from_ethernet(frame).ok()?,
        Link::Ip => LaxSlicedPacket::from_ip(frame).ok()?,
        Link::Cooked => cooked(14, 16)?,
        Link::Cooked2 => cooked(0, 20)?,
        Link::Loopback => LaxSlicedPacket::from_ip(frame.get(4..)?).ok()?,
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
    let (source, destination, ip_payload, captured): (IpAddr, IpAddr, Option<usize>, usize) =
        match sliced.net? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let claimed = usize::from(header.total_len()).checked_sub(header.slice().len());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    claimed,
                    ip.payload().payload.len(),
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let extensions = ip.extensions().slice().len();
                let claimed = usize::from(header.payload_length()).checked_sub(extensions);
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    claimed,
                    ip.payload().payload.len(),
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
    let header = tcp.header_slice().len();
    // Zero stands for a size that only the network card will fill in.
    let ip_payload = ip_payload.filter(|&length| length >= header).unwrap_or(captured);
    let length = ip_payload - header.min(ip_payload);
    let pair = Pair {
        source: SocketAddr::new(source, tcp.source_port()),
        destination: SocketAddr::new(destination, tcp.destination_port()),
    };
    let segment = Segment {
        sequence: tcp.sequence_number(),
        acknowledged: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        length: length as u32,
        name: tls::client_hello(tcp.payload()).ok().and_then(|hello| hello.name),
    };
    Some((pair, segment))
}
