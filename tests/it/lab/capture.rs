//! The laboratory's two captures of one run, joined packet by packet.

use std::collections::HashMap;
use std::path::Path;

use throttlescope::model::profile::Direction;
use throttlescope::wire::packet::{Packet, Transport};

use super::{available, lab, text};
use crate::support::program;

/// A captured packet: seconds, and bytes from the IP header on.
pub(super) type Captured = (f64, Vec<u8>);

/// Reads a capture with nanosecond times and raw IP packets.
pub(super) fn read(path: &Path) -> Vec<Captured> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut packets) = (24, Vec::new());
    while at < bytes.len() {
        let length = number(at + 8) as usize;
        // Whole seconds since 1970 would cost digits; a day's are enough to compare by.
        let seconds = f64::from(number(at) % 86_400) + f64::from(number(at + 4)) / 1e9;
        packets.push((seconds, bytes[at + 16..at + 16 + length].to_vec()));
        at += 16 + length;
    }
    assert_eq!(at, bytes.len(), "the last packet is whole");
    packets
}

/// What passed the client's and the server's side in one run.
pub(super) struct Captures {
    client: Vec<Captured>,
    server: Vec<Captured>,
}

impl Captures {
    /// Of a laboratory with these arguments in which a shell runs these commands; nothing where it cannot be had.
    pub(super) fn of(arguments: &[&str], commands: &str) -> Option<Self> {
        program("curl")?;
        if !available(commands) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let [client, server] = ["client.pcap", "server.pcap"].map(|name| directory.path().join(name));
        let output = lab(arguments)
            .arg("--pcap")
            .arg(&client)
            .arg("--server-pcap")
            .arg(&server)
            .args(["--", "sh", "-c", commands])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        Some(Self { client: read(&client), server: read(&server) })
    }

    /// TCP over IPv4 of one direction, where it was sent and where it arrived.
    fn ends(&self, direction: Direction) -> [Vec<&Captured>; 2] {
        let of = |side: &'_ [Captured]| -> Vec<usize> {
            let going = |(_, bytes): &Captured| {
                bytes[0] >> 4 == 4
                    && Packet::parse(bytes).is_some_and(|packet| {
                        let from_server = matches!(packet.ports(), Some((80 | 443, _)));
                        matches!(packet.transport, Transport::Tcp(_))
                            && from_server == (direction == Direction::Down)
                    })
            };
            (0..side.len()).filter(|&place| going(&side[place])).collect()
        };
        let [client, server] = [&self.client, &self.server]
            .map(|side| of(side).into_iter().map(|place| &side[place]).collect::<Vec<_>>());
        if direction == Direction::Up { [client, server] } else { [server, client] }
    }

    /// Milliseconds that each packet took from end to end, sorted.
    pub(super) fn transits(&self, direction: Direction) -> Vec<f64> {
        let [sent, arrived] = self.ends(direction);
        let sent: HashMap<Vec<u8>, f64> = sent.iter().map(|(at, bytes)| (same(bytes), *at)).collect();
        let took = arrived.iter().filter_map(|(at, bytes)| Some((at - sent.get(&same(bytes))?) * 1e3));
        let mut took: Vec<f64> = took.collect();
        took.sort_by(f64::total_cmp);
        took
    }

    /// Packets sent, and how many of them never arrived.
    pub(super) fn lost(&self, direction: Direction) -> (f64, f64) {
        let [sent, arrived] = self.ends(direction);
        (sent.len() as f64, (sent.len() - arrived.len()) as f64)
    }

    /// Lengths of the runs of packets that were lost one after the other.
    pub(super) fn spells(&self, direction: Direction) -> Vec<usize> {
        let [sent, arrived] = self.ends(direction);
        let arrived: std::collections::HashSet<Vec<u8>> =
            arrived.iter().map(|(_, bytes)| same(bytes)).collect();
        let fates: Vec<bool> = sent.iter().map(|(_, bytes)| arrived.contains(&same(bytes))).collect();
        fates.split(|arrived| *arrived).map(<[bool]>::len).filter(|&length| length > 0).collect()
    }

    /// Whether packets arrived in the order in which they were sent.
    pub(super) fn in_order(&self, direction: Direction) -> bool {
        let [sent, arrived] = self.ends(direction);
        let place: HashMap<Vec<u8>, usize> =
            sent.iter().enumerate().map(|(place, (_, bytes))| (same(bytes), place)).collect();
        arrived.iter().filter_map(|(_, bytes)| place.get(&same(bytes))).is_sorted()
    }

    /// Bits of IP a second that arrived between a tenth and nine tenths of all that did.
    pub(super) fn rate(&self, direction: Direction) -> f64 {
        let [_, arrived] = self.ends(direction);
        let (first, last) = (arrived.len() / 10, arrived.len() * 9 / 10);
        let bytes: usize = arrived[first + 1..=last].iter().map(|(_, bytes)| bytes.len()).sum();
        bytes as f64 * 8.0 / (arrived[last].0 - arrived[first].0)
    }

    /// The client's addresses as seen on its own side and on the server's.
    pub(super) fn clients(&self) -> [String; 2] {
        [&self.client, &self.server].map(|side| {
            let source = |(_, bytes): &Captured| {
                let packet = Packet::parse(bytes)?;
                matches!(packet.ports(), Some((_, 80))).then(|| packet.source.to_string())
            };
            let mut sources: Vec<String> = side.iter().filter_map(source).collect();
            sources.dedup();
            sources.join(" ")
        })
    }
}

/// What stays the same on the way: all but the time to live and the header's checksum.
fn same(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[8] = 0;
    bytes[10..12].fill(0);
    bytes
}
