//! What every page has: head, header, footer, and the way a verdict is shown.

use jiff::Timestamp;

use super::View;
use crate::{
    model::{Network, TargetStatus, Verdict},
    web::{html::Html, texts::Language},
};

/// How a target or a platform stands: a verdict, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Judged(Verdict),
    Stale,
    Waiting,
}

impl Standing {
    pub(super) fn of(target: &TargetStatus) -> Self {
        match target.verdict {
            Some(verdict) => Self::Judged(verdict),
            None if target.stale => Self::Stale,
            None => Self::Waiting,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Judged(verdict) => verdict.name(),
            Self::Stale => "stale",
            Self::Waiting => "waiting",
        }
    }

    pub(super) const fn accuses(self) -> bool {
        matches!(self, Self::Judged(verdict) if verdict.accuses())
    }

    /// What a platform shows of its targets: the most serious accusation, else what is slow, else what is known.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Judged(Verdict::Blocked) => 7,
            Self::Judged(Verdict::Frozen) => 6,
            Self::Judged(Verdict::Throttled) => 5,
            Self::Judged(Verdict::Degraded) => 4,
            Self::Judged(Verdict::Normal) => 3,
            Self::Judged(Verdict::Inconclusive) => 2,
            Self::Stale => 1,
            Self::Waiting => 0,
        }
    }

    /// The word in this language.
    pub(super) fn word(self, language: &'static Language) -> &'static str {
        language.text(match self {
            Self::Judged(Verdict::Normal) => "verdict.normal",
            Self::Judged(Verdict::Throttled) => "verdict.throttled",
            Self::Judged(Verdict::Frozen) => "verdict.frozen",
            Self::Judged(Verdict::Blocked) => "verdict.blocked",
            Self::Judged(Verdict::Degraded) => "verdict.degraded",
            Self::Judged(Verdict::Inconclusive) => "verdict.inconclusive",
            Self::Stale => "verdict.stale",
            Self::Waiting => "verdict.waiting",
        })
    }

    fn meaning(self, language: &'static Language) -> &'static str {
        language.text(match self {
            Self::Judged(Verdict::Normal) => "meaning.normal",
            Self::Judged(Verdict::Throttled) => "meaning.throttled",
            Self::Judged(Verdict::Frozen) => "meaning.frozen",
            Self::Judged(Verdict::Blocked) => "meaning.blocked",
            Self::Judged(Verdict::Degraded) => "meaning.degraded",
            Self::Judged(Verdict::Inconclusive) => "meaning.inconclusive",
            Self::Stale => "meaning.stale",
            Self::Waiting => "meaning.waiting",
        })
    }

    /// A shape for each, so that colour is never needed.
    const fn shape(self) -> &'static str {
        match self {
            Self::Judged(Verdict::Normal) => {
                r#"<circle cx="12" cy="12" r="10" class="body"/><path d="M7 12.5l3.5 3.5L17 9" class="mark"/>"#
            }
            Self::Judged(Verdict::Throttled) => {
                r#"<path d="M1.5 4h21L12 22z" class="body"/><path d="M12 7v8m-3-3l3 3 3-3" class="mark"/>"#
            }
            Self::Judged(Verdict::Frozen) => {
                r#"<rect x="2" y="2" width="20" height="20" rx="3" class="body"/><path d="M9 7v10m6-10v10" class="mark"/>"#
            }
            Self::Judged(Verdict::Blocked) => {
                r#"<path d="M7.5 1.5h9l6 6v9l-6 6h-9l-6-6v-9z" class="body"/><path d="M8 8l8 8m0-8l-8 8" class="mark"/>"#
            }
            Self::Judged(Verdict::Degraded) => {
                r#"<path d="M12 1l11 11-11 11L1 12z" class="body"/><path d="M12 7v6m0 3v1" class="mark"/>"#
            }
            Self::Judged(Verdict::Inconclusive) => {
                r#"<circle cx="12" cy="12" r="9.5" class="ring"/><path d="M9 9.5a3 3 0 1 1 3 3v2m0 2.5v.5" class="line"/>"#
            }
            Self::Stale => {
                r#"<circle cx="12" cy="12" r="9.5" class="ring dashed"/><path d="M12 7v5l3 2" class="line"/>"#
            }
            Self::Waiting => {
                r#"<circle cx="12" cy="12" r="9.5" class="ring dashed"/><path d="M7 12h.5m4 0h1m4 0h.5" class="line"/>"#
            }
        }
    }
}

