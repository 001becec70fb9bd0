//! What runs inside the laboratory: the steps' server, and each step as its client. A failed assertion is the exit
//! status of the program that runs inside, and so of `lab run`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use throttlescope::wire::packet::{self, Forged};
use throttlescope::wire::tls::craft;

/// What the server sends: at 130 kbit/s and after the free burst it takes more than two seconds.
const BYTES: usize = 48 << 10;
/// Longer than this is throttled, shorter is not: half of what the throttle makes it, and many times what the line does.
const HALF: Duration = Duration::from_millis(1200);

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Reads to the end, then sends.
const AFTER: [u16; 2] = [443, 8080];
/// Sends a triggering hello first.
const HELLO_FIRST: u16 = 8443;
/// Is told a port, connects to it there, and goes on as `AFTER`.
const CONNECTS_BACK: u16 = 7002;
/// Sends at once, and reads meanwhile.
const AT_ONCE: u16 = 9000;
/// Sends 100 kbit/s for three seconds.
const PACED: u16 = 9001;
/// Sends a certificate in clear that names what is throttled, then goes on as `AFTER`.
const CERTIFICATE: u16 = 8444;
/// Sends a SYN from outside within the flow, then goes on as `AFTER`.
const SENDS_SYN: u16 = 8445;
/// Says one byte after four seconds, then goes on as `AFTER`.
const SPEAKS_LATE: u16 = 8446;
/// Answers each byte with one; datagrams with their length.
const ECHO: u16 = 9002;

#[test]
#[ignore = "runs inside the laboratory"]
fn step() {
    let Ok(name) = std::env::var("LAB_STEP") else { return };
    match name.as_str() {
        "serve" => serve(),
        "doh" => super::doh::step(),
        "control" => assert!(!throttled(443, &[&hello("example.org")])),
        "t3" => t3(),
        "t5" => t5(),
        "t6-own" => assert!(two_at_once() < Duration::from_millis(3600)),
        "t6-shared" => assert!(two_at_once() > Duration::from_millis(3600)),
        "t8-any" => assert!(throttled(8080, &[&hello("t.co")])),
        "t8-443" => assert!(!throttled(8080, &[&hello("t.co")]) && throttled(443, &[&hello("t.co")])),
        "g1" => g1(),
        "g2" => assert!(throttled(HELLO_FIRST, &[])),
        "g3" => {
            assert!(throttled(443, &[&hello("t.co"), &[0xaa; 600]]));
            assert!(!throttled(CERTIFICATE, &[&hello("example.org")]));
        }
        "g4" => g4(),
        "g5" => {
            assert!(throttled(443, &[&[0xee; 100], &hello("t.co")]));
            assert!(!throttled(443, &[&[0xee; 101], &hello("t.co")]));
        }
        "g6" => flipped(&[0, 5]),
        "g7" => g7(),
        "g8-2021" => assert!(!throttled(443, &halves())),
        "g8-2026" => assert!(throttled(443, &halves())),
        "g9" => assert!(!throttled(443, &[&[craft::record(20, &[1]), hello("t.co")].concat()])),
        "g10" => g10(),
        "g11-v1" => names(&["reddit.com", "t.co", "throttletwitter.com"], &["example.org"]),
        "g11-v2" => names(&["t.co", "throttletwitter.com"], &["reddit.com"]),
        "g11-v3" => names(&["t.co", "garbage.twimg.com"], &["throttletwitter.com", "microsoft.com"]),
        "g12" => names(&[], &["twitter.com."]),
        "g13" => assert!(throttled(443, &[&hello("example.org"), &hello("t.co")])),
        "g14" => {
            assert!(throttled(443, &[&[5, 1, 0], &hello("t.co")]));
            assert!(throttled(
                443,
                &[b"CONNECT t.co:443 HTTP/1.1\r\nHost: t.co:443\r\n\r\n", &hello("t.co")]
            ));
            // Through an encrypted tunnel the box sees records alone.
            assert!(!throttled(443, &[&hello("vpn.example.org"), &craft::record(23, &[0x5c; 500])]));
        }
        "g15" => names(&["twitter.com", "abs.twimg.com", "pbs.twimg.com", "api.twitter.com"], &[]),
        "p1" => p1(),
        "p2" => p2(),
        "p3" => p3(),
        "p4" => p4(),
        "p6" => {
            assert!(throttled(443, &[&hello("t.co")]));
            assert!(!throttled(SENDS_SYN, &[&hello("t.co")]));
        }
        "p7" => p7(),
        "p8" => p8(),
        "p9" => p9(),
        "p10" => p10(),
        "packet-counter" => packet_counter(),
        "locate" => locate(),
        other => panic!("no step {other}"),
    }
}

