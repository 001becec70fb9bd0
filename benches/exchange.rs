//! What an exchange costs in CPU, as a ratio to a bare tokio + rustls + hyper loop in the same run.
//!
//! Both ask the same `throttlescope serve` (a process of its own, whose CPU does not count) for 1 KB over a fresh
//! connection, offer the same hello, and verify the same chain. Saturated: eight at once as fast as they go. Paced: 200 a
//! second, as a daemon with 200 targets at a second does it. `cargo bench` prints both; `-- 500` sets the number.

#![allow(clippy::unwrap_used, reason = "a bench that panics has failed")]
#![allow(clippy::disallowed_methods, reason = "a bench reads time by itself")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};
use tempfile::TempDir;
use throttlescope::{
    clock,
    model::{HelloKind, Role},
    probe::{Budgets, HttpChoice, Label, Options, Plan, Prober},
};
use tokio::{net::TcpStream, task::JoinSet, time};
use tokio_rustls::TlsConnector;
use url::Url;

const NAME: &str = "bench.example";
const WORKERS: usize = 8;
const PACE: Duration = Duration::from_millis(5);

fn main() {
    let number = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(2_000);
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (bare, ours) = (Arc::new(Bare::new(&server)), Arc::new(Ours::new(&server)));
        // Warm both: certificates, allocator, branch predictors.
        saturated(&bare, 50).await;
        saturated(&ours, 50).await;
        println!("CPU per exchange of 1 KB, {number} exchanges each");
        for (mode, paced) in [("saturated", false), ("paced at 200/s", true)] {
            let mut costs = [0.0, 0.0];
            // Halves in turn, so that a machine that changes its speed changes both.
            for _ in 0..2 {
                costs[0] += cost(&bare, number / 2, paced).await / 2.0;
                costs[1] += cost(&ours, number / 2, paced).await / 2.0;
            }
            let ratio = costs[1] / costs[0];
            println!(
                "{mode:>15}: bare loop {:.3} ms, throttlescope {:.3} ms, ratio {ratio:.2}",
                costs[0], costs[1]
            );
        }
    });
}

/// Mean CPU milliseconds of one exchange.
async fn cost<C: Client>(client: &Arc<C>, number: usize, paced: bool) -> f64 {
    let before = cpu_seconds();
    if paced {
        pace(client, number).await;
    } else {
        saturated(client, number).await;
    }
    (cpu_seconds() - before) * 1e3 / number as f64
}

async fn saturated<C: Client>(client: &Arc<C>, number: usize) {
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let client = Arc::clone(client);
        workers.spawn(async move {
            for _ in 0..number / WORKERS {
                client.exchange().await;
            }
        });
    }
    workers.join_all().await;
}

async fn pace<C: Client>(client: &Arc<C>, number: usize) {
    let mut ticks = time::interval(PACE);
    let mut running = JoinSet::new();
    for _ in 0..number {
        ticks.tick().await;
        let client = Arc::clone(client);
        running.spawn(async move { client.exchange().await });
    }
    running.join_all().await;
}

/// User and system time of this process so far (`/proc/self/stat`, fields 14 and 15, in hundredths of a second).
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).map(|text| text.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

trait Client: Send + Sync + 'static {
    fn exchange(&self) -> impl Future<Output = ()> + Send;
}

/// The bare loop: connect, handshake, one request, whole body.
struct Bare {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Bare {
    fn new(server: &Server) -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add(server.ca.clone()).unwrap();
        let groups =
            vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];
        let provider = CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address: server.address, tls: TlsConnector::from(Arc::new(config)) }
    }
}

impl Client for Bare {
    async fn exchange(&self) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = self.tls.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("/bytes/1024")
            .header("host", NAME)
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 1024);
        drop(sender);
        let _ended = connection.await.unwrap();
    }
}

/// Our own exchange, with all it measures.
struct Ours {
    prober: Prober,
    url: Url,
    address: SocketAddr,
}

impl Ours {
    fn new(server: &Server) -> Self {
        let ca_file = Some(server.folder.path().join("ca.pem"));
        let prober = Prober::new(Options { ca_file, ..Options::default() }).unwrap();
        let url = format!("https://{NAME}:{}/bytes/1024", server.address.port());
        Self { prober, url: Url::parse(&url).unwrap(), address: server.address }
    }
}

impl Client for Ours {
    async fn exchange(&self) {
        let plan = Plan {
            label: Label::lone(Role::Subject),
            url: self.url.clone(),
            name: None,
            host_header: None,
            address: Some(self.address),
            bytes: 1024,
            budgets: Budgets::default(),
            hello: HelloKind::Small,
            http: HttpChoice::Http1,
            check_certificate: true,
        };
        let exchange = Box::pin(self.prober.exchange(&plan, clock::now())).await;
        assert!(exchange.is_complete() && exchange.bytes == 1024, "{:?}", exchange.failure);
    }
}

/// `throttlescope serve` with a chain of our own.
struct Server {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    ca: rustls::pki_types::CertificateDer<'static>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::from_params(&params, &ca_key))
            .unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        fs::write(folder.path().join("leaf.pem"), leaf.pem()).unwrap();
        fs::write(folder.path().join("leaf.key"), key.serialize_pem()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_throttlescope"))
            .args(["serve", "--listen", "127.0.0.1:0", "--client-requests-per-minute", "100000000"])
            .args(["--client-connections", "10000", "--client-bytes-per-minute", "1TB"])
            .arg("--cert")
            .arg(folder.path().join("leaf.pem"))
            .arg("--key")
            .arg(folder.path().join("leaf.key"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("https ")?.parse().ok()).unwrap();
        Self { child, address, folder, ca: ca.der().clone() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
