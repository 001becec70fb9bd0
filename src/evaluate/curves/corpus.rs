//! The conditions: which cause, how fast, how far, how many bytes. Drawn from a seed.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use serde::{Deserialize, Serialize};

use crate::{
    evaluate::corpus::{self, built_in, log_uniform},
    model::profile::{
        Codel, Competition, Directions, Effect, LineProfile, Loss, Per, Police, Profile, Queue, Rate, Red,
        Shape, Size, Span, Wifi,
    },
};

/// What made a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A policer for one flow alone.
    Policed,
    /// A policer that two to five flows share.
    PolicedShared,
    /// A shaper.
    Shaped,
    /// A drop-tail queue of 0.1 to 1 bandwidth-delay products.
    DropTail,
    /// `CoDel` or RED.
    #[serde(rename = "codel-or-red")]
    Managed,
    /// Each packet is lost with a probability of 0.5 to 3 %.
    RandomLoss,
    /// A radio that sends in bundles and loses in bursts.
    Wifi,
    /// Other flows on the same line.
    Competing,
    /// Nothing but a line.
    Clean,
}

/// All of them, in the order of the table.
pub const KINDS: [Kind; 9] = [
    Kind::Policed,
    Kind::PolicedShared,
    Kind::Shaped,
    Kind::DropTail,
    Kind::Managed,
    Kind::RandomLoss,
    Kind::Wifi,
    Kind::Competing,
    Kind::Clean,
];

impl Kind {
    /// The name used in recordings and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policed => "policed",
            Self::PolicedShared => "policed-shared",
            Self::Shaped => "shaped",
            Self::DropTail => "drop-tail",
            Self::Managed => "codel-or-red",
            Self::RandomLoss => "random-loss",
            Self::Wifi => "wifi",
            Self::Competing => "competing",
            Self::Clean => "clean",
        }
    }

    /// A token bucket drops what exceeds it.
    pub const fn is_policed(self) -> bool {
        matches!(self, Self::Policed | Self::PolicedShared)
    }
}

/// What was drawn, as far as the table tells it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The cause.
    pub kind: Kind,
    /// Its place among those of its kind.
    pub number: u32,
    /// Rate of the policer, the shaper or the line, IP bits.
    pub rate_bits_per_second: f64,
    /// Depth of the policer's bucket, IP bytes.
    pub burst_bytes: Option<u64>,
    /// Flows through the policer.
    pub flows: u32,
    /// Round-trip time of the empty line.
    pub rtt_s: f64,
    /// Payload that is asked for.
    pub bytes: u64,
    /// Share of packets lost at random.
    pub loss: f64,
    /// Room in front of the narrow place, in bandwidth-delay products of the empty line.
    pub queue_bdp: Option<f64>,
}

/// A condition.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) facts: Facts,
    pub(super) line: LineProfile,
    pub(super) profile: Profile,
    pub(super) seed: u64,
}

/// Rates of policers and shapers, bits a second: that of 2021, and those of published recordings.
const RATES: [f64; 5] = [0.15e6, 0.5e6, 1.5e6, 3e6, 10e6];

/// Depths of buckets in bytes.
const BURSTS: [u64; 4] = [8_000, 16_000, 100_000, 1_000_000];

/// Sizes of transfers: the program's own, and larger ones.
const SIZES: [u64; 3] = [128 << 10, 512 << 10, 2_000_000];

/// No transfer is to take longer than about this at its rate.
const SECONDS_MAX: f64 = 40.0;

/// The condition with this number of this kind.
pub(super) fn draw(seed: u64, kind: Kind, number: u32) -> Condition {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(number) << 8) ^ kind as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(mixed);
    let mut line = LineProfile::default();
    let rtt = log_uniform(&mut rng, 0.01, 0.2);
    line.rtt = seconds(rtt);
    let rate = log_uniform(&mut rng, 2e6, 50e6);
    (line.down.rate, line.up.rate) = (Rate::bits(rate), Rate::bits((rate / 4.0).max(1e6)));
    let size = SIZES[rng.random_range(0..SIZES.len())];
    let mut condition = Condition {
        facts: Facts {
            kind,
            number,
            rate_bits_per_second: rate,
            burst_bytes: None,
            flows: 1,
            rtt_s: rtt,
            bytes: size,
            loss: 0.0,
            queue_bdp: None,
        },
        line,
        profile: built_in("clean"),
        seed: rng.random(),
    };
    let one = &mut condition;
    match kind {
        Kind::Clean => {}
        Kind::Policed | Kind::PolicedShared => police(one, &mut rng),
        Kind::Shaped => shape(one, &mut rng),
        Kind::DropTail => {
            one.slow_to(log_uniform(&mut rng, 0.5e6, 20e6));
            let room = log_uniform(&mut rng, 0.1, 1.0);
            one.facts.queue_bdp = Some(room);
            one.line.down.queue = Queue::DropTail(seconds(room * rtt));
        }
        Kind::Managed => {
            one.slow_to(log_uniform(&mut rng, 0.5e6, 20e6));
            one.line.down.queue = managed(&mut rng);
        }
        Kind::RandomLoss => {
            one.facts.loss = rng.random_range(0.005..0.03);
            one.line.down.loss = Loss::Random(one.facts.loss);
        }
        Kind::Wifi => wifi(one, &mut rng),
        Kind::Competing => compete(one, &mut rng),
    }
    let facts = &mut condition.facts;
    let share = facts.rate_bits_per_second / 8.0 / f64::from(facts.flows);
    let most = SIZES.iter().copied().filter(|&size| size as f64 / share <= SECONDS_MAX).max();
    facts.bytes = facts.bytes.min(most.unwrap_or(SIZES[0]));
    condition
}

