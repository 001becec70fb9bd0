//! A round: opening controls, then pairs in random order until enough is known.

use std::{net::IpAddr, time::Duration};

use rand::{RngExt as _, rngs::ChaCha8Rng};

use crate::{
    analysis::round::{Next, RoundJudge, RoundSettings},
    clock::{self, Instant},
    model::{
        Caveat, Comparison, Exchange, Failure, FailureKind, HelloKind, Judgement, Phase, Role, TransferCurve,
        Verdict,
    },
    probe::{Budgets, HttpChoice, Prober},
};

use super::{Leg, leg::Place};

/// Body bytes up to which an exchange is cheap: handshakes and one small object, no bulk (design: 16 KiB).
pub const CHEAP_BYTES_MAX: u64 = 16 * 1024;

/// What every exchange of a round has in common: both members of a pair are alike.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Body bytes wanted.
    pub bytes: u64,
    /// Time budgets.
    pub budgets: Budgets,
    /// Which `ClientHello`.
    pub hello: HelloKind,
    /// Which HTTP version.
    pub http: HttpChoice,
}

impl Shape {
    /// The budgets, with the whole exchange held to what is left of the round.
    pub(super) fn budgets_within(&self, remaining: Option<Duration>) -> Budgets {
        let whole = [self.budgets.whole, remaining].into_iter().flatten().min();
        Budgets { whole, ..self.budgets }
    }

    /// The same with a small object only.
    #[must_use]
    pub fn cheap(&self) -> Self {
        Self { bytes: self.bytes.min(CHEAP_BYTES_MAX), ..self.clone() }
    }

    /// Whether the exchange is big enough to show a rate limit.
    pub const fn is_bulk(&self) -> bool {
        self.bytes > CHEAP_BYTES_MAX
    }
}

/// When a round must end even without a decision.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most pairs.
    pub pairs: u32,
    /// Time; `None` is unlimited.
    pub until: Option<Instant>,
    /// Payload of all exchanges together.
    pub bytes: u64,
}

impl Limits {
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(clock::now()))
    }

    pub(super) fn is_spent(&self, bytes: u64) -> bool {
        bytes >= self.bytes || self.remaining().is_some_and(|left| left.is_zero())
    }
}

/// A round that is about to be run.
pub struct Round<'a> {
    /// How to reach the network.
    pub prober: &'a Prober,
    /// What may be throttled.
    pub subject: Leg,
    /// What shows how the line does without it; `None`: there is nothing to compare with.
    pub control: Option<Leg>,
    /// How the two relate.
    pub comparison: Comparison,
    /// What each exchange asks for.
    pub shape: Shape,
    /// Opening controls ask for a small object only (the daemon's budget).
    pub cheap_opening: bool,
    /// When to end without a decision.
    pub limits: Limits,
    /// The judge's settings; its comparison and pairs are set by the round.
    pub judge: RoundSettings,
    /// The number of the round.
    pub number: u32,
    /// A command line that repeats it.
    pub repeat: String,
}

