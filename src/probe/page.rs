//! What is kept of a response: allowed headers without addresses, and whether the page is one that a censor injects.

use std::net::IpAddr;

use http::HeaderMap;

use crate::wire::http::ADDRESSES_HEADER;

/// Response headers that may be kept: they tell server, cache and object apart and hold nothing of the client.
const KEPT: [&str; 12] = [
    "server",
    "content-type",
    "content-length",
    "content-range",
    "content-encoding",
    "via",
    "age",
    "x-cache",
    "cache-control",
    "cf-cache-status",
    "retry-after",
    "connection",
];

/// Further addresses that are taken from a server's word.
const ANNOUNCED_MAX: usize = 8;

/// Longest value that is kept, in bytes.
const VALUE_MAX: usize = 256;

/// The allowed headers, scrubbed.
pub(super) fn headers(all: &HeaderMap, server: IpAddr) -> Vec<(String, String)> {
    KEPT.iter()
        .filter_map(|&name| {
            let value = all.get(name)?.to_str().ok()?;
            Some((name.to_owned(), scrub(cut(value), server)))
        })
        .collect()
}

/// Further addresses of its own that a measurement server announces; at most [`ANNOUNCED_MAX`]. A private one is only
/// believed where the server itself is at one, and none that no server can have.
pub(super) fn announced(all: &HeaderMap, server: IpAddr) -> Vec<IpAddr> {
    let text = all.get(ADDRESSES_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let addresses = text.split(',').filter_map(|one| one.trim().parse::<IpAddr>().ok());
    let possible = |one: &IpAddr| !one.is_unspecified() && !one.is_multicast() && !one.is_loopback();
    addresses
        .filter(possible)
        .filter(|&one| is_public(one) || !is_public(server))
        .take(ANNOUNCED_MAX)
        .collect()
}

/// Whether an address is one that the whole Internet knows.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation() || shared)
        }
        // 2000::/3 is what was ever given out (RFC 4291, section 2.4).
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

fn cut(text: &str) -> &str {
    // Header text is ASCII here (`to_str` said so), so that any index is a boundary.
    &text[..text.len().min(VALUE_MAX)]
}

/// Where a redirect points: without query, fragment and credentials, scrubbed.
pub(super) fn redirect(location: &str, server: IpAddr) -> String {
    let plain = location.split(['?', '#']).next().unwrap_or_default();
    let plain = match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => plain.to_owned(),
    };
    let end = plain.floor_char_boundary(2048);
    scrub(&plain[..end], server)
}

/// Replaces every address but the server's own: a server may echo who asked. An address as a part of a host name
/// ("203-0-113-7.dsl.example") goes whoever has it.
pub(super) fn scrub(text: &str, server: IpAddr) -> String {
    let written_out = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let clean = replace_runs(text, written_out, |run| scrub_run(run, server));
    let dashed = |c: char| c.is_ascii_digit() || c == '-' || c == '_';
    replace_runs(&clean, dashed, |run| {
        let parts: Vec<bool> = run.split(['-', '_']).map(|part| part.parse::<u8>().is_ok()).collect();
        let holds_four = parts.windows(4).any(|four| four.iter().all(|&is_octet| is_octet));
        if holds_four { "[address]".to_owned() } else { run.to_owned() }
    })
}

