//! Values over time as lines on a logarithmic scale, with the spans of accusing verdicts behind them.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::{Plot, at, begin, label, line, rectangle};
use crate::web::{html::Html, texts::Language};

const PLOT: Plot = Plot { left: 88.0, right: 472.0, top: 10.0, bottom: 190.0 };

/// Labels on the axis of time.
const TIMES: i32 = 4;

/// One line: a value for each bin.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its name in legend and table.
    pub(crate) name: &'static str,
    /// Its class in the style sheet: colour and dashes.
    pub(crate) class: &'static str,
    /// Positive values; `None` where nothing is known.
    pub(crate) values: Vec<Option<f64>>,
}

/// The decades that the axis shows.
#[derive(Debug, Clone, Copy)]
struct Decades {
    low: i32,
    high: i32,
}

impl Decades {
    fn of(lines: &[Line]) -> Option<Self> {
        let logs = lines.iter().flat_map(|line| &line.values).flatten().filter(|value| **value > 0.0);
        let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value.log10()), high.max(value.log10()))
        });
        if low > high {
            return None;
        }
        let low = low.floor() as i32;
        Some(Self { low, high: (high.ceil() as i32).max(low + 1) })
    }

    fn share(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low)
    }
}

/// Draws the lines over a span of time, with legend, and the numbers in a table that unfolds. `format` writes a value.
pub(crate) fn lines(
    html: &mut Html,
    language: &'static Language,
    title: &str,
    lines: &[Line],
    shades: &[Option<&'static str>],
    span: [Timestamp; 2],
    format: impl Fn(f64) -> String,
) {
    html.open("figure", &[]);
    html.open("figcaption", &[]);
    html.leaf("strong", &[], title);
    let Some(decades) = Decades::of(lines) else {
        html.close("figcaption");
        html.leaf("p", &[("class", "note")], language.text("page.nothing_yet"));
        html.close("figure");
        return;
    };
    legend(html, lines);
    html.close("figcaption");
    let newest: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            Some(format!("{} {}", line.name, format(line.values.iter().rev().find_map(|v| *v)?)))
        })
        .collect();
    begin(html, 480, 214, &format!("{title}: {}", language.list(&newest)));
    let width = (PLOT.right - PLOT.left) / shades.len().max(1) as f64;
    for (index, shade) in shades.iter().enumerate() {
        if let Some(class) = shade {
            let class = format!("shade {class}");
            let corner = (PLOT.left + width * index as f64, PLOT.top);
            rectangle(html, &class, corner, (width, PLOT.bottom - PLOT.top), "");
        }
    }
    axes(html, language, decades, span, &format);
    for drawn in lines {
        draw(html, drawn, decades);
    }
    html.close("svg");
    numbers(html, language, lines, span, &format);
    html.close("figure");
}

fn legend(html: &mut Html, lines: &[Line]) {
    html.open("ul", &[("class", "legend")]);
    for line in lines {
        html.open("li", &[]);
        html.markup(r#"<svg viewBox="0 0 28 10" aria-hidden="true">"#);
        html.leaf("path", &[("class", &format!("line {}", line.class)), ("d", "M0 5H28")], "");
        html.close("svg");
        html.text(line.name);
        html.close("li");
    }
    html.close("ul");
}

fn axes(
    html: &mut Html,
    language: &'static Language,
    decades: Decades,
    span: [Timestamp; 2],
    format: &impl Fn(f64) -> String,
) {
    let every = if decades.high - decades.low > 5 { 2 } else { 1 };
    for decade in (decades.low..=decades.high).step_by(every) {
        let y = PLOT.y(f64::from(decade - decades.low) / f64::from(decades.high - decades.low));
        line(html, "grid", (PLOT.left, y), (PLOT.right, y));
        label(html, "end", PLOT.left - 6.0, y + 5.0, &format(10_f64.powi(decade)));
    }
    for index in 0..=TIMES {
        let x = PLOT.x(f64::from(index) / f64::from(TIMES));
        line(html, "grid", (x, PLOT.bottom), (x, PLOT.bottom + 4.0));
        let anchor = if index == TIMES { "end" } else { "middle" };
        label(html, anchor, x, PLOT.bottom + 19.0, &tick(language, span, index, TIMES));
    }
    // The axis is the server's; scripts write only the other times in the reader's zone.
    label(html, "start", 2.0, PLOT.bottom + 19.0, "UTC");
}

/// The time of day where the span is a day or less, else the date.
fn tick(language: &'static Language, span: [Timestamp; 2], index: i32, of: i32) -> String {
    let length = span[1].duration_since(span[0]);
    let at = span[0].checked_add(length * index / of).unwrap_or(span[1]);
    let text = language.moment(at);
    // `2026-11-23 21:05 UTC`, in whatever digits.
    let symbols: Vec<char> = text.chars().collect();
    let part = if length > SignedDuration::from_hours(48) { 5..10 } else { 11..16 };
    symbols.get(part).map(|part| part.iter().collect()).unwrap_or_default()
}

fn draw(html: &mut Html, line: &Line, decades: Decades) {
    let count = line.values.len().max(1) as f64;
    let place = |index: usize, value: f64| {
        (at(PLOT.x((index as f64 + 0.5) / count)), at(PLOT.y(decades.share(value))))
    };
    let known = |index: usize| line.values.get(index).copied().flatten().filter(|value| *value > 0.0);
    let mut path = String::new();
    for (index, value) in (0..line.values.len()).filter_map(|index| Some((index, known(index)?))) {
        let (x, y) = place(index, value);
        let goes_on = index > 0 && known(index - 1).is_some();
        // Writing to a string does not fail.
        let _ = write!(path, "{}{x} {y}", if goes_on { 'L' } else { 'M' });
        if !goes_on && known(index + 1).is_none() {
            // A value between two gaps is a point: a line of no length with round ends.
            path.push_str("h0");
        }
    }
    html.leaf("path", &[("class", &format!("line {}", line.class)), ("d", &path)], "");
}

fn numbers(
    html: &mut Html,
    language: &'static Language,
    lines: &[Line],
    span: [Timestamp; 2],
    format: &impl Fn(f64) -> String,
) {
    html.open("details", &[]);
    html.leaf("summary", &[], language.text("label.numbers"));
    html.markup("<table><thead><tr>");
    html.leaf("th", &[("scope", "col")], language.text("label.time"));
    for line in lines {
        html.leaf("th", &[("scope", "col")], line.name);
    }
    html.markup("</tr></thead><tbody>");
    let bins = lines.first().map_or(0, |line| line.values.len());
    let length = span[1].duration_since(span[0]);
    for index in (0..bins).rev() {
        if lines.iter().all(|line| line.values[index].is_none()) {
            continue;
        }
        let (number, of) = (i32::try_from(index).unwrap_or(0), i32::try_from(bins).unwrap_or(1));
        let from = span[0].checked_add(length * number / of).unwrap_or(span[1]);
        html.open("tr", &[]);
        html.leaf("th", &[("scope", "row")], &language.moment(from));
        for line in lines {
            html.leaf("td", &[], &line.values[index].map_or_else(|| "–".to_owned(), format));
        }
        html.close("tr");
    }
    html.markup("</tbody></table>");
    html.close("details");
}
