//! The line as data: what lies between client and middlebox, and between middlebox and server.

use serde::{Deserialize, Serialize};

use super::{Rate, Size, Span};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

impl Direction {
    /// 0 for up, 1 for down: for arrays of two.
    pub const fn index(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A line. The client's access (rate, queue, loss) is its narrow place, and lies between client and middlebox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineProfile {
    /// Server to client.
    pub down: Way,
    /// Client to server.
    pub up: Way,
    /// Round-trip time of the empty line; half of it each way.
    pub rtt: Span,
    /// Further round-trip time to the second, third… address of the server: other hosts, farther away.
    pub other_hosts: Vec<Span>,
    /// Routers between client and middlebox, and between middlebox and server (P4).
    pub hops: [u8; 2],
    /// The client sits behind an address translator.
    pub nat: bool,
}

/// One direction of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Way {
    /// Rate of the narrow place, IP bytes.
    pub rate: Rate,
    /// Each packet is late by up to this much more, evenly drawn; order is kept.
    pub jitter: Span,
    /// Loss on the way, before the queue.
    pub loss: Loss,
    /// Larger packets vanish, and nobody is told: a low MTU whose messages are filtered. IP bytes.
    pub mtu: Option<Size>,
    /// What waits at the narrow place.
    pub queue: Queue,
    /// Others who send through the same narrow place.
    pub competition: Competition,
    /// The narrow place is a radio: packets leave in bundles.
    pub wifi: Option<Wifi>,
}

/// Loss of packets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Each packet alone, with this probability.
    Random(f64),
    /// Gilbert and Elliott's two states: mean share lost, and mean packets a bad spell lasts; all are lost in a bad spell.
    Bursty {
        /// Share of packets lost in the long run.
        share: f64,
        /// Packets in a row that a bad spell takes, on average.
        length: f64,
    },
}

/// What waits at the narrow place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Queue {
    /// First come, first served; dropped when this long a wait is full (a share of a second of the rate).
    DropTail(Span),
    /// The same, bounded in bytes.
    DropTailBytes(Size),
    /// Controlled delay (RFC 8289).
    Codel(Codel),
    /// Random early detection (Floyd and Jacobson 1993).
    Red(Red),
}

/// `CoDel`'s two times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codel {
    /// The wait that is tolerated.
    pub target: Span,
    /// For how long a longer one is.
    pub interval: Span,
    /// Hard bound of the queue.
    pub limit: Size,
}

impl Default for Codel {
    fn default() -> Self {
        Self { target: Span::millis(5), interval: Span::millis(100), limit: Size(1_500_000) }
    }
}

/// RED's thresholds, in time at the rate of the narrow place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Red {
    /// No loss under this average wait.
    pub least: Span,
    /// Every packet is lost over it.
    pub most: Span,
    /// Probability of loss just under `most`.
    pub probability: f64,
}

impl Default for Red {
    fn default() -> Self {
        Self { least: Span::millis(20), most: Span::millis(100), probability: 0.1 }
    }
}

/// Others on the same narrow place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Competition {
    /// Share of the rate taken by packets that come at random and do not yield, 0 to below 1.
    pub share: f64,
    /// Greedy flows that yield as TCP does: one more packet a round trip, half as many after a loss.
    pub flows: u32,
    /// Such packets come for this long, then pause for as long (bursts of traffic); absent: always.
    pub on_off: Option<Span>,
}

/// A radio that sends in bundles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wifi {
    /// Mean time between two chances to send; exponentially drawn.
    pub access: Span,
    /// Packets in a bundle, at most.
    pub bundle: u32,
}

impl Default for LineProfile {
    /// 20 Mbit/s and 30 ms, as `lab run` has it without a word.
    fn default() -> Self {
        Self {
            down: Way::default(),
            up: Way::default(),
            rtt: Span::millis(30),
            other_hosts: Vec::new(),
            hops: [2, 8],
            nat: false,
        }
    }
}

impl Default for Way {
    fn default() -> Self {
        Self {
            rate: Rate::bits(20e6),
            jitter: Span::default(),
            loss: Loss::Random(0.0),
            mtu: None,
            queue: Queue::DropTail(Span::millis(200)),
            competition: Competition::default(),
            wifi: None,
        }
    }
}

impl LineProfile {
    /// Mistakes that the shape of the data does not rule out.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, way) in [("down", &self.down), ("up", &self.up)] {
            let mut share = |what: &str, share: f64, below: f64| {
                if !(0.0..=below).contains(&share) {
                    wrong.push(format!("{name}.{what} is {share}; it is a share from 0 to {below}"));
                }
            };
            match way.loss {
                Loss::Random(probability) => share("loss.random", probability, 1.0),
                Loss::Bursty { share: lost, .. } => share("loss.bursty.share", lost, 0.95),
            }
            share("competition.share", way.competition.share, 0.99);
            if let Queue::Red(red) = way.queue {
                share("queue.red.probability", red.probability, 1.0);
                if red.most <= red.least {
                    wrong.push(format!("{name}.queue.red.most is not over `least`"));
                }
            }
            if let Loss::Bursty { length, .. } = way.loss
                && !(1.0..=1e6).contains(&length)
            {
                wrong.push(format!(
                    "{name}.loss.bursty.length is {length}; a bad spell takes at least one packet"
                ));
            }
            if way.competition.flows > 64 {
                wrong.push(format!("{name}.competition.flows is {}; at most 64", way.competition.flows));
            }
        }
        if self.hops[0] == 0 {
            wrong.push("hops[0] is 0; there is at least one router before the box".to_owned());
        }
        if self.hops[0].saturating_add(self.hops[1]) > 60 {
            wrong.push("hops are more than 60 together; packets start with 64".to_owned());
        }
        wrong
    }
}
