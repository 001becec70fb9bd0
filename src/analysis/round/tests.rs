//! The judge on exchanges made by hand: every rule of the design's section on judging once.

mod calibration;
mod low_mtu;
mod properties;
mod sticky;

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::model::{
    BlockedAt, Caveat, Failure, FailureKind, Hello, Mechanism, Phase, Request, TcpInfo, TcpStats, Timeline,
};

/// How an exchange shall look.
#[derive(Clone, Copy)]
struct Look {
    rtt: f64,
    tls: f64,
    bytes_per_second: f64,
    bytes: u64,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Complete,
    /// Stopped by us after so many seconds.
    Stopped(f64),
    /// Silent for 15 s after so many bytes.
    Frozen(u64),
    /// Failed in this phase.
    Failed(Phase, FailureKind),
}

const FAST: Look =
    Look { rtt: 0.03, tls: 0.06, bytes_per_second: 2_000_000.0, bytes: 131_072, end: End::Complete };
const SLOW: Look = Look { bytes_per_second: 16_000.0, ..FAST };
const STOPPED: Look = Look { end: End::Stopped(5.0), ..SLOW };

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// 16 KB at once, the rest evenly in segments.
fn curve(look: Look) -> TransferCurve {
    let (bytes, until) = match look.end {
        End::Complete => (look.bytes, f64::INFINITY),
        End::Stopped(seconds) => (look.bytes, seconds),
        End::Frozen(bytes) => (bytes, f64::INFINITY),
        End::Failed(..) => (0, 0.0),
    };
    let mut curve = TransferCurve::default();
    let mut sent = 0;
    while sent < bytes {
        sent = (sent + 1_448).min(bytes);
        let at = look.rtt + sent.saturating_sub(16_000) as f64 / look.bytes_per_second + sent as f64 / 1e7;
        if at <= until {
            curve.push(seconds(at), sent);
        }
    }
    curve
}

fn exchange(role: Role, pair: u32, position: u32, look: Look) -> Exchange {
    let curve = curve(look);
    let mut phases = Timeline::default();
    phases.skip(Phase::Resolve);
    let last = curve.points().last().map_or(look.rtt, |point| point.at.as_secs_f64());
    let spans = [(Phase::Connect, look.rtt), (Phase::Tls, look.tls), (Phase::Processing, look.rtt)];
    let failure = match look.end {
        End::Failed(phase, kind) => Some(Failure { phase, kind, detail: None }),
        End::Frozen(_) => Some(Failure { phase: Phase::Transfer, kind: FailureKind::Stalled, detail: None }),
        _ => None,
    };
    let end = match look.end {
        End::Stopped(seconds) => seconds,
        End::Frozen(_) => last + 15.0,
        _ => last,
    };
    let mut reached = Phase::Resolve;
    for (phase, span) in spans.into_iter().chain([(Phase::Transfer, end - look.rtt)]) {
        reached = phase;
        phases.record(phase, seconds(span));
        if failure.as_ref().is_some_and(|failure| failure.phase == phase) {
            break;
        }
    }
    let start = seconds(look.rtt + look.tls);
    let request = Request {
        start,
        first_byte: Some(start + seconds(look.rtt)),
        end: start + seconds(end),
        bytes: curve.bytes(),
    };
    Exchange {
        id: format!("{pair}-{position}"),
        round: 0,
        pair,
        position,
        role,
        started_at: Timestamp::UNIX_EPOCH + Duration::from_secs(u64::from(2 * pair + position)),
        duration: phases.total(),
        lateness: Duration::ZERO,
        name: if role == Role::Subject { "subject.example" } else { "control.example" }.into(),
        address: Some("192.0.2.1:443".parse().unwrap()),
        local_address: None,
        announced: vec![],
        family: None,
        pinned: true,
        fallback: false,
        warmup: false,
        host_header: "control.example".into(),
        path: "/".into(),
        http_version: Some("1.1".into()),
        tls_version: (reached > Phase::Tls).then(|| "1.3".into()),
        hello: Some(Hello { bytes: 300, segments: 1, ja4: String::new() }),
        certificate_sha256: None,
        certificate_checked: false,
        phases,
        reached,
        status: Some(200),
        bytes: curve.bytes(),
        body_sha256: None,
        redirect: None,
        headers: vec![],
        requests: if reached >= Phase::Processing { vec![request] } else { vec![] },
        failure,
        censored: matches!(look.end, End::Stopped(_)),
        tcp: Some(TcpStats {
            connect: Some(TcpInfo { rtt: Some(seconds(look.rtt)), ..TcpInfo::default() }),
            during: None,
            end: Some(TcpInfo { received_out_of_order: Some(0), ..TcpInfo::default() }),
        }),
        curve,
    }
}

