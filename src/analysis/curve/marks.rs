//! What a curve shows that tells mechanisms apart, as numbers without unit: of rate, of time, of size.
//!
//! The curve is read in steps of a tenth of a round trip, so that it does not matter whether a client stamped every read or
//! a recording kept one point in ten milliseconds. What each mark means is told in `docs/method/curve.md`.

mod bucket;
mod chance;
mod losses;

use std::f64::consts::TAU;

use crate::model::CurvePoint;

use losses::Losses;

/// Payload of one full segment, near enough for "one segment or several" (Ethernet with timestamps).
pub(super) const SEGMENT: f64 = 1_448.0;

/// A silence longer than this many round trips is a stall: window after window would have come in one.
pub(super) const STALL: f64 = 1.3;

/// A silence longer than this many round trips outlasts a fast retransmission: a timeout, or loss upon loss.
const LONG: f64 = 2.6;

/// With so many segments on the way a single loss is repaired without a timeout: three duplicates tell of it (RFC 5681).
const REPAIRABLE: f64 = 5.0;

/// A silence of this many round trips is longer than what lies between two packets of one window.
const QUIET: f64 = 0.35;

/// Share of the bytes that say nothing about the steady state: slow start, and the burst that a full bucket gives away.
const BEGINNING: f64 = 0.2;

/// Fewer steps or round trips than these show nothing.
const STEPS_MIN: usize = 6;
const ROUND_TRIPS_MIN: f64 = 4.0;

/// The curve in steps of a tenth of a round trip.
pub(super) struct Steps {
    /// Round trips.
    at: Vec<f64>,
    /// Segments.
    level: Vec<f64>,
    /// The first step of the steady state.
    steady: usize,
    /// The first step of the second half of the bytes: by then a full bucket's or a shaper's free burst has passed.
    late: usize,
}

/// A silence between two steps.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// The step before it.
    from: usize,
    /// Its length in round trips.
    trips: f64,
    /// Segments that end it.
    jump: f64,
}

impl Steps {
    /// Merges points closer than a tenth of a round trip; `None` where the curve is too short to show anything.
    pub(super) fn of(points: &[CurvePoint], rtt: f64) -> Option<Self> {
        let width = (rtt / 10.0).max(0.001) * 0.999;
        let (mut at, mut level): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let mut last = f64::NEG_INFINITY;
        for point in points {
            let (time, segments) = (point.at.as_secs_f64(), point.bytes as f64 / SEGMENT);
            if time - last < width {
                *level.last_mut()? = segments;
            } else {
                last = time;
                at.push(time / rtt);
                level.push(segments);
            }
        }
        let all = *level.last()?;
        let from = |share: f64| level.partition_point(|&segments| segments < share * all);
        let (steady, late) = (from(BEGINNING), from(0.5));
        let steps = Self { at, level, steady, late };
        let enough = steps.at.len() >= STEPS_MIN + steady && steps.trips() >= ROUND_TRIPS_MIN;
        enough.then_some(steps)
    }

    /// Round trips of the steady state.
    fn trips(&self) -> f64 {
        self.at[self.at.len() - 1] - self.at[self.steady]
    }

    /// Mean segments in a round trip of the steady state.
    fn window(&self) -> f64 {
        (self.level[self.level.len() - 1] - self.level[self.steady]) / self.trips()
    }

    fn gaps(&self) -> Vec<Gap> {
        let gap = |from: usize| Gap {
            from,
            trips: self.at[from + 1] - self.at[from],
            jump: self.level[from + 1] - self.level[from],
        };
        (0..self.at.len() - 1).map(gap).collect()
    }

    /// Segments of the round trip that ends with this step.
    fn window_before(&self, step: usize) -> f64 {
        let since = self.at[step] - 1.02;
        let first = self.at.partition_point(|&at| at <= since);
        self.level[step] - first.checked_sub(1).map_or(0.0, |before| self.level[before])
    }

    /// Segments of the round trip that ended so many round trips before this step.
    fn window_at(&self, step: usize, back: f64) -> f64 {
        let until = self.at[step] - back;
        self.at.partition_point(|&at| at <= until).checked_sub(1).map_or(0.0, |step| self.window_before(step))
    }

