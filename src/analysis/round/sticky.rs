//! Sticky addresses: some boxes remember an address that was shown the name and slow down everything to it, the control
//! as well (papers, S4b). Then subject and control are alike, and the contrast lies between before and after.
//!
//! A line that happens to become slow at that moment looks the same. So before against after alone never accuses: it
//! takes an address that was never shown the name, reached in pairs of random order with the exposed one while it is
//! slow. The bet is the same as between two names; it assumes that the two addresses are alike otherwise, which their
//! exchanges before the exposure have to show.

use crate::model::{Caveat, Exchange, Mechanism, Role, Verdict};

use super::{
    betting,
    compare::{Measure, Sample, Sorted},
    verdict::{Case, Decision},
};

/// Every exchange after must be this many times slower than every one before: the design's bound of both ratios.
const SLOWER: f64 = 2.0;

/// Handshakes before the exposure: the round's opening has two.
const BEFORE_MIN: usize = 2;

/// Exchanges after it, of the control.
const AFTER_MIN: usize = 3;

/// Whether the control turned slow, together with the subject, when the subject's name was first shown to its address.
pub(super) fn is_suspected(exchanges: &[&Exchange], sorted: &Sorted<'_>) -> bool {
    let subjects = exchanges.iter().filter(|one| one.role == Role::Subject);
    let Some(first) = subjects.min_by_key(|one| (one.pair, one.position)) else { return false };
    [Measure::Handshake, Measure::Pace].into_iter().any(|measure| {
        let logs = |role: Role, after: bool| -> Vec<f64> {
            exchanges
                .iter()
                .filter(|one| {
                    one.role == role && one.address == first.address && !one.fallback && !one.is_late()
                })
                .filter(|one| measure == Measure::Handshake || !one.warmup)
                .filter(|one| ((one.pair, one.position) >= (first.pair, first.position)) == after)
                .filter_map(|one| Sample::of(one).log(measure, sorted.wanted))
                .map(|log| log.at_least)
                .collect()
        };
        let (before, after) = (logs(Role::Control, false), logs(Role::Control, true));
        let slowest_before = before.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let slow = |logs: &[f64]| logs.iter().all(|log| log - slowest_before > SLOWER.ln());
        let needed = if measure == Measure::Pace { 1 } else { BEFORE_MIN };
        before.len() >= needed && after.len() >= AFTER_MIN && slow(&after) && slow(&logs(Role::Subject, true))
    })
}

/// The verdict where the control turned slow; `None` where it did not.
pub(super) fn decide(case: &mut Case<'_>) -> Option<Decision> {
    if !is_suspected(case.exchanges, case.sorted) {
        return None;
    }
    let e_value = betting::bet(case.sorted, &case.sorted.address_pairs, case.settings.bulk).log_e_value.exp();
    if e_value * case.settings.alpha < 1.0 {
        return Some(Decision::plain(Verdict::Inconclusive, vec![Caveat::StickyAddress]));
    }
    case.evidence.e_value = e_value;
    case.evidence.false_alarm_bound = (1.0 / e_value).min(1.0);
    let decision = Decision::plain(Verdict::Throttled, vec![Caveat::StickyAddress]);
    Some(Decision { mechanism: Some(Mechanism::HandshakeDelay), ..decision })
}
