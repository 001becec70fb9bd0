//! The daemon's loop: waits for what is due, runs rounds under permits, folds what they came to, publishes a snapshot.
//!
//! One task owns all state, so that nothing is locked. Rounds run beside it and hand their judgement back.

mod commands;
mod past;
mod publish;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use rand::{Rng as _, SeedableRng as _, rngs::ChaCha8Rng};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::{self, Instant},
    methods::Shape,
    metrics::Metrics,
    model::{
        Command, Comparison, Event, Exchange, Judgement, MEASUREMENT_SCHEMA, Measurement, ProbeRefusal,
        Reply, Role, SkipReason, Snapshot, TargetId, Verdict,
    },
    notify::Receiver,
    probe::Prober,
    schedule::{Due, Outcome, RoundKind, Schedule, Taken},
    store::{Restored, RoundRecord},
};

use super::{
    incidents,
    job::{Finished, Job, Permits, SniKnowledge},
    keeper::Keeper,
    plan::DaemonPlan,
    state::{Folded, Mood, TargetState},
    steady::SteadyClock,
};

/// Rounds that end within this time after the shutdown signal are still taken in; the rest is cut off, so that the
/// process ends in under five seconds.
const DRAIN: Duration = Duration::from_secs(3);

/// How often effective intervals, budget and staleness are looked at where nothing else happens.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long a server is left alone that refused without saying for how long.
const BACK_OFF: Duration = Duration::from_hours(1);

/// Longest that a server may send us away.
const BACK_OFF_MAX: Duration = Duration::from_hours(24);

/// What the daemon runs on; built fully before it replaces an older one.
pub struct Setup {
    /// What is measured.
    pub plan: DaemonPlan,
    /// How the network is reached.
    pub prober: Prober,
    /// When what is due.
    pub schedule: Schedule,
    /// Who is told of incidents.
    pub receivers: Vec<Receiver>,
}

/// Builds a setup anew from the configuration file; the error is one sentence.
pub type Reload = Box<dyn FnMut() -> Result<Setup, String> + Send>;

/// The daemon's engine.
pub struct Daemon {
    setup: Setup,
    metrics: Metrics,
    keeper: Keeper,
    reload: Reload,
    memory: BTreeMap<TargetId, Memory>,
    /// When each control that is measured within pairs was last measured.
    controls: BTreeMap<TargetId, Timestamp>,
    tasks: JoinSet<Done>,
    permits: Permits,
    snapshots: watch::Sender<Arc<Snapshot>>,
    started_at: Timestamp,
    /// When the schedule's time began.
    epoch: Instant,
    clock: SteadyClock,
    rounds: u32,
    rng: ChaCha8Rng,
}

/// What outlives a round, and a reload.
#[derive(Default)]
struct Memory {
    state: TargetState,
    sni: SniKnowledge,
    running: bool,
}

/// What a task hands back.
enum Done {
    Round {
        id: TargetId,
        due: Due,
        finished: Box<Finished>,
    },
    Probe {
        id: TargetId,
        reserved: u64,
        exchange: Box<Exchange>,
        reply: Reply<Result<Box<Exchange>, ProbeRefusal>>,
    },
}

