//! The first page: the answer in one sentence, every platform, the incidents of the last month, the controls.

use std::sync::LazyLock;

use super::{
    Page, View, evidence, incidents,
    parts::{self, Standing},
};
use crate::{
    catalog,
    model::{Role, TargetStatus, Verdict},
    web::html::Html,
};

/// The built-in platforms, for their names and domains.
static BUILTIN: LazyLock<Vec<catalog::Platform>> = LazyLock::new(|| catalog::builtin().platforms);

/// A platform's name for people: the catalogue's, else its id.
fn platform_name(id: &str) -> &str {
    BUILTIN.iter().find(|platform| platform.id == id).map_or(id, |platform| &platform.name)
}

/// The platform of a target: its id's, or the one that owns its name, as with names on a measurement server. Of a name there
/// that no platform owns, the name itself.
fn platform_of(target: &TargetStatus) -> &str {
    let id = target.id.as_str();
    let own = target.id.platform().unwrap_or(id);
    if BUILTIN.iter().any(|platform| platform.id == own) {
        return own;
    }
    let name = id.rsplit('/').next().unwrap_or_default();
    let owner = BUILTIN.iter().find(|platform| platform.owns(name) || platform.owns(&target.host));
    let via = if name.contains('.') { name } else { own };
    owner.map_or(via, |platform| &platform.id)
}

/// The targets of one platform.
struct Platform<'a> {
    id: &'a str,
    targets: Vec<&'a TargetStatus>,
}

impl Platform<'_> {
    /// The target whose standing is the platform's.
    fn speaker(&self) -> Option<&TargetStatus> {
        let rank = |target: &&TargetStatus| Standing::of(target).rank();
        self.targets.iter().copied().reduce(|a, b| if rank(&b) > rank(&a) { b } else { a })
    }

    fn standing(&self) -> Standing {
        self.speaker().map_or(Standing::Waiting, Standing::of)
    }
}

pub(super) fn page(view: &View) -> Page {
    let mut html = Html::default();
    let platforms = platforms(&view.snapshot.targets);
    html.leaf("h1", &[("id", "answer")], &answer(view, &platforms));
    html.open("section", &[("aria-labelledby", "platforms")]);
    html.leaf("h2", &[("id", "platforms"), ("class", "quiet")], view.text("label.platforms"));
    html.open("ul", &[("class", "platforms")]);
    for platform in &platforms {
        card(&mut html, view, platform);
    }
    html.close("ul");
    if platforms.is_empty() {
        html.leaf("p", &[("class", "note")], view.text("page.nothing_yet"));
    }
    html.close("section");
    incidents::section(&mut html, view, None);
    controls(&mut html, view);
    Page::Found(view.text("page.title").to_owned(), html)
}

/// Groups by platform: what accuses first, otherwise in the order of the configuration.
fn platforms(targets: &[TargetStatus]) -> Vec<Platform<'_>> {
    let mut platforms: Vec<Platform> = Vec::new();
    for target in targets.iter().filter(|target| target.role != Role::Control) {
        let id = platform_of(target);
        match platforms.iter_mut().find(|platform| platform.id == id) {
            Some(platform) => platform.targets.push(target),
            None => platforms.push(Platform { id, targets: vec![target] }),
        }
    }
    platforms.sort_by_key(|platform| {
        let standing = platform.standing();
        std::cmp::Reverse(if standing.rank() >= 4 { standing.rank() } else { 0 })
    });
    platforms
}

