//! Failures: what freezes, what is blocked, and what merely fails.

use crate::{
    analysis::stats::median,
    model::{BlockedAt, Caveat, Comparison, Exchange, FailureKind, Phase, Role, Verdict},
};

use super::{
    Part, RoundSettings,
    observe::{self, Silence},
    verdict::{Case, Decision},
};

/// Silence of this many seconds is a freeze (design: 15 s; a tenth of a second is left to the timer that ended it).
const FREEZE_SECONDS: f64 = 14.9;

/// ... and of so many times the longest earlier gap (design).
const FREEZE_GAPS: f64 = 8.0;

/// Payload that is under way when a box begins to drop, one segment: silence after no more is a block of the name, not a
/// freeze of the transfer.
const UNDER_WAY_BYTES: u64 = 1_500;

/// Exchanges that must freeze (design: two); where another host is the control one more, because a broken server stalls
/// as well.
const FREEZES_MIN: usize = 2;

/// A segment of so many bytes is large: the least MTU of IPv6 (RFC 8200) leaves 1,208 and more to a segment.
const LARGE_SEGMENT_BYTES: u32 = 1_200;

/// Exchanges of the subject that must fail alike, and of the control that must work, before `blocked` (design: three).
const FAILURES_MIN: usize = 3;

/// Handshakes under one name that must be answered, and then be left unanswered, before a limit on connections is thought
/// of: the strictest one known lets three pass.
const HELD_AFTER_MIN: u32 = 3;
const HELD_MIN: u32 = 2;

/// Three tries over this many seconds make a block of a host that was reached within the week (design: ten minutes).
const TRIES_SPAN_SECONDS: f64 = 600.0;

/// `None` when the subject's exchanges work well enough to be judged by speed.
pub(super) fn decide(case: &mut Case<'_>) -> Option<Decision> {
    if case.settings.known.block_page {
        return Some(blocked(BlockedAt::Http, vec![]));
    }
    captive_portal(case)
        .or_else(|| low_mtu(case))
        .or_else(|| held(case))
        .or_else(|| frozen(case))
        .or_else(|| failing(case))
        .or_else(|| refused_by_server(case))
}

/// Two hosts that answer with the same page and have not shown who they are, or "network authentication required"
/// (RFC 6585): somebody else answers.
fn captive_portal(case: &Case<'_>) -> Option<Decision> {
    let pages = |role| -> Vec<&str> {
        let all = attempts(case, role);
        all.into_iter()
            .filter(|one| is_page_of_anybody(one))
            .filter_map(|one| one.body_sha256.as_deref())
            .collect()
    };
    let asks = case.exchanges.iter().any(|one| one.status == Some(511));
    let same = case.settings.comparison == Comparison::Control
        && pages(Role::Subject).iter().any(|page| pages(Role::Control).contains(page))
        && attempts(case, Role::Subject).iter().any(|one| {
            attempts(case, Role::Control).iter().all(|other| other.host_header != one.host_header)
        });
    (asks || same).then(|| Decision::plain(Verdict::Inconclusive, vec![Caveat::CaptivePortal]))
}

/// A page (two copies of one object may well stand on two hosts), over a connection that anybody could have answered.
fn is_page_of_anybody(exchange: &Exchange) -> bool {
    let is_html = |(name, value): &(String, String)| name == "content-type" && value.starts_with("text/html");
    exchange.bytes > 0
        && (exchange.tls_version.is_none() || !exchange.certificate_checked)
        && exchange.headers.iter().any(is_html)
}

/// Names whose handshakes were answered at first and then fell silent, one after the other. A box that limits connections
/// does that to whichever name comes too often (papers, S9), which says nothing about the name.
fn held(case: &Case<'_>) -> Option<Decision> {
    let answered = [Role::Control, Role::Subject].into_iter().find_map(|role| {
        let (mut answered, mut silent) = (0, 0);
        for exchange in attempts(case, role) {
            let fell_silent = exchange
                .failure
                .as_ref()
                .is_some_and(|failure| (failure.phase, failure.kind) == (Phase::Tls, FailureKind::Timeout));
            match (fell_silent, exchange.reached > Phase::Tls) {
                (true, _) => silent += 1,
                (false, true) if silent == 0 => answered += 1,
                (false, _) => return None,
            }
        }
        (answered >= HELD_AFTER_MIN && silent >= HELD_MIN).then_some(answered)
    })?;
    Some(Decision::plain(Verdict::Inconclusive, vec![Caveat::ConnectionsHeld(answered)]))
}

