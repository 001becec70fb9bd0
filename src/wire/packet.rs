//! One IP packet: who sends what to whom, and the few packets the laboratory writes itself.
//!
//! Reading is `etherparse`'s work; this module picks out what a middlebox looks at. IPv4 and IPv6 alike. A packet that
//! does not parse has no view, and its bytes are left to the caller.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice};

/// What a middlebox sees of one IP packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The whole packet, from the IP header on.
    pub bytes: &'a [u8],
    /// The sender's address.
    pub source: IpAddr,
    /// The receiver's address.
    pub destination: IpAddr,
    /// Time to live (IPv4) or hop limit (IPv6).
    pub ttl: u8,
    /// Set where the packet is one fragment of a larger one.
    pub fragment: Option<Fragment>,
    /// What is carried; `Other` also for fragments after the first.
    pub transport: Transport<'a>,
}

/// Which fragment of which packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification: fragments of one packet share it.
    pub id: u32,
    /// Place of this fragment's payload, in bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// A TCP segment.
    Tcp(Segment<'a>),
    /// A UDP datagram.
    Udp(Datagram<'a>),
    /// Anything else, or unreadable.
    Other,
}

/// A TCP segment.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of the header")]
pub struct Segment<'a> {
    /// Sending port.
    pub source: u16,
    /// Receiving port.
    pub destination: u16,
    /// Sequence number of the first payload byte.
    pub sequence: u32,
    /// Acknowledgement number (meaningful where `ack`).
    pub acknowledgment: u32,
    /// Flag.
    pub syn: bool,
    /// Flag.
    pub ack: bool,
    /// Flag.
    pub fin: bool,
    /// Flag.
    pub rst: bool,
    /// Receive window, unscaled.
    pub window: u16,
    /// What is carried.
    pub payload: &'a [u8],
}

/// A UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Sending port.
    pub source: u16,
    /// Receiving port.
    pub destination: u16,
    /// What is carried.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads an IP packet; nothing where even the IP header is unreadable.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ip(bytes).ok()?;
        let (source, destination, ttl, fragment) = match sliced.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let offset = header.fragments_offset().value() * 8;
                let fragment = (header.more_fragments() || offset != 0).then(|| Fragment {
                    id: u32::from(header.identification()),
                    offset,
                    more: header.more_fragments(),
                });
                (
                    IpAddr::V4(header.source_addr()),
                    IpAddr::V4(header.destination_addr()),
                    header.ttl(),
                    fragment,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let fragment = fragment_of_v6(bytes);
                (
                    IpAddr::V6(header.source_addr()),
                    IpAddr::V6(header.destination_addr()),
                    header.hop_limit(),
                    fragment,
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let transport = match sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => Transport::Tcp(Segment {
                source: tcp.source_port(),
                destination: tcp.destination_port(),
                sequence: tcp.sequence_number(),
                acknowledgment: tcp.acknowledgment_number(),
                syn: tcp.syn(),
                ack: tcp.ack(),
                fin: tcp.fin(),
                rst: tcp.rst(),
                window: tcp.window_size(),
                payload: tcp.payload(),
            }),
            Some(TransportSlice::Udp(udp)) => Transport::Udp(Datagram {
                source: udp.source_port(),
                destination: udp.destination_port(),
                payload: udp.payload(),
            }),
            _ => Transport::Other,
        };
        Some(Self { bytes, source, destination, ttl, fragment, transport })
    }

    /// Ports of sender and receiver; nothing where there are none.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp(segment) => Some((segment.source, segment.destination)),
            Transport::Udp(datagram) => Some((datagram.source, datagram.destination)),
            Transport::Other => None,
        }
    }

    /// The payload of the transport, empty where there is none.
    pub fn payload(&self) -> &'a [u8] {
        match self.transport {
            Transport::Tcp(segment) => segment.payload,
            Transport::Udp(datagram) => datagram.payload,
            Transport::Other => &[],
        }
    }
}

/// The fragment header of an IPv6 packet where it follows the fixed header directly, as kernels send it.
fn fragment_of_v6(bytes: &[u8]) -> Option<Fragment> {
    const FRAGMENT_HEADER: u8 = 44;
    let header = bytes.get(40..48)?;
    if bytes[6] != FRAGMENT_HEADER {
        return None;
    }
    let offset_and_flags = u16::from_be_bytes([header[2], header[3]]);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    Some(Fragment { id, offset: offset_and_flags & !7, more: offset_and_flags & 1 != 0 })
}

