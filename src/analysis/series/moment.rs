//! When a share changed: the most likely moment between two tests, and an interval for it.

/// Coverage of the interval.
const COVERAGE: f64 = 0.95;

/// Successive tests are not independent (one visitor tests again, bad evenings last), so that the likelihood is
/// believed only in part. Chosen in simulation so that the interval covers the truth at least as often as it says.
const TRUST: f64 = 0.7;

/// A change between tests: index of the first test after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The most likely one.
    pub(super) at: usize,
    /// The earliest that is still likely.
    pub(super) earliest: usize,
    /// The latest that is still likely.
    pub(super) latest: usize,
}

/// Finds where the share of affected samples changed from `before` to `after`.
///
/// `affected` holds the share of each test, oldest first. Every position is as likely beforehand, also the first (the
/// series begins after the change); the interval holds the central 95 % of what remains likely. Empty input: zeros.
pub(super) fn change(affected: &[f64], before: f64, after: f64) -> Change {
    let (hit, miss) = ((after / before).ln(), ((1.0 - after) / (1.0 - before)).ln());
    let mut sums = vec![0.0; affected.len()];
    let mut sum = 0.0;
    for (index, share) in affected.iter().enumerate().rev() {
        sum += share * hit + (1.0 - share) * miss;
        sums[index] = sum;
    }
    let highest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let at = sums.iter().position(|&sum| sum >= highest).unwrap_or(0);
    let weights: Vec<f64> = sums.iter().map(|sum| (TRUST * (sum - highest)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let quantile = |q: f64| {
        let mut passed = 0.0;
        weights.iter().position(|weight| {
            passed += weight / total;
            passed >= q
        })
    };
    let tail = (1.0 - COVERAGE) / 2.0;
    Change {
        at,
        earliest: quantile(tail).unwrap_or(0).min(at),
        latest: quantile(1.0 - tail).unwrap_or(affected.len().saturating_sub(1)).max(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_clean_step() {
        let affected: Vec<f64> = (0..40).map(|index| if index < 25 { 0.0 } else { 1.0 }).collect();
        let found = change(&affected, 0.02, 0.95);
        assert_eq!(found.at, 25);
        assert!(found.earliest >= 23 && found.latest <= 27, "{found:?}");
    }

    #[test]
    fn is_less_sure_of_a_patchy_one() {
        let affected: Vec<f64> = (0..60).map(|n| if n >= 30 && n % 3 == 0 { 1.0 } else { 0.0 }).collect();
        let found = change(&affected, 0.02, 0.33);
        assert_eq!(found.at, 30);
        assert!(found.earliest < 30 && found.latest >= 30);
    }

    #[test]
    fn takes_nothing_and_one() {
        assert_eq!(change(&[], 0.02, 0.9), Change { at: 0, earliest: 0, latest: 0 });
        assert_eq!(change(&[1.0], 0.02, 0.9), Change { at: 0, earliest: 0, latest: 0 });
    }
}
