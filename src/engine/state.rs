//! What the daemon remembers of one target: recent rounds, findings, detectors, and the verdict that stands.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    incidents::{Book, Change, Round},
    series::{Detectors, Moved},
};
use crate::{
    analysis::{
        round::{RoundJudge, RoundSettings},
        series::Settings,
    },
    model::{
        Comparison, DetectorState, Exchange, Finding, FindingStatus, IncidentRecord, Judgement, Role, Verdict,
    },
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

/// Evidence of an onset that has come so far on its logarithmic way is worth a closer look: a single severe pair.
const SUSPICIOUS_EVIDENCE: f64 = 0.25;

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
    detectors: Detectors,
    kept: Kept,
}

/// The part of it that outlives the process. Windows do not: they are full again after a few rounds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Kept {
    /// The last finding of each comparison, weakest first.
    findings: Vec<FindingStatus>,
    /// The verdict of rounds, held for a while once it accuses.
    verdict: Option<(Verdict, Timestamp)>,
    /// The last finding that says what the verdict says.
    basis: Option<FindingStatus>,
    calm_rounds: usize,
    last_exchange_at: Option<Timestamp>,
    book: Book,
}

impl Kept {
    /// The clock was ahead and has been set back: what was dated later than now is taken as of now.
    fn bring_back(&mut self, now: Timestamp) {
        let dated = self.findings.iter_mut().chain(&mut self.basis).map(|finding| &mut finding.at);
        let since = self.verdict.as_mut().map(|(_, since)| since);
        dated.chain(since).for_each(|moment| *moment = now.min(*moment));
        self.book.bring_back(now);
    }
}

/// What a round came to.
pub(super) struct Folded {
    pub(super) finding: Finding,
    pub(super) mood: Mood,
    /// What happened to an incident.
    pub(super) change: Option<Change>,
    /// The detector that moved.
    pub(super) detector: Option<(Comparison, DetectorState)>,
}

impl TargetState {
    /// Takes a judged round in. A `closer` look stands for itself; a routine round is judged together with those before
    /// it, and can raise suspicion but not accuse: looking at overlapping windows every few minutes for a year would make
    /// any fixed error rate worthless. The detectors, which are made for looking all the time, take every round.
    pub(super) fn fold(
        &mut self,
        judgement: &Judgement,
        closer: bool,
        at: Timestamp,
        number: i64,
        settings: Settings,
    ) -> Folded {
        if self.kept.last_exchange_at.is_some_and(|last| last > at) {
            self.kept.bring_back(at);
        }
        self.kept.last_exchange_at = Some(at);
        let slow = mood(judgement);
        let finding = if closer { judgement.finding.clone() } else { self.routine(judgement) };
        self.kept.calm_rounds = if slow == Mood::Calm { self.kept.calm_rounds + 1 } else { 0 };
        let Moved { state: detector, end, suspicion } =
            self.detectors.observe(judgement, closer, at, settings);
        self.keep(FindingStatus {
            comparison: judgement.comparison,
            at,
            finding: finding.clone(),
            control: judgement.control.clone(),
            repeat: judgement.repeat.clone(),
            exchanges: judgement.exchanges.iter().map(|exchange| exchange.id.clone()).collect(),
        });
        self.settle(at);
        let change = self.kept.book.fold(&Round {
            number,
            at,
            judgement,
            finding: &finding,
            suspicious: slow == Mood::Suspicious,
            looked: self.kept.verdict.map(|(verdict, _)| verdict).filter(|verdict| verdict.accuses()),
            series: self.detectors.incident(),
            series_end: end,
        });
        self.ground();
        let gathers = self.kept.book.open.is_none() && suspicion >= SUSPICIOUS_EVIDENCE;
        let mood = if gathers { Mood::Suspicious } else { slow };
        Folded { finding, mood, change, detector }
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

    fn keep(&mut self, status: FindingStatus) {
        let findings = &mut self.kept.findings;
        findings.retain(|known| known.comparison != status.comparison);
        let place = findings.partition_point(|known| known.comparison < status.comparison);
        findings.insert(place, status);
    }

    /// The verdict of the strongest comparison, held for a while once it accuses.
    fn settle(&mut self, at: Timestamp) {
        let kept = &mut self.kept;
        let Some(finding) = kept.findings.last() else { return };
        let strongest = finding.finding.verdict;
        let standing = kept.verdict.map(|(verdict, _)| verdict);
        let held = standing.is_some_and(Verdict::accuses)
            && !strongest.accuses()
            && kept.calm_rounds < CALM_ROUNDS_TO_CLEAR;
        if !held && standing != Some(strongest) {
            kept.verdict = Some((strongest, at));
        }
    }

    /// What the verdict that stands rests on: the last finding that says the same. One that accuses nobody is no ground of an
    /// accusation, which a detector can make alone, and which an incident upholds beyond the rounds that made it.
    fn ground(&mut self) {
        let Some((verdict, _)) = self.verdict() else { return };
        let kept = &mut self.kept;
        if let Some(finding) = kept.findings.last().filter(|last| last.finding.verdict == verdict) {
            kept.basis = Some(finding.clone());
        } else if verdict.accuses() {
            kept.basis = kept.basis.take().filter(|known| known.finding.verdict.accuses());
        }
    }

    /// The verdict that stands: of rounds where they accuse, else of the incident that lasts.
    pub(super) fn verdict(&self) -> Option<(Verdict, Timestamp)> {
        let rounds = self.kept.verdict;
        let incident = self.kept.book.open.as_ref().map(|open| (open.incident.verdict, open.incident.onset));
        // Looks within an incident come and go; it stands since its onset.
        let accusing = rounds
            .filter(|(verdict, _)| verdict.accuses())
            .map(|(verdict, at)| (verdict, incident.map_or(at, |(_, onset)| onset.min(at))));
        accusing.or(incident).or(rounds)
    }

    pub(super) fn basis(&self) -> Option<FindingStatus> {
        self.kept.basis.clone()
    }

    pub(super) const fn last_exchange_at(&self) -> Option<Timestamp> {
        self.kept.last_exchange_at
    }

    /// The incident that lasts.
    pub(super) const fn incident(&self) -> Option<&IncidentRecord> {
        self.kept.book.open.as_ref()
    }

    /// Ends the incident that lasts because the target is measured no more.
    pub(super) fn retire(&mut self, at: Timestamp) -> Option<IncidentRecord> {
        self.kept.book.retire(at)
    }

    /// Findings, the strongest comparison first.
    pub(super) fn findings(&self) -> Vec<FindingStatus> {
        self.kept.findings.iter().rev().cloned().collect()
    }

    /// What is to be stored.
    pub(super) fn memory(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.kept)
    }