/// Small segments come and not one large one: the path has a low MTU, and the messages that would tell its sender are
/// filtered. Both names suffer from that alike. Where another host works, its segments came over another path; then a small
/// one must have come from behind a gap that nothing filled, for a box that lets the handshake pass looks the same otherwise.
fn low_mtu(case: &Case<'_>) -> Option<Decision> {
    let all_are = |role: Role, least: usize, small: fn(&Exchange) -> bool| {
        let all = attempts(case, role);
        all.len() >= least && all.into_iter().all(small)
    };
    let both = all_are(Role::Subject, 1, only_small_ones_come)
        && all_are(Role::Control, FREEZES_MIN, only_small_ones_come);
    let other_path = case.settings.comparison != Comparison::Sni
        && all_are(Role::Subject, FREEZES_MIN, |one| only_small_ones_come(one) && is_behind_a_gap(one));
    (both || other_path).then(|| Decision::plain(Verdict::Inconclusive, vec![Caveat::LowMtu]))
}

fn only_small_ones_come(exchange: &Exchange) -> bool {
    let silent = exchange.failure.as_ref().is_some_and(|failure| {
        failure.phase >= Phase::Tls && matches!(failure.kind, FailureKind::Timeout | FailureKind::Stalled)
    });
    let Some(tcp) = exchange.tcp.and_then(|tcp| tcp.end) else { return false };
    let none_large = tcp.receive_mss_bytes.is_some_and(|largest| largest < LARGE_SEGMENT_BYTES);
    let some_small = tcp.bytes_received.is_some_and(|bytes| bytes > 0) || is_behind_a_gap(exchange);
    silent && none_large && some_small
}

fn is_behind_a_gap(exchange: &Exchange) -> bool {
    let out_of_order = exchange.tcp.and_then(|tcp| tcp.end?.received_out_of_order);
    out_of_order.is_some_and(|segments| segments > 0)
}

fn silences(case: &Case<'_>, role: Role) -> Vec<Silence> {
    attempts(case, role)
        .into_iter()
        .filter_map(observe::final_silence)
        .filter(|silence| {
            silence.seconds >= FREEZE_SECONDS
                && silence.seconds >= FREEZE_GAPS * silence.longest_gap
                && silence.bytes > UNDER_WAY_BYTES
        })
        .collect()
}

fn frozen(case: &mut Case<'_>) -> Option<Decision> {
    let needed = FREEZES_MIN + usize::from(case.settings.comparison != Comparison::Sni);
    let subject = silences(case, Role::Subject);
    let tried = attempts(case, Role::Subject).len();
    if subject.len() < needed || 2 * subject.len() < tried {
        return None;
    }
    let controls = attempts(case, Role::Control);
    let working = controls.iter().filter(|exchange| exchange.is_complete()).count();
    if working < FREEZES_MIN || !silences(case, Role::Control).is_empty() {
        return None;
    }
    // Where some of the subject's come through, or fail otherwise, only the evidence shows that it is no chance.
    let alike = subject.len() == tried && is_steady(case.settings, &controls);
    if !alike && !case.is_proven() {
        return None;
    }
    let offsets: Vec<f64> = subject.iter().map(|silence| silence.bytes as f64).collect();
    case.evidence.freeze_after_bytes = median(&offsets).map(|bytes| bytes as u64);
    Some(Decision::plain(Verdict::Frozen, patchy(subject.len(), tried)))
}

/// Whether the control waits nowhere for long: a line on which it pauses for seconds also falls silent by chance.
fn is_steady(settings: &RoundSettings, controls: &[&Exchange]) -> bool {
    let steady = controls.iter().all(|exchange| {
        let gap = exchange.curve.longest_gap();
        let phases =
            [Phase::Connect, Phase::Tls, Phase::Processing].map(|phase| exchange.phases.duration(phase));
        let longest = phases.into_iter().chain([gap]).flatten().max();
        longest.is_none_or(|longest| longest.as_secs_f64() * FREEZE_GAPS <= FREEZE_SECONDS)
    });
    steady || settings.without == Some(Part::SteadyControl)
}

fn failing(case: &Case<'_>) -> Option<Decision> {
    let subjects = attempts(case, Role::Subject);
    let failures: Vec<(Phase, FailureKind)> = subjects
        .iter()
        .filter_map(|exchange| {
            let (phase, kind) = (exchange.failure.as_ref()?.phase, observe::network_failure(exchange)?);
            // Whether one segment or none came before the silence is chance.
            let silenced = kind == FailureKind::Stalled && exchange.curve.bytes() <= UNDER_WAY_BYTES;
            Some(if silenced { (Phase::Processing, FailureKind::Timeout) } else { (phase, kind) })
        })
        .collect();
    let (phase, kind) = most_common(&failures)?;
    let alike = failures.iter().filter(|&&failure| failure == (phase, kind)).count();
    if 2 * alike <= subjects.len() {
        return None;
    }
    let controls = attempts(case, Role::Control);
    let working = controls.iter().filter(|exchange| observe::network_failure(exchange).is_none()).count();
    let silent = matches!(kind, FailureKind::Timeout | FailureKind::Stalled);
    let clean = working == controls.len()
        && alike == subjects.len()
        && (!silent || is_steady(case.settings, &controls));
    let enough = alike >= FAILURES_MIN && working >= FAILURES_MIN && (clean || case.is_proven());
    if enough && has_contrast(case) {
        // Whatever came of the address that the system's resolver gave, the resolver is where it went wrong.
        let at = if case.settings.known.resolvers_disagree { BlockedAt::Dns } else { place(phase) };
        return Some(blocked(at, patchy(alike, subjects.len())));
    }
    let caveats = if !has_contrast(case) {
        vec![Caveat::NoContrast(kind)]
    } else if working == 0 {
        // `ControlFailed` says so.
        vec![]
    } else {
        vec![Caveat::MorePairsNeeded(FAILURES_MIN.saturating_sub(alike).max(1) as u32)]
    };
    Some(Decision::plain(Verdict::Inconclusive, caveats))
}

