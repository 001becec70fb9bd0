//! A year of rounds in the store: how large it is, how fast the page and the API answer, how soon the daemon is ready.
//!
//! CI takes a few days; `THROTTLESCOPE_YEAR_DAYS=365 THROTTLESCOPE_YEAR_TARGETS=40` asks for the year. Of each target a
//! few rounds are written by the store, and repeated in SQL with moments and ids of their own.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use throttlescope::{
    model::{Comparison, Role, Verdict},
    store::{RoundRecord, Store},
};

use crate::{
    store::{batch, numbered, round, settings},
    support::Daemon,
};

/// Rounds of each target that are written by the store itself.
const TEMPLATES: i64 = 16;

const ROUND_SECONDS: i64 = 300;

fn number(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn target(index: i64) -> String {
    format!("year/t{index}.example")
}

/// As the daemon makes them: two small exchanges with the control, then a pair.
fn template(number: i64, index: i64, at: Timestamp) -> RoundRecord {
    let mut round = round(number, &target(index), at);
    round.comparison = Comparison::Sni;
    round.control = Some(throttlescope::model::TargetId::new("year/control.example"));
    let id = u64::try_from(number).unwrap() * 8;
    let mut exchanges: Vec<_> = [Role::Control, Role::Control, Role::Control, Role::Subject]
        .into_iter()
        .zip(id..)
        .map(|(role, id)| numbered(id, role))
        .collect();
    for (place, exchange) in (0_u64..).zip(&mut exchanges) {
        // No two transfers are alike; hashes and headers do not compress.
        let mut random = id * 31 + place + 1;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        exchange.started_at = at - SignedDuration::from_secs(5);
        exchange.certificate_sha256 = Some(format!("{:064x}", index * 7919));
        exchange.body_sha256 = Some(format!("{:064x}", index * 104_729));
        exchange.address = Some("198.51.100.7:443".parse().unwrap());
        exchange.lateness = Duration::from_nanos(next() % 900_000);
        exchange.headers =
            vec![("server".into(), "nginx".into()), ("content-type".into(), "image/jpeg".into())];
        let points = if place < 2 { 2 } else { 90 };
        exchange.warmup = place < 2;
        exchange.bytes = points * 1_448;
        let mut moment = 0;
        exchange.curve = (1..=points)
            .map(|n| {
                moment += 200 + next() % 4_000;
                (Duration::from_micros(moment), n * 1_448)
            })
            .collect();
    }
    round.exchanges = exchanges;
    round
}

/// Fills a database up to now.
fn fill(path: &Path, days: i64, targets: i64, now: Timestamp) {
    let start = now - SignedDuration::from_hours(24 * days);
    let (store, _) = Store::open(settings(path), |_| {});
    for index in 0..targets {
        for copy in 0..TEMPLATES {
            let round = template(1 + index * TEMPLATES + copy, index, start);
            while !store.submit(batch(round.clone())) {
                std::thread::yield_now();
            }
        }
    }
    store.close();
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; PRAGMA wal_autocheckpoint = 100000")
        .unwrap();
    let steps = days * 86_400 / ROUND_SECONDS;
    let first = targets * TEMPLATES + 1;
    for day in 0..days {
        let from = day * 86_400 / ROUND_SECONDS;
        let span = params![
            from,
            (from + 86_400 / ROUND_SECONDS).min(steps),
            first,
            targets,
            start.as_microsecond(),
            TEMPLATES
        ];
        connection.execute_batch("BEGIN").unwrap();
        // Round `first + step * targets + index` of a target repeats one of its templates, its own second of the step.
        connection
            .execute(
                "WITH RECURSIVE step(s) AS (SELECT ?1 UNION ALL SELECT s + 1 FROM step WHERE s + 1 < ?2),
                 target(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM target WHERE i + 1 < ?4)
                 INSERT INTO rounds(n, target, at, record)
                 SELECT ?3 + s * ?4 + i, r.target, ?5 + (s * 300 + i) * 1000000, r.record
                 FROM step CROSS JOIN target CROSS JOIN rounds r ON r.n = 1 + i * ?6 + (s * 7 + i) % ?6",
                span,
            )
            .unwrap();
        connection
            .execute(
                "WITH RECURSIVE step(s) AS (SELECT ?1 UNION ALL SELECT s + 1 FROM step WHERE s + 1 < ?2),
                 target(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM target WHERE i + 1 < ?4),
                 own AS (SELECT s, i, 1 + i * ?6 + (s * 7 + i) % ?6 AS n FROM step CROSS JOIN target)
                 INSERT INTO exchanges
                 SELECT e.target, ?5 + (s * 300 + i) * 1000000, ?3 + s * ?4 + i, e.place, random(), e.control, e.role,
                 e.flags, e.verdict, e.goodput * (900 + abs(random()) % 200) / 1000, e.resolve, e.connect, e.tls,
                 e.processing, e.transfer
                 FROM own CROSS JOIN rounds r ON r.n = own.n
                 CROSS JOIN exchanges e ON e.target = r.target AND e.at = r.at AND e.round = r.n",
                span,
            )
            .unwrap();
        connection.execute_batch("COMMIT").unwrap();
    }
    incidents(&connection, targets, days, start);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize").unwrap();
}

/// Ten incidents a target, spread over the time, of an hour each.
fn incidents(connection: &Connection, targets: i64, days: i64, start: Timestamp) {
    for index in 0..targets {
        for n in 0..10 {
            let onset = start + SignedDuration::from_hours(24 * days * n / 10 + 1);
            let record = serde_json::json!({
                "id": format!("{}@{onset}", target(index)), "target": target(index), "comparison": "sni",
                "mechanism": "policing", "verdict": Verdict::Throttled, "onset": onset, "onset_interval": [onset, onset],
                "onset_before_data": false, "alarm": onset, "end": onset + SignedDuration::from_hours(1),
                "end_interval": null, "share": 1.0, "tests": 12, "false_alarm_bound": 1e-5,
                "false_alarm_bound_blocks": 1e-2, "evidence": null, "summary": "It was slow.", "repeat": "",
                "rounds": [1], "exchanges": [],
            });
            let end = (onset + SignedDuration::from_hours(1)).as_microsecond();
            connection
                .execute(
                    "INSERT INTO incidents SELECT ?1, n, ?3, ?4, ?5 FROM targets WHERE id = ?2",
                    params![
                        record["id"].as_str(),
                        target(index),
                        onset.as_microsecond(),
                        end,
                        record.to_string()
                    ],
                )
                .unwrap();
        }
    }
}

/// Times of answers to one kind of question: middle, 99th percentile, longest.
fn ask(daemon: &Daemon, name: &str, paths: &[String]) {
    let mut times: Vec<Duration> = Vec::new();
    let mut bytes = 0;
    for path in paths {
        let start = Instant::now();
        let (status, body) = daemon.get(path);
        times.push(start.elapsed());
        assert_eq!(status, 200, "{path}: {body}");
        bytes = bytes.max(body.len());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    println!(
        "{name:<28} p50 {:>9.1?}  p99 {:>9.1?}  max {:>9.1?}  {bytes} bytes",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
fn a_year_is_answered_for() {
    let days = number("THROTTLESCOPE_YEAR_DAYS", 3);
    let targets = number("THROTTLESCOPE_YEAR_TARGETS", 4);
    let asked = number("THROTTLESCOPE_YEAR_ASKED", 8);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("throttlescope")).unwrap();
    let path = folder.path().join("throttlescope/throttlescope.db");
    let began = Instant::now();
    fill(&path, days, targets, throttlescope::clock::wall());
    let size = fs::metadata(&path).unwrap().len();
    let rounds = days * 86_400 / ROUND_SECONDS * targets;
    println!(
        "{days} days, {targets} targets: {rounds} rounds, {} exchanges, {size} bytes, {} a round; filled in {:.0?}",
        rounds * 4,
        size / u64::try_from(rounds).unwrap(),
        began.elapsed()
    );
    let names: Vec<String> = (0..targets).map(|index| format!("\"t{index}.example\"")).collect();
    let config = format!(
        "[catalog]\nplatforms = []\n[store]\nretention = \"400d\"\nmax_size = \"100GB\"\n[[via]]\nid = \"year\"\n\
         address = \"127.0.0.1:1\"\nsubjects = [{}]\ncontrols = [\"control.example\"]\ninterval = \"1h\"\n",
        names.join(", ")
    );
    let began = Instant::now();
    let daemon = Daemon::start_in(Arc::clone(&folder), &config);
    daemon.wait_until("it is ready", |daemon| daemon.get("/-/ready").0 == 200);
    println!("ready {:.0?} after its start, resident {} bytes", began.elapsed(), daemon.resident_bytes());
    let of = |path: &str| -> Vec<String> {
        let target = |n: i64| format!("year%2Ft{}.example", n % targets);
        (0..asked).map(|n| path.replace("{}", &target(n))).collect()
    };
    ask(&daemon, "page /", &of("/"));
    for span in ["hour", "day", "week", "month"] {
        ask(&daemon, &format!("page /target, {span}"), &of(&format!("/target?id={{}}&span={span}")));
    }
    let month = throttlescope::clock::wall() - SignedDuration::from_hours(24 * 30);
    ask(&daemon, "api series, a day", &of("/api/v1/series?target={}"));
    ask(&daemon, "api series, a month", &of(&format!("/api/v1/series?target={{}}&from={month}&bins=720")));
    ask(&daemon, "api incidents", &of("/api/v1/incidents?target={}"));
    let id = format!("{:032x}", 3 + 8);
    ask(&daemon, "api exchange", &of(&format!("/api/v1/exchange?id={id}")));
    ask(&daemon, "page /exchange", &of(&format!("/exchange?id={id}")));
    ask(&daemon, "metrics", &of("/metrics"));
    ask(
        &daemon,
        "page /target of the control",
        &[format!("/target?id=year%2Fcontrol.example&span={}", "month")],
    );
    export(&path, rounds);
}

/// An export streams: what it holds does not grow with what it writes.
fn export(path: &Path, rounds: i64) {
    let began = Instant::now();
    let script = "\"$0\" export --store \"$1\" --since 400d | wc -lc";
    let output = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(env!("CARGO_BIN_EXE_throttlescope"))
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut counts = said.split_whitespace().map(|word| word.parse::<i64>().unwrap());
    let (lines, bytes) = (counts.next().unwrap(), counts.next().unwrap());
    println!("export: {lines} lines, {bytes} bytes in {:.0?}", began.elapsed());
    assert!(lines >= rounds * 4);
}
