//! The transfer curve: cumulative bytes over time, bounded in size.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most points a curve holds. A 128 KiB transfer is about ninety segments, so that ordinary transfers are kept whole.
pub const CURVE_POINTS_MAX: usize = 512;

/// TCP payload read from the socket over time, counted and timed from the moment the (first) request was sent.
///
/// Points strictly increase in bytes and never decrease in time. When more than [`CURVE_POINTS_MAX`] arrive the curve is
/// thinned evenly in logarithmic time; the last point is always kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransferCurve {
    points: Vec<CurvePoint>,
}

/// One point of a curve: `bytes` had come when `at` had passed. In JSON `[seconds, bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(f64, u64)", into = "(f64, u64)")]
pub struct CurvePoint {
    /// Time since the first request was sent.
    pub at: Duration,
    /// TCP payload read by then, in bytes.
    pub bytes: u64,
}

impl From<(f64, u64)> for CurvePoint {
    fn from((seconds, bytes): (f64, u64)) -> Self {
        let nanoseconds = (seconds.max(0.0) * 1e9).round();
        Self { at: Duration::from_nanos(nanoseconds as u64), bytes }
    }
}

impl From<CurvePoint> for (f64, u64) {
    fn from(point: CurvePoint) -> Self {
        (point.at.as_secs_f64(), point.bytes)
    }
}

impl TransferCurve {
    /// Adds what had come by `at`. A point that adds no byte is ignored; one that steps back in time (it cannot on a
    /// monotonic clock, a recording may) is moved up to the previous one.
    pub fn push(&mut self, at: Duration, bytes: u64) {
        if let Some(last) = self.points.last_mut() {
            if bytes <= last.bytes {
                return;
            }
            if at <= last.at {
                last.bytes = bytes;
                return;
            }
        } else if bytes == 0 {
            return;
        }
        if self.points.len() == CURVE_POINTS_MAX {
            self.thin();
        }
        self.points.push(CurvePoint { at, bytes });
    }

    /// The points, oldest first.
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    /// All bytes of the curve; zero when nothing came.
    pub fn bytes(&self) -> u64 {
        self.points.last().map_or(0, |point| point.bytes)
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// When the first `bytes` had come, by the first point at or past them.
    pub fn time_of(&self, bytes: u64) -> Option<Duration> {
        let index = self.points.partition_point(|point| point.bytes < bytes);
        self.points.get(index).map(|point| point.at)
    }

    /// The longest silence between two points.
    pub fn longest_gap(&self) -> Option<Duration> {
        self.points.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).max()
    }

    /// Halves the curve: keeps the last point of each of `CURVE_POINTS_MAX / 2` bands of equal width in log time.
    fn thin(&mut self) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return };
        let log = |at: Duration| at.max(Duration::from_micros(1)).as_secs_f64().ln();
        let (start, span) = (log(first.at), (log(last.at) - log(first.at)).max(f64::MIN_POSITIVE));
        let bands = (CURVE_POINTS_MAX / 2) as f64;
        let band = |point: &CurvePoint| ((log(point.at) - start) / span * (bands - 1.0)) as usize;
        let mut kept: Vec<CurvePoint> = Vec::with_capacity(CURVE_POINTS_MAX);
        for point in &self.points {
            match kept.last_mut() {
                Some(previous) if band(previous) == band(point) => *previous = *point,
                _ => kept.push(*point),
            }
        }
        self.points = kept;
    }
}

impl FromIterator<(Duration, u64)> for TransferCurve {
    fn from_iter<I: IntoIterator<Item = (Duration, u64)>>(points: I) -> Self {
        let mut curve = Self::default();
        points.into_iter().for_each(|(at, bytes)| curve.push(at, bytes));
        curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn stays_bounded_and_keeps_both_ends() {
        let curve: TransferCurve = (1..=100_000).map(|n| (milliseconds(n), n * 1_448)).collect();
        assert!(curve.points().len() <= CURVE_POINTS_MAX);
        assert!(curve.points().len() >= CURVE_POINTS_MAX / 8, "{} points left", curve.points().len());
        assert_eq!(curve.bytes(), 144_800_000);
        assert!(curve.points()[0].at <= milliseconds(3));
    }

    #[test]
    fn is_strictly_monotone_whatever_comes() {
        let curve: TransferCurve = [(5, 10), (4, 20), (9, 20), (9, 15), (10, 30)]
            .map(|(t, bytes)| (milliseconds(t), bytes))
            .into_iter()
            .collect();
        assert_eq!(curve.points().len(), 2);
        assert!(
            curve.points().windows(2).all(|pair| pair[0].bytes < pair[1].bytes && pair[0].at < pair[1].at)
        );
        assert_eq!(curve.time_of(20), Some(milliseconds(5)));
        assert_eq!(curve.time_of(31), None);
        assert_eq!(curve.longest_gap(), Some(milliseconds(5)));
    }
}
