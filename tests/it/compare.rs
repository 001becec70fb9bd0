//! `compare` against servers whose truth is known: our own and a stranger's, names alike, and one name paced.

use serde_json::Value;

use crate::{
    serve::Server,
    support::{Nginx, lab_can_be_had, report, throttlescope},
};

/// Bytes a second that the paced name gets.
const PACE: f64 = 400_000.0;

/// How often equal names are compared; set `THROTTLESCOPE_REPEATS` for more.
fn repeats() -> u64 {
    std::env::var("THROTTLESCOPE_REPEATS").map_or(10, |text| text.parse().unwrap())
}

fn compare(via: &str, subject: &str, path: &str, seed: u64) -> (Value, i32) {
    let seed = seed.to_string();
    let (mut report, status) = report(&[
        "compare",
        "--via",
        via,
        "--subject",
        subject,
        "--control",
        "b.example",
        "--path",
        path,
        "-k",
        "--seed",
        &seed,
    ]);
    (report["results"][0].take(), status)
}

/// Equal names are never told apart, and a paced one is, by as much as it is slower.
fn holds(via: &str, path: &str) {
    let mut told = std::collections::BTreeMap::new();
    for seed in 0..repeats() {
        let (result, status) = compare(via, "a.example", path, seed);
        let verdict = result["verdict"].as_str().unwrap().to_owned();
        assert!(["normal", "inconclusive"].contains(&verdict.as_str()), "seed {seed}: {result:#}");
        assert_eq!(status, if verdict == "normal" { 0 } else { 3 });
        *told.entry(verdict).or_insert(0) += 1;
    }
    eprintln!("equal names at {via}: {told:?}");

    let (result, status) = compare(via, "slow.example", path, 1);
    assert_eq!((&result["verdict"], status), (&"throttled".into(), 1), "{result:#}");
    let evidence = &result["evidence"];
    let number = |value: &Value| value.as_f64().unwrap();
    let truth = number(&evidence["control_goodput_bytes_per_second"]) / PACE;
    let (low, high) = (number(&evidence["slowdown_ci"][0]), number(&evidence["slowdown_ci"][1]));
    assert!(low <= truth && truth <= high, "{truth} is not in {low} to {high}: {evidence:#}");
    let paced = number(&evidence["subject_goodput_bytes_per_second"]);
    assert!((paced / PACE - 1.0).abs() < 0.2, "{paced} bytes a second");
}

#[test]
fn our_own_server_under_two_names() {
    let plenty = ["--client-requests-per-minute", "1000000", "--client-bytes-per-minute", "100GiB"];
    let pace = ["--bytes-per-hour", "1000GiB", "--pace", "slow.example=400000"];
    let server = Server::start(&[&plenty[..], &pace].concat());
    holds(&server.https.to_string(), "/bytes/131072");
}

#[test]
fn nginx_under_two_names() {
    let Some(nginx) = Nginx::start(&["a.example", "b.example", "slow.example"]) else { return };
    holds(&nginx.https.to_string(), "/4m");
}

/// A round trip of 20 ms to one host and of 300 ms to the other: slow by distance, throttled by nobody.
#[test]
fn hosts_at_different_distances_never_accuse() {
    if !lab_can_be_had() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("far.toml");
    let line = "[line]\nrtt = '20ms'\nother_hosts = ['280ms']\n[line.down]\nrate = '50Mbit'\n";
    let head = "name = 'far'\nabout = 'two hosts'\ntruth = { verdict = 'normal' }\n";
    std::fs::write(&profile, format!("{head}{line}")).unwrap();
    let (near, far) = ("https://near.example/bytes/131072", "https://host2.example/bytes/131072");
    for seed in 0..repeats().div_ceil(10) {
        for (subject, control) in [(far, near), (near, far)] {
            let seed = seed.to_string();
            let lab = ["lab", "run", "-q", "--seed", &seed, profile.to_str().unwrap(), "--"];
            let measure = [env!("CARGO_BIN_EXE_throttlescope"), "measure", subject, "--control", control];
            let output = throttlescope(&[&lab[..], &measure, &["--json", "--seed", &seed]].concat());
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            for result in report["results"].as_array().unwrap() {
                let verdict = result["verdict"].as_str().unwrap();
                assert!(["normal", "inconclusive", "degraded"].contains(&verdict), "{result:#}");
                eprintln!("{subject} against {control}: {verdict} by {}", result["comparison"]);
            }
        }
    }
}
