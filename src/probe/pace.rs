//! What ends a conversation from outside: deadlines, and the question whether enough is known.

use std::{
    os::fd::OwnedFd,
    task::{Context, Poll},
    time::Duration,
};

use super::{Plan, Stop, failure, tape::Tape, tcp_info, watch::Watch};
use crate::{
    clock::{self, Instant},
    model::{Failure, FailureDetail, FailureKind, Phase, TcpInfo},
};

/// How often `stop` is asked during the transfer.
pub(super) const STOP_EVERY: Duration = Duration::from_millis(250);

/// How the conversation ended.
pub(super) enum End {
    Done(Result<(), Failure>),
    Stopped,
}

pub(super) fn timeout(phase: Phase, whole: Option<Instant>) -> Failure {
    let over = whole.is_some_and(|whole| clock::now() >= whole);
    let detail = over.then_some(FailureDetail::WholeExchange);
    Failure { detail, ..failure::of(phase, FailureKind::Timeout) }
}

/// Deadlines of `processing` and `transfer`, samples, and the question whether enough is known.
pub(super) struct Pace<'a, 'b> {
    pub(super) tape: &'a Tape,
    pub(super) processing: Instant,
    pub(super) plan: &'a Plan,
    pub(super) whole: Option<Instant>,
    pub(super) stop: Option<Stop<'b>>,
    pub(super) next_stop: Duration,
    pub(super) handle: Option<&'a OwnedFd>,
    /// What the kernel said when the round trip was longest.
    pub(super) during: Option<TcpInfo>,
}

impl Pace<'_, '_> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, watch: &mut Watch) -> Poll<End> {
        loop {
            let (deadline, phase, kind) = self.next_deadline();
            let Poll::Ready(now) = watch.poll_tick(cx, deadline) else { return Poll::Pending };
            if now >= deadline {
                let failure = match kind {
                    FailureKind::Timeout => timeout(phase, self.whole),
                    _ => failure::of(phase, kind),
                };
                return Poll::Ready(End::Done(Err(failure)));
            }
            if self.is_enough(now) {
                return Poll::Ready(End::Stopped);
            }
        }
    }

    /// The earliest deadline, and what it means when it is over.
    fn next_deadline(&self) -> (Instant, Phase, FailureKind) {
        let seen = self.tape.look();
        let budgets = &self.plan.budgets;
        let mut next = match seen.began() {
            None => (self.processing, Phase::Processing, FailureKind::Timeout),
            Some(first) => {
                let stall = seen.last.unwrap_or(first) + budgets.stall;
                let transfer = first + budgets.transfer;
                if stall < transfer {
                    (stall, Phase::Transfer, FailureKind::Stalled)
                } else {
                    (transfer, Phase::Transfer, FailureKind::Timeout)
                }
            }
        };
        if let Some(whole) = self.whole.filter(|&whole| whole <= next.0) {
            next = (whole, next.1, FailureKind::Timeout);
        }
        next
    }

    fn is_enough(&mut self, now: Instant) -> bool {
        let seen = self.tape.look();
        let Some(origin) = seen.origin.filter(|_| seen.curve.bytes() > 0) else { return false };
        if let Some(info) = self.handle.and_then(tcp_info::read) {
            let weight = |info: &TcpInfo| info.receiver_rtt.or(info.rtt);
            if self.during.as_ref().is_none_or(|known| weight(known) < weight(&info)) {
                self.during = Some(info);
            }
        }
        let since = now - origin;
        if since < self.next_stop {
            return false;
        }
        self.next_stop = since + STOP_EVERY;
        self.stop.as_mut().is_some_and(|stop| stop(&seen.curve, since))
    }
}
