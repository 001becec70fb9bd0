//! An interval for the centre of a few values, some of them only bounded, that may be looked at after every value.

use statrs::distribution::{ContinuousCDF, StudentsT};

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

    /// The difference to another.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let low = self.low.zip(other.high).map(|(low, high)| low - high);
        let high = self.high.zip(other.low).map(|(high, low)| high - low);
        Self { low, high }
    }
}

/// An interval for a centre; `None` where the data do not bound it.
pub type Interval = [Option<f64>; 2];

/// What [`difference_interval`] has beside Student's interval of the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalPart {
    /// Two independent samples, below six pairs.
    Welch,
    /// The mean without the outer quarters, at six and seven pairs.
    Trimmed,
    /// Ranks, from eight pairs on.
    Ranks,
}

/// At how many values one looks, and the share of the error probability that each look spends. The early looks get
/// most, because most rounds end there, and the last of an ordinary round its part; the shares, with those of the doublings
/// of sixty (half of the one before each), add up to one.
const LOOKS: [(usize, f64); 12] = [
    (3, 0.25),
    (4, 0.12),
    (5, 0.08),
    (6, 0.07),
    (8, 0.10),
    (12, 0.10),
    (16, 0.07),
    (20, 0.05),
    (24, 0.03),
    (30, 0.03),
    (42, 0.02),
    (60, 0.04),
];

/// From so many values on differences are taken pair by pair, and a part of the error probability goes to the trimmed
/// mean: with fewer, too few degrees of freedom would be left.
const PAIRED_FROM: usize = 6;

/// From so many pairs on ranks are used as well: with fewer, no order of the values is improbable enough.
const RANKED_FROM: usize = 8;

/// Pairs beyond this many are left to Student's interval alone.
const RANKED_AT_MOST: usize = 60;

/// The least number of values that gives an interval: two differ by chance alone.
pub const INTERVAL_VALUES_MIN: usize = LOOKS[0].0;

/// An interval that covers the centre of `values` with probability `confidence` at every look together, so that one may
/// look after each value and stop when the interval is narrow enough.
///
/// By the union bound: each look is an ordinary interval at its own share of the error probability. Between two looks the
/// earlier one's values count. At a look it is Student's interval ("The probable error of a mean", Biometrika 6, 1908),
/// exact for normal values and conservative for symmetric ones with heavier tails (Benjamini, JASA 78, 1983); from six
/// values on the intersection, at half the error each, of Student's and of the interval around the mean without the
/// lowest and the highest quarter (Tukey and McLaughlin, Sankhya A 25, 1963), for lines where one value in five is a stall.
///
/// A value bounded from below enters the lower end as its bound, which lies at or below the truth, and the upper end as
/// infinite; the same the other way round. An infinite value spoils a mean, but not a trimmed one.
///
/// Assumes that the values are independent and about symmetric around the centre. `spread_min` is the least standard
/// deviation believed, so that a few values that agree by rounding do not feign certainty. Fewer than three values give
/// `[None, None]`, constant ones the width that `spread_min` gives.
pub fn centre_interval(values: &[Bounded], confidence: f64, spread_min: f64) -> Interval {
    let Some((n, tail)) = last_look(values.len(), confidence) else { return [None, None] };
    let around =
        |cut: usize, tail: f64| both_ends(&values[..n], |lows| trimmed_end(&lows, cut, tail, spread_min));
    if n < PAIRED_FROM { around(0, tail) } else { both(around(0, tail / 2.0), around(n / 4, tail / 2.0)) }
}

