//! From onset to lift: a real daemon on a line that is slowed down for a while, a real Prometheus that scrapes it with
//! classic histograms and one that scrapes it with native ones, a real Alertmanager, and a webhook at the end. Then every
//! panel, variable, annotation and rule is asked for what it found.
//!
//! The small size runs behind the emulated throttler. The full one, by hand, stands in the laboratory:
//!
//! ```sh
//! cargo test --locked --test it -- --ignored --nocapture the_same_in_the_laboratory
//! ```

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Family, Variables, dashboards, list, panels, read, rules, series, text, words};
use crate::{
    notify::Alertmanager,
    prometheus::Prometheus,
    support::{Daemon, lab_can_be_had},
    watch::{Line, Webhook},
};

/// An hour of the rules passes in ten seconds. The rules are those that are shipped, with their durations divided.
const LAPSE: u64 = 360;

/// How long anything may take that must come.
const PATIENCE: Duration = Duration::from_mins(5);

/// Always fails, on the machine itself: nobody listens where it leads.
const BROKEN: &str = "shop/broken";

/// Panels that show something only where exchanges fail; the slowed target's do not.
const OF_FAILURES: [&str; 1] = ["Failures"];

/// The alerts that the course of events must raise, of the probe and of the one that has troubles of its own.
const RAISED: [(&str, &str); 9] = [
    ("ThrottlescopeIncident", "probe"),
    ("ThrottlescopeVerdict", "probe"),
    ("ThrottlescopeRateLimit", "probe"),
    ("ThrottlescopeWidespread", ""),
    ("ThrottlescopeControlsFail", "troubled"),
    ("ThrottlescopeStoreNotWritable", "troubled"),
    ("ThrottlescopeReloadFailed", "troubled"),
    ("ThrottlescopeDown", "troubled"),
    ("ThrottlescopeSilent", "troubled"),
];

/// Divides what stands after `for:`, `offset` and in ranges.
fn lapsed(rules: &str) -> String {
    let mut text = rules.to_owned();
    for opening in ["for: ", "offset ", "["] {
        let mut parts = text.split(opening);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(opening);
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let seconds = match part.as_bytes().get(digits) {
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3600,
                Some(b'd') => 86_400,
                _ => 0,
            };
            match part[..digits].parse::<u64>() {
                Ok(number) if seconds > 0 => {
                    let milliseconds = number * seconds * 1000 / LAPSE;
                    out.push_str(&[&milliseconds.to_string(), "ms", &part[digits + 1..]].concat());
                }
                _ => out.push_str(part),
            }
        }
        text = out;
    }
    text
}

#[test]
fn rules_pass_faster_and_stay_the_same() {
    let rule = "expr: rate(a[1h]) > avg_over_time(b{x=~\"[a-z]+\"}[7d] offset 1h)\nfor: 15m\nrule_files: [rules.yml]\n";
    let fast = "expr: rate(a[10000ms]) > avg_over_time(b{x=~\"[a-z]+\"}[1680000ms] offset 10000ms)\nfor: 2500ms\nrule_files: [rules.yml]\n";
    assert_eq!(lapsed(rule), fast);
    for file in ["prometheus/rules.yml", "prometheus/alerts.yml"] {
        let (shipped, fast) = (read(file), lapsed(&read(file)));
        let durations = ["for: ", "offset ", "["].map(|opening| shipped.matches(opening).count());
        assert_eq!(
            fast.matches("ms").count() - shipped.matches("ms").count(),
            durations.iter().sum::<usize>()
        );
    }
}

/// How the throttle is switched on and off.
enum Switch<'a> {
    /// By us.
    Emulated(&'a Line),
    /// By the laboratory's own clock: how long ago it started, about.
    Timed(Instant),
}

/// When the laboratory's throttle sets in and is lifted, after its start.
const ONSET: Duration = Duration::from_mins(1);
const LIFT: Duration = Duration::from_mins(4);

/// The line, and the two names on it.
struct Course<'a> {
    via: String,
    subject: &'a str,
    switch: Switch<'a>,
}

