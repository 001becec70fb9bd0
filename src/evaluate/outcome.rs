//! What one test came to, beside its truth.

use serde::{Deserialize, Serialize};

use crate::model::{
    BlockedAt, Caveat, Comparison, Evidence, Exchange, Finding, Judgement, Mechanism, Verdict,
    profile::{LineProfile, Loss, Truth},
};

use super::{
    corpus::{Class, Condition},
    rivals::Rivals,
    truth::TrueSlowdown,
};

/// TCP payload in a full packet's share of IP bytes: 1448 of 1500 (IPv4 with timestamps).
const PAYLOAD_SHARE: f64 = 1448.0 / 1500.0;

/// The line of a test in four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LineFacts {
    /// Towards the client, IP bits.
    pub rate_bits_per_second: f64,
    /// Of the empty line.
    pub rtt_s: f64,
    /// Share of packets lost at random, each way.
    pub loss: f64,
    /// Further delay by chance, at most.
    pub jitter_s: f64,
}

impl LineFacts {
    fn of(line: &LineProfile) -> Self {
        Self {
            rate_bits_per_second: line.down.rate.0 * 8.0,
            rtt_s: line.rtt.0.as_secs_f64(),
            loss: match line.down.loss {
                Loss::Random(loss) => loss,
                Loss::Bursty { share, .. } => share,
            },
            jitter_s: line.down.jitter.0.as_secs_f64(),
        }
    }
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its place in the corpus.
    pub number: u32,
    /// What kind of condition it was.
    pub class: Class,
    /// The middlebox's profile.
    pub profile: String,
    /// The line.
    pub line: LineFacts,
    /// What a perfect observer would say.
    pub truth: Truth,
    /// The true limit in TCP payload, where there is one.
    pub limit_bytes_per_second: Option<f64>,
    /// What the rule does to transfers, measured.
    pub slowdown: Option<TrueSlowdown>,
    /// The program's verdict: an accusing one if any of its comparisons accuses, else the strongest one's.
    pub verdict: Verdict,
    /// By which comparison.
    pub comparison: Comparison,
    /// Its mechanism.
    pub mechanism: Option<Mechanism>,
    /// Where, when blocked.
    pub blocked_at: Option<BlockedAt>,
    /// Its numbers.
    pub evidence: Evidence,
    /// Its caveats.
    pub caveats: Vec<Caveat>,
    /// Exchanges of all comparisons.
    pub exchanges: u32,
    /// Those that came late on this machine.
    pub late: u32,
    /// Payload of all comparisons.
    pub bytes: u64,
    /// From the first exchange to the verdict.
    pub seconds: f64,
    /// What others say of the same transfers.
    pub rivals: Rivals,
    /// The laboratory itself was too busy while this test ran, by its own account.
    pub overloaded: bool,
}

impl Outcome {
    /// Of the judgements of one test.
    pub(super) fn of(
        condition: &Condition,
        judgements: &[Judgement],
        seconds: f64,
        slowdown: Option<TrueSlowdown>,
    ) -> Option<Self> {
        let accusing = judgements.iter().find(|one| one.finding.verdict.accuses());
        let judgement = accusing.or_else(|| judgements.iter().max_by_key(|one| one.comparison))?;
        let all = || judgements.iter().flat_map(|one| &one.exchanges);
        let Finding { verdict, mechanism, blocked_at, evidence, caveats } = judgement.finding.clone();
        Some(Self {
            number: condition.number,
            class: condition.class,
            profile: condition.profile.name.clone(),
            line: LineFacts::of(&condition.line),
            truth: condition.profile.truth,
            limit_bytes_per_second: condition
                .profile
                .truth
                .rate
                .filter(|_| !condition.class.is_negative())
                .map(|rate| rate.0 * PAYLOAD_SHARE),
            slowdown,
            verdict,
            comparison: judgement.comparison,
            mechanism,
            blocked_at,
            evidence,
            caveats,
            exchanges: all().count() as u32,
            late: all().filter(|one| one.is_late()).count() as u32,
            bytes: all().map(Exchange::received_bytes).sum(),
            seconds,
            rivals: Rivals::of(&judgement.exchanges),
            overloaded: false,
        })
    }

    /// Whether the verdict is the right one.
    pub fn is_right(&self) -> bool {
        if self.class.is_negative() {
            // A line that is slow for everybody may be called so.
            let may_be_degraded = self.class != Class::Clean;
            return self.verdict == Verdict::Normal || (may_be_degraded && self.verdict == Verdict::Degraded);
        }
        self.verdict == self.truth.verdict
    }

    /// Whether this machine kept up with the test: at most one exchange in twenty came late.
    pub const fn kept_up(&self) -> bool {
        20 * self.late <= self.exchanges
    }

    /// How many times slower the rule makes its transfers, or its handshakes where that is what it does.
    pub fn true_slowdown(&self) -> Option<f64> {
        let slowdown = self.slowdown?;
        if self.class == Class::Handshake { slowdown.handshake } else { slowdown.transfer }
    }
}

/// A test with all its exchanges, one line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Recorded {
    /// What it came to.
    pub outcome: Outcome,
    /// Each comparison and its exchanges.
    pub rounds: Vec<(Comparison, Vec<Exchange>)>,
}
