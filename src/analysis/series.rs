//! Over time: onset, end and share of interference in a series of paired tests.
