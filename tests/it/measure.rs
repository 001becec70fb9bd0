//! `measure` and `compare` as a user runs them, against a stranger's server and our own.

use serde_json::Value;

use crate::support::{Nginx, report, throttlescope};

const PHASES: [&str; 5] = ["resolve", "connect", "tls", "processing", "transfer"];

fn exchanges(report: &Value) -> Vec<&Value> {
    report["results"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|result| result["exchanges"].as_array().unwrap())
        .collect()
}

/// What must hold of every exchange that ended well.
fn assert_whole(exchange: &Value, bytes: u64) {
    assert_eq!(exchange["failure"], Value::Null, "{exchange:#}");
    assert!([200, 206].contains(&exchange["status"].as_u64().unwrap()));
    let sum: f64 = PHASES.iter().filter_map(|phase| exchange["phases"][phase].as_f64()).sum();
    let duration = exchange["duration_s"].as_f64().unwrap();
    assert!((sum - duration).abs() < 0.001, "phases add up to {sum} s, the exchange took {duration} s");
    let curve = exchange["curve"].as_array().unwrap();
    assert!(!curve.is_empty());
    assert!(curve.windows(2).all(|pair| {
        pair[0][0].as_f64() <= pair[1][0].as_f64() && pair[0][1].as_u64() < pair[1][1].as_u64()
    }));
    assert!(curve.last().unwrap()[1].as_u64().unwrap() >= bytes, "TCP payload holds at least the body");
    assert_eq!(exchange["bytes"].as_u64(), Some(bytes));
}

#[test]
fn nginx_over_tls_shows_all_five_phases() {
    let Some(nginx) = Nginx::start(&["localhost", "subject.example", "control.example"]) else { return };
    let port = nginx.https.port();
    let ca = nginx.ca_file();
    // The small object is asked for again, sixty-four times at most.
    for (object, bytes) in [("1k", 65_536), ("64k", 131_072), ("4m", 131_072)] {
        let url = format!("https://localhost:{port}/{object}");
        let control = format!("https://localhost:{port}/{object}?control");
        let (report, status) = report(&[
            "measure",
            &url,
            "--control",
            &control,
            "-4",
            "--cacert",
            ca.to_str().unwrap(),
            "--pairs",
            "3",
        ]);
        assert!([0, 3].contains(&status), "exit status {status}: {report:#}");
        let looked_up: Vec<&Value> =
            exchanges(&report).into_iter().filter(|exchange| exchange["pinned"] == false).collect();
        assert!(!looked_up.is_empty());
        for exchange in looked_up {
            for phase in PHASES {
                assert!(exchange["phases"][phase].as_f64().is_some(), "{phase} is timed: {exchange:#}");
            }
        }
        for exchange in exchanges(&report) {
            if exchange["warmup"] == false {
                assert_whole(exchange, bytes);
            }
        }
    }
}

#[test]
fn a_server_is_reached_as_curl_would() {
    let Some(nginx) = Nginx::start(&["subject.example"]) else { return };
    let (ca, port) = (nginx.ca_file(), nginx.https.port());
    let connect_to = format!("subject.example:443:127.0.0.1:{port}");
    let resolve = format!("subject.example:{port}:127.0.0.1");
    let v6 = format!("subject.example:{}:::1", nginx.https_v6.port());
    let (ca, plain) = (ca.to_str().unwrap(), format!("http://127.0.0.1:{}/64k", nginx.http.port()));
    let cases: [(String, Vec<&str>); 5] = [
        ("https://subject.example/64k".to_owned(), vec!["--connect-to", &connect_to, "--cacert", ca]),
        (format!("https://subject.example:{port}/64k"), vec!["--resolve", &resolve, "--cacert", ca]),
        (format!("https://subject.example:{port}/64k"), vec!["--resolve", &resolve, "-k", "--http2"]),
        (
            format!("https://subject.example:{}/64k", nginx.https_v6.port()),
            vec!["--resolve", &v6, "--cacert", ca, "-6"],
        ),
        (plain, vec![]),
    ];
    for (url, options) in cases {
        let control = format!("{url}?control");
        let (report, status) =
            report(&[&["measure", &url, "--control", &control, "--pairs", "3"], options.as_slice()].concat());
        assert!([0, 3].contains(&status), "{url} {options:?}: exit status {status}: {report:#}");
        let exchanges = exchanges(&report);
        assert!(!exchanges.is_empty());
        for exchange in exchanges {
            if exchange["warmup"] == false {
                assert_whole(exchange, 131_072);
            }
            let http2 = options.contains(&"--http2");
            assert_eq!(exchange["http_version"], if http2 { "2" } else { "1.1" });
            assert_eq!(exchange["tls_version"].is_null(), url.starts_with("http:"));
        }
    }
}

#[test]
fn without_anything_to_compare_with_there_is_no_verdict() {
    let Some(nginx) = Nginx::start(&["localhost"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "[catalog]\nplatforms = []\n").unwrap();
    let url = format!("http://127.0.0.1:{}/64k", nginx.http.port());
    let (report, status) = report(&["measure", &url, "--config", config.to_str().unwrap()]);
    assert_eq!(status, 3);
    assert_eq!(report["results"][0]["comparison"], "none");
    assert_eq!(report["results"][0]["verdict"], "inconclusive");
}

#[test]
fn the_text_report_says_it_in_words() {
    let Some(nginx) = Nginx::start(&["localhost"]) else { return };
    let url = format!("http://127.0.0.1:{}/64k", nginx.http.port());
    let output = throttlescope(&["measure", &url, "--control", &format!("{url}?control"), "--pairs", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["subject", "control", "processing", "goodput", "repeat: throttlescope measure"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn nonsense_gets_one_sentence_and_status_2() {
    for arguments in [
        ["measure", "not a url or platform"].as_slice(),
        &["measure", "ftp://example.org/", "--yes"],
        &["compare", "--via", "nowhere:port", "--subject", "a.example", "--control", "b.example"],
        &["compare", "--via", "127.0.0.1:1", "--subject", "a b", "--control", "b.example"],
        &[
            "compare",
            "--via",
            "127.0.0.1:1",
            "--subject",
            "a.example",
            "--control",
            "b.example",
            "--cacert",
            "/nonexistent",
        ],
        &["sweep", "--via", "127.0.0.1:1", "--control", "b.example", "/nonexistent"],
    ] {
        let output = throttlescope(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.lines().count() <= 1 || stderr.contains("Usage"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
