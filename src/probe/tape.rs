//! The tape that runs along below and above TLS: which bytes were read from the socket, when, and whether they belong to
//! the response.
//!
//! [`Tapped`] sits on the socket and stamps every read, so that a record which never completes is still bytes that came.
//! [`Answering`] sits above TLS and tells which of those bytes are not yet an answer: session tickets, and HTTP/2's own
//! frames, follow the handshake by themselves and must not end `processing`.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    clock::{self, Instant},
    model::TransferCurve,
};

/// Most of our first write that is kept: no `ClientHello` of ours is longer.
const HELLO_MAX: usize = 8 * 1024;

/// What the tape holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When the first request was sent; the curve counts from here.
    pub(super) origin: Option<Instant>,
    /// Payload over time since then.
    pub(super) curve: TransferCurve,
    /// All payload since then.
    pub(super) bytes: u64,
    /// The first payload since the latest request was sent.
    pub(super) first: Option<Instant>,
    /// The latest payload.
    pub(super) last: Option<Instant>,
    /// The peer has ended its side.
    pub(super) ended: bool,
    /// What the socket said when it failed.
    pub(super) error: Option<io::ErrorKind>,
    /// What TLS said when it failed after the handshake.
    pub(super) tls_error: Option<rustls::Error>,
    /// The first bytes that we wrote.
    pub(super) hello: Vec<u8>,
    /// The first byte of the peer.
    pub(super) greeting: Option<u8>,
    /// The first payload of the first response, once a second request was sent.
    first_response: Option<Instant>,
    /// The response to the latest request has begun for certain.
    answered: bool,
    hello_complete: bool,
    records: Records,
}

/// Where in the sequence of TLS records the stream of read bytes stands.
#[derive(Debug, Default)]
struct Records {
    header: [u8; 5],
    header_length: usize,
    body_left: usize,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(bytes.len());
                self.body_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_length] = bytes[0];
            self.header_length += 1;
            bytes = &bytes[1..];
            if self.header_length == self.header.len() {
                self.body_left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header_length = 0;
            }
        }
    }

    const fn at_boundary(&self) -> bool {
        self.header_length == 0 && self.body_left == 0
    }
}

impl Seen {
    /// When the first response began.
    pub(super) fn began(&self) -> Option<Instant> {
        self.first_response.or(self.first)
    }
}

/// The shared tape.
#[derive(Debug, Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Seen>>);

impl Tape {
    pub(super) fn look(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent.
    pub(super) fn begin_request(&self, now: Instant) {
        let mut seen = self.look();
        if seen.origin.is_none() {
            seen.origin = Some(now);
        }
        seen.first_response = seen.began();
        seen.first = None;
        seen.answered = false;
    }

    fn read(&self, bytes: &[u8]) {
        let now = clock::now();
        let mut seen = self.look();
        if bytes.is_empty() {
            seen.ended = true;
            return;
        }
        seen.greeting.get_or_insert(bytes[0]);
        seen.records.pass(bytes);
        if let Some(origin) = seen.origin {
            seen.bytes += bytes.len() as u64;
            let total = seen.bytes;
            seen.curve.push(now - origin, total);
            seen.first.get_or_insert(now);
            seen.last = Some(now);
        }
    }

    fn wrote(&self, slices: &[IoSlice<'_>], mut count: usize) {
        let mut seen = self.look();
        if seen.hello_complete {
            return;
        }
        for slice in slices {
            let room = HELLO_MAX.saturating_sub(seen.hello.len());
            let kept = slice.len().min(count).min(room);
            seen.hello.extend_from_slice(&slice[..kept]);
            count -= slice.len().min(count);
        }
    }

    fn failed(&self, error: &io::Error) {
        self.look().error.get_or_insert(error.kind());
    }
}

/// The socket with a tape on it.
#[derive(Debug)]
pub(super) struct Tapped {
    stream: TcpStream,
    tape: Tape,
}

impl Tapped {
    pub(super) const fn new(stream: TcpStream, tape: Tape) -> Self {
        Self { stream, tape }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        match &result {
            Ok(()) => self.tape.read(&buffer.filled()[before..]),
            Err(error) => self.tape.failed(error),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        match &result {
            Ok(count) => self.tape.wrote(slices, *count),
            Err(error) => self.tape.failed(error),
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The hello is flushed as one; what follows is no longer part of it.
        let mut seen = self.tape.look();
        seen.hello_complete |= !seen.hello.is_empty();
        drop(seen);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What HTTP reads from, above TLS (or directly on [`Tapped`] without it).
pub(super) struct Answering<S> {
    stream: S,
    tape: Tape,
    frames: Option<Frames>,
}

impl<S> Answering<S> {
    /// `http2` tells whether frames that belong to no request are to be passed over.
    pub(super) fn new(stream: S, tape: Tape, http2: bool) -> Self {
        Self { stream, tape, frames: http2.then(Frames::default) }
    }

    fn came(&mut self, plain: &[u8]) {
        let answer = self.frames.as_mut().is_none_or(|frames| frames.pass(plain));
        let mut seen = self.tape.look();
        seen.answered |= answer;
        if !seen.answered && seen.records.at_boundary() {
            seen.first = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => {
                // All records that came were complete and held nothing for HTTP: tickets, not the answer.
                let mut seen = self.tape.look();
                if !seen.answered && seen.first.is_some() && seen.records.at_boundary() {
                    seen.first = None;
                }
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                if buffer.filled().len() > before {
                    self.came(&buffer.filled()[before..]);
                }
                Poll::Ready(Ok(()))
            }
            // Many servers end without TLS's own farewell; whether the answer was whole is for HTTP to say.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    self.tape.look().tls_error.get_or_insert_with(|| tls.clone());
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in the sequence of HTTP/2 frames (RFC 9113, section 4.1) the stream of plain bytes stands.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 9],
    header_length: usize,
    body_left: usize,
}

impl Frames {
    /// Whether a frame that belongs to a request is among these bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut answer = false;
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(bytes.len());
                self.body_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_length] = bytes[0];
            self.header_length += 1;
            bytes = &bytes[1..];
            if self.header_length == self.header.len() {
                let length = [0, self.header[0], self.header[1], self.header[2]];
                self.body_left = u32::from_be_bytes(length) as usize;
                self.header_length = 0;
                // The stream's identifier, without its reserved bit; zero is the connection itself.
                answer |= self.header[5] & 0x7f != 0 || self.header[6..] != [0; 3];
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_a_record_ends() {
        let mut records = Records::default();
        records.pass(&[0x17, 3, 3, 0, 4, 1, 2]);
        assert!(!records.at_boundary());
        records.pass(&[3, 4]);
        assert!(records.at_boundary());
        records.pass(&[0x17, 3]);
        assert!(!records.at_boundary());
    }

    #[test]
    fn settings_are_no_answer_and_headers_are() {
        let mut frames = Frames::default();
        assert!(!frames.pass(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]));
        assert!(!frames.pass(&[0, 0, 1, 1, 4, 0, 0, 0]));
        assert!(frames.pass(&[1, 9]));
    }
}
