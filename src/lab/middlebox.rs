//! The middlebox: a pure machine that forwards, delays, drops, rewrites and injects packets by the rules of a profile.
//!
//! A packet and the time go in; packets come out at once or at a deadline. It knows no clock and no socket, and
//! everything drawn comes from its seed. Every table is bounded: arbitrary packets in any number cost bounded memory.

mod conditions;
mod effect;
mod flow;
mod forge;
mod fragments;
mod inspect;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::model::profile::{CoverageBy, Direction, Effect, Inspection, Profile, Rule};
use crate::wire::packet::Packet;

use conditions::{closes, in_force, lone_syn, triggers};
use effect::{Applied, Fate};
use flow::{Flow, FlowKey, FlowTable};
use fragments::Fragments;
use inspect::Seen;
use parts::{Bucket, Shaper};

/// Packets that wait in the box, at most; further ones are dropped and counted.
const HELD_MAX: usize = 16_384;
/// Clients, pairs of addresses or names that are remembered apart from flows, at most.
const MEMORY_MAX: usize = 16_384;

/// A packet on its way out of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Which way it goes.
    pub direction: Direction,
    /// From the IP header on.
    pub bytes: Vec<u8>,
}

/// What the box did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Packets that came in.
    pub packets: u64,
    /// Packets that some rule dropped.
    pub dropped: u64,
    /// Packets that were held back.
    pub delayed: u64,
    /// Packets that were rewritten or made up.
    pub forged: u64,
    /// Flows in which a rule was triggered.
    pub triggered: u64,
    /// Packets dropped or flows forgotten only because a table was full.
    pub overflowed: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Middlebox {
    profile: Profile,
    rng: Xoshiro256PlusPlus,
    salt: u64,
    flows: FlowTable,
    fragments: Fragments,
    shared: Shared,
    sticky: BTreeMap<(IpAddr, IpAddr), Vec<(usize, Duration)>>,
    held: BinaryHeap<Held>,
    order: u64,
    counters: Counters,
}

/// State that flows share.
#[derive(Debug, Default)]
struct Shared {
    buckets: HashMap<(usize, Option<IpAddr>, Direction), Bucket>,
    shapers: HashMap<(usize, Option<IpAddr>, Direction), Shaper>,
    crowds: HashMap<(usize, IpAddr, String, u64), Crowd>,
}

/// Connections of one client to one name with one fingerprint.
#[derive(Debug, Default)]
struct Crowd {
    hellos: VecDeque<Duration>,
    held_until: Duration,
}

