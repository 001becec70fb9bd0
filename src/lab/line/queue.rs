//! What waits in front of a narrow place: drop-tail, `CoDel` (RFC 8289), RED (Floyd and Jacobson 1993).

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::model::profile::{Codel, Queue, Rate, Red};

use super::rivals::{RIVAL_BYTES, Rivals};

/// A packet of the client's, or one of a rival that exists only here.
#[derive(Debug)]
pub(super) enum Item {
    Packet(Vec<u8>),
    Rival(usize),
}

impl Item {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Packet(bytes) => bytes.len(),
            Self::Rival(_) => RIVAL_BYTES,
        }
    }

    pub(super) fn is_packet(&self) -> bool {
        matches!(self, Self::Packet(_))
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Queue,
    rate: Rate,
    rng: Xoshiro256PlusPlus,
    items: VecDeque<(Duration, Item)>,
    packets: usize,
    bytes: usize,
    control: ControlledDelay,
    /// RED's average queue in bytes, and since when the queue is empty.
    average: f64,
    empty_since: Option<Duration>,
}

/// The state of RFC 8289, section 5.
#[derive(Debug, Default)]
struct ControlledDelay {
    first_above: Option<Duration>,
    dropping: bool,
    drop_next: Duration,
    count: u32,
    last_count: u32,
}

impl Waiting {
    pub(super) fn new(queue: Queue, rate: Rate, seed: u64) -> Self {
        Self {
            queue,
            rate,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            items: VecDeque::new(),
            packets: 0,
            bytes: 0,
            control: ControlledDelay::default(),
            average: 0.0,
            empty_since: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn has_packet(&self) -> bool {
        self.packets > 0
    }

    /// Moves all waiting since to later.
    pub(super) fn shift(&mut self, by: Duration) {
        for (since, _) in &mut self.items {
            *since += by;
        }
    }

    /// Takes an item, or says that there is no room.
    pub(super) fn push(&mut self, now: Duration, item: Item) -> bool {
        /// Two full packets fit anywhere, or nothing ever flows.
        const LEAST_BYTES: f64 = 3000.0;
        let limit = match self.queue {
            Queue::DropTail(wait) => (self.rate.0 * wait.0.as_secs_f64()).max(LEAST_BYTES),
            Queue::DropTailBytes(size) => (size.0 as f64).max(LEAST_BYTES),
            Queue::Codel(codel) => (codel.limit.0 as f64).max(LEAST_BYTES),
            Queue::Red(red) => {
                if self.early_loss(now, red) {
                    return false;
                }
                (self.rate.0 * red.most.0.as_secs_f64() * 2.0).max(LEAST_BYTES)
            }
        };
        if (self.bytes + item.bytes()) as f64 > limit {
            return false;
        }
        self.bytes += item.bytes();
        self.packets += usize::from(item.is_packet());
        self.empty_since = None;
        self.items.push_back((now, item));
        true
    }

    /// RED: the average decides, and decays while the queue is empty.
    fn early_loss(&mut self, now: Duration, red: Red) -> bool {
        /// Weight of the newest length (the paper's 0.002).
        const WEIGHT: f64 = 0.002;
        if let Some(since) = self.empty_since {
            let small_packets = now.saturating_sub(since).as_secs_f64() * self.rate.0 / 1500.0;
            self.average *= (1.0 - WEIGHT).powf(small_packets);
            self.empty_since = Some(now);
        } else {
            self.average += WEIGHT * (self.bytes as f64 - self.average);
        }
        let wait = self.average / self.rate.0;
        let (least, most) = (red.least.0.as_secs_f64(), red.most.0.as_secs_f64());
        if wait <= least {
            return false;
        }
        wait >= most || self.rng.random::<f64>() < red.probability * (wait - least) / (most - least)
    }

    /// The next item to send; those that `CoDel` drops on the way are counted or told to their rivals.
    pub(super) fn pop(&mut self, now: Duration, rivals: &mut Rivals, lost: &mut u64) -> Option<Item> {
        let Queue::Codel(codel) = self.queue else { return self.take(now).map(|(_, item)| item) };
        let mut drop = |item: Item| match item {
            Item::Packet(_) => *lost += 1,
            Item::Rival(flow) => rivals.dropped(now, flow),
        };
        let (mut item, mut tolerable) = self.look(now, codel)?;
        if self.control.dropping {
            if tolerable {
                self.control.dropping = false;
            }
            while self.control.dropping && now >= self.control.drop_next {
                drop(item);
                self.control.count += 1;
                (item, tolerable) = self.look(now, codel)?;
                if tolerable {
                    self.control.dropping = false;
                } else {
                    self.control.drop_next = control_law(self.control.drop_next, codel, self.control.count);
                }
            }
        } else if !tolerable {
            drop(item);
            (item, _) = self.look(now, codel)?;
            self.control.dropping = true;
            let delta = self.control.count.saturating_sub(self.control.last_count);
            let recent = now.saturating_sub(self.control.drop_next) < codel.interval.0 * 16;
            self.control.count = if delta > 1 && recent { delta } else { 1 };
            self.control.drop_next = control_law(now, codel, self.control.count);
            self.control.last_count = self.control.count;
        }
        Some(item)
    }

    /// Takes the next item, and says whether its wait is tolerable yet (`dodequeue` of the RFC).
    fn look(&mut self, now: Duration, codel: Codel) -> Option<(Item, bool)> {
        let Some((since, item)) = self.take(now) else {
            self.control.first_above = None;
            return None;
        };
        let waited = now.saturating_sub(since);
        if waited < codel.target.0 || self.bytes <= 1500 {
            self.control.first_above = None;
            return Some((item, true));
        }
        let limit = *self.control.first_above.get_or_insert(now + codel.interval.0);
        Some((item, now < limit))
    }

    fn take(&mut self, now: Duration) -> Option<(Duration, Item)> {
        let (since, item) = self.items.pop_front()?;
        self.bytes -= item.bytes();
        self.packets -= usize::from(item.is_packet());
        if self.items.is_empty() {
            self.empty_since = Some(now);
        }
        Some((since, item))
    }
}

fn control_law(at: Duration, codel: Codel, count: u32) -> Duration {
    at + codel.interval.0.div_f64(f64::from(count.max(1)).sqrt())
}
