//! The line is what it claims, in numbers.

use std::net::SocketAddr;

use super::*;
use crate::lab::profiles;
use crate::model::profile::{Codel, Competition, Loss, Queue, Rate, Red, Size, Span, Way, Wifi};
use crate::wire::packet::{Forged, Transport, tcp, udp};

const BYTES: usize = 1500;

/// A full datagram from the server to the client, with a number in it.
fn down(number: u32) -> Vec<u8> {
    let (server, client) = ("192.0.2.1:443", "100.64.0.1:4000");
    let mut payload = [0; BYTES - 28];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    udp(server.parse().unwrap(), client.parse().unwrap(), &payload).unwrap()
}

fn lane(way: Way, rtt: u64) -> Lane {
    let line = LineProfile { down: way, rtt: Span::millis(rtt), ..LineProfile::default() };
    Lane::new(line, profiles::profile("clean").unwrap(), 11)
}

/// Sends `count` packets down, one every `gap`; when each came out.
fn send(lane: &mut Lane, count: u32, gap: Duration) -> Vec<Duration> {
    deliveries(lane, count, gap).into_iter().map(|delivery| delivery.due).collect()
}

fn deliveries(lane: &mut Lane, count: u32, gap: Duration) -> Vec<Delivery> {
    let mut out = Vec::new();
    for number in 0..count {
        lane.packet(gap * number, Direction::Down, down(number), &mut out);
    }
    while let Some(deadline) = lane.next_deadline().filter(|_| lane.counters().packets > 0) {
        if deadline > gap * count + Duration::from_secs(30) {
            break;
        }
        lane.tick(deadline, &mut out);
    }
    out
}

fn ms(milliseconds: f64) -> Duration {
    Duration::from_secs_f64(milliseconds / 1e3)
}

#[test]
fn delay_and_rate_are_exact() {
    let way = Way { rate: Rate::bits(12e6), ..Way::default() };
    // 1500 bytes take 1 ms at 12 Mbit/s; half of the round trip is 20 ms.
    let arrivals = send(&mut lane(way, 40), 5, Duration::ZERO);
    assert_eq!(arrivals, [21.0, 22.0, 23.0, 24.0, 25.0].map(ms));
}

#[test]
fn drop_tail_holds_what_it_says() {
    let way = Way { rate: Rate::bits(12e6), queue: Queue::DropTailBytes(Size(15_000)), ..Way::default() };
    let mut lane = lane(way, 0);
    let arrivals = send(&mut lane, 100, Duration::ZERO);
    // Ten wait, one is being sent.
    assert_eq!(arrivals.len(), 11);
    assert_eq!(lane.counters().lost, 89);
}

#[test]
fn jitter_spreads_and_keeps_order() {
    let way = Way { rate: Rate::bits(1e9), jitter: Span::millis(10), ..Way::default() };
    let gap = ms(20.0);
    let arrivals = send(&mut lane(way, 0), 500, gap);
    assert!(arrivals.is_sorted());
    let late: Vec<f64> = arrivals
        .iter()
        .enumerate()
        .map(|(number, &arrival)| arrival.saturating_sub(gap * number as u32).as_secs_f64() * 1e3)
        .collect();
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!((mean - 5.0).abs() < 0.6, "{mean}");
    assert!(late.iter().all(|late| (0.0..10.1).contains(late)));
}

#[test]
fn random_loss_lies_within_its_binomial_interval() {
    for share in [0.001, 0.02, 0.3] {
        let way = Way { loss: Loss::Random(share), ..Way::default() };
        let mut lane = lane(way, 0);
        send(&mut lane, 20_000, ms(1.0));
        let deviation = (20_000.0 * share * (1.0 - share)).sqrt();
        let lost = lane.counters().lost as f64;
        assert!((lost - 20_000.0 * share).abs() < 4.0 * deviation, "{lost} for {share}");
    }
}

