//! The numbers behind one comparison, the reasons for doubt, and the way to repeat it.

use super::{
    View, evidence, incidents,
    parts::{self, Standing},
};
use crate::{
    model::{Comparison, FindingStatus},
    web::html::Html,
};

fn id(comparison: Comparison) -> String {
    format!("evidence-{}", comparison.name())
}

/// Where on its page the evidence by this comparison is.
pub(super) fn anchor(comparison: Comparison) -> String {
    format!("#{}", id(comparison))
}

/// One comparison.
pub(super) fn section(html: &mut Html, view: &View, known: &FindingStatus) {
    let id = id(known.comparison);
    html.open("section", &[("aria-labelledby", &id)]);
    let compared = evidence::comparison_text(view.language, known.comparison);
    html.leaf("h2", &[("id", &id)], &format!("{}: {compared}", view.text("label.evidence")));
    html.open("dl", &[("class", "numbers")]);
    context(html, view, known);
    numbers(html, view, known);
    html.close("dl");
    doubts(html, view, known);
    repeat(html, view, known);
    html.close("section");
}

/// Verdict, time, control.
fn context(html: &mut Html, view: &View, known: &FindingStatus) {
    html.open("div", &[]);
    html.leaf("dt", &[], view.text("label.verdict"));
    html.open("dd", &[]);
    parts::verdict(html, view, Standing::Judged(known.finding.verdict));
    html.close("dd");
    html.close("div");
    html.open("div", &[]);
    html.leaf("dt", &[], view.text("label.judged_at"));
    html.open("dd", &[]);
    parts::moment(html, view, known.at);
    html.close("dd");
    html.close("div");
    let Some(control) = &known.control else { return };
    html.open("div", &[]);
    html.leaf("dt", &[], view.text("role.control"));
    html.open("dd", &[]);
    if view.snapshot.targets.iter().any(|target| target.id == *control) {
        let href = view.href("target", &[("id", control.as_str())]);
        html.leaf("a", &[("href", &href), ("dir", "ltr")], control.as_str());
    } else {
        html.leaf("span", &[("dir", "ltr")], control.as_str());
    }
    html.close("dd");
    html.close("div");
}

fn numbers(html: &mut Html, view: &View, known: &FindingStatus) {
    let (language, evidence) = (view.language, &known.finding.evidence);
    let much = evidence::how_much(language, &known.finding);
    let rate = |value: Option<f64>| value.map(|value| language.rate(value));
    let size = |value: Option<u64>| value.map(|value| language.size(value as f64));
    let mechanism =
        known.finding.mechanism.map(|mechanism| evidence::mechanism(language, mechanism).to_owned());
    let handshake = evidence.handshake_slowdown.map(|ratio| format!("{}×", language.three_digits(ratio)));
    for (key, value) in [
        ("label.how_much", much),
        ("label.mechanism", mechanism),
        ("label.subject_goodput", rate(evidence.subject_goodput_bytes_per_second)),
        ("label.control_goodput", rate(evidence.control_goodput_bytes_per_second)),
        ("label.limit", rate(evidence.limit_bytes_per_second)),
        ("label.burst", size(evidence.burst_bytes)),
        ("label.freeze_after", size(evidence.freeze_after_bytes)),
        ("label.handshake_slowdown", handshake),
        ("label.e_value", Some(language.three_digits(evidence.e_value))),
        ("label.false_alarm", Some(incidents::chance(view, evidence.false_alarm_bound))),
        ("label.pairs", Some(language.number(evidence.pairs.into(), 0))),
        ("label.bytes_used", size(Some(evidence.bytes_used))),
    ] {
        parts::entry(html, view.text(key), value.as_deref());
    }
}

fn doubts(html: &mut Html, view: &View, known: &FindingStatus) {
    if known.finding.caveats.is_empty() {
        return;
    }
    html.leaf("h3", &[], view.text("label.caveats"));
    html.open("ul", &[]);
    for caveat in &known.finding.caveats {
        html.leaf("li", &[], &evidence::caveat(view.language, caveat));
    }
    html.close("ul");
}

/// The command that repeats it, and the exchanges that it rests on.
fn repeat(html: &mut Html, view: &View, known: &FindingStatus) {
    if !known.repeat.is_empty() {
        html.leaf("h3", &[], view.text("label.repeat"));
        html.open("pre", &[("tabindex", "0"), ("dir", "ltr"), ("aria-label", view.text("label.repeat"))]);
        html.leaf("code", &[], &known.repeat);
        html.close("pre");
    }
    if view.history.is_none() || known.exchanges.is_empty() {
        return;
    }
    html.leaf("h3", &[], view.text("label.exchanges"));
    html.open("p", &[]);
    for (index, id) in known.exchanges.iter().enumerate() {
        let number = view.language.number(index as f64 + 1.0, 0);
        let name = format!("{} {number}", view.text("label.exchange"));
        let href = view.href("exchange", &[("id", id)]);
        html.leaf("a", &[("href", &href), ("aria-label", &name)], &number);
        html.text(" ");
    }
    html.close("p");
}