fn hello(name: &str) -> Vec<u8> {
    craft::hello(Some(name), 0)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((SERVER, port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends each chunk as a segment of its own, ends its side, and reads what comes: how long that took.
fn exchange(mut stream: TcpStream, chunks: &[&[u8]]) -> Duration {
    for chunk in chunks {
        stream.write_all(chunk).unwrap();
        // Long enough for the kernel to send it before the next one could join it.
        thread::sleep(Duration::from_millis(15));
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let start = Instant::now();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(received.len() >= BYTES);
    start.elapsed()
}

fn throttled(port: u16, chunks: &[&[u8]]) -> bool {
    exchange(connect(port), chunks) > HALF
}

fn names(slow: &[&str], fast: &[&str]) {
    for name in slow {
        assert!(throttled(443, &[&hello(name)]), "{name} is not throttled");
    }
    for name in fast {
        assert!(!throttled(443, &[&hello(name)]), "{name} is throttled");
    }
}

fn flipped(places: &[usize]) {
    for &place in places {
        let mut bytes = hello("t.co");
        bytes[place] ^= 3;
        assert!(!throttled(443, &[&bytes]), "byte {place}");
    }
}

fn halves() -> [&'static [u8]; 2] {
    let whole = Vec::leak(hello("t.co"));
    let (first, second) = whole.split_at(40);
    [first, second]
}

/// Both directions at once take as long as one.
fn t3() {
    let mut stream = connect(AT_ONCE);
    stream.write_all(&hello("t.co")).unwrap();
    let start = Instant::now();
    let mut reader = stream.try_clone().unwrap();
    let received = thread::spawn(move || {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        start.elapsed()
    });
    stream.write_all(&vec![7; BYTES]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let took = received.join().unwrap();
    assert!(took > HALF, "{took:?}");
    // In turn, or out of one bucket, they could not take less than twice 2.5 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Three seconds at 100 kbit/s; the report says whether a packet was dropped.
fn t5() {
    let mut stream = connect(PACED);
    stream.write_all(&hello("t.co")).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 30 * 1200);
}

fn two_at_once() -> Duration {
    let start = Instant::now();
    let fetch = || exchange(connect(443), &[&hello("t.co")]);
    thread::scope(|scope| {
        let both = [scope.spawn(fetch), scope.spawn(fetch)];
        for one in both {
            one.join().unwrap();
        }
    });
    start.elapsed()
}

/// The server connects to the client; hellos of both sides then count for nothing.
fn g1() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut ask = connect(CONNECTS_BACK);
    ask.write_all(&port.to_be_bytes()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    assert!(exchange(stream, &[&hello("t.co")]) < HALF);
}

/// Under the least and over the greatest number of packets that are read.
fn g4() {
    let record = craft::record(23, &[1; 50]);
    let after = |others: usize| {
        let last = hello("t.co");
        let mut chunks = vec![record.as_slice(); others];
        chunks.push(&last);
        throttled(443, &chunks)
    };
    assert!(after(15));
    assert!(!after(22));
}

fn g7() {
    let mut longer_record = hello("t.co");
    longer_record[4] += 1;
    assert!(!throttled(443, &[&longer_record]));
    longer_record.push(0);
    assert!(throttled(443, &[&longer_record]));
}

/// A hello with one thing wrong at a time, and the name in bytes that are no hello.
fn g10() {
    let whole = hello("t.co");
    let name = whole.windows(4).position(|window| window == b"t.co").unwrap();
    let session_length = 5 + 4 + 2 + 32;
    assert_eq!(whole[session_length], 32);
    // Lengths of the session id and of the cipher suites, name type, extension type.
    flipped(&[session_length, session_length + 34, name - 3, name - 8]);
    assert!(!throttled(443, &[&craft::record(23, b"t.co twitter.com abs.twimg.com, but no hello")]));
}

/// The box forgets after two seconds here, but not a flow in which something moves.
fn p2() {
    let mut stream = connect(443);
    stream.write_all(&hello("t.co")).unwrap();
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(500));
        stream.write_all(&[1]).unwrap();
    }
    assert!(exchange(stream, &[]) > HALF);
}

/// After a FIN the same connection is slow (`exchange` ends its side before it reads); after a RST the next one between the
/// same ports is, whatever it says.
fn p3() {
    assert!(throttled(443, &[&hello("t.co")]));
    let from = |local: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&local.into()).unwrap();
        socket.connect(&SocketAddr::from((SERVER, 443)).into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        TcpStream::from(socket)
    };
    let innocent = from(SocketAddr::from(([0, 0, 0, 0], 0)));
    let local = innocent.local_addr().unwrap();
    reset(innocent);
    assert!(exchange(from(local), &[&hello("example.org")]) < HALF, "a reset alone does nothing");
    let mut named = from(SocketAddr::from(([0, 0, 0, 0], 0)));
    let local = named.local_addr().unwrap();
    named.write_all(&hello("t.co")).unwrap();
    reset(named);
    assert!(exchange(from(local), &[&hello("example.org")]) > HALF, "a reset clears nothing");
}

/// Closes with a RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    // Until the server has it, too.
    thread::sleep(Duration::from_millis(50));
}

/// The box forgets after two seconds here. What comes next is a session without a SYN, and who speaks first in it is who
/// opened it.
fn p8() {
    let stream = connect(443);
    thread::sleep(Duration::from_secs(4));
    assert!(exchange(stream, &[&hello("t.co")]) > HALF);
    let mut stream = connect(SPEAKS_LATE);
    stream.read_exact(&mut [0]).unwrap();
    assert!(exchange(stream, &[&hello("t.co")]) < HALF);
}

/// Which hop the box stands at: a hello sent beside the connection dies after so many hops; then an innocent transfer.
fn locate() {
    let slow = |ttl: u8| {
        let stream = connect(443);
        let source = stream.local_addr().unwrap();
        forge(source, SocketAddr::from((SERVER, 443)), ttl, false, &hello("t.co"));
        thread::sleep(Duration::from_millis(20));
        exchange(stream, &[&hello("example.org")]) > HALF
    };
    assert_eq!((1..=5).find(|&ttl| slow(ttl)), Some(3));
}

/// Puts a packet of one's own making on the line. Its numbers fit no window: only a box on the way cares for it.
fn forge(source: SocketAddr, destination: SocketAddr, ttl: u8, syn: bool, payload: &[u8]) {
    let acknowledgment = (!syn).then_some(1);
    let mut bytes = packet::tcp(&Forged {
        source,
        destination,
        sequence: 1,
        acknowledgment,
        syn,
        fin: false,
        rst: false,
        payload,
    })
    .unwrap();
    packet::set_ttl(&mut bytes, ttl);
    // 255 is IPPROTO_RAW: the header is in the bytes.
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.send_to(&bytes, &SocketAddr::new(destination.ip(), 0).into()).unwrap();
}

/// The box forgets after two seconds here.
fn p1() {
    let rest = |seconds: u64| {
        let mut stream = connect(443);
        stream.write_all(&hello("t.co")).unwrap();
        thread::sleep(Duration::from_secs(seconds));
        exchange(stream, &[&[1, 2, 3]])
    };
    assert!(rest(0) > HALF);
    assert!(rest(4) < HALF);
}

/// Three hellos that die before the box do not count towards its limit of three, three that reach it do.
fn p4() {
    for (ttl, dead) in [(2, false), (3, true)] {
        let name = format!("ttl{ttl}.example");
        let kept: Vec<TcpStream> = (0..3)
            .map(|_| {
                let mut stream = connect(443);
                stream.set_ttl(ttl).unwrap();
                stream.write_all(&hello(&name)).unwrap();
                stream
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        let mut fourth = connect(443);
        fourth.write_all(&hello(&name)).unwrap();
        fourth.shutdown(std::net::Shutdown::Write).unwrap();
        fourth.set_read_timeout(Some(HALF)).unwrap();
        assert_eq!(fourth.read(&mut [0; 100]).is_err(), dead, "time to live {ttl}");
        drop(kept);
    }
}

/// A datagram in fifteen pieces arrives whole; in more than the box keeps, not at all.
fn p7() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(HALF)).unwrap();
    let mut answer = [0; 8];
    let mut ask = |bytes: usize| {
        socket.send_to(&vec![7; bytes], (SERVER, ECHO)).unwrap();
        socket.recv(&mut answer).map(|_| u64::from_be_bytes(answer))
    };
    assert_eq!(ask(20_000).unwrap(), 20_000);
    assert!(ask(40_000).is_err());
}

/// Half of the connections are reset.
fn p9() {
    let reset = (0..40)
        .filter(|_| {
            let mut stream = connect(443);
            stream.write_all(&hello("t.co")).unwrap();
            let _may_be_reset = stream.shutdown(std::net::Shutdown::Write);
            stream.read_to_end(&mut Vec::new()).is_err()
        })
        .count();
    assert!((8..=32).contains(&reset), "{reset} of 40");
}

/// The hello is dropped for a second here; the kernel's own retransmission then gets through.
fn p10() {
    let start = Instant::now();
    assert!(exchange(connect(443), &[&hello("t.co")]) < Duration::from_secs(20));
    assert!(start.elapsed() > Duration::from_secs(1));
}

/// The same 64 bytes in one segment get an answer; in 32 segments they do not.
fn packet_counter() {
    let answered = |chunks: usize| {
        let mut stream = connect(ECHO);
        stream.set_read_timeout(Some(HALF)).unwrap();
        for _ in 0..chunks {
            stream.write_all(&vec![7; 64 / chunks]).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        stream.read_exact(&mut [0; 64]).is_ok()
    };
    assert!(answered(1));
    assert!(!answered(32));
}

// The server.

fn serve() {
    let mut threads = Vec::new();
    let mut open = |port: u16, answer: fn(TcpStream)| {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        listener.bind(&SocketAddr::from((SERVER, port)).into()).unwrap();
        listener.listen(64).unwrap();
        let listener = TcpListener::from(listener);
        threads.push(thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let _nodelay = stream.set_nodelay(true);
                thread::spawn(move || answer(stream));
            }
        }));
    };
    open(HELLO_FIRST, |mut stream| {
        let _gone = stream.write_all(&hello("t.co"));
        after(stream);
    });
    open(CERTIFICATE, |mut stream| {
        let names = b"..CN=t.co..twitter.com..abs.twimg.com..";
        let message = [&[11, 0, 0, names.len() as u8][..], names].concat();
        let _gone = stream.write_all(&craft::record(22, &message));
        after(stream);
    });
    open(SENDS_SYN, |stream| {
        drain(stream.try_clone().unwrap());
        forge(stream.local_addr().unwrap(), stream.peer_addr().unwrap(), 64, true, &[]);
        thread::sleep(Duration::from_millis(20));
        after(stream);
    });
    open(SPEAKS_LATE, |mut stream| {
        thread::sleep(Duration::from_secs(4));
        let _gone = stream.write_all(&[1]);
        after(stream);
    });
    open(CONNECTS_BACK, |mut stream| {
        let mut port = [0; 2];
        if stream.read_exact(&mut port).is_ok() {
            let mut client = stream.peer_addr().unwrap();
            client.set_port(u16::from_be_bytes(port));
            after(TcpStream::connect(client).unwrap());
        }
    });
    open(AT_ONCE, |stream| {
        let mut writer = stream.try_clone().unwrap();
        let sends = thread::spawn(move || {
            let _gone = writer.write_all(&vec![7; BYTES]);
        });
        drain(stream);
        sends.join().unwrap();
    });
    open(PACED, |mut stream| {
        // A connection closed with bytes unread ends in a reset.
        let _hello = stream.read(&mut [0; 4096]);
        for _ in 0..30 {
            let _gone = stream.write_all(&[7; 1200]);
            thread::sleep(Duration::from_millis(96));
        }
    });
    open(ECHO, |mut stream| {
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let _gone = stream.write_all(&buffer[..length]);
        }
    });
    for port in AFTER {
        open(port, after);
    }
    threads.push(thread::spawn(|| {
        let socket = UdpSocket::bind((SERVER, ECHO)).unwrap();
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            let _gone = socket.send_to(&(length as u64).to_be_bytes(), from);
        }
    }));
    for thread in threads {
        thread.join().unwrap();
    }
}

fn after(mut stream: TcpStream) {
    drain(stream.try_clone().unwrap());
    let _gone = stream.write_all(&vec![7; BYTES]);
}

fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = stream.read(&mut buffer) {}
}