    /// Segments in each slot of so many round trips of the steady state.
    fn slots(&self, width: f64) -> Vec<f64> {
        let start = self.at[self.steady];
        let count = (self.trips() / width).floor() as usize;
        let level = |slot: usize| {
            let time = start + slot as f64 * width;
            self.level[self.at.partition_point(|&at| at <= time) - 1]
        };
        (0..count).map(|slot| level(slot + 1) - level(slot)).collect()
    }
}

/// The marks of one curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marks {
    /// Share of time in silences longer than between two packets of a window. A queue fills them.
    pub(super) silent: f64,
    /// The same outside of stalls.
    pub(super) silent_between: f64,
    /// How many segments come at once in the second half, as a logarithm: a queue hands packets out one by one.
    pub(super) together: f64,
    /// Share of what comes between stalls at one pace, in less than a window's time: a queue's own.
    pub(super) even: f64,
    /// Whether silences are whole round trips of the idle path: from -1 to 1. A queue makes them longer.
    pub(super) whole: f64,
    /// How often a step is followed by another exactly one round trip later, beyond chance: windows return by the clock of
    /// the idle path, and a queue's length blurs it.
    pub(super) clock: f64,
    /// Mean segments in a round trip, as a logarithm.
    pub(super) window: f64,
    /// Number of stalls.
    pub(super) stalls: usize,
    /// Share of time in stalls.
    pub(super) stall_time: f64,
    /// Share of stalls that end in one segment: the next one was lost as well.
    pub(super) crawl: f64,
    /// What the end of a repairable stall releases, in windows before it, on average: less where several were lost.
    pub(super) release: f64,
    /// Evidence that the segments between stalls are more alike than chance makes them.
    pub(super) regular_segments: f64,
    /// Losses for each segment, as a logarithm.
    pub(super) losses: f64,
    /// Share of losses that show in a window's missing end alone.
    pub(super) dips: f64,
    /// How much better than chance a token bucket tells where losses come, in standard deviations.
    pub(super) bucket: f64,
    /// Logarithm of the spread of goodput over five round trips, as a share of its mean.
    pub(super) spread: f64,
    /// Goodput of the second half over that of the first.
    pub(super) growth: f64,
    /// Duration in round trips.
    pub(super) trips: f64,
}

impl Marks {
    #[cfg(test)]
    pub(super) const NOTHING: Self = Self {
        silent: 0.0,
        silent_between: 0.0,
        together: 0.0,
        even: 0.0,
        whole: 0.0,
        clock: 0.0,
        window: 0.0,
        stalls: 0,
        stall_time: 0.0,
        crawl: 0.0,
        release: 0.0,
        regular_segments: 0.0,
        losses: 0.0,
        dips: 0.0,
        bucket: 0.0,
        spread: 0.0,
        growth: 0.0,
        trips: 0.0,
    };

    pub(super) fn of(steps: &Steps) -> Self {
        let gaps = steps.gaps();
        let losses = Losses::of(steps, &gaps);
        let (stalls, rest): (Vec<Gap>, Vec<Gap>) = gaps.iter().partition(|gap| gap.trips > STALL);
        let before: Vec<f64> = stalls.iter().map(|gap| steps.window_before(gap.from).max(1.0)).collect();
        let steady: Vec<Gap> = rest.iter().copied().filter(|gap| gap.from >= steps.steady).collect();
        let late: Vec<Gap> = steady.iter().copied().filter(|gap| gap.from >= steps.late).collect();
        let between: Vec<f64> =
            stalls.windows(2).map(|pair| steps.level[pair[1].from] - steps.level[pair[0].from]).collect();
        let crawling = stalls.iter().filter(|gap| gap.jump < 1.5).count();
        Self {
            silent: quiet(&gaps[steps.steady..]),
            silent_between: quiet(&steady),
            together: clump(&late).max(0.1).ln(),
            even: even(&steady),
            whole: whole(&gaps),
            clock: clock(steps, &gaps),
            window: steps.window().ln(),
            stalls: stalls.len(),
            stall_time: time(&stalls) / time(&gaps),
            crawl: crawling as f64 / stalls.len().max(1) as f64,
            release: release(&stalls, &before),
            regular_segments: (1.0 + chance::regularity(&between)).ln(),
            losses: losses.rate(steps.level[steps.level.len() - 1]).ln(),
            dips: losses.dips(),
            bucket: bucket::tells_losses(&gaps, &losses),
            spread: spread(&steps.slots(5.0)),
            growth: growth(steps),
            trips: steps.trips(),
        }
    }
}

