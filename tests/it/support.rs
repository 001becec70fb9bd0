//! What several modules share.

use std::path::PathBuf;

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
