//! What rounds cost, how often the budget lets each target be measured, and the random gaps between.

use std::time::Duration;

use rand::{RngExt as _, rngs::ChaCha8Rng};

/// Body bytes up to which an exchange is cheap: handshakes and one small object (design: 16 KiB).
const CHEAP_BYTES_MAX: u64 = 16 * 1024;

/// What a TLS handshake receives: certificates of 3 to 6 KB and little else. Curves begin at the request, so whoever settles
/// a round adds this for every exchange that got as far.
pub const HANDSHAKE_BYTES: u64 = 6 * 1024;

/// What an exchange costs besides its body: the handshake, headers, a last segment on its way when it ends.
const OVERHEAD_BYTES: u64 = HANDSHAKE_BYTES + 4 * 1024;

/// Cheap exchanges that open a compared round: two of the control, one of the subject, and two of the search for an
/// `sni` leg, when there is one.
const OPENINGS: u64 = 5;

/// Most pairs of a closer look.
const CONFIRM_PAIRS_MAX: u64 = 12;

/// Fewest pairs for which a closer look is worth starting.
const CONFIRM_PAIRS_MIN: u64 = 3;

/// What one exchange may receive at most, body and all.
const fn exchange(bytes: u64) -> u64 {
    // A sixteenth more for records and headers that grow with the body.
    bytes.saturating_add(bytes / 16).saturating_add(OVERHEAD_BYTES)
}

/// The worst case of a round of some pairs.
const fn round(bytes: u64, pairs: u64, compared: bool) -> u64 {
    let cheap = if bytes < CHEAP_BYTES_MAX { bytes } else { CHEAP_BYTES_MAX };
    if compared {
        exchange(cheap) * OPENINGS + exchange(bytes).saturating_mul(2 * pairs)
    } else {
        exchange(cheap) + exchange(bytes).saturating_mul(pairs)
    }
}

/// What the rounds of one target may cost at most, in bytes received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundCost {
    /// A routine round with bulk exchanges.
    pub bulk: u64,
    /// A routine round of handshakes and small objects.
    pub cheap: u64,
    /// A closer look that is worth starting.
    pub confirm_min: u64,
    /// A closer look of as many pairs as it may take.
    pub confirm_max: u64,
}

impl RoundCost {
    /// The costs of exchanges of `bytes` of body; `compared` with a control, or alone.
    pub const fn of(bytes: u64, compared: bool) -> Self {
        let cheap = if bytes < CHEAP_BYTES_MAX { bytes } else { CHEAP_BYTES_MAX };
        Self {
            bulk: round(bytes, 1, compared),
            cheap: round(cheap, 1, compared),
            confirm_min: round(bytes, CONFIRM_PAIRS_MIN, compared),
            confirm_max: round(bytes, CONFIRM_PAIRS_MAX, compared),
        }
    }
}

/// Whether exchanges of `bytes` can show a rate limit.
pub(super) const fn is_bulk(bytes: u64) -> bool {
    bytes > CHEAP_BYTES_MAX
}

/// The shortest common interval in seconds that keeps the sum of `cost / max(wish, interval)` within `rate` bytes a
/// second. `loads` are pairs of the wished interval in seconds and the mean cost of a round in bytes.
///
/// Water-filling: who wishes to be measured more rarely than that is left alone, all others share what remains alike.
pub(super) fn sustained_interval(loads: &[(f64, f64)], rate: f64) -> f64 {
    let spending = |interval: f64| loads.iter().map(|(wish, cost)| cost / wish.max(interval)).sum::<f64>();
    if spending(0.0) <= rate {
        return 0.0;
    }
    // At this interval all of them together stay within the rate, whatever they wish.
    let (mut low, mut high) = (0.0, loads.iter().map(|(_, cost)| cost).sum::<f64>() / rate);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if spending(middle) <= rate {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Halvings of the search: to one part in 2^40, far below the jitter.
const BISECTIONS: u32 = 40;

/// Shortest and longest gap before scaling, in means of the exponential. Without bounds one gap in a hundred would be
/// nearly five means long; these are what M-Lab's memoryless sampling uses (ndt7, OONI).
const GAP_MIN: f64 = 0.1;
const GAP_MAX: f64 = 2.5;

/// The longest gap of a mean.
pub(super) fn longest_gap(mean: Duration) -> Duration {
    mean.mul_f64(GAP_MAX / unscaled_mean())
}

/// The mean of the truncated distribution before scaling: a + 1 - w e^-w / (1 - e^-w), with w the width of the bounds.
fn unscaled_mean() -> f64 {
    let width = GAP_MAX - GAP_MIN;
    GAP_MIN + 1.0 - width * (-width).exp() / (1.0 - (-width).exp())
}

/// A gap from the exponential distribution truncated to the bounds, scaled so that its mean is `mean`. It lies between
/// 0.11 and 2.91 times `mean`.
pub(super) fn gap(mean: Duration, rng: &mut ChaCha8Rng) -> Duration {
    // Inverse of the distribution function of an exponential between the bounds.
    let (upper, lower) = ((-GAP_MIN).exp(), (-GAP_MAX).exp());
    let draw = -(upper - rng.random::<f64>() * (upper - lower)).ln();
    mean.mul_f64(draw / unscaled_mean())
}

/// A time drawn evenly from zero to `span`.
pub(super) fn splay(span: Duration, rng: &mut ChaCha8Rng) -> Duration {
    span.mul_f64(rng.random::<f64>())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn gaps_have_the_mean_that_was_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mean = Duration::from_mins(5);
        let gaps: Vec<f64> = (0..20_000).map(|_| gap(mean, &mut rng).as_secs_f64() / 300.0).collect();
        let average = gaps.iter().sum::<f64>() / gaps.len() as f64;
        // The standard error of 20 000 gaps is under 0.005.
        assert!((average - 1.0).abs() < 0.02, "{average}");
        assert!(gaps.iter().all(|gap| (0.11..2.91).contains(gap)));
    }

    #[test]
    fn who_wishes_rarely_is_left_alone() {
        // Worked by hand: the hourly one spends 1 byte a second; 9 remain for two of 900 bytes: every 200 s.
        let loads = [(3_600.0, 3_600.0), (10.0, 900.0), (10.0, 900.0)];
        let interval = sustained_interval(&loads, 10.0);
        assert!((interval - 200.0).abs() < 0.001, "{interval}");
        assert!(sustained_interval(&loads, 1_000.0) < f64::EPSILON, "all wishes can be kept");
    }

    #[test]
    fn a_closer_look_costs_more_than_a_routine_one() {
        let cost = RoundCost::of(128 * 1024, true);
        assert!(
            cost.cheap < cost.bulk && cost.bulk < cost.confirm_min && cost.confirm_min < cost.confirm_max
        );
        let small = RoundCost::of(1_024, true);
        assert_eq!(small.cheap, small.bulk);
    }
}
