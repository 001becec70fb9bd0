//! Distributions: exact classic buckets, a sparse native histogram beside them, and HdrHistogram for quantiles.
//!
//! An observation increments its exact classic bucket and its native bucket; neither is derived from the other.

use hdrhistogram::Histogram as Hdr;

use crate::model::Quantiles;

/// Classic edges of durations, in seconds: 1 ms (one hop) to 120 s (the longest exchange), 1-2.5-5 steps where people
/// look, wide steps above 10 s where only budgets end.
pub(super) const DURATION_EDGES: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// Classic edges of goodput, in bytes per second: 8 kbit/s to 1 Gbit/s. The 2021 throttle (130 kbit/s, 16.25 kB/s) falls
/// in the middle of the bucket from 12.5 to 20 kB/s and not on an edge.
pub(super) const GOODPUT_EDGES: [f64; 15] =
    [1e3, 4e3, 8e3, 12.5e3, 20e3, 32e3, 62.5e3, 125e3, 250e3, 625e3, 1.25e6, 3.125e6, 6.25e6, 12.5e6, 125e6];

/// Resolution of a new native histogram: each bucket is 2^(2^-3), 9 %, wider than the one before.
const SCHEMA: i32 = 3;

/// Coarsest native schema: buckets of a factor 65536.
const SCHEMA_MIN: i32 = -4;

/// Most native buckets of a histogram; beyond, neighbours are merged and the schema goes down by one.
pub(super) const NATIVE_BUCKETS_MAX: usize = 160;

/// One exposed distribution.
#[derive(Debug)]
pub(super) struct Distribution {
    edges: &'static [f64],
    /// Observations of each classic bucket, not cumulative; those above the last edge are in `count` alone.
    classic: Box<[u64]>,
    count: u64,
    sum: f64,
    native: Native,
}

/// A native histogram of non-negative observations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Native {
    /// Resolution: a bucket is 2^(2^-schema) wide.
    pub(super) schema: i32,
    /// Observations that are zero (or below the smallest normal number).
    pub(super) zero: u64,
    /// Populated buckets by ascending index; bucket i holds (2^((i-1)/2^schema), 2^(i/2^schema)].
    pub(super) buckets: Vec<(i32, u64)>,
}

impl Distribution {
    pub(super) fn new(edges: &'static [f64]) -> Self {
        let native = Native { schema: SCHEMA, zero: 0, buckets: Vec::new() };
        Self { edges, classic: vec![0; edges.len()].into(), count: 0, sum: 0.0, native }
    }

    /// Adds one observation. What is negative or not finite is our own bug and is left out.
    pub(super) fn observe(&mut self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let bucket = self.edges.partition_point(|&edge| edge < value);
        if let Some(count) = self.classic.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum += value;
        self.native.observe(value);
    }

    /// The classic buckets: upper edge and how many are at or below it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.edges.iter().zip(&self.classic).scan(0, |below, (&edge, &count)| {
            *below += count;
            Some((edge, *below))
        })
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn sum(&self) -> f64 {
        self.sum
    }

    pub(super) const fn native(&self) -> &Native {
        &self.native
    }
}

impl Native {
    fn observe(&mut self, value: f64) {
        if value < f64::MIN_POSITIVE {
            self.zero += 1;
            return;
        }
        let index = (value.log2() * f64::from(self.schema).exp2()).ceil() as i32;
        match self.buckets.binary_search_by_key(&index, |&(index, _)| index) {
            Ok(at) => self.buckets[at].1 += 1,
            Err(at) => self.buckets.insert(at, (index, 1)),
        }
        while self.buckets.len() > NATIVE_BUCKETS_MAX && self.schema > SCHEMA_MIN {
            self.halve();
        }
    }

    /// Merges each two neighbours: bucket i of one schema lies in bucket ceil(i / 2) of the schema below.
    fn halve(&mut self) {
        self.schema -= 1;
        let mut merged: Vec<(i32, u64)> = Vec::with_capacity(self.buckets.len() / 2 + 1);
        for &(index, count) in &self.buckets {
            let index = (index + 1).div_euclid(2);
            match merged.last_mut() {
                Some(last) if last.0 == index => last.1 += count,
                _ => merged.push((index, count)),
            }
        }
        self.buckets = merged;
    }
}

