//! Paths on which small segments come and not one large one.

use super::*;

const SILENT: Look = Look { end: End::Failed(Phase::Processing, FailureKind::Timeout), ..FAST };

/// The largest segment, the bytes in order and the segments out of order that the kernel counts, of each role's exchanges.
fn counted(judge: &mut RoundJudge, role: Role, [largest, bytes, out_of_order]: [u32; 3]) {
    for exchange in judge.exchanges.iter_mut().filter(|one| one.role == role) {
        let end = TcpInfo {
            receive_mss_bytes: Some(largest),
            bytes_received: Some(u64::from(bytes)),
            received_out_of_order: Some(out_of_order),
            ..TcpInfo::default()
        };
        exchange.tcp = Some(TcpStats { end: Some(end), ..TcpStats::default() });
        // Tries over ten minutes.
        exchange.started_at += Duration::from_secs(u64::from(exchange.pair) * 300);
    }
}

fn other_host() -> RoundSettings {
    let known = Known { reached_within_week: true, ..Known::default() };
    RoundSettings { comparison: Comparison::Control, known, ..RoundSettings::default() }
}

#[test]
fn where_both_names_get_small_segments_alone_it_is_told_and_accuses_nobody() {
    for (settings, largest, told) in [(sni(), 805, true), (other_host(), 805, true), (sni(), 1_448, false)] {
        let mut judge = take(settings, uneven(SILENT), uneven(SILENT));
        counted(&mut judge, Role::Subject, [largest, 805, 0]);
        counted(&mut judge, Role::Control, [largest, 805, 0]);
        let finding = judge.finding();
        assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding:?}");
        assert_eq!(finding.caveats[0] == Caveat::LowMtu, told, "{finding:?}");
    }
}

#[test]
fn another_host_on_a_path_with_a_low_mtu_is_not_blocked() {
    for (seen, verdict) in [
        ([536, 0, 2], Verdict::Inconclusive),
        // Nothing from behind a gap: a box that drops everything after the handshake.
        ([805, 805, 0], Verdict::Blocked),
        ([1_448, 3_000, 2], Verdict::Blocked),
    ] {
        let mut judge = take(other_host(), uneven(SILENT), uneven(FAST));
        counted(&mut judge, Role::Subject, seen);
        counted(&mut judge, Role::Control, [1_448, 131_072, 0]);
        let finding = judge.finding();
        assert_eq!(finding.verdict, verdict, "{seen:?}: {finding:?}");
        assert_eq!(finding.caveats.first() == Some(&Caveat::LowMtu), verdict == Verdict::Inconclusive);
    }
}

#[test]
fn a_name_whose_large_segments_alone_are_lost_is_blocked() {
    let mut judge = take(sni(), uneven(SILENT), uneven(FAST));
    counted(&mut judge, Role::Subject, [536, 0, 2]);
    assert_eq!(judge.finding().verdict, Verdict::Blocked);
}