fn sni() -> RoundSettings {
    RoundSettings { comparison: Comparison::Sni, ..RoundSettings::default() }
}

/// A round as the engine takes it: two openings, then what the judge orders, the coin from a seeded generator.
fn take(settings: RoundSettings, subject: impl Fn(u32) -> Look, control: impl Fn(u32) -> Look) -> RoundJudge {
    use rand::{RngExt as _, SeedableRng as _};
    let mut coin = rand::rngs::ChaCha8Rng::seed_from_u64(7);
    let mut judge = RoundJudge::new(settings);
    judge.add(exchange(Role::Control, 0, 0, control(0)));
    judge.add(exchange(Role::Control, 1, 0, control(1)));
    for pair in 2.. {
        for (position, &role) in judge.order(coin.random()).iter().enumerate() {
            let look = if role == Role::Subject { subject(pair) } else { control(pair) };
            judge.add(exchange(role, pair, position as u32, look));
        }
        if judge.next() == Next::Enough {
            break;
        }
        assert!(pair < 100, "the judge never has enough");
    }
    judge
}

/// A little unevenness, so that no two exchanges are equal.
fn uneven(look: Look) -> impl Fn(u32) -> Look {
    move |pair| Look {
        bytes_per_second: look.bytes_per_second * (1.0 + 0.05 * f64::from(pair * 7 % 5) / 5.0),
        ..look
    }
}

#[test]
fn alike_is_normal_for_little() {
    let finding = take(sni(), uneven(FAST), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Normal, "{finding:?}");
    assert!(finding.evidence.bytes_used <= 1_100_000, "{}", finding.evidence.bytes_used);
    let [low, high] = finding.evidence.slowdown_ci.map(Option::unwrap);
    assert!(low < 1.0 && high > 1.0 && high < 2.0, "{low} to {high}");
}

#[test]
fn slow_by_name_is_throttled() {
    let finding = take(sni(), uneven(STOPPED), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Throttled, "{finding:?}");
    assert!(finding.evidence.e_value >= 1000.0 && finding.evidence.false_alarm_bound <= 0.001);
    assert!(finding.evidence.slowdown_ci[0].unwrap() > 1.5);
    assert_eq!(finding.evidence.slowdown_ci[1], None, "a stopped transfer has no upper bound");
    assert!(finding.evidence.slowdown.unwrap() > 20.0);
    assert!((finding.evidence.limit_bytes_per_second.unwrap() / 16_400.0 - 1.0).abs() < 0.05);
}

