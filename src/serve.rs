//! The measurement server.
