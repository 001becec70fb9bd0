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
    notify::{Message, Receiver, Sender},
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

fn message(receiver: Receiver, change: IncidentChange, now: Timestamp) -> Message {
    let onset = now - SignedDuration::from_mins(10);
    let target = TargetId::new("twitter/images");
    Message {
        receiver,
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
    let receiver = || Receiver::Alertmanager(format!("http://{}/", manager.address).parse().unwrap());
    let sender = sender();
    sender.send(&message(receiver(), IncidentChange::Began, now()), now()).await.unwrap();
    let alerts = manager.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let labels = &alerts[0]["labels"];
    assert_eq!(labels["alertname"], "ThrottlescopeIncident");
    assert_eq!((labels["platform"].as_str(), labels["asn"].as_str()), (Some("twitter"), Some("12389")));
    assert_eq!(labels["verdict"], "throttled");
    assert_eq!(alerts[0]["status"]["state"], "active");
    assert_eq!(alerts[0]["annotations"]["mechanism"], "policing");
    let told = hook.next();
    assert_eq!(told["status"], "firing");
    // Telling it again, as is done while the incident lasts, tells nobody anew.
    let first = message(receiver(), IncidentChange::Began, now());
    sender.send(&first, now()).await.unwrap();
    assert_eq!(manager.alerts().len(), 1);
    let mut ended = message(receiver(), IncidentChange::Ended, now());
    ended.incident.incident.onset = first.incident.incident.onset;
    sender.send(&ended, now()).await.unwrap();
    let told = hook.next();
    assert_eq!(told["status"], "resolved", "{told}");
    assert!(manager.alerts().iter().all(|alert| alert["status"]["state"] != "active"));
}

#[tokio::test]
async fn what_failed_is_worth_another_attempt_or_not() {
    let hook = Webhook::start(1);
    let receiver = Receiver::Webhook(hook.url.parse().unwrap());
    let told = message(receiver, IncidentChange::Began, now());
    let error = sender().send(&told, now()).await.unwrap_err();
    assert!(error.again && error.problem.contains("503"), "{error}");
    sender().send(&told, now()).await.unwrap();
    assert_eq!(hook.next()["incident"]["id"], told.incident.id.as_str());
    // Nobody listens: the secret of the address stays out of what is said.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::Webhook(format!("http://{nobody}/secret").parse().unwrap());
    assert!(!receiver.to_string().contains("secret"));
    let error = sender().send(&message(receiver, IncidentChange::Began, now()), now()).await.unwrap_err();
    assert!(error.again && !error.problem.contains("secret"), "{error}");
}
