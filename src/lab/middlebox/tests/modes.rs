//! The modes beside the policer, packet by packet.

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::*;
use crate::wire::packet::udp;

fn bench(profile: &str) -> Bench {
    Bench::new(profiles::profile(profile).unwrap())
}

/// What the box puts out for a datagram of the client's.
fn datagram(middlebox: &mut Middlebox, port: u16, payload: &[u8]) -> Vec<Output> {
    let server = SocketAddr::new("192.0.2.1".parse().unwrap(), port);
    let mut out = Vec::new();
    middlebox.packet(
        Duration::ZERO,
        Direction::Up,
        udp(CLIENT.parse().unwrap(), server, payload).unwrap(),
        &mut out,
    );
    out
}

#[test]
fn freeze_by_bytes_counts_each_direction_and_spares_the_whitelist() {
    for (name, frozen) in [("example.org", true), ("vk.com", false)] {
        let mut bench = bench("tspu-freeze-bytes");
        bench.up(&hello(name));
        let passed = (0..60).take_while(|_| bench.down(&[0x17; 1000])).count();
        assert_eq!((16..=20).contains(&passed), frozen, "{name}: {passed} KB");
        assert_eq!(bench.up(&[0x17; 10]), !frozen, "silent both ways");
    }
}

#[test]
fn freeze_by_packets_counts_both_directions_together() {
    let mut bench = bench("tspu-freeze-packets");
    bench.up(&hello("example.org"));
    // Three of the handshake, the hello, then 21 more.
    let passed = (0..30).take_while(|number| if number % 2 == 0 { bench.up(&[1]) } else { bench.down(&[1]) });
    assert_eq!(passed.count(), 21);
}

#[test]
fn reset_rewrites_the_servers_packets_alone() {
    let mut bench = bench("tspu-sni-rst");
    assert!(bench.up(&hello("twitter.com")));
    let out = bench.flags(Direction::Down, false, true, &[0x16; 500]);
    let packet = Packet::parse(&out[0].bytes).unwrap();
    let Transport::Tcp(segment) = packet.transport else { panic!("no TCP") };
    assert!(segment.rst && segment.ack && segment.payload.is_empty());
    assert!(bench.up(&[1]));
}

#[test]
fn few_packets_pass_after_the_hello_then_none_either_way() {
    for seed in 0..20 {
        let mut bench = Bench::seeded(profiles::profile("tspu-sni-few-packets").unwrap(), seed);
        let mut passed = usize::from(bench.up(&hello("twitter.com")));
        passed += (0..20).take_while(|_| bench.down(&[1])).count();
        assert!((5..=8).contains(&passed), "{passed}");
        assert!(!bench.up(&[1]));
    }
}

#[test]
fn connection_limit_is_by_name_and_fingerprint_and_ends_by_the_clock() {
    let mut bench = bench("tspu-connection-limit");
    let opens = |bench: &mut Bench, hello: &[u8]| {
        bench.reconnect();
        bench.up(hello)
    };
    let alpha = hello("alpha.example");
    let passed: Vec<bool> = (0..5).map(|_| opens(&mut bench, &alpha)).collect();
    assert_eq!(passed, [true, true, true, false, false]);
    assert!(opens(&mut bench, &hello("beta.example")), "another name");
    assert!(opens(&mut bench, &craft::hello(Some("alpha.example"), 40)), "another fingerprint");
    assert!((0..9).all(|_| opens(&mut bench, &craft::hello(None, 0))), "no name");
    bench.now = Duration::from_secs(59);
    assert!(!opens(&mut bench, &alpha));
    bench.now = Duration::from_secs(121);
    assert!(opens(&mut bench, &alpha));
}

#[test]
fn delay_is_sticky_for_the_pair_of_addresses() {
    let mut bench = bench("turkey-delay");
    assert!(bench.up(&hello("example.org")));
    bench.reconnect();
    assert!(!bench.up(&hello("twitter.com")), "held back");
    let release = bench.middlebox.next_deadline().unwrap();
    assert!((3000..=4000).contains(&release.as_millis()), "{release:?}");
    bench.reconnect();
    assert!(!bench.up(&hello("example.org")), "the address remembers");
    bench.server.set_ip("192.0.2.2".parse().unwrap());
    bench.reconnect();
    assert!(bench.up(&hello("example.org")));
}

#[test]
fn dns_lie_comes_before_the_query_goes_on() {
    let mut middlebox = Middlebox::new(profiles::profile("dns-lie").unwrap(), 1);
    let query = |name: &str| {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.to_vec().unwrap()
    };
    let out = datagram(&mut middlebox, 53, &query("abs.twimg.com."));
    assert_eq!(out.len(), 2);
    assert_eq!((out[0].direction, out[1].direction), (Direction::Down, Direction::Up));
    let lie = Packet::parse(&out[0].bytes).unwrap();
    let answer = Message::from_vec(lie.payload()).unwrap();
    assert_eq!(answer.answers[0].data.to_string(), "10.10.34.35");
    assert_eq!(datagram(&mut middlebox, 53, &query("example.org.")).len(), 1);
}

#[test]
fn block_page_answers_for_the_server_and_cuts_it_off() {
    let mut bench = bench("http-blockpage");
    let out = bench.flags(Direction::Up, false, true, b"GET / HTTP/1.1\r\nHost: twitter.com\r\n\r\n");
    assert_eq!(out.len(), 2, "the request itself does not go on");
    let page = Packet::parse(&out[0].bytes).unwrap();
    assert!(page.payload().starts_with(b"HTTP/1.1 302"));
    assert_eq!(out[0].direction, Direction::Down);
    let reset = Packet::parse(&out[1].bytes).unwrap();
    assert!(matches!(reset.transport, Transport::Tcp(segment) if segment.rst));
    assert!(!bench.down(b"HTTP/1.1 200 OK\r\n\r\n"));
}

#[test]
fn quic_filter_looks_at_version_port_and_size() {
    let mut long = vec![0xc3, 0, 0, 0, 1, 8];
    long.resize(1001, 0);
    let mut other_version = long.clone();
    other_version[4] = 2;
    let cases = [
        (443, &long[..], false),
        (443, &long[..1000], true),
        (443, &other_version, true),
        (8443, &long, true),
    ];
    for (port, payload, passes) in cases {
        let mut middlebox = Middlebox::new(profiles::profile("quic-2022").unwrap(), 1);
        assert_eq!(
            !datagram(&mut middlebox, port, payload).is_empty(),
            passes,
            "{port}, {} bytes",
            payload.len()
        );
    }
}

#[test]
fn trickle_passes_nothing_at_once() {
    let mut bench = bench("tspu-2022-trickle");
    bench.up(&hello("twitter.com"));
    assert!(!bench.down(&[0x16; 1000]));
    let passed = bench.flood(Direction::Down, Duration::from_mins(5)) as f64 / 300.0;
    assert!((600.0..=700.0).contains(&passed), "{passed} B/s");
}
