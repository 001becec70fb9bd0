//! `[[target]]`, `[[via]]`, `[[notify]]`, joined with the catalogue's selection.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    catalog::{BULK_BYTES, Catalog},
    model::{EndpointKind, Role, Target, TargetId, Vantage},
    schedule::{CONFIRM_SHARE, RoundCost},
};

use super::{
    ConfiguredTarget, Notify, Problem, Via, Wishes,
    read::{Section, Sections},
    values,
};

/// Body bytes of an exchange, at most: beyond it a curve tells nothing more, and memory and budgets suffer.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Targets, at most: a series budget, and the time that a look at all of them takes.
const TARGETS_MAX: usize = 5_000;

const TARGET_KEYS: [&str; 8] =
    ["id", "url", "role", "controls", "connect_to", "interval", "bytes", "insecure"];
const VIA_KEYS: [&str; 6] = ["id", "address", "subjects", "controls", "interval", "bytes"];
const NOTIFY_KEYS: [&str; 2] = ["webhook", "alertmanager"];

/// What targets are drawn from.
pub(super) struct Drawn<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) platforms: &'a [String],
    pub(super) vantage: &'a Vantage,
    pub(super) schedule: Wishes,
}

/// A configured target, and the lines to name when it turns out wrong.
struct Own {
    target: ConfiguredTarget,
    lines: BTreeMap<&'static str, Option<usize>>,
}

/// Reads the repeated sections.
pub(super) fn resolve(
    drawn: &Drawn<'_>,
    sections: &mut Sections,
    problems: &mut Vec<Problem>,
) -> (Vec<ConfiguredTarget>, Vec<Via>, Vec<Notify>) {
    let mut take = |name: &str| sections.repeated.remove(name).unwrap_or_default();
    let (targets, vias, notify) = (take("target"), take("via"), take("notify"));
    let own: Vec<Own> = targets.into_iter().filter_map(|section| drawn.target(section, problems)).collect();
    let vias: Vec<Via> = vias.into_iter().filter_map(|section| drawn.via(section, problems)).collect();
    let notify = notify.into_iter().filter_map(|section| notification(section, problems)).collect();
    check_ids(&own, &vias, problems);
    check_controls(drawn, &own, problems);
    (drawn.join(own), vias, notify)
}

impl Drawn<'_> {
    fn target(&self, mut section: Section, problems: &mut Vec<Problem>) -> Option<Own> {
        let lines = TARGET_KEYS.iter().map(|key| (*key, section.line_of(key))).collect();
        required(&section, &["id", "url"], problems);
        let id = section.text("id", problems, values::id);
        let url = section.text("url", problems, values::url);
        let role = section.text("role", problems, |text| match text {
            "subject" => Ok(Role::Subject),
            "control" => Ok(Role::Control),
            "canary" => Ok(Role::Canary),
            other => Err(format!("`{other}` is not a role, write \"subject\", \"control\" or \"canary\"")),
        });
        let role = role.unwrap_or(Role::Subject);
        let controls = section.texts("controls", problems).unwrap_or_default();
        let connect_to = section.text("connect_to", problems, values::host_port);
        let interval = section.text("interval", problems, values::interval);
        let compared = !controls.is_empty();
        let bytes = section.text("bytes", problems, |text| self.bytes(text, compared)).unwrap_or(BULK_BYTES);
        let insecure = section.boolean("insecure", problems).unwrap_or(false);
        section.finish(&TARGET_KEYS, problems);
        let id = id?;
        // What takes the place of a built-in target is of its kind.
        let kind = self.catalog.target(&id).map_or(EndpointKind::Media, |built_in| built_in.kind);
        let target = Target {
            id: TargetId::new(id),
            url: url?,
            role,
            kind,
            controls: controls.into_iter().map(TargetId::new).collect(),
            bytes,
            connect_to,
            check_certificate: !insecure,
        };
        // A control is measured within the pairs of others unless it has an interval of its own.
        let interval = interval.or((role != Role::Control).then_some(self.schedule.interval));
        Some(Own { target: ConfiguredTarget { target, interval, built_in: false }, lines })
    }

    fn via(&self, mut section: Section, problems: &mut Vec<Problem>) -> Option<Via> {
        required(&section, &["id", "address", "subjects", "controls"], problems);
        let id = section.text("id", problems, |text| match values::id(text)? {
            id if id.contains('/') => {
                Err(format!("`{id}` contains a slash, its targets are `<id>/<subject>`"))
            }
            id => Ok(id),
        });
        let address = section.text("address", problems, values::host_port);
        let mut names = |key: &str| {
            let line = section.line_of(key);
            let names = section.texts(key, problems)?;
            let mut problem = |message: String| {
                problems.push(Problem { line, place: Some(format!("[[via]] {key}")), message });
            };
            if names.is_empty() {
                problem("is empty, name at least one host".to_owned());
            }
            let valid = |name: &String| values::host_name(name).map_err(&mut problem).ok();
            Some(names.iter().filter_map(valid).collect::<Vec<String>>())
        };
        let (subjects, controls) = (names("subjects"), names("controls"));
        let interval = section.text("interval", problems, values::interval).unwrap_or(self.schedule.interval);
        let bytes = section.text("bytes", problems, |text| self.bytes(text, true)).unwrap_or(BULK_BYTES);
        section.finish(&VIA_KEYS, problems);
        Some(Via { id: id?, address: address?, subjects: subjects?, controls: controls?, interval, bytes })
    }

    /// A size that the budgets can hold one round of.
    fn bytes(&self, text: &str, compared: bool) -> Result<u64, String> {
        let bytes = values::size(text)?;
        if bytes > BYTES_MAX {
            return Err(format!("`{text}` is more than an exchange may take, write at most \"64MiB\""));
        }
        let left = self.schedule.bytes_per_hour as f64 * (1.0 - CONFIRM_SHARE);
        let needed = RoundCost::of(bytes, compared).bulk;
        if needed as f64 > left {
            let (needed, left) = (human(needed), human(left as u64));
            return Err(format!(
                "a round needs up to {needed} and the hour leaves {left}, lower it or raise bytes_per_hour"
            ));
        }
        Ok(bytes)
    }

    /// The catalogue's selection with what was configured in its place, then the rest, and the controls they name.
    fn join(&self, own: Vec<Own>) -> Vec<ConfiguredTarget> {
        let mut own: Vec<Option<ConfiguredTarget>> = own.into_iter().map(|own| Some(own.target)).collect();
        let mut replacement = |id: &TargetId| {
            own.iter_mut().find(|one| one.as_ref().is_some_and(|one| one.target.id == *id))?.take()
        };
        let selected = |id: &str| self.platforms.iter().any(|platform| platform == id);
        let platforms = self.catalog.platforms.iter().filter(|platform| selected(&platform.id));
        let endpoints = platforms.flat_map(|platform| &platform.targets);
        let canaries =
            self.catalog.canaries.iter().filter(|canary| selected(&canary.of)).map(|canary| &canary.target);
        let mut targets: Vec<ConfiguredTarget> = endpoints
            .chain(canaries)
            .map(|target| replacement(&target.id).unwrap_or_else(|| self.built_in(target)))
            .collect();
        let named: BTreeSet<TargetId> =
            targets.iter().chain(own.iter().flatten()).flat_map(|one| one.target.controls.clone()).collect();
        let controls = self.catalog.controls.iter().filter(|control| named.contains(&control.target.id));
        let is_own = |id: &TargetId| own.iter().flatten().any(|one| one.target.id == *id);
        let missing = controls.filter(|control| !is_own(&control.target.id));
        let missing: Vec<ConfiguredTarget> = missing
            .map(|control| ConfiguredTarget {
                target: control.target.clone(),
                interval: None,
                built_in: true,
            })
            .collect();
        targets.extend(own.into_iter().flatten());
        targets.extend(missing);
        targets
    }

    fn built_in(&self, target: &Target) -> ConfiguredTarget {
        let mut target = target.clone();
        target.controls.extend(self.catalog.domestic_controls(self.vantage.country.as_deref()));
        ConfiguredTarget { target, interval: Some(self.schedule.interval), built_in: true }
    }
}

