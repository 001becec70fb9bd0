//! A long way: every packet takes as long as its host is far, and a little more by chance; the order of packets of one
//! host is kept.

use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Packets on the way at once, at most; 100 Mbit/s over 300 ms are 2500.
const UNDERWAY_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Delay {
    jitter: Duration,
    rng: Xoshiro256PlusPlus,
    /// When the last packet of each host arrives.
    last: BTreeMap<usize, Duration>,
    underway: BinaryHeap<Underway>,
    order: u64,
}

/// Ordered by arrival; the earliest is the greatest, as `BinaryHeap` wants it.
#[derive(Debug, PartialEq, Eq)]
struct Underway {
    arrival: Duration,
    order: u64,
    bytes: Vec<u8>,
}

impl Ord for Underway {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.arrival, other.order).cmp(&(self.arrival, self.order))
    }
}

impl PartialOrd for Underway {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Delay {
    pub(super) fn new(jitter: Duration, seed: u64) -> Self {
        Self {
            jitter,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            last: BTreeMap::new(),
            underway: BinaryHeap::new(),
            order: 0,
        }
    }

    pub(super) fn offer(&mut self, now: Duration, one_way: Duration, host: usize, bytes: Vec<u8>) {
        if self.underway.len() >= UNDERWAY_MAX {
            return;
        }
        let late = if self.jitter.is_zero() {
            Duration::ZERO
        } else {
            self.jitter.mul_f64(self.rng.random::<f64>())
        };
        let last = self.last.entry(host).or_default();
        let arrival = (now + one_way + late).max(*last);
        *last = arrival;
        self.order += 1;
        self.underway.push(Underway { arrival, order: self.order, bytes });
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.underway.peek().map(|packet| packet.arrival)
    }

    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Vec<u8>>) {
        while self.underway.peek().is_some_and(|packet| packet.arrival <= now) {
            out.extend(self.underway.pop().map(|packet| packet.bytes));
        }
    }
}
