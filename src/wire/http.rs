//! The beginning of an HTTP/1 request, as a middlebox reads it from one packet, and the one header of our own.

/// The response header by which a measurement server tells its further addresses, with commas between them.
pub const ADDRESSES_HEADER: &str = "throttlescope-addresses";

/// Whether the bytes begin like an HTTP/1 request line (RFC 9112, section 3).
pub fn is_request(payload: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT "];
    METHODS.iter().any(|method| payload.starts_with(method))
}

/// Whether the bytes begin a request to an HTTP proxy: `CONNECT`, or an absolute target.
pub fn is_proxy_request(payload: &[u8]) -> bool {
    if payload.starts_with(b"CONNECT ") {
        return true;
    }
    is_request(payload)
        && payload
            .iter()
            .position(|&byte| byte == b' ')
            .is_some_and(|space| payload[space + 1..].starts_with(b"http://"))
}

/// Whether the bytes begin a SOCKS 4 or 5 greeting.
pub fn is_socks(payload: &[u8]) -> bool {
    match payload {
        // Version, number of methods, methods (RFC 1928, section 3).
        [5, count, methods @ ..] => *count > 0 && methods.len() == usize::from(*count),
        // Version, command (connect or bind), port, address, user.
        [4, 1 | 2, rest @ ..] => rest.len() >= 7 && rest.last() == Some(&0),
        _ => false,
    }
}

/// The `Host` of a request whose head begins in this packet, without a port; nothing where it is not there.
pub fn host(payload: &[u8]) -> Option<&str> {
    if !is_request(payload) {
        return None;
    }
    let head = payload.split(|&byte| byte == b'\n').skip(1);
    for line in head {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        if line[..colon].eq_ignore_ascii_case(b"host") {
            let value = std::str::from_utf8(&line[colon + 1..]).ok()?.trim();
            let name = match value.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => value,
            };
            return (!name.is_empty()).then_some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_without_its_port() {
        assert_eq!(host(b"GET / HTTP/1.1\r\nA: b\r\nhOsT: t.co:80\r\n\r\n"), Some("t.co"));
        assert_eq!(host(b"GET / HTTP/1.1\r\n\r\nHost: t.co\r\n"), None, "the body has no headers");
        assert_eq!(host(b"\x16\x03\x01Host: t.co\r\n"), None);
    }

    #[test]
    fn proxies_are_told_from_servers() {
        assert!(is_proxy_request(b"CONNECT t.co:443 HTTP/1.1\r\n\r\n"));
        assert!(is_proxy_request(b"GET http://t.co/ HTTP/1.1\r\n\r\n"));
        assert!(!is_proxy_request(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(is_socks(&[5, 1, 0]));
        assert!(is_socks(&[4, 1, 0, 80, 1, 2, 3, 4, 0]));
        assert!(!is_socks(&[5, 9, 0]));
    }
}
