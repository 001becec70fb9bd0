//! The words of a judgement: verdict, mechanism, evidence, caveats.

use serde::{Deserialize, Serialize};

use super::FailureKind;

/// What is happening to the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As fast as its control.
    Normal,
    /// Slowed down, and attributable to interference.
    Throttled,
    /// Stops for good after some bytes or packets, without a reset.
    Frozen,
    /// Kept from working at all, and attributable to interference.
    Blocked,
    /// Slow, but so is the control, or nothing attributes it to interference.
    Degraded,
    /// Not decided; the caveats say what would decide.
    Inconclusive,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Throttled, Self::Frozen, Self::Blocked, Self::Degraded, Self::Inconclusive];

    /// The name used in JSON, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Throttled => "throttled",
            Self::Frozen => "frozen",
            Self::Blocked => "blocked",
            Self::Degraded => "degraded",
            Self::Inconclusive => "inconclusive",
        }
    }

    /// Whether it says that somebody interferes.
    pub const fn accuses(self) -> bool {
        matches!(self, Self::Throttled | Self::Frozen | Self::Blocked)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How a throttle works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Packets above a rate are dropped.
    Policing,
    /// Packets above a rate wait.
    Shaping,
    /// Packets are dropped whatever the rate.
    Loss,
    /// The handshake alone is slow.
    HandshakeDelay,
    /// Several connections at once are held, and recover by the clock.
    ConnectionLimit,
    /// The causes cannot be told apart.
    Unknown,
}

impl Mechanism {
    /// The name used in JSON, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policing => "policing",
            Self::Shaping => "shaping",
            Self::Loss => "loss",
            Self::HandshakeDelay => "handshake-delay",
            Self::ConnectionLimit => "connection-limit",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for Mechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Where a block acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockedAt {
    /// The name resolves to nothing or to a lie.
    Dns,
    /// The address does not connect.
    Tcp,
    /// The handshake is reset, answered with an alert, or swallowed.
    Tls,
    /// A block page, or the request is reset or swallowed.
    Http,
}

/// How the control relates to the subject. Ordered by strength, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// There is nothing to compare with.
    None,
    /// The subject's own past.
    History,
    /// Another host.
    Control,
    /// The same server, another name.
    Sni,
}

impl Comparison {
    /// The name used in JSON, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::History => "history",
            Self::Control => "control",
            Self::Sni => "sni",
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The judgement of one subject by one comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is happening.
    pub verdict: Verdict,
    /// How, when the verdict is `throttled`.
    pub mechanism: Option<Mechanism>,
    /// Where, when the verdict is `blocked`.
    pub blocked_at: Option<BlockedAt>,
    /// The numbers it rests on.
    pub evidence: Evidence,
    /// What gives reason for doubt, and what would decide.
    pub caveats: Vec<Caveat>,
}

/// The numbers behind a verdict. `None` is "not known"; zero is zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Pairs that were judged.
    pub pairs: u32,
    /// Evidence against "the subject is treated like its control": the e-value of a sign-flip test where labels are
    /// exchangeable (`sni`), 1 where no valid e-value exists.
    pub e_value: f64,
    /// Upper bound on the probability that an accusation of this strength is false (1 / e-value, at most 1).
    pub false_alarm_bound: f64,
    /// Coverage of the intervals below.
    pub confidence: f64,
    /// Control goodput over subject goodput after the free burst: 10 is ten times slower.
    pub slowdown: Option<f64>,
    /// Its interval; an end is `None` where the data do not bound it.
    pub slowdown_ci: [Option<f64>; 2],
    /// Subject handshake time over control handshake time.
    pub handshake_slowdown: Option<f64>,
    /// Median goodput of the subject.
    pub subject_goodput_bytes_per_second: Option<f64>,
    /// Median goodput of the control.
    pub control_goodput_bytes_per_second: Option<f64>,
    /// The rate that the throttle enforces, TCP payload.
    pub limit_bytes_per_second: Option<f64>,
    /// Its interval.
    pub limit_ci: Option<[f64; 2]>,
    /// What the throttle lets through at full speed first, TCP payload.
    pub burst_bytes: Option<u64>,
    /// Where a freeze sets in, TCP payload.
    pub freeze_after_bytes: Option<u64>,
    /// What the judgement cost: payload of all its exchanges.
    pub bytes_used: u64,
}

/// A reason for doubt or a way to decide, in a form that every language can put into words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caveat {
    /// No leg with the same server and another name was usable: between two hosts speeds differ for innocent reasons.
    WeakerComparison,
    /// There is no control at all.
    NoControl,
    /// Fewer pairs than a decision needs; with how many more it could be decided.
    MorePairsNeeded(u32),
    /// The interval still holds both "normal" and "throttled"; a further budget would narrow it.
    IntervalTooWide,
    /// So many exchanges began or were read too late on our own machine, and were not used.
    ProbeLate(u32),
    /// The control failed in so many exchanges: the line or the control is broken.
    ControlFailed(u32),
    /// The control is as slow as the subject, or slower than it was.
    ControlSlow,
    /// The server is slow for every name.
    ServerSlow,
    /// The subject failed this way and nothing shows that another name or place works.
    NoContrast(FailureKind),
    /// The server itself answered with this status.
    ServerRefused(u16),
    /// Object sizes differ by more than 10 %, so that goodput was not compared.
    SizesDiffer,
    /// Less than the free burst was transferred, so that nothing can be said of a rate limit.
    TooFewBytes,
    /// Two hosts at these round-trip times (milliseconds): the difference in goodput may come from distance alone.
    DistanceExplains {
        /// Round trip to the subject.
        subject_rtt_ms: f64,
        /// Round trip to the control.
        control_rtt_ms: f64,
    },
    /// This command would decide.
    WouldDecide(String),
    /// Certificates were not checked on the swapped leg; the identity of the server rests on identical bodies.
    CertificateUnchecked,
    /// The control slowed down after the subject's name had been shown to its address.
    StickyAddress,
    /// The server has too few further addresses to tell a box that remembers addresses from a line that slowed down.
    FewAddresses,
    /// The local address or route changed in mid-round; the round is void.
    RouteChanged,
    /// Small segments came and not one large one: a low MTU imitates a block or a freeze.
    LowMtu,
    /// Every plain request is answered by the same foreign page: a captive portal.
    CaptivePortal,
    /// After so many connections under one name the next ones were not answered: a limit on connections does that to any
    /// name.
    ConnectionsHeld(u32),
    /// Many clients behind one address may imitate a connection limit.
    SharedAddress,
    /// The certificate is self-signed and marked as a certificate authority.
    CaCertificate,
    /// Some of the subject's exchanges were affected and some were not: this share.
    Patchy(f64),
    /// The budget of bytes or time ended before a decision.
    BudgetSpent,
    /// An innocent name that resembles the subject's is slowed down as well: the rule matches too much.
    CanaryAffected,
    /// A numbered mechanism fits too, and the data do not tell them apart.
    AlsoFits(Mechanism),
}

impl Caveat {
    /// Whether round trips differ so much that a difference in speed may come from them: as much as accuses elsewhere.
    pub fn is_farther(subject_rtt_ms: f64, control_rtt_ms: f64) -> bool {
        subject_rtt_ms >= 1.5 * control_rtt_ms
    }
}
