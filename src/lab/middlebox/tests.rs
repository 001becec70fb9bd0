//! Every T, G and P rule of the 2021 throttler, at the level of single packets.

mod modes;

use std::net::SocketAddr;

use super::*;
use crate::lab::profiles;
use crate::model::profile::{Coverage, Directions, NamePattern, Per, Span};
use crate::wire::packet::{Forged, Transport, tcp};
use crate::wire::tls::craft;

const CLIENT: &str = "100.64.0.1:40000";
const SERVER: &str = "192.0.2.1:443";
/// IP and TCP headers as written here.
const HEADERS: usize = 40;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn tspu() -> Profile {
    profiles::profile("tspu-2021").unwrap()
}

/// A box and one connection through it.
struct Bench {
    middlebox: Middlebox,
    now: Duration,
    client: SocketAddr,
    server: SocketAddr,
    next: [u32; 2],
}

impl Bench {
    fn new(profile: Profile) -> Self {
        Self::seeded(profile, 7)
    }

    fn seeded(profile: Profile, seed: u64) -> Self {
        let mut bench = Self {
            middlebox: Middlebox::new(profile, seed),
            now: Duration::ZERO,
            client: CLIENT.parse().unwrap(),
            server: SERVER.parse().unwrap(),
            next: [1000, 5000],
        };
        bench.open(Direction::Up);
        bench
    }

    /// Another connection of the same client.
    fn reconnect(&mut self) {
        self.client.set_port(self.client.port() + 1);
        self.open(Direction::Up);
    }

    fn open(&mut self, from: Direction) {
        self.flags(from, true, false, &[]);
        self.flags(from.opposite(), true, true, &[]);
        self.flags(from, false, true, &[]);
    }

    /// Sends a segment; everything the box puts out.
    fn flags(&mut self, direction: Direction, syn: bool, ack: bool, payload: &[u8]) -> Vec<Output> {
        let bytes = self.segment(direction, syn, ack, payload);
        let mut out = Vec::new();
        self.middlebox.packet(self.now, direction, bytes, &mut out);
        out
    }

    fn segment(&mut self, direction: Direction, syn: bool, ack: bool, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = match direction {
            Direction::Up => (self.client, self.server),
            Direction::Down => (self.server, self.client),
        };
        let sequence = self.next[direction.index()];
        self.next[direction.index()] = sequence.wrapping_add(payload.len() as u32);
        let acknowledgment = ack.then_some(self.next[direction.opposite().index()]);
        let forged =
            Forged { source, destination, sequence, acknowledgment, syn, fin: false, rst: false, payload };
        tcp(&forged).unwrap()
    }

    fn passes(&mut self, direction: Direction, payload: &[u8]) -> bool {
        !self.flags(direction, false, true, payload).is_empty()
    }

    fn up(&mut self, payload: &[u8]) -> bool {
        self.passes(Direction::Up, payload)
    }

    fn down(&mut self, payload: &[u8]) -> bool {
        self.passes(Direction::Down, payload)
    }

    /// Sends far more than the burst down at once; whether part of it is dropped.
    fn throttled(&mut self) -> bool {
        (0..60).any(|_| !self.down(&[0x17; 1400]))
    }

    /// IP bytes that pass when full packets come every 5 ms for a time.
    fn flood(&mut self, direction: Direction, duration: Duration) -> usize {
        let end = self.now + duration;
        let mut passed = 0;
        while self.now < end {
            passed += if self.passes(direction, &[0x17; 1400]) { 1400 + HEADERS } else { 0 };
            self.now += at(5);
        }
        passed
    }
}

fn hello(name: &str) -> Vec<u8> {
    craft::hello(Some(name), 0)
}

/// A throttled connection of the standard box.
fn triggered() -> Bench {
    let mut bench = Bench::new(tspu());
    bench.up(&hello("abs.twimg.com"));
    bench
}

/// Whether this hello, sent first by the client, throttles.
fn triggers_on(profile: Profile, payload: &[u8]) -> bool {
    let mut bench = Bench::new(profile);
    bench.up(payload);
    bench.throttled()
}