/// The same for the centre of first minus second of `pairs`. With fewer than six pairs the two sides are taken as
/// independent samples (Welch, Biometrika 34, 1947), which has twice the degrees of freedom; what the members of a pair
/// have in common then widens it. With six and seven it is [`centre_interval`] of the differences. From eight on it is
/// the intersection, at half the error each, of Student's interval of the differences, for lines that drift, and of the
/// shift that ranks allow, for lines with stalls. `without` leaves a part out; Student's interval of the differences
/// then stands in its place, or alone.
pub fn difference_interval(
    pairs: &[[Bounded; 2]],
    confidence: f64,
    spread_min: f64,
    without: Option<IntervalPart>,
) -> Interval {
    let Some((n, tail)) = last_look(pairs.len(), confidence) else { return [None, None] };
    let differences: Vec<Bounded> = pairs.iter().map(|[one, other]| one.minus(*other)).collect();
    let student = |tail: f64| both_ends(&differences[..n], |lows| trimmed_end(&lows, 0, tail, spread_min));
    let part = match n {
        RANKED_FROM.. => IntervalPart::Ranks,
        PAIRED_FROM.. => IntervalPart::Trimmed,
        _ => IntervalPart::Welch,
    };
    if without == Some(part) {
        return student(tail);
    }
    if part == IntervalPart::Ranks {
        return both(student(tail / 2.0), shift_interval(&pairs[..n.min(RANKED_AT_MOST)], tail / 2.0));
    }
    if part == IntervalPart::Trimmed {
        return centre_interval(&differences, confidence, spread_min);
    }
    let end = |one: fn(&Bounded) -> Option<f64>, other: fn(&Bounded) -> Option<f64>, sign: f64| {
        let column = |index: usize, bound: fn(&Bounded) -> Option<f64>| -> Option<Vec<f64>> {
            pairs[..n].iter().map(|pair| bound(&pair[index]).map(|value| value * sign)).collect()
        };
        Some(sign * welch_end(&column(0, one)?, &column(1, other)?, tail, spread_min))
    };
    [end(|one| one.low, |other| other.high, 1.0), end(|one| one.high, |other| other.low, -1.0)]
}

/// The shift between two samples of one shape by Mann and Whitney's test (Ann. Math. Stat. 18, 1947), inverted as Moses
/// and Lehmann do: the k-th smallest and largest of all differences, exact for any shape of the scatter; `tail` is the
/// error probability of each end. A bounded value enters with its bound, an unbounded one as infinite.
fn shift_interval(pairs: &[[Bounded; 2]], tail: f64) -> Interval {
    let Some(skip) = ranks_to_skip(pairs.len(), tail) else { return [None, None] };
    let end = |one: fn(&Bounded) -> Option<f64>, other: fn(&Bounded) -> Option<f64>, sign: f64| {
        let column = |index: usize, bound: fn(&Bounded) -> Option<f64>, unbounded: f64| -> Vec<f64> {
            pairs.iter().map(|pair| bound(&pair[index]).map_or(unbounded, |value| value * sign)).collect()
        };
        let (ones, others) = (column(0, one, f64::NEG_INFINITY), column(1, other, f64::INFINITY));
        let mut differences: Vec<f64> =
            ones.iter().flat_map(|one| others.iter().map(move |other| one - other)).collect();
        differences.sort_by(f64::total_cmp);
        Some(sign * differences[skip]).filter(|end| end.is_finite())
    };
    [end(|one| one.low, |other| other.high, 1.0), end(|one| one.high, |other| other.low, -1.0)]
}

/// How many of the differences of two samples of `n` may be left out at each end: the largest k with P(U < k) at most
/// `tail` where both are alike; `None` where even the outermost difference is too probable.
fn ranks_to_skip(n: usize, tail: f64) -> Option<usize> {
    let most = n * n;
    // Ways to reach each U: the Gaussian binomial coefficient, a product of (1 - q^(n+i)) / (1 - q^i).
    let mut ways = vec![0.0_f64; most + 1];
    ways[0] = 1.0;
    for i in 1..=n {
        for u in (n + i..=most).rev() {
            ways[u] -= ways[u - n - i];
        }
        for u in i..=most {
            ways[u] += ways[u - i];
        }
    }
    let all: f64 = ways.iter().sum();
    let mut below = 0.0;
    let probable = ways.iter().take_while(|&&ways| {
        below += ways / all;
        below <= tail
    });
    probable.count().checked_sub(1)
}

