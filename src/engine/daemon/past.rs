//! The daemon and its past: what is taken up at the start, what is handed over after each round, what ends with a target.

use jiff::Timestamp;
use tracing::warn;

use super::{
    super::{
        incidents::{self, Change},
        keeper::Kept,
        state::TargetState,
    },
    Daemon,
};
use crate::{
    analysis::series,
    model::{Comparison, DetectorState, Exchange, IncidentRecord, Role, TargetId},
    store::{Restored, RoundRecord},
};

impl Daemon {
    /// Takes up what an earlier process left: verdicts, detectors, incidents that last, quantiles, unsent messages.
    /// Counters start from zero, as Prometheus expects.
    pub(super) fn take_up(&mut self, restored: Restored) {
        let Restored { memories, detectors, incidents, outbox, rows, .. } = restored;
        self.keeper.tell(self.setup.receivers.clone());
        self.keeper.send_again(outbox);
        for (id, memory) in memories {
            self.memory.entry(id).or_default().state.adopt(&memory);
        }
        for (id, comparison, state) in detectors {
            self.memory.entry(id).or_default().state.adopt_detector(comparison, state);
        }
        for incident in incidents {
            self.memory.entry(incident.target.clone()).or_default().state.adopt_incident(incident);
        }
        // Rows come newest first.
        for (id, row) in rows.iter().rev() {
            let plan = &self.setup.plan;
            let control = || plan.items.iter().find(|item| item.target.id == *id)?.target.controls.first();
            let whose = if row.role == Role::Control { control() } else { Some(id) };
            if let Some(whose) = whose.filter(|_| !row.fallback) {
                self.metrics.remember(whose, row.phases, row.goodput);
            }
        }
        for (id, memory) in &self.memory {
            if let Some(incident) = memory.state.incident() {
                self.metrics.incident_began(id, incident.incident.verdict, false);
            }
        }
        self.forget_removed();
    }

    /// Forgets targets that are not configured any more. Their incidents end with the last that was seen of them: nobody
    /// would ever see another end.
    pub(super) fn forget_removed(&mut self) {
        let at = self.wall();
        let plan = &self.setup.plan;
        let gone: Vec<TargetId> = self
            .memory
            .iter()
            .filter(|(id, memory)| !memory.running && plan.items.iter().all(|item| item.target.id != **id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            let Some(mut memory) = self.memory.remove(&id) else { continue };
            if let Some(record) = memory.state.retire(at) {
                let change = Some(Change::Ended(record));
                self.hand_over(&id, None, None, change, Some(&memory.state), at);
            }
        }
        self.say_lasting(at);
    }

    /// Hands a round over with all that it changed.
    pub(super) fn keep(
        &mut self,
        id: &TargetId,
        round: Option<RoundRecord>,
        detector: Option<(Comparison, DetectorState)>,
        change: Option<Change>,
        at: Timestamp,
    ) {
        if let Some(change) = &change {
            match change {
                Change::Began(record) => self.metrics.incident_began(id, record.incident.verdict, true),
                Change::Ended(record) => self.metrics.incident_ended(id, record.incident.verdict),
                Change::Went(_) => {}
            }
        }
        let told = matches!(change, Some(Change::Began(_) | Change::Ended(_)));
        let state = self.memory.get_mut(id).map(|memory| std::mem::take(&mut memory.state));
        self.hand_over(id, round, detector, change, state.as_ref(), at);
        if let (Some(memory), Some(state)) = (self.memory.get_mut(id), state) {
            memory.state = state;
        }
        if told {
            self.say_lasting(at);
        }
    }

    fn hand_over(
        &mut self,
        id: &TargetId,
        round: Option<RoundRecord>,
        detector: Option<(Comparison, DetectorState)>,
        change: Option<Change>,
        state: Option<&TargetState>,
        at: Timestamp,
    ) {
        if let Some(change) = &change {
            incidents::log(change);
        }
        let memory = state.map(TargetState::memory).and_then(|memory| {
            memory.inspect_err(|error| warn!(%error, "a memory cannot be written; please report it")).ok()
        });
        let kept = Kept {
            round,
            memory: memory.map(|memory| (id.clone(), memory)),
            detector: detector.map(|(comparison, state)| (id.clone(), comparison, state)),
            change,
        };
        self.keeper.keep(kept, &self.setup.plan.vantage, at);
    }

    /// Keeps an exchange on demand: a round of its own that judges nothing.
    pub(super) fn keep_probe(&mut self, id: &TargetId, exchange: &Exchange) {
        let at = self.wall();
        let verdict = self.memory.get(id).and_then(|memory| memory.state.verdict());
        let round = RoundRecord {
            number: self.keeper.number(at),
            at,
            vantage: self.setup.plan.vantage.clone(),
            target: id.clone(),
            control: None,
            comparison: Comparison::None,
            closer: false,
            finding: None,
            verdict: verdict.map(|(verdict, _)| verdict),
            repeat: String::new(),
            exchanges: vec![exchange.clone()],
        };
        let kept = Kept { round: Some(round), memory: None, detector: None, change: None };
        self.keeper.keep(kept, &self.setup.plan.vantage, at);
    }

    /// How the detectors of a target are set: false alarms are shared over all targets.
    pub(super) fn series_settings(&self, id: &TargetId) -> series::Settings {
        let items = &self.setup.plan.items;
        let index = items.iter().position(|item| item.target.id == *id);
        let interval = index.map(|index| self.setup.schedule.effective_interval(index)).unwrap_or_default();
        series::Settings::live(items.len().max(1), interval)
    }

    fn say_lasting(&self, at: Timestamp) {
        let lasting: Vec<&IncidentRecord> =
            self.memory.values().filter_map(|memory| memory.state.incident()).collect();
        self.keeper.lasting(&lasting, &self.setup.plan.vantage, at);
    }
}
