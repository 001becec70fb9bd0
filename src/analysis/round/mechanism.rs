//! How a subject is slowed down: what its curves say together, beside what the kernel counted. Never accuses.

use crate::{
    analysis::{
        curve::{self, Clues, CurveFinding, CurveMechanism},
        stats::{Bounded, INTERVAL_VALUES_MIN, centre_interval, median},
    },
    model::{Exchange, Mechanism, Role},
};

use super::{
    compare::Sample,
    observe,
    verdict::{Case, HANDSHAKE_ACCUSES, above},
};

/// Rates within this share of their median are one rate: a limit, not a coincidence (design: 15 %).
pub(super) const RATE_SPREAD_MAX: f64 = 0.15;

/// Round trips that grow by this factor under load show a queue, and so a shaper (Flach et al. 2016: 1.3 of the tenth
/// percentile marks congestion; twice leaves room for the receiver's coarser estimate).
const ROUND_TRIP_GROWTH: f64 = 2.0;

/// Least relative standard deviation of a limit that is believed.
const LIMIT_SPREAD_MIN: f64 = 0.01;

/// The mechanism, with limit and burst written into the evidence.
pub(super) fn describe(case: &mut Case<'_>, slow: bool) -> Mechanism {
    if !slow {
        return Mechanism::HandshakeDelay;
    }
    let subjects: Vec<Sample<'_>> =
        case.sorted.samples(Role::Subject).filter(|one| !one.failed).copied().collect();
    let findings: Vec<CurveFinding> = subjects.iter().map(|sample| of_curve(sample.exchange)).collect();
    let mechanism = vote(&findings).unwrap_or_else(|| by_kernel(case, &subjects));
    if mechanism != Mechanism::Loss {
        describe_limit(case, &subjects, &findings, mechanism);
    }
    mechanism
}

fn of_curve(exchange: &Exchange) -> CurveFinding {
    let clues = Clues {
        rtt: observe::round_trip(exchange),
        loaded_rtt: exchange.tcp.and_then(|tcp| tcp.during).and_then(|info| info.receiver_rtt.or(info.rtt)),
        silence: observe::final_silence(exchange)
            .map(|silence| std::time::Duration::from_secs_f64(silence.seconds)),
    };
    curve::classify(exchange.curve.points(), &clues)
}

/// The mechanism that more than half of the curves name, each with the weight of its confidence; those that name none
/// have no vote.
fn vote(findings: &[CurveFinding]) -> Option<Mechanism> {
    let weight = |mechanism: CurveMechanism| -> f64 {
        findings.iter().filter(|one| one.mechanism == mechanism).map(|one| one.confidence).sum()
    };
    let votes = [
        (Mechanism::Policing, weight(CurveMechanism::Policing)),
        (Mechanism::Shaping, weight(CurveMechanism::Shaping)),
        (Mechanism::Loss, weight(CurveMechanism::Loss)),
    ];
    let all: f64 = votes.iter().map(|(_, weight)| weight).sum();
    let (mechanism, most) = votes.into_iter().max_by(|one, other| one.1.total_cmp(&other.1))?;
    (all > 0.0 && 2.0 * most > all).then_some(mechanism)
}

/// What out-of-order segments and round trips say where the curves say nothing.
fn by_kernel(case: &Case<'_>, subjects: &[Sample<'_>]) -> Mechanism {
    let growth: Vec<f64> = subjects.iter().filter_map(|sample| round_trip_growth(sample.exchange)).collect();
    let lost: Vec<f64> = subjects.iter().filter_map(|sample| out_of_order(sample.exchange)).collect();
    let grows = median(&growth).is_some_and(|growth| growth >= ROUND_TRIP_GROWTH);
    let loses = median(&lost).map(|segments| segments > 0.0);
    let small_suffer = above(case.handshake, HANDSHAKE_ACCUSES);
    match (loses, grows) {
        (Some(false), true) => Mechanism::Shaping,
        (Some(true), false) if small_suffer => Mechanism::Loss,
        (Some(true), false) if is_one_rate(&rates(subjects)) => Mechanism::Policing,
        _ => Mechanism::Unknown,
    }
}

fn round_trip_growth(exchange: &Exchange) -> Option<f64> {
    let loaded = exchange.tcp?.during.and_then(|info| info.receiver_rtt.or(info.rtt))?;
    let idle = observe::round_trip(exchange)?.as_secs_f64();
    (idle > 0.0).then(|| loaded.as_secs_f64() / idle)
}

/// Segments that came out of order, where the kernel counts them.
pub(super) fn out_of_order(exchange: &Exchange) -> Option<f64> {
    let info = exchange.tcp.and_then(|tcp| tcp.end.or(tcp.during))?;
    info.received_out_of_order.map(f64::from)
}

/// Goodput of each transfer after the burst, as far as it was seen.
fn rates(samples: &[Sample<'_>]) -> Vec<f64> {
    samples.iter().filter_map(|sample| sample.transfer?.goodput_seen()).filter(|rate| *rate > 0.0).collect()
}

/// Whether most of the rates, and three at least, are the same within [`RATE_SPREAD_MAX`].
pub(super) fn is_one_rate(rates: &[f64]) -> bool {
    let Some(middle) = median(rates) else { return false };
    let alike = rates.iter().filter(|&&rate| (rate / middle - 1.0).abs() <= RATE_SPREAD_MAX).count();
    alike >= INTERVAL_VALUES_MIN && 2 * alike > rates.len()
}

/// The limit as the curves have it, else as the goodput that repeats itself.
fn describe_limit(
    case: &mut Case<'_>,
    subjects: &[Sample<'_>],
    findings: &[CurveFinding],
    mechanism: Mechanism,
) {
    let of_curves: Vec<f64> = findings.iter().filter_map(|one| one.limit).map(|limit| limit.value).collect();
    let seen = rates(subjects);
    let values = if 2 * of_curves.len() > subjects.len() {
        of_curves
    } else if mechanism != Mechanism::Unknown || is_one_rate(&seen) {
        seen
    } else {
        return;
    };
    let logs: Vec<Bounded> = values.iter().map(|rate| Bounded::known(rate.ln())).collect();
    case.evidence.limit_bytes_per_second = median(&values);
    case.evidence.limit_ci = match centre_interval(&logs, case.settings.confidence, LIMIT_SPREAD_MIN) {
        [Some(low), Some(high)] => Some([low.exp(), high.exp()]),
        _ => None,
    };
    let bursts: Vec<f64> =
        findings.iter().filter_map(|one| one.burst_bytes).map(|bytes| bytes as f64).collect();
    case.evidence.burst_bytes = median(&bursts).map(|bytes| bytes as u64);
}
