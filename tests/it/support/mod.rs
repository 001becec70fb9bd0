//! What several modules share.

mod daemon;
mod nginx;
pub(crate) mod peer;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

pub(crate) use daemon::{Daemon, request};
pub(crate) use nginx::Nginx;

/// Runs the built program to its end.
pub(crate) fn throttlescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(arguments)
        .env_remove("RUST_LOG")
        // Nobody's own configuration may reach in.
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .unwrap()
}

/// Its JSON report, checked against the shipped schema, and its exit status.
pub(crate) fn report(arguments: &[&str]) -> (serde_json::Value, i32) {
    let output = throttlescope(&[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/schema/report-1.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "the report breaks its schema: {errors:#?}");
    (document, output.status.code().unwrap())
}

/// Where an optional program is. `None` (said on stderr) when it is missing; then the test skips, unless
/// `THROTTLESCOPE_REQUIRE_ALL=1`, then it fails.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        let required = std::env::var("THROTTLESCOPE_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!required, "{name} is not installed, and THROTTLESCOPE_REQUIRE_ALL=1");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Whether laboratories can be had here; said on stderr where not, and a failure where everything is required.
pub(crate) fn lab_can_be_had() -> bool {
    let output = throttlescope(&["lab", "run", "-q", "clean", "--", "true"]);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || std::env::var_os("THROTTLESCOPE_REQUIRE_ALL").is_none(), "{why}");
    if !output.status.success() {
        eprintln!("skipped: {why}");
    }
    output.status.success()
}