impl Course<'_> {
    async fn throttle(&self, on: bool) {
        match self.switch {
            Switch::Emulated(line) => line.throttle.set(on),
            Switch::Timed(start) => {
                tokio::time::sleep_until((start + if on { ONSET } else { LIFT }).into()).await;
            }
        }
    }

    /// Until shortly before the lift.
    async fn last_moment(&self) {
        if let Switch::Timed(start) = self.switch {
            tokio::time::sleep_until((start + LIFT.saturating_sub(Duration::from_secs(10))).into()).await;
        }
    }

    fn target(&self) -> String {
        format!("lab/{}", self.subject)
    }

    /// Measures as often as it can, and tells the Alertmanager.
    fn config(&self, manager: &Alertmanager) -> String {
        format!(
            "[vantage]\ncountry = \"RU\"\nasn = 12389\noperator = \"Lab\"\nnetwork = \"fixed\"\n\
             [[notify]]\nalertmanager = \"http://{}\"\n{}\
             [[via]]\nid = \"lab\"\naddress = \"{}\"\nsubjects = [\"{}\"]\ncontrols = [\"fast.example\"]\n\
             interval = \"1s\"\nbytes = \"64KiB\"\n[[target]]\nid = \"{BROKEN}\"\nurl = \"https://broken.example/\"\n\
             connect_to = \"{}\"\ninterval = \"1s\"\n",
            manager.address,
            BUDGET,
            self.via,
            self.subject,
            nobody(),
        )
    }
}

const BUDGET: &str =
    "[catalog]\nplatforms = []\n[schedule]\nbytes_per_hour = \"100GB\"\nbytes_per_day = \"2TB\"\n";

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A daemon whose controls fail, whose store is damaged, and whose configuration has been spoilt since it started.
fn troubled() -> Daemon {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("throttlescope")).unwrap();
    std::fs::write(folder.path().join("throttlescope/throttlescope.db"), "no database ".repeat(500)).unwrap();
    let config = format!(
        "{BUDGET}[[target]]\nid = \"shop/images\"\nurl = \"https://shop.example/\"\ncontrols = [\"control/cdn\"]\n\
         connect_to = \"{0}\"\ninterval = \"1s\"\n[[target]]\nid = \"control/cdn\"\nrole = \"control\"\n\
         url = \"https://cdn.example/\"\nconnect_to = \"{0}\"\ninterval = \"1s\"\n",
        nobody()
    );
    let daemon = Daemon::start_in(folder, &config);
    std::fs::write(daemon.config(), "[schedule]\ninterval = \"five apples\"\n").unwrap();
    assert_ne!(daemon.post("/-/reload").0, 200);
    daemon
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Waits for alerts at the end of the line, from the daemon itself and from Prometheus' rule.
fn told(hook: &Webhook, status: &str, target: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut missing = BTreeSet::from(["the daemon", "a rule"]);
    while !missing.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let document = hook.documents.recv_timeout(left);
        let document = document.unwrap_or_else(|_| panic!("nobody was told of {status} by {missing:?}"));
        for alert in list(&document, "alerts") {
            let labels = &alert["labels"];
            let is_it = labels["alertname"] == "ThrottlescopeIncident" && labels["target"] == target;
            if is_it && alert["status"] == status {
                assert_eq!(labels["verdict"], "throttled");
                missing.remove(if labels["comparison"].is_string() { "the daemon" } else { "a rule" });
            }
        }
    }
}

async fn until(what: &str, prometheus: &Prometheus, query: &str) {
    let deadline = Instant::now() + PATIENCE;
    while prometheus.query(query).await.is_empty() {
        assert!(Instant::now() < deadline, "never: {what} ({query})");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Two Prometheus servers over the same daemon, classic and native.
struct Observers {
    classic: Prometheus,
    native: Prometheus,
    _rules: tempfile::TempDir,
}

impl Observers {
    fn start(probe: &Daemon, troubled: &Daemon, manager: &Alertmanager) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let files = ["rules.yml", "alerts.yml"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, lapsed(&read(&format!("prometheus/{name}")))).unwrap();
            path
        });
        // The one probe stands for three, because three that agree are an alert of their own.
        let instance = |address: std::net::SocketAddr, name: &str| json!({"targets": [address.to_string()], "labels": {"instance": name}});
        let mut targets: Vec<Value> =
            ["probe", "probe-2", "probe-3"].map(|name| instance(probe.address, name)).into();
        targets.push(instance(troubled.address, "troubled"));
        let config = json!({
            "rule_files": files,
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager.address.to_string()]}]}]},
        });
        let classic = Prometheus::start_with(&json!(targets), false, config)?;
        let targets = json!([instance(probe.address, "probe"), instance(troubled.address, "troubled")]);
        let native = Prometheus::start_with(&targets, true, json!({"rule_files": files}))?;
        Some(Self { classic, native, _rules: folder })
    }

    fn both(&self) -> [(&Prometheus, bool); 2] {
        [(&self.classic, false), (&self.native, true)]
    }
}

