//! The options that measuring commands share, and what they are turned into.

use std::{fmt::Write as _, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use url::Url;

use crate::{
    methods::Shape,
    model::{Family, HelloKind},
    probe::{Budgets, ConnectTo, HttpChoice, Options, ResolveOverride},
};

/// How to reach the network, and how to show results.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one flag of the command line")]
pub struct MeasuringOptions {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// No progress on standard error
    #[arg(long, short)]
    pub quiet: bool,
    /// Go on without asking after the safety notice
    #[arg(long)]
    pub yes: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Connect to HOST2:PORT2 where HOST1:PORT1 is asked for; empty parts match any, or keep
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2", value_parser = connect_to, help_heading = "Network")]
    pub connect_to: Vec<ConnectTo>,
    /// Use this address for the host and port
    #[arg(long, value_name = "HOST:PORT:ADDR[,ADDR]", value_parser = resolve, help_heading = "Network")]
    pub resolve: Vec<ResolveOverride>,
    /// PEM file of certificates to trust beside the built-in and the system's
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub cacert: Option<PathBuf>,
    /// Do not check certificates
    #[arg(long, short = 'k', help_heading = "Network")]
    pub insecure: bool,
    /// IPv4 only
    #[arg(long, short = '4', conflicts_with = "ipv6", help_heading = "Network")]
    pub ipv4: bool,
    /// IPv6 only
    #[arg(long, short = '6', help_heading = "Network")]
    pub ipv6: bool,
    /// Send from this interface or local address
    #[arg(long, value_name = "NAME|ADDR", help_heading = "Network")]
    pub interface: Option<String>,
    /// An independent resolver; `measure` alone has the option.
    #[arg(skip)]
    pub doh: Option<Url>,
    /// Most pairs of a subject and a control exchange
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Test")]
    pub pairs: Option<u32>,
    /// Body bytes of each exchange
    #[arg(long, value_name = "SIZE", default_value = "128KiB", value_parser = size, help_heading = "Test")]
    pub bytes: u64,
    /// Time that one exchange may take as a whole [default: the sum of the phases' budgets]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Test")]
    pub timeout: Option<Duration>,
    /// Seed of the random order [default: drawn]
    #[arg(long, value_name = "N", help_heading = "Test")]
    pub seed: Option<u64>,
    /// The ClientHello: one segment, or with a post-quantum key share as browsers send it
    #[arg(long, value_enum, default_value = "small", help_heading = "Test")]
    pub hello: HelloOption,
    /// HTTP/1.1, the default
    #[arg(long, conflicts_with = "http2", help_heading = "Test")]
    pub http1: bool,
    /// HTTP/2
    #[arg(long, help_heading = "Test")]
    pub http2: bool,
}

/// `--hello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HelloOption {
    /// One segment.
    Small,
    /// Two segments.
    Large,
}

impl MeasuringOptions {
    /// What the prober needs to know.
    pub fn probe_options(&self) -> Options {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::Ipv4),
            (_, true) => Some(Family::Ipv6),
            _ => None,
        };
        Options {
            family,
            interface: self.interface.clone(),
            ca_file: self.cacert.clone(),
            insecure: self.insecure,
            resolve: self.resolve.clone(),
            connect_to: self.connect_to.clone(),
            doh: self.doh.clone(),
        }
    }

    /// The options of the test that differ from the defaults, for a command line that repeats it.
    pub fn repeat(&self) -> String {
        let mut text = String::new();
        if self.bytes != 128 * 1024 {
            let _ = write!(text, " --bytes {}", self.bytes);
        }
        if self.hello == HelloOption::Large {
            text.push_str(" --hello large");
        }
        if self.http2 {
            text.push_str(" --http2");
        }
        for (set, flag) in [(self.insecure, " -k"), (self.ipv4, " -4"), (self.ipv6, " -6")] {
            if set {
                text.push_str(flag);
            }
        }
        for to in &self.connect_to {
            let _ = write!(text, " --connect-to {}", quoted(&to.to_string()));
        }
        for to in &self.resolve {
            let _ = write!(text, " --resolve {}", quoted(&to.to_string()));
        }
        // An address of one's own is nobody's business.
        if let Some(name) = self.interface.as_ref().filter(|name| name.parse::<IpAddr>().is_err()) {
            let _ = write!(text, " --interface {}", quoted(name));
        }
        if let Some(pairs) = self.pairs {
            let _ = write!(text, " --pairs {pairs}");
        }
        if let Some(timeout) = self.timeout {
            let _ = write!(text, " --timeout {}", quoted(&humantime::format_duration(timeout).to_string()));
        }
        if let Some(seed) = self.seed {
            let _ = write!(text, " --seed {seed}");
        }
        text
    }

    /// What each exchange asks for.
    pub fn shape(&self) -> Shape {
        Shape {
            bytes: self.bytes,
            budgets: Budgets { whole: self.timeout, ..Budgets::default() },
            hello: match self.hello {
                HelloOption::Small => HelloKind::Small,
                HelloOption::Large => HelloKind::Large,
            },
            http: if self.http2 { HttpChoice::Http2 } else { HttpChoice::Http1 },
        }
    }
}

