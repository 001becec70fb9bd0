//! Would a token bucket have been emptier where losses come than where windows pass?

use super::{Gap, losses::Losses, time};

/// Rates that are tried, in shares of the mean: TCP does not use all of a bucket's rate, and sometimes had more of the burst.
const RATES: usize = 24;
const RATE_MIN: f64 = 0.8;
const RATE_MAX: f64 = 6.0;

/// Depths that are tried, in segments.
const DEPTHS: [f64; 7] = [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 1e9];

/// A silence of so many round trips ends a window.
const WINDOW_END: f64 = 0.5;

/// With fewer losses or windows nothing is said.
const LEAST: usize = 2;

/// Of the buckets tried the one that tells best: the probability that it is emptier before a loss than after a window that
/// passed, less a half, in standard deviations that it has by chance (Mann and Whitney, Ann. Math. Stat. 18, 1947). 0 where nothing can
/// be said; the best of many tries is 1 to 2 by chance alone.
pub(super) fn tells_losses(gaps: &[Gap], losses: &Losses) -> f64 {
    let lost = losses.count();
    let windows = gaps.iter().zip(losses.shows()).filter(|(gap, lost)| is_window(gap, *lost)).count();
    if lost < LEAST || windows < LEAST {
        return 0.0;
    }
    let mean = gaps.iter().map(|gap| gap.jump).sum::<f64>() / time(gaps);
    let mut best: f64 = 0.0;
    for step in 0..RATES {
        let share = step as f64 / (RATES - 1) as f64;
        let rate = mean * RATE_MIN * (RATE_MAX / RATE_MIN).powf(share);
        for depth in DEPTHS {
            best = best.max(emptier_before_losses(gaps, losses, rate, depth));
        }
    }
    let (n, m) = (lost as f64, windows as f64);
    (best - 0.5) / ((n + m + 1.0) / (12.0 * n * m)).sqrt()
}

fn is_window(gap: &Gap, lost: bool) -> bool {
    !lost && gap.trips > WINDOW_END
}

fn emptier_before_losses(gaps: &[Gap], losses: &Losses, rate: f64, depth: f64) -> f64 {
    let mut tokens = 0.0_f64;
    let (mut before_losses, mut after_windows) = (Vec::new(), Vec::new());
    for (gap, lost) in gaps.iter().zip(losses.shows()) {
        if lost {
            before_losses.push(tokens);
            // What is released came during the silence, so that the bucket never rested.
            tokens = (tokens + rate * gap.trips - gap.jump).min(depth);
        } else {
            if is_window(gap, lost) {
                after_windows.push(tokens);
            }
            tokens = (tokens + rate * gap.trips).min(depth) - gap.jump;
        }
    }
    after_windows.sort_unstable_by(f64::total_cmp);
    let all = after_windows.len();
    let above = |tokens: f64| all - after_windows.partition_point(|&other| other <= tokens);
    let wins: usize = before_losses.iter().map(|&tokens| above(tokens)).sum();
    wins as f64 / (before_losses.len() * all) as f64
}
