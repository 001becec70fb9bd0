//! What must hold of every round, whatever the line does.

use proptest::prelude::*;

use super::{super::betting, *};

/// Pace of subject and control in each pair, relative to an undisturbed line, and which went first.
type Pairs = Vec<(f64, f64, bool)>;

/// Rounds on which both sides meet the same noise.
fn alike() -> impl Strategy<Value = Pairs> {
    let factor = || (-1.5..1.5_f64).prop_map(f64::exp);
    prop::collection::vec((factor(), factor(), any::<bool>()), 3..14)
}

/// Rounds whose subject is slower by a factor on top.
fn slower() -> impl Strategy<Value = Pairs> {
    (alike(), 1.0..30.0_f64).prop_map(|(pairs, slowdown)| {
        pairs.into_iter().map(|(subject, control, first)| (subject * slowdown, control, first)).collect()
    })
}

fn look(factor: f64) -> Look {
    Look { bytes_per_second: FAST.bytes_per_second / factor, ..FAST }
}

fn exchanges(pairs: &Pairs) -> Vec<Exchange> {
    let mut all: Vec<Exchange> = (0..2).map(|pair| exchange(Role::Control, pair, 0, FAST)).collect();
    for (index, &(subject, control, subject_first)) in pairs.iter().enumerate() {
        let pair = index as u32 + 2;
        all.push(exchange(Role::Subject, pair, u32::from(!subject_first), look(subject)));
        all.push(exchange(Role::Control, pair, u32::from(subject_first), look(control)));
    }
    all
}

fn judge(exchanges: Vec<Exchange>) -> RoundJudge {
    RoundJudge { settings: sni(), exchanges }
}

fn log_e(judge: &RoundJudge) -> f64 {
    let exchanges = judge.in_order();
    let sorted = Sorted::of(&exchanges);
    betting::bet(&sorted, &sorted.units, &sni()).log_e_value
}

proptest! {
    #[test]
    fn order_and_clock_change_nothing(pairs in slower(), seed in any::<u64>(), shift in 0_u64..2_000_000_000) {
        use rand::{SeedableRng as _, seq::SliceRandom as _};
        let straight = exchanges(&pairs);
        let mut mixed = straight.clone();
        mixed.shuffle(&mut rand::rngs::ChaCha8Rng::seed_from_u64(seed));
        for exchange in &mut mixed {
            exchange.started_at += Duration::from_secs(shift);
        }
        prop_assert_eq!(judge(straight).finding(), judge(mixed).finding());
    }

    #[test]
    fn slowing_both_never_accuses(pairs in alike(), factor in 1.0..20.0_f64) {
        let before = judge(exchanges(&pairs)).finding().verdict;
        let slowed = pairs.iter().map(|&(subject, control, first)| (subject * factor, control * factor, first)).collect();
        let mut after = exchanges(&slowed);
        for exchange in &mut after {
            if exchange.pair < 2 {
                *exchange = super::exchange(Role::Control, exchange.pair, 0, look(factor));
            }
        }
        let after = judge(after).finding().verdict;
        prop_assert!(before.accuses() || !after.accuses(), "{before} became {after}");
    }

    #[test]
    fn lateness_never_accuses(pairs in slower(), late in prop::collection::vec(any::<bool>(), 30)) {
        let mut all = exchanges(&pairs);
        let before = judge(all.clone()).finding();
        for (exchange, late) in all.iter_mut().zip(&late) {
            if *late {
                exchange.lateness = Duration::from_millis(21);
            }
        }
        let after = judge(all.clone()).finding();
        // Leaving exchanges out leaves less evidence than a full round of that slowdown could have.
        prop_assert!(after.evidence.pairs <= before.evidence.pairs);
        for exchange in &mut all {
            exchange.lateness = Duration::from_millis(21);
        }
        prop_assert_eq!(judge(all).finding().verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_clean_pair_never_strengthens(pairs in slower(), first in any::<bool>(), speed in -0.1..0.1_f64) {
        let before = judge(exchanges(&pairs));
        let mut more = pairs.clone();
        more.push((speed.exp(), 1.0, first));
        let after = judge(exchanges(&more));
        prop_assert!(log_e(&after) <= log_e(&before) + 1e-9);
        // At a look the interval takes in the pairs since the last one; between two looks nothing may change.
        if ![3, 4, 5, 6, 8, 10, 12].contains(&more.len()) {
            prop_assert!(before.finding().verdict.accuses() || !after.finding().verdict.accuses());
        }
    }

    /// Over both orders of a pair the bettor gains nothing: the sum of the two factors is two at most, whatever came before.
    #[test]
    fn a_bet_is_fair(pairs in slower(), subject in 0.1..10.0_f64, control in 0.1..10.0_f64, first in any::<bool>()) {
        let before = log_e(&judge(exchanges(&pairs)));
        let factor = |subject: f64, control: f64, first: bool| {
            let mut more = pairs.clone();
            more.push((subject, control, first));
            (log_e(&judge(exchanges(&more))) - before).exp()
        };
        // The same two outcomes in the same places under the other drawing of names.
        let sum = factor(subject, control, first) + factor(control, subject, !first);
        prop_assert!(sum <= 2.0 + 1e-9, "{sum}");
    }

    #[test]
    fn the_judge_never_panics_and_never_feigns(pairs in slower(), broken in prop::collection::vec(0_u8..6, 40)) {
        let mut all = exchanges(&pairs);
        for (exchange, kind) in all.iter_mut().zip(&broken) {
            let (role, pair, position) = (exchange.role, exchange.pair, exchange.position);
            let end = match kind {
                0 => End::Failed(Phase::Connect, FailureKind::Timeout),
                1 => End::Failed(Phase::Tls, FailureKind::Reset),
                2 => End::Frozen(18_000),
                3 => End::Stopped(0.05),
                _ => continue,
            };
            *exchange = super::exchange(role, pair, position, Look { end, ..FAST });
        }
        let finding = judge(all).finding();
        prop_assert!(finding.evidence.e_value >= 0.0 && finding.evidence.e_value.is_finite());
        if let [Some(low), Some(high)] = finding.evidence.slowdown_ci {
            prop_assert!(low <= high);
        }
    }
}
