//! Dashboards and rules: every name in them exists, they keep the rules of Grafana's dashboard-linter, and every panel
//! finds data in a real Prometheus.

use std::{collections::BTreeSet, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use throttlescope::{
    metrics::{Family, HistogramMode, Kind, PROCESS_FAMILIES},
    model::{
        Comparison, Event, Evidence, Exchange, Failure, FailureKind, Phase, Role, SkipReason, TargetId,
        Vantage, Verdict,
    },
};

use super::{
    metrics::{exchange, judged, measured, target},
    prometheus::Prometheus,
    support::program,
    web::{Web, start},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap()
}

pub(crate) fn dashboards() -> Vec<(String, Value)> {
    ["overview", "target"]
        .map(|name| (name.to_owned(), serde_json::from_str(&read(&format!("grafana/{name}.json"))).unwrap()))
        .into()
}

/// Panels that ask for data, with their targets' expressions.
pub(crate) fn panels(dashboard: &Value) -> Vec<(&Value, Vec<&str>)> {
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| {
            let targets = panel["targets"].as_array().expect("a panel has targets");
            (panel, targets.iter().map(|target| target["expr"].as_str().unwrap()).collect())
        })
        .collect()
}

/// All expressions: panels, variables, annotations.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let mut all: Vec<&str> = panels(dashboard).into_iter().flat_map(|(_, exprs)| exprs).collect();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    all.extend(variables.iter().filter_map(|variable| variable["query"]["query"].as_str()));
    all.extend(
        dashboard["annotations"]["list"].as_array().unwrap().iter().filter_map(|a| a["expr"].as_str()),
    );
    all
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

/// The `expr` blocks of a rules file, by indentation (the files are ours).
fn rule_expressions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut block: Option<usize> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if block.is_some_and(|depth| indent > depth) {
            let last = found.last_mut().unwrap();
            last.push('\n');
            last.push_str(line.trim());
            continue;
        }
        block = None;
        if let Some(expression) = line.trim_start().strip_prefix("expr: ") {
            let expression = expression.trim_end_matches('|').trim();
            block = expression.is_empty().then_some(indent);
            found.push(expression.to_owned());
        }
    }
    found
}

#[test]
fn every_metric_and_label_that_is_named_exists() {
    for (name, dashboard) in dashboards() {
        for expression in expressions(&dashboard) {
            check_names(expression, &name);
        }
    }
    for file in ["rules", "alerts"] {
        let expressions = rule_expressions(&read(&format!("prometheus/{file}.yml")));
        assert!(expressions.len() >= 5, "{file}: {} expressions", expressions.len());
        for expression in expressions {
            check_names(&expression, file);
        }
    }
    let recorded: BTreeSet<String> = read("prometheus/rules.yml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: ").map(str::to_owned))
        .collect();
    for expression in rule_expressions(&read("prometheus/alerts.yml")) {
        for word in expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
            let is_recorded = word.contains(":throttlescope_");
            assert!(!is_recorded || recorded.contains(word), "alerts: nothing records `{word}`");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_a_severity_and_a_test() {
    let (alerts, tests) = (read("prometheus/alerts.yml"), read("prometheus/tests.yml"));
    let runbooks = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.md")).unwrap();
    let blocks: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert_eq!(blocks.len(), 15);
    for block in blocks {
        let name = block.lines().next().unwrap();
        let anchor = format!("runbook_url: docs/alerts.md#{}\n", name.to_lowercase());
        assert!(block.contains(&anchor), "{name} points to its runbook");
        assert!(
            ["critical", "warning", "info"].iter().any(|s| block.contains(&format!("severity: {s}\n"))),
            "{name}"
        );
        assert!(block.contains("summary: ") && block.contains("description: "), "{name}");
        assert!(runbooks.contains(&format!("\n### {name}\n")), "docs/alerts.md has nothing on {name}");
        assert!(tests.contains(&format!("alertname: {name}")), "{name} is not tested");
    }
    for title in runbooks.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(
            alerts.contains(&format!("- alert: {title}\n")),
            "docs/alerts.md tells of {title}, which is no alert"
        );
    }
}

