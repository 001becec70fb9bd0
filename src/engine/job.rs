//! One round of one target in the daemon: which comparison it serves, and the permits it needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::rngs::ChaCha8Rng;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::{
    analysis::round::RoundSettings,
    methods::{Leg, Limits, Round, Shape, SniLegs, find_sni_legs},
    model::{Comparison, Exchange, FailureDetail, Judgement},
    probe::Prober,
    schedule::RoundKind,
};

use super::oneshot::Subject;

/// Cheap exchanges under way at once: enough for hundreds of targets a second, few enough for 1024 descriptors.
const CHEAP_PERMITS: usize = 64;

/// Most pairs of a closer look.
const CLOSER_PAIRS_MAX: u32 = 12;

/// Who may measure now: never two bulk transfers at once.
#[derive(Debug, Clone)]
pub(super) struct Permits {
    bulk: Arc<Semaphore>,
    cheap: Arc<Semaphore>,
    /// File descriptors were short when last looked: said once, not for every exchange.
    descriptors_short: Arc<AtomicBool>,
}

impl Permits {
    pub(super) fn new() -> Self {
        Self {
            bulk: Arc::new(Semaphore::new(1)),
            cheap: Arc::new(Semaphore::new(CHEAP_PERMITS)),
            descriptors_short: Arc::default(),
        }
    }

    /// Says so when the table of file descriptors becomes too small, and when it suffices again.
    fn watch_descriptors(&self, exchanges: &[Exchange]) {
        let short = exchanges.iter().any(|exchange| {
            exchange.failure.as_ref().and_then(|failure| failure.detail.as_ref())
                == Some(&FailureDetail::Descriptors)
        });
        match (self.descriptors_short.swap(short, Ordering::Relaxed), short) {
            (false, true) => warn!(
                "out of file descriptors: some exchanges cannot be made and accuse nobody; raise `ulimit -n`"
            ),
            (true, false) => info!("file descriptors suffice again"),
            _ => {}
        }
    }
}

/// What is known of a target's `sni` leg.
#[derive(Debug, Clone, Default)]
pub(super) enum SniKnowledge {
    /// Not looked for yet.
    #[default]
    Unknown,
    /// No control's server answers strangers alike.
    Absent,
    /// These legs.
    Found(Box<SniLegs>),
}

/// A round that is about to be run.
pub(super) struct Job {
    pub(super) prober: Prober,
    pub(super) permits: Permits,
    pub(super) subject: Subject,
    pub(super) shape: Shape,
    pub(super) kind: RoundKind,
    /// What was reserved: the round may not spend more.
    pub(super) bytes_max: u64,
    pub(super) sni: SniKnowledge,
    pub(super) number: u32,
    pub(super) rng: ChaCha8Rng,
}

/// What a job came to.
pub(super) struct Finished {
    pub(super) judgement: Judgement,
    /// What was learnt of the `sni` leg, when it was looked for.
    pub(super) sni: SniKnowledge,
    /// The exchanges of that search.
    pub(super) extra: Vec<Exchange>,
}

/// One exchange with a target alone, judged by nobody.
pub(super) async fn probe(
    prober: &Prober,
    permits: &Permits,
    subject: Subject,
    shape: &Shape,
    timeout: Duration,
) -> Exchange {
    let semaphore = if shape.is_bulk() { &permits.bulk } else { &permits.cheap };
    let _permit = semaphore.acquire().await;
    subject.leg.alone(prober, shape, timeout).await
}

impl Job {
    /// Waits for a permit and runs.
    pub(super) async fn run(mut self) -> Finished {
        let mut extra = Vec::new();
        let semaphore = match self.kind {
            RoundKind::Cheap => self.permits.cheap.clone(),
            RoundKind::Bulk | RoundKind::Confirm => self.permits.bulk.clone(),
        };
        // Never closed: a failed acquire cannot happen, and going on without a permit is the lesser evil.
        let _permit = semaphore.acquire_owned().await;
        if matches!(self.sni, SniKnowledge::Unknown)
            && self.kind != RoundKind::Cheap
            && !self.subject.same_server
        {
            self.sni = self.look_for_sni(&mut extra).await;
        }
        let (subject, control, comparison) = self.legs();
        let closer = self.kind == RoundKind::Confirm;
        let round = Round {
            prober: &self.prober,
            subject,
            control,
            comparison,
            shape: if self.kind == RoundKind::Cheap { self.shape.cheap() } else { self.shape.clone() },
            cheap_opening: !closer,
            limits: Limits {
                pairs: if closer { CLOSER_PAIRS_MAX } else { 1 },
                until: None,
                bytes: self.bytes_max,
            },
            judge: RoundSettings::default(),
            number: self.number,
            repeat: self.subject.repeat.clone(),
        };
        let judgement = round.run(&mut self.rng, &mut |_| {}).await;
        self.permits.watch_descriptors(&judgement.exchanges);
        Finished { judgement, sni: self.sni, extra }
    }

    async fn look_for_sni(&mut self, taken: &mut Vec<Exchange>) -> SniKnowledge {
        for control in &self.subject.controls {
            let mut seen = |exchange: &Exchange| taken.push(exchange.clone());
            let (subject, shape) = (&self.subject.leg, &self.shape);
            let rng = &mut self.rng;
            if let Some(legs) =
                find_sni_legs(&self.prober, subject, control, shape, None, rng, &mut seen).await
            {
                return SniKnowledge::Found(Box::new(legs));
            }
        }
        SniKnowledge::Absent
    }

    /// The strongest comparison there is; every third round is the subject's own host's, which alone shows a throttle
    /// that goes by address.
    fn legs(&self) -> (Leg, Option<Leg>, Comparison) {
        let own = self.subject.leg.clone();
        let control = self.subject.controls.first().cloned();
        match (&self.sni, control) {
            _ if self.subject.same_server => (own, self.subject.controls.first().cloned(), Comparison::Sni),
            (SniKnowledge::Found(legs), _) if !self.number.is_multiple_of(3) => {
                (legs.subject.clone(), Some(legs.control.clone()), Comparison::Sni)
            }
            (_, Some(control)) => (own, Some(control), Comparison::Control),
            (_, None) => (own, None, Comparison::History),
        }
    }
}
