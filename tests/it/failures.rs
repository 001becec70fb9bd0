//! Twenty ways to fail, each told apart by the built program: in its report and in one readable line, and none of them
//! called an interference, because nothing but the failure speaks for one.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{
    peer::{answering, certificate, forever, object, partial, peer, request, reset, secure, serve_objects},
    report, throttlescope,
};

/// A way to fail: what is asked for, how it must be reported, and what a person must read.
struct Case {
    name: &'static str,
    url: String,
    flags: Vec<String>,
    phase: &'static str,
    kind: &'static str,
    says: &'static str,
}

impl Case {
    fn new(name: &'static str, url: impl Into<String>, (phase, kind): (&'static str, &'static str)) -> Self {
        Self { name, url: url.into(), flags: Vec::new(), phase, kind, says: "" }
    }

    /// The budget of a whole exchange, where the server would never end it.
    fn within(self, span: &str) -> Self {
        self.flag("--timeout").flag(span)
    }

    fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    fn saying(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    fn arguments(&self) -> Vec<&str> {
        let fixed = ["measure", self.url.as_str(), "--bytes", "64KiB", "--pairs", "1"];
        fixed.into_iter().chain(self.flags.iter().map(String::as_str)).collect()
    }
}

#[test]
fn twenty_ways_to_fail_are_told_apart() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let full = full_queue();
    let mut cases = runtime.block_on(broken_http());
    cases.extend(runtime.block_on(broken_tls(&folder)));
    cases.extend(unreachable(full.1));
    assert!(cases.len() >= 20);
    let control = format!("http://{}/", runtime.block_on(answering(object(65_536))));
    thread::scope(|scope| {
        for case in &cases {
            let control = &control;
            scope.spawn(move || hold(case, control));
        }
    });
}

/// Nothing answers where these lead.
fn unreachable(full: SocketAddr) -> Vec<Case> {
    vec![
        Case::new("refused", format!("http://{}/", closed_port()), ("connect", "refused"))
            .saying("the connection was refused"),
        Case::new("unroutable", format!("http://{full}/"), ("connect", "timeout"))
            .within("1s")
            .saying("timeout in connect"),
    ]
}

