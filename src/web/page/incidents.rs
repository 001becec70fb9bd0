//! Incidents: a strip of bars over the last month, and the same as a table.

use jiff::{SignedDuration, Timestamp};

use super::{View, evidence, parts, parts::Standing};
use crate::{
    model::TargetId,
    web::{chart, history::PastIncident, html::Html},
};

/// How far the strip looks back.
const SPAN: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Most incidents that are listed; the rest is in the API and the export.
const LISTED_MAX: usize = 40;

/// What the table says of an incident.
const COLUMNS: [&str; 8] = [
    "label.verdict",
    "label.onset",
    "label.end",
    "label.mechanism",
    "label.share",
    "label.tests",
    "label.false_alarm",
    "label.exchanges",
];

/// The incidents of one target or of all; nothing where there is no history.
pub(super) fn section(html: &mut Html, view: &View, target: Option<&TargetId>) {
    if view.history.is_none() {
        return;
    }
    html.open("section", &[("aria-labelledby", "incidents")]);
    html.leaf("h2", &[("id", "incidents")], view.text("label.incidents"));
    let now = view.snapshot.at;
    let since = now.checked_sub(SPAN).unwrap_or(Timestamp::MIN);
    if let Some(mut found) = view.ask(html, |history| history.incidents(target, since)) {
        found.truncate(LISTED_MAX);
        if found.is_empty() {
            html.leaf("p", &[("class", "note")], view.text("page.nothing_yet"));
        } else {
            let bars: Vec<chart::Bar> = found
                .iter()
                .map(|past| chart::Bar {
                    row: past.target.as_str(),
                    class: past.incident.verdict.name(),
                    from: past.incident.onset,
                    until: past.incident.end,
                })
                .collect();
            chart::strip(html, view.language, view.text("label.incidents"), &bars, [since, now]);
            table(html, view, &found);
        }
    }
    html.close("section");
}

fn table(html: &mut Html, view: &View, incidents: &[PastIncident]) {
    html.open(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-labelledby", "incidents")],
    );
    // On a phone each incident is a block of lines, and its cells say what they are.
    html.open("table", &[("class", "blocks"), ("role", "table")]);
    html.markup("<thead><tr>");
    for key in ["label.endpoint"].into_iter().chain(COLUMNS) {
        html.leaf("th", &[("scope", "col")], view.text(key));
    }
    html.markup("</tr></thead><tbody>");
    for past in incidents {
        row(html, view, past);
    }
    html.markup("</tbody></table>");
    html.close("div");
}

fn row(html: &mut Html, view: &View, past: &PastIncident) {
    let (language, incident) = (view.language, &past.incident);
    html.open("tr", &[("role", "row")]);
    html.open("th", &[("scope", "row")]);
    let href = view.href("target", &[("id", past.target.as_str())]);
    html.leaf("a", &[("href", &href), ("dir", "ltr")], past.target.as_str());
    html.close("th");
    for column in COLUMNS {
        let class = if column == "label.mechanism" { "words" } else { "" };
        html.open("td", &[("role", "cell"), ("class", class), ("data-label", view.text(column))]);
        match column {
            "label.verdict" => parts::verdict(html, view, Standing::Judged(incident.verdict)),
            "label.onset" => parts::moment(html, view, incident.onset),
            "label.end" => match incident.end {
                Some(end) => parts::moment(html, view, end),
                None => html.text(view.text("label.ongoing")),
            },
            "label.mechanism" => {
                html.text(past.mechanism.map_or("–", |known| evidence::mechanism(language, known)));
            }
            "label.share" => html.text(&language.percent(incident.share)),
            "label.tests" => html.text(&language.number(incident.tests as f64, 0)),
            "label.false_alarm" => html.text(&chance(view, incident.false_alarm_bound)),
            _ => evidence_of(html, view, past),
        }
        html.close("td");
    }
    html.close("tr");
}

/// A few of the exchanges that it rests on.
fn evidence_of(html: &mut Html, view: &View, past: &PastIncident) {
    html.open("span", &[]);
    for (index, id) in past.exchanges.iter().take(3).enumerate() {
        let name = view.language.number(index as f64 + 1.0, 0);
        let label = format!("{} {name}", view.text("label.exchange"));
        let href = view.href("exchange", &[("id", id)]);
        html.leaf("a", &[("href", &href), ("aria-label", &label)], &name);
        html.text(" ");
    }
    html.close("span");
}

/// A probability as people read small ones.
pub(super) fn chance(view: &View, bound: f64) -> String {
    let language = view.language;
    if bound >= 0.1 {
        language.percent(bound.min(1.0))
    } else if bound > 1e-9 {
        format!("1 : {}", language.number((1.0 / bound).floor(), 0))
    } else {
        format!("< 1 : {}", language.number(1e9, 0))
    }
}
