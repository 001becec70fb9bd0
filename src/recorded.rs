//! pcap, NDJSON and CSV into the same measurements.
//!
//! Readers stream. What cannot be read is counted, its place named, and the rest is read on; only a file that cannot be
//! read at all is an error. Nothing here judges.

pub mod curve_csv;
pub mod ndjson;
pub mod paired_csv;
pub mod pcap;
mod rows;
pub mod sniff;

pub use paired_csv::{MalformedRow, NAMED_MAX};

use std::time::Duration;

use crate::model::CurvePoint;

/// One transfer as a recording shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordedCurve {
    /// The trace's own id, or `client-server#request` of a flow.
    pub id: String,
    /// The name shown to the network (SNI), where the recording holds it.
    pub name: Option<String>,
    /// In-order bytes over time, as the client could have read them.
    pub points: Vec<CurvePoint>,
    /// Of the points within one such span the last is kept; zero where none was left out.
    pub resolution: Duration,
    /// Round-trip time of the handshake.
    pub rtt: Option<Duration>,
    /// How long the recording went on while data was missing that never came.
    pub silence: Option<Duration>,
    /// Data segments seen, those sent again included; `None` where only a curve was recorded.
    pub segments: Option<u64>,
    /// Of those, sent again or out of order.
    pub losses: Option<u64>,
}

/// Rows that could not be read: all are counted, the first [`NAMED_MAX`] are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Malformed {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub named: Vec<MalformedRow>,
}

impl Malformed {
    /// Counts one, and names it while there are few.
    pub fn add(&mut self, line: u64, reason: impl Into<String>) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(MalformedRow { line, reason: reason.into() });
        }
    }
}
