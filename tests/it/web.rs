//! The web room over real sockets, with a stand-in for the engine and strangers as clients.

use std::{net::SocketAddr, path::Path, process::Command as Process, sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use throttlescope::{
    metrics::{HistogramMode, Metrics},
    model::{BudgetStatus, Command, ProbeRefusal, Role, Snapshot, Vantage},
    web::{WebSettings, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    metrics::{exchange, measured, target},
    prometheus::Prometheus,
    support::program,
};

/// A running web room.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    pub(crate) snapshots: Option<watch::Sender<Arc<Snapshot>>>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<()>,
}

fn snapshot() -> Snapshot {
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Snapshot {
        started_at: at,
        at,
        vantage: Vantage::default(),
        budget: BudgetStatus { bytes_per_hour: 1, bytes_per_day: 1, remaining_bytes: 1 },
        store_writable: true,
        targets: Vec::new(),
    }
}

/// What the engine would answer: one target works, one is out of budget, one is busy; the configuration is broken.
fn answer(command: Command) {
    match command {
        Command::Reload { reply } => reply(Err("line 3: no such key".into())),
        Command::Probe { target, timeout, reply } => {
            assert_eq!(timeout, Duration::from_millis(4500));
            reply(match target.as_str() {
                "shop/images" => Ok(Box::new(exchange(131_072))),
                "shop/dear" => Err(ProbeRefusal::Budget),
                "shop/busy" => Err(ProbeRefusal::Busy),
                _ => Err(ProbeRefusal::UnknownTarget),
            });
        }
    }
}

pub(crate) async fn start(config_file: Option<&Path>) -> Web {
    start_with(WebSettings::load(config_file).unwrap(), snapshot()).await
}

pub(crate) async fn start_with(settings: WebSettings, snapshot: Snapshot) -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
    let (commands, mut asked) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(command) = asked.recv().await {
            answer(command);
        }
    });
    let targets = [target("shop/images", Role::Subject)];
    let metrics = Metrics::new(&targets, &Vantage::default(), HistogramMode::Target);
    let (stop, stopped) = oneshot::channel();
    let web = serve(listener, settings, receiver, metrics.clone(), commands, async {
        stopped.await.ok();
    });
    Web { address, snapshots: Some(snapshots), metrics, stop: Some(stop), task: tokio::spawn(web) }
}

