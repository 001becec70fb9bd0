//! How things stand, put together from the plan, the memory and the metrics.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    metrics::Metrics,
    model::{FindingStatus, Target, TargetStatus, Verdict},
};

/// A target without an exchange for this many effective intervals is stale: its verdict no longer speaks of the present.
const STALE_INTERVALS: u32 = 3;

/// What is known of one target at the moment.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) verdict: Option<(Verdict, Timestamp)>,
    pub(super) basis: Option<FindingStatus>,
    pub(super) findings: Vec<FindingStatus>,
    pub(super) last_exchange_at: Option<Timestamp>,
    pub(super) effective_interval: Duration,
}

impl Standing {
    /// Whether the last exchange is too long ago to speak of the present.
    pub(super) fn is_stale(&self, at: Timestamp) -> bool {
        self.last_exchange_at.is_some_and(|last| {
            let silence = Duration::try_from(at.duration_since(last)).unwrap_or_default();
            silence > self.effective_interval * STALE_INTERVALS
        })
    }
}

/// One target's line of it.
pub(super) fn target_status(
    target: &Target,
    standing: Standing,
    metrics: &Metrics,
    at: Timestamp,
) -> TargetStatus {
    let stale = standing.is_stale(at);
    let (verdict, since) = standing.verdict.filter(|_| !stale).unzip();
    TargetStatus {
        id: target.id.clone(),
        role: target.role,
        kind: target.kind,
        host: target.url.host_str().unwrap_or_default().to_owned(),
        verdict,
        since,
        basis: standing.basis.filter(|_| !stale),
        stale,
        findings: standing.findings,
        last_exchange_at: standing.last_exchange_at,
        effective_interval: standing.effective_interval,
        phases: metrics.phase_quantiles(&target.id),
        goodput: metrics.goodput_quantiles(&target.id),
    }
}
