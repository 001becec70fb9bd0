//! Dashboards and rules: every name in them exists, `promtool` has tested them, and people are told what to do. Their
//! parts hold the rules of Grafana's linter, its schema, what provisions them, and what a real Prometheus finds in them.

mod histograms;
mod linter;
mod live;
mod provisioning;
mod schema;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use throttlescope::{
    metrics::{Family, Kind, PROCESS_FAMILIES},
    model::{Comparison, FailureKind, Phase, SkipReason, Verdict},
};

use super::support::program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("dashboards")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap()
}

/// A YAML file, seen from the repository.
fn yaml(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules of a file.
fn rules(file: &str) -> Vec<Value> {
    let document = yaml(&format!("dashboards/prometheus/{file}.yml"));
    let groups = document["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list `{key}` in {value}"))
}

fn dashboards() -> Vec<(String, Value)> {
    ["overview", "target"]
        .map(|name| (name.to_owned(), serde_json::from_str(&read(&format!("grafana/{name}.json"))).unwrap()))
        .into()
}

/// Panels that ask for data.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// All expressions: panels, variables, annotations.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let queries =
        panels(dashboard).flat_map(|panel| list(panel, "targets")).map(|target| text(target, "expr"));
    let variables = list(&dashboard["templating"], "list");
    let annotations = list(&dashboard["annotations"], "list").iter().map(|a| text(a, "expr"));
    queries
        .chain(variables.iter().filter_map(|variable| variable["query"]["query"].as_str()))
        .chain(annotations)
        .collect()
}

/// The families named in an expression, each with the suffix it is read by and the labels it is selected by.
fn series(expression: &str) -> Vec<(Family, &'static str, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find("throttlescope_") {
        let recorded = rest[..start].ends_with(':');
        rest = &rest[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if recorded || after.starts_with(':') {
            continue;
        }
        let (family, suffix) =
            resolve(name).unwrap_or_else(|| panic!("no family is named `{name}`: {expression}"));
        let selector =
            after.strip_prefix('{').and_then(|text| text.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = selector
            .split(',')
            .filter(|matcher| !matcher.is_empty())
            .map(|matcher| matcher.split(['=', '!']).next().unwrap_or_default().trim().to_owned());
        found.push((family, suffix, labels.collect()));
    }
    found
}

fn resolve(name: &str) -> Option<(Family, &'static str)> {
    for &family in Family::ALL {
        let description = family.describe();
        let suffixes: &[&'static str] =
            if description.kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            if name.strip_suffix(suffix) == Some(description.name) {
                return Some((family, suffix));
            }
        }
    }
    None
}

/// Values that a label of a closed list may have; `None` for ids and names of the configuration.
fn closed_list(label: &str) -> Option<BTreeSet<&'static str>> {
    Some(match label {
        "phase" => Phase::ALL.iter().map(|phase| phase.name()).collect(),
        "kind" => FailureKind::ALL.iter().map(|kind| kind.name()).chain(["page", "media", "api"]).collect(),
        "verdict" => Verdict::ALL.iter().map(|verdict| verdict.name()).collect(),
        "reason" => SkipReason::ALL.iter().map(|reason| reason.name()).collect(),
        "role" => ["subject", "control", "canary"].into(),
        "comparison" => {
            [Comparison::History, Comparison::Control, Comparison::Sni].iter().map(|c| c.name()).collect()
        }
        _ => return None,
    })
}

fn check_names(expression: &str, place: &str) {
    for (family, suffix, labels) in series(expression) {
        let description = family.describe();
        for label in labels {
            let scraped =
                ["job", "instance"].contains(&label.as_str()) || (label == "le" && suffix == "_bucket");
            assert!(
                scraped || description.labels.contains(&label.as_str()),
                "{place}: {} has no label `{label}`",
                description.name
            );
        }
    }
    // Every quoted value of a closed list is in that list.
    for (label, list) in ["phase", "kind", "verdict", "reason", "role", "comparison"]
        .map(|label| (label, closed_list(label).unwrap()))
    {
        for operator in ["=\"", "=~\""] {
            for (at, found) in expression.match_indices(&format!("{label}{operator}")) {
                let values = expression[at + found.len()..].split('"').next().unwrap_or_default();
                for value in values.split('|') {
                    assert!(list.contains(value), "{place}: `{value}` is no {label}");
                }
            }
        }
    }
}

