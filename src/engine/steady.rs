//! The wall clock without its jumps.
//!
//! A clock that is set a year ahead and back must neither date an incident nor make everything look silent. Small steps
//! (a machine that slept, a first synchronisation) are followed at once, large ones when they have lasted for a while.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Instant;

/// Steps of less than this are followed at once: a laptop that was closed over a holiday.
const SMALL: SignedDuration = SignedDuration::from_hours(24 * 7);

/// A larger step is followed when it has lasted for so long.
const LASTS: Duration = Duration::from_mins(10);

/// Readings within this of each other belong to one step.
const SAME: SignedDuration = SignedDuration::from_mins(1);

/// A wall clock that goes with the monotonic one.
#[derive(Debug, Clone)]
pub(super) struct SteadyClock {
    from: (Instant, Timestamp),
    /// A large step: since when, and how large.
    step: Option<(Instant, SignedDuration)>,
    /// It has been so late before: a clock that shows less is behind, as that of a machine that has none while it is off.
    seen: Option<Timestamp>,
}

impl SteadyClock {
    /// A clock that begins now. `seen` is the last moment that an earlier process knew.
    pub(super) const fn new(now: Instant, wall: Timestamp, seen: Option<Timestamp>) -> Self {
        Self { from: (now, wall), step: None, seen }
    }

    /// The time, when the clocks show this.
    pub(super) fn read(&mut self, now: Instant, wall: Timestamp) -> Timestamp {
        let elapsed = now.saturating_duration_since(self.from.0);
        let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        let expected = self.from.1.checked_add(elapsed).unwrap_or(wall);
        let apart = wall.duration_since(expected);
        let catches_up = self.seen.is_some_and(|seen| expected < seen && wall >= seen);
        if apart.abs() < SMALL || catches_up {
            *self = Self::new(now, wall, self.seen);
            return wall;
        }
        let (since, size) =
            self.step.filter(|(_, size)| (*size - apart).abs() < SAME).unwrap_or((now, apart));
        self.step = Some((since, size));
        if now.saturating_duration_since(since) >= LASTS {
            *self = Self::new(now, wall, None);
            return wall;
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_year_ahead_and_back_is_not_followed_but_a_year_that_stays_is() {
        let wall: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start = crate::clock::now();
        let year = SignedDuration::from_hours(24 * 365);
        let minutes = |n: u64| (start + Duration::from_mins(n), SignedDuration::from_mins(n.cast_signed()));
        let mut clock = SteadyClock::new(start, wall, None);
        let mut read = |n, shift| {
            let (now, since) = minutes(n);
            clock.read(now, wall + since + shift) - wall
        };
        let mut seconds = |n, shift| i64::try_from(read(n, shift).as_millis() / 1000).unwrap();
        assert_eq!(seconds(2, year), 120);
        assert_eq!(seconds(9, year), 540);
        assert_eq!(seconds(10, SignedDuration::ZERO), 600);
        assert_eq!(seconds(11, -year), 660);
        assert_eq!(seconds(22, -year), 1_320 - year.as_secs(), "it stays: that is the time");
        let slept = SignedDuration::from_hours(8);
        assert_eq!(seconds(23, slept - year), 1_380 + 28_800 - year.as_secs());
    }

    #[tokio::test]
    async fn a_clock_that_was_behind_at_the_start_is_followed_when_it_is_set() {
        let seen: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start = crate::clock::now();
        let mut clock = SteadyClock::new(start, Timestamp::UNIX_EPOCH, Some(seen));
        let minute = |n: u64| start + Duration::from_mins(n);
        let set = seen + SignedDuration::from_hours(1);
        assert_eq!(clock.read(minute(1), set), set);
        let ahead = set + SignedDuration::from_hours(24 * 365);
        assert_eq!(
            clock.read(minute(2), ahead),
            set + SignedDuration::from_mins(1),
            "that is another matter"
        );
    }
}
