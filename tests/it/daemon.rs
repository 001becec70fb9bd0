//! The daemon as an operator runs it: start, scrape, reload, stop, and what it does when things go wrong.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    prometheus::Prometheus,
    support::{Daemon, Nginx},
};

/// Targets on a local server, each a small object every second.
fn config(port: u16, targets: usize) -> String {
    let mut text = String::from(
        "[catalog]\nplatforms = []\n[schedule]\nbytes_per_hour = \"100GB\"\nbytes_per_day = \"2TB\"\n",
    );
    for index in 0..targets {
        let _written = write!(
            text,
            "[[target]]\nid = \"local/t{index}\"\nurl = \"http://127.0.0.1:{port}/1k?{index}\"\ninterval = \"1s\"\nbytes = \"1KiB\"\n"
        );
    }
    text
}

#[test]
fn it_measures_answers_and_stops() {
    let Some(nginx) = Nginx::start(&["localhost"]) else { return };
    let mut daemon = Daemon::start(&config(nginx.http.port(), 2));
    daemon.wait_until("it is ready", |daemon| daemon.get("/-/ready").0 == 200);
    assert_eq!(daemon.get("/-/healthy").0, 200);
    let series = r#"throttlescope_exchanges_total{target="local/t0"}"#;
    daemon.wait_until("a target is measured", |daemon| daemon.metric(series).is_some_and(|n| n >= 2.0));
    let (status, body) = daemon.get("/api/v1/status");
    assert_eq!(status, 200);
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["targets"][0]["id"], "local/t0");
    let (status, page) = daemon.get("/");
    assert!(status == 200 && page.contains("local/t1"));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn a_reload_builds_fully_then_swaps_and_counters_go_on() {
    let Some(nginx) = Nginx::start(&["localhost"]) else { return };
    let daemon = Daemon::start(&config(nginx.http.port(), 2));
    let kept = r#"throttlescope_exchanges_total{target="local/t0"}"#;
    let gone = r#"throttlescope_exchanges_total{target="local/t1"}"#;
    daemon.wait_until("both are measured", |daemon| {
        [kept, gone].iter().all(|series| daemon.metric(series).is_some_and(|n| n >= 1.0))
    });
    let before = daemon.metric(kept).unwrap();
    fs::write(daemon.config(), config(nginx.http.port(), 1)).unwrap();
    daemon.signal("HUP");
    daemon.wait_until("the removed target is gone", |daemon| daemon.metric(gone).is_none());
    assert!(daemon.metric(kept).unwrap() >= before);
    fs::write(daemon.config(), "[nonsense]\n").unwrap();
    let (status, answer) = daemon.post("/-/reload");
    assert!(status >= 400 && answer.contains("nonsense"), "{status}: {answer}");
    let successful = "throttlescope_config_last_reload_successful";
    assert_eq!(daemon.metric(successful), Some(0.0));
    fs::remove_file(daemon.config()).unwrap();
    daemon.signal("HUP");
    daemon.wait_for_log("not reloaded");
    let measured = daemon.metric(kept).unwrap();
    daemon.wait_until("the old configuration is still in effect", |daemon| {
        daemon.metric(kept).is_some_and(|n| n > measured)
    });
    fs::write(daemon.config(), config(nginx.http.port(), 1)).unwrap();
    assert_eq!(daemon.post("/-/reload").0, 200);
    assert_eq!(daemon.metric(successful), Some(1.0));
}

#[test]
fn it_stops_in_the_middle_of_a_starved_transfer() {
    let server = crate::serve::Server::start(&["--pace", "*=1000"]);
    let port = server.http.port();
    let text = format!(
        "[catalog]\nplatforms = []\n[[target]]\nid = \"slow/one\"\nurl = \"http://127.0.0.1:{port}/bytes/131072\"\ninterval = \"1s\"\n"
    );
    let mut daemon = Daemon::start(&text);
    // The server's count of connections is not told; that the daemon has a socket to it is.
    daemon.wait_until("the transfer runs", |_| established(port));
    let asked = Instant::now();
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
}

/// Whether a TCP connection to the loopback port stands (`/proc/net/tcp`, state 01).
fn established(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{port:04X} 01");
    table.lines().any(|line| line.contains(&remote))
}

#[test]
fn a_second_instance_is_told_so() {
    let daemon = Daemon::start("[catalog]\nplatforms = []\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[catalog]\nplatforms = []\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["run", "--config", path.to_str().unwrap(), "--web.listen-address"])
        .arg(daemon.address.to_string())
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot listen on") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_full_table_of_file_descriptors_is_told() {
    let built = env!("CARGO_BIN_EXE_throttlescope");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 8; exec \"$0\" check-config", built])
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("ulimit -n") && stderr.lines().count() == 1, "{stderr}");

    // A server that never answers holds on to every connection: the table fills.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = Daemon::start_with_descriptors(&config(silent.local_addr().unwrap().port(), 40), 40);
    daemon.wait_for_log("out of file descriptors");
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn two_hundred_targets_a_second_are_all_accounted_for() {
    let Some(nginx) = Nginx::start(&["localhost"]) else { return };
    // Two minutes by hand: THROTTLESCOPE_SOAK_SECONDS=120.
    let seconds = std::env::var("THROTTLESCOPE_SOAK_SECONDS").map_or(10, |text| text.parse::<u64>().unwrap());
    let targets = 200;
    let daemon = Daemon::start(&config(nginx.http.port(), targets));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(prometheus) = runtime.block_on(async { Prometheus::start(daemon.address, true, &[]) }) else {
        return;
    };
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let (_, metrics) = daemon.get("/metrics");
    crate::prometheus::check_metrics(&metrics);
    let scrapes = runtime.block_on(prometheus.value("min_over_time(up[1h])"));
    assert!(scrapes == 1.0 && prometheus.complaints().is_empty(), "{scrapes}: {:?}", prometheus.complaints());
    let elapsed = start.elapsed().as_secs_f64();
    let sum = |name: &str| -> f64 {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    let measured = sum("throttlescope_exchanges_total");
    let started = sum("throttlescope_schedule_lag_seconds_count");
    let skipped = sum("throttlescope_rounds_skipped_total");
    println!(
        "{measured} exchanges of {started} rounds, {skipped} skipped, in {elapsed:.1} s; {:.0} were wished for; {:.1} MB resident",
        targets as f64 * elapsed,
        daemon.resident_bytes() as f64 / 1e6
    );
    // Every round that was due either ran, was skipped and counted, or is running: one a target at most.
    assert!(
        measured > 0.0 && started >= measured && started - measured <= targets as f64,
        "{measured} of {started}"
    );
    assert!(daemon.resident_bytes() < 60_000_000, "{} bytes resident", daemon.resident_bytes());
}
