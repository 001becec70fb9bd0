//! Are some numbers more alike than chance makes them?

use statrs::function::gamma::ln_gamma;

/// Fewer numbers than this say nothing.
const LEAST: usize = 2;

/// A gamma distribution of this shape is as narrow as is believed: an eighth of its mean would be rounding.
const SHAPE_MAX: f64 = 12.0;

/// Logarithm of how much better a gamma distribution of the best shape explains these numbers than an exponential one,
/// which is what events by chance leave between each other; 0 where they scatter more than that.
///
/// The shape is the usual closed approximation of the most likely one (Minka, "Estimating a Gamma distribution", 2002).
pub(super) fn regularity(numbers: &[f64]) -> f64 {
    if numbers.len() < LEAST {
        return 0.0;
    }
    let count = numbers.len() as f64;
    let numbers = || numbers.iter().map(|number| number.max(0.5));
    let mean = numbers().sum::<f64>() / count;
    let logs: f64 = numbers().map(f64::ln).sum();
    let unequal = (mean.ln() - logs / count).max(1e-6);
    let shape = (3.0 - unequal + ((unequal - 3.0).powi(2) + 24.0 * unequal).sqrt()) / (12.0 * unequal);
    let shape = shape.min(SHAPE_MAX);
    if shape <= 1.0 {
        return 0.0;
    }
    let likelihood = |shape: f64| {
        count * (shape * (shape / mean).ln() - ln_gamma(shape)) + (shape - 1.0) * logs - shape * count
    };
    (likelihood(shape) - likelihood(1.0)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clockwork_is_evidence_and_chance_is_none() {
        let clockwork: Vec<f64> = (0..20).map(|n| 20.0 + f64::from(n % 2)).collect();
        assert!(regularity(&clockwork) > 15.0);
        // Quantiles of an exponential distribution.
        let chance: Vec<f64> = (0..20).map(|n| -20.0 * (1.0 - (f64::from(n) + 0.5) / 20.0).ln()).collect();
        assert!(regularity(&chance) < 0.5);
        assert!(regularity(&[1.0]) < 1e-12 && regularity(&[]) < 1e-12);
    }
}
