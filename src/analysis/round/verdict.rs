//! From samples to a finding: failures first, then speed, and the cause before the blame.

use std::time::Duration;

use crate::{
    analysis::stats::{Interval, median},
    model::{Caveat, Comparison, Evidence, Exchange, Finding, Mechanism, Role, TransferCurve, Verdict},
};

use super::{
    PAIRS_MIN, Part, RoundSettings, betting,
    compare::{Measure, Sample, Sorted},
    distance, failures, mechanism,
    observe::{self, FREE_BURST_BYTES},
    sticky,
};

/// Lower bound of the slowdown above which a subject is throttled (design).
const SLOWDOWN_ACCUSES: f64 = 1.5;

/// Lower bound of the handshake ratio above which a subject is throttled (design).
pub(super) const HANDSHAKE_ACCUSES: f64 = 2.0;

/// Upper bound of either ratio below which a subject is normal (design).
const RATIO_NORMAL: f64 = 2.0;

/// A rule that strikes so many of the connections is interference; no deployment was seen with fewer than a third (papers, 2021).
const AFFECTED_SHARE_MIN: f64 = 0.1;

/// Below this the control itself is too slow to show anything: a throttle to 130 kbit/s (16 kB/s) would make the
/// subject no more than the accusing 1.5 times slower. Bytes per second.
const CONTROL_GOODPUT_MIN: f64 = 25_000.0;

/// A control this many times slower than usual, or a server than the line, is itself what is slow (design: three times).
const CAUSE_RATIO: f64 = 3.0;

/// A subject transfer may be stopped once it is this many times slower than its control (design: five times) ...
const STOP_SLOWDOWN: f64 = 5.0;

/// ... for all of the bytes wanted; from the fourth transfer on for those that came, if even with the others coming at
/// once it is so many times slower: twice what accuses, so that the interval need not wait for what is known ...
const STOP_SLOWDOWN_KNOWN: f64 = 3.0;

/// ... and its rate is known: it went on for so long after the free burst. A policer starves a connection in stalls of
/// about a second (papers, S1); the first transfer shows several of them, the later ones confirm. From the fourth on,
/// when the plateau is known, one that has not even come to the end of the burst by then need not.
const STOP_PLATEAU_FIRST: Duration = Duration::from_secs(4);
const STOP_PLATEAU: Duration = Duration::from_millis(1_500);

/// A transfer that is silent for longer may be frozen, and a freeze is watched to its end.
const TRICKLE_GAP: Duration = Duration::from_secs(2);

/// The same where a transfer is stopped before the end of the burst.
const TRICKLE_GAP_KNOWN: Duration = Duration::from_secs(1);

/// Everything that a verdict looks at.
pub(super) struct Case<'a> {
    pub(super) settings: &'a RoundSettings,
    pub(super) exchanges: &'a [&'a Exchange],
    pub(super) sorted: &'a Sorted<'a>,
    pub(super) evidence: Evidence,
    pub(super) pace: Interval,
    pub(super) handshake: Interval,
}

impl Case<'_> {
    /// Whether the evidence reaches what the report may spend on false alarms.
    pub(super) fn is_proven(&self) -> bool {
        self.evidence.e_value * self.settings.alpha >= 1.0 || self.settings.without == Some(Part::Evidence)
    }
}

/// A verdict with what belongs to it.
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) mechanism: Option<Mechanism>,
    pub(super) blocked_at: Option<crate::model::BlockedAt>,
    pub(super) caveats: Vec<Caveat>,
}

impl Decision {
    pub(super) const fn plain(verdict: Verdict, caveats: Vec<Caveat>) -> Self {
        Self { verdict, mechanism: None, blocked_at: None, caveats }
    }
}

/// The finding of a round so far.
pub(super) fn judge(settings: &RoundSettings, exchanges: &[&Exchange], sorted: &Sorted<'_>) -> Finding {
    let sizes_match = sorted.sizes_match();
    let pace =
        if settings.bulk && sizes_match { sorted.interval(Measure::Pace, settings) } else { [None, None] };
    let handshake = sorted.interval(Measure::Handshake, settings);
    let evidence = evidence(settings, exchanges, sorted, pace);
    let mut case = Case { settings, exchanges, sorted, evidence, pace, handshake };
    let mut decision = failures::decide(&mut case).unwrap_or_else(|| by_speed(&mut case));
    decision.caveats.extend(standing_caveats(&case));
    Finding {
        verdict: decision.verdict,
        mechanism: decision.mechanism,
        blocked_at: decision.blocked_at,
        evidence: case.evidence,
        caveats: decision.caveats,
    }
}

