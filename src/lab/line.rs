//! One lane: a client's line with the middlebox on it, as a pure machine.
//!
//! ```text
//!  client ─► [narrow place up] ─► middlebox ─► [delay up] ─► server
//!  client ◄─ [narrow place down] ◄─ middlebox ◄─ [delay down] ◄─ server
//! ```
//!
//! The box stands near the client, as the real one does (P4). Packets go in with the time; they come out with the moment
//! at which they were due, so that the loop around can tell how late it was. Time never goes back.

mod delay;
mod narrow;
mod nat;
mod queue;
mod rivals;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::middlebox::{Counters, Middlebox, Output};
use crate::model::profile::{Direction, LineProfile, Profile};
use crate::wire::packet::{self, Packet};

use delay::Delay;
use narrow::Narrow;
use nat::Nat;

/// A packet that has come to the end of the lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `Up`: to the server; `Down`: to the client.
    pub direction: Direction,
    /// When it should have come out.
    pub due: Duration,
    /// From the IP header on.
    pub bytes: Vec<u8>,
}

/// What a lane did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct LaneCounters {
    /// Packets of both directions that came in.
    pub packets: u64,
    /// Packets lost on the line: random loss, full queues.
    pub lost: u64,
    /// What the middlebox did.
    pub middlebox: Counters,
}

/// The machine.
#[derive(Debug)]
pub struct Lane {
    line: LineProfile,
    middlebox: Middlebox,
    narrow: [Narrow; 2],
    /// The server's own pace, where it has one.
    server: Option<Narrow>,
    delay: [Delay; 2],
    nat: Option<Nat>,
    packets: u64,
    passed: Vec<Output>,
    moved: Vec<Vec<u8>>,
}

