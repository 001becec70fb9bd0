//! One connection and what was asked over it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, Phase, TcpStats, Timeline, TransferCurve, seconds};

/// An exchange later than this behind its intended start, or a reader this far behind the socket, is late: the probe's
/// own machine may be the cause of what was seen, so that it cannot accuse (design: 20 ms).
pub const LATENESS_MAX: Duration = Duration::from_millis(20);

/// What a TLS handshake usually takes towards us: certificates of 3 to 6 KB.
const HANDSHAKE_BYTES: u64 = 6 * 1024;

/// Goodput of smaller bodies is round-trip time in disguise (design: an exchange of at most 16 KiB is cheap).
const GOODPUT_BYTES_MIN: u64 = 16 * 1024;

/// One connection and what was asked over it, DNS to last byte. Never an error: whatever happened is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of the record, fixed by its JSON form")]
pub struct Exchange {
    /// Unique among the exchanges of all time: 128 random bits in hexadecimal.
    pub id: String,
    /// The round it belongs to, counted from zero within a run.
    pub round: u32,
    /// The pair within the round.
    pub pair: u32,
    /// The position within the pair: 0 went first.
    pub position: u32,
    /// What it stands for in the comparison.
    pub role: Role,
    /// Wall-clock time at which it began; for people, never for durations.
    pub started_at: Timestamp,
    /// The sum of its phases.
    #[serde(rename = "duration_s", with = "seconds")]
    pub duration: Duration,
    /// How far behind its intended start it began, or how far its reader fell behind, whichever is more.
    #[serde(rename = "lateness_s", with = "seconds")]
    pub lateness: Duration,
    /// The name shown to the network: the SNI, or the host over plain HTTP.
    pub name: String,
    /// The server's address and port; `None` when no address was found.
    pub address: Option<SocketAddr>,
    /// Our own address on this connection. Never serialised: it serves to notice that the route changed.
    #[serde(skip)]
    pub local_address: Option<IpAddr>,
    /// Further addresses of its own that the server announced. Never serialised.
    #[serde(skip)]
    pub announced: Vec<IpAddr>,
    /// The address family asked for or used.
    pub family: Option<Family>,
    /// The address was given, not looked up for this exchange.
    pub pinned: bool,
    /// An attempt at another address after the first failed, of the other family or of an independent resolver: kept, not
    /// judged.
    pub fallback: bool,
    /// Its speed is not compared: the first exchange with an object, which warms caches, or a look at whether an address
    /// that was shown the subject's name stays slow.
    pub warmup: bool,
    /// The `Host` header (or `:authority`).
    pub host_header: String,
    /// The path and query that were asked for.
    pub path: String,
    /// `"1.0"`, `"1.1"` or `"2"`; `None` when no response came.
    pub http_version: Option<String>,
    /// `"1.2"` or `"1.3"`; `None` over plain HTTP or when the handshake did not complete.
    pub tls_version: Option<String>,
    /// The `ClientHello` that was sent; `None` when none was.
    pub hello: Option<Hello>,
    /// SHA-256 of the leaf certificate, in hexadecimal, also when it did not verify.
    pub certificate_sha256: Option<String>,
    /// `false` where the certificate was deliberately not checked.
    pub certificate_checked: bool,
    /// How long each phase took.
    pub phases: Timeline,
    /// The last phase entered.
    pub reached: Phase,
    /// The (last) response's status code.
    pub status: Option<u16>,
    /// Bytes of HTTP body, over all requests.
    pub bytes: u64,
    /// SHA-256 of the first response's body as far as it was read, in hexadecimal; `None` without a body.
    pub body_sha256: Option<String>,
    /// Where a redirect pointed, without query; it is a further exchange's business to follow it.
    pub redirect: Option<String>,
    /// Response headers by allow-list (server, content-type, content-length, via, cache and retry headers), scrubbed.
    pub headers: Vec<(String, String)>,
    /// The requests on this connection, in order.
    pub requests: Vec<Request>,
    /// What went wrong; `None` when all went well.
    pub failure: Option<Failure>,
    /// The exchange was ended by us before it was done (a budget ran out, or enough was known): the true duration is
    /// longer, the true size larger.
    pub censored: bool,
    /// What the kernel knew; `None` where it tells nothing.
    pub tcp: Option<TcpStats>,
    /// TCP payload over time since the first request was sent.
    pub curve: TransferCurve,
}

