//! TOML file to `Config`, valid by construction.
