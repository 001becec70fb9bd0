//! Events to Prometheus families.
//!
//! The engine owns one [`Metrics`] and tells it what happens; the web room reads it. Series exist from the start where
//! their labels are known, an unknown gauge is an absent series, counters start from zero in every process. Memory is
//! bounded by the configuration: 10 kB a target when new, about 70 kB once every phase and goodput have been seen over a wide
//! range (six `HdrHistogram`s of up to 10 kB, seven sparse native histograms, and the counters): 14 MB for 200 targets,
//! measured. A scrape of those 200 (3.5 MB of text) takes 40 ms of one core and 8 MB while it lasts.

mod collect;
mod docs;
mod families;
mod histogram;
mod protobuf;
mod state;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use prometheus::{Encoder, TextEncoder, core::Collector, process_collector::ProcessCollector};
use serde::Deserialize;

pub use docs::markdown;
pub use families::{Description, Family, Kind, NAMESPACE, PROCESS_FAMILIES};

use crate::model::{Event, Phase, PhaseQuantiles, Quantiles, Target, TargetId, Vantage, Verdict};
use collect::{Collected, collect};
use state::{INCIDENT_VERDICTS, State};

/// Content type of the text form.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Content type of the protobuf form.
pub const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Above so many targets the histograms are kept by platform unless the configuration says otherwise: 500 targets are
/// some 100 000 series.
const TARGETS_MAX_BY_TARGET: usize = 500;

/// What the `target` label of histograms holds, and whether they have classic buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistogramMode {
    /// A target's id; classic and native.
    Target,
    /// A platform's name (ids without a platform stand for themselves); classic and native.
    Platform,
    /// A target's id; native only: the text form has sum and count alone.
    Native,
}

impl HistogramMode {
    /// The default for so many targets.
    pub const fn for_targets(targets: usize) -> Self {
        if targets > TARGETS_MAX_BY_TARGET { Self::Platform } else { Self::Target }
    }

    /// The `target` label of histograms of this target.
    fn label(self, id: &TargetId) -> &str {
        match self {
            Self::Target | Self::Native => id.as_str(),
            Self::Platform => id.platform().unwrap_or(id.as_str()),
        }
    }
}

/// The families and everything counted in them. Clones share one state.
#[derive(Debug, Clone)]
pub struct Metrics {
    state: Arc<Mutex<State>>,
    process: Arc<ProcessCollector>,
}

impl Metrics {
    /// Metrics of these targets, all zero or unknown.
    pub fn new(targets: &[Target], vantage: &Vantage, mode: HistogramMode) -> Self {
        let mut state = State::new(mode);
        state.configure(targets, vantage, mode);
        Self { state: Arc::new(Mutex::new(state)), process: Arc::new(ProcessCollector::for_self()) }
    }

    /// Takes over a new configuration. Series of targets that stay go on; those of removed targets disappear; a change
    /// of `mode` starts the histograms anew.
    pub fn configure(&self, targets: &[Target], vantage: &Vantage, mode: HistogramMode) {
        self.lock().configure(targets, vantage, mode);
    }

