//! `/probe?target=`: one exchange with a configured target, told in `blackbox_exporter`'s names.

use std::time::Duration;

use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::routes::{Sentence, Shared, is_cross_site, sentence};
use crate::{
    metrics::TEXT_CONTENT_TYPE,
    model::{Command, Exchange, Family, Phase, ProbeRefusal, TargetId},
};

/// Without a scraper's own limit: blackbox's default of two minutes.
const TIMEOUT_DEFAULT: Duration = Duration::from_mins(2);

/// What the scraper needs to read the answer: blackbox's default offset.
const TIMEOUT_OFFSET: Duration = Duration::from_millis(500);

/// The query.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    target: Option<String>,
}

/// Asks the engine for one exchange.
pub(super) async fn probe(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Sentence> {
    if is_cross_site(&headers) {
        return Err(sentence(StatusCode::FORBIDDEN, "Another site cannot ask for this."));
    }
    let Some(target) = parameters.target else {
        return Err(sentence(
            StatusCode::BAD_REQUEST,
            "Say which: `/probe?target=ID`, with the id of a configured target.",
        ));
    };
    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |outcome| {
        sender.send(outcome).ok();
    });
    let command = Command::Probe { target: TargetId::new(target), timeout: patience(&headers), reply };
    if shared.commands.send(command).await.is_err() {
        return Err(sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring."));
    }
    match receiver.await {
        Ok(Ok(exchange)) => answer(&exchange),
        Ok(Err(ProbeRefusal::UnknownTarget)) => Err(sentence(
            StatusCode::BAD_REQUEST,
            "No configured target has this id; only those can be probed.",
        )),
        Ok(Err(ProbeRefusal::Budget)) => Err(sentence(
            StatusCode::TOO_MANY_REQUESTS,
            "The byte budget does not allow another exchange now.",
        )),
        Ok(Err(ProbeRefusal::Busy)) => {
            Err(sentence(StatusCode::TOO_MANY_REQUESTS, "An exchange with this target is already running."))
        }
        Err(_) => Err(sentence(StatusCode::SERVICE_UNAVAILABLE, "The exchange was not taken.")),
    }
}

/// How long the exchange may take, so that the scraper still gets what was seen.
fn patience(headers: &HeaderMap) -> Duration {
    headers
        .get("x-prometheus-scrape-timeout-seconds")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|limit| limit.checked_sub(TIMEOUT_OFFSET))
        .filter(|limit| !limit.is_zero())
        .unwrap_or(TIMEOUT_DEFAULT)
        .min(TIMEOUT_DEFAULT)
}

fn answer(exchange: &Exchange) -> Result<Response, Sentence> {
    let mut body = Vec::new();
    let written =
        families(exchange).and_then(|registry| TextEncoder::new().encode(&registry.gather(), &mut body));
    match written {
        Ok(()) => Ok(([(CONTENT_TYPE, TEXT_CONTENT_TYPE)], body).into_response()),
        Err(error) => {
            tracing::error!(%error, "cannot write a probe's metrics");
            Err(sentence(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written."))
        }
    }
}

/// The exchange in blackbox's names. What was not reached is absent.
fn families(exchange: &Exchange) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str], values: &[(&[&str], Option<f64>)]| {
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        for (labels, value) in values {
            if let Some(value) = value {
                family.with_label_values(labels).set(*value);
            }
        }
        registry.register(Box::new(family))
    };
    let single = |name: &str, help: &str, value: Option<f64>| gauge(name, help, &[], &[(&[], value)]);
    let seconds = |phase: Phase| exchange.phases.duration(phase).map(|duration| duration.as_secs_f64());
    let flag = |yes: bool| Some(f64::from(u8::from(yes)));

    let fine = exchange.is_complete() && exchange.status.is_some_and(|status| status < 400);
    single("probe_success", "Displays whether or not the probe was a success", flag(fine))?;
    let whole = Some(exchange.duration.as_secs_f64());
    single("probe_duration_seconds", "Returns how long the probe took to complete in seconds", whole)?;
    let lookup = seconds(Phase::Resolve);
    single(
        "probe_dns_lookup_time_seconds",
        "Returns the time taken for probe dns lookup in seconds",
        lookup,
    )?;
    let phases = Phase::ALL.map(|phase| ([phase.name()], seconds(phase)));
    let phases: Vec<(&[&str], Option<f64>)> = phases.iter().map(|(name, span)| (&name[..], *span)).collect();
    let help = "Duration of http request by phase, summed over all redirects";
    gauge("probe_http_duration_seconds", help, &["phase"], &phases)?;
    let status = exchange.status.map(f64::from);
    single("probe_http_status_code", "Response HTTP status code", status)?;
    let version = exchange.http_version.as_deref().and_then(|version| version.parse().ok());
    single("probe_http_version", "Returns the version of HTTP of the probe response", version)?;
    let over_tls = flag(exchange.tls_version.is_some());
    single("probe_http_ssl", "Indicates if SSL was used for the final redirect", over_tls)?;
    let length = exchange.status.map(|_| exchange.bytes as f64);
    single("probe_http_uncompressed_body_length", "Length of uncompressed response body", length)?;
    let family = exchange.family.map(|family| if family == Family::Ipv4 { 4.0 } else { 6.0 });
    single("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6", family)?;
    if let Some(version) = &exchange.tls_version {
        let version = format!("TLS {version}");
        let help = "Returns the TLS version used or NaN when unknown";
        gauge("probe_tls_version_info", help, &["version"], &[(&[&version], Some(1.0))])?;
    }
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrapers_limit_leaves_it_time_to_read() {
        let with = |seconds: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds.parse().unwrap());
            patience(&headers)
        };
        assert_eq!(with("10"), Duration::from_millis(9500));
        assert_eq!(with("1e9"), TIMEOUT_DEFAULT);
        for nonsense in ["", "-1", "NaN", "0.2", "soon"] {
            assert_eq!(with(nonsense), TIMEOUT_DEFAULT, "{nonsense}");
        }
        assert_eq!(patience(&HeaderMap::new()), TIMEOUT_DEFAULT);
    }
}
