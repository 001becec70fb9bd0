//! The rate and the burst that a curve shows.

use crate::model::CurvePoint;

use super::{Estimate, marks::STALL};

/// Spans into which the limited part is cut to see how steady its rate is.
const SPANS: usize = 10;

/// Two-sided 97.5 % point of Student's t with `SPANS - 1` degrees of freedom.
const T: f64 = 2.262;

/// Least relative half-width of an interval that is believed: headers differ by a few bytes from path to path.
const WIDTH_MIN: f64 = 0.01;

/// The limit in bytes per second with its 95 % interval, and the bytes that passed before it was felt.
pub(super) fn of(points: &[CurvePoint], rtt: f64) -> Option<(Estimate, u64)> {
    let at: Vec<f64> = points.iter().map(|point| point.at.as_secs_f64()).collect();
    let bytes: Vec<f64> = points.iter().map(|point| point.bytes as f64).collect();
    let begin = felt(&at, rtt).min(points.len() / 2);
    let last = points.len() - 1;
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

pub(super) fn slope_after_stall(points: &[CurvePoint], rtt: f64) -> Option<f64> {
    let at: Vec<f64> = points.iter().map(|point| point.at.as_secs_f64()).collect();
    if at.len() < 2 * SPANS || rtt <= 0.0 {
        return None;
    }
    let (start, end) = (at[felt(&at, rtt)], at[at.len() - 1]);
    if end - start < ROUND_TRIPS_MIN * rtt {
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
