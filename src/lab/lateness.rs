//! How late the laboratory itself was: a lab that is late makes lines slower than they claim, and results from it are
//! to be marked.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A lab is overloaded when one packet in a hundred leaves later than this: well under any round-trip time it emulates.
const LATE_P99: Duration = Duration::from_millis(2);
/// Or when any packet leaves later than this: the bound over which a probe may not accuse.
const LATE_MAX: Duration = crate::model::LATENESS_MAX;

/// Times between the moment at which a packet was due and the moment at which it left.
#[derive(Debug)]
pub(super) struct Lateness {
    microseconds: Histogram<u64>,
    /// Packets that a device would not take.
    refused: u64,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatenessReport {
    /// Packets forwarded.
    pub packets: u64,
    /// Latest of all, seconds.
    pub max_s: f64,
    /// One in a hundred was later, seconds.
    pub p99_s: f64,
    /// Half were later, seconds.
    pub median_s: f64,
    /// Packets that a device would not take.
    pub refused: u64,
    /// Results from this run say more about the machine than about the line.
    pub overloaded: bool,
}

impl Lateness {
    pub(super) fn new() -> Self {
        /// One minute in microseconds; later than that is counted as that.
        const MOST: u64 = 60_000_000;
        let microseconds =
            Histogram::new_with_bounds(1, MOST, 2).expect("1 to a minute at two digits is valid");
        Self { microseconds, refused: 0 }
    }

    pub(super) fn record(&mut self, late: Duration) {
        self.microseconds.saturating_record(late.as_micros() as u64);
    }

    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    pub(super) fn report(&self) -> LatenessReport {
        let seconds = |microseconds: u64| microseconds as f64 / 1e6;
        let (max, p99) = (self.microseconds.max(), self.microseconds.value_at_quantile(0.99));
        LatenessReport {
            packets: self.microseconds.len(),
            max_s: seconds(max),
            p99_s: seconds(p99),
            median_s: seconds(self.microseconds.value_at_quantile(0.5)),
            refused: self.refused,
            overloaded: Duration::from_micros(p99) > LATE_P99
                || Duration::from_micros(max) > LATE_MAX
                || self.refused > 0,
        }
    }
}
