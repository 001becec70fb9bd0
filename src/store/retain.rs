//! What goes: rounds beyond their time, and the oldest ones when the database grows too large.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::{
    Settings,
    write::{micros, moment},
};
use crate::clock::Instant;

/// Rounds that go in one transaction: the writer must not be kept from its queue for long.
const AT_ONCE: i64 = 500;

/// The database is brought down to this part of its bound, so that it is not at it again with the next round.
const ROOM: f64 = 0.95;

/// Incidents outlast rounds by this factor.
const INCIDENTS_LONGER: i32 = 10;

/// Settled messages are kept so long that none is sent twice.
const OUTBOX_KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Nothing is deleted by age before the wall clock has gone with the monotonic one for so long: a clock that is set a
/// year ahead and back would otherwise empty the store.
const CLOCK_TRUSTED_AFTER: Duration = Duration::from_hours(6);

/// Both clocks agree within this.
const CLOCK_AGREES: SignedDuration = SignedDuration::from_mins(5);

/// What is deleted by age is at most so many times the time that really passed: a clock that is wrong for a day may cost
/// a few weeks of the oldest rounds, never all of them.
const CATCHES_UP: i32 = 24;

/// The wall clock, as far as it can be believed when it says that something is old.
#[derive(Debug)]
pub(super) struct TrustedClock {
    since: (Instant, Timestamp),
    /// What was believed last, and when.
    reached: Option<(Instant, Timestamp)>,
}

impl TrustedClock {
    pub(super) const fn new(now: Instant, wall: Timestamp) -> Self {
        Self { since: (now, wall), reached: None }
    }

    /// The time by which age is told; `None` where nothing is to be deleted by age now. `oldest` is that of what is
    /// there: at first nothing of it goes.
    pub(super) fn believed(
        &mut self,
        now: Instant,
        wall: Timestamp,
        oldest: Option<Timestamp>,
        retention: Duration,
    ) -> Option<Timestamp> {
        if !self.agrees(now, wall) {
            return None;
        }
        let later = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(Timestamp::MAX);
        let signed = |by: Duration| SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        let limit = match (self.reached, oldest) {
            (Some((since, reached)), _) => {
                let passed = signed(now.saturating_duration_since(since));
                later(reached, passed.checked_mul(CATCHES_UP).unwrap_or(SignedDuration::MAX))
            }
            (None, Some(oldest)) => later(oldest, signed(retention)),
            (None, None) => wall,
        };
        let believed = wall.min(limit);
        self.reached = Some((now, believed));
        Some(believed)
    }

    /// Looks at both clocks; `true` where they have gone together for long enough. A jump starts the wait anew.
    fn agrees(&mut self, now: Instant, wall: Timestamp) -> bool {
        let elapsed = now.saturating_duration_since(self.since.0);
        let by_wall = wall.duration_since(self.since.1);
        let apart = by_wall - SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
        if apart.abs() > CLOCK_AGREES {
            self.since = (now, wall);
            return false;
        }
        elapsed >= CLOCK_TRUSTED_AFTER
    }
}

/// The moment of the oldest exchange.
pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let micros: Option<i64> = connection.query_row(
        "SELECT min((SELECT min(at) FROM exchanges WHERE target = n)) FROM targets",
        [],
        |row| row.get(0),
    )?;
    Ok(micros.map(moment))
}

