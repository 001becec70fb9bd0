//! How surprising a difference is: a bet on labels.
//!
//! Before each unit a fair coin decided which name is shown first (a pair) or which name is shown at all (a single). If
//! the name made no difference, what was seen says nothing about the coin, and a bet on it gains nothing on average,
//! whatever the line does meanwhile. The capital of such a bettor is an e-value: that it ever reaches 1/α has probability
//! α at most, however often one looks (Ville 1939; Ramdas, Grünwald, Vovk and Shafer, Statistical Science 38, 2023).
//! Everything decided before a unit rests on earlier units alone, and the stake on a unit on the two outcomes, not on
//! whose they are.

use crate::{analysis::stats::median, model::Role};

use super::{
    Part, RoundSettings,
    compare::{Measure, Sample, Sorted, Unit},
};

/// Below this ratio a difference is no bet: two transfers on one line differ by so much without reason.
const RATIO_UNCLEAR: f64 = 1.25;

/// From this ratio on a difference is clear: the design's own bound for `throttled`.
const RATIO_CLEAR: f64 = 1.5;

/// Guesses that the bettor believes to have made before the first: right ones and wrong ones. One in twenty wrong is
/// what a line with stalls makes of a clear difference; four in all, so that eleven right guesses in a row still make
/// 1000, and a wrong one is soon believed.
const GUESSES_BEFORE: [f64; 2] = [3.8, 0.2];

/// Exchanges of each name that say what is usual now: a line that changes in mid-round is soon followed.
const RECENT: usize = 5;

/// The bettor after all units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capital {
    /// The natural logarithm of the e-value.
    pub(super) log_e_value: f64,
    /// No single exchange was taken for the other name so far.
    pub(super) singles_pay: bool,
}

/// Bets on `units` of the round in order of time, as the subject being the slower one.
pub(super) fn bet(sorted: &Sorted<'_>, units: &[Unit<'_>], settings: &RoundSettings) -> Capital {
    let mut bettor = Bettor::new(sorted, settings);
    for unit in units {
        bettor.bet(unit);
    }
    bettor.capital()
}

pub(super) struct Bettor {
    log_e_value: f64,
    wanted: Option<u64>,
    measures: Vec<(Measure, Past)>,
    pairs: Record,
    singles: Record,
    learns: bool,
}

/// What exchanges of each name ranked at, openings included.
#[derive(Default)]
struct Past {
    subjects: Vec<f64>,
    controls: Vec<f64>,
}

impl Past {
    /// What is usual now for subject and control.
    fn centres(&self) -> Option<(f64, f64)> {
        let recent = |ranks: &[f64]| median(&ranks[ranks.len().saturating_sub(RECENT)..]);
        Some((recent(&self.subjects)?, recent(&self.controls)?))
    }

    fn separation(&self) -> f64 {
        self.centres().map_or(0.0, |(subject, control)| subject - control)
    }
}

/// How often guesses of one kind were right, weighed by how clear they were.
struct Record {
    right: f64,
    wrong: f64,
}

impl Record {
    const fn new() -> Self {
        Self { right: GUESSES_BEFORE[0], wrong: GUESSES_BEFORE[1] }
    }

    /// The share of the capital to stake on a guess so clear (-1 to 1, negative: the other name): the best growth at the
    /// error rate so far is right minus wrong (Kelly, Bell System Technical Journal 35, 1956).
    fn stake(&self, clarity: f64) -> f64 {
        clarity * ((self.right - self.wrong) / (self.right + self.wrong)).max(0.0)
    }

    fn remember(&mut self, clarity: f64) {
        if clarity > 0.0 {
            self.right += clarity;
        } else {
            self.wrong -= clarity;
        }
    }
}

impl Bettor {
    pub(super) fn new(sorted: &Sorted<'_>, settings: &RoundSettings) -> Self {
        let measures: &[Measure] = if settings.bulk && sorted.sizes_match() {
            &[Measure::Pace, Measure::Handshake]
        } else {
            &[Measure::Handshake]
        };
        let measures = measures.iter().map(|&measure| (measure, Past::default())).collect();
        let mut bettor = Self {
            log_e_value: 0.0,
            wanted: sorted.wanted,
            measures,
            pairs: Record::new(),
            singles: Record::new(),
            learns: settings.without != Some(Part::LearnedStake),
        };
        for sample in &sorted.openings {
            bettor.remember(sample, Role::Control);
        }
        bettor
    }

