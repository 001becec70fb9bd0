//! The page in a real browser: over a past that never changes, over a year that a daemon goes on with, and over the live
//! demonstration. Needs `node`, `chromium`, and `THROTTLESCOPE_NODE_MODULES` with playwright-core and axe-core.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use jiff::SignedDuration;
use throttlescope::{
    model::{Snapshot, TargetId},
    store::Reader,
    web::{StoredHistory, WebSettings},
};

use crate::{
    page::{now, snapshot},
    seed::Past,
    support::{Daemon, program},
    watch::Line,
    web::start_with,
};

/// What drives the browser.
struct Driver {
    node: PathBuf,
    chromium: PathBuf,
    modules: OsString,
}

impl Driver {
    /// `None`, said aloud, where a part is missing.
    fn found() -> Option<Self> {
        let (node, chromium) = (program("node")?, program("chromium")?);
        let modules = std::env::var_os("THROTTLESCOPE_NODE_MODULES");
        if modules.is_none() {
            eprintln!(
                "skipped: THROTTLESCOPE_NODE_MODULES names no folder with playwright-core and axe-core"
            );
        }
        Some(Self { node, chromium, modules: modules? })
    }

    /// Runs a script of `tests/browser`, which lists what it finds wrong.
    fn check(&self, script: &str, url: &str, more: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
        let mut command = Command::new(&self.node);
        command.arg(script).arg(url).arg(&self.chromium).arg(more).env("NODE_PATH", &self.modules);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("{said}");
        assert!(output.status.success(), "{said}");
    }
}

/// A month of which every moment is known, as the store has it.
fn known_past(path: &Path) {
    let targets = ["twitter/images", "telegram/web", "youtube/video"].map(str::to_owned);
    let slow = [[400, 330], [40, 0]];
    Past { days: 31, targets: &targets, control: "control/cdn", end: now(), slow: &slow }.fill(path);
}

/// Every page, in light and dark, on phone and desktop, in all languages: axe-core finds nothing, nothing is too wide, and
/// the pictures are those of `tests/browser/baselines`. `THROTTLESCOPE_BASELINES=write` makes them anew.
#[tokio::test]
async fn every_page_looks_as_it_did_and_is_accessible() {
    let Some(driver) = Driver::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("past.db");
    tokio::task::spawn_blocking({
        let path = path.clone();
        move || known_past(&path)
    })
    .await
    .unwrap();
    let reader = Reader::new(path);
    let shown = reader.latest(&TargetId::new("twitter/images")).unwrap()[1].clone().unwrap().exchange.id;
    let history = Arc::new(StoredHistory::new(reader));
    let settings = WebSettings::load(None).unwrap().with_history(history);
    let snapshot = Snapshot { started_at: now() - SignedDuration::from_hours(24 * 31), ..snapshot() };
    let web = start_with(settings, snapshot).await;
    let url = web.url("");
    tokio::task::spawn_blocking(move || driver.check("look.cjs", &url, &shown)).await.unwrap();
}

const ACTIVE: &str = r#"throttlescope_incident_active{target="lab/slow.example",verdict="throttled"}"#;

/// A year of five-minute rounds lies in the store; a daemon takes it up, measures on, and finds an incident.
#[test]
fn people_find_their_way_through_a_year_while_it_goes_on() {
    let Some(driver) = Driver::found() else { return };
    let folder = Arc::new(tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("throttlescope")).unwrap();
    let path = folder.path().join("throttlescope/throttlescope.db");
    let targets = ["lab/slow.example".to_owned()];
    let slow = [[200 * 24, 190 * 24], [12 * 24, 10 * 24]];
    let end = throttlescope::clock::wall() - SignedDuration::from_mins(10);
    Past { days: 365, targets: &targets, control: "lab/fast.example", end, slow: &slow }.fill(&path);
    let line = Line::new();
    let config = line.config("[store]\nretention = \"400d\"\nmax_size = \"10GB\"");
    let daemon = Daemon::start_in(folder, &config);
    daemon.wait_until("some rounds are good", |daemon| {
        daemon.metric(r#"throttlescope_exchanges_total{target="lab/slow.example"}"#) > Some(4.0)
    });
    line.throttle.set(true);
    daemon.wait_until("the incident is found", |daemon| daemon.metric(ACTIVE) == Some(1.0));
    driver.check("walk.cjs", &format!("http://{}", daemon.address), "lab/slow.example");
}

/// Normal, onset, verdict, incident, lift, watched on the page, which follows by itself; then Ctrl-C.
#[test]
fn the_demonstration_is_seen_from_begin_to_end() {
    let Some(driver) = Driver::found() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
        .args(["demo", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("http://")).unwrap();
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches('/');
    driver.check("demo.cjs", url, "emulated/slowed.example");
    let interrupted = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert!(child.wait().unwrap().success(), "Ctrl-C ends it cleanly");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
}
