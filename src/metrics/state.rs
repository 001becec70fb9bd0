//! What is counted and known, per target and over all. Time comes in with the events.

use std::collections::BTreeMap;

use super::{
    HistogramMode,
    histogram::{DURATION_EDGES, Distribution, GOODPUT_EDGES, QuantileRecorder},
};
use crate::model::{
    Comparison, Exchange, FailureKind, Finding, Measurement, Phase, Role, SkipReason, Target, TargetId,
    Vantage, Verdict,
};

/// The verdicts that make an incident.
pub(super) const INCIDENT_VERDICTS: [Verdict; 3] = [Verdict::Throttled, Verdict::Frozen, Verdict::Blocked];

/// The comparisons that judge, weakest first.
pub(super) const COMPARISONS: [Comparison; 3] = [Comparison::History, Comparison::Control, Comparison::Sni];

/// Failures that are exposed from the start, because each phase can end in them: a counter that appears with its first
/// failure would hide that failure from `increase()`. Others appear when they happen.
const KNOWN_FAILURES: [(Phase, &[FailureKind]); 5] = {
    use FailureKind::{
        BadCertificate, Closed, HttpError, Local, Malformed, NoAddress, NotTls, Nxdomain, RedirectLoop,
        Refused, Reset, ShortBody, Stalled, Timeout, TlsAlert, TooLarge, Unreachable,
    };
    [
        (Phase::Resolve, &[Nxdomain, NoAddress, Timeout, Malformed, Local]),
        (Phase::Connect, &[Refused, Unreachable, Timeout, Local]),
        (Phase::Tls, &[Timeout, Reset, Closed, TlsAlert, BadCertificate, NotTls]),
        (Phase::Processing, &[Timeout, Reset, Closed, HttpError, RedirectLoop, TooLarge, Malformed]),
        (Phase::Transfer, &[Timeout, Reset, Closed, ShortBody, Stalled, TooLarge, Malformed]),
    ]
};

/// Everything that is exposed.
#[derive(Debug)]
pub(super) struct State {
    pub(super) mode: HistogramMode,
    pub(super) vantage: Vantage,
    pub(super) targets: BTreeMap<TargetId, TargetState>,
    /// By the value of the `target` label: a target's id, or a platform's name.
    pub(super) histograms: BTreeMap<String, Histograms>,
    pub(super) schedule_lag: Distribution,
    pub(super) store_errors: u64,
    pub(super) notifications: u64,
    pub(super) notification_failures: u64,
    pub(super) dropped_events: u64,
    pub(super) budget_remaining: Option<u64>,
    pub(super) store_writable: Option<bool>,
    pub(super) reload_successful: Option<bool>,
    pub(super) reload_success_at: Option<f64>,
}

/// The distributions of one `target` label.
#[derive(Debug)]
pub(super) struct Histograms {
    pub(super) phases: [Distribution; Phase::ALL.len()],
    pub(super) exchange: Distribution,
    pub(super) goodput: Distribution,
}

impl Histograms {
    fn new() -> Self {
        Self {
            phases: std::array::from_fn(|_| Distribution::new(&DURATION_EDGES)),
            exchange: Distribution::new(&DURATION_EDGES),
            goodput: Distribution::new(&GOODPUT_EDGES),
        }
    }
}

/// One target.
#[derive(Debug)]
pub(super) struct TargetState {
    pub(super) info: TargetInfo,
    pub(super) exchanges: u64,
    pub(super) failures: BTreeMap<(Phase, FailureKind), u64>,
    pub(super) received_bytes: u64,
    pub(super) transfer_seconds: f64,
    pub(super) retransmits: u64,
    /// In the order of `SkipReason::ALL`.
    pub(super) skipped: [u64; SkipReason::ALL.len()],
    /// In the order of `INCIDENT_VERDICTS`.
    pub(super) incidents: [u64; INCIDENT_VERDICTS.len()],
    pub(super) incident_active: [bool; INCIDENT_VERDICTS.len()],
    pub(super) rtt: Option<f64>,
    pub(super) last_exchange: Option<f64>,
    pub(super) effective_interval: Option<f64>,
    /// The verdict that the engine says stands; `None`: it has not said.
    pub(super) standing: Option<Verdict>,
    /// In the order of `COMPARISONS`.
    pub(super) findings: [Option<Known>; COMPARISONS.len()],
    pub(super) phase_quantiles: [QuantileRecorder; Phase::ALL.len()],
    pub(super) goodput_quantiles: QuantileRecorder,
}

/// What `target_info` says.
#[derive(Debug)]
pub(super) struct TargetInfo {
    pub(super) platform: String,
    pub(super) role: &'static str,
    pub(super) kind: &'static str,
    pub(super) host: String,
}

/// The numbers of the last finding of one comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) verdict: Verdict,
    pub(super) slowdown: Option<f64>,
    pub(super) evidence_log10: Option<f64>,
    pub(super) limit: Option<f64>,
}

impl State {
    pub(super) fn new(mode: HistogramMode) -> Self {
        Self {
            mode,
            vantage: Vantage::default(),
            targets: BTreeMap::new(),
            histograms: BTreeMap::new(),
            schedule_lag: Distribution::new(&DURATION_EDGES),
            store_errors: 0,
            notifications: 0,
            notification_failures: 0,
            dropped_events: 0,
            budget_remaining: None,
            store_writable: None,
            reload_successful: None,
            reload_success_at: None,
        }
    }

