//! From verdicts to incidents: when one begins, what it rests on, when it ends.
//!
//! Two things open one: the detector over time, which sees single pairs, and a closer look, which judges many at once. An
//! incident goes on as long as either says so, and keeps the verdict it began with.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::series::bring_incident_back,
    model::{
        Comparison, Exchange, Finding, Incident, IncidentRecord, Judgement, Mechanism, Role, TargetId,
        Verdict,
    },
};

/// Rounds and exchanges that are kept of an incident: half of them the first, half the last.
const ROUNDS_KEPT: usize = 16;
const EXCHANGES_KEPT: usize = 8;

/// Something that happened to an incident.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// It began.
    Began(IncidentRecord),
    /// More is known of it.
    Went(IncidentRecord),
    /// It ended.
    Ended(IncidentRecord),
}

/// What one round says.
pub(super) struct Round<'a> {
    pub(super) number: i64,
    pub(super) at: Timestamp,
    pub(super) judgement: &'a Judgement,
    /// The finding as it is shown: of the round, or of a window of rounds.
    pub(super) finding: &'a Finding,
    pub(super) suspicious: bool,
    /// The verdict of closer looks, where it accuses.
    pub(super) looked: Option<Verdict>,
    /// The incident of the strongest detector that has one.
    pub(super) series: Option<(Comparison, Incident)>,
    /// The incident that a detector has just found to be over.
    pub(super) series_end: Option<Incident>,
}

/// The incidents of one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) open: Option<IncidentRecord>,
    /// Rounds in a row that were worth a closer look.
    suspicious: Run,
    /// The first of the rounds since that were not.
    calm_since: Option<Timestamp>,
    /// When the round before ended.
    last_at: Option<Timestamp>,
    /// The end that a detector found while closer looks still said otherwise.
    series_end: Option<(Timestamp, [Timestamp; 2])>,
    /// Rounds since the onset, and the suspicious ones of them.
    counted: [u64; 2],
}

/// Rounds in a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Run {
    since: Option<Timestamp>,
    before: Option<Timestamp>,
    rounds: Vec<i64>,
    exchanges: Vec<String>,
}

impl Book {
    /// Takes a round in.
    pub(super) fn fold(&mut self, round: &Round<'_>) -> Option<Change> {
        let change = self.change(round);
        self.last_at = Some(round.at);
        change
    }

    fn change(&mut self, round: &Round<'_>) -> Option<Change> {
        self.note(round);
        if let Some(end) = &round.series_end {
            self.series_end = end.end.zip(end.end_interval);
        }
        let lasts = round.looked.is_some() || round.series.is_some();
        match (self.open.take(), lasts) {
            (None, false) => None,
            (None, true) => {
                let record = self.begin(round);
                self.open = Some(record.clone());
                Some(Change::Began(record))
            }
            (Some(record), true) => {
                self.series_end = None;
                let record = self.go_on(record, round);
                self.open = Some(record.clone());
                Some(Change::Went(record))
            }
            (Some(record), false) => Some(Change::Ended(self.end(record, round))),
        }
    }

    /// The clock was ahead and has been set back: what was dated later than now is taken as of now.
    pub(super) fn bring_back(&mut self, now: Timestamp) {
        let back = |moment: &mut Timestamp| *moment = now.min(*moment);
        self.open.iter_mut().for_each(|record| bring_incident_back(&mut record.incident, now));
        let Run { since, before, .. } = &mut self.suspicious;
        [since, before, &mut self.calm_since, &mut self.last_at].into_iter().flatten().for_each(back);
        if let Some((end, interval)) = &mut self.series_end {
            std::iter::once(end).chain(interval).for_each(back);
        }
    }

