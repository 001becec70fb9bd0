//! What is answered at which path, and what every answer carries.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{self, HeaderName},
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{api, exposition, history::History, live::Live, page, probe};
use crate::{
    metrics::Metrics,
    model::{Command, Snapshot},
};

/// Scrapes and status documents that are put together at the same time: each takes memory and a core.
const RENDERINGS_MAX: usize = 2;

/// Exports at the same time: each holds a thread for as long as its reader takes.
const EXPORTS_MAX: usize = 2;

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
    pub(super) history: Option<Arc<dyn History>>,
    /// The throttler is our own: every page says so.
    pub(super) emulated: bool,
    pub(super) stop: CancellationToken,
    pub(super) renderings: Arc<Semaphore>,
    pub(super) exports: Arc<Semaphore>,
}

impl Shared {
    /// Permits for what takes a core or a thread for a while.
    pub(super) fn permits() -> [Arc<Semaphore>; 2] {
        [RENDERINGS_MAX, EXPORTS_MAX].map(|permits| Arc::new(Semaphore::new(permits)))
    }

    /// Does work that takes a core for a while where it does not hold up measuring.
    pub(super) async fn render<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Sentence> {
        let unavailable = || sentence(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down.");
        let _permit = self.renderings.acquire().await.map_err(|_| unavailable())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| unavailable())
    }
}

/// All routes.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/target", get(page::target))
        .route("/exchange", get(page::exchange))
        .route("/style.css", get(page::style))
        .route("/live.js", get(page::script))
        .route("/icon.svg", get(page::icon))
        .route("/events", get(api::events))
        .route("/metrics", get(exposition::metrics))
        .route("/probe", get(probe::probe))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/series", get(api::series))
        .route("/api/v1/incidents", get(api::incidents))
        .route("/api/v1/exchange", get(api::exchange))
        .route("/api/v1/export", get(api::export))
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
        sentence(StatusCode::TOO_MANY_REQUESTS, "Too many requests; try again later.").into_response()
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

/// Ready as long as the engine publishes snapshots.
async fn ready(State(shared): State<Shared>) -> Sentence {
    match shared.snapshots.has_changed() {
        Ok(_) => sentence(StatusCode::OK, "Ready."),
        Err(_) => sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring."),
    }
}

async fn reload(State(shared): State<Shared>, headers: HeaderMap) -> Sentence {
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
        Ok(Ok(())) => sentence(StatusCode::OK, "Reloaded."),
        Ok(Err(problem)) => {
            sentence(StatusCode::INTERNAL_SERVER_ERROR, &format!("The old configuration stays: {problem}"))
        }
        Err(_) => sentence(StatusCode::SERVICE_UNAVAILABLE, "Not measuring."),
    }
}

/// Whether a browser says that another site's page made it send this. Tools send no such headers. To an address that is neither
/// loopback nor HTTPS browsers do not send the first.
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let says_so = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let from_elsewhere = |name: HeaderName| {
        headers.get(name).is_some_and(|from| {
            let from = from.to_str().ok().and_then(|from| from.parse::<Uri>().ok());
            from.as_ref().and_then(Uri::authority).map(Authority::as_str) != host
        })
    };
    says_so || from_elsewhere(header::ORIGIN) || from_elsewhere(header::REFERER)
}

/// An answer of one sentence, mostly a refusal.
#[derive(Debug)]
pub(super) struct Sentence {
    status: StatusCode,
    text: String,
}

impl IntoResponse for Sentence {
    fn into_response(self) -> Response {
        (self.status, self.text + "\n").into_response()
    }
}

/// An answer of one sentence.
pub(super) fn sentence(status: StatusCode, text: &str) -> Sentence {
    Sentence { status, text: text.to_owned() }
}
