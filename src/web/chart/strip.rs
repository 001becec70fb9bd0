//! Spans of time as bars, one row for each target.

use jiff::Timestamp;

use super::{Plot, begin, label, line, rectangle};
use crate::web::{html::Html, texts::Language};

const ROW: f64 = 26.0;

/// Longest name of a row, in letters; the table beside has it whole.
const NAME_MAX: usize = 20;

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar<'a> {
    /// Its row.
    pub(crate) row: &'a str,
    /// Its class: a verdict.
    pub(crate) class: &'static str,
    /// Its begin.
    pub(crate) from: Timestamp,
    /// Its end; `None`: it goes on.
    pub(crate) until: Option<Timestamp>,
}

/// Draws the bars over a span.
pub(crate) fn strip(
    html: &mut Html,
    language: &'static Language,
    title: &str,
    bars: &[Bar],
    span: [Timestamp; 2],
) {
    let mut rows: Vec<&str> = Vec::new();
    for bar in bars {
        if !rows.contains(&bar.row) {
            rows.push(bar.row);
        }
    }
    let bottom = 6.0 + ROW * rows.len() as f64;
    let plot = Plot { left: 150.0, right: 474.0, top: 4.0, bottom };
    let described = format!("{title}: {}", language.number(bars.len() as f64, 0));
    begin(html, 480, bottom as u32 + 24, &described);
    let length = span[1].duration_since(span[0]).as_secs_f64().max(1.0);
    let share = |at: Timestamp| at.duration_since(span[0]).as_secs_f64() / length;
    for index in 0..=4 {
        let x = plot.x(f64::from(index) / 4.0);
        line(html, "grid", (x, plot.top), (x, plot.bottom));
        let at = span[0].checked_add(span[1].duration_since(span[0]) * index / 4).unwrap_or(span[1]);
        let day: String = language.moment(at).chars().skip(5).take(5).collect();
        label(html, if index == 4 { "end" } else { "middle" }, x, bottom + 18.0, &day);
    }
    for (index, row) in rows.iter().enumerate() {
        let y = plot.top + ROW * index as f64;
        let short: String = if row.chars().count() > NAME_MAX {
            row.chars().take(NAME_MAX - 1).chain(['…']).collect()
        } else {
            (*row).to_owned()
        };
        label(html, "end", plot.left - 8.0, y + 17.0, &short);
        for bar in bars.iter().filter(|bar| bar.row == *row) {
            let (left, right) = (plot.x(share(bar.from)), plot.x(bar.until.map_or(1.0, share)));
            // However short, it is seen, and within the picture.
            let left = left.min(plot.right - 3.0);
            let until = bar
                .until
                .map_or_else(|| language.text("label.ongoing").to_owned(), |end| language.moment(end));
            let title = format!("{row}: {} – {until}", language.moment(bar.from));
            rectangle(
                html,
                &format!("bar {}", bar.class),
                (left, y + 3.0),
                ((right - left).max(3.0), ROW - 6.0),
                &title,
            );
        }
    }
    html.close("svg");
}
