//! Would a token bucket have been emptier where the stalls begin than where windows pass?

use super::{Gap, STALL, Steps};

/// Rates that are tried, in shares of the mean: TCP does not use all of a bucket's rate, and sometimes had more of the burst.
const RATES: usize = 24;
const RATE_MIN: f64 = 0.8;
const RATE_MAX: f64 = 6.0;

/// Depths that are tried, in segments.
const DEPTHS: [f64; 7] = [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 1e9];

/// A silence of so many round trips ends a window.
const WINDOW_END: f64 = 0.5;

/// With fewer stalls or windows nothing is said.
const LEAST: usize = 3;

/// Where nothing can be said: a little more than chance, as the best of many tries is.
const UNTOLD: f64 = 0.6;

/// Of the buckets tried the one that tells best: the probability that it is emptier before a stall than after a window that
/// passed (Mann and Whitney's statistic).
pub(super) fn tells_stalls(steps: &Steps, gaps: &[Gap]) -> f64 {
    let stalls = gaps.iter().filter(|gap| gap.trips > STALL).count();
    let windows = gaps.iter().filter(|gap| gap.trips > WINDOW_END && gap.trips <= STALL).count();
    if stalls < LEAST || windows < LEAST {
        return UNTOLD;
    }
    let mean = steps.level[steps.level.len() - 1] / (steps.at[steps.at.len() - 1] - steps.at[0]);
    let mut best: f64 = 0.0;
    for step in 0..RATES {
        let share = step as f64 / (RATES - 1) as f64;
        let rate = mean * RATE_MIN * (RATE_MAX / RATE_MIN).powf(share);
        for depth in DEPTHS {
            best = best.max(emptier_before_stalls(gaps, rate, depth));
        }
    }
    best
}

fn emptier_before_stalls(gaps: &[Gap], rate: f64, depth: f64) -> f64 {
    let mut tokens = 0.0_f64;
    let (mut before_stalls, mut after_windows) = (Vec::new(), Vec::new());
    for gap in gaps {
        if gap.trips > STALL {
            before_stalls.push(tokens);
            // What a stall releases came during it, so that the bucket never rested.
            tokens = (tokens + rate * gap.trips - gap.jump).min(depth);
        } else {
            if gap.trips > WINDOW_END {
                after_windows.push(tokens);
            }
            tokens = (tokens + rate * gap.trips).min(depth) - gap.jump;
        }
    }
    after_windows.sort_unstable_by(f64::total_cmp);
    let all = after_windows.len();
    let above = |tokens: f64| all - after_windows.partition_point(|&other| other <= tokens);
    let wins: usize = before_stalls.iter().map(|&tokens| above(tokens)).sum();
    wins as f64 / (before_stalls.len() * all) as f64
}