/// Onset, lift, and all that is said of them.
async fn watch(course: Course<'_>) {
    let hook = Webhook::start(0);
    let Some(manager) = Alertmanager::start(&hook.url) else { return };
    let probe = Daemon::start(&course.config(&manager));
    let mut troubled = troubled();
    let began = now();
    let Some(observers) = Observers::start(&probe, &troubled, &manager) else { return };
    let target = course.target();
    let verdict =
        |word: &str| format!("throttlescope_verdict{{target=\"{target}\",verdict=\"{word}\"}} == 1");
    let firing = |alert: &str, instance: &str| {
        format!("ALERTS{{alertname=\"{alert}\",instance=\"{instance}\",alertstate=\"firing\"}}")
    };
    for (prometheus, _) in observers.both() {
        until("all is well", prometheus, &verdict("normal")).await;
    }
    // Changes are seen against what was before.
    tokio::time::sleep(Duration::from_secs(12)).await;
    course.throttle(true).await;
    let onset = now();
    for (prometheus, _) in observers.both() {
        for (alert, instance) in RAISED {
            let is_early = !matches!(alert, "ThrottlescopeDown" | "ThrottlescopeSilent");
            if is_early && (!instance.is_empty() || std::ptr::eq(prometheus, &raw const observers.classic)) {
                until("the alert is raised", prometheus, &firing(alert, instance)).await;
            }
        }
    }
    tokio::task::block_in_place(|| told(&hook, "firing", &target));
    println!("found {:.0} s after onset", now() - onset);
    troubled.signal("KILL");
    troubled.wait();
    for (prometheus, _) in observers.both() {
        until("the silence is seen", prometheus, &firing("ThrottlescopeSilent", "troubled")).await;
        until("the scrape fails", prometheus, &firing("ThrottlescopeDown", "troubled")).await;
    }
    course.last_moment().await;
    for (prometheus, _) in observers.both() {
        let still = prometheus.query(&firing("ThrottlescopeIncident", "probe")).await;
        assert!(!still.is_empty(), "the incident is over while the throttle is on");
    }
    course.throttle(false).await;
    let lift = now();
    for (prometheus, _) in observers.both() {
        until("all is well again", prometheus, &verdict("normal")).await;
        let over = format!("absent({})", firing("ThrottlescopeIncident", "probe"));
        until("the alert is resolved", prometheus, &over).await;
    }
    tokio::task::block_in_place(|| told(&hook, "resolved", &target));
    println!("over {:.0} s after lift", now() - lift);
    for (prometheus, native) in observers.both() {
        let mut missing = Vec::new();
        let mut asked = questions(prometheus, native, &target, [began, now()], &mut missing).await;
        asked += recordings_and_alerts(prometheus, [began, now()], &mut missing).await;
        println!("native histograms: {native}; {asked} queries, {} without data", missing.len());
        incident_is_drawn(prometheus, &target, [onset, now()]).await;
        assert!(missing.is_empty(), "native: {native}, from {began} to {}: {missing:#?}", now());
    }
}

/// Whether any point of any series is a number, or a histogram.
fn has_data(found: &[Value]) -> bool {
    found.iter().any(|series| {
        let numbers = series["values"].as_array().into_iter().flatten();
        let mut finite = numbers.filter_map(|value| value[1].as_str()?.parse::<f64>().ok());
        finite.any(f64::is_finite) || series["histograms"].as_array().is_some_and(|all| !all.is_empty())
    })
}

/// Asks what the dashboards ask, over the whole span, as Grafana would; gives how many queries that were.
async fn questions(
    prometheus: &Prometheus,
    native: bool,
    target: &str,
    [from, until]: [f64; 2],
    missing: &mut Vec<String>,
) -> u32 {
    let mut asked = 0;
    let range = format!("{:.0}s", until - from);
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let title = text(panel, "title");
            // Grafana's rule for both: never below the interval of scraping (a second here) and never below four.
            let least = panel["interval"].as_str().map_or(1.0, |least| {
                let lapsed = lapsed(&format!("[{least}]"));
                lapsed.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap() / 1000.0
            });
            let rate_interval = format!("{:.0}ms", (least.max(1.0) + 1.0).max(4.0) * 1000.0);
            let about = if name == "overview" {
                ".+"
            } else if OF_FAILURES.contains(&title) {
                BROKEN
            } else {
                target
            };
            let variables = Variables {
                instance: "probe",
                target: about,
                native,
                range: &range,
                rate_interval: &rate_interval,
            };
            for query in list(panel, "targets") {
                // Heatmaps ask for one kind of histogram in A and for the other in B.
                if panel["type"] == "heatmap" && (query["refId"] == "B") != native {
                    continue;
                }
                let expression = variables.fill(text(query, "expr"));
                asked += 1;
                if !has_data(&prometheus.range(&expression, from, until).await) {
                    missing.push(format!("{name}: {title}: {expression}"));
                }
            }
        }
        for variable in list(&dashboard["templating"], "list") {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let variables =
                Variables { instance: "probe", target, native, range: &range, rate_interval: "4s" };
            let filled = variables.fill(query);
            let inside = filled.trim_start_matches("label_values(").trim_end_matches(')');
            let (selector, label) = inside.rsplit_once(", ").unwrap();
            let named = format!("group by ({label}) ({selector})");
            asked += 1;
            let found = prometheus.range(&named, from, until).await;
            if !found.iter().any(|series| series["metric"][label].is_string()) {
                missing.push(format!("{name}: {query}"));
            }
        }
    }
    asked
}

