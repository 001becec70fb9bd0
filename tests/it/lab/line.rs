//! The line is what it says, seen from outside by curl, and by captures on both of its sides.

use throttlescope::model::profile::Direction::{Down, Up};

use super::capture::{self, Captures};
use super::{available, lab, report, script, text, write_profile};
use crate::support::program;

/// Twenty small fetches, each over a connection of its own.
const SMALL: &str = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do curl -4 -s -o /dev/null \
    http://192.0.2.1/bytes/1; done";
const FETCH: &str = "curl -4 -s --http1.1 -o /dev/null http://192.0.2.1/bytes/6000000";
const SEND: &str = "head -c 6000000 /dev/zero | curl -4 -s --http1.1 -H Expect: -o /dev/null --data-binary @- \
    http://192.0.2.1/upload";

/// A line of one's own, from the text of its tables, under `clean`.
fn captures_on(line: &str, commands: &str) -> Option<Captures> {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("extends = \"clean\"\nname = \"own\"\n{line}");
    Captures::of(&[&write_profile(directory.path(), &text)], commands)
}

#[test]
fn delay_is_what_it_says() {
    let commands = "for n in 1 2 3 4 5 6 7 8 9; do curl -4 -s -o /dev/null -w '%{time_connect}\\n' \
        http://192.0.2.1/bytes/1; done";
    for rtt in [10.0, 150.0] {
        let rtt_text = format!("{rtt}ms");
        let Some(lines) = script(&["clean", "--rtt", &rtt_text], commands) else { return };
        let mut milliseconds: Vec<f64> =
            lines.iter().map(|line| line.parse::<f64>().unwrap() * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        assert!(milliseconds[0] >= rtt, "{milliseconds:?}");
        // The best of nine: a busy machine adds to the others.
        assert!(milliseconds[0] < rtt + 1.0, "{milliseconds:?}");
    }
}

#[test]
fn delay_is_half_the_round_trip_each_way() {
    let Some(captures) = Captures::of(&["clean", "--rtt", "40ms", "--rate", "200Mbit"], SMALL) else {
        return;
    };
    for direction in [Up, Down] {
        let milliseconds = captures.transits(direction);
        assert!(milliseconds.len() >= 60);
        assert!(milliseconds[0] >= 19.9, "{direction:?}: {milliseconds:?}");
        let median = milliseconds[milliseconds.len() / 2];
        assert!(median < 21.0, "{direction:?}: {median}");
    }
}

#[test]
fn rate_is_what_it_says_both_ways() {
    let fetch = "curl -4 -s --http1.1 -o /dev/null -w '%{size_download} %{time_starttransfer} %{time_total}\\n' \
        http://192.0.2.1/bytes/6000000";
    // What came at the server in which time is said by the server; here curl's own end is late by what the kernel took
    // ahead of the line, which is little against 24 MB.
    let send = "head -c 24000000 /dev/zero | curl -4 -s --http1.1 -H Expect: -o /dev/null \
        -w '%{size_upload} %{time_pretransfer} %{time_total}\\n' --data-binary @- http://192.0.2.1/upload";
    for (commands, rate) in [(fetch, 10e6), (send, 40e6)] {
        let rate_text = format!("{}Mbit", rate / 1e6);
        let Some(lines) = script(&["clean", "--rate", &rate_text, "--rtt", "4ms"], commands) else { return };
        let words: Vec<f64> = lines[0].split(' ').map(|word| word.parse().unwrap()).collect();
        let goodput = words[0] * 8.0 / (words[2] - words[1]);
        // 1448 bytes of payload in each 1500 of IP.
        let expected = rate * 1448.0 / 1500.0;
        assert!((goodput / expected - 1.0).abs() < 0.02, "{goodput} of {expected}: {lines:?}");
    }
}

#[test]
fn rate_is_what_it_says_in_captures_both_ways() {
    for (direction, commands) in [(Down, FETCH), (Up, SEND)] {
        let Some(captures) = Captures::of(&["clean", "--rate", "10Mbit", "--rtt", "4ms"], commands) else {
            return;
        };
        let rate = captures.rate(direction);
        assert!((rate / 10e6 - 1.0).abs() < 0.02, "{direction:?}: {rate}");
    }
}

#[test]
fn loss_lies_within_its_binomial_interval() {
    if program("curl").is_none() || !available("loss") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let output = lab(&["clean", "--rate", "50Mbit", "--rtt", "4ms", "--loss", "0.02", "--report"])
        .arg(&path)
        .args(["--", "curl", "-4", "-s", "-o", "/dev/null", "http://192.0.2.1/bytes/10000000"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let lane = &report(&path)["lanes"][0];
    let (packets, lost) = (lane["packets"].as_f64().unwrap(), lane["lost"].as_f64().unwrap());
    let deviation = (packets * 0.02 * 0.98).sqrt();
    assert!((lost - packets * 0.02).abs() < 4.0 * deviation, "{lost} of {packets}");
}

#[test]
fn loss_lies_within_its_binomial_interval_in_captures_both_ways() {
    for (direction, commands) in [(Down, FETCH), (Up, SEND)] {
        let arguments = ["clean", "--rate", "50Mbit", "--rtt", "4ms", "--loss", "0.02"];
        let Some(captures) = Captures::of(&arguments, commands) else { return };
        let (sent, lost) = captures.lost(direction);
        let deviation = (sent * 0.02 * 0.98).sqrt();
        assert!(
            sent > 4000.0 && (lost - sent * 0.02).abs() < 4.0 * deviation,
            "{direction:?}: {lost} of {sent}"
        );
    }
}

#[test]
fn bursty_loss_comes_in_spells() {
    let line = "[line]\nrtt = \"4ms\"\n[line.down]\nrate = \"50Mbit\"\n\
        loss = { bursty = { share = 0.02, length = 5.0 } }";
    let Some(captures) = captures_on(line, &[FETCH, FETCH, FETCH].join("; ")) else { return };
    let (sent, lost) = captures.lost(Down);
    // About as many spells as losses by five; each has a geometric length, of deviation five.
    let deviation = (2.0 * 5.0 * sent * 0.02).sqrt();
    assert!((lost - sent * 0.02).abs() < 4.0 * deviation, "{lost} of {sent}");
    let spells = captures.spells(Down);
    let mean = spells.iter().sum::<usize>() as f64 / spells.len() as f64;
    assert!((3.0..8.0).contains(&mean), "{mean}: {spells:?}");
}

#[test]
fn jitter_spreads_evenly_and_keeps_order() {
    let Some(captures) = Captures::of(&["clean", "--rtt", "40ms", "--jitter", "30ms"], SMALL) else { return };
    for direction in [Up, Down] {
        let milliseconds = captures.transits(direction);
        let [first, last] = [milliseconds[0], milliseconds[milliseconds.len() - 1]];
        assert!((19.9..23.0).contains(&first) && last > 45.0, "{direction:?}: {first} to {last}");
        let mean = milliseconds.iter().sum::<f64>() / milliseconds.len() as f64;
        // Even from 20 to 50; of packets close together the later ones wait for the earlier.
        assert!((33.0..43.0).contains(&mean), "{direction:?}: {mean}");
        assert!(captures.in_order(direction), "{direction:?}");
    }
}

#[test]
fn full_queue_adds_its_wait_and_drops_the_rest() {
    let line = "[line]\nrtt = \"10ms\"\n[line.down]\nrate = \"4Mbit\"\nqueue = { drop_tail = \"100ms\" }";
    let Some(captures) = captures_on(line, "curl -4 -s -o /dev/null http://192.0.2.1/bytes/1500000") else {
        return;
    };
    let milliseconds = captures.transits(Down);
    // 5 ms of way, at most 100 ms in the queue, 3 ms to send a packet.
    let most = milliseconds[milliseconds.len() * 99 / 100];
    assert!((95.0..109.0).contains(&most), "{most}");
    assert!(captures.lost(Down).1 > 0.0, "slow start overruns a queue of 34 packets");
}

#[test]
fn cross_traffic_takes_its_share() {
    let line = "[line]\nrtt = \"10ms\"\n[line.down]\nrate = \"10Mbit\"\ncompetition = { share = 0.5 }";
    let Some(captures) = captures_on(line, FETCH) else { return };
    let rate = captures.rate(Down);
    assert!((rate / 5e6 - 1.0).abs() < 0.1, "{rate}");
}

#[test]
fn translator_shows_one_address_outside_and_another_inside() {
    let Some(captures) = Captures::of(&["clean", "--nat"], SMALL) else { return };
    assert_eq!(captures.clients(), ["100.64.0.1", "100.127.0.1"]);
}

#[test]
fn captures_of_both_sides_show_what_the_box_dropped() {
    if program("curl").is_none() || !available("pcap") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (client, server) = (directory.path().join("client.pcap"), directory.path().join("server.pcap"));
    let output = lab(&["tspu-2021", "--pcap"])
        .arg(&client)
        .arg("--server-pcap")
        .arg(&server)
        .args(["--", "curl", "-4", "-s", "-o", "/dev/null", "https://t.co/bytes/32768"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let packets = |path: &std::path::Path| capture::read(path).len();
    assert!(packets(&server) > packets(&client), "the server sent what the client never saw");
}

#[test]
fn both_joints_and_the_translator_carry_everything() {
    for arguments in
        [&["clean", "--joint", "veth"][..], &["clean", "--nat"], &["clean", "--nat", "--joint", "veth"]]
    {
        let commands = "for family in -4 -6; do curl $family -s -o /dev/null -w '%{http_code} %{size_download}\\n' \
            https://abs.twimg.com/bytes/1000000; done";
        let Some(lines) = script(arguments, commands) else { return };
        assert_eq!(lines, ["200 1000000", "200 1000000"], "{arguments:?}");
    }
}
