//! The detector of one series: samples in, onset and end out.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    EXPECTED_FALSE, RUN_LENGTH,
    evidence::{ALTERNATIVES, Grade, Sample, chances, e_values, grade},
    future, incident,
};
use crate::model::{CountedTest, DetectorState, Incident, OpenTest, SeriesState, Verdict};

/// Tests that are remembered to estimate a moment; older ones no longer move it.
const RECENT_MAX: usize = 512;

/// Incidents that are remembered per series.
const CLOSED_MAX: usize = 64;

/// Control goodputs that make the usual one, and how many are needed before any counts as slow.
const CONTROLS_MAX: usize = 64;
const CONTROLS_MIN: usize = 8;

/// After so many slow controls in a row the line is simply slower than it was, and its usual goodput learned anew.
const SLOW_STREAK_MAX: u32 = 288;

/// Gaps between tests that tell how dense a series is, and how many are needed to tell.
const GAPS_MAX: usize = 64;
const GAPS_MIN: usize = 8;

/// A series is silent after a day, if that is twice as long as any of its last gaps.
const SILENT_MIN: Duration = Duration::from_hours(24);
const SILENT_GAPS: f64 = 2.0;

/// Within this time a visitor tests again.
const REPEAT_WITHIN: Duration = Duration::from_hours(1);

/// Samples of one grouping window that are told apart; a window of more keeps what it has.
const WINDOW_SAMPLES_MAX: u32 = 10_000;

/// The present is what the last so many tests say.
const PRESENT_TESTS: usize = 32;

/// A third of the tests affected would leave so few among the present ones with less than this chance: `normal`.
const NORMAL_CHANCE: f64 = 0.05;
const NORMAL_SHARE: f64 = 1.0 / 3.0;

/// Above this share an incident is not patchy: visitors behind tunnels and uncovered sites remain in the other.
const MIXED_SHARE: f64 = 0.85;

/// How a series is watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The average number of counted tests between false alarms is at least this.
    pub run_length: f64,
    /// So many tests are judged together: the bound of an incident holds for all of them at once.
    pub tests_together: u64,
    /// Samples of the same clock-aligned window of this length count as one test; zero: every sample counts.
    pub window: Duration,
    /// Tests of the same clock-aligned block of this length may depend on each other as far as an end is concerned;
    /// zero: every test counts.
    pub end_block: Duration,
    /// An incident is closed for good at this evidence: of so many series that go on, one is closed by mistake.
    pub end_evidence: f64,
    /// So long without a sample is silence; `None`: by what is usual in the series.
    pub silence: Option<Duration>,
    /// What an ablation leaves out; the product leaves out nothing.
    pub without: Option<Part>,
}

/// A part of the method. Simulations leave one out at a time to see what it buys. The averaging of samples of one window
/// is left out by a `window` of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The learned chance of a slow sample, by how often the control is the slower one.
    LearnedNoise,
    /// The learned chance that a slow test is followed by another.
    LearnedRepeats,
    /// The moderate grade.
    Moderate,
    /// The third kind of interference, a milder slowdown.
    Milder,
}

impl Settings {
    /// For recordings of many visitors: five minutes count once. `tests` is the number of tests that are judged
    /// together; false incidents among all of them number [`EXPECTED_FALSE`] on average at most, however many series they make.
    pub fn recorded(tests: u64) -> Self {
        Self {
            run_length: RUN_LENGTH.max(tests as f64 / EXPECTED_FALSE),
            tests_together: tests,
            window: Duration::from_mins(5),
            end_block: Duration::from_hours(1),
            end_evidence: 10_000.0,
            silence: None,
            without: None,
        }
    }

    /// For a probe's own rounds, each of which counts. `targets` share 10,000 rounds each between false alarms.
    pub fn live(targets: usize, interval: Duration) -> Self {
        Self {
            run_length: RUN_LENGTH.max(10_000.0 * targets as f64),
            tests_together: 10_000 * targets as u64,
            window: Duration::ZERO,
            end_block: Duration::ZERO,
            end_evidence: 100.0,
            silence: Some(interval.saturating_mul(3)),
            without: None,
        }
    }
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesEvent {
    /// An incident was found to have begun.
    Onset(Incident),
    /// An incident that was taken for ended goes on: its end and the new onset cannot be told apart.
    Resumed(Incident),
    /// It was found to have ended.
    End(Incident),
    /// No test for so long that the series says nothing about the present.
    Silent,
}

/// Watches one series. All it remembers is in its [`DetectorState`].
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDetector {
    settings: Settings,
    state: DetectorState,
}

impl SeriesDetector {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self::resume(settings, DetectorState::default())
    }

