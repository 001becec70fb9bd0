//! Findings for people and programs: terminal, JSON, OONI, CSV.
