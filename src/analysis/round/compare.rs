//! Subject against control: which exchanges were drawn together, and by how much they differ.

use crate::{
    analysis::stats::{Bounded, Interval, difference_interval, median},
    model::{Exchange, Role},
};

use super::{
    Part, RoundSettings,
    observe::{self, Log, Transfer},
};

/// Stands for "never" in logarithms of seconds: larger than any span a budget allows, small enough to compute with.
const NEVER: f64 = 50.0;

/// Least standard deviation of a log ratio that is believed: slow start comes in steps, so that a few transfers may agree
/// to the millisecond and differ by a step the next time.
pub(super) const SPREAD_MIN: f64 = 0.03;

/// Two transfers whose sizes differ by more are not compared (design: 10 %).
const SIZES_RATIO_MAX: f64 = 1.1;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Seconds per byte after the free burst.
    Pace,
    /// Handshake time.
    Handshake,
}

/// One exchange as far as it may be judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) transfer: Option<Transfer>,
    /// The network kept it from finishing (not our own stop).
    pub(super) failed: bool,
}

impl<'a> Sample<'a> {
    pub(super) fn of(exchange: &'a Exchange) -> Self {
        let failed = observe::network_failure(exchange).is_some();
        Self { exchange, transfer: Transfer::of(exchange), failed }
    }

    pub(super) fn log(&self, measure: Measure, wanted: Option<u64>) -> Option<Log> {
        match measure {
            Measure::Pace => self.transfer.and_then(|transfer| transfer.pace(wanted)),
            Measure::Handshake => observe::handshake(self.exchange),
        }
    }

    /// A single number to rank by: a failure ranks behind everything that came.
    pub(super) fn rank(&self, measure: Measure, wanted: Option<u64>) -> Option<f64> {
        if self.failed { Some(NEVER) } else { self.log(measure, wanted).map(|log| log.at_least) }
    }
}

/// One draw of the coin: a pair (both), or a single.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) subject: Option<Sample<'a>>,
    pub(super) control: Option<Sample<'a>>,
}

/// The exchanges of a round, sorted into openings and units. Built anew for every judgement; the order in which the
/// exchanges came in plays no part.
pub(super) struct Sorted<'a> {
    /// Controls before the first subject.
    pub(super) openings: Vec<Sample<'a>>,
    /// The draws, in order of time.
    pub(super) units: Vec<Unit<'a>>,
    /// Exchanges that are not judged because our own machine was late.
    pub(super) late: u32,
    /// TCP payload of a whole transfer.
    pub(super) wanted: Option<u64>,
}

impl<'a> Sorted<'a> {
    /// Sorts `exchanges`, which are ordered by pair and position.
    pub(super) fn of(exchanges: &[&'a Exchange]) -> Self {
        let judged = |exchange: &&&'a Exchange| {
            !exchange.warmup && !exchange.fallback && exchange.role != Role::Canary
        };
        let late = exchanges.iter().filter(judged).filter(|exchange| exchange.is_late()).count() as u32;
        let usable: Vec<&'a Exchange> =
            exchanges.iter().filter(judged).filter(|exchange| !exchange.is_late()).copied().collect();
        let subjects = exchanges.iter().filter(judged).filter(|exchange| exchange.role == Role::Subject);
        let first = subjects.map(|exchange| exchange.pair).min().unwrap_or(u32::MAX);
        let (openings, drawn): (Vec<&Exchange>, Vec<&Exchange>) =
            usable.iter().copied().partition(|exchange| exchange.pair < first);
        // A pair of which one exchange was late is no pair; nor is the other one a single, which was not drawn as such.
        let spoilt = |pair: u32| {
            exchanges.iter().filter(judged).any(|exchange| exchange.pair == pair && exchange.is_late())
        };
        let mut units = Vec::new();
        for members in drawn.chunk_by(|one, other| one.pair == other.pair) {
            if spoilt(members[0].pair) {
                continue;
            }
            let role = |role| members.iter().find(|one| one.role == role).map(|one| Sample::of(one));
            units.push(Unit { subject: role(Role::Subject), control: role(Role::Control) });
        }
        let openings: Vec<Sample<'_>> = openings.into_iter().map(Sample::of).collect();
        let mut sorted = Self { openings, units, late, wanted: None };
        sorted.wanted = sorted.whole_bytes(Role::Control).or_else(|| sorted.whole_bytes(Role::Subject));
        sorted
    }

    /// All judged exchanges of a role, openings included.
    pub(super) fn samples(&self, role: Role) -> impl Iterator<Item = &Sample<'a>> {
        let openings = self.openings.iter().filter(move |_| role == Role::Control);
        openings.chain(self.units.iter().filter_map(move |unit| match role {
            Role::Subject => unit.subject.as_ref(),
            Role::Control => unit.control.as_ref(),
            Role::Canary => None,
        }))
    }

    fn whole_bytes(&self, role: Role) -> Option<u64> {
        let sizes: Vec<f64> = self
            .samples(role)
            .filter_map(|sample| sample.transfer?.whole_bytes())
            .map(|bytes| bytes as f64)
            .collect();
        median(&sizes).map(|bytes| bytes as u64)
    }

    /// Whether whole transfers of the two sides are of one size.
    pub(super) fn sizes_match(&self) -> bool {
        match (self.whole_bytes(Role::Subject), self.whole_bytes(Role::Control)) {
            (Some(subject), Some(control)) => {
                let (small, large) = (subject.min(control).max(1), subject.max(control));
                large as f64 / small as f64 <= SIZES_RATIO_MAX
            }
            _ => true,
        }
    }

    /// Subject and control exchanges that are compared with one another: the pairs as drawn, the singles in their order.
    pub(super) fn matched(&self) -> Vec<(Sample<'a>, Sample<'a>)> {
        let mut matched: Vec<(Sample<'a>, Sample<'a>)> = Vec::new();
        let (mut subjects, mut controls) = (Vec::new(), Vec::new());
        for unit in &self.units {
            match (unit.subject, unit.control) {
                (Some(subject), Some(control)) => matched.push((subject, control)),
                (Some(subject), None) => subjects.push(subject),
                (None, Some(control)) => controls.push(control),
                (None, None) => {}
            }
        }
        matched.extend(subjects.into_iter().zip(controls));
        matched
    }

    /// Logarithms of subject and control, one pair for each match.
    pub(super) fn logs(&self, measure: Measure) -> Vec<[Bounded; 2]> {
        self.matched()
            .iter()
            .filter_map(|(subject, control)| self.log_pair(measure, subject, control))
            .collect()
    }

    /// `None` where either side finished without showing this measure; a failure that came before it is unbounded.
    fn log_pair(&self, measure: Measure, subject: &Sample<'_>, control: &Sample<'_>) -> Option<[Bounded; 2]> {
        let bounded = |sample: &Sample<'_>| match sample.log(measure, self.wanted) {
            Some(log) => Some(Bounded { low: Some(log.at_least), high: log.at_most() }),
            None => sample.failed.then_some(Bounded { low: None, high: None }),
        };
        Some([bounded(subject)?, bounded(control)?])
    }

    /// The interval of subject over control, in logarithms.
    pub(super) fn interval(&self, measure: Measure, settings: &RoundSettings) -> Interval {
        let without = match settings.without {
            Some(Part::Interval(part)) => Some(part),
            _ => None,
        };
        difference_interval(&self.logs(measure), settings.confidence, SPREAD_MIN, without)
    }
}
