//! The marks that a mechanism leaves in a curve, each a plain number without a unit of rate or time.
//!
//! All are taken after the first fifth of the bytes (slow start and the free burst say little), on the curve read in
//! steps of a tenth of a round trip, so that it does not matter whether a client stamped every read or a recording
//! kept one point in ten milliseconds. What each mark means is told in `docs/method/curve.md`.

use std::f64::consts::TAU;

use crate::model::CurvePoint;

/// Payload of one full segment, near enough for "one segment or several" (Ethernet with timestamps).
pub(super) const SEGMENT: f64 = 1_448.0;

/// A silence longer than this many round trips is a stall: window after window would have come in one.
pub(super) const STALL: f64 = 1.3;

/// A silence longer than this many round trips outlasts a fast retransmission: a timeout, or loss upon loss.
const LONG: f64 = 2.6;

/// Fewer steps or round trips than these show nothing.
const STEPS_MIN: usize = 6;
const ROUND_TRIPS_MIN: f64 = 4.0;

/// Number of marks.
pub(super) const MARKS: usize = 27;

/// Their names, in the order of [`Marks::values`].
pub(super) const NAMES: [&str; MARKS] = [
    "window",
    "stall_rate",
    "stall_time",
    "repair_time",
    "long_time",
    "silent",
    "silent_between",
    "peak",
    "crawl",
    "two_trips",
    "whole",
    "partial",
    "one_after",
    "late_window",
    "exactly_two",
    "stalls",
    "cadence",
    "spread_2",
    "spread_5",
    "jump_before",
    "jump",
    "jump_share",
    "bend",
    "regular",
    "window_spread",
    "gap",
    "high_5",
];

/// The curve after its first fifth.
pub(super) struct Steps {
    /// Seconds.
    pub(super) at: Vec<f64>,
    /// Bytes.
    pub(super) bytes: Vec<f64>,
    pub(super) rtt: f64,
}

impl Steps {
    /// Merges points closer than a tenth of a round trip, and drops the first fifth of the bytes; `None` where what
    /// remains is too short to show anything.
    pub(super) fn of(points: &[CurvePoint], rtt: f64) -> Option<Self> {
        let width = (rtt / 10.0).max(0.001) * 0.999;
        let (mut at, mut bytes): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        let first = points.last()?.bytes as f64 * 0.2;
        for point in points {
            let (time, count) = (point.at.as_secs_f64(), point.bytes as f64);
            match at.last() {
                Some(last) if time - last < width => *bytes.last_mut()? = count,
                _ => {
                    at.push(time);
                    bytes.push(count);
                }
            }
        }
        let skip = bytes.partition_point(|&count| count < first);
        let (at, bytes) = (at.split_off(skip), bytes.split_off(skip));
        let steps = Self { at, bytes, rtt };
        (steps.at.len() >= STEPS_MIN && steps.duration() >= ROUND_TRIPS_MIN * rtt).then_some(steps)
    }

    pub(super) fn duration(&self) -> f64 {
        self.at.last().unwrap_or(&0.0) - self.at.first().unwrap_or(&0.0)
    }

    pub(super) fn volume(&self) -> f64 {
        self.bytes.last().unwrap_or(&0.0) - self.bytes.first().unwrap_or(&0.0)
    }

    /// Bytes per second.
    pub(super) fn goodput(&self) -> f64 {
        self.volume() / self.duration()
    }

    /// Bytes in slots of `width` seconds.
    fn slots(&self, width: f64) -> Vec<f64> {
        let (start, end) = (self.at[0], self.at[self.at.len() - 1]);
        let count = ((end - start) / width).ceil() as usize;
        let mut levels = Vec::with_capacity(count);
        let mut index = 0;
        for slot in 0..count {
            let time = start + slot as f64 * width;
            while index + 1 < self.at.len() && self.at[index + 1] <= time {
                index += 1;
            }
            levels.push(self.bytes[index]);
        }
        levels.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Silences, each with the bytes that end it.
    fn gaps(&self) -> Vec<Gap> {
        (1..self.at.len())
            .map(|index| Gap {
                index,
                trips: (self.at[index] - self.at[index - 1]) / self.rtt,
                bytes: self.bytes[index] - self.bytes[index - 1],
            })
            .collect()
    }

    /// Bytes of the round trip that ends with step `index`.
    fn window_before(&self, index: usize) -> f64 {
        let since = self.at[index] - 1.02 * self.rtt;
        let first = self.at.partition_point(|&at| at <= since).saturating_sub(1);
        self.bytes[index] - self.bytes[first]
    }
}

#[derive(Clone, Copy)]
struct Gap {
    /// The step that ends it.
    index: usize,
    /// Its length in round trips.
    trips: f64,
    bytes: f64,
}

/// The marks of one curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marks {
    values: [f64; MARKS],
    /// Share of slots of a fifth of a round trip in which nothing came.
    pub(super) silent: f64,
    /// The same outside of stalls, in time: what a bursty sender without a queue before the client shows.
    pub(super) silent_between: f64,
    /// Logarithm of the spread of goodput over spans of five round trips, as a share of the mean.
    pub(super) spread: f64,
    /// Number of stalls.
    pub(super) stalls: usize,
    /// Share of time in stalls.
    pub(super) stall_time: f64,
    /// Share of stalls that end in one segment.
    pub(super) crawl: f64,
    /// Whether silences are whole round trips of the idle path: from -1 to 1.
    pub(super) whole: f64,
    /// Goodput of the second half over that of the first.
    pub(super) growth: f64,
    /// Duration in round trips.
    pub(super) trips: f64,
}

