//! What leaves the engine to stay: rounds and incidents to the store, messages to people.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    incidents::Change,
    notifier::{Notifier, Pending},
};
use crate::{
    metrics::Metrics,
    model::{Comparison, DetectorState, IncidentChange, IncidentRecord, TargetId, Vantage},
    notify::{Kind, Message, Receiver, Sender},
    store::{self, Batch, Health, Restored, RoundRecord, Store},
};

/// Messages that may wait for the notifier; what does not fit is sent after the next start.
const MESSAGES_WAITING_MAX: usize = 256;

/// Keeps what the engine hands over.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    metrics: Metrics,
    messages: mpsc::Sender<Pending>,
    receivers: watch::Sender<Vec<Receiver>>,
    lasting: watch::Sender<Vec<Message>>,
    notifier: JoinHandle<()>,
    stop: CancellationToken,
    writable: Arc<AtomicBool>,
    last_round: i64,
    /// Incidents whose last change did not fit the queue.
    unsaved: BTreeMap<String, IncidentRecord>,
}

/// What belongs to one round.
pub(super) struct Kept {
    pub(super) round: Option<RoundRecord>,
    pub(super) memory: Option<(TargetId, String)>,
    pub(super) detector: Option<(TargetId, Comparison, DetectorState)>,
    pub(super) change: Option<Change>,
}

impl Keeper {
    /// Opens the store and starts what sends messages. Nothing here fails: a store that cannot be used is tried again,
    /// and said.
    pub fn open(settings: store::Settings, sender: Sender, metrics: &Metrics) -> (Self, Restored) {
        let writable = Arc::new(AtomicBool::new(false));
        let (store, restored) = Store::open(settings, health(metrics, &writable));
        let store = Arc::new(store);
        let (messages, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (receivers, known) = watch::channel(Vec::new());
        let (lasting, watcher) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let notifier = Notifier::new(sender, known, Arc::clone(&store), metrics.clone());
        let notifier = tokio::spawn(notifier.run(receiver, watcher, stop.clone()));
        let keeper = Self {
            store,
            metrics: metrics.clone(),
            messages,
            receivers,
            lasting,
            notifier,
            stop,
            writable,
            last_round: restored.last_round,
            unsaved: BTreeMap::new(),
        };
        (keeper, restored)
    }

    /// Whether what is handed over now can be written.
    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// A number for the next round.
    pub(super) fn number(&mut self, at: Timestamp) -> i64 {
        self.last_round = at.as_microsecond().max(self.last_round + 1);
        self.last_round
    }

    /// Says who is told from now on, also of what waits.
    pub(super) fn tell(&self, receivers: Vec<Receiver>) {
        self.receivers.send_replace(receivers);
    }

    /// Takes one round with all that belongs to it.
    pub(super) fn keep(&mut self, kept: Kept, vantage: &Vantage, at: Timestamp) {
        let Kept { round, memory, detector, change } = kept;
        let mut messages = Vec::new();
        if let Some(change) = change {
            let (told, record) = match change {
                Change::Began(record) => (Some(IncidentChange::Began), record),
                Change::Went(record) => (None, record),
                Change::Ended(record) => (Some(IncidentChange::Ended), record),
            };
            if let Some(change) = told {
                messages = self
                    .receivers
                    .borrow()
                    .iter()
                    .map(|receiver| message(receiver, change, &record, vantage, at))
                    .collect();
            }
            self.unsaved.insert(record.id.clone(), record);
        }
        let outbox = messages.iter().filter_map(|message| {
            let text = serde_json::to_string(message).ok()?;
            Some((message.id(), text))
        });
        let batch = Batch {
            round: round.map(Box::new),
            memory,
            detectors: detector.into_iter().map(|(id, c, state)| (id, c, Box::new(state))).collect(),
            incidents: self.unsaved.values().cloned().collect(),
            outbox: outbox.collect(),
            ..Batch::default()
        };
        let written = batch.settled.clone();
        if self.store.submit(batch) {
            self.unsaved.clear();
        }
        for message in messages {
            self.send(Pending::new(message).after(written.clone()));
        }
    }

    /// Hands a message to the notifier.
    fn send(&self, pending: Pending) {
        self.metrics.count_notification();
        if self.messages.try_send(pending).is_err() {
            self.metrics.count_dropped_events(1);
        }
    }

    /// Messages that an earlier process did not get rid of. What cannot be read is settled.
    pub(super) fn send_again(&self, outbox: Vec<(String, String)>) {
        let mut dropped = Vec::new();
        for (id, text) in outbox {
            match serde_json::from_str::<Message>(&text) {
                Ok(message) => self.send(Pending::new(message)),
                Err(_) => dropped.push(id),
            }
        }
        if !dropped.is_empty() {
            self.store.submit(Batch { sent: dropped, ..Batch::default() });
        }
    }

    /// Says which incidents last: an Alertmanager forgets what it does not hear of.
    pub(super) fn lasting(&self, incidents: &[&IncidentRecord], vantage: &Vantage, at: Timestamp) {
        let lasting = {
            let receivers = self.receivers.borrow();
            let alertmanagers = receivers.iter().filter(|receiver| receiver.kind() == Kind::Alertmanager);
            let began = |receiver| {
                incidents
                    .iter()
                    .map(move |record| message(receiver, IncidentChange::Began, record, vantage, at))
            };
            alertmanagers.flat_map(began).collect()
        };
        self.lasting.send_replace(lasting);
    }

    /// Lets what is under way be sent, writes what is queued, and closes the store.
    pub(super) async fn close(self) {
        self.stop.cancel();
        // A notifier that panicked has been reported by the panic itself.
        self.notifier.await.ok();
        let store = self.store;
        tokio::task::spawn_blocking(move || store.close()).await.ok();
    }
}

fn message(
    receiver: &Receiver,
    change: IncidentChange,
    record: &IncidentRecord,
    vantage: &Vantage,
    at: Timestamp,
) -> Message {
    Message {
        receiver: receiver.name().to_owned(),
        change,
        incident: record.clone(),
        vantage: vantage.clone(),
        at,
    }
}

/// Turns news of the store into metrics, and into one line of the log for each reason.
fn health(metrics: &Metrics, writable: &Arc<AtomicBool>) -> impl FnMut(Health) + Send + Clone + 'static {
    let (metrics, writable) = (metrics.clone(), Arc::clone(writable));
    let said: Arc<Mutex<Option<String>>> = Arc::default();
    move |health| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        match health {
            Health::Writable => {
                metrics.set_store_writable(true);
                writable.store(true, Ordering::Relaxed);
                if said.take().is_some() {
                    info!("the store can be written again");
                }
            }
            Health::Failed(problem) => {
                metrics.set_store_writable(false);
                writable.store(false, Ordering::Relaxed);
                metrics.count_store_error();
                if said.as_ref() != Some(&problem) {
                    warn!(%problem, "the store cannot be written; measuring goes on");
                    *said = Some(problem);
                }
            }
            Health::Dropped(batches) => metrics.count_dropped_events(batches),
        }
    }
}
