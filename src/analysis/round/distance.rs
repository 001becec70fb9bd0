//! Two hosts: what distance explains, and the one pattern that it does not.

use std::time::Duration;

use crate::{
    analysis::stats::median,
    model::{Caveat, Role, Verdict},
};

use super::{
    limit, mechanism, observe,
    verdict::{self, Case, Decision},
};

/// The control must be this many times faster (design).
const CONTROL_FASTER: f64 = 3.0;

/// Least seconds of a plateau (design), and round trips.
const PLATEAU_SECONDS_MIN: f64 = 3.0;
const PLATEAU_ROUND_TRIPS_MIN: f64 = 3.0;

/// What every sender has in flight without loss: ten segments (RFC 6928). A path that is given less in each round trip
/// is not slow because of distance.
const WINDOW_BYTES: f64 = 14_600.0;

pub(super) fn decide(case: &mut Case<'_>) -> Decision {
    if verdict::is_fast(case) {
        return verdict::like_its_control(case);
    }
    if is_plateau(case) {
        let mechanism = mechanism::describe(case, true);
        return Decision { mechanism: Some(mechanism), ..Decision::plain(Verdict::Throttled, vec![]) };
    }
    let mut decision = verdict::undecided(case);
    // More pairs narrow the interval and still prove nothing between two hosts.
    if verdict::above(case.pace, 1.0) || verdict::above(case.handshake, 1.0) {
        decision.caveats.clear();
        decision.caveats.extend(round_trips(case).map(|(subject, control)| Caveat::DistanceExplains {
            subject_rtt_ms: subject * 1e3,
            control_rtt_ms: control * 1e3,
        }));
    }
    decision.caveats.extend(case.settings.known.would_decide.clone().map(Caveat::WouldDecide));
    decision
}

/// Median round trips in seconds, where the subject's is the longer one.
fn round_trips(case: &Case<'_>) -> Option<(f64, f64)> {
    let of = |role| {
        let all: Vec<f64> = case
            .sorted
            .samples(role)
            .filter_map(|sample| observe::round_trip(sample.exchange))
            .map(|rtt| rtt.as_secs_f64())
            .collect();
        median(&all)
    };
    of(Role::Subject).zip(of(Role::Control)).filter(|(subject, control)| subject > control)
}

/// A rate that stands, far below what window and round trip give, the same in three exchanges, with the mark of loss
/// that a server's own pacing does not leave.
fn is_plateau(case: &Case<'_>) -> bool {
    let rates: Vec<f64> = case
        .sorted
        .samples(Role::Subject)
        .filter_map(|sample| {
            let transfer = sample.transfer?;
            let rtt = observe::round_trip(sample.exchange)?.max(Duration::from_millis(1)).as_secs_f64();
            let seconds = transfer.seconds_after_burst()?;
            let rate = transfer.goodput_seen()?;
            let long = seconds >= PLATEAU_SECONDS_MIN && seconds >= PLATEAU_ROUND_TRIPS_MIN * rtt;
            (long
                && rate * rtt < WINDOW_BYTES
                && mechanism::out_of_order(sample.exchange).is_some_and(|segments| segments > 0.0))
            .then_some(rate)
        })
        .collect();
    let (Some(rate), Some(control)) = (median(&rates), case.evidence.control_goodput_bytes_per_second) else {
        return false;
    };
    let most = 2 * rates.len() > case.sorted.samples(Role::Subject).count();
    limit::is_one_rate(&rates) && most && control >= CONTROL_FASTER * rate
}