impl Marks {
    /// The numbers that the evidence is read from, in the order of [`NAMES`].
    pub(super) const fn values(&self) -> &[f64; MARKS] {
        &self.values
    }

    pub(super) fn of(steps: &Steps) -> Self {
        let (rtt, goodput) = (steps.rtt, steps.goodput());
        let window = goodput * rtt;
        let trips = steps.duration() / rtt;
        let gaps = steps.gaps();
        let stalled: Vec<Gap> = gaps.iter().copied().filter(|gap| gap.trips > STALL).collect();
        let share = |chosen: &dyn Fn(f64) -> bool| -> f64 {
            gaps.iter().filter(|gap| chosen(gap.trips)).map(|gap| gap.trips).sum::<f64>() / trips
        };
        let of_stalls = |chosen: &dyn Fn(&Gap) -> bool| -> f64 {
            stalled.iter().filter(|gap| chosen(gap)).count() as f64 / stalled.len().max(1) as f64
        };
        let count = stalled.len() as f64;
        let jumps: Vec<f64> = stalled.iter().map(|gap| gap.bytes).collect();
        let crawl = of_stalls(&|gap| gap.bytes < 1.5 * SEGMENT);
        let rounds = Rounds::of(&gaps);
        let fifth = steps.slots(rtt / 5.0);
        let silent = fifth.iter().filter(|&&bytes| bytes == 0.0).count() as f64 / fifth.len().max(1) as f64;
        let peak = quantile(&fifth, 0.9) / (window / 5.0);
        let (spread_2, _) = spread(&steps.slots(2.0 * rtt), 2.0 * window).unwrap_or((-1.0, 1.1));
        let (spread_5, high_5) = spread(&steps.slots(5.0 * rtt), 5.0 * window).unwrap_or((-1.5, 1.1));
        let stall_time = share(&|trips| trips > STALL);
        let windows = Windows::of(steps, &gaps, window);
        let values = [
            (window / SEGMENT).ln(),
            ((count + 0.5) / trips).ln(),
            stall_time,
            share(&|trips| trips > 1.7 && trips <= LONG),
            share(&|trips| trips > LONG),
            silent,
            rounds.silent_between,
            peak,
            crawl,
            of_stalls(&|gap| gap.trips > 1.7),
            rounds.whole,
            partial(steps, &stalled),
            one_after(&gaps, &stalled),
            windows.late,
            of_stalls(&|gap| gap.trips > 1.7 && gap.trips < 2.3),
            (count + 1.0).ln(),
            rounds.cadence,
            spread_2,
            spread_5,
            windows.jump,
            if jumps.is_empty() { 0.0 } else { (quantile(&jumps, 0.5) / window + 0.05).ln() },
            jumps.iter().sum::<f64>() / steps.volume(),
            bend(steps, window),
            regularity(steps, &stalled),
            windows.spread,
            rounds.gap,
            high_5,
        ];
        Self {
            values,
            silent,
            silent_between: rounds.silent_between,
            spread: spread_5,
            stalls: stalled.len(),
            stall_time,
            crawl,
            whole: rounds.whole,
            growth: growth(steps),
            trips,
        }
    }
}

/// What the silences between bursts say: without a queue they are whole round trips of the idle path.
struct Rounds {
    whole: f64,
    cadence: f64,
    gap: f64,
    silent_between: f64,
}

impl Rounds {
    fn of(gaps: &[Gap]) -> Self {
        let rounds: Vec<f64> =
            gaps.iter().map(|gap| gap.trips).filter(|trips| (0.6..3.3).contains(trips)).collect();
        let (whole, cadence) = if rounds.len() < 3 {
            (0.0, 1.0)
        } else {
            let sum: f64 = rounds.iter().map(|trips| (TAU * trips).cos()).sum();
            (sum / rounds.len() as f64, quantile(&rounds, 0.5))
        };
        let between: Vec<f64> = gaps.iter().map(|gap| gap.trips).filter(|&trips| trips <= STALL).collect();
        let long: Vec<f64> = between.iter().copied().filter(|&trips| trips > 0.5).collect();
        let quiet: f64 = between.iter().filter(|&&trips| trips > 0.35).sum();
        let all: f64 = between.iter().sum();
        Self {
            whole,
            cadence,
            gap: if long.len() > 2 { quantile(&long, 0.5) } else { 0.7 },
            silent_between: if all > 0.0 { quiet / all } else { 0.3 },
        }
    }
}

