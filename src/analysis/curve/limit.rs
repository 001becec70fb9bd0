//! The rate and the burst that a curve shows.

use crate::model::CurvePoint;

use super::{Estimate, marks::STALL};

/// Spans into which the limited part is cut to see how steady its rate is.
const SPANS: usize = 10;

/// Two-sided 97.5 % point of Student's t with `SPANS - 1` degrees of freedom.
const T: f64 = 2.262;

/// Least relative half-width of an interval that is believed: headers differ by a few bytes from path to path.
const WIDTH_MIN: f64 = 0.01;

/// Bytes above the line that are more than the limit's own unevenness: a few full segments.
const SPENT_MIN: f64 = 4.0 * 1448.0;

/// The limit in bytes per second with its 95 % interval, and the bytes that passed before it was felt.
pub(super) fn of(points: &[CurvePoint], rtt: f64) -> Option<(Estimate, u64)> {
    let at: Vec<f64> = points.iter().map(|point| point.at.as_secs_f64()).collect();
    let bytes: Vec<f64> = points.iter().map(|point| point.bytes as f64).collect();
    let last = points.len() - 1;
    let begin = caught_up(&at, &bytes, felt(&at, rtt).min(points.len() / 2));
    if last < begin + SPANS {
        return None;
    }
    let rate = (bytes[last] - bytes[begin]) / (at[last] - at[begin]);
    if !rate.is_finite() || rate <= 0.0 {
        return None;
    }
    let half = half_width(&at, &bytes, begin, rate).max(WIDTH_MIN) * rate;
    // The burst is how far the curve ever stood above the line of the rate, early on.
    let burst = (0..=begin).map(|index| bytes[index] - rate * (at[index] - at[0])).fold(0.0, f64::max);
    Some((Estimate { value: rate, low: rate - half.min(rate), high: rate + half }, burst as u64))
}

/// The step that ends the first stall: before it the burst passed.
fn felt(at: &[f64], rtt: f64) -> usize {
    at.windows(2).position(|pair| pair[1] - pair[0] > STALL * rtt).map_or(at.len() / 5, |index| index + 1)
}

/// The point from which on the limit alone rules. While the sender was silent the policer's bucket filled, and what follows
/// the stall comes faster until that is spent: for no longer than the silence was, and to where the curve stands highest
/// above the line through its end.
fn caught_up(at: &[f64], bytes: &[f64], begin: usize) -> usize {
    let last = at.len() - 1;
    let until =
        at.partition_point(|&time| time <= at[begin] + silence(at, begin)).min(begin + (last - begin) / 2);
    let mut from = begin;
    // The line falls with each turn, and the point with it hardly moves: a few are enough.
    for _ in 0..4 {
        let rate = (bytes[last] - bytes[from]) / (at[last] - at[from]);
        let above = |index: usize| bytes[index] - rate * at[index];
        let highest = (begin..until).max_by(|&a, &b| above(a).total_cmp(&above(b)));
        match highest.filter(|&highest| above(highest) - above(begin) > SPENT_MIN) {
            Some(highest) if highest != from => from = highest,
            _ => break,
        }
    }
    from
}

/// How long nothing came before this point.
fn silence(at: &[f64], point: usize) -> f64 {
    point.checked_sub(1).map_or(0.0, |before| at[point] - at[before])
}

/// Relative half-width of the mean of rates over equal spans of time (batch means).
fn half_width(at: &[f64], bytes: &[f64], begin: usize, rate: f64) -> f64 {
    let last = at.len() - 1;
    let span = (at[last] - at[begin]) / SPANS as f64;
    let level = |time: f64| bytes[at.partition_point(|&point| point <= time).saturating_sub(1)];
    let rates: Vec<f64> = (0..SPANS)
        .map(|index| {
            let start = at[begin] + index as f64 * span;
            (level(start + span) - level(start)) / span / rate
        })
        .collect();
    let variance = rates.iter().map(|share| (share - 1.0).powi(2)).sum::<f64>() / (SPANS - 1) as f64;

    T * (variance / SPANS as f64).sqrt()
}

/// Moments at which the level is read for [`slope_after_stall`], and the round trips it takes at least.
const MOMENTS: usize = 60;
const ROUND_TRIPS_MIN: f64 = 5.0;

/// The slope of the level over time, by least squares, from where what the first stall gained is spent.
pub(super) fn slope_after_stall(points: &[CurvePoint], rtt: f64) -> Option<f64> {
    let at: Vec<f64> = points.iter().map(|point| point.at.as_secs_f64()).collect();
    if at.len() < 2 * SPANS || rtt <= 0.0 {
        return None;
    }
    let bytes: Vec<f64> = points.iter().map(|point| point.bytes as f64).collect();
    let stalled = felt(&at, rtt).min(at.len() / 2);
    let (start, end) = (at[caught_up(&at, &bytes, stalled)], at[at.len() - 1]);
    let first = at.partition_point(|&time| time < start);
    let later = (first + 1..at.len()).map(|point| silence(&at, point)).fold(0.0, f64::max);
    // What is left must outweigh the silences, or their chance is all there is to see.
    let least = (silence(&at, stalled) / 2.0).max(3.0 * later).max(ROUND_TRIPS_MIN * rtt);
    if end - start < least {
        return None;
    }
    let moments = (0..=MOMENTS).map(|n| start + (end - start) * n as f64 / MOMENTS as f64);
    let seen: Vec<(f64, f64)> = moments
        .map(|time| (time, points[at.partition_point(|&point| point <= time).saturating_sub(1)].bytes as f64))
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| seen.iter().map(of).sum::<f64>() / seen.len() as f64;
    let (time, level) = (mean(|one| one.0), mean(|one| one.1));
    let together: f64 = seen.iter().map(|one| (one.0 - time) * (one.1 - level)).sum();
    let alone: f64 = seen.iter().map(|one| (one.0 - time).powi(2)).sum();
    Some(together / alone).filter(|slope| slope.is_finite() && *slope > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CurvePoint;

    /// 16 KB at once, 1.4 s of silence, then what a bucket of 16 KB/s gained in the last 0.9 s of it, then its rate.
    #[test]
    fn what_a_silence_gained_is_no_part_of_the_rate() {
        let rate = 16_000.0;
        let mut curve = vec![(0.03, 1448), (0.035, 16_000)];
        curve.extend((0..10).map(|n| (1.45 + 0.01 * f64::from(n), 16_000 + 1_448 * (n as u64 + 1))));
        curve.extend((1..40).map(|n| (1.6 + f64::from(n) * 1_448.0 / rate, 30_480 + 1_448 * n as u64)));
        let points: Vec<CurvePoint> = curve.into_iter().map(CurvePoint::from).collect();
        let (limit, _) = of(&points, 0.03).unwrap();
        assert!((limit.value / rate - 1.0).abs() < 0.05, "{limit:?}");
    }
}