fn notification(mut section: Section, problems: &mut Vec<Problem>) -> Option<Notify> {
    let count = NOTIFY_KEYS.iter().filter(|key| section.has(key)).count();
    if count != 1 {
        let message = "name one of webhook and alertmanager, in a section each";
        problems.push(section.problem(None, "", message));
    }
    let webhook = section.text("webhook", problems, values::receiver).map(Notify::Webhook);
    let alertmanager = section.text("alertmanager", problems, values::receiver).map(Notify::Alertmanager);
    section.finish(&NOTIFY_KEYS, problems);
    webhook.or(alertmanager)
}

fn required(section: &Section, keys: &[&str], problems: &mut Vec<Problem>) {
    for key in keys.iter().filter(|key| !section.has(key)) {
        problems.push(section.problem(None, key, "is missing, every section of this kind needs it"));
    }
}

fn check_ids(own: &[Own], vias: &[Via], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for one in own {
        if !seen.insert(one.target.target.id.to_string()) {
            let message = format!("`{}` is there twice, give each target its own", one.target.target.id);
            problems.push(one.problem("id", message));
        }
    }
    if own.len() > TARGETS_MAX {
        let message = format!("there are {} targets, at most {TARGETS_MAX} can be measured", own.len());
        problems.push(Problem { line: None, place: Some("[[target]]".to_owned()), message });
    }
    let mut via_ids = BTreeSet::new();
    for via in vias.iter().filter(|via| !via_ids.insert(via.id.as_str())) {
        let message = format!("`{}` is there twice, give each server its own", via.id);
        problems.push(Problem { line: None, place: Some("[[via]] id".to_owned()), message });
    }
    for (via, name) in
        vias.iter().flat_map(|via| via.subjects.iter().chain(&via.controls).map(move |name| (via, name)))
    {
        let id = format!("{}/{name}", via.id);
        if !seen.insert(id.clone()) {
            let message = format!("`{id}` is there twice, name each host once");
            problems.push(Problem { line: None, place: Some(format!("[[via]] {}", via.id)), message });
        }
    }
}

fn check_controls(drawn: &Drawn<'_>, own: &[Own], problems: &mut Vec<Problem>) {
    for one in own {
        let target = &one.target.target;
        if target.role == Role::Control && !target.controls.is_empty() {
            problems.push(
                one.problem("controls", "a control has none itself, remove them or the role".to_owned()),
            );
        }
        for id in &target.controls {
            let configured = own.iter().find(|other| other.target.target.id == *id);
            let known = drawn.catalog.controls.iter().any(|control| control.target.id == *id);
            let message = match configured {
                Some(other) if other.target.target.role == Role::Control => continue,
                Some(_) => format!("`{id}` is not a control, give it role = \"control\""),
                None if known => continue,
                None => format!(
                    "there is no control `{id}`, add a [[target]] with this id and role = \"control\""
                ),
            };
            problems.push(one.problem("controls", message));
        }
    }
}

impl Own {
    fn problem(&self, key: &'static str, message: String) -> Problem {
        let line = self.lines.get(key).copied().flatten();
        Problem { line, place: Some(format!("[[target]] {key}")), message }
    }
}

/// A size for people, in the units that sizes are written in.
fn human(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().si().to_string()
}
