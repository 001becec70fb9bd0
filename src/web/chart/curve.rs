//! The transfer curve of an exchange, and how its time divides into phases.

use std::{fmt::Write, time::Duration};

use super::{Plot, at, begin, label, line, rectangle, step};
use crate::{
    model::Exchange,
    web::{html::Html, texts::Language},
};

const PLOT: Plot = Plot { left: 62.0, right: 350.0, top: 12.0, bottom: 190.0 };

/// What the axes show: two curves side by side are only honest on one scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CurveScale {
    seconds: f64,
    bytes: f64,
}

impl CurveScale {
    /// Just enough for all of these.
    pub(crate) fn of<'a>(exchanges: impl IntoIterator<Item = &'a Exchange>) -> Self {
        let smallest = Self { seconds: 0.05, bytes: 1000.0 };
        exchanges.into_iter().fold(smallest, |scale, exchange| Self {
            seconds: scale.seconds.max(span(exchange).as_secs_f64()),
            bytes: scale.bytes.max(exchange.curve.bytes() as f64),
        })
    }
}

/// From the first request to the end: the last bytes, or our giving up.
fn span(exchange: &Exchange) -> Duration {
    let last = exchange.curve.points().last().map_or(Duration::ZERO, |point| point.at);
    let first = exchange.requests.first().map_or(Duration::ZERO, |request| request.start);
    let end = exchange.requests.last().map_or(Duration::ZERO, |request| request.end);
    last.max(end.saturating_sub(first))
}

/// The curve in words: `131 kB in 0.4 s`.
pub(crate) fn describe(language: &'static Language, exchange: &Exchange) -> String {
    if exchange.curve.is_empty() {
        return language.text("curve.nothing").to_owned();
    }
    let bytes = language.size(exchange.curve.bytes() as f64);
    language.fill("curve.describe", &[("bytes", &bytes), ("time", &language.duration(span(exchange)))])
}

/// Draws the curve as steps: bytes are there when they were read, not before.
pub(crate) fn curve(
    html: &mut Html,
    language: &'static Language,
    title: &str,
    exchange: &Exchange,
    scale: CurveScale,
) {
    begin(html, 360, 230, &format!("{title}: {}", describe(language, exchange)));
    axes(html, language, scale);
    let x = |time: Duration| PLOT.x(time.as_secs_f64() / scale.seconds);
    let y = |bytes: u64| PLOT.y(bytes as f64 / scale.bytes);
    let mut path = format!("M{} {}", at(PLOT.left), at(PLOT.bottom));
    let mut last = (String::new(), String::new());
    for point in exchange.curve.points() {
        let here = (at(x(point.at)), at(y(point.bytes)));
        // What falls on the same tenth of a pixel is not seen twice. Writing to a string does not fail.
        if here.0 != last.0 {
            let _ = write!(path, "H{}", here.0);
        }
        if here.1 != last.1 {
            let _ = write!(path, "V{}", here.1);
        }
        last = here;
    }
    let (end, height) = (x(span(exchange)), y(exchange.curve.bytes()));
    let _ = write!(path, "H{}", at(end));
    let class = if exchange.is_complete() { "line a" } else { "line bad" };
    html.leaf("path", &[("class", class), ("d", &path)], "");
    if exchange.is_complete() {
        html.leaf("circle", &[("class", "end a"), ("cx", &at(end)), ("cy", &at(height)), ("r", "4")], "");
    } else {
        line(html, "line bad", (end - 5.0, height - 5.0), (end + 5.0, height + 5.0));
        line(html, "line bad", (end - 5.0, height + 5.0), (end + 5.0, height - 5.0));
    }
    html.close("svg");
}

fn axes(html: &mut Html, language: &'static Language, scale: CurveScale) {
    let (bytes, seconds) = (step(scale.bytes, 4), step(scale.seconds, 5));
    let mut tick = 0.0;
    while tick <= scale.bytes * 1.001 {
        let y = PLOT.y(tick / scale.bytes);
        line(html, "grid", (PLOT.left, y), (PLOT.right, y));
        label(html, "end", PLOT.left - 6.0, y + 5.0, &language.size(tick));
        tick += bytes;
    }
    let mut tick = 0.0;
    while tick <= scale.seconds * 1.001 {
        let x = PLOT.x(tick / scale.seconds);
        line(html, "grid", (x, PLOT.bottom), (x, PLOT.bottom + 4.0));
        label(html, "middle", x, PLOT.bottom + 19.0, &language.three_digits(tick));
        tick += seconds;
    }
    label(html, "end", PLOT.right, PLOT.bottom + 36.0, language.text("label.seconds"));
}

/// The phases one below the other, each where it began.
pub(crate) fn phases(
    html: &mut Html,
    language: &'static Language,
    title: &str,
    phases: &[(&str, Option<Duration>)],
) {
    let total: Duration = phases.iter().filter_map(|(_, span)| *span).sum();
    let whole = total.as_secs_f64().max(1e-6);
    let words: Vec<String> = phases
        .iter()
        .filter_map(|(name, span)| span.map(|span| format!("{name} {}", language.duration(span))))
        .collect();
    let height = 10 + 28 * u32::try_from(phases.len()).unwrap_or(0);
    begin(html, 480, height, &format!("{title}: {}", language.list(&words)));
    let plot = Plot { left: 170.0, right: 400.0, top: 0.0, bottom: 0.0 };
    let mut before = Duration::ZERO;
    for (index, (name, span)) in phases.iter().enumerate() {
        let y = 8.0 + 28.0 * index as f64;
        label(html, "end", plot.left - 8.0, y + 15.0, name);
        let Some(span) = span else {
            label(html, "start", plot.x(before.as_secs_f64() / whole) + 4.0, y + 15.0, "–");
            continue;
        };
        let (from, until) = (before.as_secs_f64() / whole, (before + *span).as_secs_f64() / whole);
        let class = ["phase p1", "phase p2", "phase p3", "phase p4", "phase p5"][index.min(4)];
        let width = (plot.x(until) - plot.x(from)).max(2.0);
        rectangle(html, class, (plot.x(from), y), (width, 20.0), "");
        label(html, "start", plot.x(until) + 6.0, y + 15.0, &language.duration(*span));
        before += *span;
    }
    html.close("svg");
}
