//! The flows alive at one time, within a budget of memory.
//!
//! Beyond the budget these give way, the longest silent first, until a quarter of it is free: connections that are over,
//! connections that have carried nothing, then detail (long curves are thinned), and only then connections that may still
//! go on. What gives way is reported as far as it came.

use std::{collections::HashMap, time::Duration};

use crate::recorded::RecordedCurve;

use super::{
    flow::Flow,
    packet::{Pair, Segment},
    slots::POINTS_MAX,
};

/// Memory for all flows together, bytes: twenty thousand transfers of 128 KiB at the same time are kept whole.
pub(super) const BUDGET: usize = 192 * 1024 * 1024;

/// Curves are thinned to so many points at least: 128 KiB, in segments of 1,448 bytes, have fewer.
const POINTS_MIN: usize = 128;

/// A connection that ended and was silent for so long is over: what was sent again has come by then.
const OVER: Duration = Duration::from_secs(10);

pub(super) struct Flows {
    alive: HashMap<Pair, Box<Flow>>,
    /// The latest packet of all.
    latest: Duration,
    budget: usize,
    /// What the flows hold of it, bytes.
    held: usize,
}

impl Flows {
    pub(super) fn within(budget: usize) -> Self {
        Self { alive: HashMap::new(), latest: Duration::ZERO, budget, held: 0 }
    }

    pub(super) fn add(
        &mut self,
        at: Duration,
        pair: Pair,
        segment: &Segment,
        report: &mut impl FnMut(RecordedCurve),
    ) {
        self.latest = self.latest.max(at);
        let (pair, forward) = pair.normalised();
        if self.alive.get(&pair).is_some_and(|flow| flow.is_over_by(forward, segment)) {
            self.close_one(&pair, report);
        }
        let held = &mut self.held;
        let flow = self.alive.entry(pair).or_insert_with(|| {
            let flow = Box::new(Flow::new(pair, at));
            *held += flow.weight();
            flow
        });
        let before = flow.weight();
        flow.add(at, forward, segment, report);
        self.held = self.held + flow.weight() - before;
        if self.held > self.budget {
            self.make_room(report);
        }
    }

    /// Closes all, in the order of their beginnings.
    pub(super) fn close(self, report: &mut impl FnMut(RecordedCurve)) {
        let mut flows: Vec<Box<Flow>> = self.alive.into_values().collect();
        flows.sort_by_key(|flow| (flow.first, flow.pair));
        for flow in flows {
            flow.finish(self.latest, report);
        }
    }

    fn make_room(&mut self, report: &mut impl FnMut(RecordedCurve)) {
        let over = self.latest.saturating_sub(OVER);
        self.close_silent(|flow| flow.ended && flow.last < over, report);
        self.close_silent(Flow::is_empty, report);
        let mut points = POINTS_MAX;
        while self.is_crowded() && points > POINTS_MIN {
            points /= 2;
            self.thin(points);
        }
        self.close_silent(|_| true, report);
    }

    /// Whether less than a quarter of the budget is free.
    const fn is_crowded(&self) -> bool {
        self.held > self.budget / 4 * 3
    }

    /// Closes those of `which` that have been silent longest, as many as must be.
    fn close_silent(&mut self, which: impl Fn(&Flow) -> bool, report: &mut impl FnMut(RecordedCurve)) {
        if !self.is_crowded() {
            return;
        }
        let found = self.alive.iter().filter(|(_, flow)| which(flow));
        let mut silent: Vec<(Duration, Pair)> = found.map(|(pair, flow)| (flow.last, *pair)).collect();
        silent.sort_unstable();
        for (_, pair) in silent {
            if !self.is_crowded() {
                break;
            }
            self.close_one(&pair, report);
        }
    }

    fn close_one(&mut self, pair: &Pair, report: &mut impl FnMut(RecordedCurve)) {
        if let Some(flow) = self.alive.remove(pair) {
            self.held -= flow.weight();
            flow.finish(self.latest, report);
        }
    }

