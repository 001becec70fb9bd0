//! One measurement in OONI's form, data format 0.2.0 (<https://github.com/ooni/spec/tree/master/data-formats>).
//!
//! An exchange is what OONI's `urlgetter` does: one URL, every step recorded. What that form has no place for goes along
//! under `x_throttlescope`. Addresses of the user are hidden as the specification asks.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{Exchange, Failure, FailureDetail, FailureKind, Measurement, Network, Phase};

/// The version of `urlgetter` whose keys these are.
const TEST_VERSION: &str = "0.2.0";

/// The measurement as one object, to be written on one line.
pub fn measurement(measurement: &Measurement) -> Value {
    let exchange = &measurement.exchange;
    let vantage = &measurement.vantage;
    let began = time(exchange.started_at);
    json!({
        "data_format_version": "0.2.0",
        "input": url(exchange),
        "measurement_start_time": began,
        "test_start_time": began,
        "test_runtime": exchange.duration.as_secs_f64(),
        "test_name": "urlgetter",
        "test_version": TEST_VERSION,
        "software_name": "throttlescope",
        "software_version": env!("CARGO_PKG_VERSION"),
        "probe_asn": format!("AS{}", vantage.asn.unwrap_or(0)),
        "probe_cc": vantage.country.as_deref().unwrap_or("ZZ"),
        "probe_ip": "127.0.0.1",
        "probe_network_name": vantage.operator.as_deref().unwrap_or_default(),
        "resolver_asn": "AS0",
        "resolver_ip": "127.0.0.2",
        "resolver_network_name": "",
        "report_id": "",
        "annotations": {
            "engine_name": "throttlescope",
            "engine_version": env!("CARGO_PKG_VERSION"),
            "network_type": match vantage.network {
                Some(Network::Mobile) => "mobile",
                Some(Network::Fixed) => "wired_ethernet",
                None => "unknown",
            },
            "platform": "linux",
        },
        "extensions": { "dnst": 0, "httpt": 0, "netevents": 0, "tcpconnect": 0, "tlshandshake": 0 },
        "test_keys": test_keys(exchange),
        "x_throttlescope": {
            "id": exchange.id,
            "subject": measurement.subject,
            "control": measurement.control,
            "comparison": measurement.comparison,
            "role": exchange.role,
            "round": exchange.round,
            "pair": exchange.pair,
            "position": exchange.position,
            "lateness_s": exchange.lateness.as_secs_f64(),
            "censored": exchange.censored,
            "fallback": exchange.fallback,
            "warmup": exchange.warmup,
            "hello": exchange.hello,
            "certificate_sha256": exchange.certificate_sha256,
            "body_sha256": exchange.body_sha256,
            "tcp": exchange.tcp,
        },
    })
}

/// `2006-01-02 15:04:05`, UTC.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn url(exchange: &Exchange) -> String {
    let scheme = if exchange.hello.is_some() || exchange.tls_version.is_some() { "https" } else { "http" };
    format!("{scheme}://{}{}", exchange.host_header, exchange.path)
}

/// When each phase began and ended, in seconds since the start.
fn span(exchange: &Exchange, phase: Phase) -> Option<[f64; 2]> {
    let length = exchange.phases.duration(phase)?.as_secs_f64();
    let before = Phase::ALL.iter().take_while(|other| **other != phase);
    let start = before.filter_map(|other| exchange.phases.duration(*other)).map(|d| d.as_secs_f64()).sum();
    Some([start, start + length])
}

fn test_keys(exchange: &Exchange) -> Value {
    let failed = |phases: &[Phase]| {
        exchange.failure.as_ref().filter(|failure| phases.contains(&failure.phase)).map(name)
    };
    let address = exchange.address.map(|address| address.to_string()).unwrap_or_default();
    let mut keys = Map::new();
    let mut put = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    put("agent", json!("agent"));
    put("socksproxy", Value::Null);
    put("failure", json!(exchange.failure.as_ref().map(name)));
    put("failed_operation", json!(exchange.failure.as_ref().map(|failure| operation(failure.phase))));
    put("network_events", network_events(exchange, &address));
    put(
        "queries",
        list(span(exchange, Phase::Resolve), |[t0, t]| {
            json!({
                "answers": answers(exchange), "engine": "udp", "failure": failed(&[Phase::Resolve]),
                "hostname": exchange.name, "query_type": query_type(exchange), "resolver_address": "",
                "t0": t0, "t": t, "tags": [], "transaction_id": 1,
            })
        }),
    );
    put(
        "tcp_connect",
        list(span(exchange, Phase::Connect).filter(|_| exchange.address.is_some()), |[t0, t]| {
            let failure = failed(&[Phase::Connect]);
            json!({
                "ip": exchange.address.map(|a| a.ip().to_string()), "port": exchange.address.map(|a| a.port()),
                "status": { "failure": failure, "success": failure.is_none() },
                "t0": t0, "t": t, "tags": [], "transaction_id": 1,
            })
        }),
    );
    put(
        "tls_handshakes",
        list(span(exchange, Phase::Tls), |[t0, t]| {
            json!({
                "network": "tcp", "address": address, "cipher_suite": "", "failure": failed(&[Phase::Tls]),
                "negotiated_protocol": "", "no_tls_verify": !exchange.certificate_checked,
                "peer_certificates": [], "server_name": exchange.name,
                "tls_version": exchange.tls_version.as_ref().map(|v| format!("TLSv{v}")).unwrap_or_default(),
                "t0": t0, "t": t, "tags": [], "transaction_id": 1,
            })
        }),
    );
    put(
        "requests",
        list(span(exchange, Phase::Processing), |[t0, t]| {
            let until = span(exchange, Phase::Transfer).map_or(t, |[_, until]| until);
            request(exchange, &address, failed(&[Phase::Processing, Phase::Transfer]).as_deref(), [t0, until])
        }),
    );
    Value::Object(keys)
}