/// Takes `hops` from the time to live in place and mends the checksum; false where it does not last that far.
pub fn age(bytes: &mut [u8], hops: u8) -> bool {
    let Some(ttl) = ttl_of(bytes) else { return true };
    if ttl <= hops {
        return false;
    }
    set_ttl(bytes, ttl - hops);
    true
}

/// Time to live or hop limit; nothing where this is no IP packet.
pub fn ttl_of(bytes: &[u8]) -> Option<u8> {
    match bytes.first()? >> 4 {
        4 if bytes.len() >= 20 => Some(bytes[8]),
        6 if bytes.len() >= 40 => Some(bytes[7]),
        _ => None,
    }
}

/// Sets time to live or hop limit in place and mends the IPv4 header checksum (RFC 1624, equation 3).
pub fn set_ttl(bytes: &mut [u8], ttl: u8) {
    match bytes.first().map(|first| first >> 4) {
        Some(4) if bytes.len() >= 20 => {
            let before = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[8] = ttl;
            let after = u16::from_be_bytes([bytes[8], bytes[9]]);
            let checksum = u16::from_be_bytes([bytes[10], bytes[11]]);
            bytes[10..12].copy_from_slice(&mend_checksum(checksum, before, after).to_be_bytes());
        }
        Some(6) if bytes.len() >= 40 => bytes[7] = ttl,
        _ => {}
    }
}

/// A checksum after one 16-bit word under it changed (RFC 1624, equation 3).
pub fn mend_checksum(checksum: u16, before: u16, after: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who sends.
    Source,
    /// Who receives.
    Destination,
}

/// Rewrites address and port of one end in place, as an address translator does, and mends the checksums. Leaves the
/// packet alone where it is neither TCP nor UDP without options and extensions in front, or of the other family.
pub fn set_endpoint(bytes: &mut [u8], end: End, address: IpAddr, port: u16) {
    let Some(&first) = bytes.first() else { return };
    let (header, protocol, addresses, width) = match first >> 4 {
        4 if bytes.len() >= 20 => (usize::from(first & 15) * 4, bytes[9], 12, 4),
        6 if bytes.len() >= 40 => (40, bytes[6], 8, 16),
        _ => return,
    };
    let octets = match address {
        IpAddr::V4(v4) if width == 4 => v4.octets().to_vec(),
        IpAddr::V6(v6) if width == 16 => v6.octets().to_vec(),
        _ => return,
    };
    let checksum_at = header
        + match protocol {
            6 => 16,
            17 => 6,
            _ => return,
        };
    if bytes.len() < checksum_at + 2 {
        return;
    }
    let (address_at, port_at) = match end {
        End::Source => (addresses, header),
        End::Destination => (addresses + width, header + 2),
    };
    let mut replace = |at: usize, new: [u8; 2], checksums: &[usize]| {
        let before = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].copy_from_slice(&new);
        for &checksum in checksums {
            let sum = u16::from_be_bytes([bytes[checksum], bytes[checksum + 1]]);
            // Zero means "no checksum" in UDP over IPv4, and stays so.
            if protocol == 17 && checksum == checksum_at && sum == 0 {
                continue;
            }
            let mended = mend_checksum(sum, before, u16::from_be_bytes(new));
            bytes[checksum..checksum + 2].copy_from_slice(&mended.to_be_bytes());
        }
    };
    let both = [10, checksum_at];
    let checksums = if width == 4 { &both[..] } else { &both[1..] };
    for (step, pair) in octets.chunks_exact(2).enumerate() {
        replace(address_at + 2 * step, [pair[0], pair[1]], checksums);
    }
    replace(port_at, port.to_be_bytes(), &[checksum_at]);
}

/// A TCP segment to write: what the laboratory injects.
#[derive(Debug, Clone, Copy)]
pub struct Forged<'a> {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver, of the same family.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number, and the flag with it.
    pub acknowledgment: Option<u32>,
    /// Flag.
    pub syn: bool,
    /// Flag.
    pub fin: bool,
    /// Flag.
    pub rst: bool,
    /// What is carried.
    pub payload: &'a [u8],
}

