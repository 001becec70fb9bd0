//! Which exchange is the last good and which the last bad one of a target: the two curves that are shown side by side.
//!
//! A round says so as it comes in, an incident corrects it. Transfers between onset and alarm are not yet accused when
//! they come in, and those between the end and its discovery still are.

use rusqlite::{Connection, OptionalExtension as _, ToSql, params};

use super::{RoundRecord, write::micros};
use crate::model::{Exchange, Incident, Role, Verdict};

/// An exchange of at most so many bytes has no curve worth showing (design: 16 KiB is cheap).
const BULK_BYTES_MIN: u64 = 16 * 1024;

/// Where an accusing verdict rests on a round, its subject's exchanges that reach less than this part of the control's
/// goodput are the slow ones: the verdict's own bound (design: 1.5).
const SLOW_SHARE: f64 = 1.0 / 1.5;

/// What the column `kind` says.
const GOOD: bool = false;
const BAD: bool = true;

/// Where an exchange is.
#[derive(Debug, Clone, Copy)]
struct Place {
    round: i64,
    place: i64,
}

/// Puts an exchange in the place of the last good or the last bad one of its target, where it is one. An exchange with a
/// curve worth showing does not give way to one without.
pub(super) fn keep(
    connection: &Connection,
    [target, control]: [Option<i64>; 2],
    round: &RoundRecord,
    place: i64,
    exchange: &Exchange,
) -> rusqlite::Result<()> {
    let whose = if exchange.role == Role::Control { control } else { target };
    let (Some(whose), Some(kind)) = (whose, kind_of(round, exchange)) else { return Ok(()) };
    let bulk = exchange.curve.bytes() > BULK_BYTES_MIN;
    let known: Option<bool> = connection
        .query_row("SELECT bulk FROM latest WHERE target = ?1 AND kind = ?2", params![whose, kind], |row| {
            row.get(0)
        })
        .optional()?;
    if !bulk && known == Some(true) {
        return Ok(());
    }
    replace(connection, whose, kind, Some((Place { round: round.number, place }, bulk)))
}

/// Takes the good one from before the onset while an incident lasts, and the bad one from before the end when it is over.
pub(super) fn correct(connection: &Connection, target: i64, incident: &Incident) -> rusqlite::Result<()> {
    let onset = micros(incident.onset);
    let Some(end) = incident.end.map(micros) else {
        if is_since(connection, target, GOOD, onset)? {
            let before = last_good(connection, target, onset)?;
            replace(connection, target, GOOD, before.map(|place| (place, true)))?;
        }
        return Ok(());
    };
    if is_since(connection, target, BAD, end)?
        && let Some(before) = last_slow(connection, target, [onset, end])?
    {
        replace(connection, target, BAD, Some((before, true)))?;
    }
    Ok(())
}

/// Whether the last good or bad exchange came at this moment or after it, and was complete: a failure is bad whatever is
/// known later.
fn is_since(connection: &Connection, target: i64, kind: bool, moment: i64) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM latest l JOIN rounds r ON r.n = l.round JOIN exchanges e ON e.target = r.target
         AND e.at = r.at AND e.round = l.round AND e.place = l.place
         WHERE l.target = ?1 AND l.kind = ?2 AND r.at >= ?3 AND e.flags & 3 = 0)",
        params![target, kind, moment],
        |row| row.get(0),
    )
}

/// The last bulk transfer before the onset that was complete and not accused.
fn last_good(connection: &Connection, target: i64, onset: i64) -> rusqlite::Result<Option<Place>> {
    let sql = format!(
        "SELECT round, place FROM exchanges WHERE target = ?1 AND at < ?2 AND role <> ?3 AND flags = 0
         AND goodput IS NOT NULL AND (verdict IS NULL OR verdict NOT IN ({}))
         ORDER BY at DESC, round DESC, place DESC LIMIT 1",
        numbers(|verdict| !is_innocent(verdict))
    );
    place(connection, &sql, params![target, onset, Role::Control as i64])
}

/// The last accused transfer between onset and end that was slow beside its control, or did not end.
fn last_slow(
    connection: &Connection,
    target: i64,
    [onset, end]: [i64; 2],
) -> rusqlite::Result<Option<Place>> {
    let sql = format!(
        "SELECT round, place FROM exchanges e WHERE target = ?1 AND at >= ?2 AND at < ?3 AND role <> ?4
         AND goodput IS NOT NULL AND verdict IN ({}) AND (flags & 3 <> 0 OR goodput < ?5 *
         (SELECT avg(goodput) FROM exchanges c WHERE c.target = e.target AND c.at = e.at AND c.round = e.round
         AND c.role = ?4 AND c.flags = 0))
         ORDER BY at DESC, round DESC, place DESC LIMIT 1",
        numbers(Verdict::accuses)
    );
    place(connection, &sql, params![target, onset, end, Role::Control as i64, SLOW_SHARE])
}

fn place(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Option<Place>> {
    connection.query_row(sql, values, |row| Ok(Place { round: row.get(0)?, place: row.get(1)? })).optional()
}

/// Verdicts as the column has them, for a list in SQL.
fn numbers(which: impl Fn(Verdict) -> bool) -> String {
    let chosen = Verdict::ALL.into_iter().filter(|verdict| which(*verdict));
    chosen.map(|verdict| (verdict as i64).to_string()).collect::<Vec<_>>().join(",")
}

/// Writes which exchange it is; `None` where there is none. A round that was only kept for the one before goes.
fn replace(
    connection: &Connection,
    target: i64,
    kind: bool,
    new: Option<(Place, bool)>,
) -> rusqlite::Result<()> {
    let before: Option<i64> = connection
        .query_row("SELECT round FROM latest WHERE target = ?1 AND kind = ?2", params![target, kind], |row| {
            row.get(0)
        })
        .optional()?;
    match new {
        Some((Place { round, place }, bulk)) => connection.execute(
            "INSERT OR REPLACE INTO latest VALUES (?1, ?2, ?3, ?4, ?5)",
            params![target, kind, bulk, round, place],
        )?,
        None => {
            connection.execute("DELETE FROM latest WHERE target = ?1 AND kind = ?2", params![target, kind])?
        }
    };
    let same = new.map(|(place, _)| place.round) == before;
    if let Some(before) = before.filter(|_| !same) {
        // Retention has taken its rows already, and left it for this.
        connection.execute(
            "DELETE FROM rounds WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM latest WHERE round = ?1) AND NOT EXISTS
             (SELECT 1 FROM exchanges e WHERE e.target = rounds.target AND e.at = rounds.at AND e.round = ?1)",
            [before],
        )?;
    }
    Ok(())
}

/// Whether a verdict leaves a complete exchange a good one.
const fn is_innocent(verdict: Verdict) -> bool {
    !verdict.accuses() && !matches!(verdict, Verdict::Degraded)
}

/// Whether an exchange is a bad one, a good one, or neither.
fn kind_of(round: &RoundRecord, exchange: &Exchange) -> Option<bool> {
    if !exchange.is_complete() {
        return (!exchange.fallback).then_some(BAD);
    }
    if exchange.fallback || exchange.warmup {
        return None;
    }
    if exchange.role == Role::Control || round.verdict.is_none_or(is_innocent) {
        return Some(GOOD);
    }
    let control = round.finding.as_ref()?.evidence.control_goodput_bytes_per_second?;
    let accused = round.verdict.is_some_and(Verdict::accuses);
    (accused && exchange.goodput()? < control * SLOW_SHARE).then_some(BAD)
}