/// Deletes some of what is beyond its time; `true` when there may be more.
pub(super) fn by_age(
    connection: &mut Connection,
    settings: &Settings,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let retention = SignedDuration::try_from(settings.retention).unwrap_or(SignedDuration::MAX);
    let before = |age: SignedDuration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    let targets: Vec<i64> = {
        let mut statement = connection.prepare("SELECT n FROM targets")?;
        let found = statement.query_map([], |row| row.get(0))?;
        found.collect::<rusqlite::Result<_>>()?
    };
    let mut more = false;
    for target in targets {
        let deletion = connection.transaction()?;
        let rounds: Vec<(i64, i64)> = {
            let mut statement = deletion.prepare(
                "SELECT DISTINCT at, round FROM exchanges WHERE target = ?1 AND at < ?2 ORDER BY at LIMIT ?3",
            )?;
            let found = statement.query_map(params![target, micros(before(retention)), AT_ONCE], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            found.collect::<rusqlite::Result<_>>()?
        };
        more |= rounds.len().cast_signed() as i64 == AT_ONCE;
        delete(&deletion, rounds.into_iter().map(|(at, round)| (target, at, round)))?;
        deletion.commit()?;
    }
    let incidents = retention.checked_mul(INCIDENTS_LONGER).unwrap_or(SignedDuration::MAX);
    connection.execute("DELETE FROM incidents WHERE ended < ?1", [micros(before(incidents))])?;
    connection.execute("DELETE FROM outbox WHERE settled < ?1", [micros(before(OUTBOX_KEPT))])?;
    connection.execute("DELETE FROM runs WHERE seen < ?1", [micros(before(incidents))])?;
    Ok(more)
}

/// Deletes some of the oldest rounds where the database is too large; `true` when there may be more to delete.
pub(super) fn by_size(connection: &mut Connection, max_bytes: u64) -> rusqlite::Result<bool> {
    if used_bytes(connection)? <= max_bytes {
        return Ok(false);
    }
    let wanted = (max_bytes as f64 * ROOM) as u64;
    let deletion = connection.transaction()?;
    let oldest: Vec<(i64, i64, i64)> = {
        let mut statement = deletion.prepare(
            "SELECT target, at, n FROM rounds WHERE n NOT IN (SELECT round FROM latest) ORDER BY n LIMIT ?1",
        )?;
        let found = statement.query_map([AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        found.collect::<rusqlite::Result<_>>()?
    };
    let any = !oldest.is_empty();
    delete(&deletion, oldest.into_iter())?;
    deletion.commit()?;
    Ok(any && used_bytes(connection)? > wanted)
}

/// Gives free pages back to the file system, some at a time.
pub(super) fn shrink(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA incremental_vacuum(2000)")
}

/// Bytes of pages that hold something.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
    };
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

fn delete(connection: &Connection, rounds: impl Iterator<Item = (i64, i64, i64)>) -> rusqlite::Result<()> {
    let mut exchanges =
        connection.prepare("DELETE FROM exchanges WHERE target = ?1 AND at = ?2 AND round = ?3")?;
    let mut round_itself =
        connection.prepare("DELETE FROM rounds WHERE n = ?1 AND n NOT IN (SELECT round FROM latest)")?;
    for (target, at, round) in rounds {
        exchanges.execute(params![target, at, round])?;
        round_itself.execute([round])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_jumps_a_year_is_not_believed() {
        let wall: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start = crate::clock::now();
        let hours = |n: u64| Duration::from_hours(n);
        let later = |n: u64| wall + SignedDuration::from_hours(n.cast_signed());
        let mut clock = TrustedClock::new(start, wall);
        assert!(!clock.agrees(start + hours(1), later(1)), "too soon");
        assert!(clock.agrees(start + hours(7), later(7)));
        assert!(!clock.agrees(start + hours(8), later(8 + 24 * 365)), "a jump");
        assert!(!clock.agrees(start + hours(9), later(9 + 24 * 365)), "the wait begins anew");
        assert!(!clock.agrees(start + hours(10), later(10)), "and back");
        assert!(clock.agrees(start + hours(17), later(17)));
    }

    #[tokio::test]
    async fn a_clock_that_stays_wrong_costs_the_oldest_alone() {
        let wall: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let start = crate::clock::now();
        let days = |n: i64| SignedDuration::from_hours(24 * n);
        let retention = Duration::from_hours(24 * 90);
        let oldest = Some(wall - days(90));
        let hours = |n: u64| (start + Duration::from_hours(n), SignedDuration::from_hours(n.cast_signed()));
        let mut clock = TrustedClock::new(start, wall);
        let mut believed = |n: u64, shift: SignedDuration| {
            let (now, passed) = hours(n);
            clock.believed(now, wall + passed + shift, oldest, retention).map(|at| at - wall)
        };
        assert_eq!(believed(1, days(0)), None);
        assert_eq!(believed(7, days(0)), Some(SignedDuration::ZERO), "at first nothing goes");
        assert_eq!(believed(8, days(0)), Some(SignedDuration::from_hours(8)), "then it keeps pace");
        assert_eq!(believed(9, days(365)), None, "a jump");
        assert_eq!(believed(16, days(365)), Some(SignedDuration::from_hours(8 + 8 * 24)), "not a year");
        assert_eq!(believed(17, days(0)), None, "and back");
        assert_eq!(believed(24, days(0)), Some(SignedDuration::from_hours(24)));
    }
}