#[test]
fn what_strikes_some_connections_is_not_normal() {
    let struck = |pair: u32| uneven(if pair % 4 == 2 { SLOW } else { FAST })(pair);
    let finding = take(RoundSettings { pairs_max: 60, ..sni() }, struck, uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
    assert!(
        finding.evidence.slowdown_ci[1].is_some_and(|high| high < 2.0),
        "the centre is fast: {finding:?}"
    );
    assert!(
        matches!(finding.caveats[..], [Caveat::Patchy(share)] if (share - 0.25).abs() < 0.1),
        "{finding:?}"
    );
}

#[test]
fn slow_handshake_by_name_is_throttled() {
    let finding = take(sni(), uneven(Look { tls: 3.0, ..FAST }), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Throttled, "{finding:?}");
    assert_eq!(finding.mechanism, Some(Mechanism::HandshakeDelay));
    assert!(finding.evidence.handshake_slowdown.unwrap() > 10.0);
}

/// Too few segments come for any to be out of order; what tells is that our own are not answered.
#[test]
fn answers_that_are_lost_tell_a_policer() {
    for (subject, control, told) in
        [(1, 0, Mechanism::Policing), (0, 0, Mechanism::Unknown), (1, 1, Mechanism::Unknown)]
    {
        let mut judge = take(sni(), uneven(STOPPED), uneven(FAST));
        for exchange in &mut judge.exchanges {
            let again = if exchange.role == Role::Subject { subject } else { control };
            let end = TcpInfo {
                retransmits: Some(again),
                received_out_of_order: Some(0),
                segments_received: Some(3),
                ..TcpInfo::default()
            };
            exchange.tcp = exchange.tcp.map(|tcp| TcpStats { end: Some(end), ..tcp });
        }
        let finding = judge.finding();
        assert_eq!((finding.verdict, finding.mechanism), (Verdict::Throttled, Some(told)), "{finding:?}");
    }
}

#[test]
fn both_slow_is_degraded() {
    let finding = take(sni(), uneven(SLOW), uneven(SLOW)).finding();
    assert_eq!(finding.verdict, Verdict::Degraded, "{finding:?}");
    assert!(finding.caveats.contains(&Caveat::ControlSlow));
}

#[test]
fn a_late_probe_cannot_accuse() {
    let mut judge = take(sni(), uneven(STOPPED), uneven(FAST));
    for exchange in &mut judge.exchanges {
        exchange.lateness = Duration::from_millis(30);
    }
    let finding = judge.finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive);
    assert!(matches!(finding.caveats[..], [Caveat::ProbeLate(n)] if n > 5), "{:?}", finding.caveats);
}

#[test]
fn freezes_and_blocks_by_name() {
    let finding = take(sni(), uneven(Look { end: End::Frozen(18_000), ..FAST }), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Frozen, "{finding:?}");
    assert_eq!(finding.evidence.freeze_after_bytes, Some(18_000));
    let reset = Look { end: End::Failed(Phase::Tls, FailureKind::Reset), ..FAST };
    let finding = take(sni(), uneven(reset), uneven(FAST)).finding();
    assert_eq!(
        (finding.verdict, finding.blocked_at),
        (Verdict::Blocked, Some(BlockedAt::Tls)),
        "{finding:?}"
    );
}

#[test]
fn a_failure_without_contrast_does_not_accuse() {
    let reset = Look { end: End::Failed(Phase::Tls, FailureKind::Reset), ..FAST };
    for comparison in [Comparison::Control, Comparison::History, Comparison::None] {
        let settings = RoundSettings { comparison, ..RoundSettings::default() };
        let finding = take(settings, uneven(reset), uneven(FAST)).finding();
        assert_eq!(finding.verdict, Verdict::Inconclusive, "{comparison:?}: {finding:?}");
        assert!(finding.caveats.contains(&Caveat::NoContrast(FailureKind::Reset)));
    }
    let finding = take(sni(), uneven(reset), uneven(reset)).finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "everything fails: {finding:?}");
}

#[test]
fn a_forged_answer_is_a_block_by_dns() {
    let lost = Look { end: End::Failed(Phase::Connect, FailureKind::Timeout), ..FAST };
    let settings = RoundSettings { comparison: Comparison::Control, ..RoundSettings::default() };
    let known = Known { resolvers_disagree: true, ..Known::default() };
    let finding = take(RoundSettings { known, ..settings.clone() }, uneven(lost), uneven(FAST)).finding();
    assert_eq!(
        (finding.verdict, finding.blocked_at),
        (Verdict::Blocked, Some(BlockedAt::Dns)),
        "{finding:?}"
    );
    let finding = take(settings, uneven(lost), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
}

#[test]
fn a_name_that_is_held_after_many_connections_accuses_nobody() {
    let held = Look { end: End::Failed(Phase::Tls, FailureKind::Timeout), ..FAST };
    let from = |first: u32| move |pair: u32| if pair < first { uneven(FAST)(pair) } else { held };
    for (subject, control) in [(99, 3), (5, 99)] {
        // Unequal round trips keep the first pairs from being enough.
        let slower = move |pair: u32| Look { bytes_per_second: 900_000.0, ..from(subject)(pair) };
        let judge = take(sni(), slower, from(control));
        let finding = judge.finding();
        assert!(!finding.verdict.accuses(), "{finding:?}");
        if control == 3 {
            assert_eq!(finding.caveats[0], Caveat::ConnectionsHeld(3), "{finding:?}");
            assert!(judge.exchanges.len() <= 8, "{} exchanges", judge.exchanges.len());
        }
    }
}

#[test]
fn a_control_that_does_not_get_through_ends_the_round() {
    let frozen = Look { end: End::Frozen(18_000), ..FAST };
    let judge = take(sni(), uneven(frozen), uneven(frozen));
    assert!(judge.exchanges.len() <= 4, "{} exchanges", judge.exchanges.len());
    assert_eq!(judge.finding().verdict, Verdict::Inconclusive);
}

#[test]
fn distance_never_accuses() {
    let far = Look { rtt: 0.3, tls: 0.6, bytes_per_second: 150_000.0, ..FAST };
    let near = Look { rtt: 0.02, tls: 0.04, ..FAST };
    let settings = RoundSettings { comparison: Comparison::Control, ..RoundSettings::default() };
    let finding = take(settings.clone(), uneven(far), uneven(near)).finding();
    assert!(!finding.verdict.accuses(), "{finding:?}");
    assert!(finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::DistanceExplains { .. })));
    let finding = take(settings, uneven(near), uneven(far)).finding();
    assert!(!finding.verdict.accuses(), "{finding:?}");
}

