//! The status page: plain HTML, written on the server.

use std::{fmt::Write, sync::Arc};

use axum::{
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
};

use super::routes::Shared;
use crate::model::{Snapshot, TargetStatus};

/// `/`.
pub(super) async fn index(State(shared): State<Shared>) -> Result<Response, Response> {
    let snapshot = Arc::clone(&shared.snapshots.borrow());
    let html = shared.render(move || page(&snapshot)).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Html(html)).into_response())
}

/// `/style.css`.
pub(super) async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css"), (CACHE_CONTROL, "max-age=3600")], include_str!("style.css")).into_response()
}

fn page(snapshot: &Snapshot) -> String {
    let mut rows = String::new();
    for target in &snapshot.targets {
        row(target, &mut rows);
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>throttlescope</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"style.css\"></head>\
         <body><h1>throttlescope</h1><p>As of {} (UTC).</p><table><thead><tr><th>Target<th>Verdict<th>Since<th>Slower by\
         <th>Goodput, median</tr></thead><tbody>\n{rows}</tbody></table>\
         <p><a href=\"metrics\">Metrics</a> · <a href=\"api/v1/status\">Status as JSON</a></p></body></html>\n",
        snapshot.at,
    )
}

fn row(target: &TargetStatus, out: &mut String) {
    let verdict = match target.verdict {
        Some(verdict) => verdict.name(),
        None if target.stale => "stale",
        None => "no verdict yet",
    };
    let dash = || "–".to_owned();
    let since = target.since.map_or_else(dash, |since| since.to_string());
    let slowdown = target.findings.first().and_then(|known| known.finding.evidence.slowdown);
    let slowdown = slowdown.map_or_else(dash, |ratio| format!("{ratio:.1}×"));
    let goodput = target.goodput.map_or_else(dash, |goodput| format!("{:.0} kB/s", goodput.p50 / 1000.0));
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<tr><td>{}<td>{verdict}<td>{since}<td>{slowdown}<td>{goodput}</tr>",
        escape(target.id.as_str())
    );
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