/// Every rule is evaluated without a fault, and what it reads is there; gives how many queries that were.
async fn recordings_and_alerts(
    prometheus: &Prometheus,
    [from, until]: [f64; 2],
    missing: &mut Vec<String>,
) -> u32 {
    let mut asked = 0;
    for rule in prometheus.rules().await {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for rule in rules("rules") {
        let record = text(&rule, "record");
        asked += 1;
        if !has_data(&prometheus.range(record, from, until).await) {
            missing.push(record.to_owned());
        }
    }
    for rule in rules("alerts") {
        let name = text(&rule, "alert");
        let expression = text(&rule, "expr");
        let recorded = words(expression).filter(|word| word.contains(":throttlescope_")).map(str::to_owned);
        let read = series(expression).into_iter().map(|(family, suffix, _)| {
            // A histogram is read in one form or the other.
            let name = family.describe().name;
            if family == Family::ScheduleLag {
                format!("{name} or {name}_count")
            } else {
                format!("{name}{suffix}")
            }
        });
        for input in read.chain(recorded) {
            asked += 1;
            if !has_data(&prometheus.range(&input, from, until).await) {
                missing.push(format!("{name} reads {input}"));
            }
        }
    }
    let raised = prometheus.range("ALERTS{alertstate=\"firing\"}", from, until).await;
    let raised: BTreeSet<String> = raised
        .iter()
        .map(|alert| format!("{} {}", text(&alert["metric"], "alertname"), alert["metric"]["instance"]))
        .collect();
    println!("raised: {raised:#?}");
    asked
}

/// The annotation begins after the onset and has ended.
async fn incident_is_drawn(prometheus: &Prometheus, target: &str, [onset, until]: [f64; 2]) {
    for (name, dashboard) in dashboards() {
        let variables =
            Variables { instance: "probe", target, native: false, range: "1m", rate_interval: "4s" };
        let expression = variables.fill(text(&list(&dashboard["annotations"], "list")[0], "expr"));
        let found = prometheus.range(&expression, onset - 600.0, until).await;
        let drawn: Vec<f64> = found
            .iter()
            .filter(|series| series["metric"]["instance"] == "probe" && series["metric"]["target"] == target)
            .flat_map(|series| list(series, "values"))
            .map(|value| value[0].as_f64().unwrap())
            .collect();
        let (first, last) = (drawn.first().copied().unwrap(), drawn.last().copied().unwrap());
        assert!(onset < first && last < until - 1.0, "{name}: from {first} to {last}");
    }
}

fn run(course: Course<'_>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(watch(course));
}

#[test]
fn every_panel_and_every_rule_has_data_from_onset_to_lift() {
    // Slow enough for the rate to show, fast enough for many rounds.
    let line = Line::slowed_to(30_000.0);
    run(Course { via: line.address.to_string(), subject: "slow.example", switch: Switch::Emulated(&line) });
}

/// Set within the laboratory: this test, started again in it.
const INSIDE: &str = "THROTTLESCOPE_TEST_INSIDE";

#[test]
#[ignore = "six minutes; needs namespaces"]
fn the_same_in_the_laboratory() {
    if std::env::var_os(INSIDE).is_some() {
        let server = std::env::var("THROTTLESCOPE_LAB_SERVER").unwrap();
        let via = format!("{server}:443");
        run(Course { via, subject: "abs.twimg.com", switch: Switch::Timed(Instant::now()) });
        return;
    }
    if !lab_can_be_had() {
        return;
    }
    let test = std::env::current_exe().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args([
            "lab",
            "run",
            "tspu-2021",
            "--onset",
            &format!("{}s", ONSET.as_secs()),
            "--lift",
            &format!("{}s", LIFT.as_secs()),
            "--",
            "env",
            &format!("{INSIDE}=1"),
        ])
        .arg(test)
        .args(["--ignored", "--nocapture", "--exact", "dashboards::live::the_same_in_the_laboratory"])
        .status()
        .unwrap();
    assert!(status.success());
}
