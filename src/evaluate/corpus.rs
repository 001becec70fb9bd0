//! The corpus: which line, which middlebox, which truth. Drawn from a seed; a longer corpus begins with the shorter one.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use serde::{Deserialize, Serialize};

use crate::{
    lab::profiles,
    model::{
        Mechanism, Verdict,
        profile::{
            Competition, CoverageBy, Directions, Effect, LineProfile, Loss, NamePattern, Pass, Per, Police,
            Profile, Protocol, Queue, Rate, Rule, Shape, Size, Span, Truth,
        },
    },
};

/// The name that rules are about.
pub(super) const SUBJECT: &str = "abs.twimg.com";
/// The name that no rule is about.
pub(super) const CONTROL: &str = "control.example";
/// Names of the second, farther host.
pub(super) const FAR_SUBJECT: &str = "far.twimg.com";
/// The same, of a control.
pub(super) const FAR_CONTROL: &str = "far.control.example";

/// Bytes of every transfer: the program's default.
pub(super) const BYTES: u64 = 128 << 10;

/// What kind of condition a test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Nothing but a line, maybe lossy.
    Clean,
    /// Others on the same line.
    Congested,
    /// The server sends slowly to everybody.
    SlowServer,
    /// Everybody is shaped.
    ShapeAll,
    /// Subject and control are different hosts at different distances.
    OtherHost,
    /// A policer for the subject's name.
    Policed,
    /// A shaper for the subject's name.
    Shaped,
    /// Random loss for the subject's name.
    Lossy,
    /// Slow handshakes for the subject's name.
    Handshake,
    /// Silence after some bytes or packets.
    Frozen,
    /// The name is dropped, reset or answered by somebody else.
    Blocked,
    /// A policer on 35 % of the connections.
    Patchy,
    /// The fourth connection within ten seconds is held, whatever its name.
    ConnectionLimit,
}

impl Class {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 13] = [
        Self::Clean,
        Self::Congested,
        Self::SlowServer,
        Self::ShapeAll,
        Self::OtherHost,
        Self::Policed,
        Self::Shaped,
        Self::Lossy,
        Self::Handshake,
        Self::Frozen,
        Self::Blocked,
        Self::Patchy,
        Self::ConnectionLimit,
    ];

    /// Nobody interferes with the subject's name.
    pub const fn is_negative(self) -> bool {
        matches!(self, Self::Clean | Self::Congested | Self::SlowServer | Self::ShapeAll | Self::OtherHost)
    }

    /// The name used in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Congested => "congested",
            Self::SlowServer => "slow-server",
            Self::ShapeAll => "shape-all",
            Self::OtherHost => "other-host",
            Self::Policed => "policed",
            Self::Shaped => "shaped",
            Self::Lossy => "lossy",
            Self::Handshake => "handshake",
            Self::Frozen => "frozen",
            Self::Blocked => "blocked",
            Self::Patchy => "patchy",
            Self::ConnectionLimit => "connection-limit",
        }
    }
}

/// One test's condition.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Its place in the corpus.
    pub number: u32,
    /// What kind it is.
    pub class: Class,
    /// The middlebox, and with it the truth.
    pub profile: Profile,
    /// The line.
    pub line: LineProfile,
    /// Everything drawn by lane and round comes from it.
    pub seed: u64,
    /// With [`Class::OtherHost`]: the farther host is the control.
    pub far_control: bool,
}

/// Two thirds are negative, eight in thirty clean; so that classes fill evenly at every size.
const NEGATIVES: [Class; 10] = [
    Class::Clean,
    Class::Congested,
    Class::Clean,
    Class::SlowServer,
    Class::Clean,
    Class::ShapeAll,
    Class::Clean,
    Class::OtherHost,
    Class::Congested,
    Class::ShapeAll,
];

/// The test with this number in the corpus of this seed.
pub fn draw(seed: u64, number: u32) -> Condition {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number));
    let negative = !number.is_multiple_of(3);
    let mut line = draw_line(&mut rng);
    let far_control = rng.random_bool(0.2);
    let (class, profile) = if negative {
        let turn = number as usize - number as usize / 3 - 1;
        let mut class = NEGATIVES[turn % NEGATIVES.len()];
        // The two most frequent of the others give a third of their turns away, so that all five have enough.
        if (turn / NEGATIVES.len()).is_multiple_of(3) {
            class = match turn % NEGATIVES.len() {
                8 => Class::SlowServer,
                9 => Class::OtherHost,
                _ => class,
            };
        }
        (class, negative_profile(class, &mut line, &mut rng))
    } else {
        positive(&line, &mut rng)
    };
    Condition { number, class, profile, line, seed: rng.random(), far_control }
}

