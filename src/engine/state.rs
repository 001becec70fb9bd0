//! What the daemon remembers of one target: recent rounds, findings, and the verdict that stands.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::{
    analysis::round::{RoundJudge, RoundSettings},
    model::{Comparison, Exchange, Finding, FindingStatus, Judgement, Role, Verdict},
};

/// Routine rounds that are judged together. One pair a round cannot bound a ratio; eight can, and at the default
/// interval they span less than an hour.
const WINDOW_ROUNDS: usize = 8;

/// Routine rounds without suspicion after which an accusation no longer stands (hysteresis: leaving takes more than one
/// good round, because deployments are patchy).
const CALM_ROUNDS_TO_CLEAR: usize = 4;

/// A slowdown of a single pair from which on a closer look is worth its bytes. The verdict's own bound (design: 1.5).
const SUSPICIOUS_SLOWDOWN: f64 = 1.5;

/// The same for handshakes (design: 2).
const SUSPICIOUS_HANDSHAKE: f64 = 2.0;

/// How a round ended, for the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Nothing to see.
    Calm,
    /// Worth a closer look soon.
    Suspicious,
}

/// What is remembered of one target.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    windows: BTreeMap<Comparison, VecDeque<Vec<Exchange>>>,
    findings: BTreeMap<Comparison, FindingStatus>,
    verdict: Option<(Verdict, Timestamp)>,
    /// The last finding that says what the verdict says.
    basis: Option<FindingStatus>,
    calm_rounds: usize,
    last_exchange_at: Option<Timestamp>,
}

impl TargetState {
    /// Takes a judged round in. A `closer` look stands for itself; a routine round is judged together with those before
    /// it, and can raise suspicion but not accuse: looking at overlapping windows every few minutes for a year would make
    /// any fixed error rate worthless.
    pub(super) fn fold(&mut self, judgement: &Judgement, closer: bool, at: Timestamp) -> (Finding, Mood) {
        self.last_exchange_at = Some(at);
        let mood = mood(judgement);
        let finding = if closer { judgement.finding.clone() } else { self.routine(judgement) };
        self.calm_rounds = if mood == Mood::Calm { self.calm_rounds + 1 } else { 0 };
        let status = FindingStatus {
            comparison: judgement.comparison,
            at,
            finding: finding.clone(),
            control: judgement.control.clone(),
            repeat: judgement.repeat.clone(),
            exchanges: judgement.exchanges.iter().map(|exchange| exchange.id.clone()).collect(),
        };
        self.findings.insert(judgement.comparison, status);
        self.settle(at);
        (finding, mood)
    }

    fn routine(&mut self, judgement: &Judgement) -> Finding {
        let window = self.windows.entry(judgement.comparison).or_default();
        if window.len() == WINDOW_ROUNDS {
            window.pop_front();
        }
        window.push_back(judgement.exchanges.clone());
        let settings = RoundSettings { comparison: judgement.comparison, ..RoundSettings::default() };
        let mut judge = RoundJudge::new(settings);
        // Pairs are numbered anew: each round counted its own from the same start.
        for (index, round) in (0_u32..).zip(window.iter()) {
            for exchange in round {
                judge
                    .add(Exchange { pair: index * PAIRS_OF_A_ROUND_MAX + exchange.pair, ..exchange.clone() });
            }
        }
        let mut finding = judge.finding();
        if finding.verdict.accuses() {
            finding.verdict = Verdict::Inconclusive;
            finding.mechanism = None;
            finding.blocked_at = None;
        }
        finding
    }

    /// The verdict of the strongest comparison, held for a while once it accuses.
    fn settle(&mut self, at: Timestamp) {
        let Some((_, finding)) = self.findings.last_key_value() else { return };
        let strongest = finding.finding.verdict;
        let standing = self.verdict.map(|(verdict, _)| verdict);
        let held = standing.is_some_and(Verdict::accuses)
            && !strongest.accuses()
            && self.calm_rounds < CALM_ROUNDS_TO_CLEAR;
        if !held && standing != Some(strongest) {
            self.verdict = Some((strongest, at));
        }
        if self.verdict.is_some_and(|(verdict, _)| verdict == strongest) {
            self.basis = Some(finding.clone());
        }
    }

    pub(super) fn verdict(&self) -> Option<(Verdict, Timestamp)> {
        self.verdict
    }

    pub(super) fn basis(&self) -> Option<FindingStatus> {
        self.basis.clone()
    }

    pub(super) const fn last_exchange_at(&self) -> Option<Timestamp> {
        self.last_exchange_at
    }

    /// Findings, the strongest comparison first.
    pub(super) fn findings(&self) -> Vec<FindingStatus> {
        self.findings.values().rev().cloned().collect()
    }
}

/// Distance between the pair numbers of two rounds of a window.
const PAIRS_OF_A_ROUND_MAX: u32 = 1_000;

fn mood(judgement: &Judgement) -> Mood {
    let evidence = &judgement.finding.evidence;
    let failed = |role| {
        judgement
            .exchanges
            .iter()
            .any(|exchange| exchange.role == role && !exchange.fallback && exchange.failure.is_some())
    };
    let slow = evidence.slowdown.is_some_and(|slowdown| slowdown > SUSPICIOUS_SLOWDOWN)
        || evidence.handshake_slowdown.is_some_and(|slowdown| slowdown > SUSPICIOUS_HANDSHAKE);
    let fails_alone = failed(Role::Subject) && !failed(Role::Control) && judgement.control.is_some();
    if judgement.finding.verdict.accuses() || slow || fails_alone { Mood::Suspicious } else { Mood::Calm }
}