/// What came in the round trip before a silence.
struct Windows {
    /// How often a window before a stall is larger than one before another silence (0.5: no relation).
    late: f64,
    /// Spread of the logarithm of windows before stalls.
    spread: f64,
    /// Logarithm of the jump that ends a stall over the window before it, median.
    jump: f64,
}

impl Windows {
    fn of(steps: &Steps, gaps: &[Gap], window: f64) -> Self {
        let before = |gap: &Gap| steps.window_before(gap.index - 1);
        let (stalls, others): (Vec<&Gap>, Vec<&Gap>) =
            gaps.iter().filter(|gap| gap.trips > 0.5).partition(|gap| gap.trips > STALL);
        let at_stalls: Vec<f64> = stalls.iter().map(|gap| before(gap)).collect();
        let mut elsewhere: Vec<f64> = others.iter().map(|gap| before(gap)).collect();
        let enough = at_stalls.len() >= 3 && elsewhere.len() >= 3;
        let logs: Vec<f64> = at_stalls.iter().map(|bytes| (bytes.max(SEGMENT) / window).ln()).collect();
        let jumps: Vec<f64> =
            stalls.iter().zip(&at_stalls).map(|(gap, bytes)| gap.bytes / bytes.max(SEGMENT)).collect();
        elsewhere.sort_unstable_by(f64::total_cmp);
        Self {
            late: if enough { above(&at_stalls, &elsewhere) } else { 0.6 },
            spread: if logs.len() >= 3 { deviation(&logs) } else { 0.4 },
            jump: if jumps.len() >= 2 { (quantile(&jumps, 0.5) + 0.05).ln() } else { 0.0 },
        }
    }
}

/// Probability that one of `these` exceeds one of `sorted`, ties counting half (Mann-Whitney).
fn above(these: &[f64], sorted: &[f64]) -> f64 {
    let wins: f64 = these
        .iter()
        .map(|value| {
            let below = sorted.partition_point(|other| other < value);
            let not_above = sorted.partition_point(|other| other <= value);
            (below + not_above) as f64 / 2.0
        })
        .sum();
    wins / (these.len() * sorted.len()) as f64
}

/// Share of stalls that follow another within half a round trip: a repair hole by hole.
fn partial(steps: &Steps, stalled: &[Gap]) -> f64 {
    let pairs = stalled.windows(2);
    let number = pairs.len();
    let close = pairs.filter(|pair| steps.at[pair[1].index - 1] - steps.at[pair[0].index] < 0.6 * steps.rtt);
    close.count() as f64 / number.max(1) as f64
}

/// Share of stalls after which the second step, too, is one segment.
fn one_after(gaps: &[Gap], stalled: &[Gap]) -> f64 {
    if stalled.len() < 3 {
        return 0.0;
    }
    let single = stalled.iter().filter(|gap| {
        let next = gap.index.min(gaps.len() - 1);
        gaps[next].bytes < 1.5 * SEGMENT
    });
    single.count() as f64 / stalled.len() as f64
}

/// Mean distance of the curve from its chord, in windows, as a logarithm.
fn bend(steps: &Steps, window: f64) -> f64 {
    let goodput = steps.goodput();
    let distances = steps
        .at
        .iter()
        .zip(&steps.bytes)
        .map(|(at, bytes)| (bytes - steps.bytes[0] - goodput * (at - steps.at[0])).abs());
    (distances.sum::<f64>() / steps.at.len() as f64 / window + 0.1).ln()
}

/// Spread of the bytes between stalls as a share of their mean: 1 for stalls at random, 0 for clockwork.
fn regularity(steps: &Steps, stalled: &[Gap]) -> f64 {
    if stalled.len() < 4 {
        return 0.9;
    }
    let between: Vec<f64> =
        stalled.windows(2).map(|pair| steps.bytes[pair[1].index] - steps.bytes[pair[0].index]).collect();
    deviation(&between) / mean(&between)
}

fn growth(steps: &Steps) -> f64 {
    let middle = steps.at[0] + steps.duration() / 2.0;
    let index = steps.at.partition_point(|&at| at <= middle) - 1;
    let first = steps.bytes[index] - steps.bytes[0];
    (steps.volume() - first) / first.max(SEGMENT)
}

/// Logarithm of the relative spread of `slots`, and their ninth tenth, both as shares of `expected`.
fn spread(slots: &[f64], expected: f64) -> Option<(f64, f64)> {
    if slots.len() < 3 {
        return None;
    }
    let shares: Vec<f64> = slots.iter().map(|bytes| bytes / expected).collect();
    Some(((deviation(&shares) + 0.02).ln(), quantile(&shares, 0.9)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Standard deviation of a whole population.
fn deviation(values: &[f64]) -> f64 {
    let centre = mean(values);
    (values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Linear interpolation between order statistics (type 7 of Hyndman and Fan 1996); zero of nothing.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
}
