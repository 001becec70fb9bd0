//! What whole comparisons say behind a box whose rules leave nothing for the contrast of two names alone.

use serde_json::Value;

use super::{available, lab, text, write_profile};

/// `compare` behind a profile: its first result, and its exit status.
fn compare(profile: &str, options: &[&str]) -> (Value, i32) {
    let command =
        ["compare", "--via", "192.0.2.1:443", "--subject", "abs.twimg.com", "--control", "example.org"];
    let output = lab(&[&[profile, "-q"], options].concat())
        .args(["--", env!("CARGO_BIN_EXE_throttlescope")])
        .args(command)
        .args(["--json", "--seed", "5"])
        .output()
        .unwrap();
    let mut report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (report["results"][0].take(), output.status.code().unwrap())
}

#[test]
fn a_box_that_remembers_addresses_throttles() {
    if !available("sticky addresses") {
        return;
    }
    let (result, status) = compare("turkey-delay", &[]);
    if result["caveats"][0].as_str().is_some_and(|caveat| caveat.contains("too busy")) {
        eprintln!("skipped: this machine is too busy to measure: {}", result["caveats"][0]);
        return;
    }
    assert_eq!((&result["verdict"], status), (&"throttled".into(), 1), "{result:#}");
    assert_eq!(result["mechanism"], "handshake-delay");
    assert!(result["evidence"]["e_value"].as_f64().unwrap() >= 1000.0);
}

/// From some moment on everything waits three seconds on its way, whatever name and address. Such rounds mostly wait, so
/// that they go side by side.
#[test]
fn a_line_that_slows_in_mid_round_does_not() {
    if !available("a line that slows") {
        return;
    }
    let round = |from: &str| {
        let folder = tempfile::tempdir().unwrap();
        let profile = write_profile(
            folder.path(),
            &format!(
                "name = \"slows\"\nabout = \"slows\"\nsubjects = [\"abs.twimg.com\"]\ntruth = {{ verdict = \"degraded\" }}\n[[rule]]\n\
                 from = \"{from}\"\neffect.delay = {{ by = [\"3s\", \"3s\"], directions = \"up\" }}\n"
            ),
        );
        compare(&profile, &[])
    };
    let moments = ["300ms", "600ms", "1s"];
    let rounds = std::thread::scope(|scope| {
        let running = moments.map(|from| scope.spawn(move || round(from)));
        running.map(|round| round.join().unwrap())
    });
    for (from, (result, status)) in moments.into_iter().zip(rounds) {
        assert_ne!(status, 1, "from {from}: {result:#}");
        assert_ne!(result["verdict"], "normal", "from {from}, nothing was slow: {result:#}");
    }
}

/// The server's small segments come, its large ones vanish, and nobody is told.
#[test]
fn a_path_with_a_low_mtu_is_told_and_accuses_nobody() {
    if !available("a low MTU") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = write_profile(
        folder.path(),
        "name = \"low-mtu\"\nabout = \"low\"\nsubjects = [\"abs.twimg.com\"]\ntruth = { verdict = \"degraded\" }\n\
         [line.down]\nmtu = \"1280\"\n",
    );
    let (result, status) = compare(&profile, &[]);
    assert_eq!((&result["verdict"], status), (&"inconclusive".into(), 3), "{result:#}");
    if result["caveats"][0].as_str().is_some_and(|caveat| caveat.contains("too busy")) {
        eprintln!("skipped: this machine is too busy to measure: {}", result["caveats"][0]);
        return;
    }
    let summary = result["summary"].as_str().unwrap();
    assert!(summary.contains("small segments came and not one large one"), "{summary}");
}

/// The system's resolver lies, an independent one does not, and its answer works.
#[test]
fn a_forged_answer_blocks_by_dns() {
    if !available("a forged answer") {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let output = lab(&["dns-lie", "-q", "--", this.to_str().unwrap()])
        .args(["--exact", "lab::inside::step", "--ignored", "--nocapture", "--test-threads=1"])
        .env("LAB_STEP", "doh")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
