//! What a middlebox does and what a line is like, as data: the profiles and scenarios of the laboratory.
//!
//! Everything is read from TOML, unknown keys are errors, and [`Profile::check`] names every further mistake in one clear
//! sentence. Rates, sizes and times read as people write them (`130kbit`, `16KiB`, `10m`). The meaning of each field is
//! in `docs/lab.md`, with the rules of the literature it stands for.

mod line;
mod rule;
mod scenario;
mod units;

pub use line::{Codel, Competition, Direction, LineProfile, Loss, Queue, Red, Way, Wifi};
pub use rule::{
    Blackhole, BlockPage, Cutoff, Delay, Directions, DnsLie, Effect, Freeze, LimitConnections, NamePattern,
    Pass, Per, Police, Protocol, Rule, Shape,
};
pub use scenario::{Expectation, Scenario};
pub use units::{Rate, Size, Span};

use serde::{Deserialize, Serialize};

use super::{Mechanism, Verdict};

/// A middlebox, its place and its rules; and the line it likes to stand on, where that belongs to the behaviour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is called.
    pub name: String,
    /// One line for people: what it does.
    pub about: String,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Names a measurement takes as the subject: those the rules are about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// What a perfect observer would say.
    pub truth: Truth,
    /// What the box reads.
    #[serde(default)]
    pub inspection: Inspection,
    /// What the box remembers.
    #[serde(default)]
    pub state: State,
    /// Which flows meet the box at all.
    #[serde(default)]
    pub coverage: Coverage,
    /// What it does; every rule that applies is applied, in this order.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// The line, where the behaviour is one of the line (`congested`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineProfile>,
    /// The server sends no faster than this, whatever it is asked for by whom (`slow-server`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_rate: Option<Rate>,
}

/// What a perfect observer would say of a subject of this profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// The right verdict while the rules are in force and the flow is covered.
    pub verdict: Verdict,
    /// The mechanism of a throttle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// The rate of a throttle, IP bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// What the box reads, and when it gives up reading (rules G1 to G9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inspection {
    /// Only flows whose first packet comes from the client's side (G1, P8).
    pub opened_inside_only: bool,
    /// In which directions hellos count (G2).
    pub directions: Directions,
    /// How many further packets of a direction are read after a readable first one: drawn per flow (G4).
    pub packets: [u32; 2],
    /// A first packet that is neither TLS nor proxy traffic and has at least this payload frees the flow for good (G5);
    /// 0: never.
    pub give_up_payload: u32,
    /// Puts hellos together over several segments (2026), or not (2021, G8).
    pub reassemble: bool,
    /// Only to these server ports; empty: all (T8).
    pub ports: Vec<u16>,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            opened_inside_only: true,
            directions: Directions::Both,
            packets: [15, 20],
            give_up_payload: 101,
            reassemble: false,
            ports: Vec::new(),
        }
    }
}

/// What the box remembers, and for how long (rules P1 to P3, P6, P7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// A flow silent for this long is forgotten (P1).
    pub idle: Span,
    /// Each flow's own idle time differs from it by up to this much either way (P1 is not sharp).
    pub idle_jitter: Span,
    /// A FIN or RST ends the memory of a flow (P3 says it does not).
    pub forget_on_close: bool,
    /// A SYN from outside within a flow frees it (P6).
    pub remote_syn_frees: bool,
    /// Fragments are held until the packet is whole, then go on as fragments under the first one's TTL (P7).
    pub hold_fragments: bool,
    /// More fragments than this and the packet is lost (P7).
    pub fragments_max: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            idle: Span::seconds(600),
            idle_jitter: Span::seconds(60),
            forget_on_close: false,
            remote_syn_frees: true,
            hold_fragments: true,
            fragments_max: 45,
        }
    }
}

/// Which flows meet the box (rules P9, P11).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coverage {
    /// Share of flows, 0 to 1.
    pub share: f64,
    /// What is drawn for: each connection, or each pair of addresses.
    pub by: CoverageBy,
    /// The share grows from nothing over this time from each rule's beginning (P11).
    pub ramp: Option<Span>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { share: 1.0, by: CoverageBy::Connection, ramp: None }
    }
}

/// What coverage is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoverageBy {
    /// Each connection (addresses and ports).
    Connection,
    /// Each pair of addresses, as the load balancer hashes (P9).
    Addresses,
}

impl Profile {
    /// Every mistake that the shape of the data does not rule out, one sentence each; empty where it is sound.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(0.0..=1.0).contains(&self.coverage.share) {
            wrong.push(format!(
                "coverage.share is {}; it is a share of flows from 0 to 1",
                self.coverage.share
            ));
        }
        let [least, most] = self.inspection.packets;
        if least > most {
            wrong.push(format!("inspection.packets is [{least}, {most}]; write the smaller number first"));
        }
        if self.state.idle_jitter > self.state.idle {
            wrong.push("state.idle_jitter is longer than state.idle".to_owned());
        }
        for (number, rule) in self.rules.iter().enumerate() {
            let place = format!("rule {}", number + 1);
            wrong.extend(rule.check().into_iter().map(|what| format!("{place}: {what}")));
        }
        if let Some(line) = &self.line {
            wrong.extend(line.check().into_iter().map(|what| format!("line: {what}")));
        }
        wrong
    }

    /// The same profile in force only from and until these moments after the start (time of onset and lift).
    #[must_use]
    pub fn between(mut self, from: Option<Span>, until: Option<Span>) -> Self {
        for rule in &mut self.rules {
            rule.from = from.or(rule.from);
            rule.until = until.or(rule.until);
        }
        self
    }
}
