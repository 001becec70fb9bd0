//! What the box reads in a flow, and when it gives up (rules G1 to G14).

use rand::{Rng, RngExt};

use crate::model::profile::{Direction, Directions, Profile, Protocol};
use crate::wire::packet::{Packet, Transport};
use crate::wire::tls::{ClientHello, NoHello};
use crate::wire::{dns, http, quic, tls};

use super::conditions::reads;
use super::flow::Flow;

/// Bytes of a hello that is put together from segments, at most; browsers' are under 2 KiB.
const ASSEMBLED_MAX: usize = 8192;

/// Where reading one direction of a flow stands.
#[derive(Debug)]
pub(super) enum Reading {
    /// No payload seen yet.
    First,
    /// This many further packets are read (G4).
    Left { packets: u32, assembly: Option<Assembly> },
    /// Not read any more.
    Over,
}

/// What was read in one packet.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) protocol: Protocol,
    pub(super) name: Option<String>,
    pub(super) encrypted: bool,
    pub(super) fingerprint: u64,
    /// Payload of a QUIC version 1 Initial to port 443.
    pub(super) quic_payload: Option<u32>,
}

impl Seen {
    fn named(protocol: Protocol, name: &str) -> Self {
        Self { protocol, name: Some(name.to_owned()), encrypted: false, fingerprint: 0, quic_payload: None }
    }

    fn hello(protocol: Protocol, hello: ClientHello) -> Self {
        Self {
            protocol,
            name: hello.name,
            encrypted: hello.encrypted,
            fingerprint: hello.fingerprint,
            quic_payload: None,
        }
    }
}

/// Reads a packet of a flow as far as the box's own limits allow.
pub(super) fn read<R: Rng>(
    flow: &mut Flow,
    direction: Direction,
    packet: &Packet<'_>,
    profile: &Profile,
    rng: &mut R,
) -> Option<Seen> {
    let inspection = &profile.inspection;
    let both = match inspection.directions {
        Directions::Both => true,
        Directions::Up => direction == Direction::Up,
        Directions::Down => direction == Direction::Down,
    };
    let server_port = packet.ports().map(|(from, to)| if direction == Direction::Up { to } else { from })?;
    if flow.freed
        || flow.unread
        || !both
        || (inspection.opened_inside_only && !flow.opened_inside)
        || (!inspection.ports.is_empty() && !inspection.ports.contains(&server_port))
    {
        return None;
    }
    match packet.transport {
        Transport::Tcp(segment) if !segment.payload.is_empty() => {
            read_stream(flow, direction, segment.sequence, segment.payload, profile, rng)
        }
        Transport::Udp(datagram) if !datagram.payload.is_empty() => {
            read_datagram(datagram.payload, server_port, profile)
        }
        _ => None,
    }
}

fn read_stream<R: Rng>(
    flow: &mut Flow,
    direction: Direction,
    sequence: u32,
    payload: &[u8],
    profile: &Profile,
    rng: &mut R,
) -> Option<Seen> {
    let inspection = &profile.inspection;
    let reading = &mut flow.reading[direction.index()];
    match reading {
        Reading::Over => return None,
        Reading::First => {
            let give_up = inspection.give_up_payload;
            if !readable(payload, profile) && give_up != 0 && payload.len() >= give_up as usize {
                // For good, and for the whole flow (G5); what was triggered before goes on (G3).
                flow.unread = true;
                return None;
            }
            let [least, most] = inspection.packets;
            let assembly = inspection.reassemble.then(|| Assembly::new(sequence));
            *reading = Reading::Left { packets: rng.random_range(least..=most), assembly };
        }
        Reading::Left { packets: 0, .. } => {
            *reading = Reading::Over;
            return None;
        }
        Reading::Left { packets, .. } => *packets -= 1,
    }
    let Reading::Left { assembly, .. } = reading else { return None };
    match tls::client_hello(payload) {
        Ok(hello) => return Some(Seen::hello(Protocol::Tls, hello)),
        Err(NoHello::Cut { needed }) if needed > ASSEMBLED_MAX => {}
        Err(_) => {
            let whole = assembly.as_mut().and_then(|assembly| assembly.add(sequence, payload));
            if let Some(Ok(hello)) = whole.map(tls::client_hello) {
                *assembly = None;
                return Some(Seen::hello(Protocol::Tls, hello));
            }
        }
    }
    if reads(profile, Protocol::Http) {
        return http::host(payload).map(|host| Seen::named(Protocol::Http, host));
    }
    None
}

/// Whether a first packet keeps the box reading (G4): a TLS record of any type, proxy traffic, or what a rule reads.
fn readable(payload: &[u8], profile: &Profile) -> bool {
    tls::record(payload).is_some()
        || http::is_proxy_request(payload)
        || http::is_socks(payload)
        || (reads(profile, Protocol::Http) && http::is_request(payload))
}

fn read_datagram(payload: &[u8], server_port: u16, profile: &Profile) -> Option<Seen> {
    const DNS: u16 = 53;
    const HTTPS: u16 = 443;
    if server_port == DNS && reads(profile, Protocol::Dns) {
        return dns::question(payload).map(|name| Seen::named(Protocol::Dns, &name));
    }
    if server_port == HTTPS && quic::is_initial_v1(payload) {
        let hello = reads(profile, Protocol::Quic).then(|| quic::client_hello(payload)).flatten();
        return Some(Seen {
            protocol: Protocol::Quic,
            name: hello.as_ref().and_then(|hello| hello.name.clone()),
            encrypted: hello.as_ref().is_some_and(|hello| hello.encrypted),
            fingerprint: hello.map_or(0, |hello| hello.fingerprint),
            quic_payload: u32::try_from(payload.len()).ok(),
        });
    }
    None
}

/// The beginning of one direction's stream, put together from segments in any order.
#[derive(Debug)]
pub(super) struct Assembly {
    base: u32,
    bytes: Vec<u8>,
    /// Which bytes are there; merged, in order.
    spans: Vec<(usize, usize)>,
}

impl Assembly {
    fn new(base: u32) -> Self {
        Self { base, bytes: Vec::new(), spans: Vec::new() }
    }

    /// Adds a segment; what there is without a gap from the beginning.
    fn add(&mut self, sequence: u32, payload: &[u8]) -> Option<&[u8]> {
        /// Gaps at a time; more is nobody's real hello.
        const SPANS_MAX: usize = 32;
        let start = sequence.wrapping_sub(self.base) as usize;
        let end = start.checked_add(payload.len()).filter(|&end| end <= ASSEMBLED_MAX)?;
        if self.spans.len() >= SPANS_MAX {
            return None;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(payload);
        self.spans.push((start, end));
        self.spans.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for &(from, to) in &self.spans {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        self.spans = merged;
        match self.spans.first() {
            Some(&(0, end)) => Some(&self.bytes[..end]),
            _ => None,
        }
    }
}
