//! Flows, and the bounded table that remembers them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::profile::Direction;
use crate::wire::packet::{Packet, Transport};

use super::effect::Applied;
use super::inspect::Reading;

/// Flows remembered at most; the one silent longest goes first. Real boxes hold millions; a laboratory has thousands.
pub(super) const FLOWS_MAX: usize = 16_384;

/// Who speaks with whom: the client's side is always the inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlowKey {
    pub(super) client: IpAddr,
    pub(super) client_port: u16,
    pub(super) server: IpAddr,
    pub(super) server_port: u16,
    /// 6 TCP, 17 UDP, 0 anything else.
    protocol: u8,
}

impl FlowKey {
    pub(super) fn of(packet: &Packet<'_>, direction: Direction) -> Self {
        let (from, to) = packet.ports().unwrap_or((0, 0));
        let protocol = match packet.transport {
            Transport::Tcp(_) => 6,
            Transport::Udp(_) => 17,
            Transport::Other => 0,
        };
        let (client, client_port, server, server_port) = match direction {
            Direction::Up => (packet.source, from, packet.destination, to),
            Direction::Down => (packet.destination, to, packet.source, from),
        };
        Self { client, client_port, server, server_port, protocol }
    }

    pub(super) fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.client, self.server)
    }

    /// A number from 0 to 1 that this connection always has.
    pub(super) fn draw(&self, salt: u64) -> f64 {
        let mut bytes = address_bytes(self.client, self.server);
        bytes.extend_from_slice(&self.client_port.to_be_bytes());
        bytes.extend_from_slice(&self.server_port.to_be_bytes());
        bytes.push(self.protocol);
        unit(salt, &bytes)
    }

    /// A number from 0 to 1 that this pair of addresses always has.
    pub(super) fn draw_of_addresses(&self, salt: u64) -> f64 {
        unit(salt, &address_bytes(self.client, self.server))
    }
}

fn address_bytes(a: IpAddr, b: IpAddr) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    [octets(a), octets(b)].concat()
}

/// FNV-1a with a salt, finished as in `SplitMix64`, so that neighbouring ports differ in every bit.
fn unit(salt: u64, bytes: &[u8]) -> f64 {
    let hash = bytes.iter().fold(salt ^ 0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// What the box knows of one flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) opened_inside: bool,
    /// The flow's place in coverage, 0 to 1.
    pub(super) covered: f64,
    /// Nothing is done to it any more, nor read.
    pub(super) freed: bool,
    /// Nothing is read in it any more.
    pub(super) unread: bool,
    /// Packets of both directions, this one included.
    pub(super) packets: u64,
    /// Payload bytes by direction, this packet's included.
    pub(super) payload: [u64; 2],
    pub(super) reading: [Reading; 2],
    pub(super) applied: Vec<Applied>,
    last_seen: Duration,
    idle: Duration,
}

impl Flow {
    pub(super) fn new(now: Duration, opened_inside: bool, covered: f64, idle: Duration) -> Self {
        Self {
            opened_inside,
            covered,
            freed: false,
            unread: false,
            packets: 0,
            payload: [0; 2],
            reading: [Reading::First, Reading::First],
            applied: Vec::new(),
            last_seen: now,
            idle,
        }
    }

    pub(super) fn count(&mut self, direction: Direction, packet: &Packet<'_>) {
        self.packets += 1;
        self.payload[direction.index()] += packet.payload().len() as u64;
    }

    pub(super) fn has(&self, rule: usize) -> bool {
        self.applied.iter().any(|applied| applied.rule == rule)
    }
}

/// Flows by key, with the order of their last packets.
#[derive(Debug)]
pub(super) struct FlowTable {
    flows: HashMap<FlowKey, Flow>,
    silent: BTreeSet<(Duration, FlowKey)>,
}

impl FlowTable {
    pub(super) fn new() -> Self {
        Self { flows: HashMap::new(), silent: BTreeSet::new() }
    }

    /// Takes a flow out to work on it; nothing where it is unknown or was silent for too long (P1).
    pub(super) fn take(&mut self, key: &FlowKey, now: Duration) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.silent.remove(&(flow.last_seen, *key));
        (now.saturating_sub(flow.last_seen) <= flow.idle).then_some(flow)
    }

    /// Puts it back, seen now.
    pub(super) fn put(&mut self, key: FlowKey, mut flow: Flow, now: Duration) {
        flow.last_seen = now;
        self.silent.insert((now, key));
        self.flows.insert(key, flow);
    }

    /// Forgets flows until there is room for one more; says how many were forgotten before their time.
    pub(super) fn make_room(&mut self, now: Duration) -> u64 {
        let mut early = 0;
        while self.flows.len() >= FLOWS_MAX {
            let Some((last_seen, key)) = self.silent.pop_first() else { break };
            let flow = self.flows.remove(&key);
            early += u64::from(flow.is_some_and(|flow| now.saturating_sub(last_seen) <= flow.idle));
        }
        early
    }
}