async fn broken_http() -> Vec<Case> {
    let http = |address: SocketAddr| format!("http://{address}/");
    let silent = peer(|mut stream| async move {
        request(&mut stream).await;
        forever().await;
    })
    .await;
    let resetting = peer(|mut stream| async move {
        request(&mut stream).await;
        reset(stream);
    })
    .await;
    let error = answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad".to_vec()).await;
    let page = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 31\r\n\r\n<iframe src=\"http://10.10.34.34\"";
    let page = answering(page.to_vec()).await;
    let loops = answering(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let short = partial(|mut stream| async move { stream.shutdown().await.unwrap() }).await;
    let dripping = partial(|mut stream| async move {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let stopped = partial(|stream| async move {
        forever().await;
        drop(stream);
    })
    .await;
    let headers = peer(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"X-Header: endless endless endless endless\r\n").await.is_ok() {}
    })
    .await;
    let mut bomb = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
    bomb.resize(1_000_000, b'x');
    let bomb = answering(bomb).await;
    let garbage = answering(b"\x01\x02 this is not HTTP\r\n\r\n".to_vec()).await;
    vec![
        Case::new("silence after the request", http(silent), ("processing", "timeout")).within("1s"),
        Case::new("reset after the request", http(resetting), ("processing", "reset")).saying("reset"),
        Case::new("500", http(error), ("processing", "http_error")).saying("500"),
        Case::new("403 with a block page", http(page), ("processing", "http_error")).saying("ir-peyvandha"),
        Case::new("redirect loop", http(loops), ("processing", "redirect_loop")).saying("redirect"),
        Case::new("short body", http(short), ("transfer", "short_body")).saying("short"),
        Case::new("one byte a second", http(dripping), ("transfer", "timeout")).within("2s"),
        Case::new("stops after 18 KB", http(stopped), ("transfer", "stalled")).saying("then none"),
        Case::new("endless headers", http(headers), ("transfer", "too_large")).saying("headers"),
        Case::new("header bomb", http(bomb), ("transfer", "too_large")).saying("headers"),
        Case::new("not HTTP", http(garbage), ("transfer", "malformed")).saying("breaks the protocol"),
    ]
}

async fn broken_tls(folder: &TempDir) -> Vec<Case> {
    let https = |address: SocketAddr| format!("https://localhost:{}/", address.port());
    let hello = |mut stream: TcpStream| async move {
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream
    };
    let speaking = |answer: &'static [u8]| {
        peer(move |stream| async move {
            let mut stream = hello(stream).await;
            stream.write_all(answer).await.unwrap();
            forever().await;
        })
    };
    let silent = peer(|stream| async move { drop((forever().await, stream)) }).await;
    let resetting = peer(move |stream| async move { reset(hello(stream).await) }).await;
    let closing = peer(move |stream| async move { drop(hello(stream).await) }).await;
    let alert = speaking(&[0x15, 3, 3, 0, 2, 2, 112]).await;
    let not_tls = speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let bad = ("tls", "bad_certificate");
    let expired = wrong(folder, "expired", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let other = wrong(folder, "other", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let authority = wrong(folder, "ca", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let ((expired, expired_ca), (other, other_ca), (authority, ca)) =
        (expired.await, other.await, authority.await);
    let trusting = |case: Case, file: &Path| case.flag("--cacert").flag(file.display().to_string());
    vec![
        Case::new("accept and silence", https(silent), ("tls", "timeout")).within("1s"),
        Case::new("reset after the hello", https(resetting), ("tls", "reset"))
            .saying("the connection was reset (reset in tls)"),
        Case::new("closed after the hello", https(closing), ("tls", "closed")).saying("closed"),
        Case::new("TLS alert", https(alert), ("tls", "tls_alert")).saying("alert 112"),
        Case::new("not TLS at all", https(not_tls), ("tls", "not_tls")).saying("does not speak TLS"),
        trusting(Case::new("expired certificate", https(expired), bad).saying("expired"), &expired_ca),
        trusting(Case::new("wrong certificate", https(other), bad).saying("for other names"), &other_ca),
        trusting(Case::new("own authority as a server", https(authority), bad).saying("CA:TRUE"), &ca),
        Case::new("unknown issuer", https(authority), bad).saying("certificate"),
    ]
}

/// A TLS server whose certificate is wrong in one way, and the file that would make it trusted.
async fn wrong(
    folder: &TempDir,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (SocketAddr, PathBuf) {
    let (pem, acceptor) = certificate(change);
    let file = folder.path().join(name);
    fs::write(&file, pem).unwrap();
    (secure(acceptor, serve_objects).await, file)
}

/// Reported as it happened, told in words, and no accusation although the control works.
fn hold(case: &Case, control: &str) {
    let with_control = [&case.arguments()[..], &["--control", control]].concat();
    let (report, status) = report(&with_control);
    let results = report["results"].as_array().unwrap();
    assert_eq!(status, 3, "{}: {report:#}", case.name);
    for result in results {
        assert!(["inconclusive", "degraded"].contains(&result["verdict"].as_str().unwrap()), "{}", case.name);
        assert!(!result["summary"].as_str().unwrap().is_empty());
    }
    let failed = exchanges(&report, "subject")
        .find(|exchange| !exchange["failure"].is_null() && exchange["fallback"] == false)
        .unwrap_or_else(|| panic!("{} did not fail: {report:#}", case.name));
    let failure = &failed["failure"];
    assert_eq!(
        (&failure["phase"], &failure["kind"]),
        (&case.phase.into(), &case.kind.into()),
        "{}",
        case.name
    );
    let phases = failed["phases"].as_object().unwrap();
    let sum: f64 = phases.values().filter_map(Value::as_f64).sum();
    assert!((sum - failed["duration_s"].as_f64().unwrap()).abs() < 1e-3, "{}: {failed}", case.name);
    for control in exchanges(&report, "control") {
        assert!(control["failure"].is_null(), "{}: {control}", case.name);
    }

    let text = String::from_utf8(throttlescope(&with_control).stdout).unwrap();
    let line =
        text.lines().find(|line| line.starts_with("  ! subject") && !line.contains("other address family"));
    let line = line.unwrap_or_else(|| panic!("{} is told in no line of:\n{text}", case.name));
    assert!(
        line.contains(case.says) && line.contains(case.kind),
        "{}: no {:?} in {line}",
        case.name,
        case.says
    );
    eprintln!("{:>28}: {line}", case.name);
}

fn exchanges<'a>(report: &'a Value, role: &'a str) -> impl Iterator<Item = &'a Value> {
    let results = report["results"].as_array().unwrap();
    results
        .iter()
        .flat_map(|result| result["exchanges"].as_array().unwrap())
        .filter(move |exchange| exchange["role"] == role)
}

fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address where further connection attempts go unanswered, as behind a dropping box: the kernel drops what comes
/// while the queue of connections that nobody accepts is full.
fn full_queue() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    first.connect(&address.into()).unwrap();
    (vec![listener, first], address)
}

#[test]
fn an_endless_body_is_taken_no_further_than_asked() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endless = runtime.block_on(peer(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    }));
    let url = format!("http://{endless}/");
    let (report, status) = report(&[
        "measure",
        &url,
        "--control",
        &format!("{url}?control"),
        "--bytes",
        "64KiB",
        "--pairs",
        "1",
    ]);
    assert_eq!(status, 3);
    for exchange in exchanges(&report, "subject") {
        assert!(exchange["failure"].is_null(), "{exchange}");
        // The opening exchanges are small.
        assert!([16_384, 65_536].map(Value::from).contains(&exchange["bytes"]), "{exchange}");
    }
}

#[test]
fn addresses_that_a_server_echoes_back_appear_nowhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let echoing = runtime.block_on(peer(|mut stream| async move {
        let client = stream.peer_addr().unwrap().ip();
        while request(&mut stream).await.is_some() {
            let head = format!(
                "HTTP/1.1 302 Found\r\nServer: seen {client}\r\nVia: 1.1 {client}\r\nX-Client: {client}\r\n\
                 Location: /for/{client}?ip={client}\r\nContent-Length: 10\r\n\r\n{client:<10}"
            );
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
        }
    }));
    let url = format!("http://{echoing}/");
    let arguments = ["measure", &url, "--control", &url, "--pairs", "1", "--interface", "127.0.0.77"];
    for arguments in [arguments.to_vec(), [&arguments[..], &["--json"]].concat()] {
        let output = throttlescope(&arguments);
        let all = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(all).unwrap();
        assert!(text.contains("redirect"), "{text}");
        assert!(!text.contains("127.0.0.77"), "{text}");
    }
}

