//! How much the marks of a curve speak for a policer: a sum of plain terms.
//!
//! Every mark adds logarithms of odds, by a line through a few points. Where the physics of a mark is plain its line may only rise
//! (`clock`, `regular_segments`, `bucket`) or only fall (`even`). The heights were fitted together to curves of real TCP stacks, of the
//! laboratory and of published recordings; how, and how right they are on curves that they were not fitted to:
//! `docs/method/curve.md`, `docs/accuracy-curves.md`.

use super::marks::Marks;

/// What a mark adds: between two points straight, beyond the ends level.
struct Term {
    mark: fn(&Marks) -> f64,
    points: &'static [(f64, f64)],
}

impl Term {
    fn of(&self, marks: &Marks) -> f64 {
        let mark = (self.mark)(marks);
        let piece = self.points.windows(2).find(|pair| mark < pair[1].0);
        let Some([(left, low), (right, high)]) = piece else {
            return self.points.last().map_or(0.0, |(_, height)| *height);
        };
        low + (high - low) * ((mark - left) / (right - left)).max(0.0)
    }
}

/// Probability of policing where it is a third as frequent as queues and chance together.
pub(super) fn of_policing(marks: &Marks) -> f64 {
    let odds = PRIOR + TERMS.iter().map(|term| term.of(marks)).sum::<f64>();
    1.0 / (1.0 + (-odds).exp())
}

/// Log odds before any mark is seen.
const PRIOR: f64 = -12.70;

const TERMS: [Term; 13] = [
    Term {
        mark: |marks| marks.silent_between,
        points: &[(0.00, 0.00), (0.15, 1.22), (0.68, 3.41), (0.93, 2.11), (1.00, 0.95)],
    },
    Term {
        mark: |marks| marks.together,
        points: &[(-0.33, 0.00), (0.65, 3.61), (1.07, 5.36), (1.50, 6.35), (2.10, 5.71), (3.60, 4.59)],
    },
    Term {
        mark: |marks| marks.even,
        points: &[(0.00, 0.00), (0.03, -1.44), (0.18, -1.44), (0.42, -1.44), (0.75, -3.80), (1.00, -7.73)],
    },
    Term {
        mark: |marks| marks.clock,
        points: &[(-0.49, 0.00), (-0.03, 0.00), (0.04, 0.00), (0.30, 2.02), (0.79, 6.22), (0.97, 7.50)],
    },
    Term {
        mark: |marks| marks.window,
        points: &[(-1.30, 0.00), (0.85, -4.15), (1.59, -2.55), (2.19, -0.43), (2.87, 1.73), (4.33, 2.35)],
    },
    Term {
        mark: |marks| marks.stall_time,
        points: &[(0.00, 0.00), (0.12, 1.95), (0.20, 3.33), (0.30, 4.78), (0.46, 4.74), (0.99, 4.71)],
    },
    Term { mark: |marks| marks.crawl, points: &[(0.00, 0.00), (0.07, 2.12), (0.32, 2.22), (0.99, 2.01)] },
    Term {
        mark: |marks| marks.release,
        points: &[(0.49, 0.00), (0.78, -0.48), (0.95, -1.69), (1.10, -1.82), (1.40, -3.05)],
    },
    Term {
        mark: |marks| marks.regular_segments,
        points: &[(0.00, 0.00), (1.06, 0.00), (2.06, 0.60), (4.22, 1.83)],
    },
    Term {
        mark: |marks| marks.spread,
        points: &[
            (-2.62, 0.00),
            (-1.59, -1.16),
            (-1.50, -1.67),
            (-1.14, -3.39),
            (-0.59, -4.90),
            (0.45, -1.96),
        ],
    },
    Term {
        mark: |marks| marks.bucket,
        points: &[(0.00, 0.00), (0.71, 0.10), (1.47, 1.02), (2.15, 1.79), (5.07, 5.22)],
    },
    Term {
        mark: |marks| marks.dips,
        points: &[(0.01, 0.00), (0.08, 1.33), (0.12, 1.37), (0.17, 2.33), (0.26, 2.50), (0.50, 1.61)],
    },
    Term {
        mark: |marks| marks.losses,
        points: &[
            (-6.82, 0.00),
            (-5.49, -1.77),
            (-4.43, -3.23),
            (-3.59, -2.30),
            (-2.54, 1.56),
            (-0.71, 5.76),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_straight_between_points_and_level_beyond() {
        let points = &[(0.0, 1.0), (1.0, 2.0), (2.0, 0.0)];
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
        for term in &TERMS {
            assert!(term.points.is_sorted_by(|left, right| left.0 < right.0));
        }
    }
}