/// Whether more exchanges could not turn an inconclusive `finding` into an answer.
pub(super) fn is_hopeless(
    settings: &RoundSettings,
    exchanges: &[&Exchange],
    sorted: &Sorted<'_>,
    finding: &Finding,
) -> bool {
    let tried =
        exchanges.iter().filter(|one| one.role == Role::Subject && !one.fallback && !one.is_late()).count();
    // A round of the daemon looks at the subject nevertheless: its control may be out for days.
    if settings.pairs_max as usize >= PAIRS_MIN && failures::control_fails(exchanges) {
        return true;
    }
    if tried < PAIRS_MIN {
        return false;
    }
    let slow = above(sorted.interval(Measure::Pace, settings), SLOWDOWN_ACCUSES);
    let slow_handshake = above(sorted.interval(Measure::Handshake, settings), HANDSHAKE_ACCUSES);
    // Pairs that our own machine spoilt say nothing of the sizes.
    let compared = sorted.matched().len() >= PAIRS_MIN;
    let no_pace =
        settings.bulk && (!sorted.sizes_match() || (compared && sorted.logs(Measure::Pace).is_empty()));
    let one_host = settings.comparison < Comparison::Control;
    let final_caveat = finding.caveats.iter().any(|caveat| match caveat {
        Caveat::ServerRefused(_) | Caveat::ConnectionsHeld(_) | Caveat::LowMtu => true,
        Caveat::NoContrast(_) | Caveat::DistanceExplains { .. } => settings.comparison != Comparison::Sni,
        _ => false,
    });
    let slower_host = slow && settings.comparison == Comparison::Control && tried > PAIRS_MIN;
    slower_host
        || one_host
        || (no_pace && !slow_handshake)
        || final_caveat
        || failures::everything_fails(exchanges)
        || failures::both_freeze(exchanges)
}

fn evidence(
    settings: &RoundSettings,
    exchanges: &[&Exchange],
    sorted: &Sorted<'_>,
    pace: Interval,
) -> Evidence {
    let e_value = if settings.comparison == Comparison::Sni {
        betting::bet(sorted, &sorted.units, settings).log_e_value.exp()
    } else {
        1.0
    };
    let comparable = settings.bulk && sorted.sizes_match();
    let goodput = |role| {
        let seen: Vec<f64> =
            sorted.samples(role).filter_map(|sample| sample.transfer?.goodput_seen()).collect();
        median(&seen).filter(|_| settings.bulk)
    };
    let handshake = |role| {
        let seconds: Vec<f64> =
            sorted.samples(role).filter_map(|sample| observe::handshake_seconds(sample.exchange)).collect();
        median(&seconds)
    };
    let ratios: Vec<f64> = sorted.matched().iter().filter_map(ratio_seen).collect();
    let ratio_of_handshakes = handshake(Role::Subject).zip(handshake(Role::Control)).map(|(s, c)| s / c);
    Evidence {
        pairs: sorted.matched().len() as u32,
        e_value,
        false_alarm_bound: (1.0 / e_value).min(1.0),
        confidence: settings.confidence,
        slowdown: median(&ratios).filter(|_| comparable),
        slowdown_ci: pace.map(|end| end.map(f64::exp)),
        handshake_slowdown: ratio_of_handshakes.filter(|ratio| ratio.is_finite()),
        subject_goodput_bytes_per_second: goodput(Role::Subject),
        control_goodput_bytes_per_second: goodput(Role::Control),
        bytes_used: exchanges.iter().map(|exchange| exchange.curve.bytes().max(exchange.bytes)).sum(),
        ..Evidence::default()
    }
}

/// Control goodput over subject goodput as far as both were seen.
fn ratio_seen((subject, control): &(Sample<'_>, Sample<'_>)) -> Option<f64> {
    let (subject, control) = (subject.transfer?.goodput_seen()?, control.transfer?.goodput_seen()?);
    (subject > 0.0).then(|| control / subject)
}