#[test]
fn bursty_loss_has_its_share_and_its_length() {
    let way = Way { loss: Loss::Bursty { share: 0.05, length: 8.0 }, ..Way::default() };
    let mut lane = lane(way, 0);
    let gap = ms(1.0);
    let arrivals = send(&mut lane, 100_000, gap);
    let lost = lane.counters().lost as f64;
    assert!((lost / 100_000.0 - 0.05).abs() < 0.008, "{lost}");
    let spells =
        arrivals.windows(2).filter(|pair| pair[1].saturating_sub(pair[0]) > gap * 3 / 2).count() as f64;
    assert!((lost / spells - 8.0).abs() < 1.0, "{}", lost / spells);
}

#[test]
fn codel_keeps_the_wait_near_its_target() {
    let way = Way { rate: Rate::bits(12e6), queue: Queue::Codel(Codel::default()), ..Way::default() };
    let mut lane = lane(way, 0);
    // A tenth more than the line takes, for a minute: a drop-tail queue would grow for ever.
    let gap = Duration::from_micros(909);
    let arrivals = send(&mut lane, 60_000, gap);
    assert!(lane.counters().lost > 3000, "{}", lane.counters().lost);
    let held = 60_000 - lane.counters().lost as usize - arrivals.len();
    assert_eq!(held, 0);
    let last = arrivals.last().unwrap().saturating_sub(gap * 60_000);
    assert!(last < ms(100.0), "{last:?}");
}

#[test]
fn red_drops_before_the_queue_is_full() {
    let way = Way { rate: Rate::bits(12e6), queue: Queue::Red(Red::default()), ..Way::default() };
    let mut lane = lane(way, 0);
    let gap = Duration::from_micros(950);
    let arrivals = send(&mut lane, 60_000, gap);
    assert!(lane.counters().lost > 1000);
    let longest = arrivals.last().unwrap().saturating_sub(gap * 60_000);
    assert!(longest < ms(110.0), "{longest:?}");
}

#[test]
fn rivals_take_their_share() {
    let competition = Competition { share: 0.5, ..Competition::default() };
    let way = Way { rate: Rate::bits(12e6), competition, ..Way::default() };
    // As much as the line takes, beside as much again: between a half and all of it is left.
    let mut shared = lane(way, 20);
    let arrivals = send(&mut shared, 20_000, ms(1.0));
    let share = arrivals.len() as f64 / 20_000.0;
    assert!((0.5..0.85).contains(&share), "{share}");
    let competition = Competition { flows: 4, ..Competition::default() };
    let way = Way { rate: Rate::bits(12e6), competition, ..Way::default() };
    let mut greedy = lane(way, 20);
    // A tenth of what the line takes: rivals who yield take the rest, and fill the queue.
    let waited = |one: &Delivery| {
        let number = u32::from_be_bytes(one.bytes[28..32].try_into().unwrap());
        one.due.saturating_sub(ms(10.0) * number).as_secs_f64()
    };
    let waits: Vec<f64> = deliveries(&mut greedy, 2000, ms(10.0)).iter().map(waited).collect();
    let mean = waits[500..].iter().sum::<f64>() / (waits.len() - 500) as f64;
    assert!((0.06..0.25).contains(&mean), "greedy rivals fill the queue of 200 ms: {mean}");
}

/// Eight flows of two packets each are more than a queue of three packets can hold: they have to wait for their timers.
#[test]
fn rivals_without_room_time_out() {
    let competition = Competition { flows: 8, ..Competition::default() };
    let queue = Queue::DropTailBytes(Size(4_500));
    let way = Way { rate: Rate::bits(2e6), queue, competition, ..Way::default() };
    let arrivals = send(&mut lane(way, 10), 1000, ms(20.0));
    assert!(arrivals.len() > 750, "only {} of 1000 came through", arrivals.len());
}

#[test]
fn radio_sends_in_bundles() {
    let wifi = Some(Wifi { access: Span::millis(5), bundle: 16 });
    let way = Way { rate: Rate::bits(120e6), wifi, ..Way::default() };
    let arrivals = send(&mut lane(way, 0), 2000, ms(1.0));
    let mut moments = arrivals.clone();
    moments.dedup();
    let size = arrivals.len() as f64 / moments.len() as f64;
    assert!((4.0..9.0).contains(&size), "{size} packets in a bundle");
}

