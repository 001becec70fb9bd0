//! Sends messages: once each, again with growing pauses where a receiver is not there, and remembers what was sent.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::{self, Instant},
    metrics::Metrics,
    notify::{Message, Receiver, SendError, Sender},
    store::{Batch, Store},
};

/// The pause after the first failed attempt; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_mins(30);

/// A receiver that asks to be left alone gets at most so long.
const ASKED_MAX: Duration = Duration::from_hours(2);

/// A message that did not arrive for so long says nothing new any more.
const GIVEN_UP_AFTER: Duration = Duration::from_hours(48);

/// Messages that may wait at once.
const WAITING_MAX: usize = 1024;

/// How often lasting incidents are told to Alertmanagers again: well within what they believe, and soon after one that
/// was restarted has forgotten.
const REFRESH: Duration = Duration::from_mins(4);

/// What is under way at the end may take so long.
const DRAIN: Duration = Duration::from_secs(1);

/// A message waits so long for the store to hold it: where it cannot be written, people are told all the same.
const STORED_WITHIN: Duration = Duration::from_secs(15);

/// A message that is not settled.
#[derive(Debug)]
pub(super) struct Pending {
    message: Message,
    /// Cancelled when the store holds it. Sent earlier, it would be sent twice if we were killed in between.
    stored: Option<CancellationToken>,
    attempts: u32,
    since: Instant,
    due: Instant,
    under_way: bool,
}

impl Pending {
    /// A message that the store holds already.
    pub(super) fn new(message: Message) -> Self {
        let now = clock::now();
        Self { message, stored: None, attempts: 0, since: now, due: now, under_way: false }
    }

    /// The same, sent after the store holds it.
    pub(super) fn after(self, stored: CancellationToken) -> Self {
        Self { stored: Some(stored), ..self }
    }
}

/// Sends until it is stopped.
pub(super) struct Notifier {
    sender: Sender,
    /// Who is configured now.
    receivers: watch::Receiver<Vec<Receiver>>,
    store: Arc<Store>,
    metrics: Metrics,
    pending: Vec<Pending>,
    sending: JoinSet<(String, Result<(), SendError>)>,
}

impl Notifier {
    pub(super) fn new(
        sender: Sender,
        receivers: watch::Receiver<Vec<Receiver>>,
        store: Arc<Store>,
        metrics: Metrics,
    ) -> Self {
        Self { sender, receivers, store, metrics, pending: Vec::new(), sending: JoinSet::new() }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<Pending>,
        lasting: watch::Receiver<Vec<Message>>,
        stop: CancellationToken,
    ) {
        let mut refresh = time::interval(REFRESH);
        refresh.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            self.start_due();
            let due =
                self.pending.iter().filter(|pending| !pending.under_way).map(|pending| pending.due).min();
            // What waits for an earlier message of the same incident is due, but not started.
            let due = due.map(|due| due.max(clock::now() + PAUSE_MIN / 4));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(pending) = messages.recv() => self.add(pending),
                Some(Ok((id, result))) = self.sending.join_next() => self.settle(&id, result),
                _ = refresh.tick() => self.refresh(&lasting),
                () = sleep_until(due) => {}
            }
        }
        let drained = time::timeout(DRAIN, async {
            while let Some(Ok((id, result))) = self.sending.join_next().await {
                self.settle(&id, result);
            }
        });
        // What did not arrive is sent after the next start.
        drained.await.ok();
        self.sending.abort_all();
    }

    fn add(&mut self, pending: Pending) {
        if self.pending.len() == WAITING_MAX {
            self.metrics.count_dropped_events(1);
            return;
        }
        self.pending.push(pending);
    }

    /// Starts to send what is due, the messages of one incident to one receiver one after another.
    fn start_due(&mut self) {
        let now = clock::now();
        for index in 0..self.pending.len() {
            let (before, rest) = self.pending.split_at_mut(index);
            let Some(pending) = rest.first_mut() else { return };
            let same = |other: &Pending| {
                other.message.incident.id == pending.message.incident.id
                    && other.message.receiver == pending.message.receiver
            };
            if pending.under_way || pending.due > now || before.iter().any(same) {
                continue;
            }
            pending.under_way = true;
            let (sender, message) = (self.sender.clone(), pending.message.clone());
            let receiver = find(&self.receivers, &message);
            let stored = pending.stored.take();
            self.sending.spawn(async move {
                if let Some(stored) = stored {
                    time::timeout(STORED_WITHIN, stored.cancelled()).await.ok();
                }
                let result = match receiver {
                    Some(receiver) => sender.send(&message, &receiver, clock::wall()).await,
                    None => Err(unknown_receiver()),
                };
                (message.id(), result)
            });
        }
    }

    fn settle(&mut self, id: &str, result: Result<(), SendError>) {
        let Some(index) = self.pending.iter().position(|p| p.under_way && p.message.id() == id) else {
            return;
        };
        let pending = &mut self.pending[index];
        pending.under_way = false;
        let receiver = &pending.message.receiver;
        match result {
            Ok(()) => info!(%receiver, incident = pending.message.incident.id, "notification sent"),
            Err(error) if error.again && pending.since.elapsed() < GIVEN_UP_AFTER => {
                if pending.attempts == 0 {
                    warn!(%receiver, %error, "notification not sent; it is tried again");
                }
                pending.due = clock::now() + pause(pending.attempts, error.after);
                pending.attempts = pending.attempts.saturating_add(1);
                return;
            }
            Err(error) => {
                warn!(%receiver, %error, "notification given up");
                self.metrics.count_notification_failure();
            }
        }
        self.pending.remove(index);
        self.store.submit(Batch { sent: vec![id.to_owned()], ..Batch::default() });
    }

    /// Tells Alertmanagers again of what lasts. No message of its own: whoever was told is not told again.
    fn refresh(&mut self, lasting: &watch::Receiver<Vec<Message>>) {
        for message in lasting.borrow().iter() {
            let same = |pending: &Pending| {
                pending.message.incident.id == message.incident.id
                    && pending.message.receiver == message.receiver
            };
            if self.pending.iter().any(same) {
                continue;
            }
            let Some(receiver) = find(&self.receivers, message) else { continue };
            let (sender, message) = (self.sender.clone(), message.clone());
            self.sending.spawn(async move {
                // Whether it arrived shows at the next one.
                let result = sender.send(&message, &receiver, clock::wall()).await;
                (String::new(), result)
            });
        }
    }
}

/// The receiver of a message, as it is configured now.
fn find(receivers: &watch::Receiver<Vec<Receiver>>, message: &Message) -> Option<Receiver> {
    receivers.borrow().iter().find(|receiver| receiver.name() == message.receiver).cloned()
}

/// Nobody of that name is configured any more.
fn unknown_receiver() -> SendError {
    let problem = "it is no longer configured under [[notify]]".to_owned();
    SendError { problem, again: false, after: None }
}

/// How long to wait after so many failed attempts, when the receiver asked for `after`.
fn pause(attempts: u32, after: Option<Duration>) -> Duration {
    let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(attempts)).min(PAUSE_MAX);
    after.map_or(pause, |after| pause.max(after.min(ASKED_MAX)))
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
