//! The accept loop: bounded connections, TLS, timeouts, graceful end.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::live::Live;

/// Connections at the same time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// For the TLS handshake, and for the headers of a request (also the wait for the next request).
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole life of a connection: what is slower than that to take its answer is no reader. Event streams reconnect.
const LIFETIME: Duration = Duration::from_mins(10);

/// What an ending connection has to finish its answer.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes of request headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Accepts until `shutdown`, then lets the connections finish within [`GRACE`].
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    live: Arc<Live>,
    stop: CancellationToken,
    shutdown: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tracker = TaskTracker::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, live, stop) = (router.clone(), Arc::clone(&live), stop.clone());
                tracker.spawn(async move {
                    // Strangers' mistakes are no news; what they did shows in a trace only.
                    if let Err(error) = connection(stream, router, &live, stop).await {
                        tracing::debug!(%error, "web connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a web connection");
                // Out of descriptors: asking again at once would only spin.
                sleep(Duration::from_millis(250)).await;
            }
        }
    }
    drop(listener);
    stop.cancel();
    tracker.close();
    if timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::debug!("web connections were cut at shutdown");
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    live: &Live,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let config = live.current();
    let Some(tls) = &config.tls else {
        return serve(stream, router, stop).await;
    };
    let handshake = TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream);
    let stream = tokio::select! {
        stream = timeout(PATIENCE, handshake) => stream??,
        () = stop.cancelled() => return Ok(()),
    };
    if !tls.admits(stream.get_ref().1.peer_certificates()) {
        return Err(io::Error::other("the client's certificate is for none of the allowed names").into());
    }
    serve(stream, router, stop).await
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(64)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(16)
        .keep_alive_interval(PATIENCE);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        done = connection.as_mut() => return done,
        () = stop.cancelled() => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(GRACE, connection).await.unwrap_or(Ok(()))
}
