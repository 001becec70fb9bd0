//! The status page: HTML written on the server, readable without JavaScript, from one snapshot and the history.

mod evidence;
mod exchange;
mod finding;
mod incidents;
mod overview;
mod parts;
mod target;

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, VARY},
    },
    response::{Html as HtmlBody, IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    history::{History, HistoryError},
    html::Html,
    routes::{Sentence, Shared},
    texts::Language,
};
use crate::model::Snapshot;

/// The query of every page.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Parameters {
    lang: Option<String>,
    id: Option<String>,
    span: Option<String>,
}

/// All that a page is written from.
pub(super) struct View {
    pub(super) language: &'static Language,
    /// The language was asked for in the address, so that links carry it on.
    pub(super) sticky: bool,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) history: Option<Arc<dyn History>>,
    pub(super) emulated: bool,
    pub(super) parameters: Parameters,
}

/// What a page came to.
pub(super) enum Page {
    /// Its main part and its title.
    Found(String, Html),
    /// There is no such thing.
    Missing,
}

/// `/`.
pub(super) async fn index(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Sentence> {
    respond(&shared, parameters, &headers, overview::page).await
}

/// `/target?id=`.
pub(super) async fn target(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Sentence> {
    respond(&shared, parameters, &headers, target::page).await
}

/// `/exchange?id=`.
pub(super) async fn exchange(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Sentence> {
    respond(&shared, parameters, &headers, exchange::page).await
}

async fn respond(
    shared: &Shared,
    parameters: Parameters,
    headers: &HeaderMap,
    write: fn(&View) -> Page,
) -> Result<Response, Sentence> {
    let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let view = View {
        language: Language::choose(parameters.lang.as_deref(), accepted),
        sticky: parameters.lang.is_some(),
        snapshot: Arc::clone(&shared.snapshots.borrow()),
        history: shared.history.clone(),
        emulated: shared.emulated,
        parameters,
    };
    let language = view.language.code;
    let (status, html) = shared.render(move || document(&view, write(&view))).await?;
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_LANGUAGE, language),
        (VARY, "accept-language, accept-encoding"),
    ];
    Ok((status, headers, HtmlBody(html)).into_response())
}

/// The main part within head, header and footer.
fn document(view: &View, page: Page) -> (StatusCode, String) {
    let (status, title, main) = match page {
        Page::Found(title, main) => (StatusCode::OK, title, main),
        Page::Missing => {
            let mut main = Html::default();
            main.leaf("h1", &[], view.language.text("page.not_found"));
            parts::back(&mut main, view);
            (StatusCode::NOT_FOUND, view.language.text("page.title").to_owned(), main)
        }
    };
    let mut html = Html::default();
    html.markup("<!doctype html>\n");
    html.open("html", &[("lang", view.language.code), ("dir", view.language.direction())]);
    parts::head(&mut html, &title);
    html.open("body", &[]);
    parts::header(&mut html, view);
    html.open("main", &[("id", "main"), ("tabindex", "-1")]);
    let mut text = html.finish();
    text.push_str(&main.finish());
    let mut html = Html::default();
    html.close("main");
    parts::footer(&mut html, view);
    html.close("body");
    html.close("html");
    text.push_str(&html.finish());
    text.push('\n');
    (status, text)
}

impl View {
    fn text(&self, key: &'static str) -> &'static str {
        self.language.text(key)
    }

    /// An address within the page: the language goes along where it was asked for.
    fn href(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut encoded = url::form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(query);
        if self.sticky {
            encoded.append_pair("lang", self.language.code);
        }
        let encoded = encoded.finish();
        // `.` is the folder of the page itself: the root, also behind a proxy's prefix.
        let path = if path.is_empty() { "." } else { path };
        if encoded.is_empty() { path.to_owned() } else { format!("{path}?{encoded}") }
    }

    /// Asks the history; writes why when there is no answer.
    fn ask<T>(
        &self,
        html: &mut Html,
        question: impl FnOnce(&dyn History) -> Result<T, HistoryError>,
    ) -> Option<T> {
        let Some(history) = &self.history else {
            html.leaf("p", &[("class", "note")], self.text("page.no_history"));
            return None;
        };
        match question(history.as_ref()) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let problem = error.to_string();
                html.leaf(
                    "p",
                    &[("class", "note")],
                    &self.language.fill("page.history_unreadable", &[("problem", &problem)]),
                );
                None
            }
        }
    }
}

/// A file of the page.
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/style.css"))
}

/// The script that brings updates; the page works without it.
pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/live.js"))
}

/// The picture in the browser's tab.
pub(super) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/icon.svg"))
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")], content).into_response()
}
