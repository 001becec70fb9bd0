//! The line is what it says, seen from outside by curl and by the laboratory's own captures.

use super::{available, lab, report, script, text};
use crate::support::program;

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
fn rate_is_what_it_says() {
    let commands = "curl -4 -s --http1.1 -o /dev/null -w '%{size_download} %{time_starttransfer} %{time_total}\\n' \
        http://192.0.2.1/bytes/6000000";
    let Some(lines) = script(&["clean", "--rate", "10Mbit", "--rtt", "4ms"], commands) else { return };
    let words: Vec<f64> = lines[0].split(' ').map(|word| word.parse().unwrap()).collect();
    let goodput = words[0] * 8.0 / (words[2] - words[1]);
    // 1448 bytes of payload in each 1500 of IP.
    let expected = 10e6 * 1448.0 / 1500.0;
    assert!((goodput / expected - 1.0).abs() < 0.02, "{goodput}");
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
    let packets = |path: &std::path::Path| {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        let (mut at, mut count) = (24, 0);
        while at < bytes.len() {
            let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
            at += 16 + length as usize;
            count += 1;
        }
        assert_eq!(at, bytes.len(), "the last packet is whole");
        count
    };
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