fn by_speed(case: &mut Case<'_>) -> Decision {
    if case.sorted.samples(Role::Subject).count() == 0 {
        // Where all of the subject's came late, what further addresses showed in time stands.
        let sticky = if case.settings.comparison == Comparison::Sni { sticky::decide(case) } else { None };
        return sticky.unwrap_or_else(|| Decision::plain(Verdict::Inconclusive, vec![]));
    }
    match case.settings.comparison {
        Comparison::Sni => by_name(case),
        Comparison::Control => distance::decide(case),
        Comparison::History | Comparison::None => {
            Decision::plain(Verdict::Inconclusive, vec![Caveat::NoControl])
        }
    }
}

/// The same server under two names.
fn by_name(case: &mut Case<'_>) -> Decision {
    let slow = above(case.pace, SLOWDOWN_ACCUSES);
    if slow || above(case.handshake, HANDSHAKE_ACCUSES) {
        let mechanism = mechanism::describe(case, slow);
        if case.is_proven() {
            return Decision { mechanism: Some(mechanism), ..Decision::plain(Verdict::Throttled, vec![]) };
        }
        return undecided(case);
    }
    if let Some(decision) = sticky::decide(case) {
        return decision;
    }
    // An average hides a rule that strikes some of the connections.
    if is_fast(case) && affected_share(case).is_none() { like_its_control(case) } else { undecided(case) }
}

/// Whether the upper bounds of both ratios are below two; without bulk the handshake's alone.
pub(super) fn is_fast(case: &Case<'_>) -> bool {
    let pace = below(case.pace, RATIO_NORMAL) || !case.settings.bulk;
    pace && below(case.handshake, RATIO_NORMAL)
}

/// Subject and control are alike: normal, unless both are slow.
pub(super) fn like_its_control(case: &Case<'_>) -> Decision {
    let known = &case.settings.known;
    if let Some(control) = case.evidence.control_goodput_bytes_per_second {
        let slower_than = |usual: Option<f64>| usual.is_some_and(|usual| usual >= CAUSE_RATIO * control);
        if slower_than(known.line_goodput) {
            return Decision::plain(Verdict::Degraded, vec![Caveat::ServerSlow]);
        }
        if slower_than(known.control_goodput) || control < CONTROL_GOODPUT_MIN {
            return Decision::plain(Verdict::Degraded, vec![Caveat::ControlSlow]);
        }
    }
    let caveats = if case.settings.bulk { vec![] } else { vec![Caveat::TooFewBytes] };
    Decision::plain(Verdict::Normal, caveats)
}

/// Inconclusive, and why.
pub(super) fn undecided(case: &Case<'_>) -> Decision {
    let mut caveats = Vec::new();
    let matched = case.sorted.matched().len();
    if matched < PAIRS_MIN {
        caveats.push(Caveat::MorePairsNeeded((PAIRS_MIN - matched) as u32));
    } else if case.settings.bulk && case.sorted.logs(Measure::Pace).is_empty() {
        caveats.push(Caveat::TooFewBytes);
    } else if above(case.pace, SLOWDOWN_ACCUSES) || above(case.handshake, HANDSHAKE_ACCUSES) {
        caveats.push(Caveat::MorePairsNeeded(units_needed(case)));
    } else {
        caveats.extend((!is_fast(case)).then_some(Caveat::IntervalTooWide));
        caveats.extend(affected_share(case).map(Caveat::Patchy));
    }
    Decision::plain(Verdict::Inconclusive, caveats)
}

/// The share of the subject's transfers that are twice as slow as every one of the control, where it is a tenth of
/// them at least and not all. Fewer are the line's own stalls, which struck the one name by chance.
fn affected_share(case: &Case<'_>) -> Option<f64> {
    let ranks = |role| -> Vec<f64> {
        let rank = |sample: &Sample<'_>| sample.rank(Measure::Pace, case.sorted.wanted);
        case.sorted.samples(role).filter_map(rank).collect()
    };
    let slowest = ranks(Role::Control).into_iter().fold(f64::NEG_INFINITY, f64::max);
    let subjects = ranks(Role::Subject);
    let slow = subjects.iter().filter(|&&rank| rank - slowest > RATIO_NORMAL.ln()).count();
    let share = slow as f64 / subjects.len().max(1) as f64;
    (share >= AFFECTED_SHARE_MIN && slow < subjects.len() && slowest.is_finite()).then_some(share)
}

