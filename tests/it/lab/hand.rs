//! The tests people run by hand, word for word, and what they should find.

use super::{FAST, script, step};

/// Seconds that each of some lines says.
fn seconds(lines: &[String]) -> Vec<f64> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn three_way_target_none_random_name() {
    let arguments = [&["tspu-2021"][..], &FAST].concat();
    let commands = "for url in https://abs.twimg.com https://192.0.2.1 https://q8x2kd.example; do \
        curl -4 -k -s -o /dev/null -w '%{time_total}\\n' $url/bytes/409600; done";
    let Some(lines) = script(&arguments, commands) else { return };
    let seconds = seconds(&lines);
    assert!(seconds[0] > 23.0 && seconds[1] < 2.0 && seconds[2] < 2.0, "{seconds:?}");
}

#[test]
fn sticky_address_plain_bad_plain() {
    let arguments = [&["turkey-delay"][..], &FAST].concat();
    let commands = "fetch() { curl -4 -s -o /dev/null -w '%{time_appconnect}\\n' --resolve $1:443:$2 https://$1/bytes/1; }; \
        fetch example.org 192.0.2.1; fetch twitter.com 192.0.2.1; fetch example.org 192.0.2.1; \
        fetch example.org 192.0.2.2";
    let Some(lines) = script(&arguments, commands) else { return };
    let seconds = seconds(&lines);
    assert!(seconds[0] < 1.0, "before: {seconds:?}");
    assert!(seconds[1] >= 3.0, "the bad name: {seconds:?}");
    assert!(seconds[2] >= 3.0, "the address after it, under a good name: {seconds:?}");
    assert!(seconds[3] < 1.0, "another address: {seconds:?}");
}

#[test]
fn packet_counter_in_segments_of_two_bytes() {
    step("tspu-freeze-packets", "packet-counter");
}

#[test]
fn connection_count_one_name_then_another() {
    let arguments = [&["tspu-connection-limit"][..], &FAST].concat();
    let commands = "for n in 1 2 3 4; do curl -4 -s -m 5 -o /dev/null -w '%{http_code}\\n' \
        https://alpha.example/bytes/1 & done; wait; \
        curl -4 -s -m 5 -o /dev/null -w '%{http_code}\\n' https://beta.example/bytes/1";
    let Some(lines) = script(&arguments, commands) else { return };
    let answered = lines[..4].iter().filter(|line| *line == "200").count();
    assert_eq!((answered, lines[4].as_str()), (3, "200"), "{lines:?}");
}

#[test]
fn location_by_a_hello_with_rising_time_to_live() {
    step("tspu-2021", "locate");
}

#[test]
fn freeze_comes_between_16_and_20_kb_without_a_reset() {
    let arguments = [&["tspu-freeze-bytes"][..], &FAST].concat();
    let commands = "for name in example.org vk.com; do curl -4 -s --http1.1 -m 3 -o /dev/null \
        -w '%{exitcode} %{size_download}\\n' https://$name/bytes/65536; done; true";
    let Some(lines) = script(&arguments, commands) else { return };
    // 28 is curl's timeout. Whole TLS records of body are less than what came below them.
    let (status, bytes) = lines[0].split_once(' ').unwrap();
    assert_eq!(status, "28", "{lines:?}");
    assert!(bytes.parse::<u32>().unwrap() <= 20_000, "{lines:?}");
    assert_eq!(lines[1], "0 65536");
}
