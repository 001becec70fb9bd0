//! Every bad file gives its exact message; every good one is accepted; what is printed reads back as the same.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The program, untouched by the configuration and variables of whoever runs the tests.
fn throttlescope(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throttlescope"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("THROTTLESCOPE_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("XDG_STATE_HOME", "/nonexistent/state")
        .args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    throttlescope(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn files(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(kind);
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The expected messages stand in the file itself, as comments that begin with `#!`, without the path.
#[test]
fn every_bad_file_gives_its_exact_messages() {
    for path in files("bad") {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display().to_string();
        let expected: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#! "))
            .map(|message| format!("{shown}:{message}"))
            .collect();
        assert!(!expected.is_empty(), "{shown} says nothing of what is expected");
        let output = run(&["check-config", "--config", &shown]);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert_eq!(stderr(&output).trim_end(), format!("throttlescope: {}", expected.join("\n")));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn every_good_file_is_accepted_and_reads_back_as_it_was_printed() {
    let folder = tempfile::tempdir().unwrap();
    for path in files("good") {
        let output = run(&["check-config", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let first = stdout(&run(&["check-config", "--print", "--config", path.to_str().unwrap()]));
        let again = folder.path().join("again.toml");
        fs::write(&again, &first).unwrap();
        let output = run(&["check-config", "--print", "--config", again.to_str().unwrap()]);
        assert_eq!(stderr(&output), "", "{}", path.display());
        assert_eq!(stdout(&output), first, "{}", path.display());
    }
}

#[test]
fn the_defaults_are_printed_with_their_meaning_and_what_follows() {
    let printed = stdout(&run(&["check-config", "--print"]));
    for expected in [
        "acknowledged = false",
        "listen = \"127.0.0.1:10474\"",
        "path = \"/nonexistent/state/throttlescope/throttlescope.db\"",
        "retention = \"90d\"",
        "max_size = \"1GB\"",
        "interval = \"5m\"",
        "bytes_per_hour = \"20MB\"",
        "bytes_per_day = \"200MB\"",
        "# twitter/images",
        "detects within",
    ] {
        assert!(printed.contains(expected), "{expected} is missing in\n{printed}");
    }
    let uncommented = printed.lines().filter(|line| line.contains(" = ") && !line.contains('#'));
    let unexplained: Vec<&str> = uncommented.filter(|line| !line.starts_with("platforms")).collect();
    assert!(unexplained.is_empty(), "without a meaning: {unexplained:?}");
}

#[test]
fn variables_go_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[vantage]\ncountry = \"RU\"\n[catalog]\nplatforms = []\n").unwrap();
    let arguments = ["check-config", "--print", "--config", path.to_str().unwrap()];
    let output = throttlescope(&arguments)
        .env("THROTTLESCOPE_VANTAGE_COUNTRY", "kz")
        .env("THROTTLESCOPE_VANTAGE_ASN", "9198")
        .env("THROTTLESCOPE_SAFETY_ACKNOWLEDGED", "true")
        .env("THROTTLESCOPE_CATALOG_PLATFORMS", "signal, vk")
        .output()
        .unwrap();
    let printed = stdout(&output);
    for expected in ["country = \"KZ\"", "asn = 9198", "acknowledged = true", "[\"signal\", \"vk\"]"] {
        assert!(printed.contains(expected), "{expected} is missing in\n{printed}\n{}", stderr(&output));
    }
    let output = throttlescope(&arguments).env("THROTTLESCOPE_SCHEDULE_INTERVAL", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = "throttlescope: THROTTLESCOPE_SCHEDULE_INTERVAL: `soon` is not a duration";
    assert!(stderr(&output).starts_with(expected), "{}", stderr(&output));
    let output = throttlescope(&arguments).env("THROTTLESCOPE_WEB_LISTN", "x").output().unwrap();
    assert!(stderr(&output).contains("THROTTLESCOPE_WEB_LISTN: no key"), "{}", stderr(&output));
}

#[test]
fn the_file_is_found_where_users_keep_theirs() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("throttlescope")).unwrap();
    fs::write(home.path().join("throttlescope/config.toml"), "[vantage]\ncountry = \"TR\"\n").unwrap();
    let output =
        throttlescope(&["check-config", "--print"]).env("XDG_CONFIG_HOME", home.path()).output().unwrap();
    assert!(stdout(&output).contains("country = \"TR\""));
}

#[test]
fn a_file_that_cannot_be_read_is_one_sentence() {
    let output = run(&["check-config", "--config", "/nonexistent/x.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "throttlescope: /nonexistent/x.toml: there is no such file, check the path after --config\n";
    assert_eq!(stderr(&output), expected);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary.toml");
    fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let output = run(&["check-config", "--config", path.to_str().unwrap()]);
    assert!(stderr(&output).contains("not a text file"), "{}", stderr(&output));
}
