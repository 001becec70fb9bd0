//! The one table of families: name, type, labels, help.
//!
//! Text, protobuf, `docs/metrics.md`, the dashboards' tests and the rules' tests all read it. Base units only; label
//! values come from enums or configured ids, never from the network.

/// What goes before every name.
pub const NAMESPACE: &str = "throttlescope";

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from zero in every process.
    Counter,
    /// Goes up and down; absent while unknown.
    Gauge,
    /// Distribution, classic and native.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is said of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Full name, with the namespace.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Label names, in the order of the values.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

macro_rules! families {
    ($($variant:ident = $name:literal $kind:ident [$($label:literal)*] $help:literal;)*) => {
        /// A family of series.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Family {
            $(#[doc = concat!("`throttlescope_", $name, "`")] $variant,)*
        }

        impl Family {
            /// All families, in the order in which they are exposed and documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name, type, labels and help.
            pub const fn describe(self) -> Description {
                match self {
                    $(Self::$variant => Description {
                        name: concat!("throttlescope_", $name),
                        kind: Kind::$kind,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

families! {
    PhaseDuration = "phase_duration_seconds" Histogram ["target" "phase"]
        "Duration of each phase that completed, or that our own time budget cut short (the true value is then longer).";
    ExchangeDuration = "exchange_duration_seconds" Histogram ["target"]
        "Duration of exchanges that completed, or that our own time budget cut short.";
    Goodput = "goodput_bytes_per_second" Histogram ["target"]
        "Body bytes per second of transfer time, of exchanges with more than 16 KiB of body or cut short in transfer.";
    ScheduleLag = "schedule_lag_seconds" Histogram []
        "How long after it was due a round began.";
    Exchanges = "exchanges_total" Counter ["target"]
        "Exchanges taken, whatever came of them.";
    ExchangeFailures = "exchange_failures_total" Counter ["target" "phase" "kind"]
        "Exchanges that failed, by the phase and the kind of failure.";
    ReceivedBytes = "received_bytes_total" Counter ["target"]
        "Bytes of HTTP body received. Over the rate of transfer_seconds_total it is the mean goodput.";
    TransferSeconds = "transfer_seconds_total" Counter ["target"]
        "Time spent receiving bodies, round trips between responses left out.";
    TcpRetransmits = "tcp_retransmits_total" Counter ["target"]
        "TCP segments that the kernel sent again.";
    Incidents = "incidents_total" Counter ["target" "verdict"]
        "Incidents that began.";
    RoundsSkipped = "rounds_skipped_total" Counter ["target" "reason"]
        "Rounds that were due and not run.";
    StoreErrors = "store_errors_total" Counter []
        "Writes to the store that failed.";
    Notifications = "notifications_total" Counter []
        "Notifications that were to be sent.";
    NotificationFailures = "notification_failures_total" Counter []
        "Notifications given up after all retries.";
    DroppedEvents = "dropped_events_total" Counter []
        "Events lost because a queue was full.";
    TcpRtt = "tcp_rtt_seconds" Gauge ["target"]
        "Round-trip time of the last TCP handshake as the kernel measured it.";
    SlowdownRatio = "slowdown_ratio" Gauge ["target" "comparison"]
        "Control goodput over subject goodput after the free burst: 10 is ten times slower.";
    EvidenceLog10 = "evidence_log10" Gauge ["target" "comparison"]
        "Decimal logarithm of the evidence (e-value) against equal treatment: 3 allows one false alarm in a thousand.";
    Verdict = "verdict" Gauge ["target" "verdict"]
        "1 for the verdict of the strongest comparison, 0 for the others; all 0 before the first verdict and when stale.";
    LimitBytesPerSecond = "limit_bytes_per_second" Gauge ["target"]
        "Rate that the throttle enforces, TCP payload.";
    IncidentActive = "incident_active" Gauge ["target" "verdict"]
        "1 while an incident with this verdict goes on.";
    LastExchangeTimestamp = "last_exchange_timestamp_seconds" Gauge ["target"]
        "When the last exchange ended, Unix time.";
    EffectiveInterval = "effective_interval_seconds" Gauge ["target"]
        "Interval between rounds that the byte budgets allow.";
    BudgetRemaining = "budget_remaining_bytes" Gauge []
        "Bytes that may still be spent now without exceeding a budget.";
    StoreWritable = "store_writable" Gauge []
        "1 when the store takes measurements, 0 when it does not.";
    TargetInfo = "target_info" Gauge ["target" "platform" "role" "kind" "host"]
        "What the target is; always 1.";
    VantageInfo = "vantage_info" Gauge ["country" "asn" "operator" "network"]
        "Where the probe stands, as configured; always 1.";
    BuildInfo = "build_info" Gauge ["version"]
        "Version of the program; always 1.";
    ConfigReloadSuccessful = "config_last_reload_successful" Gauge []
        "1 when the configuration was last read without an error.";
    ConfigReloadSuccessTimestamp = "config_last_reload_success_timestamp_seconds" Gauge []
        "When the configuration was last read without an error, Unix time.";
}

/// Families that the process collector of the `prometheus` crate adds, by their conventional names.
pub const PROCESS_FAMILIES: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for family in Family::ALL {
            let Description { name, kind, help, .. } = family.describe();
            assert!(name.starts_with("throttlescope_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.'), "{name}: help is a sentence");
        }
    }
}
