//! One-shot: every subject judged once by every comparison that can be had.

use std::time::Duration;

use rand::rngs::ChaCha8Rng;

use crate::{
    analysis::round::RoundSettings,
    clock::{self, Instant},
    methods::{Leg, Limits, Round, Shape, find_sni_legs},
    model::{Comparison, Exchange, Judgement},
    probe::Prober,
};

/// A subject and what it may be compared with.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The subject's own leg.
    pub leg: Leg,
    /// Its controls, best first.
    pub controls: Vec<Leg>,
    /// The two legs share a server and differ in name alone: an `sni` comparison by construction.
    pub same_server: bool,
    /// A command line that repeats the test.
    pub repeat: String,
}

/// What a whole run may cost.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Most pairs of each comparison.
    pub pairs: u32,
    /// Time of all subjects together.
    pub time: Option<Duration>,
    /// Payload of all subjects together.
    pub bytes: u64,
}

/// Judges subjects one after another: never two bulk transfers at once.
pub struct OneShot<'a> {
    /// How to reach the network.
    pub prober: &'a Prober,
    /// What each exchange asks for.
    pub shape: Shape,
    /// What the run may cost.
    pub allowance: Allowance,
}

impl OneShot<'_> {
    /// Judges all `subjects`. Each gets an equal share of what is left. `seen` is told every exchange as it ends.
    pub async fn run(
        &self,
        subjects: Vec<Subject>,
        rng: &mut ChaCha8Rng,
        seen: &mut (dyn FnMut(&Exchange) + Send),
    ) -> Vec<Judgement> {
        let end = self.allowance.time.map(|time| clock::now() + time);
        // The report's α is shared over its subjects.
        let alpha = RoundSettings::default().alpha / subjects.len().max(1) as f64;
        let mut judgements: Vec<Judgement> = Vec::new();
        let mut spent = 0;
        let count = subjects.len();
        for (index, subject) in subjects.into_iter().enumerate() {
            let left = (count - index) as u32;
            let share = Limits {
                pairs: self.allowance.pairs,
                until: end.map(|end| clock::now() + end.saturating_duration_since(clock::now()) / left),
                bytes: self.allowance.bytes.saturating_sub(spent) / u64::from(left),
            };
            let mut counted = |exchange: &Exchange| {
                spent += exchange.received_bytes();
                seen(exchange);
            };
            judgements.extend(self.judge(subject, share, alpha, rng, &mut counted).await);
        }
        judgements
    }

    async fn judge(
        &self,
        subject: Subject,
        share: Limits,
        alpha: f64,
        rng: &mut ChaCha8Rng,
        seen: &mut (dyn FnMut(&Exchange) + Send),
    ) -> Vec<Judgement> {
        let comparison = if subject.same_server { Comparison::Sni } else { Comparison::Control };
        let Some(control) = subject.controls.first().cloned() else {
            let limits = Limits { pairs: 1, ..share };
            return vec![
                self.round(&subject, subject.leg.clone(), None, Comparison::None, limits, alpha, rng, seen)
                    .await,
            ];
        };
        if subject.same_server {
            let leg = subject.leg.clone();
            return vec![self.round(&subject, leg, Some(control), comparison, share, alpha, rng, seen).await];
        }
        let mut judgements = Vec::new();
        let mut control = control;
        for candidate in &subject.controls {
            let remaining = share.until.map(|until| until.saturating_duration_since(clock::now()));
            let legs =
                find_sni_legs(self.prober, &subject.leg, candidate, &self.shape, remaining, rng, seen).await;
            if let Some(legs) = legs {
                control = candidate.clone();
                let limits = Limits { until: half(share.until), bytes: share.bytes / 2, ..share };
                let (subject_leg, control_leg) = (legs.subject, Some(legs.control));
                judgements.push(
                    self.round(&subject, subject_leg, control_leg, Comparison::Sni, limits, alpha, rng, seen)
                        .await,
                );
                break;
            }
        }
        let limits = Limits { bytes: share.bytes / 2, ..share };
        let leg = subject.leg.clone();
        judgements.push(self.round(&subject, leg, Some(control), comparison, limits, alpha, rng, seen).await);
        judgements
    }

    #[expect(clippy::too_many_arguments, reason = "one call site's locals; a struct would only rename them")]
    async fn round(
        &self,
        subject: &Subject,
        leg: Leg,
        control: Option<Leg>,
        comparison: Comparison,
        limits: Limits,
        alpha: f64,
        rng: &mut ChaCha8Rng,
        seen: &mut (dyn FnMut(&Exchange) + Send),
    ) -> Judgement {
        let round = Round {
            prober: self.prober,
            subject: leg,
            control,
            comparison,
            shape: self.shape.clone(),
            cheap_opening: false,
            limits,
            judge: RoundSettings { alpha, ..RoundSettings::default() },
            number: 0,
            repeat: subject.repeat.clone(),
        };
        round.run(rng, seen).await
    }
}

/// Half of the time that is left.
fn half(until: Option<Instant>) -> Option<Instant> {
    until.map(|until| clock::now() + until.saturating_duration_since(clock::now()) / 2)
}
