//! What the web side may ask of the running engine. Plain data and a closure for the answer, so that neither knows the
//! other's runtime.

use std::time::Duration;

use super::{Exchange, TargetId};

/// Takes the answer to a command. Dropping it uncalled means "not answered".
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// A request to the engine.
pub enum Command {
    /// Read the configuration again: build it fully, then swap. The error is one sentence for people.
    Reload {
        /// Takes the outcome.
        reply: Reply<Result<(), String>>,
    },
    /// Take one exchange with a configured target now, within the byte budget.
    Probe {
        /// Which one.
        target: TargetId,
        /// How long the whole exchange may take.
        timeout: Duration,
        /// Takes the exchange, or why there was none.
        reply: Reply<Result<Box<Exchange>, ProbeRefusal>>,
    },
}

/// Why a probe on demand was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeRefusal {
    /// No configured target has this id.
    UnknownTarget,
    /// It would exceed the byte budget.
    Budget,
    /// An exchange with this target is running, or the server asked for peace.
    Busy,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reload { .. } => f.write_str("Reload"),
            Self::Probe { target, timeout, .. } => write!(f, "Probe({target}, {timeout:?})"),
        }
    }
}