    /// A detector that goes on where a stored one stopped.
    pub fn resume(settings: Settings, mut state: DetectorState) -> Self {
        state.evidence.resize(ALTERNATIVES.len(), 0.0);
        Self { settings, state }
    }

    /// What to store.
    pub const fn memory(&self) -> &DetectorState {
        &self.state
    }

    /// Takes a sample. Samples come in order of time; where one steps back the clock was ahead before it, and what was
    /// dated later than now is taken as of now.
    pub fn observe(&mut self, at: Timestamp, sample: impl Into<Sample>) -> Vec<SeriesEvent> {
        if self.state.last_at.is_some_and(|last| last > at) {
            future::bring_back(&mut self.state, at);
        }
        let mut events = self.tick(at);
        self.state.samples += 1;
        self.state.last_at = Some(at);
        self.state.silent = false;
        self.state.first_at.get_or_insert(at);
        self.add(at, sample.into());
        if self.settings.window.is_zero() {
            events.extend(self.close_test());
        }
        events
    }

    /// Lets time pass: closes a grouping window that is over, and notices silence.
    pub fn tick(&mut self, at: Timestamp) -> Vec<SeriesEvent> {
        let mut events = Vec::new();
        let window = self.settings.window;
        if self.state.open.as_ref().is_some_and(|open| block(open.from, window) != block(at, window)) {
            events.extend(self.close_test());
        }
        if !self.state.silent && self.is_silent(at) {
            self.state.silent = true;
            events.push(SeriesEvent::Silent);
        }
        events
    }

    /// Closes the grouping window: the recording ends here.
    pub fn finish(&mut self) -> Vec<SeriesEvent> {
        self.close_test()
    }

    /// How the series stands.
    pub fn state(&self) -> SeriesState {
        let state = &self.state;
        if state.silent || state.samples == 0 {
            return SeriesState::NoData;
        }
        if state.slow_streak >= 2 {
            return SeriesState::Degraded;
        }
        let present = state.recent.iter().rev().take(PRESENT_TESTS);
        let (count, affected) =
            present.fold((0_u32, 0.0), |(count, sum), test| (count + 1, sum + test.affected));
        if let Some(open) = state.incident.as_ref().filter(|open| open.incident.end.is_none()) {
            return match open.incident.verdict {
                _ if affected < MIXED_SHARE * f64::from(count) => SeriesState::Mixed,
                Verdict::Frozen => SeriesState::Frozen,
                Verdict::Blocked => SeriesState::Blocked,
                _ => SeriesState::Throttled,
            };
        }
        if self.suspicion() > 0.5 {
            SeriesState::Suspected
        } else if binomial_at_most(affected.floor() as u32, count, NORMAL_SHARE) < NORMAL_CHANCE {
            SeriesState::Normal
        } else {
            SeriesState::Inconclusive
        }
    }

    /// How far the evidence for an onset has come: 0 nothing, 1 alarm. On a logarithmic scale.
    pub fn suspicion(&self) -> f64 {
        let highest = self.state.evidence.iter().copied().fold(0.0, f64::max);
        (highest / incident::alarm_level(self.settings.run_length)).clamp(0.0, 1.0)
    }