/// The largest look that so many values allow, and the error probability of one of its ends.
fn last_look(count: usize, confidence: f64) -> Option<(usize, f64)> {
    let (n, share) = looks().take_while(|&(n, _)| n <= count).last()?;
    Some((n, (1.0 - confidence) * share / 2.0))
}

/// The looks: number of values and share of the error probability, without end.
fn looks() -> impl Iterator<Item = (usize, f64)> {
    let (last, share) = LOOKS[LOOKS.len() - 1];
    LOOKS.into_iter().chain((1..24).map(move |k| (last << k, share / f64::from(1 << k))))
}

/// What both intervals hold. Where they have nothing in common, as for values of two kinds that have no one centre, what lies
/// between is held by neither, and all of both counts.
fn both(one: Interval, other: Interval) -> Interval {
    let pick = |index: usize, of: fn(f64, f64) -> f64| match (one[index], other[index]) {
        (Some(one), Some(other)) => Some(of(one, other)),
        (one, other) => one.or(other),
    };
    match [pick(0, f64::max), pick(1, f64::min)] {
        [Some(low), Some(high)] if low > high => {
            let widest = |index: usize, of: fn(f64, f64) -> f64| Some(of(one[index]?, other[index]?));
            [widest(0, f64::min), widest(1, f64::max)]
        }
        common => common,
    }
}

/// Both ends from a function that gives the lower one: the upper end is the lower one of the negatives.
fn both_ends(values: &[Bounded], lower: impl Fn(Vec<f64>) -> f64) -> Interval {
    let end = |bound: fn(&Bounded) -> Option<f64>| {
        let mut bounds: Vec<f64> =
            values.iter().map(|value| bound(value).unwrap_or(f64::NEG_INFINITY)).collect();
        bounds.sort_by(f64::total_cmp);
        Some(lower(bounds)).filter(|end| end.is_finite())
    };
    [end(|value| value.low), end(|value| value.high.map(|high| -high)).map(|end| -end)]
}

/// Lower end around the mean of sorted values without `cut` on either side; with `cut` 0 Student's. The standard error is
/// that of the winsorised values (Tukey and McLaughlin 1963). Negative infinity where an infinite value remains.
fn trimmed_end(values: &[f64], cut: usize, tail: f64, spread_min: f64) -> f64 {
    let n = values.len();
    let kept = &values[cut..n - cut];
    if kept[0] == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let h = kept.len() as f64;
    let mean = kept.iter().sum::<f64>() / h;
    let winsorised = |value: &f64| value.clamp(kept[0], kept[kept.len() - 1]);
    let centre = values.iter().map(winsorised).sum::<f64>() / n as f64;
    let squares = values.iter().map(|value| (winsorised(value) - centre).powi(2)).sum::<f64>();
    let error = (squares / (h * (h - 1.0))).sqrt().max(spread_min / (n as f64).sqrt());
    mean - student_quantile(h - 1.0, tail) * error
}

/// Lower end of the difference of two means (Welch 1947), with the degrees of freedom of the smaller sample at least.
fn welch_end(one: &[f64], other: &[f64], tail: f64, spread_min: f64) -> f64 {
    let n = one.len() as f64;
    let moments = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((mean_one, error_one), (mean_other, error_other)) = (moments(one), moments(other));
    let squared = error_one + error_other;
    let freedom = if squared > 0.0 {
        squared.powi(2) * (n - 1.0) / (error_one.powi(2) + error_other.powi(2))
    } else {
        n - 1.0
    };
    let error = squared.sqrt().max(spread_min / n.sqrt());
    mean_one - mean_other - student_quantile(freedom.clamp(n - 1.0, 2.0 * n - 2.0), tail) * error
}