    pub(super) fn capital(&self) -> Capital {
        Capital { log_e_value: self.log_e_value, singles_pay: self.singles.wrong <= GUESSES_BEFORE[1] }
    }

    /// Bets on one unit.
    pub(super) fn bet(&mut self, unit: &Unit<'_>) {
        // The measure that has told the two apart best so far; the first where none has.
        let (mut measure, mut best) = (self.measures[0].0, f64::NEG_INFINITY);
        for (candidate, past) in &self.measures {
            if past.separation() > best {
                (measure, best) = (*candidate, past.separation());
            }
        }
        let (record, clarity) = match (&unit.subject, &unit.control) {
            (Some(subject), Some(control)) => {
                let clarity = self.clarity_of_pair(measure, subject, control);
                (&mut self.pairs, clarity)
            }
            (Some(single), None) | (None, Some(single)) => {
                let clarity = self.clarity_of_single(measure, single);
                let clarity = if unit.subject.is_some() { clarity } else { -clarity };
                (&mut self.singles, clarity)
            }
            (None, None) => return,
        };
        let stake = record.stake(clarity);
        if self.learns {
            record.remember(clarity);
        }
        for (sample, role) in [(&unit.subject, Role::Subject), (&unit.control, Role::Control)] {
            if let Some(sample) = sample {
                self.remember(sample, role);
            }
        }
        self.log_e_value += stake.ln_1p();
    }

    fn remember(&mut self, sample: &Sample<'_>, role: Role) {
        for (measure, past) in &mut self.measures {
            let Some(rank) = sample.rank(*measure, self.wanted) else { continue };
            match role {
                Role::Subject => past.subjects.push(rank),
                _ => past.controls.push(rank),
            }
        }
    }

    /// How clearly the subject was the slower one; negative where the control was. Swapping the two names changes the
    /// sign alone, except that a transfer we stopped is known only as "at least so slow"; that makes gains smaller, never
    /// larger.
    fn clarity_of_pair(&self, measure: Measure, subject: &Sample<'_>, control: &Sample<'_>) -> f64 {
        let slower_by = |one: &Sample<'_>, other: &Sample<'_>| -> Option<f64> {
            let slow = one.rank(measure, self.wanted)?;
            let fast = if other.failed { None } else { other.log(measure, self.wanted)?.at_most() };
            fast.map(|fast| slow - fast).filter(|&difference| difference > 0.0)
        };
        match (slower_by(subject, control), slower_by(control, subject)) {
            (Some(difference), _) => clarity(difference),
            (None, Some(difference)) => -clarity(difference),
            (None, None) => 0.0,
        }
    }

    /// How clearly an exchange looks like the subject's recent ones; negative where like the control's. Whose it is is
    /// not asked.
    fn clarity_of_single(&self, measure: Measure, sample: &Sample<'_>) -> f64 {
        let past = self.measures.iter().find(|(candidate, _)| *candidate == measure).map(|(_, past)| past);
        let (Some((subject, control)), Some(rank)) =
            (past.and_then(Past::centres), sample.rank(measure, self.wanted))
        else {
            return 0.0;
        };
        if subject - control < RATIO_CLEAR.ln() {
            return 0.0;
        }
        // -1 at the control's centre and before, 1 at the subject's and behind; half-way to either is clear enough.
        let place = 2.0 * (rank - control) / (subject - control) - 1.0;
        (2.0 * place).clamp(-1.0, 1.0)
    }
}

/// How clear a difference in logarithms is, from 0 to 1.
fn clarity(difference: f64) -> f64 {
    let (unclear, clear) = (RATIO_UNCLEAR.ln(), RATIO_CLEAR.ln());
    ((difference - unclear) / (clear - unclear)).clamp(0.0, 1.0)
}
