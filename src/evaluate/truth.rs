//! The truth about a slowdown: transfers with the rule off over the same with it on, by a rule of its own that knows
//! nothing of the judge's.

use serde::{Deserialize, Serialize};

use crate::{
    analysis::stats::median,
    model::{Exchange, Phase},
};

/// Payload that is left out: the free burst (design).
const BURST_BYTES: u64 = 32_000;

/// What the rule does to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrueSlowdown {
    /// Median seconds per byte after the free burst, with the rule on over off.
    pub transfer: Option<f64>,
    /// Transfers with the rule on did not finish: it is at least so much.
    pub at_least: bool,
    /// Median seconds of the handshake, with the rule on over off.
    pub handshake: Option<f64>,
}

impl TrueSlowdown {
    /// From the transfers with the rule on and off.
    pub(super) fn of(on: &[Exchange], off: &[Exchange]) -> Self {
        let wanted = off.iter().filter(|one| one.is_complete()).map(|one| one.curve.bytes()).max();
        let paces =
            |all: &[Exchange]| -> Vec<f64> { all.iter().filter_map(|one| pace(one, wanted)).collect() };
        let handshakes = |all: &[Exchange]| -> Vec<f64> { all.iter().filter_map(handshake).collect() };
        let over = |on: Vec<f64>, off: Vec<f64>| {
            Some(median(&on)? / median(&off)?).filter(|ratio| ratio.is_finite())
        };
        Self {
            transfer: over(paces(on), paces(off)),
            at_least: 2 * on.iter().filter(|one| one.is_complete()).count() <= on.len(),
            handshake: over(handshakes(on), handshakes(off)),
        }
    }
}

/// Seconds per byte; of a transfer that did not finish, what it took at least.
fn pace(exchange: &Exchange, wanted: Option<u64>) -> Option<f64> {
    let burst = exchange.curve.time_of(BURST_BYTES).map_or(0.0, |at| at.as_secs_f64());
    if exchange.is_complete() {
        let last = exchange.curve.points().last()?.at.as_secs_f64();
        let bytes = exchange.curve.bytes().checked_sub(BURST_BYTES)?;
        return Some((last - burst).max(0.001) / bytes.max(1) as f64);
    }
    let before: f64 = [Phase::Resolve, Phase::Connect, Phase::Tls]
        .iter()
        .filter_map(|&phase| exchange.phases.duration(phase))
        .map(|took| took.as_secs_f64())
        .sum();
    let watched = (exchange.duration.as_secs_f64() - before).max(0.0);
    // One that did not come so far was watched from its beginning.
    let watched =
        if exchange.reached < Phase::Processing { exchange.duration.as_secs_f64() } else { watched };
    Some((watched - burst).max(0.001) / wanted?.saturating_sub(BURST_BYTES).max(1) as f64)
}

fn handshake(exchange: &Exchange) -> Option<f64> {
    exchange.phases.duration(Phase::Tls).map(|took| took.as_secs_f64())
}
