//! How a subject is slowed down: what its curves say together, beside what the kernel counted. Never accuses.

use std::time::Duration;

use crate::{
    analysis::{
        curve::{self, Clues, CurveFinding},
        stats::{INTERVAL_VALUES_MIN, median},
    },
    model::{Exchange, Mechanism, Role},
};

use super::{
    compare::Sample,
    limit::{self, RATE_SPREAD_MAX, rates},
    observe,
    verdict::{Case, HANDSHAKE_ACCUSES, above},
};

/// So many full segments waiting between the server and us are a queue. Behind a policer nothing waits; what is counted there
/// is the sender's own pauses, two segments' worth at most in the laboratory, where shapers have six and more.
const QUEUE_SEGMENTS_MIN: f64 = 4.0;

/// Random loss makes every transfer a matter of luck: their rates scatter (standard deviation of the logarithm) by so much. A
/// bucket gives all transfers the same, up to what the sender's timeouts make of it.
const LUCK: f64 = 0.25;
const SOME_LUCK: f64 = 0.12;

/// So many of the segments come out of order behind random loss: behind a lost one the others of its window still come, behind
/// an empty bucket few do.
const OUT_OF_ORDER_SHARE: f64 = 0.36;

/// A bucket's burst is the same each time, so that the first silence comes at one place in so many of the transfers; where it
/// comes at one place in fewer than half, there is no such burst.
const SAME_BURST_SHARE: f64 = 0.75;
const NO_BURST_SHARE: f64 = 0.5;

/// Where nothing came out of order, so many of the transfers had to send again what they said.
const SENT_AGAIN_SHARE: f64 = 0.75;

/// A curve that is so likely policed counts as such where the kernel tells of no losses.
const LIKELY_POLICING: f64 = 0.5;

/// A segment, TCP payload; bursts that differ by no more are the same.
const SEGMENT_PAYLOAD: f64 = 1_448.0;

/// Payload of the first window, nearly (ten segments, RFC 6928), and what our own machine may add to its time.
const FIRST_WINDOW_BYTES: u64 = 10_000;
const WINDOW_GRACE_SECONDS: f64 = 0.1;

/// IP bytes of a full segment.
const SEGMENT_BYTES: f64 = 1_500.0;

/// The mechanism, with limit and burst written into the evidence. `slow`: not the handshake alone.
pub(super) fn describe(case: &mut Case<'_>, slow: bool) -> Mechanism {
    let first_window_quick = is_first_window_quick(case);
    if first_window_quick && (!slow || handshake_alone(case)) {
        return Mechanism::HandshakeDelay;
    }
    let subjects: Vec<Sample<'_>> =
        case.sorted.samples(Role::Subject).filter(|one| !one.failed).copied().collect();
    let segment = segment_time(case);
    let findings: Vec<CurveFinding> =
        subjects.iter().map(|sample| of_curve(sample.exchange, segment)).collect();
    let mechanism = of_all(case, &subjects, &findings, segment);
    // A handshake of a few kilobytes is slow in a queue as well.
    if !slow && mechanism != Mechanism::Shaping {
        return Mechanism::HandshakeDelay;
    }
    if mechanism != Mechanism::Loss {
        limit::describe(case, &subjects, &findings, mechanism, segment);
    }
    mechanism
}

/// What comes after the handshake comes as fast as the control's: nothing limits a rate.
fn is_first_window_quick(case: &Case<'_>) -> bool {
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
    window(Role::Subject)
        .zip(window(Role::Control))
        .is_some_and(|(subject, control)| subject <= 2.0 * control + WINDOW_GRACE_SECONDS)
}

