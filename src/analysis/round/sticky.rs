//! Sticky addresses: some boxes remember an address that was shown the name and slow down everything to it, the control
//! as well (papers, S4b). Then subject and control are alike, and the contrast lies between before and after.
//!
//! A line that happens to become slow at that moment looks the same. So before against after never accuses by itself.
//! It takes further addresses of the same server, each of them exposed at a step that was drawn: at every address one
//! control exchange follows the other, and before each of at most [`SLOTS`] of them the draw says whether the subject's
//! name is shown instead. If names make no difference, the step at which an address turns slow for good has nothing to do
//! with the step that was drawn, and a bet that they are one and the same wins nothing on average, whatever the line
//! does. Nothing is assumed of how alike the addresses are: each is compared with its own past.

mod series;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{
    analysis::stats::median,
    model::{Caveat, Exchange, FailureKind, Mechanism, Phase, Role, Verdict},
};

use super::{
    compare::{Measure, Sample, Sorted},
    observe,
    verdict::{Case, Decision},
};
use series::{PATIENCE, Series, State};

pub(super) use series::SLOTS;

/// An answer this many times slower than every one before is slow: the design's bound of both ratios.
const SLOWER: f64 = 2.0;

/// Added to both times before they are compared, seconds; see `observe`.
const GRACE_SECONDS: f64 = 0.02;

/// Exchanges before the exposure: the round's opening has two.
const BEFORE_MIN: usize = 2;

/// Exchanges after it, of the control.
const AFTER_MIN: usize = 3;

/// Control exchanges after it in which that is looked for.
const LOOKS_MAX: usize = 8;

/// Addresses that may stay fast before it is no use to go on.
const UNMOVED_MAX: usize = 1;

/// What to take next at a further address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressStep {
    /// A control exchange.
    Control,
    /// The next of the steps among which one is drawn: the subject's name if it is the drawn one, else the control's.
    Draw,
    /// Nothing: this address has said what it can.
    Over,
}

/// What is known of the address that was shown the name first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Suspicion {
    /// Nothing points to it.
    None,
    /// The subject is slow: whether the control is slow at the same address has to be seen in further exchanges.
    Look,
    /// All of both is slow since the name was shown, and the control was fast before.
    Sticky,
    /// The same of pace: exchanges that would show it elsewhere are too dear to repeat.
    StickyPace,
}

/// Seconds up to the first byte of the answer, without the lookup: exactly, or (ended by us) at least. `None` where it
/// says nothing: it failed otherwise.
fn answer(exchange: &Exchange) -> Option<f64> {
    let failed = exchange.failure.as_ref().is_some_and(|failure| {
        failure.phase != Phase::Transfer
            && !matches!(failure.kind, FailureKind::Timeout | FailureKind::HttpError)
    });
    if exchange.fallback || failed {
        return None;
    }
    let phases = [Phase::Connect, Phase::Tls, Phase::Processing];
    let spans: Vec<f64> = phases
        .iter()
        .filter_map(|&phase| exchange.phases.duration(phase))
        .map(|duration| duration.as_secs_f64())
        .collect();
    (!spans.is_empty()).then(|| spans.iter().sum())
}

/// Whether an answer after `seconds` is slow where `usual` ones took at most so long.
fn is_slow(seconds: f64, usual: f64) -> bool {
    seconds + GRACE_SECONDS > SLOWER * (usual + GRACE_SECONDS)
}

fn slowest(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(0.0, f64::max)
}

/// The answers at the first exposed address: the control's before and after, the subject's. They raise suspicion, and for
/// that those count as well that our machine delayed; what proves it are the further addresses.
struct Exposed<'a> {
    address: Option<SocketAddr>,
    first: (u32, u32),
    before: Vec<f64>,
    after: Vec<f64>,
    /// Control exchanges since then, also those that say nothing.
    tried_after: usize,
    subject: Vec<f64>,
    exchanges: &'a [&'a Exchange],
}

