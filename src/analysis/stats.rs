//! Statistics that several judges share: order statistics, exact intervals for few values, exact bounds for counts.
//!
//! Every function names its source, its assumption, and what it does with empty, single and constant input. Nothing
//! here knows what the numbers mean.

mod counts;
mod interval;

pub use counts::clopper_pearson;
pub use interval::{
    Bounded, INTERVAL_VALUES_MIN, Interval, IntervalPart, centre_interval, difference_interval,
};

/// The middle value; the mean of the two middle ones for an even count. `None` for no values; NaN must not occur.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_none_one_and_many() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