    /// Keeps count of suspicious and calm rounds.
    fn note(&mut self, round: &Round<'_>) {
        self.counted[0] += 1;
        if !round.suspicious {
            self.calm_since.get_or_insert(began(round));
            if self.open.is_none() {
                self.suspicious = Run::default();
            }
            return;
        }
        self.counted[1] += 1;
        self.calm_since = None;
        let run = &mut self.suspicious;
        if run.since.is_none() {
            (run.since, run.before) = (Some(began(round)), self.last_at);
        }
        if self.open.is_none() {
            keep(&mut run.rounds, [round.number], ROUNDS_KEPT);
            keep(&mut run.exchanges, affected(round.judgement), EXCHANGES_KEPT);
        }
    }

    fn begin(&mut self, round: &Round<'_>) -> IncidentRecord {
        let run = std::mem::take(&mut self.suspicious);
        let target = &round.judgement.subject;
        let onset = run.since.unwrap_or_else(|| began(round));
        self.counted = [run.rounds.len().max(1) as u64; 2];
        let evidence = &round.judgement.finding.evidence;
        let incident = round.series.as_ref().map_or_else(
            || Incident {
                verdict: round.looked.unwrap_or(Verdict::Throttled),
                onset,
                onset_interval: [run.before.unwrap_or(onset).min(onset), onset],
                onset_before_data: run.before.is_none(),
                alarm: round.at,
                end: None,
                end_interval: None,
                share: 1.0,
                tests: self.counted[0],
                false_alarm_bound: evidence.false_alarm_bound,
                false_alarm_bound_blocks: 1.0,
            },
            |(_, incident)| Incident {
                verdict: round.looked.unwrap_or(incident.verdict),
                alarm: round.at,
                end: None,
                end_interval: None,
                ..incident.clone()
            },
        );
        let comparison =
            round.series.as_ref().map_or(round.judgement.comparison, |(comparison, _)| *comparison);
        let mut record = IncidentRecord {
            id: IncidentRecord::id_of(target, round.at),
            target: target.clone(),
            comparison,
            mechanism: None,
            incident,
            evidence: None,
            summary: String::new(),
            repeat: round.judgement.repeat.clone(),
            rounds: run.rounds,
            exchanges: run.exchanges,
        };
        describe(&mut record, round);
        record
    }

    fn go_on(&mut self, mut record: IncidentRecord, round: &Round<'_>) -> IncidentRecord {
        if round.suspicious {
            keep(&mut record.rounds, [round.number], ROUNDS_KEPT);
            keep(&mut record.exchanges, affected(round.judgement), EXCHANGES_KEPT);
        }
        let incident = &mut record.incident;
        if let Some((_, series)) = &round.series {
            let earlier = series.onset < incident.onset;
            *incident = Incident {
                verdict: incident.verdict,
                alarm: incident.alarm,
                onset: incident.onset.min(series.onset),
                onset_interval: if earlier { series.onset_interval } else { incident.onset_interval },
                end: None,
                end_interval: None,
                // What a closer look was sure of, a detector that starts later does not take back.
                false_alarm_bound: incident.false_alarm_bound.min(series.false_alarm_bound),
                ..series.clone()
            };
        } else {
            incident.tests = self.counted[0];
            incident.share = self.counted[1] as f64 / self.counted[0].max(1) as f64;
        }
        describe(&mut record, round);
        record
    }

    fn end(&mut self, mut record: IncidentRecord, round: &Round<'_>) -> IncidentRecord {
        let calm = self.calm_since.unwrap_or(round.at);
        let (end, interval) =
            self.series_end.take().unwrap_or((calm, [record.incident.alarm.min(calm), calm]));
        record.incident.end = Some(end.max(record.incident.onset));
        record.incident.end_interval = Some(interval);
        self.suspicious = Run::default();
        record
    }

    /// Ends what is open without having seen it end: the target is not measured any more.
    pub(super) fn retire(&mut self, at: Timestamp) -> Option<IncidentRecord> {
        let mut record = self.open.take()?;
        record.incident.end = Some(self.last_at.unwrap_or(at).max(record.incident.onset));
        Some(record)
    }
}

/// When a round began.
fn began(round: &Round<'_>) -> Timestamp {
    let first = round.judgement.exchanges.iter().map(|exchange| exchange.started_at).min();
    // The wall clock may have jumped; a round takes minutes at most.
    let first = first.filter(|first| round.at.duration_since(*first).as_secs().abs() < 3_600);
    first.map_or(round.at, to_microsecond)
}