/// Quantiles within 1 %: two significant digits are 256 cells per doubling of scale, 0.8 % apart at worst.
#[derive(Debug)]
pub(super) struct QuantileRecorder {
    /// Made when first needed; about 6 kB once it has seen 100 ms in microseconds.
    cells: Option<Box<Hdr<u32>>>,
    /// What was found since the last observation: the page asks for all targets whenever one of them changes.
    known: Option<Quantiles>,
    /// Cells per unit: 1e6 keeps microseconds of seconds, 1 keeps whole bytes per second.
    scale: f64,
}

impl QuantileRecorder {
    pub(super) const fn new(scale: f64) -> Self {
        Self { cells: None, known: None, scale }
    }

    pub(super) fn record(&mut self, value: f64) {
        // Two significant digits are always a valid setting; without the cells there are no quantiles, which is no
        // reason to stop.
        if self.cells.is_none() {
            self.cells = Hdr::new(2).ok().map(Box::new);
        }
        self.known = None;
        if let Some(cells) = &mut self.cells {
            // Above 2^40 (12 days, a terabyte a second) nothing is real; the bound bounds the memory as well.
            let cell = (value * self.scale).round().clamp(0.0, 2_f64.powi(40));
            cells.record(cell as u64).ok();
        }
    }

    /// `None` before the first observation.
    pub(super) fn quantiles(&mut self) -> Option<Quantiles> {
        if self.known.is_none() {
            let cells = self.cells.as_ref().filter(|cells| !cells.is_empty())?;
            // The middle of a cell halves the error of its upper end.
            let middle = |cell: u64| cells.median_equivalent(cell) as f64 / self.scale;
            let at = |quantile| middle(cells.value_at_quantile(quantile));
            let (p50, p90, p99) = (at(0.5), at(0.9), at(0.99));
            self.known = Some(Quantiles { count: cells.len(), p50, p90, p99, max: middle(cells.max()) });
        }
        self.known
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_edge_belongs_to_its_own_bucket() {
        let mut distribution = Distribution::new(&DURATION_EDGES);
        for value in [0.0, 0.001, 0.0011, 0.1, 120.0, 500.0, -1.0, f64::NAN] {
            distribution.observe(value);
        }
        let cumulative: Vec<(f64, u64)> = distribution.cumulative().collect();
        assert_eq!(cumulative[0], (0.001, 2));
        assert_eq!(cumulative[1], (0.0025, 3));
        assert_eq!(cumulative[6], (0.1, 4));
        assert_eq!(cumulative[14], (120.0, 5));
        assert_eq!(distribution.count(), 6);
        assert_eq!(distribution.native().zero, 1);
    }

    #[test]
    fn native_buckets_contain_what_they_count_and_stay_bounded() {
        let mut distribution = Distribution::new(&GOODPUT_EDGES);
        let mut value = 1e-3;
        let mut values = Vec::new();
        while value < 1e12 {
            distribution.observe(value);
            values.push(value);
            value *= 1.07;
        }
        let native = distribution.native();
        assert!(native.buckets.len() <= NATIVE_BUCKETS_MAX && native.schema < SCHEMA);
        let step = f64::from(-native.schema).exp2().exp2();
        for &(index, count) in &native.buckets {
            let upper = step.powi(index) * (1.0 + 1e-9);
            let inside = values.iter().filter(|&&v| v > upper / step && v <= upper).count();
            assert_eq!(inside as u64, count, "bucket {index}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(
            mut values in prop::collection::vec(1e-4_f64..100.0, 1..400)
        ) {
            let mut recorder = QuantileRecorder::new(1e6);
            for &value in &values {
                recorder.record(value);
            }
            values.sort_by(f64::total_cmp);
            let found = recorder.quantiles().unwrap();
            prop_assert_eq!(found.count, values.len() as u64);
            for (quantile, found) in [(0.5, found.p50), (0.9, found.p90), (0.99, found.p99), (1.0, found.max)] {
                let rank = (quantile * values.len() as f64).ceil() as usize;
                let truth = values[rank.max(1) - 1];
                // Half a microsecond of rounding on top of the cells' own width.
                prop_assert!((found / truth - 1.0).abs() < 0.01, "{} is {} not {}", quantile, found, truth);
            }
        }
    }

    #[test]
    fn nothing_seen_has_no_quantiles_and_no_memory() {
        let mut recorder = QuantileRecorder::new(1.0);
        assert!(recorder.quantiles().is_none() && recorder.cells.is_none());
    }
}
