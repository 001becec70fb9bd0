//! One connection: let in or not, TLS or not, HTTP/1.1 or HTTP/2, until it ends, idles too long or the server stops.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    limits::Visit,
    requests::{Body, Desk},
};
use crate::clock;

/// From the first byte of the `ClientHello` to the end of the handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(20);

/// From the start of a request, or the end of the one before, to the end of its headers.
const HEADERS_MAX: Duration = Duration::from_secs(30);

/// Without a byte in either direction; longer than the longest `?delay=`, and than any client waits for a freeze.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// The whole connection: nobody holds a place by a byte a minute.
const LIFE_MAX: Duration = Duration::from_mins(15);

/// Request line and headers together. hyper takes no less than 8 KiB.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 16;

/// HTTP/2 window for uploads: 1 MiB fills 100 Mbit/s over 80 ms.
const WINDOW_BYTES: u32 = 1 << 20;

/// What the server tells its connections when it stops.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// Finish what is under way and take no more.
    pub(super) drain: CancellationToken,
    /// Break off.
    pub(super) now: CancellationToken,
}

/// Serves a connection to its end. How it ends is of no interest: nothing is logged.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    tls: Option<TlsAcceptor>,
    visit: Visit,
    settings: Arc<Settings>,
    stop: Stop,
) {
    let whole = timeout(LIFE_MAX, serve_until_drained(stream, tls, visit, settings, stop.drain));
    let _ended = stop.now.run_until_cancelled(whole).await;
}

async fn serve_until_drained(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    tls: Option<TlsAcceptor>,
    visit: Visit,
    settings: Arc<Settings>,
    drain: CancellationToken,
) {
    let stream = Watched::new(stream);
    let Some(tls) = tls else {
        let desk = Desk { settings, visit, name: None };
        return http1(stream, Arc::new(desk), drain).await;
    };
    let handshake = timeout(HANDSHAKE_MAX, tls.accept(stream));
    let Some(Ok(Ok(stream))) = drain.run_until_cancelled(handshake).await else { return };
    let session = stream.get_ref().1;
    let name = session.server_name().map(str::to_ascii_lowercase);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let desk = Arc::new(Desk { settings, visit, name });
    if is_http2 { http2(stream, desk, drain).await } else { http1(stream, desk, drain).await }
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<Desk>, drain: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(Arc::clone(&desk), request)),
        );
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<Desk>, drain: CancellationToken) {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX as u32)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(Arc::clone(&desk), request)),
        );
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    desk.answer(request).await
}

/// A stream that fails once nothing has moved in either direction for [`IDLE_MAX`].
struct Watched<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    fn new(stream: S) -> Self {
        Self { stream, idle: Box::pin(tokio::time::sleep(IDLE_MAX)) }
    }

    /// Passes progress on and starts the wait anew; while there is none, the wait may end in an error.
    fn watch<T>(&mut self, context: &mut Context<'_>, step: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if step.is_ready() {
            self.idle.as_mut().reset(clock::now() + IDLE_MAX);
            return step;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let step = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, step)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, step)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let step = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, step)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::{
        super::{Limits, TlsConfig, certificates::Certificate, limits::Gate},
        *,
    };

    /// Serves one end of a pipe and gives the other.
    fn served(tls: Option<TlsAcceptor>) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1024);
        let visit =
            Gate::new(Limits::default(), clock::now()).enter([192, 0, 2, 1].into(), clock::now()).unwrap();
        tokio::spawn(serve(far, tls, visit, Arc::default(), Stop::default()));
        near
    }

    async fn seconds_until_closed(near: &mut DuplexStream) -> f64 {
        let start = clock::now();
        let _answer = near.read_to_end(&mut Vec::new()).await;
        (clock::now() - start).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_fails_and_a_moving_one_does_not() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut watched = Watched::new(far);
        let start = clock::now();
        let slow = tokio::spawn(async move {
            tokio::time::sleep(IDLE_MAX / 2).await;
            near.write_all(b"x").await.unwrap();
            near
        });
        assert_eq!(watched.read_u8().await.unwrap(), b'x');
        let _near = slow.await.unwrap();
        let ended = timeout(LIFE_MAX, watched.read_u8()).await.expect("the silence ends");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(clock::now() - start, IDLE_MAX / 2 + IDLE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_never_end_are_cut_off_although_bytes_keep_coming() {
        let (mut read, mut write) = tokio::io::split(served(None));
        write.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let start = clock::now();
        let _answer = read.read_to_end(&mut Vec::new()).await;
        let waited = clock::now() - start;
        assert!(waited >= HEADERS_MAX && waited < HEADERS_MAX * 2, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_connection_is_closed() {
        let waited = seconds_until_closed(&mut served(None)).await;
        assert!((HEADERS_MAX.as_secs_f64()..=IDLE_MAX.as_secs_f64()).contains(&waited), "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_never_ends_is_cut_off() {
        let tls = TlsConfig::new(Certificate::Made).unwrap();
        let mut near = served(Some(TlsAcceptor::from(tls.config)));
        near.write_all(&[22, 3, 1]).await.unwrap();
        let waited = seconds_until_closed(&mut near).await;
        assert!((waited - HANDSHAKE_MAX.as_secs_f64()).abs() < 1.0, "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_given_up() {
        let mut near = served(None);
        near.write_all(b"GET /bytes/1000000 HTTP/1.1\r\n\r\n").await.unwrap();
        tokio::time::sleep(IDLE_MAX * 2).await;
        let mut rest = Vec::new();
        let _end = near.read_to_end(&mut rest).await;
        assert!(rest.len() < 10_000, "{} bytes came after two idle minutes", rest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_lives_forever() {
        let mut near = served(None);
        near.write_all(b"GET /bytes/1000000?rate=100 HTTP/1.1\r\n\r\n").await.unwrap();
        let waited = seconds_until_closed(&mut near).await;
        assert!((waited - LIFE_MAX.as_secs_f64()).abs() < 1.0, "{waited}");
    }
}
