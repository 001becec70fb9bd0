//! Fragments wait until their packet is whole, then go on unassembled, all under the first one's TTL (P7).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::profile::Direction;
use crate::wire::packet::{self, Fragment};

use super::Output;

/// Which packet the fragments belong to.
type Key = (IpAddr, IpAddr, u32);

/// Packets in pieces at a time, at most.
const PACKETS_MAX: usize = 256;
/// How long pieces wait for the rest (the kernel's own default, `ipfrag_time`, is 30 s).
const WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Fragments {
    most: usize,
    packets: BTreeMap<Key, Cut>,
}

#[derive(Debug)]
struct Cut {
    since: Duration,
    direction: Direction,
    /// Too many came: the packet is lost, and its later pieces with it.
    spoilt: bool,
    pieces: Vec<(Fragment, Vec<u8>)>,
}

impl Fragments {
    pub(super) fn new(most: usize) -> Self {
        Self { most, packets: BTreeMap::new() }
    }

    /// Takes a fragment; puts out all of the packet's where it is the last that was missing. Says how many packets in
    /// pieces had to be forgotten.
    pub(super) fn packet(
        &mut self,
        now: Duration,
        key: Key,
        fragment: Fragment,
        direction: Direction,
        bytes: Vec<u8>,
        out: &mut Vec<Output>,
    ) -> u64 {
        let mut forgotten = 0;
        if self.packets.len() >= PACKETS_MAX && !self.packets.contains_key(&key) {
            self.packets.retain(|_, pieces| now.saturating_sub(pieces.since) < WAIT);
            if self.packets.len() >= PACKETS_MAX {
                self.packets.pop_first();
                forgotten = 1;
            }
        }
        let entry = self.packets.entry(key).or_insert_with(|| Cut {
            since: now,
            direction,
            spoilt: false,
            pieces: Vec::new(),
        });
        if now.saturating_sub(entry.since) >= WAIT {
            *entry = Cut { since: now, direction, spoilt: false, pieces: Vec::new() };
        }
        if entry.spoilt {
            return forgotten;
        }
        if entry.pieces.len() >= self.most {
            entry.spoilt = true;
            entry.pieces = Vec::new();
            return forgotten;
        }
        entry.pieces.push((fragment, bytes));
        if whole(&entry.pieces)
            && let Some(pieces) = self.packets.remove(&key)
        {
            release(pieces, out);
        }
        forgotten
    }
}

fn release(pieces: Cut, out: &mut Vec<Output>) {
    let first = pieces.pieces.iter().find(|(fragment, _)| fragment.offset == 0);
    let ttl = first.and_then(|(_, bytes)| packet::ttl_of(bytes));
    for (_, mut bytes) in pieces.pieces {
        if let Some(ttl) = ttl {
            packet::set_ttl(&mut bytes, ttl);
        }
        out.push(Output { direction: pieces.direction, bytes });
    }
}

/// Whether the pieces cover the packet from its beginning to the one after which nothing follows.
fn whole(pieces: &[(Fragment, Vec<u8>)]) -> bool {
    let mut spans: Vec<(usize, usize, bool)> = pieces
        .iter()
        .map(|(fragment, bytes)| {
            let start = usize::from(fragment.offset);
            (start, start + payload_length(bytes), fragment.more)
        })
        .collect();
    spans.sort_unstable();
    let mut reached = 0;
    for (start, end, more) in spans {
        if start > reached {
            return false;
        }
        reached = reached.max(end);
        if !more {
            return true;
        }
    }
    false
}

/// Bytes behind the IP header (and, for IPv6, the fragment header).
fn payload_length(bytes: &[u8]) -> usize {
    let header = match bytes.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 15) * 4,
        _ => 48,
    };
    bytes.len().saturating_sub(header)
}
