//! How much the marks of a curve speak for a policer, by two questions: is it a queue, and is it chance?
//!
//! Each question is a sum: every mark adds logarithms of odds, by a line through a few points. Where the physics of a mark is
//! plain its line may only rise (`silent_between`, `clump`, `together`, `whole`, `clock`, `bucket` against a queue;
//! `batches`, `partial`, the regular ones, `bucket`, `stall_rate` against chance) or only fall (`even`, `release`). The heights were
//! fitted together to curves of real TCP stacks, of the laboratory and of published recordings; how, and how right they are on
//! curves that they were not fitted to: `docs/method/curve.md`, `docs/accuracy-curves.md`.

use super::marks::Marks;

/// What a mark adds: between two points straight, beyond the ends level.
struct Term {
    mark: fn(&Marks) -> f64,
    points: [(f64, f64); 4],
}

impl Term {
    fn of(&self, marks: &Marks) -> f64 {
        let mark = (self.mark)(marks);
        let [first, .., last] = self.points;
        if mark <= first.0 {
            return first.1;
        }
        let piece = self.points.windows(2).find(|pair| mark < pair[1].0);
        piece.map_or(last.1, |pair| {
            let ((left, low), (right, high)) = (pair[0], pair[1]);
            low + (high - low) * (mark - left) / (right - left)
        })
    }
}

/// Probability of policing where policers, queues and chance are about as frequent.
pub(super) fn of_policing(marks: &Marks) -> f64 {
    let odds = |prior: f64, terms: &[Term]| prior + terms.iter().map(|term| term.of(marks)).sum::<f64>();
    let (queue, chance) = (odds(QUEUE_PRIOR, &QUEUE), odds(CHANCE_PRIOR, &CHANCE));
    1.0 / (1.0 + (-queue).exp() + (-chance).exp())
}

/// Log odds against a queue before any mark is seen.
const QUEUE_PRIOR: f64 = -14.01;

/// Against a queue: a shaper, a full line, others on it.
const QUEUE: [Term; 19] = [
    Term { mark: |marks| marks.silent, points: [(0.3, 0.00), (0.7, 0.00), (0.9, 0.07), (0.9, 0.07)] },
    Term { mark: |marks| marks.silent_between, points: [(0.2, 0.00), (0.6, 1.76), (0.9, 1.93), (0.9, 1.93)] },
    Term { mark: |marks| marks.clump, points: [(-1.5, 0.00), (-0.7, 0.36), (0.0, 0.97), (0.0, 0.97)] },
    Term { mark: |marks| marks.together, points: [(0.3, 0.00), (0.8, 1.89), (1.5, 1.89), (3.0, 1.89)] },
    Term { mark: |marks| marks.even, points: [(0.1, 0.00), (0.3, 0.00), (0.6, -1.45), (0.9, -3.83)] },
    Term { mark: |marks| marks.whole, points: [(-0.2, 0.00), (0.2, 0.06), (0.6, 0.56), (0.9, 0.56)] },
    Term { mark: |marks| marks.clock, points: [(0.0, 0.00), (0.2, 0.00), (0.4, 1.25), (0.7, 6.45)] },
    Term { mark: |marks| marks.window, points: [(1.0, 0.00), (2.0, 3.26), (3.0, 4.26), (4.0, 5.96)] },
    Term { mark: |marks| marks.stall_rate, points: [(-6.0, 0.00), (-5.0, 2.46), (-4.0, 2.57), (-3.0, 5.56)] },
    Term { mark: |marks| marks.stall_time, points: [(0.1, 0.00), (0.25, 0.80), (0.5, 0.81), (0.5, 0.81)] },
    Term { mark: |marks| marks.batches, points: [(-1.0, 0.00), (0.0, 1.36), (1.0, 1.22), (3.0, 0.81)] },
    Term { mark: |marks| marks.partial, points: [(0.1, 0.00), (0.2, 2.64), (0.4, 1.91), (0.4, 1.91)] },
    Term { mark: |marks| marks.release, points: [(0.8, 0.00), (1.0, -0.35), (1.15, -0.92), (1.15, -0.92)] },
    Term {
        mark: |marks| marks.regular_segments,
        points: [(0.5, 0.00), (1.5, 0.56), (3.0, 0.64), (3.0, 0.64)],
    },
    Term {
        mark: |marks| marks.regular_times,
        points: [(0.5, 0.00), (1.5, -0.34), (3.0, -0.37), (3.0, -0.37)],
    },
    Term {
        mark: |marks| marks.regular_windows,
        points: [(1.0, 0.00), (2.0, 0.67), (3.0, 0.23), (3.0, 0.23)],
    },
    Term { mark: |marks| marks.bucket, points: [(0.6, 0.00), (0.75, 0.23), (0.9, 1.17), (0.9, 1.17)] },
    Term { mark: |marks| marks.spread, points: [(-2.0, 0.00), (-1.2, -0.25), (-0.6, 0.67), (-0.6, 0.67)] },
    Term { mark: |marks| marks.bend, points: [(-1.0, 0.00), (0.0, 0.12), (1.0, 0.49), (1.0, 0.49)] },
];

