//! Exact bounds for a probability from a count.

use statrs::distribution::{Beta, ContinuousCDF};

/// The exact two-sided Clopper-Pearson interval for a probability after `events` in `trials` (Clopper and Pearson,
/// Biometrika 26, 1934): quantiles of Beta(k, n-k+1) and Beta(k+1, n-k). For a one-sided bound at 95 % ask for a
/// confidence of 0.9 and take one end.
///
/// Assumes independent trials. With no trials the interval is `[0, 1]`.
///
/// # Panics
/// When `events > trials` or `confidence` is outside (0, 1).
pub fn clopper_pearson(events: u64, trials: u64, confidence: f64) -> [f64; 2] {
    assert!(events <= trials, "more events than trials");
    assert!(confidence > 0.0 && confidence < 1.0, "confidence is a probability");
    let tail = (1.0 - confidence) / 2.0;
    let (k, n) = (events as f64, trials as f64);
    let quantile =
        |a: f64, b: f64, p: f64| Beta::new(a, b).expect("both shapes are at least one").inverse_cdf(p);
    let low = if events == 0 { 0.0 } else { quantile(k, n - k + 1.0, tail) };
    let high = if events == trials { 1.0 } else { quantile(k + 1.0, n - k, 1.0 - tail) };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms: with no event the upper end is 1 - tail^(1/n); with all events the lower end is tail^(1/n).
    #[test]
    fn agrees_with_closed_forms() {
        let [low, high] = clopper_pearson(0, 4000, 0.9);
        assert!(low.abs() < 1e-12);
        assert!((high - (1.0 - 0.05_f64.powf(1.0 / 4000.0))).abs() < 1e-8, "{high}");
        let [low, high] = clopper_pearson(10, 10, 0.95);
        assert!((low - 0.025_f64.powf(0.1)).abs() < 1e-8, "{low}");
        assert!((high - 1.0).abs() < 1e-12);
        assert!(clopper_pearson(0, 0, 0.95) <= [0.0, 1.0] && clopper_pearson(0, 0, 0.95)[1] > 0.999);
    }

    /// R: `binom.test(7, 50)$conf.int` gives 0.05819170 and 0.26739600.
    #[test]
    fn agrees_with_r() {
        let [low, high] = clopper_pearson(7, 50, 0.95);
        assert!((low - 0.058_191_70).abs() < 1e-6, "{low}");
        assert!((high - 0.267_396_00).abs() < 1e-6, "{high}");
    }
}
