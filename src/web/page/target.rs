//! One target: the sentence, the evidence, the curves that convince, history, incidents, exchanges.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    Page, View, evidence, finding, incidents,
    parts::{self, Standing},
};
use crate::{
    model::{Measurement, Phase, Quantiles, TargetId, TargetStatus, Verdict},
    web::{
        chart::{self, Line},
        history::Bin,
        html::Html,
    },
};

/// Exchanges that are listed.
const EXCHANGES_LISTED: usize = 30;

/// A span of the history.
struct Span {
    /// In addresses.
    name: &'static str,
    text: &'static str,
    minutes: i64,
    bins: usize,
}

/// The spans of the history. Bins are multiples of the usual five minutes.
const SPANS: [Span; 4] = [
    Span { name: "hour", text: "label.hour", minutes: 60, bins: 12 },
    Span { name: "day", text: "label.day", minutes: 24 * 60, bins: 96 },
    Span { name: "week", text: "label.week", minutes: 7 * 24 * 60, bins: 84 },
    Span { name: "month", text: "label.month", minutes: 30 * 24 * 60, bins: 120 },
];

/// Where it is measured every few seconds, as in the demonstration, a day would show it as one point.
const QUICK: Span = Span { name: "minutes", text: "label.ten_minutes", minutes: 10, bins: 60 };
const QUICK_INTERVAL_MAX: Duration = Duration::from_secs(20);

pub(super) fn page(view: &View) -> Page {
    let Some(id) = view.parameters.id.as_deref().map(TargetId::new) else { return Page::Missing };
    let Some(target) = view.snapshot.targets.iter().find(|target| target.id == id) else {
        return Page::Missing;
    };
    let mut html = Html::default();
    parts::back(&mut html, view);
    html.leaf("h1", &[("dir", "ltr")], target.id.as_str());
    verdict(&mut html, view, target);
    curves(&mut html, view, target);
    history(&mut html, view, target);
    incidents::section(&mut html, view, Some(&target.id));
    for known in &target.findings {
        finding::section(&mut html, view, known);
    }
    phases(&mut html, view, target);
    exchanges(&mut html, view, target);
    Page::Found(format!("{} · {}", target.id, view.text("page.title")), html)
}

fn verdict(html: &mut Html, view: &View, target: &TargetStatus) {
    let language = view.language;
    let standing = Standing::of(target);
    let basis = target.basis.as_ref().map(|known| known.comparison);
    html.open("section", &[("class", "verdict-panel"), ("aria-label", view.text("label.verdict"))]);
    parts::verdict(html, view, standing);
    if let (Standing::Judged(_), Some(known)) = (standing, &target.basis) {
        let said = evidence::sentence(view, target.id.as_str(), known.comparison, &known.finding);
        html.leaf("p", &[("class", "sentence")], &said);
        // Why there is no answer, in a sentence; all of the reasons are further below.
        let unclear = matches!(known.finding.verdict, Verdict::Inconclusive | Verdict::Degraded);
        if let Some(doubt) = known.finding.caveats.first().filter(|_| unclear) {
            html.leaf("p", &[("class", "note")], &evidence::caveat(language, doubt));
        }
    }
    html.open("dl", &[("class", "facts")]);
    if let Some(since) = target.since {
        html.open("div", &[]);
        html.leaf("dt", &[], view.text("label.since"));
        html.open("dd", &[]);
        parts::moment(html, view, since);
        html.text(" (");
        parts::time(html, view, since);
        html.text(")");
        html.close("dd");
        html.close("div");
    }
    if let Some(known) = &target.basis {
        evidence::sureness(html, view, known.comparison, &known.finding);
    }
    parts::entry(html, view.text("label.host"), Some(&target.host));
    parts::entry(html, view.text("label.interval"), Some(&language.duration(target.effective_interval)));
    if let Some(at) = target.last_exchange_at {
        html.open("div", &[]);
        html.leaf("dt", &[], view.text("label.last_exchange"));
        html.open("dd", &[]);
        parts::time(html, view, at);
        html.close("dd");
        html.close("div");
    }
    html.close("dl");
    // The verdict rests on the finding of this comparison, which has a section of its own below.
    if let Some(known) = target.findings.iter().find(|known| Some(known.comparison) == basis) {
        html.open("p", &[]);
        html.leaf("a", &[("href", &finding::anchor(known.comparison))], view.text("label.see_evidence"));
        html.close("p");
    }
    html.close("section");
}

