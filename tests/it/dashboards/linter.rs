//! The rules of <https://github.com/grafana/dashboard-linter> (as of June 2026), each under its name, for all panels
//! instead of the types that it knows; then what else a dashboard owes to those who look at it.
//!
//! Three rules have nothing to hold here: `target-logql` and `target-logql-auto`, because nothing asks Loki, and
//! `target-promql`, which `promtool_reads_every_expression_of_the_dashboards` is.

use std::collections::BTreeSet;

use serde_json::Value;
use throttlescope::metrics::Kind;

use super::{dashboards, expressions, list, panels, series, text, words};

/// The units that are used, as `categories.ts` of Grafana names them; it falls back to no unit without a word.
const UNITS: [&str; 6] = ["short", "bytes", "Bps", "s", "ops", "percentunit"];

fn each_variable(check: impl Fn(&str, &Value)) {
    for (name, dashboard) in dashboards() {
        for variable in list(&dashboard["templating"], "list") {
            check(&format!("{name}: ${}", text(variable, "name")), variable);
        }
    }
}

fn each_panel(mut check: impl FnMut(&str, &Value)) {
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            check(&format!("{name}: {}", panel["title"]), panel);
        }
    }
}

fn each_expression(check: impl Fn(&str, &str)) {
    each_panel(|place, panel| {
        for target in list(panel, "targets") {
            check(place, text(target, "expr"));
        }
    });
}

#[test]
fn template_datasource_rule() {
    for (name, dashboard) in dashboards() {
        let sources: Vec<&Value> = list(&dashboard["templating"], "list")
            .iter()
            .filter(|variable| variable["type"] == "datasource")
            .collect();
        assert_eq!(sources.len(), 1, "{name}");
        let source = sources[0];
        let said = ["name", "label", "query"].map(|key| text(source, key));
        assert_eq!(said, ["datasource", "Data source", "prometheus"], "{name}");
    }
}

fn template_rule(id: &str, label: &str) {
    for (name, dashboard) in dashboards() {
        let variables = list(&dashboard["templating"], "list");
        let variable = variables.iter().find(|variable| variable["name"] == id).expect(id);
        assert_eq!([text(variable, "type"), text(variable, "label")], ["query", label], "{name}");
        assert_eq!(variable["datasource"]["uid"], "${datasource}", "{name}");
        assert!(variable["multi"] == true && variable["allValue"] == ".+", "{name}");
    }
}

#[test]
fn template_job_rule() {
    template_rule("job", "Job");
}

#[test]
fn template_instance_rule() {
    template_rule("instance", "Instance");
}

#[test]
fn template_label_promql_rule() {
    each_variable(|place, variable| {
        if variable["type"] == "query" {
            let query = text(&variable["query"], "query");
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).expect(place);
            let [(family, "", _)] = series(selector)[..] else { panic!("{place}: {selector}") };
            let scraped = ["job", "instance"].contains(&label);
            assert!(scraped || family.describe().labels.contains(&label), "{place}: {label}");
        }
    });
}

#[test]
fn template_on_time_change_reload_rule() {
    each_variable(|place, variable| {
        assert!(variable["type"] != "query" || variable["refresh"] == 2, "{place}");
    });
}

#[test]
fn panel_datasource_rule() {
    each_panel(|place, panel| {
        for place_of in [panel].into_iter().chain(list(panel, "targets")) {
            assert_eq!(place_of["datasource"]["uid"], "${datasource}", "{place}");
        }
    });
}

#[test]
fn panel_title_description_rule() {
    each_panel(|place, panel| {
        assert!(!text(panel, "title").is_empty() && text(panel, "description").ends_with('.'), "{place}");
    });
}

#[test]
fn panel_units_rule() {
    each_panel(|place, panel| {
        let config = &panel["fieldConfig"];
        let overrides = list(config, "overrides").iter().flat_map(|one| list(one, "properties"));
        let units =
            overrides.filter(|property| property["id"] == "unit").map(|property| text(property, "value"));
        for unit in units.chain([text(&config["defaults"], "unit")]) {
            assert!(UNITS.contains(&unit), "{place}: `{unit}`");
        }
    });
}

#[test]
fn panel_no_targets_rule() {
    each_panel(|place, panel| assert!(!list(panel, "targets").is_empty(), "{place}"));
}

#[test]
fn target_rate_interval_rule() {
    // Like the linter's own: `increase` may have a span of its own, here a day.
    each_expression(|place, expression| {
        for (at, found) in expression.match_indices("rate(") {
            let window = expression[at + found.len()..].split_once('[').map(|(_, rest)| rest);
            assert!(
                window.is_some_and(|rest| rest.starts_with("$__rate_interval]")),
                "{place}: {expression}"
            );
        }
    });
}