impl Daemon {
    /// An engine that takes up what was stored, and the snapshots that it will publish.
    pub fn new(
        setup: Setup,
        metrics: Metrics,
        reload: Reload,
        seed: u64,
        (keeper, restored): (Keeper, Restored),
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let started_at = clock::wall();
        let empty = Snapshot {
            started_at,
            at: started_at,
            vantage: setup.plan.vantage.clone(),
            budget: setup.plan.budget(0),
            store_writable: keeper.is_writable(),
            targets: Vec::new(),
        };
        let (snapshots, receiver) = watch::channel(Arc::new(empty));
        let mut daemon = Self {
            setup,
            metrics,
            keeper,
            reload,
            memory: BTreeMap::new(),
            controls: BTreeMap::new(),
            tasks: JoinSet::new(),
            permits: Permits::new(),
            snapshots,
            started_at,
            epoch: clock::now(),
            clock: SteadyClock::new(clock::now(), started_at, restored.last_run.map(|run| run.seen_at)),
            rounds: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        daemon.take_up(restored);
        (daemon, receiver)
    }

    /// Runs until `shutdown`, then lets rounds in flight end for a while.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        self.metrics.set_reload(true, clock::wall());
        self.publish();
        let mut heartbeat = time::interval(HEARTBEAT);
        loop {
            let due = self.setup.schedule.next().map(|(due, _)| self.epoch + due);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.tasks.join_next() => self.take_in(done),
                Some(command) = commands.recv() => self.obey(command),
                () = sleep_until(due) => self.start_due(),
                _ = heartbeat.tick() => self.publish(),
            }
        }
        let drained = time::timeout(DRAIN, async {
            while let Some(done) = self.tasks.join_next().await {
                self.take_in(done);
            }
        });
        if drained.await.is_err() {
            info!(rounds = self.tasks.len(), "rounds in flight are cut off");
        }
        self.tasks.abort_all();
        self.keeper.close().await;
    }

    /// The wall clock without its jumps, to the microsecond: as it is stored.
    fn wall(&mut self) -> Timestamp {
        incidents::to_microsecond(self.clock.read(clock::now(), clock::wall()))
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    fn start_due(&mut self) {
        let now = self.now();
        while let Some(taken) = self.setup.schedule.take(now) {
            match taken {
                Taken::Skipped { target, reason } => self.skip(target, reason),
                Taken::Run(due) => self.start(due, now),
            }
        }
    }

    fn skip(&self, target: usize, reason: SkipReason) {
        let Some(item) = self.setup.plan.items.get(target) else { return };
        self.metrics.observe(&Event::Skipped { target: item.target.id.clone(), reason });
    }

    fn start(&mut self, due: Due, now: Duration) {
        let Some(item) = self.setup.plan.items.get(due.target) else { return };
        let id = item.target.id.clone();
        let memory = self.memory.entry(id.clone()).or_default();
        if memory.running {
            // The schedule knows what is running, except for rounds that outlived a reload.
            self.setup.schedule.release(&due, 0, now);
            self.skip(due.target, SkipReason::Overrun);
            return;
        }
        memory.running = true;
        self.metrics.observe(&Event::Lagged(now.saturating_sub(due.due)));
        self.rounds = self.rounds.wrapping_add(1);
        let job = Job {
            prober: self.setup.prober.clone(),
            permits: self.permits.clone(),
            subject: item.subject.clone(),
            shape: Shape { bytes: item.target.bytes, ..self.setup.plan.shape.clone() },
            kind: due.kind,
            bytes_max: due.reserve_bytes,
            sni: memory.sni.clone(),
            number: self.rounds,
            rng: ChaCha8Rng::seed_from_u64(self.rng.next_u64()),
        };
        self.tasks.spawn(async move { Done::Round { id, due, finished: Box::new(job.run().await) } });
    }

    fn take_in(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Round { id, due, finished }) => self.take_in_round(&id, &due, *finished),
            Ok(Done::Probe { id, reserved, exchange, reply }) => {
                self.setup.schedule.settle_on_demand(reserved, exchange.received_bytes(), self.now());
                self.measured(id.clone(), None, Comparison::None, &exchange);
                self.keep_probe(&id, &exchange);
                reply(Ok(exchange));
            }
            // A bug in a round must not take the daemon down; it is reported as what it is.
            Err(error) => warn!(%error, "a round ended in an error of our own; please report it"),
        }
        self.publish();
    }

    fn take_in_round(&mut self, id: &TargetId, due: &Due, finished: Finished) {
        let Finished { judgement, sni, extra } = finished;
        let at = self.wall();
        let used = judgement.exchanges.iter().chain(&extra).map(Exchange::received_bytes).sum();
        for exchange in extra.iter().chain(&judgement.exchanges) {
            self.record(&judgement, exchange);
        }
        if let Some(control) = &judgement.control {
            self.controls.insert(control.clone(), at);
        }
        let number = self.keeper.number(at);
        let closer = due.kind == RoundKind::Confirm;
        let settings = self.series_settings(id);
        let memory = self.memory.entry(id.clone()).or_default();
        memory.running = false;
        memory.sni = sni;
        let before = memory.state.verdict().map(|(verdict, _)| verdict);
        let Folded { finding, mood, change, detector } =
            memory.state.fold(&judgement, closer, at, number, settings);
        let after = memory.state.verdict().map(|(verdict, _)| verdict);
        say_verdict(id, before, after, judgement.comparison);
        let comparison = judgement.comparison;
        let event = Event::Judged { target: id.clone(), comparison, finding: Box::new(finding), at };
        self.metrics.observe(&event);
        let outcome = match (back_off(&judgement), mood) {
            (Some(pause), _) => Outcome::Backoff(pause),
            (None, Mood::Suspicious) => Outcome::Suspicious,
            (None, Mood::Calm) => Outcome::Calm,
        };
        let now = self.now();
        // A reload may have moved or removed the target meanwhile.
        match self.setup.plan.items.iter().position(|item| item.target.id == *id) {
            Some(target) => self.setup.schedule.settle(&Due { target, ..*due }, used, now, outcome),
            None => self.setup.schedule.release(due, used, now),
        }
        let record = RoundRecord {
            number,
            at,
            vantage: self.setup.plan.vantage.clone(),
            target: id.clone(),
            control: judgement.control,
            comparison,
            closer,
            finding: Some(judgement.finding),
            verdict: after,
            repeat: judgement.repeat,
            exchanges: extra.into_iter().chain(judgement.exchanges).collect(),
        };
        self.keep(id, Some(record), detector, change, at);
    }

    /// Tells the metrics of an exchange of a judged round.
    fn record(&self, judgement: &Judgement, exchange: &Exchange) {
        self.measured(judgement.subject.clone(), judgement.control.clone(), judgement.comparison, exchange);
    }

    fn measured(
        &self,
        subject: TargetId,
        control: Option<TargetId>,
        comparison: Comparison,
        exchange: &Exchange,
    ) {
        let measurement = Measurement {
            schema: MEASUREMENT_SCHEMA.to_owned(),
            vantage: self.setup.plan.vantage.clone(),
            subject,
            control,
            comparison,
            exchange: exchange.clone(),
        };
        self.metrics.observe(&Event::Measured(Box::new(measurement)));
    }
}

fn say_verdict(id: &TargetId, before: Option<Verdict>, after: Option<Verdict>, comparison: Comparison) {
    let worth_a_line = |verdict: Option<Verdict>| verdict.is_some_and(|v| v != Verdict::Inconclusive);
    if before != after && (worth_a_line(before) || worth_a_line(after)) {
        info!(
            target_id = %id,
            verdict = after.map_or("none", Verdict::name),
            before = before.map_or("none", Verdict::name),
            comparison = comparison.name(),
            "verdict changed"
        );
    }
}

/// How long the server asks us to stay away: its `Retry-After` on 429 or 503, else an hour after a refusal of its own.
fn back_off(judgement: &Judgement) -> Option<Duration> {
    let refused = judgement.exchanges.iter().rev().find(|exchange| {
        exchange.role == Role::Subject && matches!(exchange.status, Some(403 | 429 | 451 | 503))
    })?;
    let asked = refused.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    let seconds = asked.and_then(|(_, value)| value.trim().parse::<u64>().ok());
    Some(seconds.map_or(BACK_OFF, |seconds| Duration::from_secs(seconds.min(BACK_OFF_MAX.as_secs()))))
}

/// Waits for the next due time; for ever where nothing is scheduled.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