fn answer(view: &View, platforms: &[Platform]) -> String {
    let language = view.language;
    let accused: Vec<String> = platforms
        .iter()
        .filter(|platform| platform.standing().accuses())
        .map(|platform| platform_name(platform.id).to_owned())
        .collect();
    let count = |which: fn(Verdict) -> bool| {
        let holds =
            |platform: &&Platform| matches!(platform.standing(), Standing::Judged(verdict) if which(verdict));
        platforms.iter().filter(holds).count()
    };
    // Who could not decide has not found that there is nothing.
    let (judged, decided) = (count(|_| true), count(|verdict| verdict != Verdict::Inconclusive));
    match accused.as_slice() {
        [] if judged == 0 => view.text("answer.waiting").to_owned(),
        [] if decided == 0 => view.text("answer.undecided").to_owned(),
        [] if decided < platforms.len() => {
            format!("{} {}", view.text("answer.none"), view.text("answer.unsure"))
        }
        [] => view.text("answer.none").to_owned(),
        [one] => language.fill("answer.one", &[("name", one)]),
        some => {
            let (n, names) = (language.number(some.len() as f64, 0), language.list(some));
            language.fill("answer.some", &[("n", &n), ("names", &names)])
        }
    }
}

fn card(html: &mut Html, view: &View, platform: &Platform) {
    let language = view.language;
    let standing = platform.standing();
    html.open("li", &[("class", "card"), ("data-standing", standing.name())]);
    html.open("h3", &[]);
    html.leaf("span", &[("dir", "auto")], platform_name(platform.id));
    html.close("h3");
    parts::verdict(html, view, standing);
    if let Some(target) = platform.speaker().filter(|_| matches!(standing, Standing::Judged(_))) {
        html.open("dl", &[("class", "facts")]);
        if let Some(since) = target.since {
            html.open("div", &[]);
            html.leaf("dt", &[], view.text("label.since"));
            html.open("dd", &[]);
            parts::time(html, view, since);
            html.close("dd");
            html.close("div");
        }
        if let Some(known) = &target.basis {
            let much = evidence::how_much(language, &known.finding);
            parts::entry(html, view.text("label.how_much"), much.as_deref());
            evidence::sureness(html, view, known.comparison, &known.finding);
        }
        html.close("dl");
    }
    html.open("ul", &[("class", "endpoints")]);
    for target in &platform.targets {
        html.open("li", &[]);
        html.open("a", &[("href", &view.href("target", &[("id", target.id.as_str())]))]);
        parts::verdict(html, view, Standing::of(target));
        html.leaf("span", &[("class", "host"), ("dir", "ltr")], target.id.as_str());
        html.close("a");
        html.close("li");
    }
    html.close("ul");
    html.close("li");
}

fn controls(html: &mut Html, view: &View) {
    let controls: Vec<&TargetStatus> =
        view.snapshot.targets.iter().filter(|target| target.role == Role::Control).collect();
    if controls.is_empty() {
        return;
    }
    html.open("section", &[("aria-labelledby", "controls")]);
    html.leaf("h2", &[("id", "controls")], view.text("label.controls"));
    html.leaf("p", &[("class", "note")], view.text("label.controls_note"));
    html.open(
        "div",
        &[("class", "scroll"), ("tabindex", "0"), ("role", "group"), ("aria-labelledby", "controls")],
    );
    html.open("table", &[]);
    html.markup("<thead><tr>");
    for key in ["label.endpoint", "label.host", "label.goodput_median", "label.last_exchange"] {
        html.leaf("th", &[("scope", "col")], view.text(key));
    }
    html.markup("</tr></thead><tbody>");
    for control in controls {
        html.open("tr", &[]);
        html.open("th", &[("scope", "row")]);
        let href = view.href("target", &[("id", control.id.as_str())]);
        html.leaf("a", &[("href", &href), ("dir", "ltr")], control.id.as_str());
        html.close("th");
        html.leaf("td", &[("dir", "ltr")], &control.host);
        let goodput = control.goodput.map_or_else(|| "–".to_owned(), |known| view.language.rate(known.p50));
        html.leaf("td", &[], &goodput);
        html.open("td", &[]);
        match control.last_exchange_at {
            Some(at) => parts::time(html, view, at),
            None => html.text("–"),
        }
        html.close("td");
        html.close("tr");
    }
    html.markup("</tbody></table>");
    html.close("div");
    html.close("section");
}