/// A packet that waits in the box, ordered by release; the earliest is the greatest, as `BinaryHeap` wants it.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    release: Duration,
    order: u64,
    output: (Direction, Vec<u8>),
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.release, other.order).cmp(&(self.release, self.order))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Middlebox {
    /// A box with these rules; everything it draws comes from `seed`.
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let salt = rng.random();
        Self {
            fragments: Fragments::new(usize::try_from(profile.state.fragments_max).unwrap_or(usize::MAX)),
            flows: FlowTable::new(),
            shared: Shared::default(),
            sticky: BTreeMap::new(),
            held: BinaryHeap::new(),
            order: 0,
            counters: Counters::default(),
            profile,
            rng,
            salt,
        }
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When [`Self::tick`] next has something to release.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.held.peek().map(|held| held.release)
    }

    /// Releases what has waited long enough.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        while self.held.peek().is_some_and(|held| held.release <= now) {
            let Some(Held { output: (direction, bytes), .. }) = self.held.pop() else { break };
            out.push(Output { direction, bytes });
        }
    }

    /// Takes a packet that goes in `direction`, and puts out what leaves the box at once. `now` never goes back.
    pub fn packet(&mut self, now: Duration, direction: Direction, bytes: Vec<u8>, out: &mut Vec<Output>) {
        self.counters.packets += 1;
        let Some(packet) = Packet::parse(&bytes) else {
            out.push(Output { direction, bytes });
            return;
        };
        if let Some(fragment) = packet.fragment
            && self.profile.state.hold_fragments
        {
            let key = (packet.source, packet.destination, fragment.id);
            self.counters.overflowed += self.fragments.packet(now, key, fragment, direction, bytes, out);
            return;
        }
        let fate = self.judge(now, direction, &packet, out);
        match fate {
            Fate::Pass => out.push(Output { direction, bytes }),
            Fate::Drop => self.counters.dropped += 1,
            Fate::Hold(release) if release <= now => out.push(Output { direction, bytes }),
            Fate::Hold(release) => self.hold(release, direction, bytes),
            Fate::Rewrite(bytes) => {
                self.counters.forged += 1;
                out.push(Output { direction, bytes });
            }
        }
    }

    fn hold(&mut self, release: Duration, direction: Direction, bytes: Vec<u8>) {
        if self.held.len() >= HELD_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.counters.delayed += 1;
        self.order += 1;
        self.held.push(Held { release, order: self.order, output: (direction, bytes) });
    }

    /// What becomes of a packet: finds its flow, reads it, triggers rules and asks each one in force.
    fn judge(
        &mut self,
        now: Duration,
        direction: Direction,
        packet: &Packet<'_>,
        out: &mut Vec<Output>,
    ) -> Fate {
        let key = FlowKey::of(packet, direction);
        let forgotten = self.flows.make_room(now);
        self.counters.overflowed += forgotten;
        let mut flow = match self.flows.take(&key, now) {
            Some(flow) => flow,
            None => self.open(now, direction, &key),
        };
        flow.count(direction, packet);
        if direction == Direction::Down && self.profile.state.remote_syn_frees && lone_syn(packet) {
            flow.freed = true;
        }
        let seen = inspect::read(&mut flow, direction, packet, &self.profile, &mut self.rng);
        if let Some(seen) = &seen {
            self.trigger(now, &key, &mut flow, seen);
        }
        let fate = self.apply(now, direction, packet, &key, &mut flow, seen.as_ref(), out);
        if !(self.profile.state.forget_on_close && closes(packet)) {
            self.flows.put(key, flow, now);
        }
        fate
    }

    /// A flow's first packet: who opened it, whether the box meets it, and which rules apply from the start.
    fn open(&mut self, now: Duration, direction: Direction, key: &FlowKey) -> Flow {
        let covered = match self.profile.coverage.by {
            CoverageBy::Connection => key.draw(self.salt),
            CoverageBy::Addresses => key.draw_of_addresses(self.salt),
        };
        let state = &self.profile.state;
        let jitter = state.idle_jitter.0.as_secs_f64();
        let idle = state.idle.0.as_secs_f64()
            + if jitter > 0.0 { self.rng.random_range(-jitter..=jitter) } else { 0.0 };
        let mut flow =
            Flow::new(now, direction == Direction::Up, covered, Duration::from_secs_f64(idle.max(0.0)));
        let remembered = self.sticky.get(&key.addresses()).cloned().unwrap_or_default();
        for index in 0..self.profile.rules.len() {
            let rule = &self.profile.rules[index];
            let sticks = remembered.iter().any(|&(sticky, until)| sticky == index && now < until);
            let always = rule.names.is_empty()
                && rule.quic_payload_min.is_none()
                && !rule.encrypted_hello
                && self.concerns(&flow, key);
            if (sticks || always) && self.meets(now, &flow, rule) {
                self.start(now, index, &mut flow);
            }
        }
        flow
    }

    /// Whether the box looks at such flows at all.
    fn concerns(&self, flow: &Flow, key: &FlowKey) -> bool {
        let Inspection { opened_inside_only, ports, .. } = &self.profile.inspection;
        (flow.opened_inside || !opened_inside_only) && (ports.is_empty() || ports.contains(&key.server_port))
    }

    /// Whether a rule is in force now and covers this flow.
    fn meets(&self, now: Duration, flow: &Flow, rule: &Rule) -> bool {
        let coverage = self.profile.coverage;
        let from = rule.from.map_or(Duration::ZERO, |from| from.0);
        let ramped = coverage.ramp.map_or(1.0, |ramp| {
            (now.saturating_sub(from).as_secs_f64() / ramp.0.as_secs_f64().max(1e-9)).min(1.0)
        });
        in_force(rule, now) && flow.covered < coverage.share * ramped
    }

    /// A name was read: starts the rules it triggers, ends those it is excepted from.
    fn trigger(&mut self, now: Duration, key: &FlowKey, flow: &mut Flow, seen: &Seen) {
        for index in 0..self.profile.rules.len() {
            let rule = &self.profile.rules[index];
            if let Some(name) = &seen.name
                && rule.names.is_empty()
                && rule.except.iter().any(|pattern| pattern.matches(name))
            {
                flow.applied.retain(|applied| applied.rule != index);
                continue;
            }
            if !triggers(rule, seen) || !self.meets(now, flow, rule) || flow.has(index) {
                continue;
            }
            if let Some(sticky) = rule.sticky {
                if self.sticky.len() >= MEMORY_MAX {
                    self.sticky.pop_first();
                    self.counters.overflowed += 1;
                }
                let remembered = self.sticky.entry(key.addresses()).or_default();
                remembered.retain(|&(sticky, _)| sticky != index);
                remembered.push((index, now + sticky.0));
            }
            if let Effect::LimitConnections(_) = rule.effect {
                self.crowd(now, index, key, flow, seen);
            } else {
                self.start(now, index, flow);
            }
        }
    }

    /// Counts a connection to a name, and holds it dead where it is one too many.
    fn crowd(&mut self, now: Duration, index: usize, key: &FlowKey, flow: &mut Flow, seen: &Seen) {
        let Effect::LimitConnections(limit) = self.profile.rules[index].effect.clone() else { return };
        let Some(name) = seen.name.clone() else { return };
        if self.shared.crowds.len() >= MEMORY_MAX {
            self.shared.crowds.retain(|_, crowd| {
                crowd.held_until > now || crowd.hellos.back().is_some_and(|&last| last + limit.within.0 > now)
            });
            if self.shared.crowds.len() >= MEMORY_MAX {
                self.counters.overflowed += 1;
                return;
            }
        }
        let crowd = self.shared.crowds.entry((index, key.client, name, seen.fingerprint)).or_default();
        if crowd.held_until <= now {
            while crowd.hellos.front().is_some_and(|&first| first + limit.within.0 <= now) {
                crowd.hellos.pop_front();
            }
            if crowd.hellos.len() < limit.connections as usize {
                crowd.hellos.push_back(now);
                return;
            }
            crowd.hellos.clear();
            let [least, most] = limit.hold;
            crowd.held_until =
                now + least.0 + most.0.saturating_sub(least.0).mul_f64(self.rng.random::<f64>());
        }
        let until = crowd.held_until;
        self.counters.triggered += 1;
        flow.applied.push(Applied::held(index, now, until));
    }

    fn start(&mut self, now: Duration, index: usize, flow: &mut Flow) {
        self.counters.triggered += 1;
        let effect = &self.profile.rules[index].effect;
        flow.applied.push(Applied::new(index, now, effect, &mut self.rng));
    }

    /// Asks each rule that holds this flow, in their order; the first that does not let the packet pass decides.
    #[expect(clippy::too_many_arguments, reason = "one packet's whole circumstances, used here alone")]
    fn apply(
        &mut self,
        now: Duration,
        direction: Direction,
        packet: &Packet<'_>,
        key: &FlowKey,
        flow: &mut Flow,
        seen: Option<&Seen>,
        out: &mut Vec<Output>,
    ) -> Fate {
        if flow.freed {
            return Fate::Pass;
        }
        let mut release = now;
        let mut applied = std::mem::take(&mut flow.applied);
        applied.sort_by_key(|applied| applied.rule);
        let mut fate = Fate::Pass;
        for one in &mut applied {
            let rule = &self.profile.rules[one.rule];
            if !in_force(rule, now) || rule.lasts.is_some_and(|lasts| now >= one.since + lasts.0) {
                continue;
            }
            let before = out.len();
            let seen = seen.filter(|seen| triggers(rule, seen));
            let circumstance = effect::Circumstance { now, release, direction, packet, key, flow, seen };
            fate = one.decide(&rule.effect, &circumstance, &mut self.shared, &mut self.rng, out);
            self.counters.forged += (out.len() - before) as u64;
            match fate {
                Fate::Pass => {}
                Fate::Hold(until) => release = release.max(until),
                Fate::Drop | Fate::Rewrite(_) => break,
            }
        }
        // An effect whose residual time is over is not asked again, so the flow may be triggered anew.
        applied
            .retain(|one| self.profile.rules[one.rule].lasts.is_none_or(|lasts| now < one.since + lasts.0));
        flow.applied = applied;
        match fate {
            Fate::Drop | Fate::Rewrite(_) => fate,
            Fate::Pass | Fate::Hold(_) if release > now => Fate::Hold(release),
            _ => Fate::Pass,
        }
    }
}