impl Round<'_> {
    /// Runs it. `seen` is told every exchange as it ends.
    pub async fn run(mut self, rng: &mut ChaCha8Rng, seen: &mut (dyn FnMut(&Exchange) + Send)) -> Judgement {
        let settings = RoundSettings {
            comparison: self.comparison,
            pairs_max: self.limits.pairs,
            bulk: self.shape.is_bulk(),
            ..self.judge.clone()
        };
        let mut taken = Taken { judge: RoundJudge::new(settings), exchanges: Vec::new(), bytes: 0, seen };
        if self.control.is_none() {
            self.alone(&mut taken).await;
            return self.conclude(taken);
        }
        self.open(&mut taken).await;
        let mut further = None;
        for pair in OPENING_PAIRS.. {
            if self.limits.is_spent(taken.bytes) {
                break;
            }
            match taken.judge.next() {
                Next::Enough => break,
                Next::MorePairs => self.pair(pair, rng, &mut taken).await,
                Next::Look => self.look(pair, &mut taken).await,
                Next::FurtherAddress => {
                    let mut left = match further.take() {
                        Some(left) => left,
                        None => self.further_addresses(&taken.announced()).await,
                    };
                    let Some(address) = left.pop_front() else { break };
                    further = Some(left);
                    self.expose(address, pair, rng, &mut taken).await;
                }
            }
        }
        self.conclude(taken)
    }

    /// At least two control exchanges before the first subject: some boxes remember an address that was shown the name,
    /// and a control that slows down after it is itself the evidence (papers, S4b).
    async fn open(&mut self, taken: &mut Taken<'_>) {
        let shape = if self.cheap_opening { self.shape.cheap() } else { self.shape.clone() };
        let place = |pair| Place { round: self.number, pair, position: 0 };
        if let Some(control) = &mut self.control {
            // The first warms the server's caches and is judged only for failure: a small object does.
            let warmup = self.shape.cheap();
            let exchanges = control.open(self.prober, &warmup, place(0), self.limits.remaining(), true).await;
            taken.extend(exchanges);
            let mut second = control
                .exchange(self.prober, &shape, place(1), self.limits.remaining(), &mut |_, _| false)
                .await;
            // A small object beside large ones compares with nothing; it is judged for failure alone.
            second.warmup = self.cheap_opening;
            taken.push(second);
        }
        // With `sni` the object is the control's, which is warm by now; its first subject exchange counts.
        if self.comparison == Comparison::Sni {
            self.subject.address = self.control.as_ref().and_then(|control| control.address);
            return;
        }
        let warmup = self.shape.cheap();
        let exchanges =
            self.subject.open(self.prober, &warmup, place(2), self.limits.remaining(), true).await;
        taken.extend(exchanges);
        self.ask_elsewhere(place(2), taken).await;
    }

    /// Where the subject's name leads nowhere, or to somebody else: whether it works at an address that the independent
    /// resolver gives and the system's does not.
    async fn ask_elsewhere(&self, place: Place, taken: &mut Taken<'_>) {
        let Some(last) = taken.exchanges.last().filter(|last| last.failure.is_some()) else { return };
        let (url, led_to) = (self.subject.url.clone(), last.address);
        if !last.failure.as_ref().is_some_and(may_be_a_lie) || url.scheme() != "https" {
            return;
        }
        let elsewhere = self.prober.resolve_independently(&url).await;
        let Some(&address) =
            elsewhere.first().filter(|_| !led_to.is_some_and(|led| elsewhere.contains(&led)))
        else {
            return;
        };
        let exchange = self
            .subject
            .elsewhere(self.prober, &self.shape.cheap(), place, address, self.limits.remaining())
            .await;
        if exchange.is_complete() && exchange.certificate_checked {
            taken.judge.resolvers_disagree();
        }
        taken.push(exchange);
    }

    /// Without a control there is one exchange, and nothing to decide.
    async fn alone(&mut self, taken: &mut Taken<'_>) {
        let place = Place { round: self.number, pair: OPENING_PAIRS, position: 0 };
        let exchanges =
            self.subject.open(self.prober, &self.shape, place, self.limits.remaining(), false).await;
        taken.extend(exchanges);
    }

    /// Takes what the judge asks for next; the coin decides whose turn is first.
    async fn pair(&self, pair: u32, rng: &mut ChaCha8Rng, taken: &mut Taken<'_>) {
        let order = taken.judge.order(rng.random());
        for (position, role) in (0_u32..).zip(order) {
            let remaining = self.limits.remaining();
            let place = Place { round: self.number, pair, position };
            if *role == Role::Subject {
                let judge = &taken.judge;
                let mut stop = |curve: &TransferCurve, elapsed: Duration| judge.stop_subject(curve, elapsed);
                let exchange =
                    self.subject.exchange(self.prober, &self.shape, place, remaining, &mut stop).await;
                taken.push(exchange);
            } else if let Some(control) = &self.control {
                let exchange =
                    control.exchange(self.prober, &self.shape, place, remaining, &mut |_, _| false).await;
                taken.push(exchange);
            }
        }
    }

    fn conclude(self, taken: Taken<'_>) -> Judgement {
        let mut finding = taken.judge.finding();
        if route_changed(&taken.exchanges) {
            // Two lines were measured; nothing compares.
            finding.verdict = Verdict::Inconclusive;
            finding.mechanism = None;
            finding.blocked_at = None;
            finding.caveats.insert(0, Caveat::RouteChanged);
        }
        if finding.verdict == Verdict::Inconclusive && self.limits.is_spent(taken.bytes) {
            finding.caveats.push(Caveat::BudgetSpent);
        }
        if taken
            .exchanges
            .iter()
            .any(|exchange| exchange.tls_version.is_some() && !exchange.certificate_checked)
        {
            finding.caveats.push(Caveat::CertificateUnchecked);
        }
        Judgement {
            subject: self.subject.id,
            control: self.control.map(|control| control.id),
            comparison: self.comparison,
            finding,
            repeat: self.repeat,
            exchanges: taken.exchanges,
        }
    }
}

/// Whether a forged answer of a resolver could have done this.
fn may_be_a_lie(failure: &Failure) -> bool {
    matches!(failure.phase, Phase::Resolve | Phase::Connect)
        || matches!(failure.kind, FailureKind::BadCertificate | FailureKind::NotTls)
}

/// Pair numbers 0 to 2 are the openings of control and subject.
const OPENING_PAIRS: u32 = 3;

/// What a round has taken so far.
pub(super) struct Taken<'a> {
    pub(super) judge: RoundJudge,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) bytes: u64,
    seen: &'a mut (dyn FnMut(&Exchange) + Send),
}

impl Taken<'_> {
    pub(super) fn push(&mut self, exchange: Exchange) {
        (self.seen)(&exchange);
        self.bytes += exchange.received_bytes();
        self.judge.add(exchange.clone());
        self.exchanges.push(exchange);
    }

    /// Further addresses that servers announced.
    fn announced(&self) -> Vec<IpAddr> {
        self.exchanges.iter().flat_map(|exchange| exchange.announced.clone()).collect()
    }

    fn extend(&mut self, exchanges: Vec<Exchange>) {
        for exchange in exchanges {
            self.push(exchange);
        }
    }
}

/// Whether our own address changed between exchanges of one family with one server.
fn route_changed(exchanges: &[Exchange]) -> bool {
    exchanges.iter().any(|one| {
        exchanges.iter().any(|other| {
            one.address.is_some()
                && one.address == other.address
                && one.local_address.is_some()
                && other.local_address.is_some()
                && one.local_address != other.local_address
        })
    })
}
