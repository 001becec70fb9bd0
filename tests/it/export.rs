//! What leaves the store: three forms that others read, and nothing at all after a purge.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use throttlescope::{
    model::{Failure, FailureKind, Phase, Role, Vantage},
    store::Store,
};

use crate::{
    store::{at, batch, round, settings},
    support::Daemon,
};

fn run(arguments: &[&str], database: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(arguments)
        .arg("--store")
        .arg(database)
        .env_remove("THROTTLESCOPE_STORE_PATH")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Rounds of which some failed, in a vantage that says where it is.
fn seeded(path: &Path) {
    let (store, _) = Store::open(settings(path), |_| {});
    for number in 1..=40 {
        let mut round = round(number, "shop/images", at(number * 300));
        round.vantage = Vantage { country: Some("RU".into()), asn: Some(12_389), ..Vantage::default() };
        for exchange in &mut round.exchanges {
            exchange.address = Some("[2001:db8::7]:443".parse().unwrap());
            exchange.local_address = Some("203.0.113.77".parse().unwrap());
            exchange.started_at = at(number * 300 - 2);
            exchange.headers = vec![("server".into(), "nginx".into())];
        }
        if number % 10 == 0 {
            let failed = &mut round.exchanges[1];
            assert_eq!(failed.role, Role::Subject);
            failed.failure =
                Some(Failure { phase: Phase::Transfer, kind: FailureKind::Stalled, detail: None });
            failed.censored = true;
        }
        assert!(store.submit(batch(round)));
    }
    store.close();
}

#[test]
fn every_form_is_read_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    seeded(&path);
    let ndjson = stdout(&run(&["export"], &path));
    assert_eq!(ndjson.lines().count(), 80);
    let first: Value = serde_json::from_str(ndjson.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "throttlescope/measurement/1");
    let some = stdout(&run(&["export", "--since", "2026-09-21T16:00:00Z", "--target", "shop/images"], &path));
    assert!(!some.is_empty() && some.lines().count() < 80, "{}", some.lines().count());
    let empty = run(&["export", "--since", "2030-01-01", "--target", "shop/images"], &path);
    assert_eq!(stdout(&empty), "");
    let unknown = run(&["export", "--target", "shop/none"], &path);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.lines().count() == 1, "{said}");
    assert!(said.contains("throttlescope.db: the database knows no target `shop/none`"), "{said}");

    let csv = stdout(&run(&["export", "--format", "csv"], &path));
    assert!(csv.lines().nth(1).unwrap().contains(",AS12389,RU,,,shop/images,1048576,1048576,"), "{csv}");
    let file = folder.path().join("export.csv");
    std::fs::write(&file, &csv).unwrap();
    let analyzed = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["analyze", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&analyzed.stdout).unwrap();
    assert_eq!(said["series"][0]["vantage"], "AS12389");
    assert!(said["series"][0]["tests"].as_u64() > Some(30), "{said}");

    let ooni = stdout(&run(&["export", "--format", "ooni"], &path));
    assert_eq!(ooni.lines().count(), 80);
    let failed: Value = serde_json::from_str(ooni.lines().nth(19).unwrap()).unwrap();
    assert_eq!(failed["test_keys"]["failure"], "generic_timeout_error");
    assert_eq!(
        (failed["probe_ip"].as_str(), failed["probe_asn"].as_str()),
        (Some("127.0.0.1"), Some("AS12389"))
    );
    for text in [&ndjson, &csv, &ooni] {
        assert!(!text.contains("203.0.113.77"), "the user's own address is in nothing");
    }
    let file = folder.path().join("export.ooni.jsonl");
    std::fs::write(&file, &ooni).unwrap();
    read_by_oonidata(&file);
}

/// Throttled for a while, one pair a round, which alone decides nothing. The daemon is started again in the middle, and
/// counts its rounds from the beginning.
fn throttled_for_a_while(path: &Path, lateness: Duration) {
    let (store, _) = Store::open(settings(path), |_| {});
    for number in 1..=150 {
        let mut round = round(number, "shop/images", at(number * 600));
        for exchange in &mut round.exchanges {
            exchange.round = u32::try_from(number % 75).unwrap();
            exchange.pair = 2;
            exchange.started_at = at(number * 600 - 2);
            if exchange.role == Role::Subject && (60..110).contains(&number) {
                exchange.requests[0].end *= 20;
                exchange.lateness = lateness;
            }
        }
        assert!(store.submit(batch(round)));
    }
    store.close();
}

