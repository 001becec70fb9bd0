//! Subject against control: which exchanges were drawn together, by how much they differ, and how surprising that is.
//!
//! The evidence is a bet on labels. Before each unit a fair coin decided which name is shown first (a pair) or which name
//! is shown at all (a single). If the name made no difference, what was seen says nothing about the coin, and a bet on it
//! gains nothing on average, whatever the line does meanwhile. The capital of such a bettor is an e-value; that it ever
//! reaches 1/α has probability α at most (Ville 1939; Ramdas et al., Statistical Science 38, 2023).

use crate::{
    analysis::stats::{Bounded, Interval, anytime_interval, median},
    model::{Exchange, Role},
};

use super::observe::{self, Log, Transfer};

/// Share of the capital staked on a clear difference. Two errors in twenty is the error rate at which it is the best
/// stake (Kelly 1956: one minus twice the error rate); eleven clear units in a row still reach 1000.
const STAKE_MAX: f64 = 0.9;

/// Below this ratio a difference is no bet: two transfers on one line differ by so much without reason.
const RATIO_UNCLEAR: f64 = 1.25;

/// From this ratio on the stake is full: the design's own bound for `throttled`.
const RATIO_CLEAR: f64 = 1.5;

/// Stands for "never" in logarithms of seconds: larger than any span a budget allows, small enough to compute with.
const NEVER: f64 = 50.0;

/// Least standard deviation of a log ratio that is believed: slow start comes in steps, so that a few transfers may agree
/// to the millisecond and differ by a step the next time.
const SPREAD_MIN: f64 = 0.03;

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
    fn of(exchange: &'a Exchange) -> Self {
        let failed = observe::network_failure(exchange).is_some();
        Self { exchange, transfer: Transfer::of(exchange), failed }
    }

    fn log(&self, measure: Measure, wanted: Option<u64>) -> Option<Log> {
        match measure {
            Measure::Pace => self.transfer.and_then(|transfer| transfer.pace(wanted)),
            Measure::Handshake => observe::handshake(self.exchange),
        }
    }

    /// A single number to rank by: a failure ranks behind everything that came.
    fn rank(&self, measure: Measure, wanted: Option<u64>) -> Option<f64> {
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
        let units = drawn
            .chunk_by(|one, other| one.pair == other.pair)
            .filter(|members| !spoilt(members[0].pair))
            .map(|members| {
                let member = |role| members.iter().find(|one| one.role == role).map(|one| Sample::of(one));
                Unit { subject: member(Role::Subject), control: member(Role::Control) }
            })
            .collect();
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

    /// Logarithms of subject over control, one for each match.
    pub(super) fn differences(&self, measure: Measure) -> Vec<Bounded> {
        self.matched()
            .iter()
            .filter_map(|(subject, control)| self.difference(measure, subject, control))
            .collect()
    }

    fn difference(&self, measure: Measure, subject: &Sample<'_>, control: &Sample<'_>) -> Option<Bounded> {
        let logs = [subject, control].map(|sample| (sample.log(measure, self.wanted), sample.failed));
        if logs.iter().any(|(log, failed)| log.is_none() && !failed) {
            return None;
        }
        let [(subject, _), (control, _)] = logs;
        let low =
            subject.zip(control).and_then(|(subject, control)| Some(subject.at_least - control.at_most()?));
        let high =
            subject.zip(control).and_then(|(subject, control)| Some(subject.at_most()? - control.at_least));
        Some(Bounded { low, high })
    }

    /// The interval of subject over control, in logarithms.
    pub(super) fn interval(&self, measure: Measure, confidence: f64) -> Interval {
        anytime_interval(&self.differences(measure), confidence, SPREAD_MIN)
    }

    /// The natural logarithm of the e-value: the bettor's capital after all units.
    pub(super) fn log_e_value(&self, bulk: bool) -> f64 {
        let mut bettor = Bettor::new(self, bulk);
        self.units.iter().map(|unit| bettor.bet(unit)).sum()
    }
}

/// What the bettor remembers. Everything decided before a unit rests on earlier units alone.
struct Bettor {
    wanted: Option<u64>,
    pace: Past,
    handshake: Past,
    measures: Vec<Measure>,
}

#[derive(Default)]
struct Past {
    subjects: Vec<f64>,
    controls: Vec<f64>,
}