#[test]
fn every_metric_and_label_that_is_named_exists() {
    for (name, dashboard) in dashboards() {
        for expression in expressions(&dashboard) {
            check_names(expression, &name);
            assert!(
                !expression.contains("process_")
                    || PROCESS_FAMILIES.iter().any(|known| expression.contains(known)),
                "{name}: {expression}"
            );
        }
    }
    let recorded: BTreeSet<String> =
        rules("rules").iter().map(|rule| text(rule, "record").to_owned()).collect();
    assert!(recorded.len() >= 5);
    for file in ["rules", "alerts"] {
        for rule in rules(file) {
            let expression = text(&rule, "expr");
            check_names(expression, file);
            for word in words(expression) {
                let is_recorded = word.contains(":throttlescope_");
                assert!(!is_recorded || recorded.contains(word), "{file}: nothing records `{word}`");
            }
        }
    }
}

/// Names of series and whatever else looks like one.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn every_alert_has_a_runbook_a_severity_and_a_test() {
    let tests = read("prometheus/tests.yml");
    let runbooks = std::fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let alerts = rules("alerts");
    assert_eq!(alerts.len(), 16);
    for alert in &alerts {
        let name = text(alert, "alert");
        assert!(["critical", "warning", "info"].contains(&text(&alert["labels"], "severity")), "{name}");
        let annotations = &alert["annotations"];
        assert!(!text(annotations, "summary").is_empty() && text(annotations, "description").ends_with('.'));
        // The link leads to a heading with something under it.
        let (file, anchor) = text(annotations, "runbook_url").split_once('#').unwrap();
        assert_eq!((file, anchor), ("docs/alerts.md", name.to_lowercase().as_str()));
        let section = runbooks.split_once(&format!("\n### {name}\n\n"));
        let section = section.unwrap_or_else(|| panic!("docs/alerts.md has nothing on {name}")).1;
        assert!(section.split("\n#").next().unwrap().len() > 100, "{name}: the runbook says too little");
        // It is seen to fire, and not to.
        let fires = format!("alertname: {name}\n        exp_alerts:");
        assert!(tests.contains(&fires), "{name} is never seen to fire");
        assert!(tests.contains(&format!("alertname: {name}}}")), "{name} is never seen to be silent");
    }
    for title in runbooks.lines().filter_map(|line| line.strip_prefix("### ")) {
        let known = alerts.iter().any(|alert| alert["alert"] == title);
        assert!(known, "docs/alerts.md tells of {title}, which is no alert");
    }
}

/// Runs a program of Prometheus' in the folder of the rules; it must have nothing against them.
fn approves(program: &Path, arguments: &[&str]) {
    let output =
        Command::new(program).current_dir(folder().join("prometheus")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{} {}: {said}", program.display(), arguments.join(" "));
}

#[test]
fn promtool_checks_and_tests_the_rules() {
    let Some(promtool) = program("promtool") else { return };
    approves(&promtool, &["check", "rules", "rules.yml"]);
    approves(&promtool, &["check", "rules", "alerts.yml"]);
    approves(&promtool, &["check", "config", "prometheus.yml"]);
    approves(&promtool, &["test", "rules", "tests.yml"]);
}

#[test]
fn promtool_reads_every_expression_of_the_dashboards() {
    let Some(promtool) = program("promtool") else { return };
    let scratch = tempfile::tempdir().unwrap();
    for (name, dashboard) in dashboards() {
        let variables = Variables {
            instance: ".+",
            target: "shop/images",
            native: false,
            range: "1d",
            rate_interval: "1m",
        };
        let queries = panels(&dashboard).flat_map(|panel| list(panel, "targets")).enumerate();
        let rules: Vec<Value> = queries
            .map(|(i, target)| {
                let expression = variables.fill(text(target, "expr"));
                serde_json::json!({"record": format!("panel:n{i}:x"), "expr": expression})
            })
            .collect();
        let file = scratch.path().join(format!("{name}.yml"));
        // JSON is YAML.
        let document = serde_json::json!({"groups": [{"name": name, "rules": rules}]});
        std::fs::write(&file, document.to_string()).unwrap();
        approves(&promtool, &["check", "rules", file.to_str().unwrap()]);
    }
}

/// What Grafana puts in the place of its variables.
#[derive(Clone, Copy)]
struct Variables<'a> {
    instance: &'a str,
    target: &'a str,
    native: bool,
    range: &'a str,
    rate_interval: &'a str,
}

impl Variables<'_> {
    fn fill(&self, expression: &str) -> String {
        let filled = expression
            .replace("$__rate_interval", self.rate_interval)
            .replace("$__range", self.range)
            .replace("$job", ".+")
            .replace("$instance", self.instance)
            .replace("$target", self.target)
            .replace("$platform", self.target.split('/').next().unwrap_or_default())
            .replace("$native", if self.native { "1" } else { "-1" });
        assert!(!filled.contains('$'), "a variable that nothing fills: {filled}");
        filled
    }
}
