//! HTTP prepared on a connection, in either version.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request as HttpRequest, Response};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::tape::Answering;

/// Most header lines and bytes of one response.
const HEADERS_MAX: usize = 128;
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Window of HTTP/2 streams and connections: never the reason why a transfer is slow.
const WINDOW: u32 = 8 * 1024 * 1024;

/// The connection as HTTP sees it: asks for the next response.
pub(super) enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// The part of HTTP that must be polled for the sender to go on.
pub(super) type Link = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks of an HTTP/2 connection; they end with it.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

/// Ends the tasks when the exchange is over: they hold the connection, and one another.
pub(super) struct EndTasks(pub(super) Tasks);

impl Drop for EndTasks {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Prepares HTTP on the stream. Nothing is waited for: even HTTP/2's preface goes out with the first request.
pub(super) async fn prepare<S>(
    stream: Answering<S>,
    http2: bool,
    tasks: &Tasks,
) -> hyper::Result<(Sender, Link)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    if http2 {
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .handshake(io)
            .await?;
        let connection = Box::pin(async move { drop(connection.await) });
        return Ok((Sender::Http2(sender), connection));
    }
    let (sender, connection) =
        http1::Builder::new().max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX).handshake(io).await?;
    Ok((Sender::Http1(sender), Box::pin(async move { drop(connection.await) })))
}

impl Sender {
    /// Waits until the connection takes another request; `false` when it is closed.
    pub(super) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(super) async fn send(
        &mut self,
        request: HttpRequest<Empty<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}