/// The picture that convinces.
fn curves(html: &mut Html, view: &View, target: &TargetStatus) {
    if view.history.is_none() {
        return;
    }
    html.open("section", &[("aria-labelledby", "curves")]);
    html.leaf("h2", &[("id", "curves")], view.text("label.curves"));
    html.leaf("p", &[("class", "note")], view.text("label.curves_note"));
    if let Some(latest) = view.ask(html, |history| history.latest(&target.id)) {
        let both = [latest.good.as_ref(), latest.bad.as_ref()];
        let scale = chart::CurveScale::of(both.into_iter().flatten());
        html.open("div", &[("class", "pair")]);
        for (exchange, title, none) in
            [(both[0], "label.last_good", "curve.none_good"), (both[1], "label.last_bad", "curve.none_bad")]
        {
            html.open("figure", &[]);
            html.open("figcaption", &[]);
            html.leaf("strong", &[], view.text(title));
            if let Some(exchange) = exchange {
                html.text(" ");
                let href = view.href("exchange", &[("id", &exchange.id)]);
                html.open("a", &[("href", &href)]);
                parts::moment(html, view, exchange.started_at);
                html.close("a");
                html.leaf("p", &[], &chart::describe(view.language, exchange));
            }
            html.close("figcaption");
            match exchange {
                Some(exchange) => chart::curve(html, view.language, view.text(title), exchange, scale),
                None => html.leaf("p", &[("class", "note")], view.text(none)),
            }
            html.close("figure");
        }
        html.close("div");
    }
    html.close("section");
}

fn history(html: &mut Html, view: &View, target: &TargetStatus) {
    html.open("section", &[("aria-labelledby", "history")]);
    html.leaf("h2", &[("id", "history")], view.text("label.history"));
    let quick = (target.effective_interval <= QUICK_INTERVAL_MAX).then_some(&QUICK);
    let asked = view.parameters.span.as_deref();
    let shown = quick.into_iter().chain(&SPANS).find(|span| asked == Some(span.name));
    let shown = shown.or(quick).unwrap_or(&SPANS[1]);
    html.open("nav", &[("aria-label", view.text("label.span"))]);
    html.open("ul", &[("class", "spans")]);
    for span in quick.into_iter().chain(&SPANS) {
        let query = [("id", target.id.as_str()), ("span", span.name)];
        let href = format!("{}#history", view.href("target", &query));
        let mut attributes = vec![("href", href.as_str())];
        if span.name == shown.name {
            attributes.push(("aria-current", "true"));
        }
        html.open("li", &[]);
        html.leaf("a", &attributes, view.text(span.text));
        html.close("li");
    }
    html.close("ul");
    html.close("nav");
    let now = view.snapshot.at;
    let from = now.checked_sub(SignedDuration::from_mins(shown.minutes)).unwrap_or(Timestamp::MIN);
    if let Some(found) = view.ask(html, |history| history.series(&target.id, [from, now], shown.bins)) {
        html.open("div", &[("class", "pair")]);
        charts(html, view, &found, [from, now]);
        html.close("div");
        download(html, view, &target.id, from);
    }
    html.close("section");
}

fn charts(html: &mut Html, view: &View, bins: &[Bin], span: [Timestamp; 2]) {
    let language = view.language;
    // In bits, so that the axis has round numbers.
    let bits = |bytes: Option<f64>| bytes.map(|bytes| bytes * 8.0);
    let subject = bins.iter().map(|bin| bits(bin.goodput_bytes_per_second)).collect();
    let control = bins.iter().map(|bin| bits(bin.control_goodput_bytes_per_second)).collect();
    let lines = [
        Line { name: view.text("label.this_target"), class: "a", values: subject },
        Line { name: view.text("label.the_control"), class: "b", values: control },
    ];
    let shades: Vec<Option<&str>> = bins
        .iter()
        .map(|bin| bin.verdict.filter(|verdict| verdict.accuses()).map(crate::model::Verdict::name))
        .collect();
    chart::lines(html, language, view.text("label.goodput_over_time"), &lines, &shades, span, |bits| {
        language.rate(bits / 8.0)
    });
    let lines = Phase::ALL.map(|phase| Line {
        name: phase_text(view, phase),
        class: ["p1", "p2", "p3", "p4", "p5"][phase as usize],
        values: bins.iter().map(|bin| bin.phases_s[phase as usize]).collect(),
    });
    let duration =
        |value: f64| language.duration(std::time::Duration::try_from_secs_f64(value).unwrap_or_default());
    chart::lines(html, language, view.text("label.phases_over_time"), &lines, &shades, span, duration);
}

