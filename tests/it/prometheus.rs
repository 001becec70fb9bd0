//! A real Prometheus that scrapes what a test serves.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::support::program;

/// A running Prometheus. It ends with the test.
pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Prometheus {
    /// Scrapes `address` every second, with native histograms beside the classic ones when asked to. `None` when the
    /// program is not installed.
    pub(crate) fn start(address: SocketAddr, native: bool, rules: &[&Path]) -> Option<Self> {
        let targets = serde_json::json!([{"targets": [address.to_string()]}]);
        Self::start_with(&targets, native, serde_json::json!({"rule_files": rules}))
    }

    /// The same for the `static_configs` of one job, with more of the configuration.
    pub(crate) fn start_with(targets: &Value, native: bool, mut config: Value) -> Option<Self> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let program = program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        // `scrape_native_histograms` came with 3.8; before, a feature flag turns them on.
        let by_flag = native && version(&program).as_slice() < [3, 8].as_slice();
        let mut job = serde_json::json!({"job_name": "throttlescope", "static_configs": targets});
        if native && !by_flag {
            job["scrape_native_histograms"] = true.into();
            job["always_scrape_classic_histograms"] = true.into();
        }
        config["global"] = serde_json::json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
        config["scrape_configs"] = serde_json::json!([job]);
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap());
        if by_flag {
            command.arg("--enable-feature=native-histograms");
        }
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Some(Self { child: command.spawn().unwrap(), port, folder, http })
    }

    /// The result of an instant query; empty while there is none.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.ask("query", &[("query", query)]).await;
        answer["result"].as_array().cloned().unwrap_or_default()
    }

    /// Every second of a query from one moment to another, in Unix time.
    pub(crate) async fn range(&self, query: &str, from: f64, until: f64) -> Vec<Value> {
        let (from, until) = (from.to_string(), until.to_string());
        let span = [("query", query), ("start", &from), ("end", &until), ("step", "1s")];
        self.ask("query_range", &span).await["result"].as_array().cloned().unwrap_or_default()
    }

    /// The rules as they are evaluated.
    pub(crate) async fn rules(&self) -> Vec<Value> {
        let answer = self.ask("rules", &[]).await;
        let groups = answer["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// What the API says; null while there is no answer.
    async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Value {
        let base = format!("http://127.0.0.1:{}/api/v1/{what}", self.port);
        let url = url::Url::parse_with_params(&base, parameters).unwrap();
        let Ok(answer) = self.http.get(url).send().await else { return Value::Null };
        let mut answer: Value =
            serde_json::from_slice(&answer.bytes().await.unwrap_or_default()).unwrap_or_default();
        assert_ne!(answer["status"], "error", "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// The value of the first series of the result, once there is one; a minute is long for anything on one machine.
    pub(crate) async fn value(&self, query: &str) -> f64 {
        for _ in 0..600 {
            if let Some(first) = self.query(query).await.first() {
                return first["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no answer to `{query}` within a minute; the log says:\n{}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Warnings and errors so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &&str| {
            let line = line.to_lowercase();
            ["level=warn", "level=error"].iter().any(|level| line.contains(level))
        };
        self.log().lines().filter(is_complaint).map(str::to_owned).collect()
    }
}

/// `promtool check metrics` accepts the exposition and has nothing to add.
pub(crate) fn check_metrics(exposition: &str) {
    let Some(promtool) = program("promtool") else { return };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

fn version(program: &Path) -> Vec<u32> {
    let output = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let rest = text.split_once("version ").map_or("", |(_, rest)| rest);
    rest.split(['.', '+', ' ']).map_while(|part| part.parse().ok()).collect()
}
