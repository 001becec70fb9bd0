//! Token bucket and shaping queue: the two ways of keeping a rate.

use std::time::Duration;

use crate::model::profile::{Police, Rate};

/// A token bucket in IP bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    filled_at: Duration,
    /// It was full, and has not run dry since.
    fresh: bool,
}

impl Bucket {
    /// A full bucket, or an empty one where the policer begins so.
    pub(super) fn new(now: Duration, police: &Police) -> Self {
        let tokens = if police.starts_empty { 0.0 } else { police.burst.0 as f64 };
        Self { tokens, filled_at: now, fresh: !police.starts_empty }
    }

    /// Whether a packet of `bytes` passes; a packet that does not takes nothing (T2).
    pub(super) fn takes(&mut self, now: Duration, police: &Police, bytes: usize) -> bool {
        let burst = police.burst.0 as f64;
        // During a pause the last filling lies in the future, and nothing is added.
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens += elapsed * police.rate.0;
        self.filled_at = self.filled_at.max(now);
        if self.tokens >= burst {
            self.tokens = burst;
            self.fresh = true;
        }
        let passes = self.tokens >= bytes as f64;
        if passes {
            self.tokens -= bytes as f64;
        } else if self.fresh {
            self.fresh = false;
            self.filled_at = now + police.pause.0;
        }
        passes
    }
}

/// A first-in-first-out queue emptied at a rate; only its end is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shaper {
    empty_at: Duration,
}

impl Shaper {
    /// When a packet of `bytes` leaves; nothing where the queue is full.
    pub(super) fn queue(&mut self, now: Duration, rate: Rate, queue: u64, bytes: usize) -> Option<Duration> {
        let waiting = self.empty_at.saturating_sub(now).as_secs_f64() * rate.0;
        if waiting > 0.0 && waiting + bytes as f64 > queue as f64 {
            return None;
        }
        self.empty_at = self.empty_at.max(now) + rate.time_for(bytes);
        Some(self.empty_at)
    }
}