fn download(html: &mut Html, view: &View, target: &TargetId, from: Timestamp) {
    html.open("p", &[("class", "download")]);
    html.text(view.text("label.download"));
    html.text(": ");
    for format in crate::web::history::ExportFormat::ALL {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("target", target.as_str());
        query.append_pair("from", &from.to_string());
        query.append_pair("format", format.name());
        let href = format!("api/v1/export?{}", query.finish());
        html.leaf("a", &[("href", &href), ("download", "")], format.name());
        html.text(" ");
    }
    html.close("p");
}

fn phases(html: &mut Html, view: &View, target: &TargetStatus) {
    if target.phases.is_empty() {
        return;
    }
    let language = view.language;
    html.open("section", &[("aria-labelledby", "phases")]);
    html.leaf("h2", &[("id", "phases")], view.text("label.phases"));
    html.leaf("p", &[("class", "note")], view.text("label.phases_note"));
    html.open(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-labelledby", "phases")],
    );
    html.open("table", &[]);
    html.markup("<thead><tr>");
    for key in ["label.phase", "label.median", "label.p90", "label.p99", "label.longest", "label.count"] {
        html.leaf("th", &[("scope", "col")], view.text(key));
    }
    html.markup("</tr></thead><tbody>");
    let mut row = |name: &str, quantiles: &Quantiles, show: &dyn Fn(f64) -> String| {
        html.open("tr", &[]);
        html.leaf("th", &[("scope", "row")], name);
        for value in [quantiles.p50, quantiles.p90, quantiles.p99, quantiles.max] {
            html.leaf("td", &[], &show(value));
        }
        html.leaf("td", &[], &language.number(quantiles.count as f64, 0));
        html.close("tr");
    };
    for known in &target.phases {
        let duration =
            |value: f64| language.duration(std::time::Duration::try_from_secs_f64(value).unwrap_or_default());
        row(phase_text(view, known.phase), &known.quantiles, &duration);
    }
    if let Some(goodput) = &target.goodput {
        row(view.text("label.goodput"), goodput, &|value| language.rate(value));
    }
    html.markup("</tbody></table>");
    html.close("div");
    html.close("section");
}

pub(super) fn phase_text(view: &View, phase: Phase) -> &'static str {
    view.text(match phase {
        Phase::Resolve => "phase.resolve",
        Phase::Connect => "phase.connect",
        Phase::Tls => "phase.tls",
        Phase::Processing => "phase.processing",
        Phase::Transfer => "phase.transfer",
    })
}

fn exchanges(html: &mut Html, view: &View, target: &TargetStatus) {
    if view.history.is_none() {
        return;
    }
    html.open("section", &[("aria-labelledby", "exchanges")]);
    html.leaf("h2", &[("id", "exchanges")], view.text("label.exchanges"));
    let found = view.ask(html, |history| history.exchanges(&target.id, EXCHANGES_LISTED)).unwrap_or_default();
    if !found.is_empty() {
        html.open(
            "div",
            &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-labelledby", "exchanges")],
        );
        html.open("table", &[]);
        html.markup("<thead><tr>");
        for key in ["label.time", "label.role", "label.result"] {
            html.leaf("th", &[("scope", "col")], view.text(key));
        }
        // A phone has no room for these; they are a click away.
        for key in ["label.name_shown", "label.duration", "label.bytes"] {
            html.leaf("th", &[("scope", "col"), ("class", "roomy")], view.text(key));
        }
        html.markup("</tr></thead><tbody>");
        for measurement in &found {
            exchange_row(html, view, measurement);
        }
        html.markup("</tbody></table>");
        html.close("div");
    }
    html.close("section");
}

fn exchange_row(html: &mut Html, view: &View, measurement: &Measurement) {
    let exchange = &measurement.exchange;
    html.open("tr", &[]);
    html.open("th", &[("scope", "row")]);
    html.open("a", &[("href", &view.href("exchange", &[("id", &exchange.id)]))]);
    parts::moment(html, view, exchange.started_at);
    html.close("a");
    html.close("th");
    html.leaf("td", &[], super::exchange::role(view, exchange.role));
    html.leaf("td", &[("class", "words")], &super::exchange::outcome(view, exchange));
    html.leaf("td", &[("class", "roomy"), ("dir", "ltr")], &exchange.name);
    html.leaf("td", &[("class", "roomy")], &view.language.duration(exchange.duration));
    html.leaf("td", &[("class", "roomy")], &view.language.size(exchange.bytes as f64));
    html.close("tr");
}
