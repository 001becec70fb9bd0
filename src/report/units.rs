//! Numbers as people read them.

use std::time::Duration;

/// A rate in bits per second from bytes per second, to three digits: `130 kbit/s`.
pub fn rate(bytes_per_second: f64) -> String {
    scaled(bytes_per_second * 8.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
}

/// A size in decimal units, to three digits: `131 kB`.
pub fn size(bytes: f64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB"])
}

/// A duration: `230 µs`, `12.3 ms`, `4.56 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else {
        format!("{} s", three_digits(seconds))
    }
}

/// A ratio: `1.04`, `31.2`, `240`.
pub fn ratio(value: f64) -> String {
    three_digits(value)
}

fn scaled(value: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut index = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && index + 1 < units.len() {
        value /= 1000.0;
        index += 1;
    }
    format!("{} {}", three_digits(value), units[index])
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 99.95 => 0,
        middle if middle >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_people_write() {
        assert_eq!(rate(16_250.0), "130 kbit/s");
        assert_eq!(rate(0.0), "0 bit/s");
        assert_eq!(rate(124_999.0), "1 Mbit/s");
        assert_eq!(size(131_072.0), "131 kB");
        assert_eq!(time(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(time(Duration::from_micros(230)), "230 µs");
        assert_eq!(time(Duration::from_millis(4_560)), "4.56 s");
        assert_eq!(ratio(31.24), "31.2");
        assert_eq!(ratio(1.0), "1");
    }
}