/// What `analyze` says of an export, and its exit status.
fn analyzed(export: &str) -> (Value, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    std::fs::write(&file, export).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["analyze", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn measurements_and_their_pairs_give_the_same_series() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    throttled_for_a_while(&path, Duration::ZERO);
    let export = |format: &str, until: i64| {
        let until = at(until * 600 + 1).to_string();
        stdout(&run(&["export", "--format", format, "--until", &until], &path))
    };
    // All of it, what was before the onset, and too little to say.
    for (until, incidents, status) in [(150, 1, 1), (59, 0, 0), (3, 0, 3)] {
        let (ours, our_status) = analyzed(&export("ndjson", until));
        let (pairs, pairs_status) = analyzed(&export("csv", until));
        assert_eq!(ours["series"], pairs["series"]);
        assert_eq!((our_status, pairs_status), (Some(status), Some(status)), "{ours:#}");
        assert_eq!(ours["series"][0]["rows"], until);
        assert_eq!(ours["series"][0]["incidents"].as_array().unwrap().len(), incidents);
        let rounds = ours["rounds"].as_array().unwrap();
        assert_eq!(i64::try_from(rounds.len()).unwrap(), until);
        assert!(rounds.iter().all(|round| round["verdict"] == "inconclusive"), "{rounds:#?}");
    }
    let (backwards, _) = analyzed(&export("ndjson", 150).lines().rev().collect::<Vec<_>>().join("\n"));
    let (pairs, _) = analyzed(&export("csv", 150));
    assert_eq!(backwards["series"], pairs["series"], "the order of the lines");
    let (edited, _) = analyzed(&format!("\u{feff}{}", export("ndjson", 150)));
    assert_eq!((&edited["malformed_rows"], &edited["series"]), (&Value::from(0), &pairs["series"]));
}

/// Our own machine was busy, and saw the subject late.
#[test]
fn what_came_late_accuses_nobody_in_any_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    throttled_for_a_while(&path, Duration::from_millis(100));
    for format in ["ndjson", "csv"] {
        let (said, _) = analyzed(&stdout(&run(&["export", "--format", format], &path)));
        assert_eq!(said["series"][0]["incidents"], serde_json::json!([]), "{format}");
    }
}

/// OONI's own library, from a Python that has it: `THROTTLESCOPE_OONIDATA` names the interpreter.
fn read_by_oonidata(file: &Path) {
    const SCRIPT: &str = r#"
import sys, json
from oonidata.dataclient import load_measurement
from oonidata.models.nettests import UrlGetter
count = points = 0
for line in open(sys.argv[1], "rb"):
    measurement = load_measurement(msmt=json.loads(line))
    assert isinstance(measurement, UrlGetter), type(measurement)
    keys = measurement.test_keys
    assert keys.tcp_connect[0].port == 443 and keys.tls_handshakes[0].server_name == "cdn.example"
    assert keys.requests[0].response.code == 200
    curve = [e for e in keys.network_events if e.operation == "bytes_received_cumulative"]
    assert all(a.num_bytes < b.num_bytes and a.t < b.t for a, b in zip(curve, curve[1:]))
    count += 1
    points += len(curve)
assert count == 80 and points == 80 * 90, (count, points)
"#;
    let Some(python) = std::env::var_os("THROTTLESCOPE_OONIDATA") else {
        assert!(
            std::env::var_os("THROTTLESCOPE_REQUIRE_ALL").is_none(),
            "THROTTLESCOPE_OONIDATA is not set, and THROTTLESCOPE_REQUIRE_ALL asks for it"
        );
        eprintln!("skipped: reading with oonidata (THROTTLESCOPE_OONIDATA names no Python that has it)");
        return;
    };
    let output = Command::new(python).args(["-c", SCRIPT]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    seeded(&path);
    let command = format!(
        "set -o pipefail; {} export --store {} | head -n 1 | wc -l",
        env!("CARGO_BIN_EXE_throttlescope"),
        path.display()
    );
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    assert_eq!(stdout(&output).trim(), "1");
    assert_eq!(output.stderr, b"");
}

#[test]
fn what_is_not_there_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.db");
    let output = run(&["export"], &path);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("none.db: there is no database"), "{said}");
    let output = run(&["export", "--since", "soon"], &path);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_purge_deletes_everything_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("throttlescope.db");
    seeded(&path);
    let asked = run(&["purge"], &path);
    assert_eq!(asked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&asked.stderr).contains("nothing was deleted"));
    assert!(path.exists());
    let (store, _) = Store::open(settings(&path), |_| {});
    let refused = run(&["purge", "--yes"], &path);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("another throttlescope keeps"), "{said}");
    store.close();
    let said = stdout(&run(&["purge", "--yes"], &path));
    assert!(said.contains(&format!("deleted {}\n", path.display())), "{said}");
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "throttlescope.db.lock")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(stdout(&run(&["purge", "--yes"], &path)).contains("there is nothing to delete"));
}