#[test]
fn t1_forwards_or_drops_and_never_delays_or_injects() {
    let mut bench = triggered();
    for _ in 0..200 {
        let sent = bench.segment(Direction::Down, false, true, &[0x17; 1400]);
        let mut out = Vec::new();
        bench.middlebox.packet(bench.now, Direction::Down, sent.clone(), &mut out);
        assert!(out.len() <= 1);
        assert!(out.iter().all(|output| output.bytes == sent && output.direction == Direction::Down));
        assert_eq!(bench.middlebox.next_deadline(), None);
        bench.now += at(3);
    }
    assert!(bench.middlebox.counters().dropped > 0);
    assert_eq!(bench.middlebox.counters().forged + bench.middlebox.counters().delayed, 0);
}

#[test]
fn t2_policer_converges_to_its_rate() {
    for (name, rate) in [("tspu-2021", 16_250.0), ("tspu-2021-128", 16_000.0), ("tspu-2021-150", 18_750.0)] {
        let mut bench = Bench::new(profiles::profile(name).unwrap());
        bench.up(&hello("abs.twimg.com"));
        bench.flood(Direction::Down, at(5000));
        let passed = bench.flood(Direction::Down, at(100_000)) as f64 / 100.0;
        assert!((passed / rate - 1.0).abs() < 0.01, "{name}: {passed} B/s against {rate}");
    }
}

#[test]
fn t2_no_interval_passes_more_than_burst_and_rate_allow() {
    let mut bench = triggered();
    let mut passed = Vec::new();
    for _ in 0..20_000 {
        if bench.down(&[0x17; 1400]) {
            passed.push(bench.now);
        }
        // Silence now and then lets the bucket fill.
        bench.now += if passed.len() % 97 == 0 { at(900) } else { at(2) };
    }
    for (first, start) in passed.iter().enumerate() {
        for (last, end) in passed.iter().enumerate().skip(first).step_by(13) {
            let bytes = ((last - first + 1) * (1400 + HEADERS)) as f64;
            let allowed = 19_000.0 + 16_250.0 * end.saturating_sub(*start).as_secs_f64();
            assert!(bytes <= allowed + 1.0, "{bytes} in {:?}", end.saturating_sub(*start));
        }
    }
}

#[test]
fn t3_directions_have_buckets_of_their_own() {
    let mut bench = triggered();
    bench.flood(Direction::Down, at(5000));
    let (mut up, mut down) = (0, 0);
    for _ in 0..10_000 {
        up += if bench.up(&[0x17; 1400]) { 1440 } else { 0 };
        down += if bench.down(&[0x17; 1400]) { 1440 } else { 0 };
        bench.now += at(5);
    }
    for bytes in [up, down] {
        let rate = f64::from(bytes) / 50.0;
        assert!((rate / 16_250.0 - 1.0).abs() < 0.03, "{rate}");
    }
}

#[test]
fn t4_burst_passes_at_once_then_nothing() {
    let mut bench = triggered();
    let passed = (0..60).filter(|_| bench.down(&[0x17; 1400])).count() * (1400 + HEADERS);
    assert!((16_384..=19_000).contains(&passed), "{passed}");
    bench.now += at(890);
    assert!(!bench.down(&[0x17; 1400]), "nothing for 900 ms");
    bench.now += at(200);
    assert!(bench.down(&[0x17; 1400]));
}

#[test]
fn t5_sending_below_the_rate_loses_nothing() {
    let mut bench = triggered();
    // 1440 bytes every 115.2 ms are 100 kbit/s.
    for _ in 0..1000 {
        assert!(bench.down(&[0x17; 1400]));
        bench.now += Duration::from_micros(115_200);
    }
}

#[test]
fn t6_bucket_is_the_connections_or_the_clients() {
    for (per, shared) in [(Per::Connection, false), (Per::Client, true)] {
        let mut profile = tspu();
        let Effect::Police(police) = &mut profile.rules[0].effect else { panic!("no policer") };
        police.per = per;
        let mut bench = Bench::new(profile);
        bench.up(&hello("t.co"));
        assert!(bench.throttled());
        bench.reconnect();
        bench.up(&hello("t.co"));
        assert_eq!(bench.down(&[0x17; 1400]), !shared, "{per:?}");
    }
}

