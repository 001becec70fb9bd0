//! pcap, NDJSON and CSV into the same measurements.