    /// Takes up what was stored, unless more is known already. What cannot be read is as good as nothing.
    pub(super) fn adopt(&mut self, memory: &str) {
        if self.kept.last_exchange_at.is_none()
            && let Ok(kept) = serde_json::from_str(memory)
        {
            self.kept = kept;
        }
    }

    /// Takes up an incident that the store knows to last, where the memory does not.
    pub(super) fn adopt_incident(&mut self, incident: IncidentRecord) {
        self.kept.book.open.get_or_insert(incident);
    }

    /// Takes up a stored detector.
    pub(super) fn adopt_detector(&mut self, comparison: Comparison, state: DetectorState) {
        self.detectors.adopt(comparison, state);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::incidents::tests::record, model::Evidence};

    fn found(verdict: Verdict, at: Timestamp) -> FindingStatus {
        FindingStatus {
            comparison: Comparison::Sni,
            at,
            finding: Finding {
                verdict,
                mechanism: None,
                blocked_at: None,
                evidence: Evidence::default(),
                caveats: Vec::new(),
            },
            control: None,
            repeat: String::new(),
            exchanges: Vec::new(),
        }
    }

    fn verdicts(state: &TargetState) -> (Option<Verdict>, Option<Verdict>) {
        (state.verdict().map(|(verdict, _)| verdict), state.basis().map(|known| known.finding.verdict))
    }

    #[test]
    fn an_incident_stands_since_its_onset() {
        let onset: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut state = TargetState::default();
        state.kept.book.open = Some(record(onset));
        state.kept.verdict = Some((Verdict::Throttled, onset + jiff::SignedDuration::from_secs(100)));
        assert_eq!(state.verdict(), Some((Verdict::Throttled, onset)));
    }

    #[test]
    fn an_accusation_never_rests_on_a_finding_that_accuses_nobody() {
        use Verdict::{Normal, Throttled};
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut state = TargetState::default();
        let say = |state: &mut TargetState, verdict| {
            state.keep(found(verdict, now));
            state.kept.verdict = Some((verdict, now));
            state.ground();
        };
        say(&mut state, Normal);
        assert_eq!(verdicts(&state), (Some(Normal), Some(Normal)));
        // The detector alone accuses.
        state.kept.book.open = Some(record(now));
        say(&mut state, Normal);
        assert_eq!(verdicts(&state), (Some(Throttled), None));
        // A closer look finds the same, and the rounds after it are calm while the incident lasts.
        say(&mut state, Throttled);
        say(&mut state, Normal);
        assert_eq!(verdicts(&state), (Some(Throttled), Some(Throttled)));
        state.kept.book.open = None;
        say(&mut state, Normal);
        assert_eq!(verdicts(&state), (Some(Normal), Some(Normal)));
    }
}