#[test]
fn promtool_checks_and_tests_the_rules() {
    let Some(promtool) = program("promtool") else { return };
    for arguments in
        [["check", "rules", "rules.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "tests.yml"]]
    {
        let output = Command::new(&promtool)
            .current_dir(folder().join("prometheus"))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool {}: {said}", arguments.join(" "));
    }
}

#[test]
fn promtool_reads_every_expression_of_the_dashboards() {
    let Some(promtool) = program("promtool") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, dashboard) in dashboards() {
        let rules = panels(&dashboard)
            .into_iter()
            .flat_map(|(_, exprs)| exprs)
            .map(|expr| filled_in(expr, false))
            .enumerate();
        let rules: Vec<Value> = rules
            .map(|(i, expr)| serde_json::json!({"record": format!("panel:n{i}:x"), "expr": expr}))
            .collect();
        let file = folder.path().join(format!("{name}.yml"));
        // JSON is YAML.
        let document = serde_json::json!({"groups": [{"name": name, "rules": rules}]});
        std::fs::write(&file, document.to_string()).unwrap();
        let output = Command::new(&promtool).args(["check", "rules"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An expression with Grafana's variables replaced as for one probe and one target, with one kind of histogram.
pub(crate) fn filled_in(expression: &str, native: bool) -> String {
    expression
        .replace("$__rate_interval", "1m")
        .replace("$job", ".+")
        .replace("$instance", ".+")
        .replace("$target", "shop/images")
        .replace("$platform", "shop")
        .replace("$native", if native { "1" } else { "-1" })
}

// The rules of https://github.com/grafana/dashboard-linter, by its names.

#[test]
fn the_dashboards_keep_the_linters_rules_for_variables() {
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let variable = |wanted: &str| variables.iter().find(|variable| variable["name"] == wanted).unwrap();
        // template-datasource
        let datasource = variable("datasource");
        assert_eq!(
            (&datasource["type"], &datasource["query"]),
            (&"datasource".into(), &"prometheus".into()),
            "{name}"
        );
        assert_eq!(datasource["label"], "Data source", "{name}");
        // template-job, template-instance
        for (id, label) in [("job", "Job"), ("instance", "Instance")] {
            let variable = variable(id);
            assert_eq!(variable["type"], "query", "{name}: {id}");
            assert_eq!(variable["label"], label, "{name}: {id}");
            assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}: {id}");
            assert_eq!(
                (&variable["multi"], &variable["allValue"]),
                (&true.into(), &".+".into()),
                "{name}: {id}"
            );
        }
        for variable in variables.iter().filter(|variable| variable["type"] == "query") {
            // template-on-time-change-reload, template-label-promql
            assert_eq!(variable["refresh"], 2, "{name}: {}", variable["name"]);
            assert!(variable["query"]["query"].as_str().unwrap().starts_with("label_values("), "{name}");
        }
        // uneditable-dashboard; and what provisioning needs
        assert_eq!(dashboard["editable"], false, "{name}");
        assert_eq!(dashboard["uid"], format!("throttlescope-{name}"));
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
        assert!(dashboard["id"].is_null() && dashboard["tags"][0] == "throttlescope", "{name}");
    }
}

#[test]
fn the_dashboards_keep_the_linters_rules_for_panels_and_targets() {
    for (name, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        for (panel, expressions) in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            let place = format!("{name}: {title}");
            // panel-title-description, panel-units, panel-datasource, panel-no-targets
            assert!(
                !title.is_empty() && panel["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{place}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].as_str().is_some_and(|unit| !unit.is_empty()),
                "{place}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
            assert!(!expressions.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{place}");
            for expression in expressions {
                for (family, suffix, labels) in series(expression) {
                    // target-job, target-instance
                    for label in ["job", "instance"] {
                        assert!(
                            labels.iter().any(|found| found == label),
                            "{place}: no {label} in {expression}"
                        );
                    }
                    // target-counter-agg: counters, and what histograms count, are read through a rate
                    let description = family.describe();
                    if description.kind != Kind::Gauge {
                        let read = format!("{}{suffix}{{", description.name);
                        for (at, _) in expression.match_indices(&read) {
                            let before = &expression[..at];
                            assert!(
                                before.ends_with("rate(") || before.ends_with("increase("),
                                "{place}: {expression}"
                            );
                        }
                    }
                }
                // target-rate-interval
                for (at, found) in expression.match_indices("rate(") {
                    let window = expression[at + found.len()..].split_once('[').map(|(_, rest)| rest);
                    assert!(
                        window.is_some_and(|rest| rest.starts_with("$__rate_interval]")),
                        "{place}: {expression}"
                    );
                }
                assert!(
                    PROCESS_FAMILIES.iter().any(|known| expression.contains(known))
                        || !expression.contains("process_")
                );
            }
        }
        check_layout(&name, &dashboard);
    }
}

/// Panels lie within 24 columns and cover each other nowhere.
fn check_layout(name: &str, dashboard: &Value) {
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let side = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{name}: {}", panel["title"]);
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{name}: {} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn links_lead_to_the_other_dashboard() {
    let text = [read("grafana/overview.json"), read("grafana/target.json")];
    assert!(text[0].contains("/d/throttlescope-target/") && text[1].contains("/d/throttlescope-overview/"));
    assert!(text[1].contains("http://${instance}/"), "and to the status page");
}

/// One second in the life of a daemon: both sides measured, a failure, a judgement.
fn live(web: &Web) {
    let id = TargetId::new("shop/images");
    let metrics = &web.metrics;
    metrics.observe(&measured("shop/images", exchange(131_072)));
    metrics.observe(&measured("shop/images", Exchange { role: Role::Control, ..exchange(131_072) }));
    let failure = Some(Failure { phase: Phase::Tls, kind: FailureKind::Reset, detail: None });
    metrics.observe(&measured("shop/images", Exchange { failure, ..exchange(0) }));
    let evidence = Evidence {
        e_value: 5000.0,
        slowdown: Some(12.5),
        limit_bytes_per_second: Some(16_250.0),
        ..Evidence::default()
    };
    metrics.observe(&judged(Comparison::Sni, Verdict::Throttled, evidence));
    metrics.observe(&Event::Skipped { target: id.clone(), reason: SkipReason::Overrun });
    metrics.observe(&Event::Lagged(Duration::from_millis(3)));
    metrics.set_effective_interval(&id, Duration::from_secs(10));
    metrics.set_budget_remaining(1_000_000);
    metrics.set_store_writable(true);
    metrics.set_reload(true, "2026-01-01T00:00:00Z".parse().unwrap());
}

#[tokio::test]
async fn every_panel_and_every_recording_finds_data() {
    for native in [false, true] {
        let web = start(None).await;
        let targets = [target("shop/images", Role::Subject), target("control/cdn", Role::Control)];
        let vantage = Vantage { country: Some("RU".into()), asn: Some(12389), ..Vantage::default() };
        web.metrics.configure(&targets, &vantage, HistogramMode::Target);
        web.metrics.incident_began(&TargetId::new("shop/images"), Verdict::Throttled, true);
        live(&web);
        let rules = ["rules", "alerts"].map(|name| folder().join(format!("prometheus/{name}.yml")));
        let Some(prometheus) = Prometheus::start(web.address, native, &[&rules[0], &rules[1]]) else {
            return;
        };
        // Rates need counters that grow between scrapes.
        let rate = "rate(throttlescope_exchange_failures_total{phase=\"tls\",kind=\"reset\"}[1m]) > 0";
        while prometheus.query(rate).await.is_empty() {
            live(&web);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for (name, dashboard) in dashboards() {
            for (panel, expressions) in panels(&dashboard) {
                let mut found = 0;
                for expression in expressions {
                    found += prometheus.query(&filled_in(expression, native)).await.len();
                }
                assert!(found > 0, "{name}: `{}` has no data (native: {native})", panel["title"]);
            }
            let incidents = dashboard["annotations"]["list"][1]["expr"].as_str().unwrap();
            assert_eq!(prometheus.query(&filled_in(incidents, native)).await.len(), 1, "{name}");
        }
        for line in read("prometheus/rules.yml").lines() {
            if let Some(recorded) = line.trim().strip_prefix("- record: ") {
                prometheus.value(recorded).await;
            }
        }
        let alert = "ALERTS{alertname=\"ThrottlescopeIncident\",alertstate=\"firing\"}";
        assert_eq!(prometheus.value(alert).await, 1.0);
        web.metrics.incident_ended(&TargetId::new("shop/images"), Verdict::Throttled);
        prometheus
            .value(
                "throttlescope_incident_active == 0 unless on (target) (throttlescope_incident_active == 1)",
            )
            .await;
        prometheus.value(&format!("absent({alert})")).await;
    }
}
