//! The JSON API: status, series, incidents, single exchanges, exports, and the stream of updates.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::sleep};

use super::{
    history::{ExportFormat, ExportRequest, History, HistoryError},
    routes::{Sentence, Shared, sentence},
};
use crate::model::{Snapshot, TargetId};

/// Between two updates of a page: nobody reads faster, and rounds may end many times a second.
const UPDATE_GAP: Duration = Duration::from_secs(2);

/// Most bins of a series.
const BINS_MAX: usize = 1000;

/// Bytes of an export that are put together before they are sent.
const EXPORT_CHUNK: usize = 64 * 1024;

/// Chunks of an export that may wait for a slow reader; the export then waits as well.
const EXPORT_CHUNKS_WAITING: usize = 4;

/// A document with its version.
#[derive(Serialize)]
struct Document<T> {
    schema: &'static str,
    version: &'static str,
    #[serde(flatten)]
    content: T,
}

/// `/api/v1/status`: the snapshot.
pub(super) async fn status(State(shared): State<Shared>) -> Result<Response, Sentence> {
    struct Status(Arc<Snapshot>);
    impl Serialize for Status {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.as_ref().serialize(serializer)
        }
    }
    let content = Status(Arc::clone(&shared.snapshots.borrow()));
    json(&shared, "throttlescope/status/1", move || Ok(content)).await
}

/// What the API is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    target: Option<String>,
    id: Option<String>,
    from: Option<String>,
    until: Option<String>,
    bins: Option<usize>,
    format: Option<String>,
}

