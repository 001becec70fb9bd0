//! SQLite: measurements and incidents, crash-safe.
