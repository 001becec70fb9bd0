//! What one sample says: how slow the subject was against its control, and how much more likely that is under each
//! kind of interference than without any.
//!
//! Every value here is an e-value: without interference its mean given the past is at most one, if the chance of a
//! slow sample is at most as assumed. Means of e-values are e-values under any dependence, products are if each factor
//! is one given the past.

use super::detector::Part;
use crate::model::{DetectorState, Excursion, Verdict};

/// A subject more than eight times slower than its control is slowed severely. Ordinary lines show this less than once
/// in a hundred tests (crowd data of 2021: 0.8 % of 2,877 tests on ten operators that did not throttle).
pub(super) const SEVERE_RATIO: f64 = 0.125;

/// A subject five to eight times slower is slowed moderately. Two hosts may differ by that for innocent reasons such as
/// distance, so that it counts less.
pub(super) const MODERATE_RATIO: f64 = 0.2;

/// The assumed chance of a severely slow sample without interference; what was observed, rounded up. A line on which
/// the control is as often that much slower than the subject gets a larger one.
const SEVERE_CHANCE: f64 = 0.01;

/// The assumed chance of a moderately slow sample is so many times as large. Observed about as often as severe ones;
/// allowed three times as often, because lines and hosts that were never seen differ most here.
const MODERATE_FACTOR: f64 = 3.0;

/// No line is believed to be so noisy that more than this share of samples is severely slow by chance.
const SEVERE_CHANCE_MAX: f64 = 0.1;

/// The assumed chance that a severely slow test is followed by another, before anything was learned of the line; held
/// against a prior of so many followers, and never believed to be larger than the last. One visitor tests several times:
/// on the ten operators above 3 of 26 slow tests were followed by one.
const REPEAT_CHANCE: f64 = 0.05;
const REPEAT_PRIOR: f64 = 5.0;
const REPEAT_CHANCE_MAX: f64 = 0.4;

/// The same while a series has shown nothing but slow tests. That a visitor who tests four times is the very first happens
/// once a series and not once a test, and is rare enough: four tests then suffice, later it takes five.
const REPEAT_CHANCE_AT_FIRST: f64 = 0.02;

/// One sample may multiply the evidence by no more: with the shortest run length of [`super::RUN_LENGTH`] three
/// affected tests in a row, which one roaming or tunnelled visitor makes easily, never raise an alarm; four do.
const E_VALUE_MAX: f64 = 45.0;

/// The chance that a judged round accuses falsely: rounds are judged at one in a thousand; doubled.
const FINDING_CHANCE: f64 = 0.002;

/// A judged round is evidence from several pairs, and may multiply the evidence by more than a single pair.
const FINDING_E_VALUE_MAX: f64 = 450.0;

/// The kinds of interference that are looked for: the chance of a severely and of a moderately slow sample.
/// Nearly every sample; about a third of them (a patchy deployment); a milder slowdown around the border of both.
pub(super) const ALTERNATIVES: [(f64, f64); 3] = [(0.85, 0.08), (0.33, 0.03), (0.30, 0.45)];

/// A goodput as far as it is known, bytes per second (any unit that both members of a pair share).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observed {
    /// So much.
    Goodput(f64),
    /// Censored: it did not end in time, so at most this much.
    AtMost(f64),
    /// It failed. Servers fail for innocent reasons, so that a failure alone says nothing here; a judged round may.
    Failed,
    /// Not known.
    Unknown,
}

/// A subject and a control exchange taken together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedTest {
    /// What may be throttled.
    pub subject: Observed,
    /// What shows how the line does without it.
    pub control: Observed,
}

/// What a series is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// One pair of goodputs.
    Pair(PairedTest),
    /// The verdict on a whole round.
    Finding(Verdict),
}

impl From<PairedTest> for Sample {
    fn from(pair: PairedTest) -> Self {
        Self::Pair(pair)
    }
}

/// What is assumed of samples without interference, given the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chances {
    severe: f64,
    moderate: f64,
    accused: f64,
}

/// What a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grade {
    /// Eight times slower or more.
    Severe,
    /// Five to eight times slower.
    Moderate,
    /// Neither.
    Clear,
    /// The control was eight times slower than the subject.
    Reversed,
    /// A judged round that accuses.
    Accused(Verdict),
    /// A judged round that is normal.
    Cleared,
    /// The control was slow too: nothing can be said of the subject.
    Degraded,
    /// It says nothing.
    Nothing,
}

impl Grade {
    /// Whether the sample counts as affected.
    pub(super) const fn affected(self) -> bool {
        matches!(self, Self::Severe | Self::Moderate | Self::Accused(_))
    }
}