/// Log odds against chance before any mark is seen.
const CHANCE_PRIOR: f64 = -6.11;

/// Against chance: losses that do not care for the rate.
const CHANCE: [Term; 18] = [
    Term { mark: |marks| marks.silent, points: [(0.3, 0.00), (0.7, -0.18), (0.9, -2.01), (0.9, -2.01)] },
    Term { mark: |marks| marks.silent_between, points: [(0.2, 0.00), (0.6, 3.00), (0.9, 3.06), (0.9, 3.06)] },
    Term { mark: |marks| marks.clump, points: [(-1.5, 0.00), (-0.7, -0.05), (0.0, 0.26), (0.0, 0.26)] },
    Term { mark: |marks| marks.together, points: [(0.3, 0.00), (0.8, 3.13), (1.5, 3.10), (3.0, 3.18)] },
    Term { mark: |marks| marks.even, points: [(0.1, 0.00), (0.3, -0.73), (0.6, -1.36), (0.9, -3.11)] },
    Term { mark: |marks| marks.whole, points: [(-0.2, 0.00), (0.2, 0.68), (0.6, -0.29), (0.9, -0.48)] },
    Term { mark: |marks| marks.clock, points: [(0.0, 0.00), (0.2, -0.20), (0.4, 1.35), (0.7, 3.15)] },
    Term { mark: |marks| marks.window, points: [(1.0, 0.00), (2.0, -3.02), (3.0, -1.17), (4.0, -0.43)] },
    Term { mark: |marks| marks.stall_rate, points: [(-6.0, 0.00), (-5.0, 1.10), (-4.0, 1.80), (-3.0, 3.98)] },
    Term { mark: |marks| marks.stall_time, points: [(0.1, 0.00), (0.25, 1.20), (0.5, 0.46), (0.5, 0.46)] },
    Term { mark: |marks| marks.batches, points: [(-1.0, 0.00), (0.0, 1.30), (1.0, 1.39), (3.0, 1.39)] },
    Term { mark: |marks| marks.partial, points: [(0.1, 0.00), (0.2, 1.93), (0.4, 2.77), (0.4, 2.77)] },
    Term { mark: |marks| marks.release, points: [(0.8, 0.00), (1.0, -1.49), (1.15, -1.49), (1.15, -1.49)] },
    Term {
        mark: |marks| marks.regular_segments,
        points: [(0.5, 0.00), (1.5, 0.00), (3.0, 1.14), (3.0, 1.14)],
    },
    Term { mark: |marks| marks.regular_times, points: [(0.5, 0.00), (1.5, 0.06), (3.0, 0.40), (3.0, 0.40)] },
    Term { mark: |marks| marks.bucket, points: [(0.6, 0.00), (0.75, 0.93), (0.9, 1.87), (0.9, 1.87)] },
    Term { mark: |marks| marks.spread, points: [(-2.0, 0.00), (-1.2, -1.81), (-0.6, -1.39), (-0.6, -1.39)] },
    Term { mark: |marks| marks.bend, points: [(-1.0, 0.00), (0.0, 0.03), (1.0, -0.46), (1.0, -0.46)] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_straight_between_points_and_level_beyond() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 0.0), (2.0, 0.0)];
        let at = |value: f64| {
            let marks = Marks { silent: value, ..Marks::NOTHING };
            Term { mark: |marks| marks.silent, points }.of(&marks)
        };
        for (mark, expected) in [(-1.0, 1.0), (0.0, 1.0), (0.5, 1.5), (1.5, 1.0), (2.0, 0.0), (9.0, 0.0)] {
            assert!((at(mark) - expected).abs() < 1e-12, "{mark}: {}", at(mark));
        }
    }

    #[test]
    fn points_are_in_order() {
        for term in QUEUE.iter().chain(&CHANCE) {
            assert!(term.points.is_sorted_by(|left, right| left.0 <= right.0));
        }
    }
}
