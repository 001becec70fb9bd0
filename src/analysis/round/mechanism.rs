//! How a subject is slowed down: what its curves say together, beside what the kernel counted. Never accuses.

use std::time::Duration;

use crate::{
    analysis::{
        curve::{self, Clues, CurveFinding, PolicedRate},
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

/// Round trips under load that are so many times the control's show a queue of the subject's own, and so a shaper.
const ROUND_TRIP_GROWTH: f64 = 2.0;

/// Mean probability of policing over a round's curves below which nothing is policed, and above which it is likely: three
/// curves or more say together what one cannot.
const NO_POLICING: f64 = 0.05;
const SOME_POLICING: f64 = 0.1;

/// Below this no queue of the control's own needs to be outdone: a round trip that doubles is enough.
const SURELY_NO_POLICING: f64 = 0.01;

/// Rates of one round that scatter so much (standard deviation of the logarithm) are nobody's limit: random loss makes
/// them, a bucket gives all transfers the same.
const UNEVEN: f64 = 0.35;

/// A transfer watched for less after the burst shows no rate.
const SEEN_SECONDS_MIN: f64 = 1.2;

/// Payload of the first window, nearly (ten segments, RFC 6928), and what our own machine may add to its time.
const FIRST_WINDOW_BYTES: u64 = 10_000;
const WINDOW_GRACE_SECONDS: f64 = 0.1;

/// IP bytes of a full segment.
const SEGMENT_BYTES: f64 = 1_500.0;

/// Least relative standard deviation of a limit that is believed.
const LIMIT_SPREAD_MIN: f64 = 0.01;

/// What a limit may be off by in all transfers of a round alike (logarithm), which their scatter does not show. At best;
/// where a policer's bucket was never seen empty; and where it overflows while TCP is silent, so that TCP never uses all of
/// the rate (all three as observed, `docs/accuracy.md`).
const LIMIT_COMMON: f64 = 0.1;
const LIMIT_COMMON_UNSEEN: f64 = 0.35;
const LIMIT_COMMON_OVERFLOWS: f64 = 0.6;

/// The mechanism, with limit and burst written into the evidence.
pub(super) fn describe(case: &mut Case<'_>, slow: bool) -> Mechanism {
    if !slow || handshake_alone(case) {
        return Mechanism::HandshakeDelay;
    }
    let subjects: Vec<Sample<'_>> =
        case.sorted.samples(Role::Subject).filter(|one| !one.failed).copied().collect();
    let segment = segment_time(case);
    let findings: Vec<CurveFinding> =
        subjects.iter().map(|sample| of_curve(sample.exchange, segment)).collect();
    let mechanism = of_all(case, &subjects, &findings, segment);
    if matches!(mechanism, Mechanism::Policing | Mechanism::Shaping) {
        describe_limit(case, &subjects, &findings, mechanism, segment);
    }
    mechanism
}

/// The handshake waits, and what comes then comes as fast as the control's: nothing limits a rate.
fn handshake_alone(case: &Case<'_>) -> bool {
    let window = |role| -> Option<f64> {
        let all = case.sorted.samples(role).filter(|one| one.transfer.is_some());
        // One that was cut before shows nothing; one that trickles never comes so far.
        let seconds: Vec<f64> = all
            .filter_map(|sample| {
                let curve = &sample.exchange.curve;
                let over = curve.time_of(FIRST_WINDOW_BYTES)?;
                Some(over.saturating_sub(curve.points().first()?.at).as_secs_f64())
            })
            .collect();
        median(&seconds)
    };
    let quick = window(Role::Subject)
        .zip(window(Role::Control))
        .is_some_and(|(subject, control)| subject <= 2.0 * control + WINDOW_GRACE_SECONDS);
    let lost: Vec<f64> =
        case.sorted.samples(Role::Subject).filter_map(|sample| out_of_order(sample.exchange)).collect();
    quick && median(&lost).is_none_or(|lost| lost == 0.0) && above(case.handshake, HANDSHAKE_ACCUSES)
}

/// How long a full segment takes on this line, by what the control gets: on a slow line that is most of a round trip.
fn segment_time(case: &Case<'_>) -> Duration {
    let goodput = case.evidence.control_goodput_bytes_per_second.filter(|goodput| *goodput > 0.0);
    goodput.map_or(Duration::ZERO, |goodput| Duration::from_secs_f64((SEGMENT_BYTES / goodput).min(1.0)))
}

fn of_curve(exchange: &Exchange, segment: Duration) -> CurveFinding {
    let clues = Clues {
        rtt: observe::round_trip(exchange).map(|rtt| rtt + segment),
        loaded_rtt: loaded(exchange),
        silence: observe::final_silence(exchange).map(|silence| Duration::from_secs_f64(silence.seconds)),
    };
    curve::classify(exchange.curve.points(), &clues)
}

fn loaded(exchange: &Exchange) -> Option<Duration> {
    exchange.tcp.and_then(|tcp| tcp.during).and_then(|info| info.receiver_rtt.or(info.rtt))
}

/// What the curves, the round trips and the losses of all transfers say together.
fn of_all(
    case: &Case<'_>,
    subjects: &[Sample<'_>],
    findings: &[CurveFinding],
    segment: Duration,
) -> Mechanism {
    let probabilities: Vec<f64> = findings.iter().filter_map(|one| one.policing).collect();
    let policing =
        (!probabilities.is_empty()).then(|| probabilities.iter().sum::<f64>() / probabilities.len() as f64);
    let rates = rates(subjects);
    let spread = spread(&rates);
    let grows = round_trip_growth(case, subjects).is_some_and(|growth| growth >= ROUND_TRIP_GROWTH);
    let lost: Vec<f64> = subjects.iter().filter_map(|sample| out_of_order(sample.exchange)).collect();
    let loses = median(&lost).is_some_and(|segments| segments > 0.0);
    let small_suffer = case.evidence.handshake_slowdown.is_some_and(|slowdown| slowdown > HANDSHAKE_ACCUSES);
    let queued = own_growth(subjects, segment).is_some_and(|growth| growth >= ROUND_TRIP_GROWTH);
    if policing.is_some_and(|policing| {
        (grows && policing <= NO_POLICING) || (queued && policing <= SURELY_NO_POLICING)
    }) {
        return Mechanism::Shaping;
    }
    let uneven = spread.is_some_and(|spread| spread >= UNEVEN);
    if loses && (small_suffer || uneven) {
        return Mechanism::Loss;
    }
    if policing.is_some_and(|policing| policing >= SOME_POLICING) && !uneven {
        return Mechanism::Policing;
    }
    if is_one_rate(&rates) {
        // One rate without a queue that grows: what exceeds it is gone. Where no curve is long enough to show anything, a
        // round trip that grows may be the sender's timeouts as well as a queue.
        return match (grows, policing) {
            (false, _) => Mechanism::Policing,
            (true, Some(_)) => Mechanism::Shaping,
            (true, None) => Mechanism::Unknown,
        };
    }
    Mechanism::Unknown
}

/// Standard deviation of the logarithms, of three at least; of six or more without the one farthest from the median,
/// which may be a stall.
fn spread(rates: &[f64]) -> Option<f64> {
    let mut logs: Vec<f64> = rates.iter().map(|rate| rate.ln()).collect();
    let centre = median(&logs).filter(|_| logs.len() >= INTERVAL_VALUES_MIN)?;
    logs.sort_by(|one, other| (one - centre).abs().total_cmp(&(other - centre).abs()));
    if logs.len() >= 2 * INTERVAL_VALUES_MIN {
        logs.pop();
    }
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    Some((logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (logs.len() - 1) as f64).sqrt())
}

/// Round trips under load over those of the idle line, a full segment's time included.
fn own_growth(subjects: &[Sample<'_>], segment: Duration) -> Option<f64> {
    let of = |sample: &Sample<'_>| {
        let idle = observe::round_trip(sample.exchange)? + segment;
        Some(loaded(sample.exchange)?.as_secs_f64() / idle.as_secs_f64().max(1e-4))
    };
    median(&subjects.iter().filter_map(of).collect::<Vec<f64>>())
}

/// Round trips under load, the subject's over the control's: the line's own queue is in both.
fn round_trip_growth(case: &Case<'_>, subjects: &[Sample<'_>]) -> Option<f64> {
    let seconds = |all: Vec<Option<Duration>>| -> Option<f64> {
        median(&all.into_iter().flatten().map(|rtt| rtt.as_secs_f64()).collect::<Vec<f64>>())
    };
    let subject = seconds(subjects.iter().map(|one| loaded(one.exchange)).collect())?;
    let control = seconds(case.sorted.samples(Role::Control).map(|one| loaded(one.exchange)).collect())?;
    (control > 0.0).then(|| subject / control)
}

/// Segments that came out of order, where the kernel counts them.
pub(super) fn out_of_order(exchange: &Exchange) -> Option<f64> {
    let info = exchange.tcp.and_then(|tcp| tcp.end.or(tcp.during))?;
    info.received_out_of_order.map(f64::from)
}

/// Goodput of each transfer after the burst where it was seen for a while; where no burst came through, of the whole.
fn rates(samples: &[Sample<'_>]) -> Vec<f64> {
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

/// The limit as the curves have it, else as the goodput that repeats itself.
fn describe_limit(
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
    let (limit, common) = match (mechanism, policed_rate(subjects, segment)) {
        // Two estimates that rest on different things: what they differ by is no scatter.
        (Mechanism::Policing, Some(drops)) => {
            let differ = (drops.bytes_per_second / middle).ln().abs().max(LIMIT_COMMON);
            let common = if drops.overflows { differ.max(LIMIT_COMMON_OVERFLOWS) } else { differ };
            (drops.bytes_per_second, common)
        }
        (Mechanism::Policing, None) => (middle, LIMIT_COMMON_UNSEEN),
        _ => (middle, LIMIT_COMMON),
    };
    case.evidence.limit_bytes_per_second = Some(limit);
    let logs: Vec<Bounded> = values.iter().map(|rate| Bounded::known((rate / middle * limit).ln())).collect();
    case.evidence.limit_ci = match centre_interval(&logs, case.settings.confidence, LIMIT_SPREAD_MIN) {
        [Some(low), Some(high)] => Some([(low - common).exp(), (high + common).exp()]),
        _ => None,
    };
    let bursts: Vec<f64> =
        findings.iter().filter_map(|one| one.burst_bytes).map(|bytes| bytes as f64).collect();
    case.evidence.burst_bytes = median(&bursts).map(|bytes| bytes as u64);
}
