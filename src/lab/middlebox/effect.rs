//! What each effect does to a packet of a flow it holds.

use std::net::IpAddr;
use std::time::Duration;

use rand::{Rng, RngExt};

use crate::model::profile::{Direction, Directions, Effect, Per};
use crate::wire::packet::{Packet, Transport};

use super::flow::{Flow, FlowKey};
use super::forge;
use super::inspect::Seen;
use super::parts::{Bucket, Shaper};
use super::{MEMORY_MAX, Output, Shared};

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
    /// It leaves at this time.
    Hold(Duration),
    /// These bytes go on instead.
    Rewrite(Vec<u8>),
}

/// One packet's circumstances.
pub(super) struct Circumstance<'a> {
    pub(super) now: Duration,
    /// Earlier rules already hold it until then.
    pub(super) release: Duration,
    pub(super) direction: Direction,
    pub(super) packet: &'a Packet<'a>,
    pub(super) key: &'a FlowKey,
    pub(super) flow: &'a Flow,
    /// What was read in it, where that triggers the rule at hand.
    pub(super) seen: Option<&'a Seen>,
}

/// A rule that holds a flow, with the state of its effect.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) rule: usize,
    pub(super) since: Duration,
    /// Packets since the trigger, it among them.
    packets: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    None,
    Buckets([Bucket; 2]),
    Shapers([Shaper; 2]),
    Freeze { bytes: Option<u64>, packets: Option<u64>, frozen: bool },
    Blackhole { after: u64 },
    Delay { by: Duration },
    Held { until: Duration },
    Dead,
}

impl Applied {
    /// The effect at its beginning; what is drawn per flow is drawn here.
    pub(super) fn new<R: Rng>(rule: usize, now: Duration, effect: &Effect, rng: &mut R) -> Self {
        let mut between = |least: u64, most: u64| rng.random_range(least..=most.max(least));
        let state = match effect {
            Effect::Police(police) => State::Buckets([Bucket::new(now, police); 2]),
            Effect::Shape(_) => State::Shapers([Shaper::default(); 2]),
            Effect::Freeze(freeze) => State::Freeze {
                bytes: freeze.after_bytes.map(|[least, most]| between(least.0, most.0)),
                packets: freeze.after_packets.map(|[least, most]| between(u64::from(least), u64::from(most))),
                frozen: false,
            },
            Effect::Blackhole(hole) => State::Blackhole {
                after: between(u64::from(hole.after_packets[0]), u64::from(hole.after_packets[1])),
            },
            Effect::Delay(delay) => State::Delay {
                by: Duration::from_micros(between(
                    delay.by[0].0.as_micros() as u64,
                    delay.by[1].0.as_micros() as u64,
                )),
            },
            Effect::Pass(_)
            | Effect::Reset(_)
            | Effect::LimitConnections(_)
            | Effect::DnsLie(_)
            | Effect::BlockPage(_) => State::None,
        };
        Self { rule, since: now, packets: 0, state }
    }

    /// A connection held dead until a time.
    pub(super) fn held(rule: usize, now: Duration, until: Duration) -> Self {
        Self { rule, since: now, packets: 0, state: State::Held { until } }
    }

    /// Decides on a packet; what is injected beside it goes to `out`.
    pub(super) fn decide<R: Rng>(
        &mut self,
        effect: &Effect,
        about: &Circumstance<'_>,
        shared: &mut Shared,
        rng: &mut R,
        out: &mut Vec<Output>,
    ) -> Fate {
        self.packets += 1;
        let bytes = about.packet.bytes.len();
        let index = about.direction.index();
        match (effect, &mut self.state) {
            (Effect::Police(police), State::Buckets(own)) if affects(police.directions, about.direction) => {
                let bucket = match sharer(police.per, about.key) {
                    None => &mut own[index],
                    Some(client) => {
                        make_room(&mut shared.buckets);
                        shared
                            .buckets
                            .entry((self.rule, client, about.direction))
                            .or_insert_with(|| Bucket::new(about.now, police))
                    }
                };
                pass_if(bucket.takes(about.now, police, bytes))
            }
            (Effect::Shape(shape), State::Shapers(own)) if affects(shape.directions, about.direction) => {
                let shaper = match sharer(shape.per, about.key) {
                    None => &mut own[index],
                    Some(client) => {
                        make_room(&mut shared.shapers);
                        shared.shapers.entry((self.rule, client, about.direction)).or_default()
                    }
                };
                shaper.queue(about.release, shape.rate, shape.queue.0, bytes).map_or(Fate::Drop, Fate::Hold)
            }
            (Effect::Pass(pass), _) if affects(pass.directions, about.direction) => {
                pass_if(rng.random::<f64>() < pass.share)
            }
            (Effect::Freeze(_), State::Freeze { bytes, packets, frozen }) => {
                *frozen = *frozen
                    || bytes.is_some_and(|limit| about.flow.payload[index] > limit)
                    || packets.is_some_and(|limit| about.flow.packets > limit);
                pass_if(!*frozen)
            }
            (Effect::Blackhole(_), State::Blackhole { after }) => pass_if(self.packets <= *after),
            (Effect::Delay(delay), State::Delay { by }) if affects(delay.directions, about.direction) => {
                if delay.during.is_some_and(|during| about.now >= self.since + during.0) {
                    Fate::Pass
                } else if rng.random::<f64>() < delay.share {
                    Fate::Hold(about.release + *by)
                } else {
                    Fate::Drop
                }
            }
            (_, State::Held { until }) => pass_if(about.now >= *until),
            (Effect::Reset(_), _) if about.direction == Direction::Down => {
                forge::reset(about.packet).map_or(Fate::Drop, Fate::Rewrite)
            }
            (Effect::DnsLie(lie), _) if about.seen.is_some() && about.direction == Direction::Up => {
                out.extend(forge::dns_answer(about.packet, &lie.addresses));
                Fate::Pass
            }
            (Effect::BlockPage(page), state) => {
                let tcp = matches!(about.packet.transport, Transport::Tcp(_));
                if tcp && about.seen.is_some() && about.direction == Direction::Up {
                    out.extend(forge::block_page(about.packet, page));
                    *state = State::Dead;
                }
                pass_if(!matches!(state, State::Dead))
            }
            _ => Fate::Pass,
        }
    }
}

fn pass_if(passes: bool) -> Fate {
    if passes { Fate::Pass } else { Fate::Drop }
}

fn affects(directions: Directions, direction: Direction) -> bool {
    match directions {
        Directions::Both => true,
        Directions::Up => direction == Direction::Up,
        Directions::Down => direction == Direction::Down,
    }
}

/// Who shares a bucket; the outer nothing: nobody.
#[expect(
    clippy::option_option,
    reason = "own, one client's, everybody's: the last two are keys of one table"
)]
fn sharer(per: Per, key: &FlowKey) -> Option<Option<IpAddr>> {
    match per {
        Per::Connection => None,
        Per::Client => Some(Some(key.client)),
        Per::Box => Some(None),
    }
}

/// Keeps a shared table bounded; forgetting all of it is a fresh burst for everyone, which a laboratory never sees.
fn make_room<K, V>(table: &mut std::collections::HashMap<K, V>) {
    if table.len() >= MEMORY_MAX {
        table.clear();
    }
}
