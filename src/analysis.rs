//! The judge: measurements in, verdicts out. Pure: no clock, no socket, no file; time is an argument.

pub mod curve;
pub mod round;
pub mod series;
pub mod stats;
