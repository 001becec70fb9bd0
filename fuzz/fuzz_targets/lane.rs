//! Arbitrary packets, in both directions and at any pace, through a lane with any built-in profile: no panic, no time
//! that goes back, no memory that grows without bound (libFuzzer's own limit watches that).
//!
//! Input: a byte that chooses the profile, a byte that switches the translator on, then packets, each as direction and
//! time step (1 byte), mode (1 byte), length (2 bytes) and bytes. Mode 0 takes the bytes as the whole packet; the others
//! put them into a TCP segment or a UDP datagram of one of a few flows, so that parsers behind the headers are reached.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use throttlescope::lab::line::Lane;
use throttlescope::lab::profiles;
use throttlescope::model::profile::{Direction, LineProfile, Profile};
use throttlescope::wire::packet::{Forged, tcp, udp};

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    profiles::names().map(|name| profiles::profile(name).expect("built-in profiles are sound")).collect()
});

fuzz_target!(|input: &[u8]| {
    let [choice, switches, rest @ ..] = input else { return };
    let profile = PROFILES[usize::from(*choice) % PROFILES.len()].clone();
    let line = profile.line.clone().unwrap_or(LineProfile { nat: switches & 1 != 0, ..LineProfile::default() });
    let mut lane = Lane::new(line, profile, u64::from(*switches));
    let mut now = Duration::ZERO;
    let mut sequence = [1u32, 1];
    let mut out = Vec::new();
    let mut rest = rest;
    while let [pace, mode, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (bytes, further) = after.split_at(length);
        rest = further;
        let direction = if pace & 1 == 0 { Direction::Up } else { Direction::Down };
        now += Duration::from_micros(1 << (pace >> 3));
        let packet = match mode {
            0 => Some(bytes.to_vec()),
            _ => wrapped(*mode, direction, &mut sequence, bytes),
        };
        if let Some(packet) = packet {
            lane.packet(now, direction, packet, &mut out);
        }
        assert!(out.iter().all(|delivery| delivery.due <= now));
        out.clear();
    }
    lane.tick(now + Duration::from_secs(3600), &mut out);
});

fn wrapped(mode: u8, direction: Direction, sequence: &mut [u32; 2], payload: &[u8]) -> Option<Vec<u8>> {
    let ports = [443, 80, 53, 7];
    let port = ports[usize::from(mode >> 6)];
    let (client, server) = if mode & 1 == 0 { ("100.64.0.1", "192.0.2.1") } else { ("fd64::1", "fd65::1") };
    let client = SocketAddr::new(client.parse().ok()?, 4000 + u16::from(mode >> 4 & 3));
    let server = SocketAddr::new(server.parse().ok()?, port);
    let (source, destination) =
        if direction == Direction::Up { (client, server) } else { (server, client) };
    if port == 53 || mode & 2 != 0 {
        return udp(source, destination, payload);
    }
    let place = &mut sequence[direction.index()];
    let own = *place;
    *place = place.wrapping_add(payload.len() as u32);
    tcp(&Forged {
        source,
        destination,
        sequence: own,
        acknowledgment: (mode & 4 != 0).then_some(sequence[direction.opposite().index()]),
        syn: mode & 8 != 0,
        fin: false,
        rst: false,
        payload,
    })
}
