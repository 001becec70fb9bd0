//! One round: subject and control exchanges in, one finding out.
//!
//! Pure and incremental: exchanges are added as they end, in any order, and after each pair the judge says whether it
//! knows enough. What is computed, under which assumption and with which guarantee is told in `docs/method.md`.
//!
//! The engine's part of the bargain: the order within a pair, and whose turn a single exchange is, are drawn by a fair
//! coin ([`RoundJudge::order`]) that nothing else depends on; each draw has a pair number of its own; opening controls
//! come before the first subject; nothing else has a role of `subject` or `control` (a canary has its own).

mod betting;
mod compare;
mod distance;
mod failures;
mod limit;
mod mechanism;
mod observe;
mod sticky;
mod verdict;

use std::{net::SocketAddr, time::Duration};

use crate::{
    analysis::stats::IntervalPart,
    model::{Comparison, Exchange, Finding, Role, TransferCurve, Verdict},
};

use compare::Sorted;
use sticky::Suspicion;

pub use sticky::AddressStep;

/// At a further address the step that shows it the subject's name is drawn evenly among so many
/// ([`AddressStep::Draw`]).
pub const ADDRESS_DRAWS: u32 = sticky::SLOTS;

/// Pairs before any verdict but a failure's: the least number that has an interval.
const PAIRS_MIN: usize = 3;

/// So many late exchanges, and more than those in time, end a round: our own machine is too busy to measure.
const LATE_MAX: usize = 12;

/// How a round is judged.
#[derive(Debug, Clone)]
pub struct RoundSettings {
    /// How the control relates to the subject.
    pub comparison: Comparison,
    /// Probability of a false accusation by this round, already shared over the subjects of the report.
    pub alpha: f64,
    /// Coverage of the intervals.
    pub confidence: f64,
    /// Most pairs; a round takes at most twice as many exchanges beside its openings.
    pub pairs_max: u32,
    /// Exchanges are big enough to show a rate limit; otherwise handshakes alone are judged.
    pub bulk: bool,
    /// What is known beside the round.
    pub known: Known,
    /// What an ablation leaves out; the product leaves out nothing.
    pub without: Option<Part>,
}

/// A part of the method. `lab evaluate --ablate` and the simulations leave one out at a time to see what it buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A part of the interval.
    Interval(IntervalPart),
    /// The e-value, which has to reach 1/α beside the interval.
    Evidence,
    /// Single exchanges once the two names can be told apart.
    Singles,
    /// A stake that follows how often guesses were right.
    LearnedStake,
    /// A freeze or a silent block without further evidence only beside a control that waits nowhere for long.
    SteadyControl,
    /// The early end of a round that more exchanges would not decide.
    EarlyEnd,
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            comparison: Comparison::None,
            alpha: 0.001,
            confidence: 0.99,
            pairs_max: 24,
            bulk: true,
            known: Known::default(),
            without: None,
        }
    }
}

/// What is known beside the round's own exchanges. Everything may be left at its default.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The command that would decide what this comparison cannot.
    pub would_decide: Option<String>,
    /// This vantage reached the subject within the last week.
    pub reached_within_week: bool,
    /// Resolvers disagree, and the independent one's answer works.
    pub resolvers_disagree: bool,
    /// The body is a known block page.
    pub block_page: bool,
    /// What an unrelated host delivered over this line at about the same time, bytes per second.
    pub line_goodput: Option<f64>,
    /// What the control usually delivers here, bytes per second.
    pub control_goodput: Option<f64>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More exchanges would change nothing, or none are left to take.
    Enough,
    /// Take what [`RoundJudge::order`] says, then ask again.
    MorePairs,
    /// Take a small control exchange, marked as a warm-up: whether the subject's address is slow for it as well.
    Look,
    /// Go through the steps ([`RoundJudge::address_step`]) of a further address of the same server; where there is none,
    /// it is enough.
    FurtherAddress,
}

/// Judges one round of one subject.
#[derive(Debug, Clone)]
pub struct RoundJudge {
    settings: RoundSettings,
    exchanges: Vec<Exchange>,
}

impl RoundJudge {
    /// A judge that has seen nothing.
    pub fn new(settings: RoundSettings) -> Self {
        Self { settings, exchanges: Vec::new() }
    }

    /// Takes an exchange; the order of calls plays no part.
    pub fn add(&mut self, exchange: Exchange) {
        self.exchanges.push(exchange);
    }

