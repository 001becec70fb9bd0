//! The daemon, a measurement server and an emulated throttler on one machine.