impl Past {
    fn centres(&self) -> Option<(f64, f64)> {
        Some((median(&self.subjects)?, median(&self.controls)?))
    }

    fn separation(&self) -> f64 {
        self.centres().map_or(0.0, |(subject, control)| subject - control)
    }
}

impl Bettor {
    fn new(sorted: &Sorted<'_>, bulk: bool) -> Self {
        let measures = if bulk && sorted.sizes_match() {
            vec![Measure::Pace, Measure::Handshake]
        } else {
            vec![Measure::Handshake]
        };
        let mut bettor =
            Self { wanted: sorted.wanted, pace: Past::default(), handshake: Past::default(), measures };
        for sample in &sorted.openings {
            bettor.remember(sample, Role::Control);
        }
        bettor
    }

    /// The logarithm of the factor by which the capital changes.
    fn bet(&mut self, unit: &Unit<'_>) -> f64 {
        let measure = self.clearest();
        let stake = match (&unit.subject, &unit.control) {
            (Some(subject), Some(control)) => self.stake_on_pair(measure, subject, control),
            (Some(subject), None) => self.stake_on_single(measure, subject),
            (None, Some(control)) => -self.stake_on_single(measure, control),
            (None, None) => 0.0,
        };
        if let Some(subject) = &unit.subject {
            self.remember(subject, Role::Subject);
        }
        if let Some(control) = &unit.control {
            self.remember(control, Role::Control);
        }
        stake.ln_1p()
    }

    /// The measure that has told the two apart best so far.
    fn clearest(&self) -> Measure {
        let separation = |measure: &Measure| self.past(*measure).separation();
        let first = self.measures[0];
        self.measures
            .iter()
            .copied()
            .max_by(|a, b| {
                separation(a).total_cmp(&separation(b)).then(if *a == first {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Less
                })
            })
            .unwrap_or(first)
    }

    fn past(&self, measure: Measure) -> &Past {
        match measure {
            Measure::Pace => &self.pace,
            Measure::Handshake => &self.handshake,
        }
    }

    fn remember(&mut self, sample: &Sample<'_>, role: Role) {
        for measure in [Measure::Pace, Measure::Handshake] {
            let Some(rank) = sample.rank(measure, self.wanted) else { continue };
            let past = match measure {
                Measure::Pace => &mut self.pace,
                Measure::Handshake => &mut self.handshake,
            };
            match role {
                Role::Subject => past.subjects.push(rank),
                _ => past.controls.push(rank),
            }
        }
    }

    /// Positive when the subject was the slower one. Swapping the two names changes the sign alone, except that a
    /// transfer we stopped is known only as "at least so slow"; that makes gains smaller, never larger.
    fn stake_on_pair(&self, measure: Measure, subject: &Sample<'_>, control: &Sample<'_>) -> f64 {
        let slower_by = |one: &Sample<'_>, other: &Sample<'_>| -> Option<f64> {
            let slow = one.rank(measure, self.wanted)?;
            let fast = if other.failed { None } else { other.log(measure, self.wanted)?.at_most() };
            fast.map(|fast| slow - fast).filter(|&difference| difference > 0.0)
        };
        match (slower_by(subject, control), slower_by(control, subject)) {
            (Some(difference), _) => stake(difference),
            (None, Some(difference)) => -stake(difference),
            (None, None) => 0.0,
        }
    }

    /// Positive when the exchange looks like the subject's earlier ones, negative when like the control's. Whose it is
    /// is not asked.
    fn stake_on_single(&self, measure: Measure, sample: &Sample<'_>) -> f64 {
        let (Some((subject, control)), Some(rank)) =
            (self.past(measure).centres(), sample.rank(measure, self.wanted))
        else {
            return 0.0;
        };
        if subject - control < RATIO_CLEAR.ln() {
            return 0.0;
        }
        // -1 at the control's centre and before, 1 at the subject's and behind; half-way to either is clear enough.
        let place = 2.0 * (rank - control) / (subject - control) - 1.0;
        STAKE_MAX * (2.0 * place).clamp(-1.0, 1.0)
    }
}

/// The stake on a pair that differs by `difference` in logarithms.
fn stake(difference: f64) -> f64 {
    let (unclear, clear) = (RATIO_UNCLEAR.ln(), RATIO_CLEAR.ln());
    STAKE_MAX * ((difference - unclear) / (clear - unclear)).clamp(0.0, 1.0)
}