/// The handshake waits, and nothing is lost.
fn handshake_alone(case: &Case<'_>) -> bool {
    let lost: Vec<f64> =
        case.sorted.samples(Role::Subject).filter_map(|sample| out_of_order(sample.exchange)).collect();
    median(&lost).is_none_or(|lost| lost == 0.0) && above(case.handshake, HANDSHAKE_ACCUSES)
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

/// What the queue, the losses and the curves of all transfers say together.
fn of_all(
    case: &Case<'_>,
    subjects: &[Sample<'_>],
    findings: &[CurveFinding],
    segment: Duration,
) -> Mechanism {
    let all = |of: &dyn Fn(&Sample<'_>) -> Option<f64>| -> Option<f64> {
        median(&subjects.iter().filter_map(of).collect::<Vec<f64>>())
    };
    let goodput = case.evidence.subject_goodput_bytes_per_second.unwrap_or(0.0);
    let queue = all(&|one| waiting_segments(one.exchange, segment, goodput));
    if queue.is_some_and(|segments| segments >= QUEUE_SEGMENTS_MIN) {
        return Mechanism::Shaping;
    }
    let lost = out_of_order_share(subjects);
    let luck = luck(&rates(subjects)).or_else(|| luck(&whole_rates(subjects)));
    let by_luck = luck.is_some_and(|luck| {
        let many_late = lost.is_some_and(|share| share >= OUT_OF_ORDER_SHARE);
        let same_burst = same_burst_share(subjects, segment);
        (luck >= LUCK && (many_late || same_burst < SAME_BURST_SHARE))
            || (luck >= SOME_LUCK && many_late && same_burst <= NO_BURST_SHARE)
    });
    let likely = || {
        let curves: Vec<f64> = findings.iter().filter_map(|one| one.policing).collect();
        median(&curves).is_some_and(|policing| policing >= LIKELY_POLICING)
    };
    match lost {
        Some(share) if share > 0.0 && by_luck => Mechanism::Loss,
        // Lost in every transfer alike, and no queue: what exceeds a rate is gone.
        Some(share) if luck.is_some() && (share > 0.0 || answers_lost(case, subjects)) => Mechanism::Policing,
        None if likely() && !by_luck => Mechanism::Policing,
        _ => Mechanism::Unknown,
    }
}

/// Full segments that waited on the way, by Little's law (Operations Research 9, 1961): the rate times the round trip beyond
/// the idle line's. A queue shows it; the highest of a transfer counts.
fn waiting_segments(exchange: &Exchange, segment: Duration, goodput: f64) -> Option<f64> {
    let idle = observe::round_trip(exchange)? + segment;
    let stats = exchange.tcp?;
    let loaded =
        [stats.during, stats.end].into_iter().flatten().filter_map(|info| info.receiver_rtt).max()?;
    Some(loaded.saturating_sub(idle).as_secs_f64() * goodput / SEGMENT_BYTES)
}

/// The share of all segments that came out of order, where the kernel counts them: a transfer that was stopped before the
/// first repair has none of its own.
fn out_of_order_share(subjects: &[Sample<'_>]) -> Option<f64> {
    let counts = |sample: &Sample<'_>| {
        let info = sample.exchange.tcp?.after_connect()?;
        Some([f64::from(info.received_out_of_order?), f64::from(info.segments_received?)])
    };
    let all: Vec<[f64; 2]> = subjects.iter().filter_map(counts).collect();
    let segments: f64 = all.iter().map(|one| one[1]).sum();
    (segments > 0.0).then(|| all.iter().map(|one| one[0]).sum::<f64>() / segments)
}

/// Most of the subject's transfers had to send again what they said, and hardly any of the control's. A policer's empty bucket
/// swallows the answers to it as well; a queue as slow, in which nothing waits yet, lets them pass.
fn answers_lost(case: &Case<'_>, subjects: &[Sample<'_>]) -> bool {
    let controls: Vec<Sample<'_>> = case.sorted.samples(Role::Control).copied().collect();
    sent_again_share(subjects).is_some_and(|share| share >= SENT_AGAIN_SHARE)
        && sent_again_share(&controls).is_some_and(|share| share <= 1.0 - SENT_AGAIN_SHARE)
}

/// The share of the transfers that had to send something again after the name was shown, where the kernel counts that.
fn sent_again_share(samples: &[Sample<'_>]) -> Option<f64> {
    let sent_again = |sample: &Sample<'_>| {
        let tcp = sample.exchange.tcp?;
        // Before that nobody could hold the name against the connection.
        let before = tcp.connect.and_then(|info| info.retransmits).unwrap_or_default();
        Some(tcp.after_connect()?.retransmits? > before)
    };
    let known: Vec<bool> = samples.iter().filter_map(sent_again).collect();
    (!known.is_empty()).then(|| known.iter().filter(|&&again| again).count() as f64 / known.len() as f64)
}

/// Standard deviation of the logarithms of rates, of three at least; of six or more without the one farthest from the median,
/// which may be a stall.
fn luck(rates: &[f64]) -> Option<f64> {
    let mut logs: Vec<f64> = rates.iter().map(|rate| rate.ln()).collect();
    let centre = median(&logs).filter(|_| logs.len() >= INTERVAL_VALUES_MIN)?;
    logs.sort_by(|one, other| (one - centre).abs().total_cmp(&(other - centre).abs()));
    if logs.len() >= 2 * INTERVAL_VALUES_MIN {
        logs.pop();
    }
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    Some((logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (logs.len() - 1) as f64).sqrt())
}

/// Rates from the first byte to the last, for transfers of which none came far.
fn whole_rates(subjects: &[Sample<'_>]) -> Vec<f64> {
    let of = |sample: &Sample<'_>| {
        let points = sample.exchange.curve.points();
        let (first, last) = (points.first()?, points.last()?);
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        (seconds > 0.0).then(|| (last.bytes - first.bytes) as f64 / seconds)
    };
    subjects.iter().filter_map(of).filter(|&rate| rate > 0.0).collect()
}

/// The share of the transfers whose first silence comes after the same bytes as in the middle one, within a segment or
/// 15 %; or of those that have no silence, where that is more.
fn same_burst_share(subjects: &[Sample<'_>], segment: Duration) -> f64 {
    let of = |sample: &Sample<'_>| {
        let rtt = observe::round_trip(sample.exchange)? + segment;
        curve::first_silence(sample.exchange.curve.points(), rtt).map(|bytes| bytes as f64)
    };
    let bursts: Vec<f64> = subjects.iter().filter_map(of).collect();
    let middle = median(&bursts).unwrap_or_default();
    let near = SEGMENT_PAYLOAD.max(RATE_SPREAD_MAX * middle);
    let alike = bursts.iter().filter(|&&bytes| (bytes - middle).abs() <= near).count();
    alike.max(subjects.len() - bursts.len()) as f64 / subjects.len().max(1) as f64
}

/// Segments that came out of order, where the kernel counts them.
pub(super) fn out_of_order(exchange: &Exchange) -> Option<f64> {
    let info = exchange.tcp?.after_connect()?;
    info.received_out_of_order.map(f64::from)
}
