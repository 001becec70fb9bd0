//! The five phases of an exchange, and the timeline that records how far it came.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A phase of an exchange, in the order in which they happen. The names are `blackbox_exporter`'s and are the same in
/// code, JSON, metrics and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The name is looked up.
    Resolve,
    /// The TCP handshake, from SYN to the socket being writable.
    Connect,
    /// The TLS handshake, from the first byte of the `ClientHello` to its completion.
    Tls,
    /// From sending the request to the first payload byte read after it.
    Processing,
    /// From that first byte to the last one wanted.
    Transfer,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 5] = [Self::Resolve, Self::Connect, Self::Tls, Self::Processing, Self::Transfer];

    /// The name used in JSON, metrics and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Processing => "processing",
            Self::Transfer => "transfer",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How far an exchange came and how long each phase took: always a prefix of the five phases.
///
/// A phase is either timed or skipped (`resolve` of a pinned address, `tls` over plain HTTP). The last timed phase may
/// have ended in a failure or been cut short by our own budget; the exchange's `failure` and `censored` say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// `None` is skipped or, at and beyond `entered`, not reached.
    spans: [Option<Duration>; Phase::ALL.len()],
    entered: usize,
}

impl Timeline {
    /// Records that `phase` took `duration`.
    ///
    /// # Panics
    /// When the phase is out of order: a timeline cannot know `tls` without having passed `connect`.
    pub fn record(&mut self, phase: Phase, duration: Duration) {
        self.enter(phase);
        self.spans[phase as usize] = Some(duration);
    }

    /// Records that `phase` was not performed.
    ///
    /// # Panics
    /// When the phase is out of order.
    pub fn skip(&mut self, phase: Phase) {
        self.enter(phase);
    }

    fn enter(&mut self, phase: Phase) {
        assert_eq!(phase as usize, self.entered, "phases are recorded in order");
        self.entered += 1;
    }

    /// The time spent in `phase`; `None` when it was not performed or not reached.
    pub const fn duration(&self, phase: Phase) -> Option<Duration> {
        self.spans[phase as usize]
    }

    /// The last phase that was performed.
    pub fn reached(&self) -> Option<Phase> {
        Phase::ALL.into_iter().rev().find(|&phase| self.duration(phase).is_some())
    }

    /// The sum of all phases: the duration of the exchange.
    pub fn total(&self) -> Duration {
        self.spans.iter().flatten().sum()
    }
}

/// The JSON form: every phase is there, `null` is "not performed or not reached".
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spans {
    resolve: Option<f64>,
    connect: Option<f64>,
    tls: Option<f64>,
    processing: Option<f64>,
    transfer: Option<f64>,
}

impl Serialize for Timeline {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = |phase| self.duration(phase).map(|duration| duration.as_secs_f64());
        Spans {
            resolve: span(Phase::Resolve),
            connect: span(Phase::Connect),
            tls: span(Phase::Tls),
            processing: span(Phase::Processing),
            transfer: span(Phase::Transfer),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Spans::deserialize(deserializer)?;
        let spans = [raw.resolve, raw.connect, raw.tls, raw.processing, raw.transfer];
        let entered = spans.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let mut timeline = Self::default();
        for (phase, span) in Phase::ALL.into_iter().zip(spans).take(entered) {
            match span {
                Some(seconds) => timeline.record(phase, super::seconds::parse(seconds)?),
                None => timeline.skip(phase),
            }
        }
        Ok(timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_was_performed() {
        let mut timeline = Timeline::default();
        timeline.skip(Phase::Resolve);
        timeline.record(Phase::Connect, Duration::from_millis(20));
        timeline.record(Phase::Tls, Duration::from_millis(30));
        assert_eq!(timeline.total(), Duration::from_millis(50));
        assert_eq!(timeline.reached(), Some(Phase::Tls));
        assert_eq!(timeline.duration(Phase::Resolve), None);
        assert_eq!(timeline.duration(Phase::Transfer), None);
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_phase_cannot_be_left_out() {
        Timeline::default().record(Phase::Tls, Duration::ZERO);
    }

    #[test]
    fn survives_json() {
        let mut timeline = Timeline::default();
        timeline.record(Phase::Resolve, Duration::from_millis(5));
        timeline.record(Phase::Connect, Duration::from_millis(20));
        timeline.skip(Phase::Tls);
        timeline.record(Phase::Processing, Duration::from_millis(7));
        let text = serde_json::to_string(&timeline).unwrap();
        assert_eq!(text, r#"{"resolve":0.005,"connect":0.02,"tls":null,"processing":0.007,"transfer":null}"#);
        assert_eq!(serde_json::from_str::<Timeline>(&text).unwrap(), timeline);
    }
}
