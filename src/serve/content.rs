//! What is sent: incompressible bytes that depend on nothing but their offset, at the line's speed or paced.
//!
//! The same offset holds the same byte for every name, path length and range, so that two legs can be compared by hash.

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};
use tokio::time::Sleep;

use super::limits::Reservation;
use crate::clock::{self, Instant};

/// The content repeats after this many bytes: far outside the 32 KiB window of the compression that proxies apply.
const BLOCK_BYTES: usize = 1 << 20;

/// Most bytes handed to the connection at once.
const CHUNK_BYTES: u64 = 64 * 1024;

static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
    let mut block = vec![0; BLOCK_BYTES];
    ChaCha8Rng::seed_from_u64(2021).fill_bytes(&mut block);
    Bytes::from(block)
});

/// The bytes from `offset`, at most `limit` of them, and never across the end of the block.
fn slice(offset: u64, limit: u64) -> Bytes {
    let from = (offset % BLOCK_BYTES as u64) as usize;
    let length = limit.min((BLOCK_BYTES - from) as u64) as usize;
    BLOCK.slice(from..from + length)
}

/// Makes the content before the first client has to wait for it.
pub(super) fn prepare() {
    LazyLock::force(&BLOCK);
}

/// When the next chunk may leave, at a steady rate. A pause of the reader does not earn more than a tenth of a second.
#[derive(Debug)]
pub(super) struct Pacer {
    rate: u64,
    due: Instant,
}

impl Pacer {
    const CREDIT: Duration = Duration::from_millis(100);

    /// A pacer of so many bytes per second, at least one.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), due: now }
    }

    /// Fifty chunks a second; none so small that headers outweigh it, none larger than a TLS record; at the slowest
    /// rates one a second, so that the line is never silent for long.
    fn chunk(&self) -> u64 {
        (self.rate / 50).clamp(256, 16 * 1024).min(self.rate)
    }

    /// Counts bytes that leave now.
    fn sent(&mut self, bytes: u64, now: Instant) {
        let start = self.due.max(now.checked_sub(Self::CREDIT).unwrap_or(now));
        self.due = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
    }
}

/// A response body: a stretch of the content.
#[derive(Debug)]
pub(super) struct Content {
    offset: u64,
    remaining: u64,
    pacer: Option<Pacer>,
    sleep: Option<Pin<Box<Sleep>>>,
    reservation: Reservation,
}

impl Content {
    pub(super) fn new(offset: u64, length: u64, rate: Option<u64>, reservation: Reservation) -> Self {
        let pacer = rate.map(|rate| Pacer::new(rate, clock::now()));
        Self { offset, remaining: length, pacer, sleep: None, reservation }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        let limit = self.pacer.as_ref().map_or(CHUNK_BYTES, Pacer::chunk).min(self.remaining);
        let chunk = slice(self.offset, limit);
        let length = chunk.len() as u64;
        self.offset += length;
        self.remaining -= length;
        self.reservation.used(length);
        if let Some(pacer) = &mut self.pacer {
            let now = clock::now();
            pacer.sent(length, now);
            let due = pacer.due;
            self.sleep = (due > now).then(|| Box::pin(tokio::time::sleep_until(due)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// What a `Range` header asks of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// No range, several, or one that is not understood: RFC 9110 section 14.2 lets us send the whole.
    Whole,
    /// First and last byte.
    Part(u64, u64),
    /// Nothing of the object lies in the range.
    Unsatisfiable,
}

impl Range {
    /// Reads a `Range` header for an object of `length` bytes.
    pub(super) fn parse(header: &str, length: u64) -> Self {
        let Some((first, last)) =
            header.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first > last => Self::Whole,
            (Ok(first), _) if first >= length && (last.is_empty() || last.parse::<u64>().is_ok()) => {
                Self::Unsatisfiable
            }
            (Ok(first), Ok(last)) => Self::Part(first, last.min(length - 1)),
            (Ok(first), Err(_)) if last.is_empty() => Self::Part(first, length - 1),
            (Err(_), Ok(suffix)) if first.is_empty() => match suffix.min(length) {
                0 => Self::Unsatisfiable,
                suffix => Self::Part(length - suffix, length - 1),
            },
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_offset_holds_the_same_byte_and_chunks_meet() {
        assert_eq!(slice(10, 20), slice(0, 100).slice(10..30));
        let end = BLOCK_BYTES as u64;
        assert_eq!(slice(end - 3, 100).len(), 3, "a chunk ends with the block");
        assert_eq!(slice(end + 5, 7), slice(5, 7), "and the next goes on at its start");
    }

    #[test]
    fn the_content_does_not_compress() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&slice(0, CHUNK_BYTES)).unwrap();
        assert!(encoder.finish().unwrap().len() as u64 >= CHUNK_BYTES);
    }

    #[test]
    fn the_content_is_the_same_in_every_release() {
        // Two servers of different versions must not look like a tampered body.
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &BLOCK);
        assert_eq!(digest.as_ref()[..8], [242, 10, 125, 133, 71, 219, 159, 237]);
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, expected) in [
            ("bytes=0-9", Range::Part(0, 9)),
            ("bytes=90-", Range::Part(90, 99)),
            ("bytes=-10", Range::Part(90, 99)),
            ("bytes=-1000", Range::Part(0, 99)),
            ("bytes=50-1000", Range::Part(50, 99)),
            ("bytes=99-99", Range::Part(99, 99)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=100-200", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=9-0", Range::Whole),
            ("bytes=0-9,20-29", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=200-x", Range::Whole),
            ("bytes=-", Range::Whole),
            ("lines=0-9", Range::Whole),
        ] {
            assert_eq!(Range::parse(header, 100), expected, "{header}");
        }
        assert_eq!(Range::parse("bytes=0-", 0), Range::Unsatisfiable);
        assert_eq!(Range::parse("bytes=-5", 0), Range::Unsatisfiable);
    }

    #[test]
    fn a_paced_body_keeps_its_rate_and_does_not_make_up_for_a_long_pause() {
        let start = clock::now();
        let mut pacer = Pacer::new(20_000, start);
        let mut now = start;
        for _ in 0..50 {
            pacer.sent(pacer.chunk(), now);
            now = pacer.due;
        }
        assert!(((now - start).as_secs_f64() - 1.0).abs() < 1e-6, "20 000 bytes take a second");
        now += Duration::from_mins(1);
        let mut burst = 0;
        while pacer.due <= now {
            burst += pacer.chunk();
            pacer.sent(pacer.chunk(), now);
        }
        assert!(burst <= 2_400 + pacer.chunk(), "a minute's pause earned {burst} bytes");
    }
}
