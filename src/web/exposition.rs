//! `/metrics`: text or protobuf by `Accept`, compressed by `Accept-Encoding`.

use std::io::{self, BufWriter};

use axum::{
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, VARY},
    },
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};

use super::routes::{Sentence, Shared, sentence};
use crate::metrics::{Metrics, PROTOBUF_CONTENT_TYPE, TEXT_CONTENT_TYPE};

/// The metrics in the form that the scraper prefers.
pub(super) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Sentence> {
    let protobuf = prefers_protobuf(&joined(&headers, &ACCEPT));
    let gzip = accepts_gzip(&joined(&headers, &ACCEPT_ENCODING));
    let metrics = shared.metrics.clone();
    let body = shared.render(move || write(&metrics, protobuf, gzip)).await?.map_err(|error| {
        tracing::error!(%error, "cannot write the metrics");
        sentence(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written.")
    })?;
    let kind = if protobuf { PROTOBUF_CONTENT_TYPE } else { TEXT_CONTENT_TYPE };
    let mut response = ([(CONTENT_TYPE, kind), (VARY, "accept, accept-encoding")], body).into_response();
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn write(metrics: &Metrics, protobuf: bool, gzip: bool) -> io::Result<Vec<u8>> {
    if gzip {
        // The series repeat themselves; the fastest level already takes nine tenths away.
        // The text encoder writes words; without a buffer each would go through the compressor on its own.
        let mut out = BufWriter::with_capacity(1 << 16, GzEncoder::new(Vec::new(), Compression::fast()));
        if protobuf { metrics.write_protobuf(&mut out) } else { metrics.write_text(&mut out) }?;
        return out.into_inner().map_err(io::IntoInnerError::into_error)?.finish();
    }
    let mut out = Vec::new();
    if protobuf { metrics.write_protobuf(&mut out) } else { metrics.write_text(&mut out) }?;
    Ok(out)
}

/// All values of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// The entries of an `Accept` header with their weights.
fn weighted(list: &str) -> impl Iterator<Item = (&str, f32)> {
    list.split(',').map(|entry| {
        let weight = entry.split(';').filter_map(|part| part.trim().strip_prefix("q=")).next_back();
        (entry.trim(), weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0)))
    })
}

/// Whether the delimited `MetricFamily` protobuf is wanted more than text.
fn prefers_protobuf(accept: &str) -> bool {
    let best = |wanted: &dyn Fn(&str) -> bool| {
        weighted(accept).filter(|(entry, _)| wanted(entry)).map(|(_, weight)| weight).fold(0.0, f32::max)
    };
    let protobuf = best(&|entry| {
        entry.starts_with("application/vnd.google.protobuf")
            && entry.contains("encoding=delimited")
            && entry.contains("proto=io.prometheus.client.MetricFamily")
    });
    protobuf > 0.0 && protobuf >= best(&|entry| entry.starts_with("text/plain"))
}

fn accepts_gzip(accept_encoding: &str) -> bool {
    weighted(accept_encoding).any(|(entry, weight)| {
        weight > 0.0
            && entry.split(';').next().is_some_and(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses_the_form() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let text = "text/plain;version=0.0.4";
        // What Prometheus sends with native histograms on, and without.
        assert!(prefers_protobuf(&format!(
            "{protobuf};q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,{text};q=0.2,*/*;q=0.1"
        )));
        assert!(!prefers_protobuf(&format!(
            "application/openmetrics-text;version=1.0.0,{text};q=0.5,*/*;q=0.1"
        )));
        assert!(!prefers_protobuf(&format!("{protobuf};q=0.1,{text};q=0.9")));
        assert!(!prefers_protobuf("application/vnd.google.protobuf;encoding=text"));
        assert!(!prefers_protobuf(""));
        assert!(accepts_gzip("gzip, deflate") && !accepts_gzip("gzip;q=0") && !accepts_gzip("br"));
    }
}