    /// Takes over a configuration: what stays keeps its series, what goes loses them, what comes starts from zero.
    pub(super) fn configure(&mut self, targets: &[Target], vantage: &Vantage, mode: HistogramMode) {
        if mode != self.mode {
            self.mode = mode;
            self.histograms.clear();
        }
        self.vantage = vantage.clone();
        let mut before = std::mem::take(&mut self.targets);
        for target in targets {
            let info = TargetInfo::of(target);
            let state = match before.remove(&target.id) {
                Some(state) => TargetState { info, ..state },
                None => TargetState::new(info),
            };
            self.targets.insert(target.id.clone(), state);
        }
        let mut before = std::mem::take(&mut self.histograms);
        for id in self.targets.keys() {
            let key = self.mode.label(id);
            if !self.histograms.contains_key(key) {
                let kept = before.remove(key).unwrap_or_else(Histograms::new);
                self.histograms.insert(key.to_owned(), kept);
            }
        }
    }

    /// Counts an exchange. One whose target is not configured (any more) has no series.
    pub(super) fn measured(&mut self, measurement: &Measurement) {
        let exchange = &measurement.exchange;
        let id = match exchange.role {
            Role::Control => measurement.control.as_ref().unwrap_or(&measurement.subject),
            Role::Subject | Role::Canary => &measurement.subject,
        };
        let Some(target) = self.targets.get_mut(id) else { return };
        target.count(exchange);
        let Some(histograms) = self.histograms.get_mut(self.mode.label(id)) else { return };
        for phase in Phase::ALL {
            if let Some(seconds) = exchange.seconds_of(phase) {
                histograms.phases[phase as usize].observe(seconds);
                target.phase_quantiles[phase as usize].record(seconds);
            }
        }
        if exchange.tells_duration() {
            histograms.exchange.observe(exchange.duration.as_secs_f64());
        }
        if let Some(goodput) = exchange.goodput() {
            histograms.goodput.observe(goodput);
            target.goodput_quantiles.record(goodput);
        }
    }
}

impl TargetState {
    fn new(info: TargetInfo) -> Self {
        let known = KNOWN_FAILURES.iter().flat_map(|(phase, kinds)| kinds.iter().map(|&kind| (*phase, kind)));
        Self {
            info,
            exchanges: 0,
            failures: known.map(|failure| (failure, 0)).collect(),
            received_bytes: 0,
            transfer_seconds: 0.0,
            retransmits: 0,
            skipped: Default::default(),
            incidents: Default::default(),
            incident_active: Default::default(),
            rtt: None,
            last_exchange: None,
            effective_interval: None,
            standing: None,
            findings: Default::default(),
            phase_quantiles: std::array::from_fn(|_| QuantileRecorder::new(1e6)),
            goodput_quantiles: QuantileRecorder::new(1.0),
        }
    }

    fn count(&mut self, exchange: &Exchange) {
        self.exchanges += 1;
        if let Some(failure) = &exchange.failure {
            *self.failures.entry((failure.phase, failure.kind)).or_default() += 1;
        }
        self.received_bytes += exchange.bytes;
        self.transfer_seconds += exchange.transfer_seconds();
        let began = exchange.started_at.as_duration().as_secs_f64();
        self.last_exchange = Some(began + exchange.duration.as_secs_f64());
        if let Some(tcp) = &exchange.tcp {
            let last = tcp.after_connect().or(tcp.connect);
            self.retransmits += u64::from(last.and_then(|info| info.retransmits).unwrap_or(0));
            let rtt = tcp.connect.and_then(|info| info.rtt).or_else(|| tcp.end.and_then(|info| info.min_rtt));
            self.rtt = rtt.map(|rtt| rtt.as_secs_f64()).or(self.rtt);
        }
    }

    pub(super) fn judged(&mut self, comparison: Comparison, finding: &Finding) {
        let Some(index) = COMPARISONS.iter().position(|&known| known == comparison) else { return };
        let evidence = &finding.evidence;
        self.findings[index] = Some(Known {
            verdict: finding.verdict,
            slowdown: evidence.slowdown.filter(|ratio| ratio.is_finite()),
            evidence_log10: Some(evidence.e_value.log10()).filter(|log| log.is_finite()),
            limit: evidence.limit_bytes_per_second.filter(|limit| limit.is_finite()),
        });
    }

    /// What stands, else what the strongest comparison last said.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.standing.or_else(|| self.strongest().map(|known| known.verdict))
    }

    /// The finding of the strongest comparison.
    pub(super) fn strongest(&self) -> Option<Known> {
        self.findings.iter().rev().find_map(|finding| *finding)
    }
}

impl TargetInfo {
    fn of(target: &Target) -> Self {
        use crate::model::EndpointKind;
        Self {
            platform: target.id.platform().unwrap_or_default().to_owned(),
            role: match target.role {
                Role::Subject => "subject",
                Role::Control => "control",
                Role::Canary => "canary",
            },
            kind: match target.kind {
                EndpointKind::Page => "page",
                EndpointKind::Media => "media",
                EndpointKind::Api => "api",
            },
            host: target.url.host_str().unwrap_or_default().to_owned(),
        }
    }
}