/// How many further clear pairs would complete the evidence, each worth a factor of 1.9.
fn units_needed(case: &Case<'_>) -> u32 {
    let missing = -(case.evidence.e_value * case.settings.alpha).ln();
    (missing / 1.9_f64.ln()).ceil().max(1.0) as u32
}

/// Caveats that hold whatever the verdict.
fn standing_caveats(case: &Case<'_>) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    if case.settings.comparison == Comparison::Control {
        caveats.push(Caveat::WeakerComparison);
    }
    if case.sorted.late > 0 {
        caveats.push(Caveat::ProbeLate(case.sorted.late));
    }
    if case.settings.bulk && !case.sorted.sizes_match() {
        caveats.push(Caveat::SizesDiffer);
    }
    if canary_affected(case) {
        caveats.push(Caveat::CanaryAffected);
    }
    let failed = case.sorted.samples(Role::Control).filter(|sample| sample.failed).count();
    if failed > 0 {
        caveats.push(Caveat::ControlFailed(failed as u32));
    }
    caveats
}

/// Whether canary exchanges are slow as well, by the same factor that makes a subject accusable. A description.
fn canary_affected(case: &Case<'_>) -> bool {
    let canaries =
        case.exchanges.iter().filter(|one| one.role == Role::Canary && !one.is_late() && !one.fallback);
    let samples: Vec<Sample<'_>> = canaries.map(|one| Sample::of(one)).collect();
    [(Measure::Pace, SLOWDOWN_ACCUSES), (Measure::Handshake, HANDSHAKE_ACCUSES)].into_iter().any(
        |(measure, ratio)| {
            let rank = |sample: &Sample<'_>| sample.rank(measure, case.sorted.wanted);
            let canary: Vec<f64> = samples.iter().filter_map(rank).collect();
            let control: Vec<f64> = case.sorted.samples(Role::Control).filter_map(rank).collect();
            median(&canary)
                .zip(median(&control))
                .is_some_and(|(canary, control)| canary - control > ratio.ln())
        },
    )
}

/// Whether the whole interval of a log ratio lies above `ratio`.
pub(super) fn above(interval: Interval, ratio: f64) -> bool {
    interval[0].is_some_and(|low| low > ratio.ln())
}

/// Whether the whole interval of a log ratio lies below `ratio`.
pub(super) fn below(interval: Interval, ratio: f64) -> bool {
    interval[1].is_some_and(|high| high < ratio.ln())
}

/// Whether a subject transfer that runs for `elapsed` may be cut; see
/// [`RoundJudge::stop_subject`](super::RoundJudge::stop_subject).
pub(super) fn may_stop(sorted: &Sorted<'_>, curve: &TransferCurve, elapsed: Duration) -> bool {
    let paces: Vec<f64> = sorted
        .samples(Role::Control)
        .filter_map(|sample| sample.transfer?.pace(None))
        .map(|log| log.at_least.exp())
        .collect();
    let (Some(wanted), Some(control)) = (sorted.wanted, median(&paces)) else { return false };
    let (Some(first), Some(last)) = (curve.points().first(), curve.points().last()) else { return false };
    let seen = sorted.samples(Role::Subject).count();
    let (start, bytes, plateau, gap) = match curve.time_of(FREE_BURST_BYTES) {
        Some(burst_over) => {
            let plateau = if seen == 0 { STOP_PLATEAU_FIRST } else { STOP_PLATEAU };
            (burst_over, wanted.saturating_sub(FREE_BURST_BYTES), plateau, TRICKLE_GAP)
        }
        // The average from the first byte is at most the pace after the burst; what came before it is no transfer.
        None if seen >= PAIRS_MIN => (first.at, wanted, STOP_PLATEAU, TRICKLE_GAP_KNOWN),
        None => (first.at, wanted, STOP_PLATEAU_FIRST, TRICKLE_GAP),
    };
    let watched = elapsed.saturating_sub(start);
    let slower_than = |times: f64, bytes: u64| watched.as_secs_f64() >= times * control * bytes as f64;
    let came = curve.bytes().min(wanted).saturating_sub(wanted - bytes);
    let slow = slower_than(STOP_SLOWDOWN, bytes)
        || (seen >= PAIRS_MIN && slower_than(STOP_SLOWDOWN, came) && slower_than(STOP_SLOWDOWN_KNOWN, bytes));
    let trickles = last.at > start && elapsed.saturating_sub(last.at) < gap;
    slow && trickles && watched >= plateau
}