/// Whether something shows that the subject could be reached if nobody interfered.
fn has_contrast(case: &Case<'_>) -> bool {
    let known = &case.settings.known;
    let same_address_answers = case.settings.comparison == Comparison::Sni;
    same_address_answers
        || known.resolvers_disagree
        || (known.reached_within_week && tries_span(case) >= TRIES_SPAN_SECONDS)
}

fn tries_span(case: &Case<'_>) -> f64 {
    let starts = || attempts(case, Role::Subject).into_iter().map(|exchange| exchange.started_at);
    match (starts().min(), starts().max()) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs_f64(),
        _ => 0.0,
    }
}

fn refused_by_server(case: &Case<'_>) -> Option<Decision> {
    let subjects = attempts(case, Role::Subject);
    let statuses: Vec<u16> = subjects
        .iter()
        .filter(|exchange| {
            exchange.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::HttpError)
        })
        .filter_map(|exchange| exchange.status)
        .collect();
    let refused = !statuses.is_empty() && statuses.len() == subjects.len();
    refused.then(|| Decision::plain(Verdict::Inconclusive, vec![Caveat::ServerRefused(statuses[0])]))
}

/// Every exchange of a role that may be judged for failure: warm-ups count, fallbacks and late ones do not.
fn attempts<'a>(case: &Case<'a>, role: Role) -> Vec<&'a Exchange> {
    case.exchanges
        .iter()
        .filter(|exchange| exchange.role == role && !exchange.fallback && !exchange.is_late())
        .copied()
        .collect()
}

/// Whether neither side got through a single time in three tries each: more of the same tells nothing new.
pub(super) fn everything_fails(exchanges: &[&Exchange]) -> bool {
    [Role::Subject, Role::Control].into_iter().all(|role| {
        let mut tried = exchanges.iter().filter(|one| one.role == role && !one.fallback);
        tried.clone().count() >= FAILURES_MIN && tried.all(|one| observe::network_failure(one).is_some())
    })
}

/// Whether the control did not get through a single time in two tries: nothing is left to compare with.
pub(super) fn control_fails(exchanges: &[&Exchange]) -> bool {
    let mut tried =
        exchanges.iter().filter(|one| one.role == Role::Control && !one.fallback && !one.is_late());
    tried.clone().count() >= FREEZES_MIN && tried.all(|one| observe::network_failure(one).is_some())
}

/// Whether both sides went silent twice and neither came through with a large object: then nothing is left that works,
/// and a freeze of the one alone cannot be shown any more.
pub(super) fn both_freeze(exchanges: &[&Exchange]) -> bool {
    [Role::Subject, Role::Control].into_iter().all(|role| {
        let of_role = || exchanges.iter().filter(|one| one.role == role && !one.fallback && !one.warmup);
        let silent = of_role()
            .filter_map(|one| observe::final_silence(one))
            .filter(|silence| silence.seconds >= FREEZE_SECONDS);
        silent.count() >= FREEZES_MIN && !of_role().any(|one| one.is_complete())
    })
}

fn most_common(failures: &[(Phase, FailureKind)]) -> Option<(Phase, FailureKind)> {
    failures.iter().copied().max_by_key(|one| (failures.iter().filter(|other| *other == one).count(), *one))
}

const fn place(phase: Phase) -> BlockedAt {
    match phase {
        Phase::Resolve => BlockedAt::Dns,
        Phase::Connect => BlockedAt::Tcp,
        Phase::Tls => BlockedAt::Tls,
        Phase::Processing | Phase::Transfer => BlockedAt::Http,
    }
}

fn blocked(at: BlockedAt, caveats: Vec<Caveat>) -> Decision {
    Decision { blocked_at: Some(at), ..Decision::plain(Verdict::Blocked, caveats) }
}

fn patchy(affected: usize, tried: usize) -> Vec<Caveat> {
    if affected == tried { vec![] } else { vec![Caveat::Patchy(affected as f64 / tried as f64)] }
}
