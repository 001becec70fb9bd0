//! The laboratory: a middlebox with known rules between real kernel TCP stacks.
//!
//! `middlebox` and `line` are pure machines: packet and time in, packets out. Around them stand the devices, the
//! namespaces and the loop that moves real packets through them. Profiles are data.

pub mod line;
pub mod middlebox;