impl Exchange {
    /// Whether our own machine was too late for this exchange to accuse anyone.
    pub fn is_late(&self) -> bool {
        self.lateness > LATENESS_MAX
    }

    /// What the exchange cost in TCP payload received: the kernel's count, else the curve and an ordinary handshake.
    pub fn received_bytes(&self) -> u64 {
        let counted = self.tcp.and_then(|tcp| tcp.end).and_then(|end| end.bytes_received);
        let handshake = if self.tls_version.is_some() { HANDSHAKE_BYTES } else { 0 };
        counted.unwrap_or_else(|| self.curve.bytes() + handshake)
    }

    /// Whether the transfer ended as asked: no failure and not cut short.
    pub const fn is_complete(&self) -> bool {
        self.failure.is_none() && !self.censored
    }

    /// Whether its duration says how long such an exchange takes, exactly or at least.
    pub fn tells_duration(&self) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.kind.tells_duration())
    }

    /// The seconds of a phase where they belong into a distribution.
    pub fn seconds_of(&self, phase: Phase) -> Option<f64> {
        let failed_here = self.failure.as_ref().filter(|failure| failure.phase == phase);
        if failed_here.is_some_and(|failure| !failure.kind.tells_duration()) {
            return None;
        }
        self.phases.duration(phase).map(|duration| duration.as_secs_f64())
    }

    /// Time spent receiving bodies: from each first byte to the end of its response.
    pub fn transfer_seconds(&self) -> f64 {
        let receiving = |request: &Request| {
            request.first_byte.map(|first| request.end.saturating_sub(first).as_secs_f64())
        };
        self.requests.iter().filter_map(receiving).sum()
    }

    /// Body bytes per second of transfer, where that says something about the line.
    pub fn goodput(&self) -> Option<f64> {
        let seconds = self.transfer_seconds();
        let refused = self.status.is_none_or(|status| status >= 400);
        let cut_short = self.reached == Phase::Transfer
            && (self.censored || self.failure.as_ref().is_some_and(|failure| failure.kind.is_censoring()));
        let bulk = self.bytes > GOODPUT_BYTES_MIN || cut_short;
        (bulk && !refused && seconds > 0.0).then(|| self.bytes as f64 / seconds)
    }
}

/// What an exchange stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May be throttled.
    Subject,
    /// Shows how the line does without it.
    Control,
    /// An innocent name that a sloppy rule would hit as well.
    Canary,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<SocketAddr> for Family {
    fn from(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// The `ClientHello` as it went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// TLS records of the hello, in bytes.
    pub bytes: u32,
    /// TCP segments it takes at the connection's segment size.
    pub segments: u32,
    /// Its fingerprint (<https://github.com/FoxIO-LLC/ja4>).
    pub ja4: String,
}

/// Which `ClientHello` to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HelloKind {
    /// Fits one segment: a middlebox that does not reassemble still sees the name.
    #[default]
    Small,
    /// With a post-quantum key share as browsers send: two segments.
    Large,
}

/// One request and its response on the connection. Times count from the start of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The request was sent.
    #[serde(rename = "start_s", with = "seconds")]
    pub start: Duration,
    /// The first payload byte after it was read; `None` when none came.
    #[serde(rename = "first_byte_s", with = "seconds::option")]
    pub first_byte: Option<Duration>,
    /// The last byte of its response was read, or we gave up.
    #[serde(rename = "end_s", with = "seconds")]
    pub end: Duration,
    /// Bytes of HTTP body.
    pub bytes: u64,
}