/// Writes a TCP segment; nothing where the families differ or the payload is too long for a packet.
pub fn tcp(segment: &Forged<'_>) -> Option<Vec<u8>> {
    const WINDOW: u16 = 65_535;
    let builder = ip(segment.source.ip(), segment.destination.ip())?;
    let mut builder =
        builder.tcp(segment.source.port(), segment.destination.port(), segment.sequence, WINDOW);
    if let Some(acknowledgment) = segment.acknowledgment {
        builder = builder.ack(acknowledgment);
    }
    if segment.syn {
        builder = builder.syn();
    }
    if segment.fin {
        builder = builder.fin();
    }
    if segment.rst {
        builder = builder.rst();
    }
    if !segment.payload.is_empty() {
        builder = builder.psh();
    }
    let mut bytes = Vec::with_capacity(builder.size(segment.payload.len()));
    builder.write(&mut bytes, segment.payload).ok()?;
    Some(bytes)
}

/// Writes a UDP datagram; nothing where the families differ or the payload is too long.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let builder = ip(source.ip(), destination.ip())?.udp(source.port(), destination.port());
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).ok()?;
    Some(bytes)
}

/// Writes the ICMP "time exceeded" that the router at `hop` answers to `packet` with, quoting its beginning.
pub fn time_exceeded(hop: IpAddr, packet: &Packet<'_>) -> Option<Vec<u8>> {
    /// As much of the packet as RFC 792 asks for at least, and enough for TCP's ports and sequence number.
    const QUOTED_BYTES: usize = 128;
    let quoted = &packet.bytes[..packet.bytes.len().min(QUOTED_BYTES)];
    let builder = ip(hop, packet.source)?;
    let mut bytes = Vec::new();
    match hop {
        IpAddr::V4(_) => builder
            .icmpv4(etherparse::Icmpv4Type::TimeExceeded(
                etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit,
            ))
            .write(&mut bytes, quoted),
        IpAddr::V6(_) => builder
            .icmpv6(etherparse::Icmpv6Type::TimeExceeded(
                etherparse::icmpv6::TimeExceededCode::HopLimitExceeded,
            ))
            .write(&mut bytes, quoted),
    }
    .ok()?;
    Some(bytes)
}

/// The IP header of a packet written here; 64 hops, as Linux sends.
fn ip(source: IpAddr, destination: IpAddr) -> Option<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    const TTL: u8 = 64;
    let headers = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => etherparse::IpHeaders::Ipv4(
            etherparse::Ipv4Header {
                time_to_live: TTL,
                source: source.octets(),
                destination: destination.octets(),
                ..Default::default()
            },
            etherparse::Ipv4Extensions::default(),
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => etherparse::IpHeaders::Ipv6(
            etherparse::Ipv6Header {
                hop_limit: TTL,
                source: source.octets(),
                destination: destination.octets(),
                ..Default::default()
            },
            etherparse::Ipv6Extensions::default(),
        ),
        _ => return None,
    };
    Some(PacketBuilder::ip(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(payload: &[u8], v6: bool) -> Vec<u8> {
        let (source, destination) =
            if v6 { ("[fd64::1]:4000", "[fd65::1]:443") } else { ("100.64.0.1:4000", "192.0.2.1:443") };
        tcp(&Forged {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            sequence: 7,
            acknowledgment: Some(9),
            syn: false,
            fin: true,
            rst: false,
            payload,
        })
        .unwrap()
    }

    #[test]
    fn what_is_written_reads_back_in_both_families() {
        for v6 in [false, true] {
            let bytes = segment(b"hello", v6);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.ports(), Some((4000, 443)));
            assert_eq!(packet.payload(), b"hello");
            assert_eq!(packet.ttl, 64);
            let Transport::Tcp(tcp) = packet.transport else { panic!("not tcp") };
            assert!(tcp.fin && tcp.ack && !tcp.syn && !tcp.rst);
            assert_eq!((tcp.sequence, tcp.acknowledgment), (7, 9));
        }
    }

    #[test]
    fn ageing_keeps_the_header_checksum_right() {
        let mut bytes = segment(b"x", false);
        assert!(age(&mut bytes, 5));
        let header = etherparse::Ipv4HeaderSlice::from_slice(&bytes).unwrap();
        assert_eq!(header.ttl(), 59);
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert!(!age(&mut bytes, 59), "59 hops use it up");
    }
}
