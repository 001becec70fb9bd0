//! Others who send through the same narrow place: packets at random that do not yield, and greedy flows that yield as
//! TCP does (additive increase, multiplicative decrease, timeouts). They exist in numbers only; no packet is made for them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::model::profile::{Competition, Rate};

/// Every rival's packet is a full one.
pub(super) const RIVAL_BYTES: usize = 1500;
/// The number under which packets that do not yield go.
const UNYIELDING: usize = usize::MAX;
/// A greedy flow's window in packets, at most: a receive window of 3 MB.
const WINDOW_MAX: f64 = 2000.0;
/// With fewer packets underway a loss is not told by three duplicates (RFC 5681): the flow waits for its timer.
const REPAIRABLE: f64 = 4.0;
/// Linux' shortest timeout beyond the round trip, and how often it doubles at most.
const TIMEOUT: Duration = Duration::from_millis(200);
const DOUBLINGS_MAX: u32 = 6;

#[derive(Debug)]
pub(super) struct Rivals {
    competition: Competition,
    rng: Xoshiro256PlusPlus,
    rtt: Duration,
    /// What one packet takes at the narrow place.
    service: Duration,
    /// Mean time between two packets that do not yield.
    gap: Option<Duration>,
    next: Option<Duration>,
    flows: Vec<Greedy>,
    /// Answers underway to greedy flows: when, to which, and whether it tells of a loss.
    answers: BinaryHeap<Reverse<(Duration, usize, bool)>>,
}

#[derive(Debug)]
struct Greedy {
    window: f64,
    threshold: f64,
    underway: u32,
    /// Losses before this moment are of the same window and count once.
    recovered_at: Duration,
    /// The timer runs until then, and nothing is sent.
    silent_until: Option<Duration>,
    /// Timeouts one after the other.
    timeouts: u32,
}

impl Rivals {
    pub(super) fn new(competition: Competition, rate: Rate, rtt: Duration, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // With pauses half of the time, what comes between them is twice as dense.
        let density = competition.share * if competition.on_off.is_some() { 2.0 } else { 1.0 };
        let gap = (competition.share > 0.0).then(|| rate.time_for(RIVAL_BYTES).div_f64(density));
        let flows = (0..competition.flows)
            .map(|_| Greedy {
                window: rng.random_range(2.0..20.0),
                threshold: WINDOW_MAX,
                underway: 0,
                recovered_at: Duration::ZERO,
                silent_until: None,
                timeouts: 0,
            })
            .collect();
        Self {
            competition,
            rng,
            rtt: rtt.max(Duration::from_millis(1)),
            service: rate.time_for(RIVAL_BYTES),
            gap,
            next: gap.map(|_| Duration::ZERO),
            flows,
            answers: BinaryHeap::new(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let answer = self.answers.peek().map(|Reverse((at, ..))| *at);
        let timer =
            self.flows.iter().filter(|flow| flow.has_room()).filter_map(|flow| flow.silent_until).min();
        super::earlier(super::earlier(self.next, answer), timer)
    }

    pub(super) fn shift(&mut self, by: Duration) {
        self.next = self.next.map(|next| next + by);
        self.answers =
            self.answers.drain().map(|Reverse((at, flow, lost))| Reverse((at + by, flow, lost))).collect();
        for flow in &mut self.flows {
            flow.recovered_at += by;
            flow.silent_until = flow.silent_until.map(|until| until + by);
        }
    }

    /// The flow of the next packet that comes by now; nothing where none does.
    pub(super) fn next_packet(&mut self, now: Duration) -> Option<usize> {
        if let (Some(next), Some(gap)) = (self.next, self.gap)
            && next <= now
        {
            let drawn = gap.mul_f64(-(1.0 - self.rng.random::<f64>()).ln());
            self.next = Some(self.skip_pause(next + drawn));
            return Some(UNYIELDING);
        }
        while let Some(Reverse((at, flow, lost))) = self.answers.peek().copied()
            && at <= now
        {
            self.answers.pop();
            self.flows[flow].answered(now, self.rtt, lost);
        }
        let may_send = |flow: &Greedy| flow.has_room() && flow.silent_until.is_none_or(|until| until <= now);
        let flow = self.flows.iter().position(may_send)?;
        self.flows[flow].silent_until = None;
        self.flows[flow].underway += 1;
        Some(flow)
    }

    /// A rival's packet is through the narrow place.
    pub(super) fn through(&mut self, now: Duration, flow: usize) {
        self.answer(now, flow, false);
    }

    /// A rival's packet found no room.
    pub(super) fn dropped(&mut self, now: Duration, flow: usize) {
        self.answer(now, flow, true);
    }

    /// Within a packet's time at random, and a little more: answers in step with departures would always find the place that has
    /// just become free, and leave none to others (Floyd and Jacobson, "On traffic phase effects in packet-switched gateways",
    /// 1992).
    fn answer(&mut self, now: Duration, flow: usize, lost: bool) {
        if flow != UNYIELDING {
            let random = (self.service + self.rtt / 10).mul_f64(self.rng.random());
            self.answers.push(Reverse((now + self.rtt + random, flow, lost)));
        }
    }

    /// Bursts and pauses of equal length.
    fn skip_pause(&self, at: Duration) -> Duration {
        let Some(on_off) = self.competition.on_off.filter(|on_off| !on_off.0.is_zero()) else { return at };
        let period = on_off.0.as_secs_f64();
        let turn = (at.as_secs_f64() / period).floor();
        if turn % 2.0 == 0.0 { at } else { Duration::from_secs_f64((turn + 1.0) * period) }
    }
}

impl Greedy {
    fn has_room(&self) -> bool {
        f64::from(self.underway) < self.window.floor()
    }

    fn answered(&mut self, now: Duration, rtt: Duration, lost: bool) {
        self.underway = self.underway.saturating_sub(1);
        if lost {
            if self.window < REPAIRABLE {
                self.times_out(now, rtt);
            } else if now >= self.recovered_at {
                self.threshold = (self.window / 2.0).max(2.0);
                self.window = self.threshold;
                self.recovered_at = now + rtt;
            }
            return;
        }
        self.timeouts = 0;
        let more = if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
        self.window = (self.window + more).min(WINDOW_MAX);
    }

    /// What is still underway was sent before and is no news.
    fn times_out(&mut self, now: Duration, rtt: Duration) {
        if self.silent_until.is_some() {
            return;
        }
        self.silent_until = Some(now + (TIMEOUT + rtt) * 2_u32.pow(self.timeouts));
        self.timeouts = (self.timeouts + 1).min(DOUBLINGS_MAX);
        self.threshold = 2.0;
        self.window = 1.0;
    }
}
