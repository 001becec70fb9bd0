//! The built-in platforms, endpoints and controls, as data.
