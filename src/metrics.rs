//! Events to Prometheus families.