#[test]
fn t7_shaper_delays_everyone_and_drops_nothing_in_its_queue() {
    let mut bench = Bench::new(profiles::profile("shape-all").unwrap());
    bench.up(&hello("example.org"));
    let mut released = Vec::new();
    for _ in 0..20 {
        bench.flags(Direction::Up, false, true, &[0x17; 1400]);
    }
    while let Some(deadline) = bench.middlebox.next_deadline() {
        bench.middlebox.tick(deadline, &mut released);
        bench.now = deadline;
    }
    assert!(released.len() >= 20);
    assert_eq!(bench.middlebox.counters().dropped, 0);
    let rate = (20 * (1400 + HEADERS)) as f64 / bench.now.as_secs_f64();
    assert!((rate / 16_250.0 - 1.0).abs() < 0.05, "{rate}");
}

#[test]
fn t8_any_port_by_default_and_443_alone_by_switch() {
    for (ports, expected) in [(vec![], true), (vec![443], false)] {
        let mut profile = tspu();
        profile.inspection.ports = ports;
        let mut bench = Bench::new(profile);
        bench.server.set_port(8443);
        bench.reconnect();
        bench.up(&hello("t.co"));
        assert_eq!(bench.throttled(), expected);
    }
}

#[test]
fn g1_only_connections_opened_from_inside() {
    let mut bench = Bench::new(tspu());
    bench.client.set_port(7);
    bench.open(Direction::Down);
    bench.up(&hello("t.co"));
    bench.down(&hello("t.co"));
    assert!(!bench.throttled());
}

#[test]
fn g2_hello_counts_in_either_direction() {
    let mut bench = Bench::new(tspu());
    bench.down(&hello("t.co"));
    assert!(bench.throttled());
}

#[test]
fn g3_hello_alone_suffices_and_certificates_never_trigger() {
    let mut bench = triggered();
    for _ in 0..3 {
        bench.up(&[0xaa; 600]);
    }
    assert!(bench.throttled(), "random bytes after the hello change nothing");
    let mut certificate = vec![11, 0, 0, 30];
    certificate.extend_from_slice(b"................CN=abs.twimg.com");
    let mut bench = Bench::new(tspu());
    bench.up(&hello("example.org"));
    bench.down(&craft::record(22, &certificate));
    assert!(!bench.throttled());
}

/// Sends `others` harmless TLS records first, then a triggering hello.
fn triggers_after(others: usize, seed: u64) -> bool {
    let mut bench = Bench::seeded(tspu(), seed);
    for _ in 0..others {
        bench.up(&craft::record(23, &[1; 50]));
    }
    bench.up(&hello("t.co"));
    bench.throttled()
}

#[test]
fn g4_fifteen_to_twenty_further_packets_are_read() {
    let mut limits = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let limit = (0..40).take_while(|&others| triggers_after(others, seed)).count();
        // The hello is the further packet of this number.
        limits.insert(limit - 1);
    }
    assert_eq!(limits.first(), Some(&15));
    assert_eq!(limits.last(), Some(&20));
    assert_eq!(limits.len(), 6, "drawn per flow: {limits:?}");
}

#[test]
fn g5_unreadable_first_packet_of_101_bytes_frees_the_flow() {
    for (length, expected) in [(100, true), (101, false)] {
        let mut bench = Bench::new(tspu());
        bench.up(&vec![0xee; length]);
        bench.up(&hello("t.co"));
        assert_eq!(bench.throttled(), expected, "{length} bytes");
    }
}

#[test]
fn g6_both_types_must_be_right() {
    for place in [0, 5] {
        let mut flipped = hello("t.co");
        flipped[place] ^= 0x03;
        assert!(!triggers_on(tspu(), &flipped), "byte {place}");
    }
}

#[test]
fn g7_record_length_lies_between_handshake_and_payload() {
    let message = craft::message(Some("t.co"), 0);
    let ordinary = craft::record(22, &message);
    assert!(triggers_on(tspu(), &ordinary), "record length = payload - 5 = handshake length + 4");
    let mut longer_record = ordinary.clone();
    longer_record[4] += 1;
    assert!(!triggers_on(tspu(), &longer_record), "the record goes on beyond the payload");
    longer_record.push(0);
    assert!(triggers_on(tspu(), &longer_record), "the record is longer than the handshake");
    let mut longer_payload = ordinary.clone();
    longer_payload.extend_from_slice(&[0; 40]);
    assert!(triggers_on(tspu(), &longer_payload), "bytes after the record");
    let mut shorter_record = ordinary;
    shorter_record[4] -= 1;
    assert!(!triggers_on(tspu(), &shorter_record), "the record ends before the handshake");
}

