//! The demonstration as a newcomer runs it: normal, onset, found, lift, over, and named as emulated all the while.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use crate::support::request;

#[test]
fn the_story_is_told_and_nothing_is_left_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["demo", "--once", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut wait_for = |word: &str| loop {
        let line = lines.next().unwrap_or_else(|| panic!("`{word}` was never said"));
        println!("{line}");
        assert!(!line.contains("not seen"), "{line}");
        if line.contains(word) {
            return line;
        }
    };
    wait_for("Emulation: server and throttler are parts of this program");
    let line = wait_for("http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let page = |path: &str| {
        let (status, page) = request(address, "GET", path);
        assert_eq!(status, 200);
        assert!(page.contains("emulated"), "every page says that the throttler is our own");
        page
    };
    wait_for("Both names are normal");
    page("/");
    wait_for("ONSET");
    wait_for("FOUND: slowed.example is throttled; an incident is open");
    assert!(page("/").contains("throttled"));
    let target = page("/target?id=emulated%2Fslowed.example");
    assert!(target.contains("polyline") || target.contains("<path"), "the curves are drawn");
    let (_, incidents) = request(address, "GET", "/api/v1/incidents");
    assert!(incidents.contains("emulated/slowed.example") && !incidents.contains("untouched"), "{incidents}");
    wait_for("LIFT");
    wait_for("OVER: the incident has ended");
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "the database is gone");
}
