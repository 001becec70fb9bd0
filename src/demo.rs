//! A throttler to look at: emulated on this machine, between the daemon and a measurement server that are both ours.

mod relay;

pub use relay::{Relay, Throttle};
