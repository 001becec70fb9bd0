//! The daemon over time: an emulated throttle sets in and is lifted, processes end in between, people are told once.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use throttlescope::{
    demo::{Relay, Throttle},
    model::Verdict,
};

use crate::{serve::Server, support::Daemon};

/// A measurement server behind a throttle that can be switched.
pub(crate) struct Line {
    _server: Server,
    _runtime: tokio::runtime::Runtime,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) address: SocketAddr,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self::slowed_to(60_000.0)
    }

    /// The throttle's rate in bytes of payload a second.
    pub(crate) fn slowed_to(rate: f64) -> Self {
        let server = Server::start(&[
            "--client-requests-per-minute",
            "1000000",
            "--client-bytes-per-minute",
            "100GB",
            "--client-connections",
            "1000",
        ]);
        let throttle = Arc::new(Throttle::new("slow.example", rate, 16_384));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let relay = runtime.block_on(Relay::bind(server.https, Arc::clone(&throttle))).unwrap();
        let address = relay.address().unwrap();
        runtime.spawn(relay.run());
        Self { _server: server, _runtime: runtime, throttle, address }
    }

    /// The configuration of a daemon that compares two names there, as often as it can.
    pub(crate) fn config(&self, more: &str) -> String {
        format!(
            "{more}\n[catalog]\nplatforms = []\n[schedule]\nbytes_per_hour = \"100GB\"\nbytes_per_day = \"2TB\"\n\
             [[via]]\nid = \"lab\"\naddress = \"{}\"\nsubjects = [\"slow.example\"]\ncontrols = [\"fast.example\"]\n\
             interval = \"1s\"\nbytes = \"64KiB\"\n",
            self.address
        )
    }
}

/// A webhook that keeps what it is told.
pub(crate) struct Webhook {
    pub(crate) url: String,
    pub(crate) documents: Receiver<Value>,
    /// When each request came, refused ones included.
    pub(crate) asked: Receiver<Instant>,
}

impl Webhook {
    /// `refuse` of the first requests are answered with 503.
    pub(crate) fn start(refuse: u32) -> Self {
        Self::refusing(refuse, "503 Busy")
    }

    /// So many of the first requests get this status line and headers.
    pub(crate) fn refusing(mut refuse: u32, refusal: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook-of-a-secret", listener.local_addr().unwrap());
        let (sender, documents) = channel();
        let (ask, asked) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                // Who only wants the documents does not listen.
                let _unheard = ask.send(Instant::now());
                let status = if refuse > 0 { refusal } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _gone = reader.get_mut().write_all(answer.as_bytes());
                if refuse > 0 {
                    refuse -= 1;
                } else if sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { url, documents, asked }
    }

    pub(crate) fn next(&self) -> Value {
        self.documents.recv_timeout(Duration::from_mins(2)).expect("the webhook is told")
    }
}

const ACTIVE: &str = r#"throttlescope_incident_active{target="lab/slow.example",verdict="throttled"}"#;
const COUNTED: &str = r#"throttlescope_incidents_total{target="lab/slow.example",verdict="throttled"}"#;
const VERDICT: &str = r#"throttlescope_verdict{target="lab/slow.example",verdict="throttled"}"#;

