//! One batch into the database, within one transaction.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Batch, RoundRecord, codec, latest};
use crate::model::{Comparison, DetectorState, Exchange, IncidentRecord, Phase, TargetId};

/// Numbers of target ids, as the database has them.
#[derive(Debug, Default)]
pub(super) struct Numbers(HashMap<TargetId, i64>);

impl Numbers {
    fn of(&mut self, connection: &Connection, id: &TargetId) -> rusqlite::Result<i64> {
        if let Some(number) = self.0.get(id) {
            return Ok(*number);
        }
        connection.execute("INSERT OR IGNORE INTO targets(id) VALUES (?1)", [id.as_str()])?;
        let number =
            connection.query_row("SELECT n FROM targets WHERE id = ?1", [id.as_str()], |row| row.get(0))?;
        self.0.insert(id.clone(), number);
        Ok(number)
    }

    /// Forgets all, after a transaction that was rolled back may have taken numbers with it.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Microseconds since 1970.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The moment of so many microseconds; the nearest there is for numbers that no program of ours writes.
pub(super) fn moment(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Writes a batch; the caller commits.
pub(super) fn write(
    connection: &Connection,
    numbers: &mut Numbers,
    batch: &Batch,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if let Some(round) = &batch.round {
        write_round(connection, numbers, round)?;
    }
    if let Some((target, record)) = &batch.memory {
        let target = numbers.of(connection, target)?;
        connection.execute("INSERT OR REPLACE INTO memories VALUES (?1, ?2)", params![target, record])?;
    }
    for (target, comparison, state) in &batch.detectors {
        let target = numbers.of(connection, target)?;
        write_detector(connection, target, *comparison, state)?;
    }
    for incident in &batch.incidents {
        write_incident(connection, numbers, incident)?;
    }
    for (id, message) in &batch.outbox {
        connection.execute(
            "INSERT OR IGNORE INTO outbox(id, at, message) VALUES (?1, ?2, ?3)",
            params![id, micros(now), message],
        )?;
    }
    for id in &batch.sent {
        connection.execute("UPDATE outbox SET settled = ?2 WHERE id = ?1", params![id, micros(now)])?;
    }
    Ok(())
}

fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

fn write_round(connection: &Connection, numbers: &mut Numbers, round: &RoundRecord) -> rusqlite::Result<()> {
    let target = numbers.of(connection, &round.target)?;
    let control = round.control.as_ref().map(|id| numbers.of(connection, id)).transpose()?;
    let at = micros(round.at);
    let bytes = codec::encode(&mut record(round)).map_err(unwritable)?;
    connection.execute(
        "INSERT OR REPLACE INTO rounds(n, target, at, record) VALUES (?1, ?2, ?3, ?4)",
        params![round.number, target, at, bytes],
    )?;
    if let Some(control) = control {
        connection.execute("INSERT OR IGNORE INTO pairs VALUES (?1, ?2)", params![control, target])?;
    }
    let mut insert = connection.prepare(
        "INSERT OR REPLACE INTO exchanges(target, at, round, place, id, control, role, flags, verdict, goodput,
         resolve, connect, tls, processing, transfer) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
    )?;
    for (place, exchange) in (0_i64..).zip(&round.exchanges) {
        let phase = |phase| exchange.seconds_of(phase).map(|seconds| (seconds * 1e6).round() as i64);
        insert.execute(params![
            target,
            at,
            round.number,
            place,
            short_id(&exchange.id),
            control,
            exchange.role as i64,
            flags(exchange),
            round.verdict.map(|verdict| verdict as i64),
            exchange.goodput().map(|goodput| goodput.round() as i64),
            phase(Phase::Resolve),
            phase(Phase::Connect),
            phase(Phase::Tls),
            phase(Phase::Processing),
            phase(Phase::Transfer),
        ])?;
        latest::keep(connection, [Some(target), control], round, place, exchange)?;
    }
    Ok(())
}

fn record(round: &RoundRecord) -> codec::Record {
    codec::Record {
        vantage: round.vantage.clone(),
        subject: round.target.clone(),
        control: round.control.clone(),
        comparison: round.comparison,
        closer: round.closer,
        finding: round.finding.clone(),
        repeat: round.repeat.clone(),
        exchanges: round.exchanges.clone(),
    }
}

/// The first half of an exchange's id, which tells exchanges apart well enough to find the round; a hash of an id that is
/// not hexadecimal, as tests and recordings have them.
pub(super) fn short_id(id: &str) -> i64 {
    let half = id.get(..16).and_then(|half| u64::from_str_radix(half, 16).ok());
    // FNV-1a.
    let hash = || {
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    half.unwrap_or_else(hash).cast_signed()
}

/// What columns say of an exchange in bits.
fn flags(exchange: &Exchange) -> i64 {
    i64::from(exchange.failure.is_some())
        | i64::from(exchange.censored) << 1
        | i64::from(exchange.fallback) << 2
        | i64::from(exchange.warmup) << 3
}

/// Writes a detector. Of its last tests only those are written that came since the row that is there.
fn write_detector(
    connection: &Connection,
    target: i64,
    comparison: Comparison,
    state: &DetectorState,
) -> rusqlite::Result<()> {
    let name = comparison.name();
    let tests = state.tests.cast_signed();
    let kept = state.recent.len().cast_signed() as i64;
    let before: Option<i64> = connection
        .query_row(
            "SELECT tests FROM detectors WHERE target = ?1 AND comparison = ?2",
            params![target, name],
            |row| row.get(0),
        )
        .optional()?;
    // Where the clock was ahead and has been set back, the detector has dated its tests anew.
    let ahead: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM tests WHERE target = ?1 AND comparison = ?2 AND ended > ?3)",
        params![target, name, state.last_at.map(micros)],
        |row| row.get(0),
    )?;
    // A detector that knows less than the row is another one: what is there is not its past.
    let known = before.filter(|before| *before <= tests && !ahead).unwrap_or(0);
    let new = (tests - known).min(kept);
    if before.is_some_and(|before| before > tests) {
        connection
            .execute("DELETE FROM tests WHERE target = ?1 AND comparison = ?2", params![target, name])?;
    }
    let mut insert =
        connection.prepare("INSERT OR REPLACE INTO tests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for (back, test) in (0_i64..new).zip(state.recent.iter().rev()) {
        let (from, until) = (micros(test.from), micros(test.until));
        insert.execute(params![target, name, tests - back, from, until, test.affected, test.e_value])?;
    }
    connection.execute(
        "DELETE FROM tests WHERE target = ?1 AND comparison = ?2 AND n <= ?3",
        params![target, name, tests - kept],
    )?;
    let rest = DetectorState { recent: std::collections::VecDeque::new(), ..state.clone() };
    let rest = serde_json::to_string(&rest).map_err(unwritable)?;
    connection.execute(
        "INSERT OR REPLACE INTO detectors VALUES (?1, ?2, ?3, ?4)",
        params![target, name, tests, rest],
    )?;
    Ok(())
}

fn write_incident(
    connection: &Connection,
    numbers: &mut Numbers,
    record: &IncidentRecord,
) -> rusqlite::Result<()> {
    let target = numbers.of(connection, &record.target)?;
    let text = serde_json::to_string(record).map_err(unwritable)?;
    let (onset, end) = (micros(record.incident.onset), record.incident.end.map(micros));
    connection.execute(
        "INSERT OR REPLACE INTO incidents(id, target, onset, ended, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![record.id, target, onset, end, text],
    )?;
    latest::correct(connection, target, &record.incident)
}
