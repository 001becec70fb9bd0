//! What one exchange says of speed: how long its bytes and its handshake took, exactly or at least.

use std::time::Duration;

use crate::model::{Exchange, FailureKind, Phase, TransferCurve};

/// The free burst, TCP payload: what the throttle of 2021 and its like let through at full speed (papers, T4: 16 KB;
/// twice that, because a token bucket refills while it is emptied). Goodput is judged after it.
pub(super) const FREE_BURST_BYTES: u64 = 32_000;

/// The least payload after the burst that shows a speed: about eleven segments, one initial window.
const AFTER_BURST_BYTES_MIN: u64 = 16_000;

/// Transfers shorter than this are timed by the machine, not by the network.
const SECONDS_MIN: f64 = 0.001;

/// Added to both handshake times before they are compared: a handshake of 2 ms against 5 ms is our machine's noise, and
/// nobody throttles by less than 20 ms (the design's own bound for a late probe).
const HANDSHAKE_GRACE_SECONDS: f64 = 0.02;

/// A positive quantity in natural logarithms: known, or at least this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Log {
    pub(super) at_least: f64,
    pub(super) known: bool,
}

impl Log {
    fn known(value: f64) -> Self {
        Self { at_least: value.ln(), known: true }
    }

    fn at_least(value: f64) -> Self {
        Self { at_least: value.ln(), known: false }
    }

    pub(super) fn at_most(self) -> Option<f64> {
        self.known.then_some(self.at_least)
    }
}

/// The transfer of one exchange, split at the end of the free burst. Times are seconds since the first request, without
/// the round trips between responses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    /// When the free burst had come; `None` when less came.
    burst_over: Option<f64>,
    /// When the last byte came, or we gave up.
    end: f64,
    /// TCP payload.
    bytes: u64,
    /// All came that was asked for.
    complete: bool,
}

impl Transfer {
    /// `None` when no request was sent, or the server answered with an error of its own.
    pub(super) fn of(exchange: &Exchange) -> Option<Self> {
        if exchange.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::HttpError) {
            return None;
        }
        exchange.phases.duration(Phase::Processing)?;
        let complete = exchange.is_complete();
        let curve = &exchange.curve;
        let last = curve.points().last().map_or(0.0, |point| point.at.as_secs_f64());
        let end = if complete { last } else { elapsed(exchange).max(last) };
        let busy = |at: f64| at - idle(exchange, at);
        let burst_over = time_of(curve, FREE_BURST_BYTES).map(busy);
        Some(Self { burst_over, end: busy(end), bytes: curve.bytes(), complete })
    }

    /// Seconds per byte after the burst. A transfer that did not finish took at least as long as it was watched for all
    /// that was `wanted` (TCP payload of a whole transfer). `None` when it finished with too few bytes to show a speed.
    pub(super) fn pace(&self, wanted: Option<u64>) -> Option<Log> {
        if self.complete {
            let bytes = self.bytes.saturating_sub(FREE_BURST_BYTES);
            let seconds = (self.end - self.burst_over?).max(SECONDS_MIN);
            return (bytes >= AFTER_BURST_BYTES_MIN).then(|| Log::known(seconds / bytes as f64));
        }
        let wanted = wanted?.max(self.bytes);
        let (seconds, bytes) = match self.burst_over {
            Some(burst_over) => (self.end - burst_over, wanted.saturating_sub(FREE_BURST_BYTES)),
            // A burst is never slower than what follows it, so that the average pace is at most the pace after it.
            None => (self.end, wanted),
        };
        Some(Log::at_least(seconds.max(SECONDS_MIN) / bytes.max(AFTER_BURST_BYTES_MIN) as f64))
    }

    /// Bytes per second after the burst as far as it was seen; a description, not a bound.
    pub(super) fn goodput_seen(&self) -> Option<f64> {
        let (bytes, since) = match self.burst_over {
            Some(burst_over) => (self.bytes.saturating_sub(FREE_BURST_BYTES), burst_over),
            None => (self.bytes, 0.0),
        };
        let seconds = (self.end - since).max(SECONDS_MIN);
        (self.burst_over.is_some() || !self.complete).then(|| bytes as f64 / seconds)
    }

    /// Seconds from the end of the burst to the end.
    pub(super) fn seconds_after_burst(&self) -> Option<f64> {
        self.burst_over.map(|burst_over| self.end - burst_over)
    }

    /// TCP payload of a transfer that finished.
    pub(super) fn whole_bytes(&self) -> Option<u64> {
        self.complete.then_some(self.bytes)
    }
}

