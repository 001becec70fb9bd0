//! `lab evaluate` as a user runs it, tiny: every drawn test is counted, nobody is accused falsely, a recording judges alike.

use serde_json::Value;

use crate::{lab::available, support::throttlescope};

const TESTS: usize = 3;

#[test]
fn a_tiny_corpus_is_measured_judged_and_told() {
    if !available("lab evaluate") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (json, plots, record) = (path("all.json"), path("plots"), path("all.ndjson"));
    let tests = TESTS.to_string();
    let output = throttlescope(&[
        "lab", "evaluate", "--tests", &tests, "--seed", "12", "--pairs", "4", "--quiet", "--json", &json,
        "--plots", &plots, "--record", &record,
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let tables = String::from_utf8(output.stdout).unwrap();
    for title in
        ["### Verdicts", "### False alarms", "### Throttles found", "### Mechanism", "### Limit", "### Cost"]
    {
        assert!(tables.contains(title), "{title} is missing in\n{tables}");
    }
    let all: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let outcomes = all["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), TESTS, "every drawn test has an outcome");
    for outcome in outcomes {
        let negative = outcome["truth"]["verdict"] == "normal" || outcome["truth"]["verdict"] == "degraded";
        let accused =
            ["throttled", "frozen", "blocked"].iter().any(|verdict| outcome["verdict"] == **verdict);
        assert!(!(negative && accused), "{outcome:#}");
        assert!(outcome["bytes"].as_u64().unwrap() > 0 && outcome["seconds"].as_f64().unwrap() > 0.0);
    }
    for plot in ["roc.svg", "delay.svg", "bytes.svg"] {
        let text = std::fs::read_to_string(format!("{plots}/{plot}")).unwrap();
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"), "{plot}");
    }
    let again = path("again.json");
    let output = throttlescope(&["lab", "evaluate", "--judge", &record, "--pairs", "4", "--json", &again]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again: Value = serde_json::from_slice(&std::fs::read(&again).unwrap()).unwrap();
    for (first, second) in outcomes.iter().zip(again["outcomes"].as_array().unwrap()) {
        for field in ["number", "verdict", "mechanism", "exchanges"] {
            assert_eq!(first[field], second[field], "{field} of {first:#}");
        }
    }
}

/// Curves of every cause, named as their cause is; a recording is judged alike.
#[test]
fn a_few_curves_of_each_cause_are_read_judged_and_told() {
    if !available("lab evaluate --curves") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("curves.ndjson").to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let output = throttlescope(&[&["lab", "evaluate", "--curves", "2", "--quiet"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let measured = run(&["--seed", "4", "--record", &record]);
    let curves: Vec<Value> = std::fs::read_to_string(&record)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(curves.len(), 18, "two of each of nine causes");
    for curve in &curves {
        let points = curve["points"].as_array().unwrap();
        let bytes: Vec<u64> = points.iter().map(|point| point[1].as_u64().unwrap()).collect();
        assert!(bytes.is_sorted_by(|one, next| one < next), "{curve}");
        assert!(*bytes.last().unwrap() <= curve["bytes"].as_u64().unwrap(), "{curve}");
        // What has no limit comes whole.
        assert!(curve["kind"] != "clean" || bytes.last() == curve["bytes"].as_u64().as_ref(), "{curve}");
        assert!(curve["kind"] != "policed" || curve["burst_bytes"].is_u64(), "{curve}");
    }
    let again = run(&["--judge", &record]);
    let tables = |text: &str| text.split_once("### Causes").unwrap().1.to_owned();
    assert_eq!(tables(&measured), tables(&again));
    assert!(again.contains("| clean | 2 | 0 (0.0 %) |"), "{again}");
}

#[test]
fn a_recording_that_is_none_gets_one_sentence() {
    let output = throttlescope(&["lab", "evaluate", "--judge", "/nonexistent/all.ndjson"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.lines().count() == 1 && stderr.contains("/nonexistent/all.ndjson"), "{stderr}");
}

#[test]
fn nothing_to_judge_is_no_result() {
    let recording = tempfile::NamedTempFile::new().unwrap();
    let path = recording.path().to_str().unwrap();
    for more in [&[][..], &["--ablate"], &["--relabel", "2"], &["--curves", "1"]] {
        let output = throttlescope(&[&["lab", "evaluate", "--judge", path], more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{more:?}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains("it holds no "), "{more:?}: {stderr}");
    }
    assert_eq!(throttlescope(&["lab", "evaluate", "--curves", "0"]).status.code(), Some(2));
}

/// Forty minutes later would be too late.
#[test]
fn what_cannot_be_written_is_said_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("file"), "kept").unwrap();
    let (within, absent) = (path("file/plots"), path("absent/all.json"));
    for (option, output) in [("--json", &absent), ("--plots", &within), ("--record", &absent)] {
        let output = throttlescope(&["lab", "evaluate", "--tests", "100000", option, output]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{option}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains("cannot"), "{option}: {stderr}");
    }
    assert_eq!(std::fs::read(path("file")).unwrap(), b"kept");
}