#[test]
fn hosts_lie_at_their_own_distances() {
    let line =
        LineProfile { rtt: Span::millis(20), other_hosts: vec![Span::millis(100)], ..LineProfile::default() };
    let mut lane = Lane::new(line, profiles::profile("clean").unwrap(), 1);
    let mut out = Vec::new();
    for host in ["192.0.2.1:53", "192.0.2.2:53"] {
        let packet = udp("100.64.0.1:9".parse().unwrap(), host.parse().unwrap(), b"x").unwrap();
        lane.packet(Duration::ZERO, Direction::Up, packet, &mut out);
    }
    lane.tick(Duration::from_secs(1), &mut out);
    let due: Vec<u128> = out.iter().map(|delivery| delivery.due.as_millis()).collect();
    assert_eq!(due, [10, 60]);
}

/// P4: the router that a packet's time ends at answers, and only what reaches the box is read by it.
#[test]
fn p4_box_stands_behind_its_hops() {
    let client: SocketAddr = "100.64.0.1:4000".parse().unwrap();
    let send = |lane: &mut Lane, ttl: u8| {
        let forged = Forged {
            source: client,
            destination: "192.0.2.1:443".parse().unwrap(),
            sequence: 1,
            acknowledgment: Some(1),
            syn: false,
            fin: false,
            rst: false,
            payload: &crate::wire::tls::craft::hello(Some("t.co"), 0),
        };
        let mut bytes = tcp(&forged).unwrap();
        packet::set_ttl(&mut bytes, ttl);
        let mut out = Vec::new();
        lane.packet(Duration::ZERO, Direction::Up, bytes, &mut out);
        lane.tick(Duration::from_secs(1), &mut out);
        out
    };
    for (ttl, triggers, arrives) in
        [(1, 0, false), (2, 0, false), (3, 1, false), (10, 1, false), (11, 1, true)]
    {
        let mut lane = Lane::new(LineProfile::default(), profiles::profile("tspu-2021").unwrap(), 1);
        let out = send(&mut lane, ttl);
        assert_eq!(lane.counters().middlebox.triggered, triggers, "time to live {ttl}");
        assert_eq!(out.len(), 1);
        let packet = Packet::parse(&out[0].bytes).unwrap();
        assert_eq!(matches!(packet.transport, Transport::Tcp(_)), arrives);
        if !arrives {
            assert_eq!(packet.source.to_string(), format!("198.18.0.{ttl}"));
            assert_eq!(packet.destination, client.ip());
        }
    }
}

#[test]
fn translator_hides_the_client_and_lets_nobody_else_in() {
    let line = LineProfile { nat: true, ..LineProfile::default() };
    let mut lane = Lane::new(line, profiles::profile("clean").unwrap(), 1);
    let (client, server): (SocketAddr, SocketAddr) =
        ("100.64.0.1:4000".parse().unwrap(), "192.0.2.1:53".parse().unwrap());
    let mut out = Vec::new();
    lane.packet(Duration::ZERO, Direction::Up, udp(client, server, b"ask").unwrap(), &mut out);
    lane.tick(Duration::from_secs(1), &mut out);
    let seen = Packet::parse(&out[0].bytes).unwrap();
    let public = SocketAddr::new(seen.source, seen.ports().unwrap().0);
    assert_eq!(public.ip().to_string(), "100.127.0.1");
    out.clear();
    let stranger = SocketAddr::new(public.ip(), public.port() + 1);
    for to in [stranger, public] {
        lane.packet(Duration::from_secs(1), Direction::Down, udp(server, to, b"answer").unwrap(), &mut out);
    }
    lane.tick(Duration::from_secs(2), &mut out);
    assert_eq!(out.len(), 1);
    let answer = Packet::parse(&out[0].bytes).unwrap();
    assert_eq!((answer.destination, answer.ports().unwrap().1), (client.ip(), client.port()));
    let checked = etherparse::SlicedPacket::from_ip(&out[0].bytes).unwrap();
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
        (checked.net, checked.transport)
    else {
        panic!("no UDP over IPv4")
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
    assert_eq!(expected, udp.checksum());
}

#[test]
fn same_seed_same_fate() {
    let run = || {
        let way = Way { loss: Loss::Random(0.1), jitter: Span::millis(5), ..Way::default() };
        send(&mut lane(way, 30), 500, ms(2.0))
    };
    assert_eq!(run(), run());
}
