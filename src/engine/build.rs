//! A configuration to what the engine runs on: targets joined with their controls, the prober, the schedule.

use url::Url;

use crate::{
    catalog,
    config::{Config, Notify, Via},
    methods::{Leg, Shape},
    metrics::HistogramMode,
    model::{EndpointKind, HelloKind, Role, Target, TargetId},
    notify,
    probe::{self, Budgets, HttpChoice, Prober, SetupError},
    schedule::Schedule,
};

use super::{
    daemon::Setup,
    plan::{DaemonPlan, PlanItem},
    subjects,
};

impl Setup {
    /// Everything that a configuration says, built fully. `seed` is the schedule's.
    pub fn of(config: &Config, seed: u64) -> Result<Self, SetupError> {
        let targets: Vec<Target> =
            config.targets.iter().map(|configured| configured.target.clone()).collect();
        let prober = Prober::new(probe::Options {
            ca_file: config.ca_file.clone(),
            doh: config.doh.clone(),
            connect_to: subjects::connect_to(&targets),
            ..probe::Options::default()
        })?;
        let schedule = Schedule::new(&config.scheduled(), config.budgets(), seed);
        let receivers = notify::Receiver::all(config.notify.iter().map(receiver));
        Ok(Self { plan: plan(config), prober, schedule, receivers })
    }
}

fn receiver(notify: &Notify) -> (notify::Kind, &Url) {
    match notify {
        Notify::Webhook(url) => (notify::Kind::Webhook, url),
        Notify::Alertmanager(url) => (notify::Kind::Alertmanager, url),
    }
}

/// The plan of a configuration: its own and the catalogue's targets, then those of measurement servers, in the order of
/// [`Config::scheduled`].
fn plan(config: &Config) -> DaemonPlan {
    let find =
        |id: &TargetId| config.targets.iter().map(|configured| &configured.target).find(|t| t.id == *id);
    let own = config.measured().map(|(target, interval)| PlanItem {
        target: target.clone(),
        subject: subjects::subject(target, find),
        interval,
    });
    let vias = config.via_targets().filter_map(|(via, name, id)| via_item(via, name, id));
    let items: Vec<PlanItem> = own.chain(vias).collect();
    let controls = items_controls(config, &items);
    DaemonPlan {
        vantage: config.vantage.clone(),
        shape: Shape {
            bytes: catalog::BULK_BYTES,
            budgets: Budgets::default(),
            hello: HelloKind::Small,
            http: HttpChoice::Http1,
        },
        bytes_per_hour: config.schedule.bytes_per_hour,
        bytes_per_day: config.schedule.bytes_per_day,
        histograms: config.histograms.unwrap_or_else(|| HistogramMode::for_targets(items.len())),
        items,
        controls,
    }
}

/// Every control of the items that is no item itself, once.
fn items_controls(config: &Config, items: &[PlanItem]) -> Vec<Target> {
    let mut controls: Vec<Target> = Vec::new();
    for leg in items.iter().flat_map(|item| &item.subject.controls) {
        let known = items.iter().map(|item| &item.target).chain(&controls).any(|target| target.id == leg.id);
        if known {
            continue;
        }
        let configured = config.targets.iter().find(|configured| configured.target.id == leg.id);
        controls.push(configured.map_or_else(|| via_control(leg), |configured| configured.target.clone()));
    }
    controls
}

/// The other name of a measurement server as a target of its own.
fn via_control(leg: &Leg) -> Target {
    Target {
        id: leg.id.clone(),
        url: leg.url.clone(),
        role: Role::Control,
        kind: EndpointKind::Media,
        controls: Vec::new(),
        bytes: 0,
        connect_to: None,
        check_certificate: false,
    }
}

/// One name on a measurement server. The configuration has checked that there are controls and that the address parses.
fn via_item(via: &Via, name: &str, id: TargetId) -> Option<PlanItem> {
    let url = Url::parse(&format!("https://{}/bytes/{}", via.address, via.bytes)).ok()?;
    let control = via.controls.first()?;
    let mut subject = subjects::same_server(id.clone(), &url, control, name, control);
    for leg in &mut subject.controls {
        leg.id = TargetId::new(format!("{}/{control}", via.id));
    }
    subject.repeat =
        format!("throttlescope compare --via {} --subject {name} --control {control}", via.address);
    let target = Target {
        id,
        url,
        role: Role::Subject,
        kind: EndpointKind::Media,
        controls: Vec::new(),
        bytes: via.bytes,
        connect_to: None,
        check_certificate: false,
    };
    Some(PlanItem { target, subject, interval: via.interval })
}
