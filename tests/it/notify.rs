//! Notifications to a real Alertmanager, and to receivers that are slow of understanding.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use throttlescope::{
    model::{Comparison, Incident, IncidentChange, IncidentRecord, Mechanism, TargetId, Vantage, Verdict},
    notify::{Kind, Message, Receiver, Sender},
    probe::{Options, Prober},
};

use crate::{
    support::{program, request},
    watch::Webhook,
};

/// Debian's Alertmanager on a free loopback port.
pub(crate) struct Alertmanager {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    pub(crate) fn start(webhook: &str) -> Option<Self> {
        let program = program("prometheus-alertmanager")?;
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("alertmanager.yml");
        let text = format!(
            "route:\n  receiver: hook\n  group_wait: 0s\n  group_interval: 1s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {webhook}\n    send_resolved: true\n"
        );
        std::fs::write(&config, text).unwrap();
        // It does not say which port it was given; a free one is asked for and left to it.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let manager = Self { child, address, _folder: folder };
        let deadline = Instant::now() + Duration::from_mins(1);
        while std::net::TcpStream::connect(address).is_err() || request(address, "GET", "/-/ready").0 != 200 {
            assert!(Instant::now() < deadline, "Alertmanager never answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(manager)
    }

    fn alerts(&self) -> Vec<Value> {
        let (status, body) = request(self.address, "GET", "/api/v2/alerts");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn receiver(kind: Kind, url: &str) -> Receiver {
    Receiver::all([(kind, &url.parse().unwrap())]).pop().unwrap()
}

fn message(receiver: &Receiver, change: IncidentChange, now: Timestamp) -> Message {
    let onset = now - SignedDuration::from_mins(10);
    let target = TargetId::new("twitter/images");
    Message {
        receiver: receiver.name().to_owned(),
        change,
        incident: IncidentRecord {
            id: IncidentRecord::id_of(&target, onset),
            target,
            comparison: Comparison::Sni,
            mechanism: Some(Mechanism::Policing),
            incident: Incident {
                verdict: Verdict::Throttled,
                onset,
                onset_interval: [onset, onset],
                onset_before_data: false,
                alarm: onset,
                end: (change == IncidentChange::Ended).then_some(now),
                end_interval: None,
                share: 1.0,
                tests: 7,
                false_alarm_bound: 1e-4,
                false_alarm_bound_blocks: 1.0,
            },
            evidence: None,
            summary: "twitter/images is being slowed down on this line.".into(),
            repeat: "throttlescope measure twitter/images".into(),
            rounds: vec![1, 2],
            exchanges: Vec::new(),
        },
        vantage: Vantage { country: Some("RU".into()), asn: Some(12_389), ..Vantage::default() },
        at: now,
    }
}

fn sender() -> Sender {
    Sender::new(Prober::new(Options::default()).unwrap().tls_config()).unwrap()
}

/// The wall clock, as Alertmanager sees it.
fn now() -> Timestamp {
    throttlescope::clock::wall()
}

#[tokio::test]
async fn an_alertmanager_learns_of_onset_and_end() {
    let hook = Webhook::start(0);
    let Some(manager) = Alertmanager::start(&hook.url) else { return };
    let receiver = receiver(Kind::Alertmanager, &format!("http://{}/", manager.address));
    let sender = sender();
    sender.send(&message(&receiver, IncidentChange::Began, now()), &receiver, now()).await.unwrap();
    let alerts = manager.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let labels = &alerts[0]["labels"];
    assert_eq!(labels["alertname"], "ThrottlescopeIncident");
    assert_eq!(labels["severity"].as_str(), Some(severity_of_the_rule().as_str()));
    assert_eq!((labels["platform"].as_str(), labels["asn"].as_str()), (Some("twitter"), Some("12389")));
    assert_eq!(labels["verdict"], "throttled");
    assert_eq!(alerts[0]["status"]["state"], "active");
    assert_eq!(alerts[0]["annotations"]["mechanism"], "policing");
    let told = hook.next();
    assert_eq!(told["status"], "firing");
    // Telling it again, as is done while the incident lasts, tells nobody anew.
    let first = message(&receiver, IncidentChange::Began, now());
    sender.send(&first, &receiver, now()).await.unwrap();
    assert_eq!(manager.alerts().len(), 1);
    let mut ended = message(&receiver, IncidentChange::Ended, now());
    ended.incident.incident.onset = first.incident.incident.onset;
    sender.send(&ended, &receiver, now()).await.unwrap();
    let told = hook.next();
    assert_eq!(told["status"], "resolved", "{told}");
    assert!(manager.alerts().iter().all(|alert| alert["status"]["state"] != "active"));
}

/// How severe the rule of the same name is.
fn severity_of_the_rule() -> String {
    let rules = std::fs::read_to_string("dashboards/prometheus/alerts.yml").unwrap();
    let rule = rules.split("- alert: ").find(|rule| rule.starts_with("ThrottlescopeIncident\n")).unwrap();
    let severity = rule.lines().find_map(|line| line.trim().strip_prefix("severity: "));
    severity.unwrap().to_owned()
}

#[tokio::test]
async fn what_failed_is_worth_another_attempt_or_not() {
    let hook = Webhook::refusing(1, "503 Busy\r\nRetry-After: 40");
    let to = receiver(Kind::Webhook, &hook.url);
    let told = message(&to, IncidentChange::Began, now());
    let error = sender().send(&told, &to, now()).await.unwrap_err();
    assert!(error.again && error.problem.contains("503"), "{error}");
    assert_eq!(error.after, Some(Duration::from_secs(40)));
    sender().send(&told, &to, now()).await.unwrap();
    assert_eq!(hook.next()["incident"]["id"], told.incident.id.as_str());
    // Nobody listens: the secret of the address stays out of what is said.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = receiver(Kind::Webhook, &format!("http://{nobody}/secret"));
    let told = message(&to, IncidentChange::Began, now());
    let error = sender().send(&told, &to, now()).await.unwrap_err();
    assert!(error.again && !error.problem.contains("secret"), "{error}");
}

#[test]
fn receivers_are_told_apart_without_their_secrets() {
    let url = |text: &str| -> url::Url { text.parse().unwrap() };
    let configured = [
        (Kind::Webhook, url("https://hooks.example/secret/1")),
        (Kind::Alertmanager, url("https://hooks.example/secret/1")),
        (Kind::Webhook, url("https://hooks.example/secret/2")),
        (Kind::Webhook, url("https://hooks.example:8443/secret/3")),
        (Kind::Webhook, url("https://hooks.example/secret/4")),
    ];
    let all = Receiver::all(configured.iter().map(|(kind, url)| (*kind, url)));
    let names: Vec<&str> = all.iter().map(Receiver::name).collect();
    let expected = [
        "webhook at hooks.example",
        "alertmanager at hooks.example",
        "webhook at hooks.example #2",
        "webhook at hooks.example:8443",
        "webhook at hooks.example #3",
    ];
    assert_eq!(names, expected);
}