#[test]
fn g8_hello_over_two_segments_is_not_put_together_but_in_2026_it_is() {
    let padded = craft::hello(Some("abs.twimg.com"), 1600);
    let reassembling = || {
        let mut profile = tspu();
        profile.inspection.reassemble = true;
        profile
    };
    for (whole, cut) in [(&hello("abs.twimg.com"), 30), (&padded, 1400)] {
        for (profile, in_order, expected) in
            [(tspu(), true, false), (reassembling(), true, true), (reassembling(), false, true)]
        {
            let mut bench = Bench::new(profile);
            if in_order {
                bench.up(&whole[..cut]);
                bench.up(&whole[cut..]);
            } else {
                bench.up(&whole[..10]);
                let middle = bench.segment(Direction::Up, false, true, &whole[10..cut]);
                bench.up(&whole[cut..]);
                bench.middlebox.packet(bench.now, Direction::Up, middle, &mut Vec::new());
            }
            assert_eq!(bench.throttled(), expected, "cut at {cut}, in order: {in_order}");
        }
    }
}

#[test]
fn g9_another_record_before_the_hello_hides_it() {
    let hidden = [craft::record(20, &[1]), hello("t.co")].concat();
    assert!(!triggers_on(tspu(), &hidden));
}

#[test]
fn g10_the_parser_is_a_real_one() {
    let whole = hello("abs.twimg.com");
    let find = |needle: &[u8]| whole.windows(needle.len()).position(|window| window == needle).unwrap();
    let broken = |place: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[place] = value;
        bytes
    };
    let session_length = 5 + 4 + 2 + 32;
    let name = find(b"abs.twimg.com");
    assert!(!triggers_on(tspu(), &broken(session_length, 31)), "session id length");
    assert!(!triggers_on(tspu(), &broken(session_length + 34, 8)), "cipher suites length");
    assert!(!triggers_on(tspu(), &broken(name - 3, 1)), "name type");
    assert!(!triggers_on(tspu(), &broken(name - 8, 1)), "extension type");
    let elsewhere = craft::record(23, b"abs.twimg.com twitter.com t.co, but no hello");
    assert!(!triggers_on(tspu(), &elsewhere), "the name in other bytes");
}

#[test]
fn g11_names_match_by_rule_version() {
    let cases = [
        ("reddit.com", [true, false, false]),
        ("microsoft.com", [true, false, false]),
        ("t.co", [true, true, true]),
        ("throttletwitter.com", [true, true, false]),
        ("garbage.twimg.com", [true, true, true]),
        ("twitter.com", [true, true, true]),
        ("api.twitter.com", [true, true, true]),
        ("example.org", [false, false, false]),
    ];
    for (name, expected) in cases {
        for (version, expected) in ["tspu-2021", "tspu-2021-v2", "tspu-2021-v3"].iter().zip(expected) {
            let profile = profiles::profile(version).unwrap();
            assert_eq!(triggers_on(profile, &hello(name)), expected, "{name} in {version}");
        }
    }
}

#[test]
fn g12_trailing_dot_does_not_trigger() {
    for name in ["twitter.com.", "api.twitter.com.", "abs.twimg.com."] {
        assert!(!triggers_on(profiles::profile("tspu-2021-v3").unwrap(), &hello(name)), "{name}");
        assert!(!triggers_on(tspu(), &hello(name)), "{name}");
    }
}

#[test]
fn g13_real_hello_after_a_fake_one_triggers() {
    let mut bench = Bench::new(tspu());
    bench.up(&hello("example.org"));
    bench.up(&hello("t.co"));
    assert!(bench.throttled());
}

#[test]
fn g14_plain_proxies_do_not_help_and_tunnels_do() {
    let connect: &[u8] = b"CONNECT t.co:443 HTTP/1.1\r\nHost: t.co:443\r\nProxy-Connection: keep-alive\r\n\
        User-Agent: something longer than a hundred bytes\r\n\r\n";
    for (proxy, answer) in [(connect, &b"HTTP/1.1 200 OK\r\n\r\n"[..]), (&[5, 1, 0], &[5, 0])] {
        let mut bench = Bench::new(tspu());
        bench.up(proxy);
        bench.down(answer);
        bench.up(&hello("t.co"));
        assert!(bench.throttled());
    }
    let mut bench = Bench::new(tspu());
    bench.up(&hello("vpn.example.org"));
    bench.up(&craft::record(23, &[0x5c; 500]));
    assert!(!bench.throttled());
}