fn student_quantile(freedom: f64, tail: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom).expect("two values give a degree of freedom").inverse_cdf(1.0 - tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(values: &[f64]) -> Vec<Bounded> {
        values.iter().copied().map(Bounded::known).collect()
    }

    #[test]
    fn the_shares_of_all_looks_add_up_to_one() {
        let sum: f64 = looks().map(|(_, share)| share).sum();
        assert!(sum <= 1.0 + 1e-12 && sum > 0.999, "{sum}");
        assert!(looks().zip(looks().skip(1)).all(|(one, next)| one.0 < next.0));
    }

    /// Student's quantile for two degrees of freedom has a closed form: t = (2p-1) sqrt(2 / (4p(1-p))) (Abramowitz and
    /// Stegun 26.7). Mean 2, deviation 1, three values, a quarter of one per cent on two sides.
    #[test]
    fn three_values_by_hand() {
        let p: f64 = 1.0 - 0.01 * 0.25 / 2.0;
        let quantile = (2.0 * p - 1.0) * (2.0 / (4.0 * p * (1.0 - p))).sqrt();
        let [low, high] = centre_interval(&known(&[1.0, 3.0, 2.0]), 0.99, 0.0);
        assert!((low.unwrap() - (2.0 - quantile / 3.0_f64.sqrt())).abs() < 1e-6, "{low:?} {quantile}");
        assert!((high.unwrap() - (2.0 + quantile / 3.0_f64.sqrt())).abs() < 1e-6);
    }

    /// Eight values, two cut on either side: kept 3, 4, 5, 6, winsorised 3 3 3 4 5 6 6 6, squares about 4.5 sum to 14,
    /// error sqrt(14 / 12), three degrees of freedom.
    #[test]
    fn a_trimmed_mean_by_hand() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 800.0];
        let student = StudentsT::new(0.0, 1.0, 3.0).unwrap().inverse_cdf(0.99);
        let end = trimmed_end(&values, 2, 0.01, 0.0);
        assert!((end - (4.5 - student * (14.0_f64 / 12.0).sqrt())).abs() < 1e-9, "{end}");
        assert!((student - 4.540_703).abs() < 1e-5, "R: qt(0.99, 3); here {student}");
    }

    /// Welch's own arithmetic: means 2 and 5, squared errors 1/3 and 4/3, freedom (5/3)^2 * 2 / (1/9 + 16/9) = 2.941.
    #[test]
    fn two_samples_by_hand() {
        let freedom: f64 = (25.0 / 9.0) * 2.0 / (17.0 / 9.0);
        let end = welch_end(&[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0], 0.01, 0.0);
        let expected = -3.0 - student_quantile(freedom, 0.01) * (5.0_f64 / 3.0).sqrt();
        assert!((end - expected).abs() < 1e-9, "{end}, not {expected}");
        assert!(
            (student_quantile(2.941_176, 0.01) - 4.605).abs() < 0.01,
            "between R's qt(0.99, 2) = 6.965 and qt(0.99, 3) = 4.541"
        );
    }

    /// Of C(16, 8) = 12870 orders one has U = 0, one U = 1, two U = 2; printed tables have 16 as the critical U of two
    /// samples of ten at a half per cent on one side.
    #[test]
    fn ranks_agree_with_printed_tables() {
        let skip = |n, orders: f64| ranks_to_skip(n, (orders + 0.5) / 12_870.0);
        assert_eq!(
            [skip(8, 0.0), skip(8, 1.0), skip(8, 2.0), skip(8, 4.0)],
            [None, Some(0), Some(1), Some(2)]
        );
        assert_eq!(ranks_to_skip(10, 0.005), Some(16));
    }

    /// Of large samples U is nearly normal, with mean n² / 2 and variance n² (2n + 1) / 12 (Mann and Whitney 1947).
    #[test]
    fn ranks_of_large_samples_are_nearly_normal() {
        for tail in [0.05, 0.001] {
            let n = RANKED_AT_MOST as f64;
            let normal = statrs::distribution::Normal::new(0.0, 1.0).unwrap().inverse_cdf(tail);
            let expected = n * n / 2.0 + normal * (n * n * (2.0 * n + 1.0) / 12.0).sqrt();
            let skip = ranks_to_skip(RANKED_AT_MOST, tail).unwrap() as f64;
            assert!((skip - expected).abs() < 10.0, "{skip}, not {expected}");
        }
    }

    /// Eight against eight, the slow side ten later throughout: all differences lie between 3 and 17, and the shift's
    /// interval holds ten. One stall does not widen it.
    #[test]
    fn a_shift_by_ranks() {
        let mut pairs: Vec<[Bounded; 2]> =
            (0..8).map(|n| [10.0 + f64::from(n), f64::from((3 * n) % 8)].map(Bounded::known)).collect();
        let before = shift_interval(&pairs, 0.01).map(Option::unwrap);
        assert!(before[0] > 3.0 && before[0] < 10.0 && before[1] > 10.0 && before[1] < 17.0, "{before:?}");
        pairs[7][0] = Bounded { low: Some(1e6), high: None };
        let after = shift_interval(&pairs, 0.01).map(Option::unwrap);
        assert!(after[1] < 17.0, "{after:?}");
    }

    #[test]
    fn a_difference_has_bounds_on_both_sides() {
        let pair = |one: f64, other: f64| [Bounded::known(one), Bounded::known(other)];
        let mut pairs: Vec<[Bounded; 2]> = (0..8).map(|n| pair(3.0 + 0.1 * f64::from(n % 3), 1.0)).collect();
        for n in [3, 4, 5, 6] {
            let [low, high] = difference_interval(&pairs[..n], 0.99, 0.0, None).map(Option::unwrap);
            assert!(low < 2.1 && high > 2.1 && low > 0.9 && high < 3.3, "{n}: {low} to {high}");
        }
        pairs[0][0].high = None;
        let [low, high] = difference_interval(&pairs[..4], 0.99, 0.0, None);
        assert!(low.is_some() && high.is_none());
        pairs[0][1].high = None;
        assert_eq!(difference_interval(&pairs[..4], 0.99, 0.0, None), [None, None]);
    }

    /// A quarter of them ten times slower: the mean says 1.8 times, the ranks no change, each with little doubt.
    #[test]
    fn an_interval_has_its_ends_in_order() {
        let pair = |n: usize| {
            let slow = if n.is_multiple_of(4) { 10.0_f64.ln() } else { 0.0 };
            [Bounded::known(slow + 1e-3 * (n % 7) as f64), Bounded::known(1e-3 * (n % 5) as f64)]
        };
        let pairs: Vec<[Bounded; 2]> = (0..60).map(pair).collect();
        let [low, high] = difference_interval(&pairs, 0.99, 0.0, None).map(Option::unwrap);
        assert!(low < 0.01 && high > 0.9, "{low} to {high}");
        assert_eq!(both([Some(0.0), Some(1.0)], [Some(0.5), None]), [Some(0.5), Some(1.0)]);
        assert_eq!(both([Some(0.0), Some(1.0)], [Some(2.0), None]), [Some(0.0), None]);
    }

    #[test]
    fn few_constant_and_bounded_values() {
        assert_eq!(centre_interval(&known(&[1.0, 1.0]), 0.99, 0.1), [None, None]);
        assert_eq!(centre_interval(&known(&[1.0; 3]), 0.99, 0.0), [Some(1.0), Some(1.0)]);
        let [low, high] = centre_interval(&known(&[1.0; 3]), 0.99, 0.1);
        assert!(low.unwrap() < 1.0 && high.unwrap() > 1.0);
        let mut values = known(&[1.0; 5]);
        values[0].high = None;
        assert_eq!(centre_interval(&values, 0.99, 0.0), [Some(1.0), None]);
    }

    #[test]
    fn between_two_looks_the_earlier_one_counts() {
        let values = known(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1000.0]);
        assert_eq!(centre_interval(&values, 0.99, 0.0), centre_interval(&values[..6], 0.99, 0.0));
    }

    #[test]
    fn an_infinite_value_leaves_the_trimmed_mean() {
        let mut values = known(&[1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, 1.1]);
        values[3].high = None;
        let high = centre_interval(&values, 0.99, 0.0)[1].unwrap();
        assert!(high > 1.0 && high < 3.0, "{high}");
        values[4].high = None;
        values[5].high = None;
        assert_eq!(centre_interval(&values, 0.99, 0.0)[1], None);
    }
}
