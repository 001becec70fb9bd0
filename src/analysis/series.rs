//! Over time: onset, end and share of interference in a series of paired tests.
//!
//! One [`SeriesDetector`] watches one (vantage, target, comparison). It multiplies e-values per counted test, starting
//! afresh whenever the product falls below one (an e-detector, Shin, Ramdas and Rinaldo 2023), and raises an alarm when
//! it reaches the run length: the average number of tests between false alarms is at least that. Within an incident the
//! same is done the other way round. `docs/method/series.md` has assumptions, guarantees and how they were checked.

mod detector;
mod evidence;
mod future;
mod incident;
mod judge;
mod moment;

pub use detector::{Part, SeriesDetector, SeriesEvent, Settings};
pub use evidence::{Observed, PairedTest, Sample};
pub use future::bring_incident_back;
pub use judge::{CANARY_SUFFIX, judge};

/// Shortest average run length between false alarms, in counted tests of all series together.
pub const RUN_LENGTH: f64 = 100_000.0;

/// False incidents among all tests of a recording that are to be expected at most.
pub const EXPECTED_FALSE: f64 = 0.3;

/// A control below this part of its usual goodput is slow: nothing can be said of the subject then.
const CONTROL_SLOW: f64 = 0.125;