/// Grades a sample. `usual` is the usual goodput of the control, where it is known.
pub(super) fn grade(sample: Sample, usual: Option<f64>) -> Grade {
    match sample {
        Sample::Finding(verdict) if verdict.accuses() => Grade::Accused(verdict),
        Sample::Finding(Verdict::Normal) => Grade::Cleared,
        Sample::Finding(Verdict::Degraded) => Grade::Degraded,
        Sample::Finding(_) => Grade::Nothing,
        Sample::Pair(PairedTest { subject, control }) => grade_pair(subject, control, usual),
    }
}

fn grade_pair(subject: Observed, control: Observed, usual: Option<f64>) -> Grade {
    let slow = |control: f64| usual.is_some_and(|usual| control < usual * super::CONTROL_SLOW);
    match (subject, control) {
        (_, Observed::Goodput(control) | Observed::AtMost(control)) if control <= 0.0 || slow(control) => {
            Grade::Degraded
        }
        (Observed::Goodput(subject), Observed::Goodput(control)) => {
            if subject < control * SEVERE_RATIO {
                Grade::Severe
            } else if subject < control * MODERATE_RATIO {
                Grade::Moderate
            } else if control < subject * SEVERE_RATIO {
                Grade::Reversed
            } else {
                Grade::Clear
            }
        }
        (Observed::AtMost(subject), Observed::Goodput(control)) => {
            if subject < control * SEVERE_RATIO {
                Grade::Severe
            } else if subject < control * MODERATE_RATIO {
                Grade::Moderate
            } else {
                Grade::Nothing
            }
        }
        (Observed::Goodput(subject), Observed::AtMost(control)) if subject >= control * MODERATE_RATIO => {
            Grade::Clear
        }
        _ => Grade::Nothing,
    }
}

/// The assumed chance of a severely slow sample on this line. Without interference subject and control change places
/// freely, so that a control eight times slower than its subject is as likely as the reverse: those are counted, from
/// past tests alone, and held against a prior of a hundred tests.
fn severe_chance(state: &DetectorState) -> f64 {
    let learned = (state.reversed + 1.0) / (state.tests as f64 + 100.0);
    learned.clamp(SEVERE_CHANCE, SEVERE_CHANCE_MAX)
}

/// The assumed chance that an affected sample follows an affected test at once, by what was learned from past ones
/// that led to no alarm. Beforehand `chance`, held against a prior of [`REPEAT_PRIOR`] such tests.
fn repeat_chance(state: &DetectorState, chance: f64) -> f64 {
    let Excursion { followed, again, .. } = state.innocent;
    let learned = (f64::from(again) + chance * REPEAT_PRIOR) / (f64::from(followed) + REPEAT_PRIOR);
    learned.clamp(chance, REPEAT_CHANCE_MAX)
}

fn knows_only_slow_tests(state: &DetectorState) -> bool {
    state.tests == state.recent.len() as u64 && state.recent.iter().rev().all(|test| test.affected >= 0.5)
}

/// The assumed chances of a severely slow and of an accused sample, given the past.
pub(super) fn chances(state: &DetectorState, follows: bool, without: Option<Part>) -> Chances {
    let severe = if without == Some(Part::LearnedNoise) { SEVERE_CHANCE } else { severe_chance(state) };
    let repeat_chance = |chance| match without {
        Some(Part::LearnedRepeats) => chance,
        _ => repeat_chance(state, chance),
    };
    if !follows {
        return Chances { severe, moderate: severe * MODERATE_FACTOR, accused: FINDING_CHANCE };
    }
    let repeated = if knows_only_slow_tests(state) { REPEAT_CHANCE_AT_FIRST } else { REPEAT_CHANCE };
    let severe = severe.max(repeat_chance(repeated));
    Chances { severe, moderate: (severe * MODERATE_FACTOR).min(0.5), accused: repeat_chance(FINDING_CHANCE) }
}

/// The e-value of a sample against each alternative; `None` when it says nothing.
pub(super) fn e_values(grade: Grade, chances: Chances) -> Option<[f64; ALTERNATIVES.len()]> {
    let Chances { severe: severe_chance, moderate: moderate_chance, accused } = chances;
    let value = |(severe, moderate): (f64, f64)| match grade {
        Grade::Severe => (severe / severe_chance).min(E_VALUE_MAX),
        Grade::Moderate => (moderate / moderate_chance).min(E_VALUE_MAX),
        Grade::Clear | Grade::Reversed => (1.0 - severe - moderate) / (1.0 - severe_chance - moderate_chance),
        Grade::Accused(_) => ((severe + moderate) / accused).min(FINDING_E_VALUE_MAX),
        Grade::Cleared => (1.0 - severe - moderate) / (1.0 - accused),
        Grade::Degraded | Grade::Nothing => 1.0,
    };
    (!matches!(grade, Grade::Degraded | Grade::Nothing)).then(|| ALTERNATIVES.map(value))
}