#[test]
fn another_host_accuses_only_on_a_policed_plateau() {
    let settings = RoundSettings {
        comparison: Comparison::Control,
        known: Known { would_decide: Some("throttlescope compare".into()), ..Known::default() },
        ..RoundSettings::default()
    };
    // 16 kB/s at 30 ms is far below a window per round trip, but without loss it may be the server's own pace.
    let finding = take(settings.clone(), uneven(SLOW), uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
    assert!(finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::WouldDecide(_))));
    let mut judge = take(settings, uneven(SLOW), uneven(FAST));
    for exchange in judge.exchanges.iter_mut().filter(|exchange| exchange.role == Role::Subject) {
        let end = TcpInfo { received_out_of_order: Some(40), ..TcpInfo::default() };
        exchange.tcp = exchange.tcp.map(|tcp| TcpStats { end: Some(end), ..tcp });
    }
    let finding = judge.finding();
    assert_eq!(finding.verdict, Verdict::Throttled, "{finding:?}");
    assert!((finding.evidence.e_value - 1.0).abs() < 1e-12, "no e-value between two hosts");
}

#[test]
fn a_canary_that_suffers_is_mentioned() {
    let mut judge = take(sni(), uneven(STOPPED), uneven(FAST));
    assert!(!judge.finding().caveats.contains(&Caveat::CanaryAffected));
    judge.add(exchange(Role::Canary, 90, 0, STOPPED));
    assert!(judge.finding().caveats.contains(&Caveat::CanaryAffected));
}

#[test]
fn round_trips_between_responses_are_left_out() {
    let one = exchange(Role::Control, 0, 0, FAST);
    let mut two = one.clone();
    // The same bytes as two responses with a pause of a second between them, after the burst.
    let (points, half) = (one.curve.points(), one.requests[0].start + points_after(&one, 64_000));
    two.curve = points
        .iter()
        .map(|point| {
            (point.at + if point.bytes > 64_000 { seconds(1.0) } else { Duration::ZERO }, point.bytes)
        })
        .collect();
    two.requests[0].end = half;
    let start = half;
    two.requests.push(Request {
        start,
        first_byte: Some(half + seconds(1.0)),
        end: half + seconds(2.0),
        bytes: 0,
    });
    let pace = |exchange: &Exchange| observe::Transfer::of(exchange).unwrap().pace(None).unwrap().at_least;
    assert!((pace(&one) - pace(&two)).abs() < 0.02, "{} against {}", pace(&one), pace(&two));
}

fn points_after(exchange: &Exchange, bytes: u64) -> Duration {
    exchange.curve.time_of(bytes).unwrap()
}

