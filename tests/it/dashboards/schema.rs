//! Grafana's own schema: the dashboards are read into the model that Grafana generates from it, and nothing is lost.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

use super::{dashboards, folder, root};

/// From a Python that has `grafana-foundation-sdk`: `THROTTLESCOPE_GRAFANA_SDK` names the interpreter.
#[test]
fn the_dashboards_keep_the_schema_of_grafana() {
    let Some(python) = std::env::var_os("THROTTLESCOPE_GRAFANA_SDK") else {
        assert!(
            std::env::var_os("THROTTLESCOPE_REQUIRE_ALL").is_none(),
            "THROTTLESCOPE_GRAFANA_SDK is not set, and THROTTLESCOPE_REQUIRE_ALL asks for it"
        );
        eprintln!("skipped: Grafana's schema (THROTTLESCOPE_GRAFANA_SDK names no Python that has the SDK)");
        return;
    };
    let read = |files: &[PathBuf]| {
        let script = root().join("tests/it/dashboards/schema.py");
        let output = Command::new(&python).arg(script).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let files = ["overview", "target"].map(|name| folder().join(format!("grafana/{name}.json")));
    let expected: Vec<String> = dashboards()
        .iter()
        .map(|(name, dashboard)| {
            format!("throttlescope-{name}: {} panels read", dashboard["panels"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(read(&files).lines().collect::<Vec<_>>(), expected);

    // It finds what is wrong: an unknown key, a word that is none, a value of another type.
    let scratch = tempfile::tempdir().unwrap();
    for (pointer, key, wrong) in [
        ("/panels/1", "descripton", Value::from("A slip.")),
        ("/panels/1/fieldConfig/defaults/color", "mode", Value::from("rainbow")),
        ("/panels/1/gridPos", "w", Value::from("4")),
        ("/panels/1/targets/0", "query", Value::from("up")),
    ] {
        let mut dashboard = dashboards()[0].1.clone();
        dashboard.pointer_mut(pointer).unwrap()[key] = wrong;
        let file = scratch.path().join("wrong.json");
        std::fs::write(&file, dashboard.to_string()).unwrap();
        let said = read(&[file]);
        assert!(said.lines().count() == 2 && said.starts_with("/panels/1/"), "{pointer} {key}: {said}");
    }
}