    /// Learns that resolvers disagree on the subject, and that the independent one's answer works.
    pub fn resolvers_disagree(&mut self) {
        self.settings.known.resolvers_disagree = true;
    }

    /// Whose exchanges to take next, one after the other, under one new pair number; `heads` is a fresh fair coin.
    ///
    /// The first pairs are pairs. Where they look slow and labels are exchangeable (`sni`), single exchanges follow, each
    /// with a name drawn by the coin: a pair and a single are worth the same evidence, and a single costs half. After a
    /// single that could not be told apart it is pairs again, whose members share the line's moment.
    pub fn order(&self, heads: bool) -> &'static [Role] {
        let sorted = Sorted::of(&self.in_order());
        let pairs =
            sorted.units.iter().filter(|unit| unit.subject.is_some() && unit.control.is_some()).count();
        let capital = betting::bet(&sorted, &sorted.units, &self.settings);
        order(&self.settings, pairs, capital, heads)
    }

    /// What to take next at this address to find out whether it turns slow once it was shown the subject's name, and how
    /// long to wait for it. The exchanges are small, marked as warm-ups, and ended by us after that time without failure.
    pub fn address_step(&self, address: SocketAddr) -> (AddressStep, Duration) {
        sticky::step(&self.in_order(), address)
    }

    /// Whether to go on; ask after every pair.
    pub fn next(&self) -> Next {
        let exchanges = self.in_order();
        let sorted = Sorted::of(&exchanges);
        let members = |unit: &compare::Unit<'_>| {
            usize::from(unit.subject.is_some()) + usize::from(unit.control.is_some())
        };
        let drawn: usize = sorted.units.iter().map(members).sum();
        let late = sorted.late as usize;
        if drawn + late >= 2 * self.settings.pairs_max as usize || (late >= LATE_MAX && late > drawn) {
            return Next::Enough;
        }
        let finding = verdict::judge(&self.settings, &exchanges, &sorted);
        if finding.verdict != Verdict::Inconclusive {
            return Next::Enough;
        }
        if self.settings.comparison == Comparison::Sni {
            match sticky::suspicion(&exchanges, &sorted) {
                Suspicion::Look => return Next::Look,
                Suspicion::Sticky if sticky::may_go_on(&exchanges) => return Next::FurtherAddress,
                Suspicion::Sticky | Suspicion::StickyPace => return Next::Enough,
                Suspicion::None => {}
            }
        }
        let hopeless = self.settings.without != Some(Part::EarlyEnd)
            && verdict::is_hopeless(&self.settings, &exchanges, &sorted, &finding);
        if hopeless { Next::Enough } else { Next::MorePairs }
    }

    /// What was found so far.
    pub fn finding(&self) -> Finding {
        let exchanges = self.in_order();
        verdict::judge(&self.settings, &exchanges, &Sorted::of(&exchanges))
    }

    /// Whether a running subject transfer may be cut: it is already five times slower than its controls for all of the
    /// bytes wanted, and it still trickles, so that its rate is known and it is not frozen. `elapsed` counts from the
    /// first request.
    pub fn stop_subject(&self, curve: &TransferCurve, elapsed: Duration) -> bool {
        let exchanges = self.in_order();
        verdict::may_stop(&Sorted::of(&exchanges), curve, elapsed)
    }

    fn in_order(&self) -> Vec<&Exchange> {
        let mut exchanges: Vec<&Exchange> = self.exchanges.iter().collect();
        exchanges.sort_by(|a, b| (a.pair, a.position, &a.id).cmp(&(b.pair, b.position, &b.id)));
        exchanges
    }
}

/// See [`RoundJudge::order`]; after so many `pairs`, at such a `capital`.
fn order(settings: &RoundSettings, pairs: usize, capital: betting::Capital, heads: bool) -> &'static [Role] {
    let singles = settings.comparison == Comparison::Sni
        && pairs >= PAIRS_MIN
        && capital.log_e_value > 0.0
        && capital.singles_pay
        && settings.without != Some(Part::Singles);
    match (singles, heads) {
        (false, true) => &[Role::Subject, Role::Control],
        (false, false) => &[Role::Control, Role::Subject],
        (true, true) => &[Role::Subject],
        (true, false) => &[Role::Control],
    }
}

#[cfg(test)]
mod tests;
