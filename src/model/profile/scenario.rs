//! A whole scenario: line, profile, what is run, and what is expected of it.

use serde::{Deserialize, Serialize};

use super::{Coverage, LineProfile, Span, Truth};

/// A scenario: `lab run scenario.toml` builds it, runs its command, and says what differed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line for people.
    pub about: String,
    /// Name of a built-in profile, or path of a profile file, seen from the scenario's place.
    pub profile: String,
    /// The line; absent: the profile's, or 20 Mbit/s and 30 ms.
    #[serde(default)]
    pub line: Option<LineProfile>,
    /// Which flows meet the box; absent: as the profile says.
    #[serde(default)]
    pub coverage: Option<Coverage>,
    /// The profile's rules come into force at this moment.
    #[serde(default)]
    pub onset: Option<Span>,
    /// And end at this one.
    #[serde(default)]
    pub lift: Option<Span>,
    /// Seed of everything drawn.
    #[serde(default)]
    pub seed: u64,
    /// Congestion control of both ends, where the kernel offers it to namespaces (`cubic`, `reno`, `bbr`).
    #[serde(default)]
    pub congestion_control: Option<String>,
    /// What is true here; absent: as the profile says.
    #[serde(default)]
    pub truth: Option<Truth>,
    /// The command and its arguments. `{server}` stands for the server's address, `{self}` for this program.
    pub command: Vec<String>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expectation,
}

/// What is expected of a scenario's command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// Its exit status.
    pub exit: Option<u8>,
    /// Fields of the JSON document it prints, by path (`results.0.verdict`), and their values.
    pub json: toml::Table,
    /// It prints a report (`--json` of measure, compare, sweep), and that says what is true here.
    pub truth: bool,
    /// Text its output contains.
    pub output_contains: Vec<String>,
    /// It takes at least this long.
    pub at_least: Option<Span>,
    /// It takes at most this long.
    pub at_most: Option<Span>,
}