    /// All incidents that are remembered, oldest first, the lasting one last.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.state.closed.iter().chain(self.state.incident.as_ref().map(|open| &open.incident))
    }

    /// Adds a sample to the open window.
    fn add(&mut self, at: Timestamp, sample: Sample) {
        let usual = usual_control(&self.state);
        let without = self.settings.without;
        let grade = match grade(sample, usual) {
            Grade::Moderate if without == Some(Part::Moderate) => Grade::Clear,
            grade => grade,
        };
        let follows = follows_affected(&self.state, at);
        let mut values = e_values(grade, chances(&self.state, follows, without));
        if without == Some(Part::Milder)
            && let Some([.., milder]) = &mut values
        {
            *milder = 0.0;
        }
        let open = self.state.open.get_or_insert_with(|| OpenTest {
            from: at,
            until: at,
            informative: 0,
            degraded: 0,
            affected: 0,
            reversed: 0,
            e_values: vec![0.0; ALTERNATIVES.len()],
            controls: Vec::new(),
            frozen: 0,
            blocked: 0,
        });
        open.until = at;
        if let Sample::Pair(pair) = sample
            && let super::Observed::Goodput(control) = pair.control
            && control > 0.0
            && open.controls.len() < CONTROLS_MAX
        {
            open.controls.push(control);
        }
        open.degraded += u32::from(grade == Grade::Degraded);
        let Some(values) = values.filter(|_| open.informative < WINDOW_SAMPLES_MAX) else { return };
        open.informative += 1;
        open.affected += u32::from(grade.affected());
        open.reversed += u32::from(grade == Grade::Reversed);
        open.frozen += u32::from(grade == Grade::Accused(Verdict::Frozen));
        open.blocked += u32::from(grade == Grade::Accused(Verdict::Blocked));
        for (sum, value) in open.e_values.iter_mut().zip(values) {
            *sum += value;
        }
    }

    /// Counts the open window as one test, and moves the evidence.
    fn close_test(&mut self) -> Vec<SeriesEvent> {
        let Some(open) = self.state.open.take() else { return Vec::new() };
        let slow = open.degraded > open.informative;
        self.learn_control(&open, slow);
        if open.informative == 0 || slow {
            return Vec::new();
        }
        let state = &mut self.state;
        let count = f64::from(open.informative);
        if let Some(last) = state.recent.back() {
            push_bounded(&mut state.gaps, seconds(last.from, open.from), GAPS_MAX);
        }
        let values: Vec<f64> = open.e_values.iter().map(|sum| sum / count).collect();
        let test = CountedTest {
            from: open.from,
            until: open.until,
            affected: f64::from(open.affected) / count,
            e_value: values.iter().sum::<f64>() / values.len() as f64,
        };
        let follows = follows_affected(state, open.from);
        push_bounded(&mut state.recent, test, RECENT_MAX);
        state.tests += 1;
        state.reversed += f64::from(open.reversed) / count;
        let event = if state.incident.is_some() {
            incident::go_on(state, &open, &test, &values, &self.settings).map(SeriesEvent::End)
        } else {
            incident::look_for_onset(state, &open, &values, follows, &self.settings)
        };
        while self.state.closed.len() > CLOSED_MAX {
            self.state.closed.pop_front();
        }
        event.into_iter().collect()
    }

    fn learn_control(&mut self, open: &OpenTest, slow: bool) {
        let state = &mut self.state;
        if slow {
            state.slow_streak += 1;
            if state.slow_streak < SLOW_STREAK_MAX {
                return;
            }
            state.controls.clear();
        }
        state.slow_streak = 0;
        if let Some(median) = median(open.controls.clone()) {
            push_bounded(&mut state.controls, median, CONTROLS_MAX);
        }
    }

    fn is_silent(&self, at: Timestamp) -> bool {
        let Some(last) = self.state.last_at else { return false };
        let longest = self.state.gaps.iter().copied().fold(SILENT_MIN.as_secs_f64() / SILENT_GAPS, f64::max);
        match self.settings.silence {
            Some(silence) => seconds(last, at) > silence.as_secs_f64(),
            None => self.state.gaps.len() >= GAPS_MIN && seconds(last, at) > SILENT_GAPS * longest,
        }
    }
}

/// The usual goodput of the control: the median of the last tests; `None` before there are enough.
fn usual_control(state: &DetectorState) -> Option<f64> {
    if state.controls.len() < CONTROLS_MIN {
        return None;
    }
    median(state.controls.iter().copied().collect())
}

/// Whether the last counted test was affected, and so recent that a slow one now may be the same visitor again.
pub(super) fn follows_affected(state: &DetectorState, at: Timestamp) -> bool {
    state
        .recent
        .back()
        .is_some_and(|last| last.affected >= 0.5 && seconds(last.until, at) <= REPEAT_WITHIN.as_secs_f64())
}

/// The upper median; `None` for nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

fn push_bounded<T>(queue: &mut std::collections::VecDeque<T>, value: T, length_max: usize) {
    if queue.len() == length_max {
        queue.pop_front();
    }
    queue.push_back(value);
}

fn seconds(from: Timestamp, until: Timestamp) -> f64 {
    until.duration_since(from).as_secs_f64()
}

/// The number, since 1970, of the block of this length that holds a moment; with length zero every second is its own.
pub(super) fn block(at: Timestamp, length: Duration) -> i64 {
    at.as_second().div_euclid(length.as_secs().cast_signed().max(1))
}

/// The chance of at most `k` successes in `n` trials of chance `p`; 1 for no trials.
fn binomial_at_most(k: u32, n: u32, p: f64) -> f64 {
    let mut term = (1.0 - p).powi(n.cast_signed());
    let mut sum = term;
    for success in 1..=k.min(n) {
        term *= f64::from(n - success + 1) / f64::from(success) * p / (1.0 - p);
        sum += term;
    }
    sum.min(1.0)
}
