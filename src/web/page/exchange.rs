//! One exchange: phases, curve, and everything that was noted of it.

use super::{Page, View, evidence, parts, target::phase_text};
use crate::{
    model::{Exchange, Measurement, Phase, Role},
    web::{chart, html::Html},
};

pub(super) fn page(view: &View) -> Page {
    let (Some(id), Some(history)) = (view.parameters.id.as_deref(), &view.history) else {
        return Page::Missing;
    };
    let measurement = match history.exchange(id) {
        Ok(Some(measurement)) => measurement,
        Ok(None) => return Page::Missing,
        Err(error) => {
            let mut html = Html::default();
            let problem = error.to_string();
            html.leaf("p", &[], &view.language.fill("page.history_unreadable", &[("problem", &problem)]));
            return Page::Found(view.text("page.title").to_owned(), html);
        }
    };
    let mut html = Html::default();
    html.open("p", &[("class", "back")]);
    let href = view.href("target", &[("id", measurement.subject.as_str())]);
    html.leaf("a", &[("href", &href), ("dir", "ltr")], measurement.subject.as_str());
    html.close("p");
    let exchange = &measurement.exchange;
    html.open("h1", &[]);
    html.text(view.text("label.exchange"));
    html.text(" ");
    parts::moment(&mut html, view, exchange.started_at);
    html.close("h1");
    html.leaf("p", &[("class", "sentence")], &outcome(view, exchange));
    phases(&mut html, view, exchange);
    html.open("section", &[("aria-labelledby", "curve")]);
    html.leaf("h2", &[("id", "curve")], view.text("label.curve"));
    html.leaf("p", &[], &chart::describe(view.language, exchange));
    chart::curve(
        &mut html,
        view.language,
        view.text("label.curve"),
        exchange,
        chart::CurveScale::of([exchange]),
    );
    html.close("section");
    notes(&mut html, view, &measurement);
    Page::Found(format!("{} · {}", exchange.id, view.text("page.title")), html)
}

/// How it ended, in words.
pub(super) fn outcome(view: &View, exchange: &Exchange) -> String {
    match &exchange.failure {
        Some(failure) => view.language.fill(
            "outcome.failed",
            &[
                ("kind", evidence::failure(view.language, failure.kind)),
                ("phase", phase_text(view, failure.phase)),
            ],
        ),
        None if exchange.censored => view.text("outcome.cut_short").to_owned(),
        None => view.text("outcome.complete").to_owned(),
    }
}

pub(super) fn role(view: &View, role: Role) -> &'static str {
    view.text(match role {
        Role::Subject => "role.subject",
        Role::Control => "role.control",
        Role::Canary => "role.canary",
    })
}

fn phases(html: &mut Html, view: &View, exchange: &Exchange) {
    html.open("section", &[("aria-labelledby", "phases")]);
    html.leaf("h2", &[("id", "phases")], view.text("label.phases"));
    let spans = Phase::ALL.map(|phase| (phase_text(view, phase), exchange.phases.duration(phase)));
    chart::phases(html, view.language, view.text("label.phases"), &spans);
    html.close("section");
}

fn notes(html: &mut Html, view: &View, measurement: &Measurement) {
    let (language, exchange) = (view.language, &measurement.exchange);
    html.open("section", &[("aria-labelledby", "numbers")]);
    html.leaf("h2", &[("id", "numbers")], view.text("label.numbers"));
    html.open("dl", &[("class", "numbers")]);
    let tcp = exchange.tcp.and_then(|tcp| tcp.after_connect().or(tcp.connect));
    let handshake = exchange.tcp.and_then(|tcp| tcp.connect).and_then(|info| info.rtt);
    let count = |value: Option<u32>| value.map(|value| language.number(value.into(), 0));
    let hello = exchange.hello.as_ref().map(|hello| format!("{} B, {}", hello.bytes, hello.ja4));
    for (key, value) in [
        ("label.role", Some(role(view, exchange.role).to_owned())),
        ("label.comparison", Some(evidence::comparison_text(language, measurement.comparison).to_owned())),
        ("label.name_shown", Some(exchange.name.clone())),
        ("label.address", exchange.address.map(|address| address.to_string())),
        ("label.duration", Some(language.duration(exchange.duration))),
        ("label.bytes", Some(language.size(exchange.bytes as f64))),
        ("label.status", exchange.status.map(|status| language.number(status.into(), 0))),
        ("label.http_version", exchange.http_version.clone()),
        ("label.tls_version", exchange.tls_version.clone()),
        ("label.hello", hello),
        ("label.rtt", handshake.map(|rtt| language.duration(rtt))),
        ("label.out_of_order", count(tcp.and_then(|tcp| tcp.received_out_of_order))),
        ("label.retransmits", count(tcp.and_then(|tcp| tcp.retransmits))),
        ("label.lateness", Some(language.duration(exchange.lateness))),
    ] {
        parts::entry(html, view.text(key), value.as_deref());
    }
    html.close("dl");
    html.open("p", &[]);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let href = format!("api/v1/exchange?{}", query.append_pair("id", &exchange.id).finish());
    html.leaf("a", &[("href", &href)], view.text("label.as_json"));
    html.close("p");
    html.close("section");
}