fn json(daemon: &Daemon, path: &str) -> Value {
    let (status, body) = daemon.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn an_incident_begins_is_told_survives_a_kill_and_ends() {
    let line = Line::new();
    let webhook = Webhook::start(1);
    let config = line.config(&format!("[[notify]]\nwebhook = \"{}\"", webhook.url));
    let mut daemon = Daemon::start(&config);
    assert_eq!(daemon.metric("throttlescope_store_writable"), Some(1.0));
    daemon.wait_until("some rounds are good", |daemon| {
        daemon.metric(r#"throttlescope_exchanges_total{target="lab/slow.example"}"#) > Some(4.0)
    });
    assert_eq!(daemon.metric(ACTIVE), Some(0.0));
    line.throttle.set(true);
    daemon.wait_until("the incident is found", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    assert_eq!((daemon.metric(COUNTED), daemon.metric(VERDICT)), (Some(1.0), Some(1.0)));
    let told = webhook.next();
    assert_eq!(
        (told["change"].as_str(), told["schema"].as_str()),
        (Some("began"), Some("throttlescope/notification/1"))
    );
    let incident = &told["incident"];
    assert_eq!(incident["target"], "lab/slow.example");
    let summary = incident["summary"].as_str().unwrap();
    assert!(summary.starts_with("lab/slow.example is being slowed down on this line"), "{summary}");
    assert!(!incident["rounds"].as_array().unwrap().is_empty());

    // The page and the API show it down to one exchange.
    let past = json(&daemon, "/api/v1/incidents");
    let past = &past["incidents"][0];
    assert_eq!((past["verdict"].as_str(), &past["end"]), (Some("throttled"), &Value::Null));
    let id = past["exchanges"][0].as_str().unwrap();
    let exchange = json(&daemon, &format!("/api/v1/exchange?id={id}"));
    assert_eq!(exchange["exchange"]["name"], "slow.example");
    assert!(exchange["exchange"]["curve"].as_array().unwrap().len() > 5);
    let (_, page) = daemon.get("/target?id=lab%2Fslow.example");
    assert!(page.contains(id), "the evidence is linked");
    let onset = past["onset"].clone();

    daemon.signal("KILL");
    daemon.wait();
    let mut daemon = Daemon::start_in(daemon.folder(), &config);
    daemon.wait_until("the incident is taken up", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    assert_eq!(daemon.metric(COUNTED), Some(0.0), "it is not a new one");
    let again = json(&daemon, "/api/v1/incidents");
    assert_eq!(again["incidents"].as_array().unwrap().len(), 1);
    assert_eq!(again["incidents"][0]["onset"], onset);

    line.throttle.set(false);
    daemon.wait_until("the lift is found", |daemon| daemon.metric(ACTIVE) == Some(0.0));
    let told = webhook.next();
    assert_eq!(told["change"], "ended");
    assert_eq!(told["incident"]["onset"], onset, "the same incident; and nothing was told twice");
    assert!(told["incident"]["end"].is_string());
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(webhook.documents.try_recv().is_err());

    // What is exported is what our own `analyze` reads.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["export", "--format", "ndjson", "--config"])
        .arg(daemon.config())
        .env("XDG_STATE_HOME", daemon.folder().path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = daemon.folder().path().join("export.ndjson");
    std::fs::write(&file, &output.stdout).unwrap();
    let analyzed = std::process::Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["analyze", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&analyzed.stdout).unwrap();
    assert!(analyzed.status.code().is_some_and(|code| code != 2), "{said}");
}

#[test]
fn who_asks_for_time_gets_it_and_no_secret_is_stored() {
    let line = Line::new();
    let webhook = Webhook::refusing(2, "429 Slow Down\r\nRetry-After: 7");
    let config = line.config(&format!("[[notify]]\nwebhook = \"{}\"", webhook.url));
    let mut daemon = Daemon::start(&config);
    daemon.wait_until("some rounds are good", |daemon| daemon.metric(EXCHANGES) > Some(4.0));
    line.throttle.set(true);
    let ask = || webhook.asked.recv_timeout(Duration::from_mins(2)).expect("it is asked");
    let first = ask();
    // It is asked for seven seconds, so that the pause of our own, which is two, does not pass for it.
    let second = ask();
    assert!(second - first >= Duration::from_secs(7), "{:?}", second - first);
    // Killed meanwhile, the daemon knows to whom it goes from its configuration alone.
    daemon.signal("KILL");
    daemon.wait();
    let kept: Vec<String> = {
        let connection = rusqlite::Connection::open(daemon.database()).unwrap();
        let mut outbox = connection.prepare("SELECT id || message FROM outbox").unwrap();
        outbox.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert!(kept.len() == 1 && kept[0].contains("webhook at 127.0.0.1"), "{kept:?}");
    for file in ["throttlescope.db", "throttlescope.db-wal"] {
        let bytes = std::fs::read(daemon.database().with_file_name(file)).unwrap_or_default();
        assert!(!bytes.windows(8).any(|eight| eight == b"a-secret"), "{file}");
    }
    let daemon = Daemon::start_in(daemon.folder(), &config);
    assert_eq!(webhook.next()["change"], "began");
    drop(daemon);
}

#[test]
fn nobody_is_told_what_the_store_does_not_hold_yet() {
    let line = Line::new();
    let webhook = Webhook::start(0);
    let daemon = Daemon::start(&line.config(&format!("[[notify]]\nwebhook = \"{}\"", webhook.url)));
    daemon.wait_until("some rounds are good", |daemon| daemon.metric(EXCHANGES) > Some(4.0));
    let other = rusqlite::Connection::open(daemon.database()).unwrap();
    other.busy_timeout(Duration::from_mins(1)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    line.throttle.set(true);
    daemon.wait_until("the incident is found", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    // A store that cannot be written holds nobody up for ever: told now or much later, but not in between.
    assert!(webhook.asked.try_recv().is_err(), "told before it was stored");
    let released = Instant::now();
    other.execute_batch("COMMIT").unwrap();
    let asked = webhook.asked.recv_timeout(Duration::from_mins(2)).expect("it is told");
    assert!(asked >= released, "told before it was stored");
}

#[test]
fn what_waits_for_a_receiver_that_is_configured_no_more_is_given_up() {
    let line = Line::new();
    let webhook = Webhook::refusing(u32::MAX, "503 Busy");
    let mut daemon = Daemon::start(&line.config(&format!("[[notify]]\nwebhook = \"{}\"", webhook.url)));
    daemon.wait_until("some rounds are good", |daemon| daemon.metric(EXCHANGES) > Some(4.0));
    line.throttle.set(true);
    webhook.asked.recv_timeout(Duration::from_mins(2)).expect("it is asked");
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::start_in(daemon.folder(), &line.config(""));
    let said = daemon.wait_for_log("notification given up");
    assert!(said.contains("webhook at 127.0.0.1") && said.contains("no longer configured"), "{said}");
    assert_eq!(daemon.metric("throttlescope_notification_failures_total"), Some(1.0));
    daemon.wait_until("it is settled", |daemon| {
        count(daemon, "SELECT CAST(count(*) AS REAL) FROM outbox WHERE settled IS NULL") == 0.0
    });
}

#[test]
fn a_store_that_is_broken_stops_nothing_and_is_said_everywhere() {
    let line = Line::new();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("throttlescope")).unwrap();
    let database = folder.path().join("throttlescope/throttlescope.db");
    let nonsense = "no database, whatever its name says ".repeat(200);
    std::fs::write(&database, &nonsense).unwrap();
    let mut daemon = Daemon::start_in(Arc::clone(&folder), &line.config(""));
    let said = daemon.wait_for_log("cannot be written");
    assert!(said.contains("is damaged or no database") && said.contains("move it away"), "{said}");
    daemon.wait_until("it measures all the same", |daemon| daemon.metric(EXCHANGES) > Some(2.0));
    assert_eq!(daemon.metric("throttlescope_store_writable"), Some(0.0));
    assert!(daemon.metric("throttlescope_store_errors_total") >= Some(1.0));
    let (status, page) = daemon.get("/");
    assert!(status == 200 && page.contains("What is measured now cannot be stored"), "{page}");
    assert_eq!(std::fs::read_to_string(&database).unwrap(), nonsense, "nothing was changed");
    std::fs::rename(&database, folder.path().join("away")).unwrap();
    daemon.wait_until("it is written again", |daemon| {
        daemon.metric("throttlescope_store_writable") == Some(1.0)
    });
    daemon.wait_until("what was measured meanwhile is there", |daemon| count(daemon, OF_SUBJECT) > 2.0);
    daemon.wait_until("the page says so", |daemon| !daemon.get("/").1.contains("cannot be stored"));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

/// Rows of the store that a question counts.
fn count(daemon: &Daemon, question: &str) -> f64 {
    let connection = rusqlite::Connection::open(daemon.database()).unwrap();
    connection.query_row(question, [], |row| row.get::<_, f64>(0)).unwrap()
}

const EXCHANGES: &str = r#"throttlescope_exchanges_total{target="lab/slow.example"}"#;
const OF_SUBJECT: &str = "SELECT CAST(count(*) AS REAL) FROM exchanges e JOIN targets t ON t.n = e.target
    WHERE t.id = 'lab/slow.example' AND e.role = 0";

#[test]
fn metrics_page_and_store_say_the_same() {
    let line = Line::new();
    let daemon = Daemon::start(&line.config(""));
    daemon.wait_until("it measures", |daemon| daemon.metric(EXCHANGES) > Some(12.0));
    // Measuring goes on meanwhile: what is stored lies between what is counted before and after.
    let before = daemon.metric(EXCHANGES).unwrap();
    daemon.wait_until("all of it is stored", |daemon| count(daemon, OF_SUBJECT) >= before);
    let stored = count(&daemon, OF_SUBJECT);
    assert!(stored <= daemon.metric(EXCHANGES).unwrap());
    // What ended two seconds ago is written.
    let now = throttlescope::clock::wall() - jiff::SignedDuration::from_secs(2);
    let from = now - jiff::SignedDuration::from_hours(1);
    let path = format!("/api/v1/series?target=lab%2Fslow.example&from={from}&until={now}&bins=1");
    let series = json(&daemon, &path);
    let bin = &series["bins"][0];
    let until = now.as_microsecond();
    let restricted = format!("{OF_SUBJECT} AND at < {until}");
    assert_eq!(bin["exchanges"].as_f64(), Some(count(&daemon, &restricted)));
    assert_eq!(bin["failures"].as_f64(), Some(count(&daemon, &format!("{restricted} AND e.flags & 1 = 1"))));
    // The lower median.
    let median = |role: u32| {
        let of = format!(
            "WITH g AS (SELECT e.goodput FROM exchanges e JOIN targets t ON t.n = e.target WHERE t.id = 'lab/slow.example'
             AND e.role = {role} AND e.goodput IS NOT NULL AND at < {until} ORDER BY e.goodput)
             SELECT CAST(goodput AS REAL) FROM g LIMIT 1 OFFSET (SELECT (count(*) - 1) / 2 FROM g)"
        );
        Some(count(&daemon, &of))
    };
    assert_eq!(bin["goodput_bytes_per_second"].as_f64(), median(0));
    assert_eq!(bin["control_goodput_bytes_per_second"].as_f64(), median(1));
    let stood =
        format!("SELECT CAST(verdict AS REAL) FROM exchanges WHERE at < {until} ORDER BY at DESC LIMIT 1");
    let stood = Verdict::ALL[count(&daemon, &stood) as usize];
    assert_eq!(bin["verdict"].as_str(), Some(stood.name()));
    let (_, page) = daemon.get("/target?id=lab%2Fslow.example");
    assert!(page.contains("exchange?id="));

    line.throttle.set(true);
    daemon.wait_until("the incident is found", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    daemon.wait_until("it is stored", |daemon| count(daemon, &incidents("count(*)")) > 0.0);
    incident_is_the_same_everywhere(&daemon, true);
    line.throttle.set(false);
    daemon.wait_until("the lift is found", |daemon| daemon.metric(ACTIVE) == Some(0.0));
    daemon.wait_until("it is stored", |daemon| count(daemon, &incidents("count(ended)")) > 0.0);
    incident_is_the_same_everywhere(&daemon, false);
}

/// A number that the table of incidents gives.
fn incidents(what: &str) -> String {
    format!("SELECT CAST({what} AS REAL) FROM incidents")
}

/// Metrics, API, page and store agree on the one incident there is.
fn incident_is_the_same_everywhere(daemon: &Daemon, lasts: bool) {
    assert_eq!(daemon.metric(COUNTED), Some(1.0));
    assert_eq!(count(daemon, &incidents("count(*)")), 1.0);
    let told = json(daemon, "/api/v1/incidents");
    let told = told["incidents"].as_array().unwrap();
    assert_eq!(told.len(), 1);
    let (_, page) = daemon.get("/target?id=lab%2Fslow.example");
    let agree = |key: &str, column: &str| {
        let at: jiff::Timestamp = told[0][key].as_str().unwrap().parse().unwrap();
        assert_eq!(at.as_microsecond() as f64, count(daemon, &incidents(column)), "{key}");
        assert!(page.contains(&format!("datetime=\"{at}\"")), "{key} is not on the page");
    };
    agree("onset", "onset");
    if lasts {
        assert!(told[0]["end"].is_null() && page.contains("goes on"));
        let status = json(daemon, "/api/v1/status");
        let of =
            status["targets"].as_array().unwrap().iter().find(|of| of["id"] == "lab/slow.example").unwrap();
        assert_eq!((of["verdict"].as_str(), daemon.metric(VERDICT)), (Some("throttled"), Some(1.0)));
        assert!(page.contains("verdict throttled"));
    } else {
        agree("end", "ended");
        assert!(!page.contains("goes on"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_counts_rightly_over_a_kill() {
    let line = tokio::task::block_in_place(Line::new);
    let config = line.config("");
    let first = Daemon::start(&config);
    let Some(prometheus) = crate::prometheus::Prometheus::start(first.address, false, &[]) else { return };
    let counted = r#"throttlescope_exchanges_total{target="lab/slow.example"}"#;
    while prometheus.value(counted).await < 8.0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let before = prometheus.value(counted).await;
    let mut first = first;
    first.signal("KILL");
    first.wait();
    let second = first.start_again(&config);
    let resets = format!("resets({counted}[10m])");
    while prometheus.value(&resets).await < 1.0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    second.wait_until("the second measures", |daemon| daemon.metric(EXCHANGES) > Some(4.0));
    while prometheus.value(counted).await < 4.0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // From zero again: one reset, and no step by what the store remembers. Prometheus sees neither what came before its
    // first scrape nor what was counted after the last one before the kill.
    assert!((prometheus.value(&resets).await - 1.0).abs() < f64::EPSILON);
    let increase = prometheus.value(&format!("increase({counted}[10m])")).await;
    let stored = count(&second, OF_SUBJECT);
    let after = prometheus.value(counted).await;
    assert!(increase >= after, "{increase} after {before} and {after}");
    assert!(increase <= (stored + 1.0) * 1.5, "{increase} where {stored} were taken");
    tokio::task::block_in_place(move || drop((second, line)));
}