#[test]
fn g15_confirmed_domains_trigger() {
    for name in ["twitter.com", "t.co", "abs.twimg.com", "pbs.twimg.com", "api.twitter.com"] {
        assert!(triggers_on(tspu(), &hello(name)), "{name}");
    }
}

#[test]
fn p1_silent_flow_is_forgotten_after_ten_minutes_or_so() {
    let mut times = Vec::new();
    for seed in 0..20 {
        let mut bench = Bench::seeded(tspu(), seed);
        bench.up(&hello("t.co"));
        assert!(bench.throttled());
        bench.now += Duration::from_secs(530);
        assert!(bench.throttled(), "not before nine minutes");
        let silent = (530..700)
            .find(|&seconds| {
                let mut other = Bench::seeded(tspu(), seed);
                other.up(&hello("t.co"));
                other.now += Duration::from_secs(seconds);
                !other.throttled()
            })
            .unwrap();
        times.push(silent);
    }
    times.sort_unstable();
    assert!(times[0] >= 540 && times[19] <= 661, "{times:?}");
    assert!(times[19] - times[0] > 30, "not a sharp value: {times:?}");
}

#[test]
fn p2_active_flow_stays_throttled_for_hours() {
    let mut bench = triggered();
    for _ in 0..(3 * 60) {
        bench.now += Duration::from_mins(1);
        bench.down(&[0x17; 10]);
    }
    assert!(bench.throttled());
}

#[test]
fn p3_fin_and_rst_do_not_clear_the_state() {
    for rst in [false, true] {
        let mut bench = triggered();
        let forged = Forged {
            source: bench.client,
            destination: bench.server,
            sequence: 9,
            acknowledgment: None,
            syn: false,
            fin: !rst,
            rst,
            payload: &[],
        };
        bench.middlebox.packet(bench.now, Direction::Up, tcp(&forged).unwrap(), &mut Vec::new());
        assert!(bench.throttled());
    }
}

#[test]
fn p6_remote_syn_frees_and_flows_that_begin_outside_never_trigger() {
    let mut bench = triggered();
    assert!(bench.throttled());
    bench.flags(Direction::Down, true, false, &[]);
    assert!(!bench.throttled());
    let mut bench = Bench::new(tspu());
    bench.client.set_port(50_000);
    bench.down(&[1, 2, 3]);
    bench.up(&hello("t.co"));
    assert!(!bench.throttled());
}

#[test]
fn p7_fragments_wait_and_go_on_under_the_first_ones_ttl() {
    let whole = triggered().segment(Direction::Up, false, true, &[7; 1000]);
    let piece = |offset: usize, length: usize, ttl: u8| {
        let mut bytes = whole[..20].to_vec();
        bytes.extend_from_slice(&whole[20 + offset..20 + offset + length]);
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        let more = if offset + length < whole.len() - 20 { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&(more | (offset / 8) as u16).to_be_bytes());
        bytes[8] = ttl;
        bytes
    };
    let mut middlebox = Middlebox::new(tspu(), 1);
    let mut out = Vec::new();
    middlebox.packet(Duration::ZERO, Direction::Up, piece(512, 508, 9), &mut out);
    assert!(out.is_empty(), "buffered");
    middlebox.packet(Duration::ZERO, Direction::Up, piece(0, 512, 33), &mut out);
    assert_eq!(out.len(), 2, "forwarded unassembled");
    assert!(out.iter().all(|output| output.bytes[8] == 33));
    let (mut middlebox, mut out) = (Middlebox::new(tspu(), 1), Vec::new());
    for number in 0..46 {
        middlebox.packet(Duration::ZERO, Direction::Up, piece(number * 8, 8, 9), &mut out);
    }
    middlebox.packet(Duration::ZERO, Direction::Up, piece(46 * 8, 1020 - 46 * 8, 9), &mut out);
    assert!(out.is_empty(), "46 fragments are one too many");
}

#[test]
fn p8_sessions_need_no_syn() {
    let mut bench = Bench::new(tspu());
    bench.client.set_port(50_001);
    bench.up(&hello("t.co"));
    assert!(bench.throttled());
}

