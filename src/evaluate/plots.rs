//! Three pictures: false alarms against recall, seconds to the verdict, bytes spent.

use std::{fmt::Write as _, io, path::Path};

use super::{corpus::Class, measure::Evaluation, outcome::Outcome};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 350.0;
const COLOURS: [&str; 4] = ["#0b6e4f", "#b5446e", "#3d5a98", "#c47f17"];

/// A line of a plot: its name and its points, each a share of width and height.
type Line = (String, Vec<(f64, f64)>);

/// What a rule makes of a test.
type Score<'a> = &'a dyn Fn(&Outcome) -> f64;

/// Which tests belong together.
type Group = fn(&Outcome) -> bool;

/// What the pictures are called.
pub const NAMES: [&str; 3] = ["roc.svg", "delay.svg", "bytes.svg"];

/// Writes the pictures into a directory.
pub fn write(evaluation: &Evaluation, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let all = &evaluation.outcomes;
    let pictures = [
        roc(all),
        spent(all, "seconds to the verdict", |one| one.seconds, 1.0, 1_000.0),
        spent(all, "bytes spent", |one| one.bytes as f64, 1e4, 1e8),
    ];
    NAMES.iter().zip(pictures).try_for_each(|(name, picture)| std::fs::write(directory.join(name), picture))
}

/// Recall of interference (slowed 2.5-fold or more, frozen, blocked) over the share of false alarms, as the threshold
/// moves.
fn roc(all: &[Outcome]) -> String {
    let is_positive = |one: &Outcome| match one.class {
        Class::Frozen | Class::Blocked => true,
        class if class.is_negative() => false,
        Class::Patchy | Class::ConnectionLimit => false,
        _ => one.true_slowdown().is_some_and(|slowdown| slowdown >= 2.5),
    };
    let ours = |one: &Outcome| if one.verdict.accuses() { 1e9 } else { one.evidence.e_value };
    let scores: [(&str, Score<'_>); 3] = [
        ("throttlescope, by e-value", &ours),
        ("Wehe's area", &|one| one.rivals.area.unwrap_or(-1.0)),
        ("ratio of goodputs", &|one| one.rivals.ratio.unwrap_or(0.0)),
    ];
    let lines = scores.iter().map(|(name, score)| {
        let of = |wanted: bool| -> Vec<f64> {
            all.iter()
                .filter(|one| if wanted { is_positive(one) } else { one.class.is_negative() })
                .map(score)
                .collect()
        };
        ((*name).to_owned(), curve(&of(true), &of(false)))
    });
    let lines: Vec<Line> = lines.collect();
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    draw("Interference found over false alarms", "false alarms", &lines, &percent)
}

/// Shares of positives and negatives at or above each threshold.
fn curve(positives: &[f64], negatives: &[f64]) -> Vec<(f64, f64)> {
    let mut thresholds: Vec<f64> = positives.iter().chain(negatives).copied().collect();
    thresholds.sort_by(|one, other| other.total_cmp(one));
    thresholds.dedup();
    let above = |values: &[f64], least: f64| {
        values.iter().filter(|&&value| value >= least).count() as f64 / values.len().max(1) as f64
    };
    let points = thresholds.iter().map(|&least| (above(negatives, least), above(positives, least)));
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

/// Shares of tests that spent at most so much, on a logarithmic scale.
fn spent(all: &[Outcome], what: &str, of: impl Fn(&Outcome) -> f64, least: f64, most: f64) -> String {
    let place = |value: f64| (value.max(least) / least).ln() / (most / least).ln();
    let groups: [(&str, Group); 4] = [
        ("clean", |one| one.class == Class::Clean),
        ("other negatives", |one| one.class.is_negative() && one.class != Class::Clean),
        ("throttled", |one| {
            matches!(one.class, Class::Policed | Class::Shaped | Class::Lossy | Class::Handshake)
        }),
        ("frozen or blocked", |one| matches!(one.class, Class::Frozen | Class::Blocked)),
    ];
    let lines = groups.iter().map(|(name, belongs)| {
        let mut values: Vec<f64> = all.iter().filter(|one| belongs(one)).map(&of).collect();
        values.sort_by(f64::total_cmp);
        let whole = values.len().max(1) as f64;
        let points =
            values.iter().enumerate().map(|(index, &value)| (place(value), (index + 1) as f64 / whole));
        ((*name).to_owned(), points.collect())
    });
    let lines: Vec<Line> = lines.collect();
    let label = |share: f64| {
        let value = least * (most / least).powf(share);
        if value >= 1e6 {
            format!("{:.1} M", value / 1e6)
        } else if value >= 1e4 {
            format!("{:.0} k", value / 1e3)
        } else {
            format!("{value:.0}")
        }
    };
    draw(&format!("Share of tests by {what}"), what, &lines, &label)
}

fn draw(title: &str, below: &str, lines: &[Line], label: &dyn Fn(f64) -> String) -> String {
    let x = |share: f64| LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT);
    let y = |share: f64| BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{title}</text>\n"
    );
    for step in 0..=5 {
        let share = f64::from(step) / 5.0;
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{RIGHT}M{1:.1} {TOP}V{BOTTOM}\" stroke=\"#ddd\"/>\n\
             <text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{4:.0} %</text>\n\
             <text x=\"{1:.1}\" y=\"{5}\" text-anchor=\"middle\">{6}</text>\n",
            y(share),
            x(share),
            LEFT - 6.0,
            y(share) + 4.0,
            share * 100.0,
            BOTTOM + 18.0,
            label(share),
        );
    }
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for (n, (at, height)) in points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if n == 0 { "M" } else { "L" }, x(*at), y(*height));
        }
        let key = BOTTOM - 10.0 - 16.0 * (lines.len() - 1 - index) as f64;
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{key}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>\n",
            RIGHT - 8.0,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{below}</text>\n</svg>\n",
        f64::midpoint(LEFT, RIGHT),
        HEIGHT - 8.0
    );
    svg
}