/// A moment as it is stored: without it what is known before and after a restart would differ.
pub(super) fn to_microsecond(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Takes numbers, evidence and words from a round that accuses or, before any did, from the one that alarmed.
fn describe(record: &mut IncidentRecord, round: &Round<'_>) {
    let own = &round.judgement.finding;
    let accuses = own.verdict == record.incident.verdict;
    if !accuses && !record.summary.is_empty() {
        return;
    }
    let finding = if accuses { own } else { round.finding };
    let mechanism: Option<Mechanism> = finding.mechanism.or(record.mechanism);
    let said = Finding { verdict: record.incident.verdict, mechanism, ..finding.clone() };
    record.mechanism = mechanism;
    record.evidence = Some(said.evidence.clone());
    let judgement = Judgement { finding: said, ..round.judgement.clone() };
    record.summary = crate::report::words::summary(&judgement);
}

/// The exchanges of a round that suffered most.
fn affected(judgement: &Judgement) -> Vec<String> {
    let mut subjects: Vec<&Exchange> = judgement
        .exchanges
        .iter()
        .filter(|exchange| exchange.role == Role::Subject && !exchange.fallback && !exchange.warmup)
        .collect();
    let speed = |exchange: &Exchange| if exchange.is_complete() { exchange.goodput() } else { Some(0.0) };
    subjects.sort_by(|a, b| {
        let (a, b) = (speed(a).unwrap_or(f64::INFINITY), speed(b).unwrap_or(f64::INFINITY));
        a.total_cmp(&b)
    });
    subjects.iter().take(2).map(|exchange| exchange.id.clone()).collect()
}

/// Appends, and drops from the middle what is too much.
fn keep<T>(list: &mut Vec<T>, more: impl IntoIterator<Item = T>, most: usize) {
    for item in more {
        if list.len() >= most {
            list.remove(most / 2);
        }
        list.push(item);
    }
}

/// Whose incident a record is, for logs.
pub(super) fn log(change: &Change) {
    let say = |what: &str, record: &IncidentRecord, target: &TargetId| {
        tracing::info!(target_id = %target, verdict = record.incident.verdict.name(), summary = record.summary, "{what}");
    };
    match change {
        Change::Began(record) => say("incident began", record, &record.target),
        Change::Ended(record) => say("incident ended", record, &record.target),
        Change::Went(_) => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// An incident that began then and lasts.
    pub(in crate::engine) fn record(onset: Timestamp) -> IncidentRecord {
        IncidentRecord {
            id: "shop/images@then".into(),
            target: TargetId::new("shop/images"),
            comparison: Comparison::Sni,
            mechanism: None,
            incident: Incident {
                verdict: Verdict::Throttled,
                onset,
                onset_interval: [onset; 2],
                onset_before_data: false,
                alarm: onset,
                end: None,
                end_interval: None,
                share: 1.0,
                tests: 4,
                false_alarm_bound: 1e-3,
                false_alarm_bound_blocks: 1.0,
            },
            evidence: None,
            summary: String::new(),
            repeat: String::new(),
            rounds: Vec::new(),
            exchanges: Vec::new(),
        }
    }

    #[test]
    fn an_incident_that_was_dated_ahead_ends_when_it_ends() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ahead = now + SignedDuration::from_hours(24 * 365);
        let mut book = Book {
            open: Some(record(ahead)),
            suspicious: Run { since: Some(ahead), before: Some(ahead), ..Run::default() },
            calm_since: Some(ahead),
            last_at: Some(ahead),
            series_end: Some((ahead, [ahead; 2])),
            counted: [4; 2],
        };
        book.bring_back(now);
        let kept = serde_json::to_string(&book).unwrap();
        assert!(!kept.contains("2027"), "{kept}");
        let ended = book.retire(now).unwrap().incident;
        assert_eq!((ended.onset, ended.end), (now, Some(now)));
    }
}