    fn thin(&mut self, points: usize) {
        self.held = 0;
        for flow in self.alive.values_mut() {
            flow.thin(points);
            self.held += flow.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    const LENGTH: u32 = 1_000;

    /// Packets and the curves that came of them.
    struct Capture {
        flows: Flows,
        curves: Vec<RecordedCurve>,
    }

    impl Capture {
        fn within(budget: usize) -> Self {
            Self { flows: Flows::within(budget), curves: Vec::new() }
        }

        /// From the client number `client`, or to it.
        fn packet(&mut self, milliseconds: u64, client: u32, from_client: bool, segment: &Segment) {
            let client = SocketAddr::from((Ipv4Addr::from(client), 40_000));
            let server = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 443));
            let (source, destination) = if from_client { (client, server) } else { (server, client) };
            let pair = Pair { source, destination };
            let curves = &mut self.curves;
            self.flows
                .add(Duration::from_millis(milliseconds), pair, segment, &mut |curve| curves.push(curve));
            assert!(self.flows.held <= self.flows.budget, "{} are held", self.flows.held);
            assert_eq!(self.flows.held, self.flows.alive.values().map(|flow| flow.weight()).sum::<usize>());
        }

        fn data(&mut self, milliseconds: u64, client: u32, number: u32) {
            let segment = Segment { sequence: number * LENGTH, length: LENGTH, ..SILENT };
            self.packet(milliseconds, client, false, &segment);
            let segment = Segment { acknowledged: Some((number + 1) * LENGTH), ..SILENT };
            self.packet(milliseconds + 20, client, true, &segment);
        }

        fn finish(mut self) -> Vec<RecordedCurve> {
            self.flows.close(&mut |curve| self.curves.push(curve));
            self.curves
        }
    }

    const SILENT: Segment = Segment {
        sequence: 0,
        acknowledged: None,
        syn: false,
        fin: false,
        rst: false,
        length: 0,
        name: None,
    };

    fn bytes(curve: &RecordedCurve) -> u64 {
        curve.points.last().map_or(0, |point| point.bytes)
    }

    #[test]
    fn a_transfer_outlives_a_flood_of_connections_that_carry_nothing() {
        let mut capture = Capture::within(256 * 1024);
        for n in 0..1_000 {
            capture.data(100 * u64::from(n), 1, n);
            for other in 0..20 {
                let open = Segment { syn: true, ..SILENT };
                capture.packet(100 * u64::from(n) + 50, 1_000 + 20 * n + other, true, &open);
            }
        }
        let curves = capture.finish();
        assert_eq!(curves.iter().map(bytes).collect::<Vec<_>>(), [1_000_000]);
        assert!(curves[0].points.len() > 500);
    }

    #[test]
    fn detail_gives_way_before_connections_do() {
        let mut capture = Capture::within(512 * 1024);
        for n in 0..2_000 {
            (1..=8).for_each(|client| capture.data(100 * u64::from(n), client, n));
        }
        let curves = capture.finish();
        assert_eq!(curves.iter().map(bytes).collect::<Vec<_>>(), [2_000_000; 8]);
        assert!(curves.iter().all(|curve| (POINTS_MIN..2_000).contains(&curve.points.len())));
    }

    #[test]
    fn of_transfers_the_longest_silent_gives_way() {
        let mut capture = Capture::within(512 * 1024);
        for n in 0..500 {
            capture.data(1_000 * u64::from(n), 1, n);
            (0..100).for_each(|step| capture.data(1_000 * u64::from(n) + u64::from(step), 2 + n, step));
        }
        let curves = capture.finish();
        assert_eq!(curves.len(), 501, "each is reported once");
        assert!(curves.iter().any(|curve| bytes(curve) == 500_000), "one goes on all the time");
        assert_eq!(curves.iter().filter(|curve| bytes(curve) == 100_000).count(), 500);
    }
}