fn time(gaps: &[Gap]) -> f64 {
    gaps.iter().map(|gap| gap.trips).sum()
}

fn quiet(gaps: &[Gap]) -> f64 {
    let long: f64 = gaps.iter().map(|gap| gap.trips).filter(|&trips| trips > QUIET).sum();
    long / time(gaps).max(f64::MIN_POSITIVE)
}

/// Segments that come with a segment, on average, itself included.
fn clump(gaps: &[Gap]) -> f64 {
    let squares: f64 = gaps.iter().map(|gap| gap.jump.powi(2)).sum();
    let all: f64 = gaps.iter().map(|gap| gap.jump).sum();
    squares / all.max(f64::MIN_POSITIVE)
}

fn even(gaps: &[Gap]) -> f64 {
    /// A step of this length or more is a window's silence.
    const WINDOW: f64 = 0.8;
    /// One pace, as far as reads and clocks show it.
    const ALIKE: f64 = 0.25;
    let mut paces: Vec<f64> = gaps.iter().map(|gap| gap.jump / gap.trips).collect();
    paces.sort_unstable_by(f64::total_cmp);
    let Some(&middle) = paces.get(paces.len() / 2) else { return 0.5 };
    let of = |chosen: &dyn Fn(&&Gap) -> bool| gaps.iter().filter(chosen).map(|gap| gap.jump).sum::<f64>();
    let one_pace = |gap: &&Gap| gap.trips < WINDOW && (gap.jump / gap.trips / middle - 1.0).abs() < ALIKE;
    of(&one_pace) / of(&|_| true).max(f64::MIN_POSITIVE)
}

/// Without a queue silences are whole round trips; 0 where there are too few to tell.
fn whole(gaps: &[Gap]) -> f64 {
    let rounds: Vec<f64> =
        gaps.iter().map(|gap| gap.trips).filter(|trips| (0.6..3.3).contains(trips)).collect();
    if rounds.len() < 3 {
        return 0.0;
    }
    mean(&rounds.iter().map(|trips| (TAU * trips).cos()).collect::<Vec<f64>>())
}

/// The share of steps with another one round trip later, less the share of all time that is so near to a step; both where no
/// stall comes between.
fn clock(steps: &Steps, gaps: &[Gap]) -> f64 {
    const NEAR: f64 = 0.06;
    let is_near = |time: f64| {
        let next = steps.at.partition_point(|&at| at < time - NEAR);
        steps.at.get(next).is_some_and(|&at| at <= time + NEAR)
    };
    let follows = |delay: f64| -> f64 {
        let asked: Vec<bool> = (0..gaps.len())
            .filter(|&step| {
                let until = steps.at.partition_point(|&at| at <= steps.at[step] + delay - NEAR);
                until < steps.at.len() && gaps[step..until].iter().all(|gap| gap.trips <= STALL)
            })
            .map(|step| is_near(steps.at[step] + delay))
            .collect();
        (asked.iter().filter(|near| **near).count() as f64 + 0.5) / (asked.len() as f64 + 1.0)
    };
    follows(1.0) - f64::midpoint(follows(0.85), follows(1.15))
}

fn release(stalls: &[Gap], before: &[f64]) -> f64 {
    /// A single loss releases about a window and what the sender dared to send meanwhile; so many such stalls are assumed
    /// beforehand.
    const USUAL: f64 = 1.1;
    const ASSUMED: f64 = 2.0;
    let released: Vec<f64> = stalls
        .iter()
        .zip(before)
        .filter(|(gap, window)| **window >= REPAIRABLE && gap.trips <= LONG)
        .map(|(gap, window)| (gap.jump / window).min(2.0))
        .collect();
    (released.iter().sum::<f64>() + USUAL * ASSUMED) / (released.len() as f64 + ASSUMED)
}

fn growth(steps: &Steps) -> f64 {
    let middle = steps.at[steps.steady] + steps.trips() / 2.0;
    let half = steps.level[steps.at.partition_point(|&at| at <= middle) - 1];
    let first = half - steps.level[steps.steady];
    (steps.level[steps.level.len() - 1] - half) / first.max(1.0)
}

fn spread(slots: &[f64]) -> f64 {
    if slots.len() < 3 {
        return -1.5;
    }
    (deviation(slots) / mean(slots).max(f64::MIN_POSITIVE) + 0.02).ln()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of a whole population.
fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|value| (value - centre).powi(2)).collect::<Vec<f64>>()).sqrt()
}
