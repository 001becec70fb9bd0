//! Rates, sizes and times as people write them in a profile: `130kbit`, `16KiB`, `30ms`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A rate, kept in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Rate {
    /// From bits a second.
    pub const fn bits(bits_per_second: f64) -> Self {
        Self(bits_per_second / 8.0)
    }

    /// How long `bytes` take at this rate.
    pub fn time_for(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.0)
    }

    /// Reads `130kbit`, `20 Mbit/s`, `650B/s`, `1.5MB/s`: bits in powers of 1000, bytes as sizes are read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a rate; write it like `130kbit`, `20Mbit` (a second), or `650B/s`, `40KB/s`"
            )
        };
        let bare = text.trim().trim_end_matches("/s").trim_end_matches("ps").trim_end();
        let (number, unit) = split_number(bare).ok_or_else(wrong)?;
        let bytes_per_second = match unit.to_ascii_lowercase().as_str() {
            "bit" => number / 8.0,
            "kbit" => number * 1e3 / 8.0,
            "mbit" => number * 1e6 / 8.0,
            "gbit" => number * 1e9 / 8.0,
            _ => number * scale_of_bytes(unit).ok_or_else(wrong)?,
        };
        // Under a byte in ten seconds nothing is ever through; over 100 Gbit/s it is a slip of the keyboard.
        if !(0.1..=1.25e10).contains(&bytes_per_second) {
            return Err(format!("`{text}` is outside of what a line has: 1bit to 100Gbit"));
        }
        Ok(Self(bytes_per_second))
    }
}

impl Size {
    /// Reads `16KiB`, `100 KB`, `1500`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write it like `16KiB`, `100KB` or `1500`");
        let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
        let scale = if unit.is_empty() { 1.0 } else { scale_of_bytes(unit).ok_or_else(wrong)? };
        let bytes = number * scale;
        if !(0.0..=1e12).contains(&bytes) {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl Span {
    /// From milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// From seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads `30ms`, `2.5s`, `10m`, `1h 30m`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // humantime has no fractions; people write them.
        if let Some((number, unit)) = split_number(text)
            && let Some(scale) =
                [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)]
                    .iter()
                    .find_map(|(name, scale)| (*name == unit).then_some(*scale))
            && (0.0..=3.2e9).contains(&(number * scale))
        {
            return Ok(Self(Duration::from_secs_f64(number * scale)));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a time; write it like `30ms`, `2.5s` or `10m`"))
    }
}

/// A number and the unit behind it.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

fn scale_of_bytes(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "KiB" => 1024.0,
        "MB" => 1e6,
        "MiB" => 1_048_576.0,
        "GB" => 1e9,
        _ => return None,
    })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0 * 8.0;
        match bits {
            bits if bits >= 1e6 => write!(f, "{}Mbit", bits / 1e6),
            bits if bits >= 1e4 => write!(f, "{}kbit", bits / 1e3),
            _ => write!(f, "{}B/s", self.0),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 20) => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes != 0 && bytes.is_multiple_of(1 << 10) => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

macro_rules! as_text {
    ($($kind:ident),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
        impl std::str::FromStr for $kind {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    )*};
}

as_text!(Rate, Size, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        assert_eq!(Rate::parse("130kbit").unwrap(), Rate(16_250.0));
        assert_eq!(Rate::parse("20 Mbit/s").unwrap(), Rate(2.5e6));
        assert_eq!(Rate::parse("650B/s").unwrap(), Rate(650.0));
        assert_eq!(Size::parse("16KiB").unwrap(), Size(16_384));
        assert_eq!(Size::parse("16KB").unwrap(), Size(16_000));
        assert_eq!(Span::parse("2.5s").unwrap(), Span::millis(2500));
        assert_eq!(Span::parse("1h 30m").unwrap(), Span::seconds(5400));
        for text in ["", "fast", "-3kbit", "0kbit", "10 bananas"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["130kbit", "20Mbit", "650B/s"] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(Rate::parse(&rate.to_string()).unwrap(), rate);
        }
        for text in ["16KiB", "1500", "0"] {
            let size = Size::parse(text).unwrap();
            assert_eq!(Size::parse(&size.to_string()).unwrap(), size);
        }
    }
}
