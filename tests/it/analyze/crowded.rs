//! A capture of very many connections at the same time, one of them throttled.
//!
//! `THROTTLESCOPE_CAPTURE_SEGMENTS=200` makes every connection so many segments long; the default is small.

use std::{
    io::{BufWriter, Write},
    process::Command,
};

use serde_json::Value;

use super::{ACK, SYN, Side, frame_between, pcap_header};

/// Connections open from the first seconds of the capture to its last.
const FLOWS: u64 = 20_000;

/// The throttled one, and its segments: 128 KiB.
const THROTTLED: u64 = 7_777;
const THROTTLED_SEGMENTS: usize = 91;

const SEGMENT: u16 = 1_448;
const RTT: u64 = 50_000;

/// What the program may ask the system for, KiB: the budget of flows, their curves' judgements, and the JSON.
const MEMORY_KIB: u32 = 320 * 1024;

fn segments() -> usize {
    std::env::var("THROTTLESCOPE_CAPTURE_SEGMENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(12)
}

/// When the segments of a transfer through a policer of 130 kbit/s arrive, microseconds, and which. The sender repeats what
/// is missing after 250 ms, with half as much at a time.
fn policed() -> Vec<(u64, usize)> {
    const RATE: f64 = 16_250.0 / 1e6;
    const BURST: f64 = 16_384.0;
    let (mut missing, mut arrivals): (Vec<usize>, _) = ((0..THROTTLED_SEGMENTS).collect(), Vec::new());
    let (mut tokens, mut filled, mut at, mut window) = (BURST, 0, RTT, 10);
    while !missing.is_empty() {
        let mut lost = false;
        for segment in missing.iter().copied().take(window).collect::<Vec<_>>() {
            at += 500;
            tokens = BURST.min(tokens + RATE * (at - filled) as f64);
            filled = at;
            if tokens >= 1_500.0 {
                tokens -= 1_500.0;
                arrivals.push((at, segment));
                missing.retain(|&other| other != segment);
            } else {
                lost = true;
            }
        }
        at += if lost { 250_000 } else { RTT };
        window = if lost { (window / 2).max(1) } else { window + 1 };
    }
    arrivals
}

/// All packets: time, connection, from the client, sequence and acknowledgement, flags, length.
fn packets() -> Vec<(u64, u64, bool, [u32; 2], u8, u16)> {
    let mut packets = Vec::new();
    for flow in 0..FLOWS {
        let start = flow * 250;
        packets.push((start, flow, true, [99, 0], SYN, 0));
        packets.push((start + RTT, flow, false, [999, 100], SYN | ACK, 0));
        packets.push((start + RTT + 100, flow, true, [100, 1_000], ACK, 0));
        let asked = start + RTT + 200;
        packets.push((asked, flow, true, [100, 1_000], ACK, 200));
        let arrivals = match flow {
            THROTTLED => policed(),
            _ => (0..segments()).map(|n| (RTT + n as u64 * 7_000_000 / segments() as u64, n)).collect(),
        };
        let mut came = vec![false; arrivals.len() + 1];
        for (after, segment) in arrivals {
            let offset = |segment: usize| 1_000 + segment as u32 * u32::from(SEGMENT);
            packets.push((asked + after, flow, false, [offset(segment), 300], ACK, SEGMENT));
            came[segment] = true;
            let in_order = came.iter().take_while(|&&came| came).count();
            packets.push((asked + after + 50, flow, true, [300, offset(in_order)], ACK, 0));
        }
    }
    packets.sort_unstable();
    packets
}

#[test]
fn twenty_thousand_connections_at_once_stay_whole_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crowded.pcap");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(&pcap_header(101)).unwrap();
    for (at, flow, from_client, numbers, flags, length) in packets() {
        let port = (1_024 + flow % 50_000).to_be_bytes();
        let client: Side = [10, 0, 0, (flow / 50_000) as u8, port[6], port[7]];
        let server: Side = [192, 0, 2, 1, 0x01, 0xbb];
        let ways = if from_client { [client, server] } else { [server, client] };
        file.write_all(&frame_between(at, ways, numbers, flags, length)).unwrap();
    }
    file.into_inner().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -d {MEMORY_KIB} && exec \"$0\" analyze --json \"$1\""))
        .arg(env!("CARGO_BIN_EXE_throttlescope"))
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let curves = document["curves"].as_array().unwrap();
    assert_eq!(curves.len() as u64, FLOWS, "each connection gives one curve");
    let throttled = format!("10.0.0.0:{}-192.0.2.1:443#0", 1_024 + THROTTLED);
    let of = |curve: &Value| curve["bytes"].as_u64().unwrap() / u64::from(SEGMENT);
    let (found, others): (Vec<&Value>, Vec<&Value>) =
        curves.iter().partition(|curve| curve["id"] == throttled);
    assert!(others.iter().all(|curve| of(curve) == segments() as u64), "a connection was broken up");
    assert_eq!(of(found[0]), THROTTLED_SEGMENTS as u64);
    assert_eq!(found[0]["mechanism"], "policing", "{}", found[0]);
    let limit = found[0]["limit_bytes_per_second"].as_f64().unwrap();
    assert!((limit / 15_690.0 - 1.0).abs() < 0.1, "{limit}");
    assert!(others.iter().all(|curve| curve["mechanism"] != "policing"));
}
