//! Texts to values: sizes, durations, names, addresses. Each error says what was expected.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use url::Url;

/// Longest id, name and operator.
const NAME_MAX: usize = 100;

/// Longest duration: far beyond any use, and far from overflow.
const DURATION_MAX: Duration = Duration::from_hours(24 * 366 * 10);

pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() == 0 => Err("must be above zero".to_owned()),
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err(format!("`{text}` is not a size, write for example \"64KiB\" or \"50MB\"")),
    }
}

/// The bound of the database: below a few megabytes it would hold nothing but its own tables.
pub(super) fn database_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        small if small < 10_000_000 => Err(format!("`{text}` is too small, write \"10MB\" or more")),
        large => Ok(large),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be above zero".to_owned()),
        Ok(duration) if duration > DURATION_MAX => Err(format!("`{text}` is longer than ten years")),
        Ok(duration) => Ok(duration),
        Err(_) => Err(format!("`{text}` is not a duration, write for example \"30s\", \"5m\" or \"90d\"")),
    }
}

/// An interval: a second at least, or the machine itself is what is measured.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(1) => {
            Err(format!("`{text}` is too short, write \"1s\" or more"))
        }
        long => Ok(long),
    }
}

pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|_| format!("`{text}` is not a URL, write for example \"https://example.org/big.jpg\""))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_none_or(str::is_empty) => {
            Err(format!("`{text}` names no host"))
        }
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err("credentials in a URL are never sent, remove them".to_owned())
        }
        "http" | "https" => Ok(url),
        scheme => Err(format!("`{scheme}` cannot be measured, use http or https")),
    }
}

/// Where somebody is told. What is wrong is said without the address, which may hold a secret.
pub(super) fn receiver(text: &str) -> Result<Url, String> {
    let parsed = Url::parse(text)
        .map_err(|_| "is not a URL, write for example \"https://hooks.example/throttling\"".to_owned())?;
    match parsed.scheme() {
        "http" | "https" => url(text),
        scheme => Err(format!("nobody can be told over `{scheme}`, use http or https")),
    }
}

/// A resolver over HTTPS.
pub(super) fn doh(text: &str) -> Result<Url, String> {
    match url(text) {
        Ok(url) if url.scheme() == "https" => Ok(url),
        Ok(_) => Err(format!(
            "`{text}` is not asked over HTTPS, write for example \"https://dns.example/dns-query\""
        )),
        Err(problem) => Err(problem),
    }
}

/// An id: what is safe in a label, a file name and a URL.
pub(super) fn id(text: &str) -> Result<String, String> {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    let parts_filled = text.split('/').all(|part| !part.is_empty());
    if text.len() <= NAME_MAX && parts_filled && text.chars().all(is_safe) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not an id, use letters, digits, `.`, `_`, `-`, as in \"shop/images\""))
    }
}

/// A host name as it is shown in a `ClientHello`, in small letters.
///
/// # Errors
///
/// A sentence that quotes what is no host name.
pub fn host_name(text: &str) -> Result<String, String> {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let fits =
        (1..=253).contains(&text.len()) && text.split('.').all(|label| (1..=63).contains(&label.len()));
    if fits && text.chars().all(is_safe) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("`{text}` is not a host name, write for example \"abs.twimg.com\""))
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is not HOST:PORT, write for example \"127.0.0.1:8443\" or \"[::1]:8443\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host_name(host).is_ok(),
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_host && is_port { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// Where to listen; `:PORT` is all addresses, as with Prometheus exporters.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let whole = text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("[::]:{port}"));
    let whole = whole.strip_prefix("localhost:").map_or(whole.clone(), |port| format!("127.0.0.1:{port}"));
    whole.parse().map_err(|_| format!("`{text}` is not ADDRESS:PORT, write for example \"127.0.0.1:10474\""))
}

pub(super) fn country(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.chars().all(|letter| letter.is_ascii_alphabetic()) {
        Ok(text.to_ascii_uppercase())
    } else {
        Err(format!("`{text}` is not a country code, write its two letters, for example \"RU\""))
    }
}

/// A name for people.
pub(super) fn name(text: &str) -> Result<String, String> {
    if !text.trim().is_empty() && text.chars().count() <= NAME_MAX && !text.chars().any(char::is_control) {
        Ok(text.trim().to_owned())
    } else {
        Err(format!("expected 1 to {NAME_MAX} letters on one line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_the_usual_spellings() {
        assert_eq!(listen(":10474").unwrap().to_string(), "[::]:10474");
        assert_eq!(listen("localhost:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(listen("[::1]:9").unwrap().to_string(), "[::1]:9");
        assert!(listen("10474").is_err());
        assert!(host_port("[::1]:443").is_ok() && host_port("a.example:443").is_ok());
        for wrong in ["a.example", "a.example:0", "a.example:70000", "::1:443", ":443", "a b:443"] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_safe_everywhere() {
        for right in ["shop/images", "a", "A-b_c.d/e/f"] {
            assert!(id(right).is_ok(), "{right}");
        }
        for wrong in ["", "/", "a/", "/a", "a b", "a\"b", "ü", &"x".repeat(101)] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