/// Evenly in logarithms.
pub(super) fn log_uniform(rng: &mut ChaCha8Rng, least: f64, most: f64) -> f64 {
    rng.random_range(least.ln()..=most.ln()).exp()
}

/// 0.3 to 100 Mbit/s, 5 to 300 ms; a third lossless, else 0.05 to 3 % lost both ways; half with jitter.
fn draw_line(rng: &mut ChaCha8Rng) -> LineProfile {
    let mut line = LineProfile::default();
    let rate = log_uniform(rng, 0.3e6, 100e6);
    let rtt = log_uniform(rng, 5.0, 300.0);
    line.rtt = Span::millis(rtt as u64);
    line.down.rate = Rate::bits(rate);
    line.up.rate = Rate::bits((rate / rng.random_range(1.0..10.0)).max(0.128e6));
    let loss = if rng.random_bool(1.0 / 3.0) { 0.0 } else { log_uniform(rng, 0.0005, 0.03) };
    let jitter = if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.0..0.2) * rtt };
    for way in [&mut line.down, &mut line.up] {
        way.loss = Loss::Random(loss);
        way.jitter = Span(Duration::from_secs_f64(jitter / 1e3));
        way.queue = Queue::DropTail(Span::millis(rng.random_range(50..=400)));
    }
    line
}

pub(super) fn built_in(name: &str) -> Profile {
    profiles::profile(name).expect("a built-in profile is sound, as its own test shows")
}

fn negative_profile(class: Class, line: &mut LineProfile, rng: &mut ChaCha8Rng) -> Profile {
    match class {
        Class::Congested => {
            // Rivals are simulated packet by packet: on the fastest lines they would be the laboratory's own load.
            line.down.rate = Rate(line.down.rate.0.min(Rate::bits(30e6).0));
            line.down.competition = Competition {
                share: rng.random_range(0.0..0.5),
                flows: rng.random_range(1..=8),
                on_off: rng.random_bool(0.3).then(|| Span::millis(rng.random_range(200..3_000))),
            };
            built_in("congested")
        }
        Class::SlowServer => {
            let mut profile = built_in("slow-server");
            profile.server_rate = Some(Rate::bits(log_uniform(rng, 0.1e6, 4e6)));
            profile
        }
        Class::ShapeAll => {
            let mut profile = built_in("shape-all");
            let rate = Rate::bits(log_uniform(rng, 0.1e6, 2e6));
            let queue = Size(rng.random_range(16..=96) << 10);
            profile.rules[0].effect =
                Effect::Shape(Shape { rate, queue, directions: Directions::Both, per: Per::Client });
            profile.truth.rate = Some(rate);
            profile
        }
        Class::OtherHost => {
            line.other_hosts = vec![Span::millis(log_uniform(rng, 5.0, 250.0) as u64)];
            built_in("clean")
        }
        _ => built_in("clean"),
    }
}

fn positive(line: &LineProfile, rng: &mut ChaCha8Rng) -> (Class, Profile) {
    let pick = |rng: &mut ChaCha8Rng, names: &[&str]| built_in(names[rng.random_range(0..names.len())]);
    match rng.random_range(0..100) {
        0..28 => (Class::Policed, policed(line, rng)),
        28..42 => {
            let names = [
                "tspu-2021",
                "tspu-2021-v2",
                "tspu-2021-v3",
                "tspu-2021-128",
                "tspu-2021-150",
                "tspu-2022-trickle",
            ];
            (Class::Policed, pick(rng, &names))
        }
        42..46 => {
            let mut profile = built_in("youtube-2024");
            profile.rules.iter_mut().for_each(|rule| rule.names = names());
            (Class::Policed, profile)
        }
        46..58 => (Class::Shaped, shaped(line, rng)),
        58..68 => (Class::Lossy, lossy(rng)),
        68..76 => {
            let mut profile = pick(rng, &["kazakhstan-handshake", "turkey-delay"]);
            profile.rules[0].names = names();
            (Class::Handshake, profile)
        }
        76..85 => (Class::Frozen, pick(rng, &["tspu-freeze-bytes", "tspu-freeze-packets"])),
        85..94 => {
            let names =
                ["tspu-sni-drop", "tspu-sni-rst", "tspu-sni-few-packets", "http-blockpage", "tspu-2026"];
            (Class::Blocked, pick(rng, &names))
        }
        94..98 => {
            let mut profile = built_in("patchy");
            profile.coverage.by = CoverageBy::Connection;
            (Class::Patchy, profile)
        }
        _ => (Class::ConnectionLimit, built_in("tspu-connection-limit")),
    }
}

