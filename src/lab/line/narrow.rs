//! The narrow place of a line in one direction: loss before it, a queue in front of it, a rate, rivals, a radio.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::model::profile::{Loss, Queue, Rate, Size, Span, Way, Wifi};

use super::earlier;
use super::queue::{Item, Waiting};
use super::rivals::Rivals;

/// Rivals go on for this long after the client's last packet; then they stand still until its next one, so that an idle
/// lane costs nothing and finds its rivals where it left them.
const RIVALS_LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Narrow {
    way: Way,
    rng: Xoshiro256PlusPlus,
    waiting: Waiting,
    rivals: Rivals,
    /// The radio's next chance to send, where it waits for one.
    chance: Option<Duration>,
    /// What is being sent, and when it is through.
    sending: Option<(Duration, Vec<Item>)>,
    /// A packet of the client's is among what is being sent.
    sends_packet: bool,
    in_bad_spell: bool,
    last_packet: Duration,
    lost: u64,
}

impl Narrow {
    pub(super) fn new(way: Way, rtt: Duration, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rivals = Rivals::new(way.competition, way.rate, rtt, rng.random());
        Self {
            waiting: Waiting::new(way.queue, way.rate, rng.random()),
            rivals,
            rng,
            way,
            chance: None,
            sending: None,
            sends_packet: false,
            in_bad_spell: false,
            last_packet: Duration::ZERO,
            lost: 0,
        }
    }

    /// A server that sends no faster than this, with room for all it wants to send.
    pub(super) fn paced(rate: Rate, seed: u64) -> Self {
        let way = Way {
            rate,
            queue: Queue::DropTailBytes(Size(16 << 20)),
            jitter: Span::default(),
            ..Way::default()
        };
        Self::new(way, Duration::ZERO, seed)
    }

    /// The client's packets that were lost here.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes a packet of the client's.
    pub(super) fn offer(&mut self, now: Duration, bytes: Vec<u8>) {
        if self.is_idle() {
            self.resume(now);
        }
        self.last_packet = now;
        let too_large = self.way.mtu.is_some_and(|mtu| bytes.len() as u64 > mtu.0);
        if too_large || self.is_lost() || !self.waiting.push(now, Item::Packet(bytes)) {
            self.lost += 1;
        }
        self.send(now);
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        if self.is_idle() { None } else { self.next() }
    }

    /// Lets happen what is due; the client's packets that came through go to `out`.
    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        if self.is_idle() {
            return;
        }
        if let Some((_, items)) = self.sending.take_if(|(through, _)| *through <= now) {
            self.sends_packet = false;
            for item in items {
                match item {
                    Item::Packet(bytes) => out.push(bytes),
                    Item::Rival(flow) => self.rivals.through(now, flow),
                }
            }
        }
        while let Some(flow) = self.rivals.next_packet(now) {
            if !self.waiting.push(now, Item::Rival(flow)) {
                self.rivals.dropped(now, flow);
            }
        }
        self.send(now);
    }

    /// Nothing of the client's is here, and nothing was for a while.
    fn is_idle(&self) -> bool {
        if self.waiting.has_packet() || self.sends_packet {
            return false;
        }
        self.next().is_none_or(|next| next > self.last_packet + RIVALS_LINGER)
    }

    /// When something next happens here, the client's or the rivals'.
    fn next(&self) -> Option<Duration> {
        let through = self.sending.as_ref().map(|(through, _)| *through);
        earlier(earlier(through, self.chance), self.rivals.next_deadline())
    }

    /// Moves the rivals' affairs from where they stood still to now.
    fn resume(&mut self, now: Duration) {
        let stood = now.saturating_sub(self.last_packet + RIVALS_LINGER);
        self.rivals.shift(stood);
        self.waiting.shift(stood);
        self.chance = self.chance.map(|chance| chance + stood);
        if let Some((through, _)) = &mut self.sending {
            *through += stood;
        }
    }

    fn is_lost(&mut self) -> bool {
        match self.way.loss {
            Loss::Random(probability) => probability > 0.0 && self.rng.random::<f64>() < probability,
            Loss::Bursty { share, length } => {
                // A bad spell ends after each packet with probability 1/length; good ones are long enough for the share.
                let ends = 1.0 / length;
                let begins = ends * share / (1.0 - share);
                let change = if self.in_bad_spell { ends } else { begins };
                if self.rng.random::<f64>() < change {
                    self.in_bad_spell = !self.in_bad_spell;
                }
                self.in_bad_spell
            }
        }
    }

    /// Sends what is next, where nothing is being sent.
    fn send(&mut self, now: Duration) {
        if self.sending.is_some() || self.waiting.is_empty() {
            return;
        }
        let most = match self.way.wifi {
            None => 1,
            Some(Wifi { access, bundle }) => {
                let chance = *self.chance.get_or_insert_with(|| {
                    // Exponential by inversion; 1 - u is never 0.
                    now + access.0.mul_f64(-(1.0 - self.rng.random::<f64>()).ln())
                });
                if chance > now {
                    return;
                }
                self.chance = None;
                bundle.max(1)
            }
        };
        let mut items = Vec::new();
        while items.len() < most as usize
            && let Some(item) = self.waiting.pop(now, &mut self.rivals, &mut self.lost)
        {
            items.push(item);
        }
        if !items.is_empty() {
            let bytes = items.iter().map(Item::bytes).sum();
            self.sends_packet = items.iter().any(Item::is_packet);
            self.sending = Some((now + self.way.rate.time_for(bytes), items));
        }
    }
}
