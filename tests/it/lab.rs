//! The laboratory with real TCP: every rule that can be seen from outside, the hand tests people run, the line itself.
//!
//! Strangers at the ends where they exist (curl, nginx); else this test program itself, run again inside the laboratory
//! (`lab::inside`). Throttled times are compared with lower bounds, untouched ones with "under half of that".

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::program;

mod capture;
mod doh;
mod hand;
mod inside;
mod line;
mod rules;
mod scale;
mod verdicts;

/// A fast line: what takes time here is the middlebox.
const FAST: [&str; 4] = ["--rate", "200Mbit", "--rtt", "2ms"];

/// `lab run` with these arguments, all of it.
fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throttlescope"));
    command.args(["lab", "run"]).args(arguments);
    command
}

/// Whether laboratories can be had here; without `THROTTLESCOPE_REQUIRE_ALL` a test then skips, saying so.
pub(crate) fn available(test: &str) -> bool {
    let output = lab(&["clean", "-q", "--", "true"]).output().unwrap();
    if output.status.success() {
        return true;
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(std::env::var_os("THROTTLESCOPE_REQUIRE_ALL").is_none(), "{test}: {why}");
    eprintln!("skipped {test}: {why}");
    false
}

/// Runs a step of [`inside`] as client, with the steps' own server, behind a profile.
fn step(profile: &str, step: &str) {
    if !available(step) {
        return;
    }
    let output = step_with(profile, step, &[]);
    assert!(output.status.success(), "{step} behind {profile}:\n{}", text(&output));
}

fn step_with(profile: &str, step: &str, arguments: &[&str]) -> Output {
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let inner = ["--exact", "lab::inside::step", "--ignored", "--nocapture", "--test-threads=1"];
    let server = format!("LAB_STEP=serve exec '{this}' {}", inner.join(" "));
    let mut command = lab(&[profile, "--server", &server]);
    command.args(FAST).args(arguments).arg("--").arg(this).args(inner).env("LAB_STEP", step);
    command.output().unwrap()
}

/// Lines that a shell script prints inside, or nothing where curl is missing.
fn script(arguments: &[&str], script: &str) -> Option<Vec<String>> {
    program("curl")?;
    if !available(script) {
        return None;
    }
    let output = lab(arguments).args(["--", "sh", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A profile of one's own in a directory; its path.
fn write_profile(directory: &Path, text: &str) -> String {
    let path = directory.join("profile.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What a finished run reported.
fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn exit_status_is_the_commands_or_says_what_failed() {
    if !available("exit status") {
        return;
    }
    let status =
        |command: &[&str]| lab(&["clean", "-q", "--"]).args(command).output().unwrap().status.code().unwrap();
    assert_eq!(status(&["sh", "-c", "exit 7"]), 7);
    assert_eq!(status(&["sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(status(&["/nonexistent/program"]), 127);
    assert_eq!(status(&["/etc/passwd"]), 126);
    let unknown = lab(&["nosuch", "--", "true"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(text(&unknown).lines().count(), 1, "{}", text(&unknown));
}

#[test]
fn where_namespaces_are_refused_one_sentence_says_so() {
    if program("unshare").is_none() || program("setpriv").is_none() || !available("refused") {
        return;
    }
    // A namespace in which nobody has power and further ones are forbidden.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
        exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" lab run clean -- true";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, env!("CARGO_BIN_EXE_throttlescope")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    let said = text(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("needs root or unprivileged user namespaces"), "{said}");
}

#[test]
fn nobody_has_the_same_laboratory() {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root || program("setpriv").is_none() || program("curl").is_none() || !available("nobody") {
        eprintln!("skipped: only root can become nobody");
        return;
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_throttlescope")])
        .args(["lab", "run", "tspu-2021"])
        .args(FAST)
        .args([
            "--",
            "sh",
            "-c",
            "id -u; for name in t.co example.org; do curl -4 -s -o /dev/null \
            -w '%{http_code} %{time_total}\\n' https://$name/bytes/49152; done",
        ])
        .current_dir("/")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("0"), "root inside: {said}");
    let seconds: Vec<f64> =
        lines.filter_map(|line| line.strip_prefix("200 ")).map(|seconds| seconds.parse().unwrap()).collect();
    assert!(seconds.len() == 2 && seconds[0] > 2.0 && seconds[1] < 1.0, "{said}");
}

#[test]
fn a_killed_or_interrupted_laboratory_leaves_no_process() {
    if !available("killed") {
        return;
    }
    for signal in ["KILL", "INT", "TERM"] {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let mark = mark.to_str().unwrap();
        let watch = "touch \"$0\"; tail -f \"$0\" & wait";
        let mut child = lab(&["clean", "-q", "--", "sh", "-c", watch, mark]).spawn().unwrap();
        while !Path::new(mark).exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(!child.wait().unwrap().success());
        let alive = || {
            std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
                std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(mark))
            })
        };
        let gone = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            !alive()
        });
        assert!(gone, "the command outlived the laboratory after {signal}");
    }
}

#[test]
fn scenario_says_what_differed() {
    if program("curl").is_none() || !available("scenario") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scenario.toml");
    let text_of = |least: &str, exit: u8| {
        let text = format!(
            "about = 'Twitter is slow'\nprofile = 'tspu-2021'\n\
             command = ['curl', '-s', '-o', '/dev/null', 'https://abs.twimg.com/bytes/40960']\n\
             expect = {{ exit = {exit}, at_least = '{least}' }}\n[line]\nrtt = '10ms'\n"
        );
        std::fs::write(&path, text).unwrap();
        let output = lab(&[path.to_str().unwrap(), "-q"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(text_of("1s", 0), (Some(0), "as expected: Twitter is slow\n".to_owned()));
    let (status, output) = text_of("40s", 3);
    assert_eq!(status, Some(2));
    assert_eq!(output.lines().count(), 2, "{output}");
    assert!(output.contains("exit status 0, expected 3") && output.contains("expected at least 40s"));
}