#[test]
fn a_purge_touches_nothing_that_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let letter = folder.path().join("letter.txt");
    std::fs::write(&letter, "Dear reader").unwrap();
    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    for path in [&letter, &foreign, &folder.path().to_owned()] {
        let refused = run(&["purge", "--yes"], path);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.lines().count() == 1, "{said}");
        assert!(path.exists(), "{}", path.display());
    }
}

/// The user's address as a server behind a translator sees it, in the forms that servers echo.
const PLANTED: [&str; 3] = ["203.0.113.77", "2001:db8:77::77", "[2001:db8:77::77]:4711"];

/// A server at 127.0.0.2 that tells whoever asks where it comes from, wherever it can: in headers that are kept and in others,
/// in the body, in where it redirects to, and in its words of refusal.
fn indiscreet() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            std::thread::spawn(move || {
                let peer = stream.peer_addr().unwrap();
                let [v4, v6, with_port] = PLANTED;
                let mut reader = BufReader::new(stream);
                let mut path = String::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    if let Some(asked) = line.strip_prefix("GET ") {
                        asked.split(' ').next().unwrap().clone_into(&mut path);
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let status = match path.as_str() {
                    "/gone" => format!("302 Found\r\nLocation: /for/{v4}/{peer}?from={v6}"),
                    "/refused" => format!("403 Forbidden {v4}"),
                    _ => "200 OK".to_owned(),
                };
                let body = format!("you are {peer}, {v4}, {v6}; ").repeat(2_000);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nServer: edge ({v4}, {peer})\r\nVia: 1.1 {with_port}, 1.1 {v4}:4711\r\n\
                     X-Cache: MISS from {v6}\r\nCache-Control: private, for={v4}\r\nX-Client-IP: {v4}\r\n\
                     Set-Cookie: ip={v4}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _gone = reader.get_mut().write_all(answer.as_bytes());
            });
        }
    });
    address
}

#[test]
fn an_address_of_the_user_that_a_server_echoes_reaches_no_form() {
    let server = indiscreet();
    let target = |name: &str| {
        format!(
            "[[target]]\nid = \"shop/{name}\"\nurl = \"http://{server}/{name}\"\ninterval = \"1s\"\nbytes = \"64KiB\"\n"
        )
    };
    let config = format!(
        "[catalog]\nplatforms = []\n[schedule]\nbytes_per_hour = \"100GB\"\nbytes_per_day = \"2TB\"\n{}",
        ["big", "gone", "refused"].map(target).concat()
    );
    let mut daemon = Daemon::start(&config);
    for name in ["big", "gone", "refused"] {
        daemon.wait_until("it is measured", |daemon| {
            daemon.metric(&format!("throttlescope_exchanges_total{{target=\"shop/{name}\"}}")) > Some(0.0)
        });
    }
    let path = daemon.database();
    let stored = |name: &str| {
        let output = run(&["export", "--target", &format!("shop/{name}")], &path);
        !output.stdout.is_empty()
    };
    daemon.wait_until("it is stored", |_| ["big", "gone", "refused"].into_iter().all(stored));
    let mut texts: Vec<String> =
        ["ndjson", "csv", "ooni"].map(|format| stdout(&run(&["export", "--format", format], &path))).into();
    assert!(
        texts[0].contains("[address]"),
        "what the server said was kept, but for the address: {}",
        texts[0]
    );
    texts.push(daemon.get("/api/v1/export?format=ndjson").1);
    texts.push(daemon.get("/target?id=shop%2Fbig").1);
    let id = texts[0].split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    texts.push(daemon.get(&format!("/exchange?id={id}")).1);
    for text in &texts {
        for planted in ["203.0.113.77", "db8:77"] {
            assert!(!text.contains(planted), "{planted}: {text}");
        }
    }
    // OONI's form names 127.0.0.1 in place of every user; the others name nobody.
    for text in [&texts[0], &texts[1], &texts[3], &texts[5]] {
        assert!(!text.contains("127.0.0.1"), "{text}");
    }
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}
