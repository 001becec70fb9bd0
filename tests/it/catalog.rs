//! `targets`: the catalogue as people and programs see it.

use std::process::Command;

fn targets(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .arg("targets")
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_table_names_every_target() {
    let table = targets(&[]);
    for expected in
        ["twitter/images", "snapchat/api", "control/google", "canary/microsoft", "handshake", "bulk"]
    {
        assert!(table.contains(expected), "{expected} is missing in\n{table}");
    }
}

#[test]
fn the_document_is_versioned_and_complete() {
    let document: serde_json::Value = serde_json::from_str(&targets(&["--json"])).unwrap();
    assert_eq!(document["schema"], "throttlescope/targets/1");
    let targets = document["targets"].as_array().unwrap();
    let with = |key: &str, value: &str| targets.iter().filter(|target| target[key] == value).count();
    assert_eq!(with("id", "twitter/images"), 1);
    assert_eq!(with("role", "canary"), 1);
    assert!(with("role", "control") >= 4);
    for target in targets.iter().filter(|target| target["role"] == "subject") {
        assert!(target["controls"].as_array().unwrap().len() >= 2, "{target}");
        assert!(target["platform"].is_string());
    }
}