/// As one word of a shell's command line.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@%[]".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Reads `64KiB`, `50MB`, `1000`.
pub fn size(text: &str) -> anyhow::Result<u64> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        Ok(_) => bail!("a size must be above zero"),
        Err(_) => bail!("not a size; write for example 64KiB or 50MB"),
    }
}

/// Reads `3s`, `5m`, `1h 30m`.
pub fn duration(text: &str) -> anyhow::Result<Duration> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => bail!("a duration must be above zero"),
        Err(_) => bail!("not a duration; write for example 3s or 5m"),
    }
}

/// Splits at colons outside brackets, so that `[::1]` stays whole; the brackets are removed.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut in_brackets = false;
    for letter in text.chars() {
        match letter {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            ':' if !in_brackets => fields.push(String::new()),
            letter => {
                if let Some(last) = fields.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    fields
}

fn port(text: &str) -> anyhow::Result<u16> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => bail!("`{text}` is not a port; it is a number from 1 to 65535"),
    }
}

fn connect_to(text: &str) -> anyhow::Result<ConnectTo> {
    let fields = fields(text);
    let [from_host, from_port, to_host, to_port] = fields.as_slice() else {
        bail!("expected HOST1:PORT1:HOST2:PORT2, of which any part may be empty");
    };
    let host = |text: &str| (!text.is_empty()).then(|| text.to_ascii_lowercase());
    let some_port = |text: &str| if text.is_empty() { Ok(None) } else { port(text).map(Some) };
    Ok(ConnectTo {
        from_host: host(from_host),
        from_port: some_port(from_port)?,
        to_host: host(to_host),
        to_port: some_port(to_port)?,
    })
}

fn resolve(text: &str) -> anyhow::Result<ResolveOverride> {
    // The address comes last and may itself hold colons, with or without brackets.
    let (host, rest) = match text.strip_prefix('[').and_then(|inner| inner.split_once("]:")) {
        Some((host, rest)) => (host, rest),
        None => text.split_once(':').context("expected HOST:PORT:ADDR")?,
    };
    let (port_text, addresses) = rest.split_once(':').context("expected HOST:PORT:ADDR")?;
    let addresses = addresses
        .split(',')
        .map(|address| {
            let bare = address.trim().trim_start_matches('[').trim_end_matches(']');
            bare.parse::<IpAddr>().with_context(|| format!("`{address}` is not an IP address"))
        })
        .collect::<anyhow::Result<Vec<IpAddr>>>()?;
    Ok(ResolveOverride {
        host: host.trim_start_matches('+').to_ascii_lowercase(),
        port: port(port_text)?,
        addresses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_to_reads_as_in_curl() {
        let parsed = connect_to("Example.org:443:[::1]:8443").unwrap();
        assert_eq!(parsed.from_host.as_deref(), Some("example.org"));
        assert_eq!(
            (parsed.from_port, parsed.to_host.as_deref(), parsed.to_port),
            (Some(443), Some("::1"), Some(8443))
        );
        let parsed = connect_to("::127.0.0.1:").unwrap();
        assert_eq!((parsed.from_host, parsed.from_port, parsed.to_port), (None, None, None));
        assert!(connect_to("example.org:443").is_err());
        assert!(connect_to("a:b:c:d").is_err());
    }

    #[test]
    fn resolve_reads_as_in_curl() {
        let parsed = resolve("example.org:443:127.0.0.1,[::1]").unwrap();
        assert_eq!(parsed.addresses.len(), 2);
        assert_eq!(resolve("example.org:443:::1").unwrap().addresses[0].to_string(), "::1");
        assert!(resolve("example.org:443:nowhere").is_err());
        assert!(resolve("example.org:0:127.0.0.1").is_err());
    }

    #[test]
    fn what_repeats_a_test_reads_back_as_the_same() {
        for text in ["example.org:443:[::1]:8443", "::127.0.0.1:", "[::1]:80::"] {
            assert_eq!(connect_to(text).unwrap().to_string(), text);
        }
        for text in ["example.org:443:127.0.0.1,::1", "*:80:192.0.2.1"] {
            assert_eq!(resolve(text).unwrap().to_string(), text);
        }
        assert_eq!(quoted("/a?b=c&d"), "'/a?b=c&d'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("1m"), "1m");
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(size("50MB").unwrap(), 50_000_000);
        assert!(size("0").is_err());
        assert!(size("-5").is_err());
        assert_eq!(duration("5m").unwrap(), Duration::from_mins(5));
        assert!(duration("fast").is_err());
    }
}