#[test]
fn a_trickling_subject_is_stopped_and_a_silent_one_is_watched() {
    let mut judge = RoundJudge::new(sni());
    let slow = curve(SLOW);
    let cut = |until: f64| -> TransferCurve {
        let seen = slow.points().iter().filter(|point| point.at <= seconds(until));
        seen.map(|point| (point.at, point.bytes)).collect()
    };
    assert!(!judge.stop_subject(&cut(5.2), seconds(5.2)), "nothing to compare with");
    judge.add(exchange(Role::Control, 0, 0, FAST));
    assert!(!judge.stop_subject(&cut(2.0), seconds(2.0)), "the rate is not known yet");
    assert!(judge.stop_subject(&cut(5.2), seconds(5.2)));
    assert!(!judge.stop_subject(&cut(2.0), seconds(5.2)), "silent for three seconds: it may be frozen");
    assert!(!judge.stop_subject(&curve(FAST), seconds(0.3)), "as fast as its control");
    judge.add(exchange(Role::Subject, 2, 0, STOPPED));
    assert!(judge.stop_subject(&cut(2.8), seconds(2.8)), "later transfers only confirm");
    let begun: TransferCurve =
        (1..20_u8).map(|n| (seconds(f64::from(n) * 0.5), u64::from(n) * 300)).collect();
    assert!(judge.stop_subject(&begun, seconds(9.6)), "600 bytes per second");
}

#[test]
fn some_slow_transfers_are_called_patchy() {
    let finding = take(sni(), |pair| if pair % 3 == 0 { SLOW } else { FAST }, uneven(FAST)).finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
    let share = finding.caveats.iter().find_map(|caveat| match caveat {
        Caveat::Patchy(share) => Some(*share),
        _ => None,
    });
    assert!(share.is_some_and(|share| (0.2..0.5).contains(&share)), "{:?}", finding.caveats);
}

#[test]
fn a_slower_host_without_plateau_soon_ends_without_blame() {
    let settings = RoundSettings { comparison: Comparison::Control, ..RoundSettings::default() };
    let slower = Look { bytes_per_second: 200_000.0, ..FAST };
    let judge = take(settings, uneven(slower), uneven(FAST));
    let finding = judge.finding();
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
    assert!(finding.evidence.pairs <= 5, "{} pairs", finding.evidence.pairs);
    assert!(!finding.caveats.iter().any(|caveat| matches!(caveat, Caveat::MorePairsNeeded(_))));
}

#[test]
fn what_is_slow_is_named_before_anyone_is_blamed() {
    let known = Known { control_goodput: Some(8e6), ..Known::default() };
    let finding = take(RoundSettings { known, ..sni() }, uneven(FAST), uneven(FAST)).finding();
    assert_eq!((finding.verdict, &finding.caveats[..]), (Verdict::Degraded, &[Caveat::ControlSlow][..]));
    let known = Known { line_goodput: Some(8e6), ..Known::default() };
    let finding = take(RoundSettings { known, ..sni() }, uneven(FAST), uneven(FAST)).finding();
    assert_eq!((finding.verdict, &finding.caveats[..]), (Verdict::Degraded, &[Caveat::ServerSlow][..]));
}

#[test]
fn a_host_reached_within_the_week_is_blocked_after_ten_minutes() {
    let reset = Look { end: End::Failed(Phase::Tls, FailureKind::Reset), ..FAST };
    let known = Known { reached_within_week: true, ..Known::default() };
    let settings = RoundSettings { comparison: Comparison::Control, known, ..RoundSettings::default() };
    let mut judge = take(settings, uneven(reset), uneven(FAST));
    assert_eq!(judge.finding().verdict, Verdict::Inconclusive, "three tries within seconds are one outage");
    for exchange in &mut judge.exchanges {
        exchange.started_at += Duration::from_secs(u64::from(exchange.pair) * 300);
    }
    let finding = judge.finding();
    assert_eq!(
        (finding.verdict, finding.blocked_at),
        (Verdict::Blocked, Some(BlockedAt::Tls)),
        "{finding:?}"
    );
}

/// A line that slows at the very moment the subject's name is first shown must not hide that the names differ.
#[test]
fn a_slow_name_is_found_on_a_line_that_slowed_as_well() {
    let slow_line = Look { bytes_per_second: 200_000.0, ..FAST };
    let finding = take(sni(), uneven(Look { end: End::Stopped(30.0), ..SLOW }), |pair| {
        if pair < 2 { FAST } else { uneven(slow_line)(pair) }
    })
    .finding();
    assert_eq!(finding.verdict, Verdict::Throttled, "{finding:?}");
}
