//! Charts as SVG: drawn on the server, coloured by the style sheet, described in words for those who do not see them.
//!
//! Coordinates are pixels of the view box. Charts run from left to right in every language.

mod curve;
mod lines;
mod strip;

pub(super) use curve::{CurveScale, curve, describe, phases};
pub(super) use lines::{Line, lines};
pub(super) use strip::{Bar, strip};

use super::html::Html;

/// The area of a plot within its view box.
#[derive(Debug, Clone, Copy)]
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plot {
    /// From a share of the width, 0 at the left.
    fn x(&self, share: f64) -> f64 {
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// From a share of the height, 0 at the bottom.
    fn y(&self, share: f64) -> f64 {
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

/// Begins a picture of this size with these words for it.
fn begin(html: &mut Html, width: u32, height: u32, description: &str) {
    let view_box = format!("0 0 {width} {height}");
    // Letters are drawn larger where the picture is made smaller.
    let class = if width < 400 { "chart small" } else { "chart" };
    let attributes =
        [("class", class), ("viewBox", view_box.as_str()), ("role", "img"), ("aria-label", description)];
    html.open("svg", &attributes);
}

/// A coordinate: tenths of a pixel are enough.
fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn line(html: &mut Html, class: &str, from: (f64, f64), to: (f64, f64)) {
    let (x1, y1, x2, y2) = (at(from.0), at(from.1), at(to.0), at(to.1));
    html.leaf("line", &[("class", class), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)], "");
}

fn label(html: &mut Html, anchor: &str, x: f64, y: f64, text: &str) {
    html.leaf("text", &[("text-anchor", anchor), ("x", &at(x)), ("y", &at(y))], text);
}

fn rectangle(html: &mut Html, class: &str, corner: (f64, f64), size: (f64, f64), title: &str) {
    let (x, y, width, height) = (at(corner.0), at(corner.1), at(size.0.max(0.0)), at(size.1.max(0.0)));
    html.open("rect", &[("class", class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)]);
    if !title.is_empty() {
        html.leaf("title", &[], title);
    }
    html.close("rect");
}

/// A step of 1, 2 or 5 times a power of ten that divides `range` into at most `most` parts.
fn step(range: f64, most: u32) -> f64 {
    let raw = (range / f64::from(most)).max(1e-9);
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (range, most, expected) in
            [(30.0, 4, 10.0), (0.4, 4, 0.1), (131_072.0, 4, 50_000.0), (1.0, 5, 0.2)]
        {
            assert!((step(range, most) / expected - 1.0).abs() < 1e-9, "{range}: {}", step(range, most));
            assert!(range / step(range, most) <= f64::from(most));
        }
    }
}
