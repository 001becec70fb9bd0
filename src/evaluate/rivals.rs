//! What others would say of the very same transfers: Wehe's rule, and fixed thresholds.

use serde::{Deserialize, Serialize};

use crate::model::{Exchange, Role};

/// What a rival says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Says {
    /// The subject is slowed down.
    Slower,
    /// It is not.
    Alike,
    /// Nothing.
    Nothing,
}

/// All rivals on one test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rivals {
    /// Wehe's command line: area 50 % (30 % over 10 Mbit/s) and Kolmogorov-Smirnov p 1 %; where the two disagree the next
    /// pair is taken, as Wehe runs again.
    pub wehe: Says,
    /// The subject gets less than half of the control's goodput, by the first pair.
    pub half: Says,
    /// The subject gets less than a tenth of it.
    pub tenth: Says,
    /// Wehe's area in the first pair.
    pub area: Option<f64>,
    /// Control over subject goodput in the first pair.
    pub ratio: Option<f64>,
}

/// Wehe samples a replay's throughput in so many spans.
const SAMPLES: u32 = 100;
/// Wehe's thresholds on the command line.
const AREA: f64 = 0.5;
const AREA_FAST: f64 = 0.3;
const FAST_BYTES_PER_SECOND: f64 = 10e6 / 8.0;
const P: f64 = 0.01;

impl Rivals {
    /// On the exchanges of one round.
    pub(super) fn of(exchanges: &[Exchange]) -> Self {
        let pairs: Vec<(Vec<f64>, Vec<f64>)> = pairs(exchanges)
            .into_iter()
            .filter_map(|(subject, control)| Some((samples(subject)?, samples(control)?)))
            .collect();
        let mut wehe = Says::Nothing;
        for (subject, control) in &pairs {
            wehe = wehe_says(subject, control);
            if wehe != Says::Nothing {
                break;
            }
        }
        let first = pairs.first().map(|(subject, control)| (mean(subject), mean(control)));
        let ratio = first.map(|(subject, control)| control / subject.max(1.0));
        let over = |least: f64| match ratio {
            Some(ratio) if ratio > least => Says::Slower,
            Some(_) => Says::Alike,
            None => Says::Nothing,
        };
        let area = first.map(|(subject, control)| (control - subject) / control.max(subject).max(1.0));
        Self { wehe, half: over(2.0), tenth: over(10.0), area, ratio }
    }
}

/// Subject and control exchanges side by side, openings and late ones left out.
fn pairs(exchanges: &[Exchange]) -> Vec<(&Exchange, &Exchange)> {
    let first = exchanges.iter().filter(|one| one.role == Role::Subject).map(|one| one.pair).min();
    let of = |role: Role| {
        exchanges.iter().filter(move |one| {
            one.role == role
                && !one.warmup
                && !one.fallback
                && !one.is_late()
                && first.is_some_and(|pair| one.pair >= pair)
        })
    };
    of(Role::Subject).zip(of(Role::Control)).collect()
}

/// Bytes per second in equal spans from the request to the end; a transfer of which nothing came is all zero.
fn samples(exchange: &Exchange) -> Option<Vec<f64>> {
    let points = exchange.curve.points();
    let last = points.last().map_or(0.0, |point| point.at.as_secs_f64());
    let watched = if exchange.is_complete() { last } else { last.max(exchange.duration.as_secs_f64()) };
    if watched <= 0.0 {
        return None;
    }
    let span = watched / f64::from(SAMPLES);
    let come = |until: f64| {
        let index = points.partition_point(|point| point.at.as_secs_f64() <= until + 1e-9);
        index.checked_sub(1).map_or(0, |index| points[index].bytes)
    };
    let levels: Vec<u64> = (0..=SAMPLES).map(|n| come(f64::from(n) * span)).collect();
    Some(levels.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / span).collect())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn wehe_says(subject: &[f64], control: &[f64]) -> Says {
    let (slow, fast) = (mean(subject), mean(control));
    let area = (fast - slow) / fast.max(slow).max(1.0);
    let least = if fast.max(slow) > FAST_BYTES_PER_SECOND { AREA_FAST } else { AREA };
    match (area.abs() >= least, kolmogorov_smirnov(subject, control) < P) {
        (true, true) if area > 0.0 => Says::Slower,
        (true, true) | (false, false) => Says::Alike,
        _ => Says::Nothing,
    }
}

/// The asymptotic p of the two-sample Kolmogorov-Smirnov test (Smirnov, Ann. Math. Stat. 19, 1948), as scipy and Commons
/// Math, which Wehe uses, have it for samples of a hundred.
fn kolmogorov_smirnov(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<f64> = one.iter().chain(other).copied().collect();
    all.sort_by(f64::total_cmp);
    let share = |values: &[f64], at: f64| {
        values.iter().filter(|&&value| value <= at).count() as f64 / values.len() as f64
    };
    let distance = all.iter().map(|&at| (share(one, at) - share(other, at)).abs()).fold(0.0, f64::max);
    let (n, m) = (one.len() as f64, other.len() as f64);
    let lambda = distance * (n * m / (n + m)).sqrt();
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |k: i32| (-2.0 * f64::from(k * k) * lambda * lambda).exp();
    let sum: f64 = (1..=100).map(|k| if k % 2 == 1 { term(k) } else { -term(k) }).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.ks_2samp` of 0 to 99 and 25 to 124, asymptotic: D = 0.25, p = 0.00386 (without the
    /// continuity terms that differ between versions).
    #[test]
    fn a_shift_by_a_quarter() {
        let one: Vec<f64> = (0..100).map(f64::from).collect();
        let other: Vec<f64> = (25..125).map(f64::from).collect();
        assert!((kolmogorov_smirnov(&one, &other) - 0.003_86).abs() < 1e-4);
        assert!((kolmogorov_smirnov(&one, &one) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn wehe_needs_both_its_tests() {
        let steady = vec![1e5; 100];
        assert_eq!(wehe_says(&vec![3e4; 100], &steady), Says::Slower);
        assert_eq!(wehe_says(&steady, &vec![3e4; 100]), Says::Alike);
        assert_eq!(wehe_says(&vec![9e4; 100], &steady), Says::Nothing);
        assert_eq!(wehe_says(&steady, &steady), Says::Alike);
    }
}
