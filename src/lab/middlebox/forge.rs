//! Packets the box makes up: resets, pages of the censor, lies about names.

use std::net::{IpAddr, SocketAddr};

use crate::model::profile::{BlockPage, Direction};
use crate::wire::dns;
use crate::wire::packet::{self, Forged, Packet, Transport};

use super::Output;

/// The packet as RST/ACK, with its own addresses and numbers (SNI-I rewrites the server's packets so).
pub(super) fn reset(about: &Packet<'_>) -> Option<Vec<u8>> {
    let Transport::Tcp(segment) = about.transport else { return None };
    let mut bytes = packet::tcp(&Forged {
        source: SocketAddr::new(about.source, segment.source),
        destination: SocketAddr::new(about.destination, segment.destination),
        sequence: segment.sequence,
        acknowledgment: Some(segment.acknowledgment),
        syn: false,
        fin: false,
        rst: true,
        payload: &[],
    })?;
    packet::set_ttl(&mut bytes, about.ttl);
    Some(bytes)
}

/// A page to the client with the end of the connection, and a reset to the server.
pub(super) fn block_page(about: &Packet<'_>, page: &BlockPage) -> Vec<Output> {
    let Transport::Tcp(segment) = about.transport else { return Vec::new() };
    let location = page.location.as_ref().map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
    let text = format!(
        "HTTP/1.1 {} {}\r\n{location}Content-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        page.status,
        if page.location.is_some() { "Found" } else { "Forbidden" },
        page.body.len(),
        page.body,
    );
    let client = SocketAddr::new(about.source, segment.source);
    let server = SocketAddr::new(about.destination, segment.destination);
    let after_request = segment.sequence.wrapping_add(segment.payload.len() as u32);
    let answer = packet::tcp(&Forged {
        source: server,
        destination: client,
        sequence: segment.acknowledgment,
        acknowledgment: Some(after_request),
        syn: false,
        fin: true,
        rst: false,
        payload: text.as_bytes(),
    });
    let reset = packet::tcp(&Forged {
        source: client,
        destination: server,
        sequence: segment.sequence,
        acknowledgment: None,
        syn: false,
        fin: false,
        rst: true,
        payload: &[],
    });
    let down = answer.map(|bytes| Output { direction: Direction::Down, bytes });
    let up = reset.map(|bytes| Output { direction: Direction::Up, bytes });
    down.into_iter().chain(up).collect()
}

/// An answer to a DNS query that comes before the server's.
pub(super) fn dns_answer(about: &Packet<'_>, addresses: &[IpAddr]) -> Option<Output> {
    let Transport::Udp(query) = about.transport else { return None };
    let answer = dns::answer(query.payload, addresses)?;
    let server = SocketAddr::new(about.destination, query.destination);
    let client = SocketAddr::new(about.source, query.source);
    let bytes = packet::udp(server, client, &answer)?;
    Some(Output { direction: Direction::Down, bytes })
}
