//! Waiting with a deadline, and noticing when our own machine comes too late.
//!
//! Two ways to see a late reader offer themselves: what the kernel says of the last segment's age when we read it, and
//! whether a timer that should have woken this task did so in time. The first is blind while data streams (the last
//! segment is always fresh, however long the first has waited) and says nothing of the phases before. The second sees
//! every delay of this very task, whoever causes it (a busy machine, a suspended process, a starved runtime), on every
//! system and in every phase. So a timer of [`TICK`] runs along: a delay of `d` shows as at least `d - TICK`.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use crate::clock::{self, Instant};

/// Time between two wake-ups whose lateness is looked at: half of the lateness that matters.
const TICK: Duration = Duration::from_millis(10);

/// A running timer.
pub(super) struct Watch {
    sleep: Pin<Box<Sleep>>,
    lateness: Duration,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(now + TICK)), lateness: Duration::ZERO }
    }

    /// The worst delay so far.
    pub(super) const fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Runs `work` until the deadline; `None` when that came first.
    pub(super) async fn run<F: Future>(&mut self, deadline: Instant, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            while let Poll::Ready(now) = self.poll_tick(cx, deadline) {
                if now >= deadline {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ready at the next tick, or at `wanted` if that is earlier. Then asks to be called again.
    pub(super) fn poll_tick(&mut self, cx: &mut Context<'_>, wanted: Instant) -> Poll<Instant> {
        if wanted < self.sleep.deadline() {
            self.sleep.as_mut().reset(wanted);
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let now = clock::now();
        self.lateness = self.lateness.max(now.saturating_duration_since(self.sleep.deadline()));
        self.sleep.as_mut().reset(now + TICK);
        Poll::Ready(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notices_that_its_own_task_was_held_up() {
        let mut watch = Watch::new(clock::now());
        let deadline = clock::now() + Duration::from_secs(20);
        watch.run(deadline, tokio::time::sleep(Duration::from_millis(30))).await.unwrap();
        watch.run(deadline, async { std::thread::sleep(Duration::from_millis(60)) }).await.unwrap();
        watch.run(deadline, tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
        assert!(watch.lateness() >= Duration::from_millis(45), "{:?}", watch.lateness());
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_the_deadline() {
        let start = clock::now();
        let mut watch = Watch::new(start);
        let never = std::future::pending::<()>();
        assert_eq!(watch.run(start + Duration::from_millis(25), never).await, None);
        assert!(clock::now() - start <= Duration::from_millis(27));
    }
}
