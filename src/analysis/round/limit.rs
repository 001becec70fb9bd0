//! What a subject is held to, and how sure that is.

use std::time::Duration;

use crate::{
    analysis::{
        curve::{self, CurveFinding, PolicedRate},
        stats::{Bounded, INTERVAL_VALUES_MIN, centre_interval, median},
    },
    model::Mechanism,
};

use super::{compare::Sample, observe, verdict::Case};

/// Rates within this share of their median are one rate: a limit, not a coincidence (design: 15 %).
pub(super) const RATE_SPREAD_MAX: f64 = 0.15;

/// A transfer watched for less after the burst shows no rate.
const SEEN_SECONDS_MIN: f64 = 1.2;

/// Least relative standard deviation of a limit that is believed.
const SPREAD_MIN: f64 = 0.01;

/// What a limit may be off by in all transfers of a round alike (logarithm), which their scatter does not show. At best;
/// where a policer's bucket was never seen empty; and where it overflows while TCP is silent, so that TCP never uses all of
/// the rate (all three as observed, `docs/accuracy.md`).
const COMMON: f64 = 0.1;
const COMMON_UNSEEN: f64 = 0.35;
const COMMON_OVERFLOWS: f64 = 0.6;

/// No transfer is faster than the limit, but all may stay below it by so much (logarithm), alike in each: TCP waits after losses,
/// and a queue of a few packets runs empty meanwhile (as observed).
const UNUSED: f64 = 0.2;

/// The limit as the curves have it, else as the goodput that repeats itself.
pub(super) fn describe(
    case: &mut Case<'_>,
    subjects: &[Sample<'_>],
    findings: &[CurveFinding],
    mechanism: Mechanism,
    segment: Duration,
) {
    let of_curve = |sample: &Sample<'_>| {
        let rtt = observe::round_trip(sample.exchange)? + segment;
        curve::rate(sample.exchange.curve.points(), rtt, mechanism == Mechanism::Policing)
    };
    let of_curves: Vec<f64> = subjects.iter().filter_map(of_curve).collect();
    let seen = rates(subjects);
    // Transfers that were cut short have no rate of their own; a few long ones say more than all of them do.
    let values = if 2 * of_curves.len() > subjects.len() || of_curves.len() >= INTERVAL_VALUES_MIN {
        of_curves
    } else {
        seen
    };
    let Some(middle) = median(&values) else { return };
    if mechanism == Mechanism::Unknown {
        // One rate is a limit, whoever sets it; how far TCP stayed below it is not known without the mechanism.
        case.evidence.limit_bytes_per_second = is_one_rate(&values).then_some(middle);
        return;
    }
    let (limit, common) = match (mechanism, policed_rate(subjects, segment)) {
        // Two estimates that rest on different things: what they differ by is no scatter.
        (Mechanism::Policing, Some(drops)) => {
            let differ = (drops.bytes_per_second / middle).ln().abs().max(COMMON);
            let common = if drops.overflows { differ.max(COMMON_OVERFLOWS) } else { differ };
            (drops.bytes_per_second, common)
        }
        (Mechanism::Policing, None) => (middle, COMMON_UNSEEN),
        _ => (middle, COMMON),
    };
    case.evidence.limit_bytes_per_second = Some(limit);
    let logs: Vec<Bounded> = values.iter().map(|rate| Bounded::known((rate / middle * limit).ln())).collect();
    case.evidence.limit_ci = match centre_interval(&logs, case.settings.confidence, SPREAD_MIN) {
        [Some(low), Some(high)] => Some([(low - common).exp(), (high + common + UNUSED).exp()]),
        _ => None,
    };
    let bursts: Vec<f64> =
        findings.iter().filter_map(|one| one.burst_bytes).map(|bytes| bytes as f64).collect();
    case.evidence.burst_bytes = median(&bursts).map(|bytes| bytes as u64);
}

/// Goodput of each transfer after the burst where it was seen for a while; where no burst came through, of the whole.
pub(super) fn rates(samples: &[Sample<'_>]) -> Vec<f64> {
    let of = |after_burst: bool| -> Vec<f64> {
        samples
            .iter()
            .filter_map(|sample| {
                let transfer = sample.transfer?;
                let seen = transfer.seconds_after_burst();
                (seen.is_some_and(|seconds| seconds >= SEEN_SECONDS_MIN || transfer.whole_bytes().is_some())
                    || (!after_burst && seen.is_none()))
                .then(|| transfer.goodput_seen())?
            })
            .filter(|rate| *rate > 0.0)
            .collect()
    };
    let with_burst = of(true);
    if with_burst.is_empty() { of(false) } else { with_burst }
}

/// Whether most of the rates, and three at least, are the same within [`RATE_SPREAD_MAX`].
pub(super) fn is_one_rate(rates: &[f64]) -> bool {
    let Some(middle) = median(rates) else { return false };
    let alike = rates.iter().filter(|&&rate| (rate / middle - 1.0).abs() <= RATE_SPREAD_MAX).count();
    alike >= INTERVAL_VALUES_MIN && 2 * alike > rates.len()
}

/// What a policer's drops say of its rate, over all transfers.
fn policed_rate(subjects: &[Sample<'_>], segment: Duration) -> Option<PolicedRate> {
    let transfers: Vec<_> = subjects
        .iter()
        .filter_map(|one| Some((one.exchange.curve.points(), observe::round_trip(one.exchange)? + segment)))
        .collect();
    curve::policed_rate(&transfers)
}