#[test]
fn p9_coverage_is_a_share_of_connections_or_address_pairs() {
    for share in [0.35, 0.67, 0.99] {
        let mut profile = tspu();
        profile.coverage = Coverage { share, by: CoverageBy::Connection, ramp: None };
        let mut bench = Bench::new(profile);
        let hits = (0..2000)
            .filter(|_| {
                bench.reconnect();
                bench.up(&hello("t.co"));
                bench.throttled()
            })
            .count();
        let deviation = (share * (1.0 - share) * 2000.0).sqrt();
        assert!((hits as f64 - share * 2000.0).abs() < 4.0 * deviation, "{hits} of 2000 for {share}");
    }
    let mut profile = tspu();
    profile.coverage = Coverage { share: 0.5, by: CoverageBy::Addresses, ramp: None };
    let mut bench = Bench::new(profile);
    let mut met = || {
        bench.reconnect();
        bench.up(&hello("t.co"));
        bench.throttled()
    };
    let first = met();
    assert!((0..20).all(|_| met() == first), "one pair of addresses has one fate");
}

#[test]
fn p10_residual_blocking_ends_by_the_clock() {
    for (name, seconds) in [("tspu-sni-rst", 75), ("tspu-sni-few-packets", 420), ("tspu-sni-drop", 40)] {
        let mut bench = Bench::new(profiles::profile(name).unwrap());
        bench.up(&hello("abs.twimg.com"));
        let intact = |bench: &mut Bench| {
            (0..20).all(|_| {
                let sent = bench.segment(Direction::Down, false, true, &[0x17; 100]);
                let mut out = Vec::new();
                bench.middlebox.packet(bench.now, Direction::Down, sent.clone(), &mut out);
                out.first().is_some_and(|output| output.bytes == sent)
            })
        };
        assert!(!intact(&mut bench), "{name}");
        bench.now = Duration::from_secs(seconds - 1);
        assert!(!intact(&mut bench), "{name}");
        bench.now = Duration::from_secs(seconds + 1);
        assert!(intact(&mut bench), "{name}");
    }
}

#[test]
fn p11_onset_ramps_where_a_ramp_is_set() {
    let mut profile = tspu().between(Some(Span::seconds(100)), Some(Span::seconds(1000)));
    profile.coverage.ramp = Some(Span::seconds(600));
    let mut bench = Bench::new(profile);
    let mut share_at = |seconds: u64| {
        bench.now = Duration::from_secs(seconds);
        let hits = (0..400).filter(|_| {
            bench.reconnect();
            bench.up(&hello("t.co"));
            bench.throttled()
        });
        hits.count() as f64 / 400.0
    };
    assert!(share_at(50) < f64::EPSILON);
    assert!((share_at(400) - 0.5).abs() < 0.1);
    assert!(share_at(800) > 0.99);
    assert!(share_at(1001) < f64::EPSILON);
}

#[test]
fn lift_frees_flows_under_way() {
    let mut bench = Bench::new(tspu().between(None, Some(Span::seconds(60))));
    bench.up(&hello("t.co"));
    assert!(bench.throttled());
    bench.now = Duration::from_secs(61);
    assert!(!bench.throttled());
}

#[test]
fn tables_stay_bounded_under_a_flood_of_flows() {
    let mut profile = tspu();
    profile.rules[0].names = vec![NamePattern::parse("*").unwrap()];
    profile.inspection.directions = Directions::Both;
    let mut middlebox = Middlebox::new(profile, 3);
    let mut out = Vec::new();
    for number in 0..(flow::FLOWS_MAX as u32 + 5000) {
        let source = SocketAddr::new(Ipv4(number), 4000);
        let forged = Forged {
            source,
            destination: SERVER.parse().unwrap(),
            sequence: 1,
            acknowledgment: Some(1),
            syn: false,
            fin: false,
            rst: false,
            payload: b"x",
        };
        middlebox.packet(Duration::ZERO, Direction::Up, tcp(&forged).unwrap(), &mut out);
        out.clear();
    }
    assert_eq!(middlebox.counters().overflowed, 5000);
}

/// The address of a number.
#[expect(non_snake_case, reason = "reads like the type it makes")]
fn Ipv4(number: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from(0x6440_0000 + number))
}