/// When `bytes` had come, by a straight line between the two points around: one read may hold many segments.
fn time_of(curve: &TransferCurve, bytes: u64) -> Option<f64> {
    let points = curve.points();
    let index = points.partition_point(|point| point.bytes < bytes);
    let after = points.get(index)?;
    let Some(before) = index.checked_sub(1).map(|index| points[index]) else {
        return Some(after.at.as_secs_f64());
    };
    let share = (bytes - before.bytes) as f64 / (after.bytes - before.bytes) as f64;
    Some(before.at.as_secs_f64() + share * (after.at.saturating_sub(before.at)).as_secs_f64())
}

/// Seconds from the first request to the moment the exchange ended.
fn elapsed(exchange: &Exchange) -> f64 {
    match exchange.requests.first() {
        Some(first) => exchange.duration.saturating_sub(first.start).as_secs_f64(),
        None => [Phase::Processing, Phase::Transfer]
            .iter()
            .filter_map(|&phase| exchange.phases.duration(phase))
            .sum::<Duration>()
            .as_secs_f64(),
    }
}

/// Seconds up to `until` (both since the first request) that passed between the end of a response and the first byte of
/// the next: round trips that we made, not the network's speed.
fn idle(exchange: &Exchange, until: f64) -> f64 {
    let Some(first) = exchange.requests.first() else { return 0.0 };
    let since_first = |at: Duration| at.saturating_sub(first.start).as_secs_f64().min(until);
    exchange
        .requests
        .windows(2)
        .filter_map(|pair| Some((since_first(pair[1].first_byte?) - since_first(pair[0].end)).max(0.0)))
        .sum()
}

/// How long the name took to be answered: the TLS handshake, or over plain HTTP the first byte of the response. An
/// attempt that ended otherwise took at least as long as it was watched. `None` when it did not come so far.
pub(super) fn handshake(exchange: &Exchange) -> Option<Log> {
    let phase = handshake_phase(exchange);
    let seconds = exchange.phases.duration(phase)?.as_secs_f64() + HANDSHAKE_GRACE_SECONDS;
    let ended_here = exchange.phases.reached() == Some(phase);
    let failed_here = exchange.failure.as_ref().is_some_and(|failure| failure.phase == phase);
    let cut_here = exchange.censored && ended_here;
    Some(if failed_here || cut_here { Log::at_least(seconds) } else { Log::known(seconds) })
}

/// The handshake's plain duration in seconds, where it completed.
pub(super) fn handshake_seconds(exchange: &Exchange) -> Option<f64> {
    handshake(exchange)?
        .known
        .then(|| exchange.phases.duration(handshake_phase(exchange)))?
        .map(|d| d.as_secs_f64())
}

fn handshake_phase(exchange: &Exchange) -> Phase {
    if exchange.hello.is_some() || exchange.phases.duration(Phase::Tls).is_some() {
        Phase::Tls
    } else {
        Phase::Processing
    }
}

/// The round-trip time of the connection: the kernel's for the handshake, else our own of `connect`.
pub(super) fn round_trip(exchange: &Exchange) -> Option<Duration> {
    let kernel = exchange.tcp.and_then(|tcp| tcp.connect).and_then(|info| info.min_rtt.or(info.rtt));
    let connected = exchange.reached > Phase::Connect;
    kernel.or_else(|| exchange.phases.duration(Phase::Connect).filter(|_| connected))
}

/// Whether the network (not the server's own words, not our machine) kept the exchange from finishing.
pub(super) fn network_failure(exchange: &Exchange) -> Option<FailureKind> {
    let kind = exchange.failure.as_ref()?.kind;
    let ours_or_theirs = matches!(
        kind,
        FailureKind::HttpError | FailureKind::Local | FailureKind::RedirectLoop | FailureKind::TooLarge
    );
    (!ours_or_theirs).then_some(kind)
}

/// The silence at the end of an exchange that stopped: seconds, payload bytes before it, longest earlier gap in seconds.
pub(super) struct Silence {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) longest_gap: f64,
}

/// `None` when the exchange ended otherwise than by silence after the handshake (a reset, a close, a complete body).
pub(super) fn final_silence(exchange: &Exchange) -> Option<Silence> {
    let silent = exchange
        .failure
        .as_ref()
        .is_some_and(|failure| matches!(failure.kind, FailureKind::Stalled | FailureKind::Timeout));
    let after_handshake = exchange.reached >= Phase::Processing
        && (exchange.tls_version.is_some() || !exchange.curve.is_empty());
    if !silent || !after_handshake {
        return None;
    }
    let last = exchange.curve.points().last().map_or(0.0, |point| point.at.as_secs_f64());
    let first = exchange.curve.points().first().map_or(0.0, |point| point.at.as_secs_f64());
    let longest_gap = exchange.curve.longest_gap().map_or(first, |gap| gap.as_secs_f64().max(first));
    Some(Silence { seconds: elapsed(exchange) - last, bytes: exchange.curve.bytes(), longest_gap })
}
