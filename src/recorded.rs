//! pcap, NDJSON and CSV into the same measurements.

pub mod paired_csv;
