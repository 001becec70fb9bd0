//! A year of rounds in the store: how large it is, how fast the page and the API answer, how soon the daemon is ready.
//!
//! CI takes a few days; `THROTTLESCOPE_YEAR_DAYS=365 THROTTLESCOPE_YEAR_TARGETS=40` asks for the year.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use throttlescope::{model::TargetId, store::Reader};

use crate::{
    seed::{Past, ROUND_SECONDS},
    support::Daemon,
};

/// Most days that are exported, to be watched.
const EXPORTED_DAYS_MAX: i64 = 35;

fn number(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
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
    let ids: Vec<String> = (0..targets).map(|index| format!("year/t{index}.example")).collect();
    let slow: Vec<[i64; 2]> = (1..=9).rev().map(|n| [days * 24 * n / 10, days * 24 * n / 10 - 1]).collect();
    let end = throttlescope::clock::wall();
    let past = Past { days, targets: &ids, control: "year/control.example", end, slow: &slow };
    past.fill(&path);
    let size = fs::metadata(&path).unwrap().len();
    let rounds = past.rounds();
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
    let newest = Reader::new(path.clone()).exchanges(&TargetId::new(&*ids[0]), 1).unwrap();
    let id = &newest[0].exchange.id;
    ask(&daemon, "api exchange", &of(&format!("/api/v1/exchange?id={id}")));
    ask(&daemon, "page /exchange", &of(&format!("/exchange?id={id}")));
    ask(&daemon, "metrics", &of("/metrics"));
    ask(
        &daemon,
        "page /target of the control",
        &[format!("/target?id=year%2Fcontrol.example&span={}", "month")],
    );
    export(&path, days, targets, end);
}

/// An export streams: what it holds does not grow with what it writes. Of a long past it writes the last weeks.
fn export(path: &Path, days: i64, targets: i64, end: Timestamp) {
    let days = days.min(EXPORTED_DAYS_MAX);
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["export", "--since", &(end - SignedDuration::from_hours(24 * days)).to_string(), "--store"])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut bytes, mut lines, mut peak) = (0, 0, 0);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = out.read(&mut chunk).unwrap();
        if read == 0 {
            break;
        }
        bytes += read;
        lines += i64::try_from(chunk[..read].split(|byte| *byte == b'\n').count() - 1).unwrap();
        peak = peak.max(peak_bytes(child.id()));
    }
    assert!(child.wait().unwrap().success());
    println!(
        "export: {lines} lines, {bytes} bytes in {:.0?}, at most {peak} bytes resident",
        began.elapsed()
    );
    // The first round of the span may fall on either side of its begin.
    assert!(lines >= (days * 86_400 / ROUND_SECONDS - 1) * targets * 4, "{lines}");
    assert!(peak < 100_000_000, "{peak} bytes resident");
}

/// The most memory that a process had resident so far; zero once it has ended.
fn peak_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