/// The text with every longest run of characters that belong replaced.
fn replace_runs(text: &str, belongs: impl Fn(char) -> bool, replacement: impl Fn(&str) -> String) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(&belongs) {
        let (before, from) = rest.split_at(start);
        let length = from.find(|c| !belongs(c)).unwrap_or(from.len());
        let (run, after) = from.split_at(length);
        clean.push_str(before);
        clean.push_str(&replacement(run));
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// A run of characters that addresses are made of: an address, one with a port or a full stop behind it, or none.
fn scrub_run(run: &str, server: IpAddr) -> String {
    let core = run.trim_end_matches(['.', ':']);
    let v4_with_port = core.split_once(':').filter(|(head, _)| head.contains('.')).map(|(head, _)| head);
    for candidate in [core, core.trim_start_matches(':')].into_iter().chain(v4_with_port) {
        if let Ok(address) = candidate.parse::<IpAddr>() {
            return if address.to_canonical() == server.to_canonical() {
                run.to_owned()
            } else {
                run.replacen(candidate, "[address]", 1)
            };
        }
    }
    // An address within a longer run ("a1.192.0.2.7"): nothing of it is worth the risk.
    let digits = run.split('.').filter(|part| part.parse::<u8>().is_ok()).count();
    if digits >= 4 { "[address]".to_owned() } else { run.to_owned() }
}

/// Marks of pages that are injected, or put in the way by a provider on order of the state. Each is specific enough that
/// an innocent page does not hold it: an address or a host that serves nothing else.
const BLOCK_PAGES: [(&str, &str); 14] = [
    ("ir-peyvandha", "//10.10.34.34"),
    ("ir-peyvandha", "//10.10.34.35"),
    ("ir-peyvandha", "//10.10.34.36"),
    ("ir-peyvandha", "//peyvandha.ir"),
    ("ru-rkn", "eais.rkn.gov.ru"),
    ("ru-rkn", "blocklist.rkn.gov.ru"),
    ("ru-rostelecom", "//warning.rt.ru"),
    ("ru-beeline", "//blackhole.beeline.ru"),
    ("ru-mts", "//blocked.mts.ru"),
    ("ru-ttk", "//fz139.ttk.ru"),
    ("ru-domru", "//lawfilter.ertelecom.ru"),
    ("tr-btk", "internet2.btk.gov.tr"),
    ("kz-blocked", "//92.63.88.128"),
    ("in-dot", "has been blocked under instructions of a competent government authority"),
];

/// The id of the known block page that this is, by its body (or where it redirects to).
pub(super) fn block_page(body: &[u8]) -> Option<&'static str> {
    if body.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    BLOCK_PAGES.iter().find(|(_, mark)| text.contains(mark)).map(|&(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubs_every_address_but_the_servers() {
        let server: IpAddr = "192.0.2.1".parse().unwrap();
        let scrubbed = |text| scrub(text, server);
        assert_eq!(scrubbed("for 203.0.113.7, by 192.0.2.1"), "for [address], by 192.0.2.1");
        assert_eq!(scrubbed("203.0.113.7:4711."), "[address]:4711.");
        assert_eq!(scrubbed("[2001:db8::7]:443 x"), "[[address]]:443 x");
        assert_eq!(scrubbed("::ffff:203.0.113.7"), "[address]");
        assert_eq!(scrubbed("cache-203-0-113-7.dsl.example"), "cache[address].dsl.example");
        assert_eq!(scrubbed("x_203_0_113_7 b"), "x[address] b");
        assert_eq!(scrubbed("a-1-2-3 2026-11-27"), "a-1-2-3 2026-11-27");
        assert_eq!(scrubbed("nginx/1.22.1"), "nginx/1.22.1");
        assert_eq!(scrubbed("bytes 0-131071/4000000"), "bytes 0-131071/4000000");
        assert_eq!(scrubbed("1.1 varnish (ATS/9.2.4)"), "1.1 varnish (ATS/9.2.4)");
    }

    #[test]
    fn a_server_announces_addresses_of_its_own_kind() {
        let mut headers = HeaderMap::new();
        let text = "198.51.100.7, 10.0.0.1,2a01:db8::7, 9.9.9.9, 127.0.0.1, ::, 224.0.0.1, nonsense";
        headers.insert(ADDRESSES_HEADER, text.parse().unwrap());
        let from = |server: &str| -> Vec<String> {
            let server = server.parse().unwrap();
            announced(&headers, server).iter().map(ToString::to_string).collect()
        };
        assert_eq!(from("9.9.9.8"), ["2a01:db8::7", "9.9.9.9"], "a public server knows no private addresses");
        assert_eq!(from("192.0.2.1"), ["198.51.100.7", "10.0.0.1", "2a01:db8::7", "9.9.9.9"]);
    }

    #[test]
    fn a_redirect_loses_query_and_credentials() {
        let server: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(redirect("https://u:p@a.example/x?ip=203.0.113.7#f", server), "https://a.example/x");
        assert_eq!(redirect("/block/203.0.113.7/", server), "/block/[address]/");
    }

    #[test]
    fn knows_a_block_page_and_no_other() {
        let page = br#"<html><iframe src="http://10.10.34.34?type=Invalid Site"></iframe></html>"#;
        assert_eq!(block_page(page), Some("ir-peyvandha"));
        assert_eq!(block_page(b"<html><h1>403 Forbidden</h1></html>"), None);
    }
}