impl<'a> Exposed<'a> {
    fn of(exchanges: &'a [&'a Exchange]) -> Option<Self> {
        let subjects = exchanges.iter().filter(|one| one.role == Role::Subject);
        let first = subjects.min_by_key(|one| (one.pair, one.position))?;
        let at = |one: &Exchange| (one.pair, one.position);
        let answers = |role: Role, after: bool| -> Vec<f64> {
            let here = exchanges.iter().filter(|one| one.role == role && one.address == first.address);
            here.filter(|one| (at(one) >= at(first)) == after).filter_map(|one| answer(one)).collect()
        };
        Some(Self {
            address: first.address,
            first: at(first),
            before: answers(Role::Control, false),
            after: answers(Role::Control, true),
            tried_after: exchanges
                .iter()
                .filter(|one| {
                    one.role == Role::Control && one.address == first.address && at(one) > at(first)
                })
                .count(),
            subject: answers(Role::Subject, true),
            exchanges,
        })
    }

    fn suspicion(&self, sorted: &Sorted<'_>) -> Suspicion {
        let usual = slowest(&self.before);
        let slow = |seconds: &Vec<f64>| seconds.iter().all(|&one| is_slow(one, usual));
        let turned = self.before.len() >= BEFORE_MIN && !self.subject.is_empty();
        if turned && slow(&self.subject) && slow(&self.after) {
            if self.after.len() >= AFTER_MIN {
                return Suspicion::Sticky;
            }
            // A machine that is late all the time looks in vain.
            return if self.tried_after < LOOKS_MAX { Suspicion::Look } else { Suspicion::None };
        }
        if self.pace_turned(sorted) { Suspicion::StickyPace } else { Suspicion::None }
    }

    /// The same of pace. One exchange before suffices where the other opening was small.
    fn pace_turned(&self, sorted: &Sorted<'_>) -> bool {
        let logs = |role: Role, after: bool| -> Vec<f64> {
            let of_role = self.exchanges.iter().filter(|one| {
                one.role == role
                    && one.address == self.address
                    && !one.fallback
                    && !one.is_late()
                    && !one.warmup
            });
            of_role
                .filter(|one| ((one.pair, one.position) >= self.first) == after)
                .filter_map(|one| Sample::of(one).log(Measure::Pace, sorted.wanted))
                .map(|log| log.at_least)
                .collect()
        };
        let (before, after) = (logs(Role::Control, false), logs(Role::Control, true));
        let slowest_before = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let slow = |logs: &[f64]| logs.iter().all(|log| log - slowest_before > SLOWER.ln());
        let subject = logs(Role::Subject, true);
        // A box that remembers the address makes both names alike; where they still differ, one transfer was fast by luck.
        let alike = median(&subject)
            .zip(median(&after))
            .is_some_and(|(subject, control)| subject - control < SLOWER.ln());
        !before.is_empty() && after.len() >= AFTER_MIN && slow(&after) && slow(&subject) && alike
    }

    /// What was taken at `address`, one of those that were not shown the name in the ordinary course of the round.
    fn series(&self, address: SocketAddr) -> Series {
        let of_address = self.exchanges.iter().filter(|one| one.warmup && one.address == Some(address));
        // Slow from the start is what would be half as slow as the exposed address is now.
        let as_slow = median(&self.after).map(|after| after / SLOWER);
        let mut series = Series::new(slowest(&self.before), as_slow);
        of_address.for_each(|one| series.take(one));
        series
    }

    /// Those of all further addresses.
    fn all_series(&self) -> Vec<Series> {
        let warmups = self.exchanges.iter().filter(|one| one.warmup && one.address != self.address);
        let addresses: BTreeSet<SocketAddr> = warmups.filter_map(|one| one.address).collect();
        addresses.into_iter().map(|address| self.series(address)).collect()
    }
}

/// Whether the control turned slow, together with the subject, when the subject's name was first shown to its address.
pub(super) fn suspicion(exchanges: &[&Exchange], sorted: &Sorted<'_>) -> Suspicion {
    Exposed::of(exchanges).map_or(Suspicion::None, |exposed| exposed.suspicion(sorted))
}

/// Whether a further address could still tell: no more than one has stayed fast although it was shown the name.
pub(super) fn may_go_on(exchanges: &[&Exchange]) -> bool {
    let series = Exposed::of(exchanges).map(|exposed| exposed.all_series()).unwrap_or_default();
    series.iter().filter(|one| one.state == State::Unmoved).count() <= UNMOVED_MAX
}

/// What to take next at a further address, and how long to wait for it. The exposed address itself takes control
/// exchanges only.
pub(super) fn step(exchanges: &[&Exchange], address: SocketAddr) -> (AddressStep, Duration) {
    match Exposed::of(exchanges) {
        None => (AddressStep::Over, PATIENCE),
        Some(exposed) if exposed.address == Some(address) => {
            (AddressStep::Control, Series::new(slowest(&exposed.before), None).patience())
        }
        Some(exposed) => {
            let series = exposed.series(address);
            (series.next(), series.patience())
        }
    }
}

/// The verdict where the control turned slow; `None` where it did not.
pub(super) fn decide(case: &mut Case<'_>) -> Option<Decision> {
    let exposed = Exposed::of(case.exchanges)?;
    let undecided = Decision::plain(Verdict::Inconclusive, vec![Caveat::StickyAddress, Caveat::FewAddresses]);
    match exposed.suspicion(case.sorted) {
        Suspicion::None | Suspicion::Look => return None,
        Suspicion::StickyPace => {
            return Some(Decision::plain(Verdict::Inconclusive, vec![Caveat::StickyAddress]));
        }
        Suspicion::Sticky => {}
    }
    let series = exposed.all_series();
    if series.iter().any(|one| one.state == State::SlowItself) {
        return Some(Decision::plain(Verdict::Degraded, vec![Caveat::ControlSlow]));
    }
    let turned = series.iter().any(|one| one.state == State::Turned);
    let e_value: f64 = series.iter().map(Series::e_value).product();
    if !turned || e_value * case.settings.alpha < 1.0 {
        return Some(undecided);
    }
    let handshake = |role: Role, after: bool| {
        let of_role = case.exchanges.iter().filter(|one| one.role == role && one.address == exposed.address);
        let seconds: Vec<f64> = of_role
            .filter(|one| ((one.pair, one.position) >= exposed.first) == after)
            .filter_map(|one| observe::handshake_seconds(one))
            .collect();
        median(&seconds)
    };
    let ratio = handshake(Role::Subject, true).zip(handshake(Role::Control, false)).map(|(s, c)| s / c);
    let evidence = &mut case.evidence;
    evidence.e_value = e_value;
    evidence.false_alarm_bound = (1.0 / e_value).min(1.0);
    // Between the names there is no difference any more; it lies between before and after.
    evidence.slowdown = None;
    evidence.slowdown_ci = [None, None];
    evidence.handshake_slowdown = ratio.filter(|ratio| ratio.is_finite());
    let decision = Decision::plain(Verdict::Throttled, vec![Caveat::StickyAddress]);
    Some(Decision { mechanism: Some(Mechanism::HandshakeDelay), ..decision })
}