/// A list of one, or of none.
fn list(span: Option<[f64; 2]>, entry: impl FnOnce([f64; 2]) -> Value) -> Value {
    Value::Array(span.map(entry).into_iter().collect())
}

const fn query_type(exchange: &Exchange) -> &'static str {
    match exchange.address {
        Some(std::net::SocketAddr::V6(_)) => "AAAA",
        _ => "A",
    }
}

fn answers(exchange: &Exchange) -> Value {
    let answer = exchange.address.map(|address| match address.ip() {
        std::net::IpAddr::V4(ip) => json!({ "answer_type": "A", "ipv4": ip, "ttl": null }),
        std::net::IpAddr::V6(ip) => json!({ "answer_type": "AAAA", "ipv6": ip, "ttl": null }),
    });
    Value::Array(answer.into_iter().collect())
}

fn request(exchange: &Exchange, address: &str, failure: Option<&str>, [t0, t]: [f64; 2]) -> Value {
    let headers: Map<String, Value> =
        exchange.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let list: Vec<[&str; 2]> =
        exchange.headers.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect();
    let asked = [["Host", exchange.host_header.as_str()], ["Accept-Encoding", "identity"]];
    json!({
        "network": "tcp", "address": address, "alpn": "", "failure": failure,
        "request": {
            "url": url(exchange), "method": "GET", "body": "", "body_is_truncated": false,
            "headers": { "Host": exchange.host_header, "Accept-Encoding": "identity" }, "headers_list": asked,
            "tor": { "exit_ip": null, "exit_name": null, "is_tor": false }, "x_transport": "tcp",
        },
        // Bodies are not kept; their length and hash are.
        "response": {
            "code": exchange.status, "body": "", "body_is_truncated": true, "headers": headers,
            "headers_list": list, "x_body_bytes": exchange.bytes,
        },
        "t0": t0, "t": t, "tags": [], "transaction_id": 1,
    })
}

/// The steps, and the transfer curve as running totals (`bytes_received_cumulative`, df-008).
fn network_events(exchange: &Exchange, address: &str) -> Value {
    let event = |operation: &str, t0: f64, t: f64, failure: Option<String>, bytes: Option<u64>| {
        let mut event = json!({
            "address": address, "failure": failure, "operation": operation, "proto": "tcp", "t0": t0, "t": t,
            "tags": [], "transaction_id": 1,
        });
        if let (Some(bytes), Some(object)) = (bytes, event.as_object_mut()) {
            object.insert("num_bytes".to_owned(), json!(bytes));
        }
        event
    };
    let failed = |phase| exchange.failure.as_ref().filter(|failure| failure.phase == phase).map(name);
    let mut events = Vec::new();
    if let Some([t0, t]) = span(exchange, Phase::Connect) {
        events.push(event("connect", t0, t, failed(Phase::Connect), None));
    }
    if let Some([t0, t]) = span(exchange, Phase::Tls) {
        events.push(event("tls_handshake_start", t0, t0, None, None));
        events.push(event("tls_handshake_done", t, t, failed(Phase::Tls), None));
    }
    let sent = exchange.requests.first().map(|request| request.start.as_secs_f64());
    for point in exchange.curve.points() {
        let t = sent.unwrap_or_default() + point.at.as_secs_f64();
        events.push(event("bytes_received_cumulative", t, t, None, Some(point.bytes)));
    }
    Value::Array(events)
}

/// The operation that failed, in urlgetter's words.
const fn operation(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "resolve",
        Phase::Connect => "connect",
        Phase::Tls => "tls_handshake",
        Phase::Processing | Phase::Transfer => "http_round_trip",
    }
}

/// A failure in OONI's words (df-007).
fn name(failure: &Failure) -> String {
    let known = match (failure.kind, failure.detail.as_ref()) {
        (FailureKind::Nxdomain, _) => "dns_nxdomain_error",
        (FailureKind::NoAddress, Some(FailureDetail::ResolverError(2))) => "dns_servfail_error",
        (FailureKind::NoAddress, Some(FailureDetail::ResolverError(5))) => "dns_refused_error",
        (FailureKind::NoAddress, _) => "dns_no_answer",
        (FailureKind::Refused, _) => "connection_refused",
        (FailureKind::Unreachable, _) => "host_unreachable",
        (FailureKind::Timeout | FailureKind::Stalled, _) => "generic_timeout_error",
        (FailureKind::Reset, _) => "connection_reset",
        (FailureKind::Closed | FailureKind::ShortBody, _) => "eof_error",
        (FailureKind::TlsAlert | FailureKind::NotTls, _) => "ssl_failed_handshake",
        (FailureKind::BadCertificate, Some(FailureDetail::WrongName)) => "ssl_invalid_hostname",
        (FailureKind::BadCertificate, Some(FailureDetail::UnknownIssuer)) => "ssl_unknown_authority",
        (FailureKind::BadCertificate, _) => "ssl_invalid_certificate",
        (FailureKind::HttpError, _) => "http_request_failed",
        (kind, _) => return format!("unknown_failure: {kind}"),
    };
    known.to_owned()
}