impl Condition {
    fn slow_to(&mut self, rate: f64) {
        self.facts.rate_bits_per_second = rate;
        self.line.down.rate = Rate::bits(rate);
    }

    fn rule(&mut self, effect: Effect) {
        self.profile.rules = vec![corpus::rule(Vec::new(), effect)];
    }
}

/// Behind a line three times as fast at least, with a bucket of which the transfer is not the half.
fn police(one: &mut Condition, rng: &mut ChaCha8Rng) {
    let rate = RATES[rng.random_range(0..RATES.len())];
    one.facts.rate_bits_per_second = rate;
    one.line.down.rate = Rate::bits(log_uniform(rng, (3.0 * rate).max(5e6), 100e6));
    let shared = one.facts.kind == Kind::PolicedShared;
    one.facts.flows = if shared { rng.random_range(2..=5) } else { 1 };
    let share = rate / 8.0 / f64::from(one.facts.flows);
    let room = (one.facts.bytes as f64).min(share * SECONDS_MAX) / 2.0;
    let deep = BURSTS.iter().filter(|&&burst| (burst as f64) < room).count().max(1);
    let burst = BURSTS[rng.random_range(0..deep)];
    one.facts.burst_bytes = Some(burst);
    one.rule(Effect::Police(Police {
        rate: Rate::bits(rate),
        burst: Size(burst),
        starts_empty: false,
        pause: Span::default(),
        directions: Directions::Down,
        per: if shared { Per::Client } else { Per::Connection },
    }));
}

fn shape(one: &mut Condition, rng: &mut ChaCha8Rng) {
    let rate = RATES[rng.random_range(0..RATES.len())];
    one.facts.rate_bits_per_second = rate;
    one.line.down.rate = Rate::bits(log_uniform(rng, (3.0 * rate).max(5e6), 100e6));
    one.rule(Effect::Shape(Shape {
        rate: Rate::bits(rate),
        queue: Size(log_uniform(rng, 12e3, 256e3) as u64),
        directions: Directions::Down,
        per: Per::Connection,
    }));
}

fn managed(rng: &mut ChaCha8Rng) -> Queue {
    if rng.random_bool(0.5) {
        return Queue::Codel(Codel::default());
    }
    let least = log_uniform(rng, 0.005, 0.03);
    let probability = rng.random_range(0.02..0.2);
    Queue::Red(Red { least: seconds(least), most: seconds(3.0 * least), probability })
}

fn wifi(one: &mut Condition, rng: &mut ChaCha8Rng) {
    one.line.down.wifi =
        Some(Wifi { access: seconds(log_uniform(rng, 0.000_5, 0.01)), bundle: rng.random_range(4..=32) });
    if rng.random_bool(0.7) {
        one.facts.loss = log_uniform(rng, 0.001, 0.02);
        one.line.down.loss = Loss::Bursty { share: one.facts.loss, length: rng.random_range(2.0..10.0) };
    }
}

fn compete(one: &mut Condition, rng: &mut ChaCha8Rng) {
    one.slow_to(log_uniform(rng, 2e6, 30e6));
    one.line.down.queue = Queue::DropTail(seconds(log_uniform(rng, 0.02, 0.2)));
    one.line.down.competition = Competition {
        share: rng.random_range(0.0..0.4),
        flows: rng.random_range(1..=8),
        on_off: rng.random_bool(0.3).then(|| Span::millis(rng.random_range(200..3_000))),
    };
}

fn seconds(seconds: f64) -> Span {
    Span(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_sound_and_the_same_seed_draws_the_same() {
        for kind in KINDS {
            for number in 0..300 {
                let condition = draw(3, kind, number);
                assert_eq!(condition.profile.check(), Vec::<String>::new());
                assert_eq!(condition.line.check(), Vec::<String>::new());
                assert_eq!(format!("{condition:?}"), format!("{:?}", draw(3, kind, number)));
                let seconds = condition.facts.bytes as f64 * 8.0 / condition.facts.rate_bits_per_second;
                assert!(seconds * f64::from(condition.facts.flows) <= SECONDS_MAX, "{:?}", condition.facts);
            }
        }
    }
}
