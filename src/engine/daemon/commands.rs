//! What the web side asks of the engine: a new configuration, one exchange on demand.

use std::time::Duration;

use tracing::{info, warn};

use super::{super::job, Daemon, Done};
use crate::{
    clock,
    methods::Shape,
    model::{Command, Exchange, ProbeRefusal, Reply, TargetId},
};

/// Payload of handshake and headers that a budget must allow beside the body.
const OVERHEAD_BYTES: u64 = 16 * 1024;

impl Daemon {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Reload { reply } => reply(self.reload()),
            Command::Probe { target, timeout, reply } => self.probe(target, timeout, reply),
        }
    }

    /// Builds everything anew, then swaps; what is remembered of targets that stay is kept.
    fn reload(&mut self) -> Result<(), String> {
        let built = (self.reload)();
        self.metrics.set_reload(built.is_ok(), clock::wall());
        match built {
            Ok(mut setup) => {
                setup.schedule.inherit(&self.setup.schedule, self.now());
                let plan = &setup.plan;
                self.metrics.configure(&plan.targets(), &plan.vantage, plan.histograms);
                self.controls.retain(|id, _| plan.controls.iter().any(|control| control.id == *id));
                self.setup = setup;
                self.keeper.tell(self.setup.receivers.clone());
                self.forget_removed();
                info!(targets = self.setup.plan.items.len(), "configuration reloaded");
                self.publish();
                Ok(())
            }
            Err(error) => {
                warn!(%error, "configuration not reloaded; the old one stays in effect");
                Err(error)
            }
        }
    }

    /// One exchange on demand, within the byte budget.
    fn probe(&mut self, id: TargetId, timeout: Duration, reply: Reply<Result<Box<Exchange>, ProbeRefusal>>) {
        let Some(item) = self.setup.plan.items.iter().find(|item| item.target.id == id) else {
            return reply(Err(ProbeRefusal::UnknownTarget));
        };
        let reserved = item.target.bytes.saturating_add(OVERHEAD_BYTES);
        if self.memory.get(&id).is_some_and(|memory| memory.running) {
            return reply(Err(ProbeRefusal::Busy));
        }
        let now = self.now();
        if !self.setup.schedule.reserve_on_demand(reserved, now) {
            return reply(Err(ProbeRefusal::Budget));
        }
        let shape = Shape { bytes: item.target.bytes, ..self.setup.plan.shape.clone() };
        let (prober, permits, subject) =
            (self.setup.prober.clone(), self.permits.clone(), item.subject.clone());
        self.tasks.spawn(async move {
            let exchange = Box::new(job::probe(&prober, &permits, subject, &shape, timeout).await);
            Done::Probe { id, reserved, exchange, reply }
        });
    }
}
