//! A policer's rate from the moments at which its bucket was empty.
//!
//! A policer drops a packet only when its bucket holds less than that packet. A client sees the drop as a silence: what
//! comes behind the hole waits in the kernel until the hole is filled. So at the beginning of two silences the bucket was
//! empty, and what came between them is what it gained: rate times time, whatever TCP did in between. Silences that have
//! another cause (loss on the line, a full bucket that gains nothing more) make some of these slopes wrong, so that the
//! median of all of them counts, weighed by time.

use std::time::Duration;

use crate::{analysis::stats::median, model::CurvePoint};

/// A silence is longer than so many round trips of the idle path: a window that is over is followed by the next after one.
const SILENCE: f64 = 1.5;

/// ... and longer than what our own machine may add.
const SILENCE_SECONDS_MIN: f64 = 0.02;

/// Between two silences at least so much must have come, so that one segment more or less does not matter, ...
const BYTES_MIN: f64 = 6.0 * 1448.0;

/// ... over so many round trips.
const ROUND_TRIPS_MIN: f64 = 3.0;

/// A bucket that gains nearly all that it holds in every silence would gain more in a longer one, or did already.
const OVERFLOWING: f64 = 0.8;

/// What the drops of one policer say, over all transfers that it held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicedRate {
    /// TCP payload in bytes per second.
    pub bytes_per_second: f64,
    /// The sender is silent for longer than the bucket takes to fill: what it would have gained in the rest is lost, and the
    /// true rate may be higher.
    pub overflows: bool,
}

/// From the points of each transfer and the round trip of its idle path; `None` where nowhere two silences, far enough
/// apart, were seen.
pub(super) fn rate(transfers: &[(&[CurvePoint], Duration)]) -> Option<PolicedRate> {
    let begins: Vec<(Vec<Begin>, f64)> =
        transfers.iter().map(|&(points, rtt)| (begins(points, rtt), rtt.as_secs_f64())).collect();
    let mut slopes: Vec<(f64, f64)> = begins.iter().flat_map(|(begins, rtt)| slopes(begins, *rtt)).collect();
    slopes.sort_by(|one, other| one.0.total_cmp(&other.0));
    let half = slopes.iter().map(|(_, seconds)| seconds).sum::<f64>() / 2.0;
    let mut before = 0.0;
    let middle = slopes.iter().find(|(_, seconds)| {
        before += seconds;
        before >= half
    });
    let bytes_per_second = middle?.0;
    let silences: Vec<f64> = begins.iter().flat_map(|(all, _)| all.iter().map(|one| one.silence)).collect();
    let bursts: Vec<f64> = begins.iter().filter_map(|(all, _)| Some(all.first()?.bytes)).collect();
    let gained = median(&silences)? * bytes_per_second;
    Some(PolicedRate { bytes_per_second, overflows: gained > OVERFLOWING * median(&bursts)? })
}

/// The bytes that came before the first silence.
pub(super) fn first_silence(points: &[CurvePoint], rtt: Duration) -> Option<u64> {
    begins(points, rtt).first().map(|begin| begin.bytes as u64)
}

/// Where a silence begins.
struct Begin {
    at: f64,
    bytes: f64,
    /// How long it lasts.
    silence: f64,
}

fn begins(points: &[CurvePoint], rtt: Duration) -> Vec<Begin> {
    let long = (SILENCE * rtt.as_secs_f64()).max(SILENCE_SECONDS_MIN);
    let begin = |pair: &[CurvePoint]| Begin {
        at: pair[0].at.as_secs_f64(),
        bytes: pair[0].bytes as f64,
        silence: pair[1].at.saturating_sub(pair[0].at).as_secs_f64(),
    };
    points.windows(2).map(begin).filter(|begin| begin.silence > long).collect()
}

/// Bytes per second, and seconds, between any two beginnings of silences.
fn slopes(begins: &[Begin], rtt: f64) -> Vec<(f64, f64)> {
    let mut slopes = Vec::new();
    for (index, first) in begins.iter().enumerate() {
        for second in &begins[index + 1..] {
            let (seconds, bytes) = (second.at - first.at, second.bytes - first.bytes);
            if bytes >= BYTES_MIN && seconds > ROUND_TRIPS_MIN * rtt {
                slopes.push((bytes / seconds, seconds));
            }
        }
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1448;

    /// A bucket of 8 segments that gains 10 a second, and a sender that is silent for so long after each drop, and then
    /// sends until the next one.
    fn policed(silences: &[f64]) -> Vec<CurvePoint> {
        let (mut at, mut bytes, mut tokens) = (0.03, 0, 8.0_f64);
        let mut points = Vec::new();
        for silence in silences {
            while tokens >= 1.0 {
                tokens -= 1.0;
                bytes += SEGMENT;
                points.push(CurvePoint::from((at, bytes)));
                at += 0.001;
                tokens += 0.01;
            }
            at += silence;
            tokens = (tokens + 10.0 * silence).min(8.0);
        }
        points
    }

    #[test]
    fn what_came_between_two_empty_buckets_is_the_rate() {
        let curve = policed(&[0.3, 0.6, 0.3, 0.7, 0.6, 0.3, 0.6, 0.3]);
        let found = rate(&[(&curve, Duration::from_millis(30))]).unwrap();
        assert!((found.bytes_per_second / (10.0 * SEGMENT as f64) - 1.0).abs() < 0.1, "{found:?}");
        assert!(!found.overflows, "{found:?}");
    }

    #[test]
    fn a_bucket_that_overflows_hides_a_part_of_its_rate() {
        let found = rate(&[(&policed(&[1.6; 8]), Duration::from_millis(30))]).unwrap();
        assert!(found.bytes_per_second < 8.0 * SEGMENT as f64, "{found:?}");
        assert!(found.overflows, "{found:?}");
    }

    #[test]
    fn a_stream_without_silences_shows_no_bucket() {
        let even: Vec<CurvePoint> =
            (1..200).map(|n| CurvePoint::from((0.01 * n as f64, SEGMENT * n))).collect();
        assert_eq!(rate(&[(&even, Duration::from_millis(30))]), None);
        assert_eq!(rate(&[(&[], Duration::ZERO)]), None);
        assert_eq!(rate(&[]), None);
    }
}