/// Every selector of our series says which probes; what Prometheus records of the process has the same labels.
fn target_matcher_rule(label: &str) {
    each_expression(|place, expression| {
        let matcher = format!("{label}=~\"${label}\"");
        for selector in expression.split('{').skip(1).map(|rest| rest.split('}').next().unwrap_or_default()) {
            assert!(selector.contains(&matcher), "{place}: no {label} in `{selector}`");
        }
        let named = words(expression)
            .filter(|word| word.starts_with("throttlescope_") || word.starts_with("process_"));
        assert_eq!(named.count(), expression.matches('{').count(), "{place}: a series without a selector");
    });
}

#[test]
fn target_job_rule() {
    target_matcher_rule("job");
}

#[test]
fn target_instance_rule() {
    target_matcher_rule("instance");
}

#[test]
fn target_counter_agg_rule() {
    // By type, not by the ending `_total`: what a histogram counts is a counter as well.
    each_expression(|place, expression| {
        for (family, suffix, _) in series(expression) {
            let description = family.describe();
            if description.kind != Kind::Gauge {
                for (at, _) in expression.match_indices(&format!("{}{suffix}{{", description.name)) {
                    let before = &expression[..at];
                    assert!(
                        before.ends_with("rate(") || before.ends_with("increase("),
                        "{place}: {expression}"
                    );
                }
            }
        }
    });
}

#[test]
fn uneditable_dashboard_rule() {
    for (name, dashboard) in dashboards() {
        assert_eq!(dashboard["editable"], false, "{name}");
    }
}

#[test]
fn a_dashboard_keeps_its_address_and_loads_in_every_grafana_since_10() {
    for (name, dashboard) in dashboards() {
        // Links and bookmarks know it by this; a numeric id is one installation's.
        assert_eq!(dashboard["uid"], format!("throttlescope-{name}"));
        assert!(dashboard.get("id").is_none() && dashboard["tags"][0] == "throttlescope", "{name}");
        // Later versions migrate it when they load it.
        assert_eq!(dashboard["schemaVersion"], 39, "{name}");
    }
}

#[test]
fn what_a_graph_shows_has_names() {
    each_panel(|place, panel| {
        for target in list(panel, "targets") {
            // Tables have columns, and a single value has its title.
            let is_named = matches!(text(panel, "type"), "timeseries" | "state-timeline" | "bargauge");
            assert!(!is_named || !text(target, "legendFormat").is_empty(), "{place}");
        }
    });
}

#[test]
fn colours_are_told_apart_by_everybody() {
    // Okabe and Ito's palette, and grey.
    let palette = ["#0072B2", "#D55E00", "#E69F00", "#F0E442", "#CC79A7", "#8c8c8c"];
    each_panel(|place, panel| {
        let text = panel.to_string();
        for (at, _) in text.match_indices("\"#") {
            assert!(palette.contains(&&text[at + 1..at + 8]), "{place}: {}", &text[at..at + 9]);
        }
    });
}

#[test]
fn panels_lie_side_by_side() {
    for (name, dashboard) in dashboards() {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels") {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {}", panel["title"]);
            let side = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{name}: {}", panel["title"]);
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(taken.insert((x, y)), "{name}: {} covers another panel", panel["title"]);
                }
            }
        }
    }
}

/// All addresses that a dashboard links to.
fn links(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("url").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(links)).collect()
        }
        Value::Array(items) => items.iter().flat_map(links).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn links_lead_from_overview_to_target_to_status_page() {
    for (name, dashboard) in dashboards() {
        let other =
            if name == "overview" { "/d/throttlescope-target/?" } else { "/d/throttlescope-overview/?" };
        let links = links(&dashboard);
        assert!(links.iter().any(|url| url.starts_with(other)), "{name}");
        for url in links.into_iter().filter(|url| url.starts_with("/d/")) {
            assert!(url.starts_with(other), "{name}: {url}");
            // Several values at once need this form.
            assert!(
                url.contains("${datasource:queryparam}") && url.ends_with("${__url_time_range}"),
                "{url}"
            );
        }
        for panel in panels(&dashboard) {
            let about_targets =
                ["Verdicts", "Targets", "Slowdown", "Mean goodput", "Evidence", "Verdict over time"];
            if about_targets.contains(&text(panel, "title")) {
                let text = panel.to_string();
                assert!(text.contains("/target?id=$"), "{name}: {} leads to no status page", panel["title"]);
            }
        }
    }
}

#[test]
fn incidents_are_drawn_over_every_graph() {
    for (name, dashboard) in dashboards() {
        let [incidents] = list(&dashboard["annotations"], "list") else { panic!("{name}") };
        assert!(incidents["enable"] == true && incidents["datasource"]["uid"] == "${datasource}");
        assert!(text(incidents, "expr").contains("throttlescope_incident_active{"), "{name}");
        assert!(expressions(&dashboard).contains(&text(incidents, "expr")));
    }
}
