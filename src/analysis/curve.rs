//! One transfer curve: what mechanism made it, at which rate, after which burst.
//!
//! Pure: the judge sees cumulative in-order bytes over time, as a client reads them, and what little is known beside
//! them. A finding describes; it never accuses.

mod drops;
mod evidence;
mod limit;
mod marks;

use std::time::Duration;

use crate::model::CurvePoint;

pub use drops::PolicedRate;
use marks::{Marks, Steps};

/// What limited a transfer, as far as its curve shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CurveMechanism {
    /// Packets above a rate were dropped.
    Policing,
    /// Packets above a rate waited.
    Shaping,
    /// Packets were dropped whatever the rate.
    Loss,
    /// The transfer went silent for good.
    Freeze,
    /// No limit is visible.
    None,
    /// The causes cannot be told apart.
    Unknown,
}

impl CurveMechanism {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Policing, Self::Shaping, Self::Loss, Self::Freeze, Self::None, Self::Unknown];

    /// The name used in JSON and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policing => "policing",
            Self::Shaping => "shaping",
            Self::Loss => "loss",
            Self::Freeze => "freeze",
            Self::None => "none",
            Self::Unknown => "unknown",
        }
    }
}

impl std::fmt::Display for CurveMechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A number with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The best single value.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// What is known of a transfer beside its curve. Everything may be left at its default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clues {
    /// Round-trip time of the idle path; without it the curve's own first steps serve.
    pub rtt: Option<Duration>,
    /// Highest round-trip time while data flowed.
    pub loaded_rtt: Option<Duration>,
    /// How long we went on listening after the last point without a byte, an end of the stream or a reset. `None` when
    /// the transfer ended as it should, or was cut by us.
    pub silence: Option<Duration>,
}

/// What a curve shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurveFinding {
    /// What limited the transfer.
    pub mechanism: CurveMechanism,
    /// The limit in TCP payload bytes per second.
    pub limit: Option<Estimate>,
    /// Payload bytes that passed before the limit was felt.
    pub burst_bytes: Option<u64>,
    /// How sure the mechanism is, 0 to 1.
    pub confidence: f64,
    /// Probability that packets above a rate were dropped; `None` where the curve is too short to show anything.
    pub policing: Option<f64>,
}

/// Judges one curve: points strictly increase in bytes and never decrease in time.
pub fn classify(points: &[CurvePoint], clues: &Clues) -> CurveFinding {
    if is_frozen(points, clues) {
        return CurveFinding {
            mechanism: CurveMechanism::Freeze,
            limit: None,
            burst_bytes: points.last().map(|point| point.bytes),
            confidence: FREEZE_CONFIDENCE,
            policing: None,
        };
    }
    let Some(rtt) = round_trip(points, clues) else { return CurveFinding::UNKNOWN };
    let Some(steps) = Steps::of(points, rtt) else { return CurveFinding::UNKNOWN };
    let marks = Marks::of(&steps);
    let policing = evidence::of_policing(&marks);
    let (mechanism, confidence) = mechanism(&marks, policing);
    let limit = match mechanism {
        CurveMechanism::Policing | CurveMechanism::Shaping => limit::of(points, rtt),
        _ => None,
    };
    CurveFinding {
        mechanism,
        limit: limit.map(|(limit, _)| limit),
        burst_bytes: limit.map(|(_, burst)| burst),
        confidence,
        policing: Some(policing),
    }
}

/// The rate that limits a transfer, bytes per second, where it is known from elsewhere that one does. Behind a policer the
/// slope of the level over time, by least squares, from the end of the first stall on: unlike the slope between two
/// arrivals it does not count the bucket's refill during the last stall as rate. `None` where the curve is too short.
pub fn rate(points: &[CurvePoint], rtt: Duration, policed: bool) -> Option<f64> {
    let rtt = rtt.as_secs_f64();
    if policed {
        limit::slope_after_stall(points, rtt)
    } else {
        limit::of(points, rtt).map(|(limit, _)| limit.value)
    }
}

/// The rate that one policer gives to all of `transfers` (points, and the round trip of the idle path), from the moments at
/// which its bucket was empty. `None` where too few silences show them.
pub fn policed_rate(transfers: &[(&[CurvePoint], Duration)]) -> Option<PolicedRate> {
    drops::rate(transfers)
}

/// The bytes that came before the first silence of more than a round trip of the idle path; `None` where there was none.
pub fn first_silence(points: &[CurvePoint], rtt: Duration) -> Option<u64> {
    drops::first_silence(points, rtt)
}

impl CurveFinding {
    const UNKNOWN: Self = Self {
        mechanism: CurveMechanism::Unknown,
        limit: None,
        burst_bytes: None,
        confidence: 0.0,
        policing: None,
    };
}

/// Silence that counts as a freeze (design section 5).
const FREEZE_SILENCE: Duration = Duration::from_secs(15);

/// A freeze is this many times longer than the longest gap before it (design section 5).
const FREEZE_GAPS: u32 = 8;

/// One transfer that stops may have a dead server for its cause.
const FREEZE_CONFIDENCE: f64 = 0.9;

