//! Three hundred flows of mixed profiles at once, and whether the laboratory itself keeps up.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Socket, Type};
use throttlescope::lab::{Lab, LabSettings, LaneSettings, client_addresses, profiles};
use throttlescope::model::profile::{LineProfile, Rate, Span};

use super::{FAST, available, lab, text};

const FLOWS: u16 = 300;
/// So few that a laboratory has nothing to do.
const FEW: u16 = 30;
/// At these rates a clean flow takes from 1.3 to 8 s.
const BYTES: usize = 512 << 10;
/// Longer than any clean flow; a throttled one is left then.
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn three_hundred_flows_do_not_slow_each_other() {
    if !available("scale") {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let inner = ["--exact", "lab::scale::inside", "--ignored", "--nocapture", "--test-threads=1"];
    // A laboratory within a laboratory: the outer one gives the rights, the inner one has the lanes.
    let output =
        lab(&["clean", "-q"]).args(FAST).arg("--").arg(this).args(inner).env("LAB_SCALE", "1").output();
    let output = output.unwrap();
    eprintln!("{}", text(&output));
    assert!(output.status.success());
}

#[test]
#[ignore = "runs inside the laboratory"]
fn inside() {
    if std::env::var_os("LAB_SCALE").is_none() {
        return;
    }
    let few = run(FEW);
    let together = run(FLOWS);
    let same = few.clean.iter().zip(&together.clean);
    let mut slower: Vec<f64> = same.map(|(few, many)| many.as_secs_f64() / few.as_secs_f64()).collect();
    slower.sort_by(f64::total_cmp);
    let (median, most) = (slower[slower.len() / 2], slower[slower.len() - 1]);
    println!(
        "the same clean flows among {FLOWS} and among {FEW}: {median:.3} times as long (median), at most {most:.3}"
    );
    if together.overloaded || few.overloaded {
        // The laboratory says itself that its results are void: the machine was busy with something else.
        println!("overloaded; times are not compared");
        return;
    }
    assert!(median < 1.1, "{slower:?}");
}

struct Run {
    /// What the clean flows took, in their order.
    clean: Vec<Duration>,
    overloaded: bool,
}

/// Every second lane is clean, the others take turns; lines from 0.5 to 3.2 Mbit/s and 10 to 100 ms.
fn lane(number: u16) -> LaneSettings {
    let others =
        ["tspu-2021", "tspu-freeze-bytes", "random-loss", "turkey-delay", "shape-all", "tspu-sni-rst"];
    let profile =
        if number.is_multiple_of(2) { "clean" } else { others[usize::from(number / 2) % others.len()] };
    let mut line =
        LineProfile { rtt: Span::millis(10 + u64::from(number % 10) * 10), ..LineProfile::default() };
    line.down.rate = Rate::bits(5e5 + f64::from(number % 19) * 1.5e5);
    LaneSettings { line, profile: profiles::profile(profile).unwrap(), seed: u64::from(number) }
}

fn run(flows: u16) -> Run {
    let settings = LabSettings { lanes: (0..flows).map(lane).collect(), ..LabSettings::default() };
    let lab = Lab::start(settings).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(lab.authority_pem.as_ref().unwrap().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let server = lab.servers[0];
    let flows: Vec<_> = (0..flows)
        .map(|number| {
            let config = Arc::clone(&config);
            // Two hundred handshakes a second, or the machine's own cryptography is what is measured.
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(u64::from(number) * 5));
                let start = Instant::now();
                let took = fetch(number, server, config);
                (start, Instant::now(), took)
            })
        })
        .collect();
    let times: Vec<(Instant, Instant, Option<Duration>)> =
        flows.into_iter().map(|flow| flow.join().unwrap()).collect();
    let at =
        |moment: Instant| times.iter().filter(|(start, end, _)| *start <= moment && moment < *end).count();
    let at_once = times.iter().map(|(start, ..)| at(*start)).max().unwrap();
    let report = lab.finish().unwrap();
    let packets: u64 = report.lanes.iter().map(|lane| lane.packets).sum();
    println!("{} flows, {at_once} at once, {packets} packets, lateness {:?}", times.len(), report.lateness);
    let clean = times.iter().step_by(2).map(|(.., took)| took.expect("a clean flow ends")).collect();
    Run { clean, overloaded: report.lateness.overloaded }
}

/// One request over TLS under a name that is throttled; nothing where it does not end in time.
fn fetch(number: u16, server: IpAddr, config: Arc<rustls::ClientConfig>) -> Option<Duration> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(client_addresses(number).0.into(), 0).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let start = Instant::now();
    socket.connect(&SocketAddr::new(server, 443).into()).unwrap();
    let name = ServerName::try_from("abs.twimg.com").unwrap();
    let connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::from(socket));
    let request = format!("GET /bytes/{BYTES} HTTP/1.1\r\nHost: abs.twimg.com\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let (mut received, mut buffer) = (0, vec![0; 16_384]);
    while start.elapsed() < PATIENCE {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => received += length,
        }
    }
    (received >= BYTES).then(|| start.elapsed())
}