/// Shape and word of a verdict.
pub(super) fn verdict(html: &mut Html, view: &View, standing: Standing) {
    let class = format!("verdict {}", standing.name());
    html.open("span", &[("class", &class), ("title", standing.meaning(view.language))]);
    html.markup(r#"<svg class="shape" viewBox="0 0 24 24" aria-hidden="true">"#);
    html.markup(standing.shape());
    html.markup("</svg>");
    html.leaf("span", &[], standing.word(view.language));
    html.close("span");
}

pub(super) fn head(html: &mut Html, title: &str) {
    html.markup(
        "<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"icon.svg\">\
         <link rel=\"stylesheet\" href=\"style.css\"><script src=\"live.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"60\"></noscript>",
    );
    html.leaf("title", &[], title);
    html.close("head");
}

pub(super) fn header(html: &mut Html, view: &View) {
    let language = view.language;
    html.leaf("a", &[("class", "skip"), ("href", "#main")], view.text("page.skip"));
    html.open("header", &[]);
    if view.emulated {
        html.leaf("p", &[("class", "emulated"), ("role", "note")], view.text("page.emulated"));
    }
    if !view.snapshot.store_writable && view.history.is_some() {
        html.leaf("p", &[("class", "emulated"), ("role", "note")], view.text("page.store_unwritable"));
    }
    html.leaf("a", &[("class", "name"), ("href", &view.href("", &[]))], view.text("page.title"));
    let vantage = vantage(view).unwrap_or_else(|| view.text("page.vantage_unknown").to_owned());
    html.leaf("p", &[("class", "vantage")], &language.fill("page.measured_from", &[("vantage", &vantage)]));
    html.open("nav", &[("aria-label", view.text("page.languages"))]);
    html.open("ul", &[("class", "languages")]);
    for other in Language::all() {
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(view.parameters.id.as_deref().map(|id| ("id", id)));
        query.extend(view.parameters.span.as_deref().map(|span| ("span", span)));
        query.push(("lang", other.code));
        let mut encoded = url::form_urlencoded::Serializer::new(String::new());
        let href = format!("?{}", encoded.extend_pairs(query).finish());
        html.open("li", &[]);
        let mut attributes = vec![("href", href.as_str()), ("lang", other.code), ("hreflang", other.code)];
        if other.code == language.code {
            attributes.push(("aria-current", "true"));
        }
        html.leaf("a", &attributes, other.text("language.name"));
        html.close("li");
    }
    html.close("ul");
    html.close("nav");
    html.close("header");
}

/// Country, operator and network, as far as they are configured.
fn vantage(view: &View) -> Option<String> {
    let vantage = &view.snapshot.vantage;
    let asn = vantage.asn.map(|asn| format!("AS{asn}"));
    let network = vantage.network.map(|network| match network {
        Network::Fixed => view.text("network.fixed").to_owned(),
        Network::Mobile => view.text("network.mobile").to_owned(),
    });
    let parts: Vec<String> =
        [vantage.country.clone(), vantage.operator.clone(), asn, network].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

pub(super) fn footer(html: &mut Html, view: &View) {
    let (language, snapshot) = (view.language, &view.snapshot);
    html.open("footer", &[]);
    html.open("p", &[]);
    html.open("span", &[("id", "updated")]);
    let now = language.moment(snapshot.at);
    html.text(&language.fill("page.updated", &[("time", &now)]));
    html.close("span");
    html.open("span", &[("id", "live"), ("hidden", "")]);
    html.text(" · ");
    html.text(view.text("page.updated_live"));
    html.close("span");
    html.text(" · ");
    let since = language.moment(snapshot.started_at);
    html.text(&language.fill("page.running_since", &[("time", &since)]));
    html.text(" · ");
    let remaining = language.size(snapshot.budget.remaining_bytes as f64);
    let hour = language.size(snapshot.budget.bytes_per_hour as f64);
    html.text(&language.fill("page.budget", &[("remaining", &remaining), ("hour", &hour)]));
    html.close("p");
    html.open("p", &[]);
    html.text(view.text("page.footer"));
    html.text(": ");
    html.leaf("a", &[("href", "metrics")], view.text("page.metrics"));
    html.text(" · ");
    html.leaf("a", &[("href", "api/v1/status")], view.text("page.status_json"));
    html.close("p");
    html.close("footer");
}

/// The way back to the first page.
pub(super) fn back(html: &mut Html, view: &View) {
    html.open("p", &[("class", "back")]);
    html.leaf("a", &[("href", &view.href("", &[]))], view.text("page.back"));
    html.close("p");
}

/// A moment, with how long ago it was; scripts put it into the reader's own time.
pub(super) fn time(html: &mut Html, view: &View, at: Timestamp) {
    let (machine, people) = (at.to_string(), view.language.moment(at));
    html.leaf(
        "time",
        &[("datetime", &machine), ("title", &people)],
        &view.language.ago(at, view.snapshot.at),
    );
}

/// The moment itself.
pub(super) fn moment(html: &mut Html, view: &View, at: Timestamp) {
    html.leaf("time", &[("datetime", &at.to_string()), ("dir", "auto")], &view.language.moment(at));
}

/// A term and its description in a list of them; nothing where nothing is known.
pub(super) fn entry(html: &mut Html, term: &str, description: Option<&str>) {
    if let Some(description) = description {
        html.open("div", &[]);
        html.leaf("dt", &[], term);
        html.leaf("dd", &[], description);
        html.close("div");
    }
}