pub(crate) fn client() -> Client {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

impl Web {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = client().get(self.url(path)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

#[tokio::test]
async fn every_path_answers_and_carries_the_security_headers() {
    let mut web = start(None).await;
    for (path, status, start) in [
        ("/", 200, "<!doctype html>"),
        ("/metrics", 200, "# HELP throttlescope_"),
        ("/api/v1/status", 200, "{\"schema\":\"throttlescope/status/1\""),
        ("/-/healthy", 200, "Healthy."),
        ("/-/ready", 200, "Ready."),
        ("/-/reload", 405, ""),
        ("/nothing", 404, "There is nothing here"),
    ] {
        let response = client().get(web.url(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(response.text().await.unwrap().starts_with(start), "{path}");
    }
    drop(web.snapshots.take());
    assert_eq!(web.get("/-/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(web.get("/-/healthy").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_reload_that_fails_says_why() {
    let web = start(None).await;
    let response = client().post(web.url("/-/reload")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.text().await.unwrap().contains("line 3: no such key"));
    let response =
        client().post(web.url("/-/reload")).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    // To a plain address that is not loopback browsers send no such header, but say where the page is from.
    for (header, from, status) in [
        ("origin", "http://elsewhere.example".to_owned(), StatusCode::FORBIDDEN),
        ("origin", "null".to_owned(), StatusCode::FORBIDDEN),
        ("referer", "http://elsewhere.example/page".to_owned(), StatusCode::FORBIDDEN),
        ("origin", web.url("").trim_end_matches('/').to_owned(), StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let response = client().post(web.url("/-/reload")).header(header, &from).send().await.unwrap();
        assert_eq!(response.status(), status, "{header}: {from}");
    }
}

#[tokio::test]
async fn a_probe_speaks_blackboxs_names_and_knows_its_limits() {
    let web = start(None).await;
    let probe = async |target: &str| {
        let request = client().get(web.url(&format!("/probe{target}")));
        let response = request.header("x-prometheus-scrape-timeout-seconds", "5").send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, text) = probe("?target=shop/images").await;
    assert_eq!(status, 200);
    for line in [
        "probe_success 1",
        "probe_duration_seconds 1.04",
        "probe_http_duration_seconds{phase=\"tls\"} 0.01",
        "probe_http_duration_seconds{phase=\"transfer\"} 1",
        "probe_http_status_code 200",
        "probe_http_version 1.1",
        "probe_ip_protocol 4",
        "probe_tls_version_info{version=\"TLS 1.3\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert_eq!(probe("?target=shop/dear").await.0, 429);
    assert_eq!(probe("?target=shop/busy").await.0, 429);
    assert_eq!(probe("?target=http://internal.example/").await.0, 400);
    assert_eq!(probe("").await.0, 400);
}

#[tokio::test]
async fn metrics_come_compressed_and_in_protobuf_when_asked() {
    let web = start(None).await;
    let plain = web.get("/metrics").await.1;
    let response = client().get(web.url("/metrics")).header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = response.bytes().await.unwrap();
    assert!(packed.len() * 5 < plain.len(), "{} bytes of {}", packed.len(), plain.len());
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,*/*;q=0.1";
    let response = client().get(web.url("/metrics")).header("accept", accept).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().contains("protobuf"));
}

/// A folder with a certificate for `localhost` and `127.0.0.1` that is its own root, and what else a test writes.
fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.path().join("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("web.yml"), config).unwrap();
    folder
}

const TLS: &str = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13}\n";

#[tokio::test]
async fn only_those_who_know_the_password_come_in_and_it_can_change() {
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let folder = folder(&format!("basic_auth_users:\n  ann: {}\n", hash("first")));
    let file = folder.path().join("web.yml");
    let web = start(Some(&file)).await;
    let enter = async |user: &str, password: &str, path: &str| {
        client().get(web.url(path)).basic_auth(user, Some(password)).send().await.unwrap().status().as_u16()
    };
    for path in ["/", "/metrics", "/-/healthy", "/nothing"] {
        let response = client().get(web.url(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    }
    for (user, password, status) in [
        ("ann", "first", 200),
        ("ann", "first", 200),
        ("ann", "second", 401),
        ("bob", "first", 401),
        ("", "", 401),
    ] {
        assert_eq!(enter(user, password, "/-/healthy").await, status, "{user}:{password}");
    }
    std::fs::write(&file, format!("basic_auth_users: {{ann: \"{}\", eve: x}}\n", hash("second"))).unwrap();
    assert_eq!(enter("ann", "first", "/-/healthy").await, 200, "a broken file changes nothing");
    std::fs::write(&file, format!("basic_auth_users:\n  ann: {}\n", hash("third"))).unwrap();
    assert_eq!(enter("ann", "first", "/-/healthy").await, 401);
    assert_eq!(enter("ann", "third", "/-/healthy").await, 200);
}

#[tokio::test]
async fn curl_comes_in_over_tls_with_http_2_and_not_below_the_lowest_version() {
    let Some(curl) = program("curl") else { return };
    let folder =
        folder(&format!("{TLS}http_server_config:\n  headers: {{Strict-Transport-Security: max-age=60}}\n"));
    let web = start(Some(&folder.path().join("web.yml"))).await;
    let url = format!("https://localhost:{}/-/healthy", web.address.port());
    let ask = async |more: &[&str]| {
        let mut process = Process::new(&curl);
        process.args(["-sSi", "--max-time", "20", "--cacert"]).arg(folder.path().join("cert.pem"));
        process
            .args(["--resolve", &format!("localhost:{}:127.0.0.1", web.address.port())])
            .args(more)
            .arg(&url);
        let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).to_ascii_lowercase())
    };
    let (fine, text) = ask(&[]).await;
    assert!(
        fine && text.starts_with("http/2 200") && text.contains("strict-transport-security: max-age=60"),
        "{text}"
    );
    let (fine, text) = ask(&["--http1.1"]).await;
    assert!(fine && text.starts_with("http/1.1 200"), "{text}");
    assert!(!ask(&["--tls-max", "1.2"]).await.0, "TLS 1.2 is below the configured minimum");
}

#[tokio::test]
async fn a_client_without_the_right_certificate_stays_outside() {
    let Some(curl) = program("curl") else { return };
    let client_pair = rcgen::generate_simple_self_signed(["scraper.example".to_owned()]).unwrap();
    for (allowed, comes_in) in [("scraper.example", true), ("other.example", false)] {
        let folder = folder(&format!(
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [{allowed}]\n"
        ));
        std::fs::write(folder.path().join("ca.pem"), client_pair.cert.pem()).unwrap();
        std::fs::write(folder.path().join("client.pem"), client_pair.cert.pem()).unwrap();
        std::fs::write(folder.path().join("client.key"), client_pair.signing_key.serialize_pem()).unwrap();
        let web = start(Some(&folder.path().join("web.yml"))).await;
        let url = format!("https://127.0.0.1:{}/-/healthy", web.address.port());
        let path = folder.path().to_owned();
        let curl = curl.clone();
        let ask = move |with: bool| {
            let mut process = Process::new(&curl);
            process.current_dir(&path).args(["-sS", "--max-time", "20", "--cacert", "cert.pem", &url]);
            if with {
                process.args(["--cert", "client.pem", "--key", "client.key"]);
            }
            process.output().unwrap().status.success()
        };
        let (with, without) = tokio::task::spawn_blocking(move || (ask(true), ask(false))).await.unwrap();
        assert_eq!((with, without), (comes_in, false), "{allowed}");
    }
}

#[test]
fn a_wrong_web_configuration_is_refused_with_one_sentence() {
    for (config, said) in [
        ("tls_server_config: {cert_file: cert.pem}\n", "`key_file` (or `key`) is needed"),
        ("tls_server_config: {cert_file: none.pem, key_file: key.pem}\n", "none.pem: cannot be read"),
        ("tls_server_config: {cert_file: key.pem, key_file: key.pem}\n", "holds no certificate"),
        ("tls_server_config: {cert_file: cert.pem, key_file: cert.pem}\n", "key cannot be read"),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS10}\n",
            "`TLS10` is not",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13, max_version: TLS12}\n",
            "above",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, cipher_suites: [RC4]}\n",
            "`RC4` is not supported",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, curve_preferences: [P1]}\n",
            "`P1` is not supported",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: Ask}\n",
            "`Ask` is not",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: RequireAndVerifyClientCert}\n",
            "`client_ca_file` (or `client_ca`) is needed",
        ),
        (
            "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: cert.pem}\n",
            "client_auth_type",
        ),
        ("tls_sever_config: {}\n", "tls_sever_config"),
        ("basic_auth_users: {ann: secret}\n", "basic_auth_users.ann: not a bcrypt hash"),
        ("http_server_config: {headers: {X-Other: a}}\n", "`X-Other` cannot be set"),
        ("rate_limit: {interval: often}\n", "`often` is not a duration"),
        ("rate_limit: {interval: 1s, burst: 0}\n", "above zero"),
        ("- a\n", "web.yml"),
        ("a: [\n", "web.yml"),
    ] {
        let folder = folder(config);
        let error = WebSettings::load(Some(&folder.path().join("web.yml"))).err().unwrap().to_string();
        assert!(error.contains(said) && error.lines().count() == 1, "{config}{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let folder = folder("");
    assert!(
        WebSettings::load(Some(&folder.path().join("web.yml"))).is_ok(),
        "an empty file asks for nothing"
    );
    let text = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, cipher_suites: [TLS_AES_128_GCM_SHA256, \
                TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305], curve_preferences: [X25519, CurveP256]}\n";
    std::fs::write(folder.path().join("web.yml"), text).unwrap();
    WebSettings::load(Some(&folder.path().join("web.yml"))).unwrap();
}

#[tokio::test]
async fn requests_beyond_the_rate_limit_are_told_so() {
    let folder = folder("rate_limit: {interval: 1h, burst: 2}\n");
    let web = start(Some(&folder.path().join("web.yml"))).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(web.get("/-/healthy").await.0.as_u16());
    }
    assert_eq!(seen, [200, 200, 429]);
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody_who_says_nothing() {
    let mut web = start(None).await;
    let mut silent = TcpStream::connect(web.address).await.unwrap();
    let mut halfway = TcpStream::connect(web.address).await.unwrap();
    halfway.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    assert_eq!(web.get("/-/healthy").await.0, StatusCode::OK);
    web.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), web.task).await.expect("the server ends").unwrap();
    assert_eq!(silent.read(&mut [0; 64]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(web.address).await.is_err());
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let web = start(None).await;
    let mut stream = TcpStream::connect(web.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
    let mut sent = 0_usize;
    while stream.write_all(&[b'a'; 4096]).await.is_ok() {
        sent += 4096;
        assert!(sent < 64 << 20, "the server still reads after {sent} bytes");
    }
    assert_eq!(web.get("/-/healthy").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_real_prometheus_reads_text_and_native_histograms() {
    let web = start(None).await;
    for _ in 0..5 {
        web.metrics.observe(&measured("shop/images", exchange(131_072)));
    }
    let name = "throttlescope_goodput_bytes_per_second";
    for native in [false, true] {
        let Some(prometheus) = Prometheus::start(web.address, native, &[]) else { return };
        if native {
            assert_eq!(prometheus.value(&format!("histogram_count({name})")).await, 5.0);
            let median = prometheus.value(&format!("histogram_quantile(0.5, {name})")).await;
            assert!((median / 131_072.0 - 1.0).abs() < 0.09, "{median}");
        } else {
            assert_eq!(prometheus.value(&format!("{name}_count")).await, 5.0);
            assert_eq!(prometheus.value(&format!("sum({name}_bucket{{le=\"+Inf\"}})")).await, 5.0);
        }
        assert_eq!(prometheus.value("up").await, 1.0);
        assert!(prometheus.complaints().is_empty(), "{:?}", prometheus.complaints());
    }
}
