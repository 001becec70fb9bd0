//! When a rule is in force, what triggers it, and what a packet says by its flags.

use std::time::Duration;

use crate::model::profile::{Profile, Protocol, Rule};
use crate::wire::packet::{Packet, Transport};

use super::inspect::Seen;

pub(super) fn in_force(rule: &Rule, now: Duration) -> bool {
    rule.from.is_none_or(|from| from.0 <= now) && rule.until.is_none_or(|until| now < until.0)
}

/// Whether what was read triggers a rule.
pub(super) fn triggers(rule: &Rule, seen: &Seen) -> bool {
    if let Some(least) = rule.quic_payload_min {
        return seen.quic_payload.is_some_and(|payload| payload >= least);
    }
    if !rule.seen_in.contains(&seen.protocol) || (rule.encrypted_hello && !seen.encrypted) {
        return false;
    }
    match &seen.name {
        Some(name) if !rule.names.is_empty() => rule.names_match(name),
        _ => rule.encrypted_hello && rule.names.is_empty(),
    }
}

pub(super) fn lone_syn(packet: &Packet<'_>) -> bool {
    matches!(packet.transport, Transport::Tcp(segment) if segment.syn && !segment.ack)
}

pub(super) fn closes(packet: &Packet<'_>) -> bool {
    matches!(packet.transport, Transport::Tcp(segment) if segment.fin || segment.rst)
}

/// Protocols any rule reads names from.
pub(super) fn reads(profile: &Profile, protocol: Protocol) -> bool {
    profile.rules.iter().any(|rule| rule.seen_in.contains(&protocol))
}