/// `/api/v1/series?target=&from=&until=&bins=`: the last day in 96 bins unless asked otherwise.
pub(super) async fn series(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Sentence> {
    #[derive(Serialize)]
    struct Series {
        target: TargetId,
        from: Timestamp,
        until: Timestamp,
        bins: Vec<super::history::Bin>,
    }
    let history = keeper(&shared)?;
    let Some(target) = parameters.target.as_deref().map(TargetId::new) else {
        return Err(sentence(StatusCode::BAD_REQUEST, "Say which: `target=ID`."));
    };
    let now = shared.snapshots.borrow().at;
    let until = moment(parameters.until.as_deref(), "until")?.unwrap_or(now);
    let day_before = until.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    let from = moment(parameters.from.as_deref(), "from")?.unwrap_or(day_before);
    let bins = parameters.bins.unwrap_or(96);
    if from >= until || bins == 0 || bins > BINS_MAX {
        let problem = format!("`from` must be before `until`, and `bins` from 1 to {BINS_MAX}.");
        return Err(sentence(StatusCode::BAD_REQUEST, &problem));
    }
    known(&shared, &history, &target).await?;
    json(&shared, "throttlescope/series/1", move || {
        let bins = history.series(&target, [from, until], bins)?;
        Ok(Series { target, from, until, bins })
    })
    .await
}

/// `/api/v1/incidents?target=&from=`: those that had not ended 30 days ago unless asked otherwise.
pub(super) async fn incidents(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Sentence> {
    #[derive(Serialize)]
    struct Incidents {
        incidents: Vec<super::history::PastIncident>,
    }
    let history = keeper(&shared)?;
    let target = parameters.target.as_deref().map(TargetId::new);
    let now = shared.snapshots.borrow().at;
    let month_before = now.checked_sub(SignedDuration::from_hours(30 * 24)).unwrap_or(Timestamp::MIN);
    let from = moment(parameters.from.as_deref(), "from")?.unwrap_or(month_before);
    json(&shared, "throttlescope/incidents/1", move || {
        Ok(Incidents { incidents: history.incidents(target.as_ref(), from)? })
    })
    .await
}

/// `/api/v1/exchange?id=`: one measurement, as the export has it.
pub(super) async fn exchange(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Sentence> {
    let history = keeper(&shared)?;
    let Some(id) = parameters.id else {
        return Err(sentence(StatusCode::BAD_REQUEST, "Say which: `id=`."));
    };
    let found = shared.render(move || history.exchange(&id)).await?.map_err(|error| unreadable(&error))?;
    let Some(measurement) = found else {
        return Err(sentence(StatusCode::NOT_FOUND, "There is no exchange with this id (any more)."));
    };
    let body = serde_json::to_vec(&measurement).map_err(|error| unwritable(&error))?;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
}

/// `/api/v1/export?target=&from=&until=&format=`: streamed, as fast as the reader reads.
pub(super) async fn export(
    State(shared): State<Shared>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Sentence> {
    let history = keeper(&shared)?;
    let name = parameters.format.as_deref().unwrap_or("ndjson");
    let Some(format) = ExportFormat::ALL.into_iter().find(|format| format.name() == name) else {
        return Err(sentence(StatusCode::BAD_REQUEST, "`format` is ndjson, csv or ooni."));
    };
    let wanted = ExportRequest {
        target: parameters.target.as_deref().map(TargetId::new),
        from: moment(parameters.from.as_deref(), "from")?,
        until: moment(parameters.until.as_deref(), "until")?,
        format,
    };
    let Ok(permit) = Arc::clone(&shared.exports).try_acquire_owned() else {
        return Err(sentence(StatusCode::TOO_MANY_REQUESTS, "Another export is under way; try again later."));
    };
    if let Some(target) = &wanted.target {
        known(&shared, &history, target).await?;
    }
    let (sender, mut receiver) = mpsc::channel(EXPORT_CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender, chunk: Vec::with_capacity(EXPORT_CHUNK) };
        let written = history.export(&wanted, &mut out).map_err(io::Error::other).and_then(|()| out.flush());
        if let Err(error) = written {
            // An export that breaks off must not look complete: the connection is cut.
            out.sender.blocking_send(Err(error)).ok();
        }
        drop(permit);
    });
    // What fails before anything was sent can still be said.
    let first = match receiver.recv().await {
        Some(Err(error)) => return Err(unreadable(&HistoryError(error.to_string()))),
        first => first,
    };
    let chunks = stream::unfold((first, receiver), |(first, mut receiver)| async {
        let chunk = if first.is_some() { first } else { receiver.recv().await };
        Some((chunk?, (None, receiver)))
    });
    let (kind, ending) = match format {
        ExportFormat::Ndjson => ("application/x-ndjson", "ndjson"),
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        ExportFormat::Ooni => ("application/x-ndjson", "ooni.jsonl"),
    };
    let file = format!("attachment; filename=\"throttlescope.{ending}\"");
    let headers = [(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, file)];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// A writer whose other end is the response.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= EXPORT_CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(EXPORT_CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// `/events`: tells pages that there is something new; they fetch it themselves.
pub(super) async fn events(State(shared): State<Shared>) -> Response {
    let stop = shared.stop.clone();
    let updates = stream::unfold((shared.snapshots, true), move |(mut snapshots, first)| {
        let stop = stop.clone();
        async move {
            let next = async {
                if !first {
                    sleep(UPDATE_GAP).await;
                }
                snapshots.changed().await.ok()
            };
            tokio::select! {
                () = stop.cancelled() => None,
                changed = next => {
                    changed?;
                    let at = snapshots.borrow_and_update().at;
                    let event = Event::default().event("snapshot").data(at.to_string());
                    Some((Ok::<_, Infallible>(event), (snapshots, false)))
                }
            }
        }
    });
    let mut response = Sse::new(updates).keep_alive(KeepAlive::default()).into_response();
    // A proxy that buffers would hold the updates back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

fn keeper(shared: &Shared) -> Result<Arc<dyn History>, Sentence> {
    shared.history.clone().ok_or_else(|| sentence(StatusCode::NOT_FOUND, "This daemon keeps no history."))
}

/// Refuses a target that is neither configured nor in the history.
async fn known(shared: &Shared, history: &Arc<dyn History>, target: &TargetId) -> Result<(), Sentence> {
    if shared.snapshots.borrow().targets.iter().any(|one| one.id == *target) {
        return Ok(());
    }
    let (history, asked) = (Arc::clone(history), target.clone());
    match shared.render(move || history.knows(&asked)).await? {
        Ok(true) => Ok(()),
        Ok(false) => Err(sentence(
            StatusCode::NOT_FOUND,
            &format!("There is no target `{target}`, nor was there one."),
        )),
        Err(error) => Err(unreadable(&error)),
    }
}

fn moment(text: Option<&str>, name: &str) -> Result<Option<Timestamp>, Sentence> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            let problem = format!("`{name}` is no time such as 2026-11-23T21:05:00Z.");
            sentence(StatusCode::BAD_REQUEST, &problem)
        })
    };
    text.map(parse).transpose()
}

async fn json<T: Serialize + Send + 'static>(
    shared: &Shared,
    schema: &'static str,
    content: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<Response, Sentence> {
    let write = move || {
        let content = content().map_err(|error| unreadable(&error))?;
        let document = Document { schema, version: env!("CARGO_PKG_VERSION"), content };
        serde_json::to_vec(&document).map_err(|error| unwritable(&error))
    };
    let body = shared.render(write).await??;
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response())
}

fn unreadable(error: &HistoryError) -> Sentence {
    tracing::error!(%error, "cannot read the history");
    sentence(StatusCode::SERVICE_UNAVAILABLE, &format!("The history cannot be read: {error}"))
}

fn unwritable(error: &serde_json::Error) -> Sentence {
    tracing::error!(%error, "cannot write a document");
    sentence(StatusCode::INTERNAL_SERVER_ERROR, "The document cannot be written.")
}
