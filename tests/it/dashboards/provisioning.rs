//! What `compose.yaml` starts finds its files, and its parts find each other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Path, approves, list, program, root, text, yaml};

fn services() -> BTreeMap<String, Value> {
    serde_json::from_value(yaml("compose.yaml")["services"].clone()).unwrap()
}

/// The files that a service sees at `inside`: the folder of the repository that is mounted there.
fn mounted(service: &Value, inside: &str) -> String {
    let mounts = list(service, "volumes").iter().map(|mount| mount.as_str().unwrap());
    let mut parts = mounts.map(|mount| mount.trim_end_matches(":ro").split_once(':').unwrap());
    let (outside, _) =
        parts.find(|(_, place)| *place == inside).unwrap_or_else(|| panic!("nothing at {inside}"));
    outside.trim_start_matches("./").to_owned()
}

/// An address within the network of `compose.yaml` leads to a service, on the port that it listens on.
fn leads_to_a_service(address: &str) {
    let ports: BTreeMap<&str, &str> =
        [("throttlescope", "10474"), ("demo", "10474"), ("prometheus", "9090"), ("alertmanager", "9093")]
            .into();
    let (name, port) = address.trim_start_matches("http://").split_once(':').unwrap();
    assert!(services().contains_key(name), "{address}");
    assert_eq!(ports[name], port, "{address}");
}

#[test]
fn every_service_is_pinned_confined_watched_and_reached_from_this_machine_alone() {
    let services = services();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["alertmanager", "demo", "grafana", "prometheus", "throttlescope"]);
    let volumes = yaml("compose.yaml")["volumes"].as_object().unwrap().clone();
    for (name, service) in &services {
        let ours = service["build"] == ".";
        let pinned = text(service, "image").split_once(':').is_some_and(|(_, tag)| tag.contains('.'));
        assert!(ours || pinned, "{name} has no version");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(!ours || service["read_only"] == true, "{name}");
        // Ours brings its own check in the image.
        assert!(ours || !list(&service["healthcheck"], "test").is_empty(), "{name}");
        for port in list(service, "ports") {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let (from, _) = mount.as_str().unwrap().split_once(':').unwrap();
            assert!(volumes.contains_key(from) || root().join(from).is_dir(), "{name}: {from}");
        }
        let after = service["depends_on"].as_array().into_iter().flatten();
        for other in after.map(|other| other.as_str().unwrap()) {
            assert!(services.contains_key(other), "{name} waits for {other}");
            // Whoever shows the demonstration must not measure: nothing but the daemon itself starts the daemon.
            assert_ne!(other, "throttlescope", "{name}");
        }
    }
    assert_eq!(services["demo"]["profiles"], serde_json::json!(["demo"]));
}

#[test]
fn prometheus_and_alertmanager_find_their_files_and_each_other() {
    let services = services();
    let folder = mounted(&services["prometheus"], "/etc/prometheus");
    let config = yaml(&format!("{folder}/prometheus.yml"));
    for file in list(&config, "rule_files") {
        assert!(root().join(&folder).join(file.as_str().unwrap()).is_file(), "{file}");
    }
    let managers = list(&config["alerting"], "alertmanagers").iter().chain(list(&config, "scrape_configs"));
    let statics = managers.flat_map(|one| one["static_configs"].as_array().into_iter().flatten());
    let addresses: Vec<&str> =
        statics.flat_map(|one| list(one, "targets")).map(|target| target.as_str().unwrap()).collect();
    assert_eq!(addresses, ["alertmanager:9093", "throttlescope:10474"]);
    addresses.into_iter().for_each(leads_to_a_service);
    // Instances are named as a browser reaches them, because Grafana's links lead there.
    let [daemon, demo] = list(&config, "scrape_configs") else { panic!("two jobs") };
    let names = [
        ("throttlescope", text(&daemon["static_configs"][0]["labels"], "instance")),
        ("demo", text(&demo["relabel_configs"][0], "replacement")),
    ];
    for (service, instance) in names {
        let port = instance.strip_prefix("localhost:").unwrap();
        let published = format!("127.0.0.1:{port}:10474");
        assert_eq!(services[service]["ports"], serde_json::json!([published]), "{service}");
    }
    let found = &demo["dns_sd_configs"][0];
    leads_to_a_service(&format!("{}:{}", text_of(&found["names"][0]), found["port"]));

    let config = mounted(&services["alertmanager"], "/etc/alertmanager") + "/alertmanager.yml";
    assert!(services["alertmanager"]["command"].to_string().contains("/etc/alertmanager/alertmanager.yml"));
    let manager = yaml(&config);
    let alerts: Vec<String> =
        super::rules("alerts").iter().map(|rule| text(rule, "alert").to_owned()).collect();
    for rule in list(&manager, "inhibit_rules") {
        for side in ["source_matchers", "target_matchers"] {
            let matcher = text_of(&rule[side][0]);
            let names =
                matcher.trim_start_matches("alertname =").trim_start_matches('~').trim().trim_matches('"');
            for name in names.split('|') {
                assert!(alerts.iter().any(|alert| alert == name), "{config}: there is no alert `{name}`");
            }
        }
    }
    if let Some(amtool) = program("amtool") {
        approves(&amtool, &["check-config", root().join(config).to_str().unwrap()]);
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn grafana_finds_its_sources_and_dashboards() {
    let services = services();
    let grafana = &services["grafana"];
    let provisioning = mounted(grafana, "/etc/grafana/provisioning");
    let sources = yaml(&format!("{provisioning}/datasources/prometheus.yml"));
    assert_eq!(sources["apiVersion"], 1);
    let [prometheus, manager] = list(&sources, "datasources") else { panic!("two sources") };
    for source in [prometheus, manager] {
        assert!(!text(source, "name").is_empty() && source["access"] == "proxy");
        leads_to_a_service(text(source, "url"));
    }
    assert_eq!([&prometheus["type"], &manager["type"]], ["prometheus", "alertmanager"]);
    assert_eq!(prometheus["isDefault"], true);
    assert_eq!(prometheus["jsonData"]["alertmanagerUid"], manager["uid"]);
    assert_eq!(manager["jsonData"]["implementation"], "prometheus");
    // Rate intervals follow from the interval of scraping.
    let scraping = yaml("dashboards/prometheus/prometheus.yml");
    assert_eq!(prometheus["jsonData"]["timeInterval"], scraping["global"]["scrape_interval"]);

    let providers = yaml(&format!("{provisioning}/dashboards/throttlescope.yml"));
    let [provider] = list(&providers, "providers") else { panic!("one provider") };
    assert_eq!((&providers["apiVersion"], text(provider, "type")), (&1.into(), "file"));
    assert_eq!([text(provider, "folder"), text(provider, "folderUid")], ["throttlescope"; 2]);
    assert_eq!([&provider["allowUiUpdates"], &provider["disableDeletion"]], [false, true]);
    let path = text(&provider["options"], "path");
    let dashboards = mounted(grafana, path);
    assert_eq!(dashboards, "dashboards/grafana");
    let home = text(&grafana["environment"], "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    let file = Path::new(home).strip_prefix(path).unwrap();
    assert!(root().join(dashboards).join(file).is_file(), "{home}");
}