/// From this probability on a curve is named policed; chosen on curves that were not fitted to, so that of each other cause
/// about one in a hundred is.
const POLICING_MIN: f64 = 0.6;

/// Above this probability nothing else is named either.
const OTHERS_MAX: f64 = 0.2;

fn is_frozen(points: &[CurvePoint], clues: &Clues) -> bool {
    let longest =
        points.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).max().unwrap_or_default();
    !points.is_empty()
        && clues.silence.is_some_and(|silence| silence >= FREEZE_SILENCE && silence >= longest * FREEZE_GAPS)
}

/// The idle path's round trip in seconds: as measured, else the time to the first byte, which is at least that.
fn round_trip(points: &[CurvePoint], clues: &Clues) -> Option<f64> {
    let rtt = clues.rtt.or_else(|| points.first().map(|point| point.at))?.as_secs_f64();
    (rtt > 0.0).then_some(rtt)
}

/// What the marks say, and how sure that is.
fn mechanism(marks: &Marks, policing: f64) -> (CurveMechanism, f64) {
    if policing >= POLICING_MIN {
        return (CurveMechanism::Policing, policing);
    }
    let otherwise = 1.0 - policing;
    if policing > OTHERS_MAX {
        (CurveMechanism::Unknown, otherwise)
    } else if is_smooth(marks) {
        (CurveMechanism::Shaping, otherwise)
    } else if is_lossy(marks) {
        (CurveMechanism::Loss, otherwise)
    } else if marks.stall_time == 0.0 && marks.trips < 12.0 && marks.growth > 1.6 {
        // The window was still growing when the transfer ended.
        (CurveMechanism::None, otherwise)
    } else {
        (CurveMechanism::Unknown, otherwise)
    }
}

/// A queue hands packets on evenly, at one rate, round trip after round trip.
fn is_smooth(marks: &Marks) -> bool {
    let even = marks.silent <= 0.35 && marks.spread <= -1.6 && marks.stall_time <= 0.1;
    let even_between_repairs =
        marks.silent_between <= 0.15 && marks.spread <= -1.2 && marks.stall_time <= 0.35;
    marks.trips >= 10.0 && (even || even_between_repairs)
}

/// Single losses, repaired within a round trip or two of the idle path, at no steady rate.
fn is_lossy(marks: &Marks) -> bool {
    marks.whole >= 0.2
        && marks.stalls >= 3
        && marks.silent_between >= 0.3
        && marks.crawl <= 0.15
        && marks.spread > -1.9
        && marks.stall_time < 0.6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(curve: impl IntoIterator<Item = (f64, u64)>) -> Vec<CurvePoint> {
        curve.into_iter().map(CurvePoint::from).collect()
    }

    #[test]
    fn an_even_stream_is_shaping_at_its_rate() {
        let curve =
            points((0..400).map(|n| (0.05 + 0.01 * f64::from(n), 1_448 * (u64::try_from(n).unwrap() + 1))));
        let finding = classify(&curve, &Clues { rtt: Some(Duration::from_millis(50)), ..Clues::default() });
        assert_eq!(finding.mechanism, CurveMechanism::Shaping);
        let limit = finding.limit.unwrap();
        assert!((limit.value / 144_800.0 - 1.0).abs() < 0.01, "{limit:?}");
        assert!(limit.low < 144_800.0 && limit.high > 144_800.0, "{limit:?}");
    }

    #[test]
    fn silence_at_the_end_is_a_freeze_only_when_it_outlasts_all_gaps() {
        let curve = points([(0.1, 1_448), (0.2, 10_000), (3.0, 16_000)]);
        let after = |seconds| {
            let clues = Clues { silence: Some(Duration::from_secs(seconds)), ..Clues::default() };
            classify(&curve, &clues).mechanism
        };
        assert_eq!(after(14), CurveMechanism::Unknown);
        assert_eq!(after(20), CurveMechanism::Unknown);
        assert_eq!(after(23), CurveMechanism::Freeze);
        assert_eq!(classify(&curve, &Clues::default()).mechanism, CurveMechanism::Unknown);
    }

    #[test]
    fn nothing_shows_nothing() {
        assert_eq!(classify(&[], &Clues::default()), CurveFinding::UNKNOWN);
        assert_eq!(classify(&points([(0.0, 1)]), &Clues::default()), CurveFinding::UNKNOWN);
    }

    proptest! {
        #[test]
        fn any_curve_has_a_finite_answer(
            steps in prop::collection::vec((0.0..2.0_f64, 1..100_000_u64), 0..300),
            rtt in prop::option::of(0.000_1..1.0_f64),
        ) {
            let (mut at, mut bytes) = (0.0, 0);
            let curve = points(steps.into_iter().map(|(gap, more)| {
                at += gap;
                bytes += more;
                (at, bytes)
            }));
            let finding = classify(&curve, &Clues { rtt: rtt.map(Duration::from_secs_f64), ..Clues::default() });
            prop_assert!((0.0..=1.0).contains(&finding.confidence));
            if let Some(limit) = finding.limit {
                prop_assert!(limit.low <= limit.value && limit.value <= limit.high && limit.high.is_finite());
                prop_assert!(limit.value > 0.0 && limit.low >= 0.0);
            }
        }
    }
}
