//! An address translator in front of the client: one public address for it, ports of its own, and a memory that ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::wire::packet::{self, Packet, Transport};

/// Mappings at most; the oldest goes first.
const MAPPINGS_MAX: usize = 4096;
/// A silent mapping is forgotten (RFC 5382 asks for two hours, boxes at home keep minutes).
const IDLE: Duration = Duration::from_mins(5);
/// The first port given out.
const FIRST_PORT: u16 = 20_000;

#[derive(Debug, Default)]
pub(super) struct Nat {
    /// By protocol and the client's port: the public port and when it was last used.
    outward: BTreeMap<(u8, u16), (u16, Duration)>,
    /// By protocol and public port: the client's address and port.
    inward: BTreeMap<(u8, u16), (IpAddr, u16)>,
    given: u16,
}

impl Nat {
    /// A packet of the client's under its public address and port; nothing where its protocol has no ports.
    pub(super) fn outward(&mut self, now: Duration, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let packet = Packet::parse(&bytes)?;
        let protocol = protocol(&packet)?;
        let (client, port) = (packet.source, packet.ports()?.0);
        let public = match self.outward.get_mut(&(protocol, port)) {
            Some((public, used)) if now.saturating_sub(*used) < IDLE => {
                *used = now;
                *public
            }
            _ => self.give(now, protocol, client, port),
        };
        packet::set_endpoint(&mut bytes, packet::End::Source, public_address(client), public);
        Some(bytes)
    }

    /// A packet to the public address, under the client's own; nothing where nobody asked for it.
    pub(super) fn inward(&mut self, now: Duration, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let packet = Packet::parse(&bytes)?;
        let protocol = protocol(&packet)?;
        let public = packet.ports()?.1;
        let &(client, port) = self.inward.get(&(protocol, public))?;
        let (_, used) = self.outward.get_mut(&(protocol, port))?;
        if now.saturating_sub(*used) >= IDLE {
            return None;
        }
        *used = now;
        packet::set_endpoint(&mut bytes, packet::End::Destination, client, port);
        Some(bytes)
    }

    fn give(&mut self, now: Duration, protocol: u8, client: IpAddr, port: u16) -> u16 {
        if self.outward.len() >= MAPPINGS_MAX
            && let Some(oldest) = self.outward.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            && let Some((public, _)) = self.outward.remove(&oldest)
        {
            self.inward.remove(&(oldest.0, public));
        }
        let range = u16::MAX - FIRST_PORT;
        let public = loop {
            let candidate = FIRST_PORT + self.given % range;
            self.given = self.given.wrapping_add(1) % range;
            if !self.inward.contains_key(&(protocol, candidate)) {
                break candidate;
            }
        };
        if let Some((before, _)) = self.outward.insert((protocol, port), (public, now)) {
            self.inward.remove(&(protocol, before));
        }
        self.inward.insert((protocol, public), (client, port));
        public
    }
}

/// The public address of a client: the same host part in a network of its own.
pub(crate) fn public_address(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(v4) => {
            let [_, _, c, d] = v4.octets();
            IpAddr::V4(Ipv4Addr::new(100, 127, c, d))
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            IpAddr::V6(Ipv6Addr::new(0xfd67, 0, 0, 0, 0, 0, segments[6], segments[7]))
        }
    }
}

fn protocol(packet: &Packet<'_>) -> Option<u8> {
    match packet.transport {
        Transport::Tcp(_) => Some(6),
        Transport::Udp(_) => Some(17),
        Transport::Other => None,
    }
}