impl Lane {
    /// A lane with this line and these rules. `server_number` of an address is its place in the line's `other_hosts`.
    pub fn new(line: LineProfile, profile: Profile, seed: u64) -> Self {
        let mut seeds = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rtt = line.rtt.0;
        let narrow = [
            Narrow::new(line.up.clone(), rtt, seeds.random()),
            Narrow::new(line.down.clone(), rtt, seeds.random()),
        ];
        let delay =
            [Delay::new(line.up.jitter.0, seeds.random()), Delay::new(line.down.jitter.0, seeds.random())];
        let server = profile.server_rate.map(|rate| Narrow::paced(rate, seeds.random()));
        let nat = line.nat.then(Nat::default);
        let middlebox = Middlebox::new(profile, seeds.random());
        Self {
            middlebox,
            narrow,
            server,
            delay,
            nat,
            line,
            packets: 0,
            passed: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> LaneCounters {
        LaneCounters {
            packets: self.packets,
            lost: self.narrow.iter().map(Narrow::lost).sum(),
            middlebox: self.middlebox.counters(),
        }
    }

    /// When something next happens in the lane.
    pub fn next_deadline(&self) -> Option<Duration> {
        // Written out: this is asked several times for every packet.
        let [up, down] = &self.narrow;
        let near = earlier(up.next_deadline(), down.next_deadline());
        let far = earlier(self.delay[0].next_deadline(), self.delay[1].next_deadline());
        let server = self.server.as_ref().and_then(Narrow::next_deadline);
        earlier(earlier(near, far), earlier(server, self.middlebox.next_deadline()))
    }

    /// Takes a packet from the client (`Up`) or from the server (`Down`).
    pub fn packet(
        &mut self,
        now: Duration,
        direction: Direction,
        mut bytes: Vec<u8>,
        out: &mut Vec<Delivery>,
    ) {
        self.tick(now, out);
        self.packets += 1;
        match direction {
            Direction::Up => {
                if let Some(nat) = &mut self.nat {
                    let Some(translated) = nat.outward(now, bytes) else { return };
                    bytes = translated;
                }
                if let Some(answer) = self.expires(&bytes, 0) {
                    self.leave(now, Direction::Down, answer, out);
                    return;
                }
                self.narrow[Direction::Up.index()].offer(now, bytes);
            }
            Direction::Down => match &mut self.server {
                Some(server) => server.offer(now, bytes),
                None => self.depart(now, Direction::Down, bytes),
            },
        }
        self.tick(now, out);
    }

    /// Lets happen what is due by now, in its order and at its own moments.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Delivery>) {
        while let Some(due) = self.next_deadline().filter(|&due| due <= now) {
            self.step(due, out);
        }
    }

    fn step(&mut self, now: Duration, out: &mut Vec<Delivery>) {
        let mut moved = std::mem::take(&mut self.moved);
        self.narrow[Direction::Up.index()].tick(now, &mut moved);
        for bytes in moved.drain(..) {
            self.meet(now, Direction::Up, bytes, out);
        }
        if let Some(server) = &mut self.server {
            server.tick(now, &mut moved);
            for bytes in moved.drain(..) {
                self.depart(now, Direction::Down, bytes);
            }
        }
        self.delay[Direction::Down.index()].tick(now, &mut moved);
        for bytes in moved.drain(..) {
            self.meet(now, Direction::Down, bytes, out);
        }
        let mut passed = std::mem::take(&mut self.passed);
        self.middlebox.tick(now, &mut passed);
        for output in passed.drain(..) {
            self.pass(now, output);
        }
        self.passed = passed;
        self.narrow[Direction::Down.index()].tick(now, &mut moved);
        for bytes in moved.drain(..) {
            self.leave(now, Direction::Down, bytes, out);
        }
        self.delay[Direction::Up.index()].tick(now, &mut moved);
        for bytes in moved.drain(..) {
            self.leave(now, Direction::Up, bytes, out);
        }
        self.moved = moved;
    }

    /// At the box.
    fn meet(&mut self, now: Duration, direction: Direction, mut bytes: Vec<u8>, out: &mut Vec<Delivery>) {
        let before = self.line.hops[direction.index()];
        if !packet::age(&mut bytes, before) {
            return;
        }
        let mut passed = std::mem::take(&mut self.passed);
        self.middlebox.packet(now, direction, bytes, &mut passed);
        for output in passed.drain(..) {
            // Its time may end beyond the box: the router there answers, and the box has read the packet all the same.
            let answer = match output.direction {
                Direction::Up => self.expires(&output.bytes, before),
                Direction::Down => None,
            };
            match answer {
                Some(answer) => self.leave(now, Direction::Down, answer, out),
                None => self.pass(now, output),
            }
        }
        self.passed = passed;
    }

    /// From the box on towards the end.
    fn pass(&mut self, now: Duration, output: Output) {
        match output.direction {
            Direction::Up => self.depart(now, Direction::Up, output.bytes),
            Direction::Down => self.narrow[Direction::Down.index()].offer(now, output.bytes),
        }
    }

    /// Onto the long way between box and server.
    fn depart(&mut self, now: Duration, direction: Direction, bytes: Vec<u8>) {
        let host = Packet::parse(&bytes).map_or(0, |packet| {
            server_number(if direction == Direction::Up { packet.destination } else { packet.source })
        });
        let further = host.checked_sub(1).and_then(|other| self.line.other_hosts.get(other));
        let one_way = (self.line.rtt.0 + further.map_or(Duration::ZERO, |further| further.0)) / 2;
        self.delay[direction.index()].offer(now, one_way, host, bytes);
    }

    /// Out of the lane.
    fn leave(&mut self, now: Duration, direction: Direction, mut bytes: Vec<u8>, out: &mut Vec<Delivery>) {
        let after = self.line.hops[direction.opposite().index()];
        if !packet::age(&mut bytes, after) {
            return;
        }
        if direction == Direction::Down
            && let Some(nat) = &mut self.nat
        {
            let Some(translated) = nat.inward(now, bytes) else { return };
            bytes = translated;
        }
        out.push(Delivery { direction, due: now, bytes });
    }

    /// The answer of the router at which a client's packet dies: before the box (`passed` = 0), or beyond it.
    fn expires(&self, bytes: &[u8], passed: u8) -> Option<Vec<u8>> {
        let ttl = packet::ttl_of(bytes)?;
        let ahead = if passed == 0 { self.line.hops[0] } else { self.line.hops[1] };
        if ttl > ahead {
            return None;
        }
        let packet = Packet::parse(bytes)?;
        let hop = passed + ttl;
        let router = match packet.source {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(198, 18, 0, hop)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, u16::from(hop))),
        };
        packet::time_exceeded(router, &packet)
    }
}

/// The earlier of two moments, where there is one.
fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// The place of a server's address among the server's addresses, from its last byte: the first ends in 1.
fn server_number(address: IpAddr) -> usize {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    usize::from(last.saturating_sub(1))
}
