//! One transfer curve: what mechanism made it, at which rate, after which burst.
//!
//! Pure: the judge sees cumulative in-order bytes over time, as a client reads them, and what little is known beside
//! them. A finding describes; it never accuses.

use std::time::Duration;

use crate::model::CurvePoint;

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
}

/// Judges one curve: points strictly increase in bytes and never decrease in time.
pub fn classify(points: &[CurvePoint], clues: &Clues) -> CurveFinding {
    let longest = points.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).max();
    let frozen = clues.silence.is_some_and(|silence| {
        silence >= FREEZE_SILENCE && longest.is_some_and(|gap| silence >= gap * FREEZE_GAPS)
    });
    let mechanism = if frozen { CurveMechanism::Freeze } else { CurveMechanism::Unknown };
    CurveFinding { mechanism, limit: None, burst_bytes: None, confidence: 0.0 }
}

/// Silence that counts as a freeze (design section 5).
const FREEZE_SILENCE: Duration = Duration::from_secs(15);

/// A freeze is this many times longer than the longest gap before it (design section 5).
const FREEZE_GAPS: u32 = 8;
