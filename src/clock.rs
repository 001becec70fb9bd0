//! The only reader of time.
//!
//! Durations come from one monotonic clock, which tests can pause; the wall clock is for people and never for durations.

#![allow(clippy::disallowed_methods, reason = "this is the one place where time is read")]

use jiff::Timestamp;
pub use tokio::time::Instant;

/// The monotonic clock now.
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock now, in UTC.
pub fn wall() -> Timestamp {
    Timestamp::now()
}
