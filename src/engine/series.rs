//! The detectors over time of one target: what a round tells them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    analysis::series::{Observed, PairedTest, Sample, SeriesDetector, SeriesEvent, Settings},
    model::{Comparison, DetectorState, Exchange, FailureKind, Incident, Judgement, Role},
};

/// The detectors of one target, one for each comparison that has pairs.
#[derive(Debug, Default)]
pub(super) struct Detectors(BTreeMap<Comparison, DetectorState>);

/// What a round changed.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// The detector that took it in, and what it remembers now.
    pub(super) state: Option<(Comparison, DetectorState)>,
    /// The incident that it found to be over.
    pub(super) end: Option<Incident>,
    /// How far the evidence for an onset has come, 0 to 1.
    pub(super) suspicion: f64,
}

impl Detectors {
    /// Goes on where a stored detector stopped, unless ours has seen more.
    pub(super) fn adopt(&mut self, comparison: Comparison, state: DetectorState) {
        let known = self.0.entry(comparison).or_default();
        if known.tests <= state.tests {
            *known = state;
        }
    }

    /// Takes a judged round in.
    pub(super) fn observe(
        &mut self,
        judgement: &Judgement,
        closer: bool,
        at: Timestamp,
        settings: Settings,
    ) -> Moved {
        if !matches!(judgement.comparison, Comparison::Sni | Comparison::Control) {
            return Moved::default();
        }
        let state = self.0.remove(&judgement.comparison).unwrap_or_default();
        let mut detector = SeriesDetector::resume(settings, state);
        let events = detector.observe(at, sample(judgement, closer));
        let end = events.into_iter().find_map(|event| match event {
            SeriesEvent::End(incident) => Some(incident),
            _ => None,
        });
        let state = detector.memory().clone();
        self.0.insert(judgement.comparison, state.clone());
        Moved { state: Some((judgement.comparison, state)), end, suspicion: detector.suspicion() }
    }

    /// The incident of the strongest comparison that has one, the comparison with it. One that is likely over goes on
    /// until that is sure.
    pub(super) fn incident(&self) -> Option<(Comparison, Incident)> {
        self.0.iter().rev().find_map(|(comparison, state)| {
            state.incident.as_ref().map(|open| (*comparison, open.incident.clone()))
        })
    }
}

/// A closer look is a verdict; a routine round is one pair of goodputs.
fn sample(judgement: &Judgement, closer: bool) -> Sample {
    if closer {
        return Sample::Finding(judgement.finding.verdict);
    }
    let evidence = &judgement.finding.evidence;
    Sample::Pair(PairedTest {
        subject: observed(judgement, Role::Subject, evidence.subject_goodput_bytes_per_second),
        control: observed(judgement, Role::Control, evidence.control_goodput_bytes_per_second),
    })
}

/// What one side of a routine round showed. `goodput` leaves out what came too late on our own machine.
fn observed(judgement: &Judgement, role: Role, goodput: Option<f64>) -> Observed {
    let judged = |exchange: &&Exchange| exchange.role == role && !exchange.fallback && !exchange.warmup;
    let failure = judgement.exchanges.iter().filter(judged).find_map(|exchange| exchange.failure.as_ref());
    match (goodput, failure.map(|failure| failure.kind)) {
        (Some(goodput), None) => Observed::Goodput(goodput),
        // It ended by our own budget: so much at most.
        (Some(goodput), Some(FailureKind::Timeout | FailureKind::Stalled)) => Observed::AtMost(goodput),
        (_, Some(_)) => Observed::Failed,
        (None, None) => Observed::Unknown,
    }
}
