//! One further address: what is usual at it, whether it turns slow, and what a bet on the drawn step has come to.

use std::time::Duration;

use crate::model::{Exchange, Role};

use super::{AddressStep, answer, is_slow, slowest};

/// Control exchanges at a further address that say what is usual there.
const USUAL: usize = 3;

/// Steps among which the one that exposes an address is drawn. Two addresses make 1600, with some to spare over 1000.
pub(in crate::analysis::round) const SLOTS: u32 = 40;

/// What of the stake on one address is kept back: an address that stays fast although it was shown the name (a box that
/// does not see every connection) costs much, not everything.
const KEPT_BACK: f64 = 0.05;

/// Slow exchanges after a slow one that make it last: a packet lost in a handshake costs a second, too.
const LASTS: u32 = 2;

/// Exchanges at one address that say nothing (our machine was late, a reset) before it is given up.
const VOID_MAX: u32 = 4;

/// An exchange is ended once it has taken so long and [`PATIENCE_RATIO`] times the usual: slow is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_RATIO: f64 = 4.0;

/// One further address, exchange by exchange.
pub(super) struct Series {
    usual: Vec<f64>,
    /// What is usual at the first address; for patience before anything is known here.
    usual_elsewhere: f64,
    as_slow: Option<f64>,
    draws: u32,
    voids: u32,
    pub(super) state: State,
    /// The logarithm of what a bet on the drawn step has come to.
    log_e_value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Learning what is usual.
    Learning,
    /// Before a draw.
    Drawing,
    /// One was slow, exposed or not; and so were so many after it.
    Confirming { exposed: bool, slow: u32 },
    /// Turned slow for good when it was shown the name.
    Turned,
    /// Was as slow from the start as the exposed address, or turned slow by itself: it is the line.
    SlowItself,
    /// Was shown the name and did not turn slow.
    Unmoved,
    /// Says nothing.
    Void,
}

impl Series {
    pub(super) fn new(usual_elsewhere: f64, as_slow: Option<f64>) -> Self {
        Self {
            usual: Vec::new(),
            usual_elsewhere,
            as_slow,
            draws: 0,
            voids: 0,
            state: State::Learning,
            log_e_value: 0.0,
        }
    }

    pub(super) fn take(&mut self, exchange: &Exchange) {
        let exposed = exchange.role == Role::Subject;
        match (self.state, answer(exchange).filter(|_| !exchange.is_late())) {
            (State::Turned | State::SlowItself | State::Unmoved | State::Void, _) => {}
            (state, None) => {
                self.voids += 1;
                // What a draw came to was not seen: no bet on it.
                self.draws += u32::from(state == State::Drawing);
                if self.voids >= VOID_MAX || exposed {
                    self.state = State::Void;
                }
            }
            (State::Learning, Some(seconds)) => self.learn(seconds),
            (State::Drawing, Some(seconds)) if is_slow(seconds, slowest(&self.usual)) => {
                self.state = State::Confirming { exposed, slow: 0 };
            }
            (State::Drawing, Some(_)) => self.stayed_fast(exposed),
            (State::Confirming { exposed, slow }, Some(seconds)) => {
                if !is_slow(seconds, slowest(&self.usual)) {
                    self.stayed_fast(exposed);
                } else if slow + 1 < LASTS {
                    self.state = State::Confirming { exposed, slow: slow + 1 };
                } else if exposed {
                    self.log_e_value += f64::from(self.left()).ln();
                    self.state = State::Turned;
                } else {
                    self.state = State::SlowItself;
                }
            }
        }
    }

    fn learn(&mut self, seconds: f64) {
        self.usual.push(seconds);
        if self.usual.len() == USUAL {
            let slow =
                |one: f64| is_slow(one, self.usual_elsewhere) && self.as_slow.is_some_and(|slow| one >= slow);
            let itself = self.usual.iter().all(|&one| slow(one));
            self.state = if itself { State::SlowItself } else { State::Drawing };
        }
    }

    /// A step passed without the address turning slow. Unexposed, that step was not the drawn one, which is worth what it
    /// was likely to be; exposed, the bet is lost.
    fn stayed_fast(&mut self, exposed: bool) {
        if exposed {
            self.log_e_value = f64::NEG_INFINITY;
            self.state = State::Unmoved;
            return;
        }
        let left = self.left();
        self.log_e_value += (f64::from(left) / f64::from((left - 1).max(1))).ln();
        self.draws += 1;
        self.state = State::Drawing;
    }

    /// Steps that may still be the drawn one.
    fn left(&self) -> u32 {
        SLOTS.saturating_sub(self.draws).max(1)
    }

    /// What the bet at this address has come to.
    pub(super) fn e_value(&self) -> f64 {
        KEPT_BACK + (1.0 - KEPT_BACK) * self.log_e_value.exp()
    }

    pub(super) fn next(&self) -> AddressStep {
        match self.state {
            State::Learning | State::Confirming { .. } => AddressStep::Control,
            State::Drawing => AddressStep::Draw,
            State::Turned | State::SlowItself | State::Unmoved | State::Void => AddressStep::Over,
        }
    }

    pub(super) fn patience(&self) -> Duration {
        let usual = if self.usual.len() < USUAL { self.usual_elsewhere } else { slowest(&self.usual) };
        PATIENCE.max(Duration::from_secs_f64(PATIENCE_RATIO * usual))
    }
}