fn names() -> Vec<NamePattern> {
    vec![NamePattern::parse("*.twimg.com").expect("letters, dots and a star are a pattern")]
}

/// What a transfer of this size gets on this line: its rate, or what five round trips of slow start leave, or what random
/// loss leaves (Mathis et al., CCR 27, 1997). Only to draw rates that matter; the truth is measured.
fn expected_goodput(line: &LineProfile) -> f64 {
    let rtt = line.rtt.0.as_secs_f64().max(0.001);
    let loss = match line.down.loss {
        Loss::Random(loss) if loss > 0.0 => 1.2 * 1448.0 / (rtt * loss.sqrt()),
        _ => f64::INFINITY,
    };
    line.down.rate.0.min(BYTES as f64 / (4.0 * rtt)).min(loss)
}

/// A rate that slows this line 1.3- to 60-fold, at least 24 kbit/s.
fn drawn_rate(line: &LineProfile, rng: &mut ChaCha8Rng) -> Rate {
    Rate((expected_goodput(line) / log_uniform(rng, 1.3, 60.0)).max(3_000.0))
}

fn by_name(name: &str, truth: Truth, effect: Effect) -> Profile {
    let mut profile = built_in("clean");
    name.clone_into(&mut profile.name);
    profile.truth = truth;
    profile.rules = vec![rule(names(), effect)];
    profile
}

/// A rule about these names in the TLS hello; about every connection where there are none.
pub(super) fn rule(names: Vec<NamePattern>, effect: Effect) -> Rule {
    Rule {
        names,
        except: Vec::new(),
        seen_in: vec![Protocol::Tls],
        quic_payload_min: None,
        encrypted_hello: false,
        effect,
        lasts: None,
        sticky: None,
        from: None,
        until: None,
    }
}

fn throttled(mechanism: Mechanism, rate: Option<Rate>) -> Truth {
    Truth { verdict: Verdict::Throttled, mechanism: Some(mechanism), rate }
}

fn policed(line: &LineProfile, rng: &mut ChaCha8Rng) -> Profile {
    let rate = drawn_rate(line, rng);
    let burst = Size(log_uniform(rng, 6e3, 48e3) as u64);
    let police = Police {
        rate,
        burst,
        starts_empty: false,
        pause: Span::default(),
        directions: Directions::Both,
        per: Per::Connection,
    };
    by_name("policer", throttled(Mechanism::Policing, Some(rate)), Effect::Police(police))
}

fn shaped(line: &LineProfile, rng: &mut ChaCha8Rng) -> Profile {
    let rate = drawn_rate(line, rng);
    let queue = Size(log_uniform(rng, 12e3, 128e3) as u64);
    let shape = Shape { rate, queue, directions: Directions::Both, per: Per::Connection };
    by_name("shaper", throttled(Mechanism::Shaping, Some(rate)), Effect::Shape(shape))
}

fn lossy(rng: &mut ChaCha8Rng) -> Profile {
    let pass = Pass { share: 1.0 - log_uniform(rng, 0.03, 0.5), directions: Directions::Both };
    by_name("random-loss", throttled(Mechanism::Loss, None), Effect::Pass(pass))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_sound_and_the_same_seed_draws_the_same() {
        for number in 0..3_000 {
            let condition = draw(7, number);
            assert_eq!(condition.profile.check(), Vec::<String>::new(), "{number}");
            assert_eq!(condition.line.check(), Vec::<String>::new(), "{number}");
            assert_eq!(condition.class.is_negative(), !number.is_multiple_of(3));
            assert_eq!(format!("{condition:?}"), format!("{:?}", draw(7, number)));
        }
    }

    /// 6000 tests must hold 4000 negative ones, 500 of each class at least, and twelve profiles.
    #[test]
    fn six_thousand_tests_fill_every_class() {
        let all: Vec<Condition> = (0..6_000).map(|number| draw(1, number)).collect();
        let count = |class: Class| all.iter().filter(|one| one.class == class).count();
        for class in Class::ALL.into_iter().filter(|class| class.is_negative()) {
            assert!(count(class) >= 500, "{}: {}", class.name(), count(class));
        }
        assert_eq!(all.iter().filter(|one| one.class.is_negative()).count(), 4_000);
        let names: std::collections::BTreeSet<&str> =
            all.iter().map(|one| one.profile.name.as_str()).collect();
        assert!(names.len() >= 12, "{names:?}");
    }
}
