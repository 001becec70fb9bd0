//! State to samples: one family at a time, so that a scrape never holds all series at once.

use prometheus::proto;

use super::{
    families::{Description, Family, Kind},
    histogram::{Distribution, Native},
    state::{COMPARISONS, INCIDENT_VERDICTS, State, TargetState},
};
use crate::model::{Network, Phase, SkipReason, TargetId, Verdict};

/// A family with its samples, in the form of the `prometheus` crate, and the native histograms that form has no place
/// for, one for each sample (none for counters and gauges).
pub(super) struct Collected {
    pub(super) family: proto::MetricFamily,
    pub(super) natives: Vec<Native>,
}

/// Collects the samples of one family while the state is locked.
struct Samples {
    description: Description,
    /// No classic buckets are wanted.
    native_only: bool,
    metrics: Vec<proto::Metric>,
    natives: Vec<Native>,
}

/// The samples of `family`; `None` while it has none.
pub(super) fn collect(family: Family, state: &State) -> Option<Collected> {
    let mut samples = Samples {
        description: family.describe(),
        native_only: state.mode == super::HistogramMode::Native,
        metrics: Vec::new(),
        natives: Vec::new(),
    };
    match family {
        Family::PhaseDuration | Family::ExchangeDuration | Family::Goodput | Family::ScheduleLag => {
            distributions(family, state, &mut samples);
        }
        _ => {
            whole(family, state, &mut samples);
            for (id, target) in &state.targets {
                per_target(family, id, target, &mut samples);
            }
        }
    }
    samples.finish()
}

fn distributions(family: Family, state: &State, samples: &mut Samples) {
    if family == Family::ScheduleLag {
        samples.distribution(&[], &state.schedule_lag);
        return;
    }
    for (label, histograms) in &state.histograms {
        match family {
            Family::PhaseDuration => {
                for phase in Phase::ALL {
                    samples.distribution(&[label, phase.name()], &histograms.phases[phase as usize]);
                }
            }
            Family::ExchangeDuration => samples.distribution(&[label], &histograms.exchange),
            _ => samples.distribution(&[label], &histograms.goodput),
        }
    }
}

/// Families without a target.
fn whole(family: Family, state: &State, samples: &mut Samples) {
    let flag = |known: Option<bool>| known.map(|yes| f64::from(u8::from(yes)));
    match family {
        Family::StoreErrors => samples.number(&[], state.store_errors as f64),
        Family::Notifications => samples.number(&[], state.notifications as f64),
        Family::NotificationFailures => samples.number(&[], state.notification_failures as f64),
        Family::DroppedEvents => samples.number(&[], state.dropped_events as f64),
        Family::BudgetRemaining => samples.known(&[], state.budget_remaining.map(|bytes| bytes as f64)),
        Family::StoreWritable => samples.known(&[], flag(state.store_writable)),
        Family::ConfigReloadSuccessful => samples.known(&[], flag(state.reload_successful)),
        Family::ConfigReloadSuccessTimestamp => samples.known(&[], state.reload_success_at),
        Family::BuildInfo => samples.number(&[env!("CARGO_PKG_VERSION")], 1.0),
        Family::VantageInfo => {
            let vantage = &state.vantage;
            let network = match vantage.network {
                Some(Network::Fixed) => "fixed",
                Some(Network::Mobile) => "mobile",
                None => "",
            };
            let asn = vantage.asn.map(|asn| asn.to_string()).unwrap_or_default();
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            samples.number(&[&text(&vantage.country), &asn, &text(&vantage.operator), network], 1.0);
        }
        _ => {}
    }
}

/// Families with a target; the others are left alone.
fn per_target(family: Family, id: &TargetId, target: &TargetState, samples: &mut Samples) {
    let id = id.as_str();
    match family {
        Family::Exchanges => samples.number(&[id], target.exchanges as f64),
        Family::ExchangeFailures => {
            for (&(phase, kind), &count) in &target.failures {
                samples.number(&[id, phase.name(), kind.name()], count as f64);
            }
        }
        Family::ReceivedBytes => samples.number(&[id], target.received_bytes as f64),
        Family::TransferSeconds => samples.number(&[id], target.transfer_seconds),
        Family::TcpRetransmits => samples.number(&[id], target.retransmits as f64),
        Family::RoundsSkipped => {
            for (reason, count) in SkipReason::ALL.iter().zip(target.skipped) {
                samples.number(&[id, reason.name()], count as f64);
            }
        }
        Family::TcpRtt => samples.known(&[id], target.rtt),
        Family::LastExchangeTimestamp => samples.known(&[id], target.last_exchange),
        Family::EffectiveInterval => samples.known(&[id], target.effective_interval),
        Family::TargetInfo => {
            let info = &target.info;
            samples.number(&[id, &info.platform, info.role, info.kind, &info.host], 1.0);
        }
        _ => judgement(family, id, target, samples),
    }
}

/// What is judged of a target. A control is not judged and has no such series.
fn judgement(family: Family, id: &str, target: &TargetState, samples: &mut Samples) {
    if target.info.role == "control" {
        return;
    }
    match family {
        Family::Incidents => {
            for (verdict, count) in INCIDENT_VERDICTS.iter().zip(target.incidents) {
                samples.number(&[id, verdict.name()], count as f64);
            }
        }
        Family::IncidentActive => {
            for (verdict, active) in INCIDENT_VERDICTS.iter().zip(target.incident_active) {
                samples.number(&[id, verdict.name()], f64::from(u8::from(active)));
            }
        }
        Family::Verdict => {
            let current = target.verdict();
            for verdict in Verdict::ALL {
                samples.number(&[id, verdict.name()], f64::from(u8::from(current == Some(verdict))));
            }
        }
        Family::LimitBytesPerSecond => {
            samples.known(&[id], target.strongest().and_then(|known| known.limit));
        }
        Family::SlowdownRatio | Family::EvidenceLog10 => {
            for (comparison, known) in COMPARISONS.iter().zip(&target.findings) {
                let value = known.and_then(|known| match family {
                    Family::SlowdownRatio => known.slowdown,
                    _ => known.evidence_log10,
                });
                samples.known(&[id, comparison.name()], value);
            }
        }
        _ => {}
    }
}

impl Samples {
    /// One number; an unknown one is no sample.
    fn known(&mut self, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.number(labels, value);
        }
    }

    fn number(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.labelled(labels);
        if self.description.kind == Kind::Counter {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    fn distribution(&mut self, labels: &[&str], distribution: &Distribution) {
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(distribution.count());
        histogram.set_sample_sum(distribution.sum());
        if !self.native_only {
            let buckets = distribution.cumulative().map(|(edge, count)| {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(edge);
                bucket.set_cumulative_count(count);
                bucket
            });
            histogram.set_bucket(buckets.collect());
        }
        let mut metric = self.labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
        self.natives.push(distribution.native().clone());
    }

    fn labelled(&self, values: &[&str]) -> proto::Metric {
        debug_assert_eq!(values.len(), self.description.labels.len(), "{}", self.description.name);
        let pairs = self.description.labels.iter().zip(values).map(|(&name, &value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        proto::Metric::from_label(pairs.collect())
    }

    fn finish(self) -> Option<Collected> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.description.name.to_owned());
        family.set_help(self.description.help.to_owned());
        family.set_field_type(match self.description.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.metrics);
        Some(Collected { family, natives: self.natives })
    }
}
