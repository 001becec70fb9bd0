//! Which exchanges make a round.
//!
//! A round compares a subject with a control: two control exchanges first, then pairs in random order until the judge
//! knows enough or a budget ends. It measures and asks `analysis` whether to go on; it never judges by itself.

mod address;
mod leg;
mod pair;
mod sni;

pub use leg::Leg;
pub use pair::{CHEAP_BYTES_MAX, Limits, Round, Shape};
pub use sni::{SniLegs, find_sni_legs};
