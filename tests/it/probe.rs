//! One exchange against loopback servers that misbehave exactly.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, IsCa};
use throttlescope::{
    clock,
    model::{Exchange, FailureDetail, FailureKind, HelloKind, Phase, Role},
    probe::{Budgets, HttpChoice, Label, Options, Plan, Prober},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::support::peer::{
    answering, certificate, forever, object, partial, peer, request, reset, secure, serve_objects,
};

fn plan(url: &str) -> Plan {
    let short = Duration::from_millis(400);
    Plan {
        label: Label::lone(Role::Subject),
        url: url.parse().unwrap(),
        name: None,
        host_header: None,
        address: None,
        bytes: 65_536,
        budgets: Budgets {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            processing: short,
            transfer: Duration::from_secs(2),
            stall: short,
            whole: None,
        },
        hello: HelloKind::Small,
        http: HttpChoice::Http1,
        check_certificate: true,
    }
}

async fn take(plan: &Plan) -> Exchange {
    take_with(Options::default(), plan).await
}

/// Takes the exchange and holds what is true of all.
async fn take_with(options: Options, plan: &Plan) -> Exchange {
    let prober = Prober::new(options).unwrap();
    let start = Instant::now();
    let exchange = prober.exchange(plan, clock::now()).await;
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    assert_eq!(exchange.duration, exchange.phases.total());
    assert_eq!(Some(exchange.reached), exchange.phases.reached());
    exchange
}

async fn get(address: SocketAddr) -> Exchange {
    take(&plan(&format!("http://{address}/x"))).await
}

fn fault(exchange: &Exchange) -> (Phase, FailureKind) {
    let failure = exchange.failure.as_ref().unwrap_or_else(|| panic!("no failure: {exchange:?}"));
    (failure.phase, failure.kind)
}

#[tokio::test]
async fn asks_again_until_the_bytes_have_come() {
    let exchange = get(answering(object(10_000)).await).await;
    assert_eq!(exchange.failure, None);
    assert!(exchange.is_complete());
    assert_eq!((exchange.bytes, exchange.requests.len(), exchange.status), (65_536, 7, Some(200)));
    assert_eq!(exchange.requests.iter().map(|request| request.bytes).sum::<u64>(), 65_536);
    assert!(exchange.requests.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(exchange.requests.iter().all(|request| request.first_byte.is_some()));
    assert!(exchange.curve.bytes() >= 65_536);
    assert_eq!(exchange.phases.duration(Phase::Resolve), None);
    assert_eq!(exchange.phases.duration(Phase::Tls), None);
    assert!(exchange.pinned && exchange.body_sha256.is_some() && exchange.hello.is_none());
    if cfg!(target_os = "linux") {
        let tcp = exchange.tcp.unwrap();
        assert!(tcp.connect.unwrap().rtt.is_some() && tcp.during.is_some());
        assert!(tcp.end.unwrap().bytes_received.unwrap() >= 65_536);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_where_enough_has_come() {
    let address = peer(|mut stream| async move {
        request(&mut stream).await;
        let mut data = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        data.resize(16_384, b'x');
        while stream.write_all(&data).await.is_ok() {}
    })
    .await;
    let exchange = get(address).await;
    assert_eq!((exchange.failure.clone(), exchange.bytes, exchange.censored), (None, 65_536, false));
    assert_eq!(exchange.requests.len(), 1);
}

#[tokio::test]
async fn a_server_that_closes_after_a_whole_response_has_not_failed() {
    let address = peer(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(&object(1_000)).await.unwrap();
    })
    .await;
    let exchange = get(address).await;
    assert_eq!((exchange.failure.clone(), exchange.bytes, exchange.requests.len()), (None, 1_000, 1));
}

#[tokio::test]
async fn tells_connection_failures_apart() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    assert_eq!(fault(&get(closed).await), (Phase::Connect, FailureKind::Refused));
    // Multicast: the kernel itself has no way for TCP.
    let nowhere = take(&plan("http://224.0.0.1:9/")).await;
    assert_eq!(fault(&nowhere), (Phase::Connect, FailureKind::Unreachable));
}

#[tokio::test]
async fn tells_silence_and_ends_apart_before_the_response() {
    let silent = peer(|mut stream| async move {
        request(&mut stream).await;
        forever().await;
    })
    .await;
    let exchange = get(silent).await;
    assert_eq!(fault(&exchange), (Phase::Processing, FailureKind::Timeout));
    assert!(exchange.censored && exchange.requests.len() == 1);

    let closing = peer(|mut stream| async move {
        request(&mut stream).await;
    })
    .await;
    assert_eq!(fault(&get(closing).await), (Phase::Processing, FailureKind::Closed));

    let resetting = peer(|mut stream| async move {
        request(&mut stream).await;
        reset(stream);
    })
    .await;
    assert_eq!(fault(&get(resetting).await), (Phase::Processing, FailureKind::Reset));

    let garbage = answering(b"\x01\x02 this is not HTTP\r\n\r\n".to_vec()).await;
    assert_eq!(fault(&get(garbage).await).1, FailureKind::Malformed);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_keeps_what_came() {
    let stalled = get(partial(|stream| async move {
        forever().await;
        drop(stream);
    })
    .await)
    .await;
    assert_eq!(fault(&stalled), (Phase::Transfer, FailureKind::Stalled));
    assert!(stalled.censored);
    assert_eq!((stalled.bytes, stalled.requests[0].bytes, stalled.status), (18_000, 18_000, Some(200)));
    assert!(stalled.curve.bytes() > 18_000 && stalled.body_sha256.is_some());

    let short = get(partial(|mut stream| async move {
        stream.shutdown().await.unwrap();
    })
    .await)
    .await;
    assert_eq!(fault(&short), (Phase::Transfer, FailureKind::ShortBody));
    assert!(!short.censored && short.bytes == 18_000);

    let cut = get(partial(|mut stream| async move {
        // The reset overtakes what was not read yet; wait until the client has all and asks no more.
        let _ = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        reset(stream);
    })
    .await)
    .await;
    assert_eq!(fault(&cut), (Phase::Transfer, FailureKind::Reset));
}

#[tokio::test]
async fn a_drip_ends_with_the_transfer_budget() {
    let dripping = partial(|mut stream| async move {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let exchange = get(dripping).await;
    assert_eq!(fault(&exchange), (Phase::Transfer, FailureKind::Timeout));
    assert!(exchange.censored && exchange.bytes > 18_000);
    assert!(exchange.phases.duration(Phase::Transfer).unwrap() >= Duration::from_secs(2));

    let mut whole = plan(&format!("http://{dripping}/"));
    whole.budgets.whole = Some(Duration::from_millis(300));
    let exchange = take(&whole).await;
    assert_eq!(fault(&exchange), (Phase::Transfer, FailureKind::Timeout));
    assert_eq!(exchange.failure.unwrap().detail, Some(FailureDetail::WholeExchange));
}

#[tokio::test]
async fn stops_when_enough_is_known() {
    let dripping = partial(|mut stream| async move {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let prober = Prober::new(Options::default()).unwrap();
    let mut asked = 0;
    let mut stop = |curve: &throttlescope::model::TransferCurve, _: Duration| {
        asked += 1;
        assert!(curve.bytes() > 0);
        asked == 2
    };
    let plan = plan(&format!("http://{dripping}/"));
    let exchange = prober.exchange_until(&plan, clock::now(), &mut stop).await;
    assert_eq!((exchange.failure, exchange.censored, asked), (None, true, 2));
}

#[tokio::test]
async fn header_bombs_are_bounded() {
    let bomb = peer(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"X-Header: endless endless endless endless\r\n").await.is_ok() {}
    })
    .await;
    let exchange = get(bomb).await;
    assert_eq!(fault(&exchange).1, FailureKind::TooLarge);
    assert_eq!(exchange.failure.unwrap().detail, Some(FailureDetail::Headers));

    let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
    (0..5_000).for_each(|n| many.extend_from_slice(format!("A{n}: b\r\n").as_bytes()));
    many.extend_from_slice(b"\r\n");
    assert_eq!(fault(&get(answering(many).await).await).1, FailureKind::TooLarge);

    let mut long = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
    long.resize(1_000_000, b'x');
    assert_eq!(fault(&get(answering(long).await).await).1, FailureKind::TooLarge);
}

#[tokio::test]
async fn errors_and_redirects_are_the_servers_own_words() {
    let error = get(answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad".to_vec()).await).await;
    assert_eq!(fault(&error), (Phase::Processing, FailureKind::HttpError));
    assert_eq!((error.status, error.failure.unwrap().detail), (Some(500), None));

    let page =
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 31\r\n\r\n<iframe src=\"http://10.10.34.34\"".to_vec();
    let blocked = get(answering(page).await).await;
    assert_eq!(blocked.failure.unwrap().detail, Some(FailureDetail::BlockPage("ir-peyvandha".to_owned())));

    let moved = b"HTTP/1.1 302 Found\r\nServer: for 203.0.113.9\r\nX-Your-IP: 203.0.113.9\r\n\
        Location: /seen/203.0.113.9?ip=203.0.113.9\r\nContent-Length: 0\r\n\r\n";
    let moved = get(answering(moved.to_vec()).await).await;
    assert_eq!((moved.status, moved.failure.clone()), (Some(302), None));
    assert_eq!(moved.redirect.as_deref(), Some("/seen/[address]"));
    assert!(!serde_json::to_string(&moved).unwrap().contains("203.0.113.9"));
}

#[tokio::test]
async fn an_empty_object_has_no_range() {
    let address = peer(|mut stream| async move {
        while let Some(head) = request(&mut stream).await {
            let ranged = head.to_ascii_lowercase().contains("range: bytes=0-65535");
            let response: &[u8] = if ranged {
                b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            };
            stream.write_all(response).await.unwrap();
        }
    })
    .await;
    let exchange = get(address).await;
    assert_eq!((exchange.status, exchange.failure.clone(), exchange.bytes), (Some(200), None, 0));
}

async fn secure_plan(acceptor: TlsAcceptor) -> Plan {
    let address = secure(acceptor, serve_objects).await;
    Plan { address: Some(address), ..plan(&format!("https://localhost:{}/", address.port())) }
}

/// A file with the certificate, and the options that trust it.
fn trusting(pem: &str) -> (tempfile::NamedTempFile, Options) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    let options = Options { ca_file: Some(file.path().to_owned()), ..Options::default() };
    (file, options)
}

#[tokio::test]
async fn tls_is_timed_and_described() {
    let (pem, acceptor) = certificate(|_| ());
    let plan = secure_plan(acceptor).await;
    let (_file, options) = trusting(&pem);
    let small = take_with(options.clone(), &plan).await;
    assert_eq!(small.failure, None);
    assert_eq!((small.bytes, small.tls_version.as_deref()), (65_536, Some("1.3")));
    assert!(small.phases.duration(Phase::Tls).is_some() && small.certificate_checked);
    assert_eq!(small.certificate_sha256.as_ref().map(String::len), Some(64));
    let hello = small.hello.unwrap();
    assert!(hello.bytes < 600 && hello.segments == 1, "{hello:?}");
    assert!(hello.ja4.starts_with("t13d") && hello.ja4.contains("h1_"), "{hello:?}");

    let large = take_with(options, &Plan { hello: HelloKind::Large, ..plan }).await;
    let hello = large.hello.unwrap();
    assert!(large.failure.is_none() && hello.bytes > 1_300, "{hello:?}");
}

#[tokio::test]
async fn tells_bad_certificates_apart() {
    let expired = certificate(|params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let early = certificate(|params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    });
    let other_name = certificate(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let authority = certificate(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for ((pem, acceptor), detail) in [
        (expired, FailureDetail::Expired),
        (early, FailureDetail::NotYetValid),
        (other_name, FailureDetail::WrongName),
        (authority, FailureDetail::CaAsServer),
    ] {
        let (_file, options) = trusting(&pem);
        let mut plan = secure_plan(acceptor).await;
        let exchange = take_with(options, &plan).await;
        assert_eq!(fault(&exchange), (Phase::Tls, FailureKind::BadCertificate));
        assert_eq!(exchange.failure.unwrap().detail, Some(detail));
        assert!(exchange.certificate_sha256.is_some());
        plan.check_certificate = false;
        let unchecked = take(&plan).await;
        assert_eq!((unchecked.failure, unchecked.certificate_checked), (None, false));
        assert_eq!(unchecked.certificate_sha256, exchange.certificate_sha256);
    }
    let unknown = take(&secure_plan(certificate(|_| ()).1).await).await;
    assert_eq!(unknown.failure.unwrap().detail, Some(FailureDetail::UnknownIssuer));
}

#[tokio::test]
async fn tells_broken_handshakes_apart() {
    let hello = |mut stream: TcpStream| async move {
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream
    };
    let secure_get = |address: SocketAddr| async move {
        let mut plan = plan(&format!("https://localhost:{}/", address.port()));
        plan.address = Some(address);
        plan.budgets.tls = Duration::from_millis(400);
        take(&plan).await
    };
    let silent = secure_get(peer(|stream| async move { drop((forever().await, stream)) }).await).await;
    assert_eq!(fault(&silent), (Phase::Tls, FailureKind::Timeout));
    assert!(silent.hello.is_some() && silent.censored);
    let resetting = secure_get(peer(move |stream| async move { reset(hello(stream).await) }).await).await;
    assert_eq!(fault(&resetting), (Phase::Tls, FailureKind::Reset));
    let closing = secure_get(peer(move |stream| async move { drop(hello(stream).await) }).await).await;
    assert_eq!(fault(&closing), (Phase::Tls, FailureKind::Closed));
    let speaking = |answer: &'static [u8]| {
        peer(move |stream| async move {
            let mut stream = hello(stream).await;
            stream.write_all(answer).await.unwrap();
            forever().await;
        })
    };
    let not_tls = secure_get(speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n").await).await;
    assert_eq!(fault(&not_tls), (Phase::Tls, FailureKind::NotTls));
    let short = secure_get(speaking(b"hi").await).await;
    assert_eq!(fault(&short), (Phase::Tls, FailureKind::NotTls));
    let alert = secure_get(speaking(&[0x15, 3, 3, 0, 2, 2, 112]).await).await;
    assert_eq!(alert.failure.unwrap().detail, Some(FailureDetail::Alert(112)));
}

#[tokio::test]
async fn session_tickets_are_no_answer() {
    let (pem, acceptor) = certificate(|_| ());
    let address = secure(acceptor, |mut stream| async move {
        request(&mut stream).await;
        forever().await;
    })
    .await;
    let (_file, options) = trusting(&pem);
    let plan = Plan { address: Some(address), ..plan(&format!("https://localhost:{}/", address.port())) };
    let exchange = take_with(options, &plan).await;
    assert!(exchange.curve.bytes() > 0, "the server sent no tickets");
    assert_eq!(fault(&exchange), (Phase::Processing, FailureKind::Timeout));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_no_crash() {
    let mut plan = plan("http://does-not-exist.invalid/");
    plan.budgets.resolve = Duration::from_secs(1);
    let exchange = take(&plan).await;
    assert_eq!(fault(&exchange).0, Phase::Resolve);
    assert!(exchange.address.is_none() && !exchange.pinned);
}

#[test]
fn a_wrong_set_up_is_one_sentence() {
    let bad = |options| Prober::new(options).err().unwrap().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = bad(Options { ca_file: Some(file.path().to_owned()), ..Options::default() });
    assert!(text.contains("holds no PEM certificate"), "{text}");
    let text = bad(Options { ca_file: Some("/nonexistent.pem".into()), ..Options::default() });
    assert!(text.contains("/nonexistent.pem"), "{text}");
    let text = bad(Options { interface: Some("nope0".into()), ..Options::default() });
    assert!(text.contains("nope0"), "{text}");
}