    /// Counts what happened. Events of targets that are not configured are left out.
    pub fn observe(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Measured(measurement) => state.measured(measurement),
            Event::Judged { target, comparison, finding, at: _ } => {
                if let Some(target) = state.targets.get_mut(target) {
                    target.judged(*comparison, finding);
                }
            }
            Event::Skipped { target, reason } => {
                if let Some(target) = state.targets.get_mut(target) {
                    target.skipped[*reason as usize] += 1;
                }
            }
            Event::Lagged(lag) => state.schedule_lag.observe(lag.as_secs_f64()),
        }
    }

    /// The verdict that stands, which may outlast the findings of single rounds. While none stands, the verdict of the
    /// strongest comparison's last finding is shown.
    pub fn set_verdict(&self, target: &TargetId, verdict: Option<Verdict>) {
        if let Some(target) = self.lock().targets.get_mut(target) {
            target.standing = verdict;
        }
    }

    /// The target has not been reached for long: its verdict no longer speaks of the present and is withdrawn until the
    /// next judgement.
    pub fn set_stale(&self, target: &TargetId) {
        if let Some(target) = self.lock().targets.get_mut(target) {
            target.findings = Default::default();
            target.standing = None;
        }
    }

    /// The interval that the budgets allow this target.
    pub fn set_effective_interval(&self, target: &TargetId, interval: Duration) {
        if let Some(target) = self.lock().targets.get_mut(target) {
            target.effective_interval = Some(interval.as_secs_f64());
        }
    }

    /// Bytes that may still be spent now.
    pub fn set_budget_remaining(&self, bytes: u64) {
        self.lock().budget_remaining = Some(bytes);
    }

    /// The configuration was read, at start or again.
    pub fn set_reload(&self, successful: bool, at: Timestamp) {
        let mut state = self.lock();
        state.reload_successful = Some(successful);
        if successful {
            state.reload_success_at = Some(at.as_duration().as_secs_f64());
        }
    }

    /// Whether the store takes measurements.
    pub fn set_store_writable(&self, writable: bool) {
        self.lock().store_writable = Some(writable);
    }

    /// A write to the store failed.
    pub fn count_store_error(&self) {
        self.lock().store_errors += 1;
    }

    /// A notification is to be sent.
    pub fn count_notification(&self) {
        self.lock().notifications += 1;
    }

    /// A notification was given up.
    pub fn count_notification_failure(&self) {
        self.lock().notification_failures += 1;
    }

    /// Events were lost because a queue was full.
    pub fn count_dropped_events(&self, events: u64) {
        self.lock().dropped_events += events;
    }

    /// An incident began; `counted` is false for one that is only taken up again after a restart.
    pub fn incident_began(&self, target: &TargetId, verdict: Verdict, counted: bool) {
        self.incident(target, verdict, true, counted);
    }

    /// An incident ended.
    pub fn incident_ended(&self, target: &TargetId, verdict: Verdict) {
        self.incident(target, verdict, false, false);
    }

    fn incident(&self, target: &TargetId, verdict: Verdict, active: bool, counted: bool) {
        let Some(index) = INCIDENT_VERDICTS.iter().position(|&known| known == verdict) else { return };
        if let Some(target) = self.lock().targets.get_mut(target) {
            target.incident_active[index] = active;
            target.incidents[index] += u64::from(counted);
        }
    }

    /// Takes an exchange of an earlier process into the quantiles alone: counters and histograms start from zero in every
    /// process, what people read goes on. Seconds of each phase in their order, goodput in bytes per second.
    pub fn remember(&self, target: &TargetId, phases: [Option<f64>; Phase::ALL.len()], goodput: Option<f64>) {
        if let Some(target) = self.lock().targets.get_mut(target) {
            for (recorder, seconds) in target.phase_quantiles.iter_mut().zip(phases) {
                if let Some(seconds) = seconds {
                    recorder.record(seconds);
                }
            }
            if let Some(goodput) = goodput {
                target.goodput_quantiles.record(goodput);
            }
        }
    }

    /// Quantiles of the phases of a target that have been seen, in seconds.
    pub fn phase_quantiles(&self, target: &TargetId) -> Vec<PhaseQuantiles> {
        let mut state = self.lock();
        let Some(target) = state.targets.get_mut(target) else { return Vec::new() };
        let of = |phase: Phase| {
            let quantiles = target.phase_quantiles[phase as usize].quantiles()?;
            Some(PhaseQuantiles { phase, quantiles })
        };
        Phase::ALL.into_iter().filter_map(of).collect()
    }

    /// Quantiles of the goodput of a target, in bytes per second; `None` before any was seen.
    pub fn goodput_quantiles(&self, target: &TargetId) -> Option<Quantiles> {
        self.lock().targets.get_mut(target)?.goodput_quantiles.quantiles()
    }

    /// Writes the text form (version 0.0.4).
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for collected in self.collected() {
            TextEncoder::new().encode(&[collected.family], out).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Writes the delimited protobuf form, with native histograms beside the classic ones.
    pub fn write_protobuf(&self, out: &mut impl Write) -> io::Result<()> {
        let mut message = Vec::new();
        for collected in self.collected() {
            message.clear();
            protobuf::write_family(&collected, &mut message);
            out.write_all(&message)?;
        }
        Ok(())
    }

    /// The text form.
    pub fn encode_text(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory does not fail, and labels and numbers are UTF-8.
        self.write_text(&mut out).ok();
        String::from_utf8(out).unwrap_or_default()
    }

    /// The protobuf form.
    pub fn encode_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_protobuf(&mut out).ok();
        out
    }

    /// All families that have samples, each collected when it is asked for.
    fn collected(&self) -> impl Iterator<Item = Collected> + '_ {
        let own = Family::ALL.iter().filter_map(|&family| collect(family, &self.lock()));
        let process = std::iter::once_with(|| self.process.collect()).flatten();
        own.chain(process.map(|family| Collected { family, natives: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not silence the metrics; every update leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
