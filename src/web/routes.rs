//! What is answered at which path, and what every answer carries.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{self, HeaderName},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{exposition, live::Live, page, probe};
use crate::{
    metrics::Metrics,
    model::{Command, Snapshot},
};

/// Scrapes and status documents that are put together at the same time: each takes memory and a core.
const RENDERINGS_MAX: usize = 2;

/// On every answer, unless the configuration says otherwise. No script, style or picture comes from elsewhere or stands
/// in the page itself; nobody frames it.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) metrics: Metrics,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) live: Arc<Live>,
    pub(super) renderings: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        metrics: Metrics,
        commands: mpsc::Sender<Command>,
        live: Arc<Live>,
    ) -> Self {
        Self { snapshots, metrics, commands, live, renderings: Arc::new(Semaphore::new(RENDERINGS_MAX)) }
    }

    /// Does work that takes a core for a while where it does not hold up measuring.
    pub(super) async fn render<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Response> {
        let unavailable = |_| sentence(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down.");
        let _permit = self.renderings.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| unavailable(error.to_string()))
    }
}

/// All routes.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/style.css", get(page::style))
        .route("/metrics", get(exposition::metrics))
        .route("/probe", get(probe::probe))
        .route("/api/v1/status", get(status))
        .route("/-/healthy", get(async || "Healthy.\n"))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .fallback(async || sentence(StatusCode::NOT_FOUND, "There is nothing here; begin at `/`."))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Authentication and rate limit before, security headers after every route.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let config = shared.live.current();
    let mut response = if !shared.live.take(config.rate_limit) {
        sentence(StatusCode::TOO_MANY_REQUESTS, "Too many requests; try again later.")
    } else if config.users.admit(request.headers()).await {
        next.run(request).await
    } else {
        let ask = (header::WWW_AUTHENTICATE, r#"Basic realm="throttlescope", charset="UTF-8""#);
        (StatusCode::UNAUTHORIZED, [ask], "Unauthorized\n").into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.extend(config.headers.clone());
    response
}

/// How things stand, as JSON: the snapshot under a versioned schema.
async fn status(State(shared): State<Shared>) -> Result<Response, Response> {
    #[derive(serde::Serialize)]
    struct Document<'a> {
        schema: &'static str,
        version: &'static str,
        #[serde(flatten)]
        snapshot: &'a Snapshot,
    }
    let snapshot = Arc::clone(&shared.snapshots.borrow());
    let write = move || {
        let (schema, version) = ("throttlescope/status/1", env!("CARGO_PKG_VERSION"));
        serde_json::to_vec(&Document { schema, version, snapshot: &snapshot })
    };
    let body = shared.render(write).await?.map_err(|error| {
        tracing::error!(%error, "cannot write the status");
        sentence(StatusCode::INTERNAL_SERVER_ERROR, "The status cannot be written.")
    })?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// Ready as long as the engine publishes snapshots.
async fn ready(State(shared): State<Shared>) -> Response {
    match shared.snapshots.has_changed() {
        Ok(_) => "Ready.\n".into_response(),
        Err(_) => sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring."),
    }
}

async fn reload(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if is_cross_site(&headers) {
        return sentence(StatusCode::FORBIDDEN, "Another site cannot ask for this.");
    }
    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |outcome| {
        sender.send(outcome).ok();
    });
    if shared.commands.send(Command::Reload { reply }).await.is_err() {
        return sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring.");
    }
    match receiver.await {
        Ok(Ok(())) => "Reloaded.\n".into_response(),
        Ok(Err(problem)) => {
            sentence(StatusCode::INTERNAL_SERVER_ERROR, &format!("The old configuration stays: {problem}"))
        }
        Err(_) => sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring."),
    }
}

/// Whether a browser says that another site's page made it send this. Tools send no such header.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// A one-line answer.
pub(super) fn sentence(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}