#[test]
fn resolvers_fail_in_ways_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("names.toml");
    let rules = [
        ("gone", "dns_lie = {}"),
        ("four", "dns_lie = { addresses = ['192.0.2.1'] }"),
        ("silent", "blackhole = { after_packets = [0, 0] }"),
    ];
    let rules = rules.map(|(name, effect)| {
        format!("[[rule]]\nnames = ['{name}.example']\nseen_in = ['dns']\neffect.{effect}\n")
    });
    fs::write(
        &profile,
        format!(
            "name = 'names'\nabout = 'names that fail'\ntruth = {{ verdict = 'normal' }}\n{}",
            rules.concat()
        ),
    )
    .unwrap();
    let profile = profile.to_str().unwrap();
    let built = env!("CARGO_BIN_EXE_throttlescope");
    if !crate::support::lab_can_be_had() {
        return;
    }
    for (name, family, kind, says) in [
        ("gone", "-4", "nxdomain", "the name does not exist"),
        ("four", "-6", "no_address", "no address of the family asked for"),
        ("silent", "-4", "timeout", "the time for the whole exchange ran out"),
    ] {
        let url = format!("http://{name}.example/bytes/1000");
        let measure = [built, "measure", &url, "--control", "http://other.example/bytes/1000"];
        let bounds = [family, "--pairs", "1", "--timeout", "1s"];
        let lab = ["lab", "run", "-q", profile, "--"];
        let output = throttlescope(&[&lab[..], &measure, &bounds].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(3),
            "{name}: {}{text}",
            String::from_utf8_lossy(&output.stderr)
        );
        let line = text.lines().find(|line| line.starts_with("  ! subject")).unwrap();
        assert!(line.contains(&format!("({kind} in resolve)")) && line.contains(says), "{line}");
    }
    let nowhere = ["lab", "run", "-q", profile, "--", "unshare", "--user", "--net", built, "measure"];
    let urls = ["http://a.example/", "--control", "http://b.example/", "--pairs", "1"];
    let text = String::from_utf8(throttlescope(&[&nowhere[..], &urls].concat()).stdout).unwrap();
    assert!(text.contains("no name server could be reached (unreachable in resolve)"), "{text}");
}
