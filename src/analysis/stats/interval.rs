//! An interval for the centre of a few values, some of them only bounded, that may be looked at after every value.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

/// A value that is known only within bounds; `None` is no bound on that side. A known value has both ends equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounded {
    /// It is at least this.
    pub low: Option<f64>,
    /// It is at most this.
    pub high: Option<f64>,
}

impl Bounded {
    /// A value that is known.
    pub const fn known(value: f64) -> Self {
        Self { low: Some(value), high: Some(value) }
    }
}

/// An interval for a centre; `None` where the data do not bound it.
pub type Interval = [Option<f64>; 2];

/// The least number of values that gives an interval: two differ by chance alone.
const VALUES_MIN: usize = 3;

/// An interval that covers the centre of `values` with probability `confidence`, simultaneously for every number of
/// values from three up, so that one may look after each and stop when the interval is narrow enough.
///
/// At `n` values it is Student's interval ("The probable error of a mean", Biometrika 6, 1908) at the share of the error
/// probability that [`share_of_look`] gives to this look; by the union bound all looks together miss with probability
/// `1 - confidence` at most. Values bounded from below enter the lower end as their lower bound, which lies at or below
/// the truth, and leave the upper end open; the same the other way round. Where some value has no bound at all on a
/// side, the end is the order statistic that the sign test allows (Thompson, Annals of Mathematical Statistics 7, 1936).
///
/// Assumes that the values are independent and about symmetric around the centre; Student's interval is exact for
/// normal ones and conservative for symmetric ones with heavier tails (Benjamini, JASA 78, 1983). `spread_min` is the
/// least standard deviation believed, so that a few values that agree by rounding do not feign certainty. Fewer than
/// three values: `[None, None]`.
pub fn anytime_interval(values: &[Bounded], confidence: f64, spread_min: f64) -> Interval {
    if values.len() < VALUES_MIN {
        return [None, None];
    }
    let tail = (1.0 - confidence) * share_of_look(values.len()) / 2.0;
    let lows: Vec<Option<f64>> = values.iter().map(|value| value.low).collect();
    let highs: Vec<Option<f64>> = values.iter().map(|value| value.high.map(|high| -high)).collect();
    [lower_end(&lows, tail, spread_min), lower_end(&highs, tail, spread_min).map(|end| -end)]
}

/// The share of the error probability that is spent on looking at `n` values: 1/((n-2)(n-1)), which telescopes to one
/// over all n from three up. Half goes to three values, where most rounds end.
pub fn share_of_look(n: usize) -> f64 {
    if n < VALUES_MIN { 0.0 } else { 1.0 / ((n - 2) as f64 * (n - 1) as f64) }
}

fn lower_end(bounds: &[Option<f64>], tail: f64, spread_min: f64) -> Option<f64> {
    match bounds.iter().copied().collect::<Option<Vec<f64>>>() {
        Some(values) => Some(student(&values, tail, spread_min)),
        None => sign_test(bounds, tail),
    }
}

fn student(values: &[f64], tail: f64, spread_min: f64) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let quantile =
        StudentsT::new(0.0, 1.0, n - 1.0).expect("at least two degrees of freedom").inverse_cdf(1.0 - tail);
    mean - quantile * variance.sqrt().max(spread_min) / n.sqrt()
}

/// The k-th smallest, k the largest with P(Binomial(n, 1/2) < k) at most `tail`.
fn sign_test(bounds: &[Option<f64>], tail: f64) -> Option<f64> {
    let coin = Binomial::new(0.5, bounds.len() as u64).expect("one half is a probability");
    let rank = (0..bounds.len()).take_while(|&k| coin.cdf(k as u64) <= tail).count();
    let mut sorted: Vec<f64> = bounds.iter().map(|bound| bound.unwrap_or(f64::NEG_INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    rank.checked_sub(1).map(|index| sorted[index]).filter(|end| end.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(values: &[f64]) -> Vec<Bounded> {
        values.iter().copied().map(Bounded::known).collect()
    }

    #[test]
    fn the_shares_of_all_looks_add_up_to_one() {
        let sum: f64 = (0..100_000).map(share_of_look).sum();
        assert!(sum <= 1.0 && sum > 0.999, "{sum}");
    }

    /// Student's quantile for two degrees of freedom has a closed form: t = (2p-1) sqrt(2 / (4p(1-p))) (Abramowitz and
    /// Stegun 26.7). Mean 2, deviation 1, three values, half of one per cent on two sides.
    #[test]
    fn three_values_by_hand() {
        let p: f64 = 1.0 - 0.01 / 4.0;
        let quantile = (2.0 * p - 1.0) * (2.0 / (4.0 * p * (1.0 - p))).sqrt();
        let [low, high] = anytime_interval(&known(&[1.0, 2.0, 3.0]), 0.99, 0.0);
        assert!((low.unwrap() - (2.0 - quantile / 3.0_f64.sqrt())).abs() < 1e-9);
        assert!((high.unwrap() - (2.0 + quantile / 3.0_f64.sqrt())).abs() < 1e-9);
    }

    #[test]
    fn few_constant_and_bounded_values() {
        assert_eq!(anytime_interval(&known(&[1.0, 1.0]), 0.99, 0.1), [None, None]);
        assert_eq!(anytime_interval(&known(&[1.0; 3]), 0.99, 0.0), [Some(1.0), Some(1.0)]);
        let [low, high] = anytime_interval(&known(&[1.0; 3]), 0.99, 0.1);
        assert!(low.unwrap() < 1.0 && high.unwrap() > 1.0);
        let mut values = known(&[1.0; 5]);
        values[0].high = None;
        assert_eq!(anytime_interval(&values, 0.99, 0.0), [Some(1.0), None]);
    }

    /// P(Binomial(20, 1/2) < k) <= 0.005 / (18 * 19): k = 2 (P(X <= 1) = 21 / 2^20 = 2.0e-5 > 1.5e-5), so k = 1.
    #[test]
    fn a_value_without_bound_leaves_an_order_statistic() {
        let mut values = known(&(0..20).map(f64::from).collect::<Vec<_>>());
        values[19].high = None;
        assert_eq!(anytime_interval(&values, 0.99, 0.0)[1], None);
        let mut values = known(&(0..40).map(f64::from).collect::<Vec<_>>());
        values[39].high = None;
        assert!(anytime_interval(&values, 0.99, 0.0)[1].unwrap() < 39.0);
    }
}
