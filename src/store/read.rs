//! Questions to the past. Each is answered on a connection of its own, which sees one moment and holds nobody up.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Run, StoreError, codec, migrate,
    write::{micros, moment, short_id},
};
use crate::model::{IncidentRecord, Measurement, Role, TargetId, Verdict};

/// Rounds that an export reads at a time: it never keeps the database from tidying up, nor much in memory.
const PAGE: i64 = 256;

/// A control may serve hundreds of targets: what it did for so many of them shows how it does.
const SERVED_SHOWN: usize = 2;

/// What columns say of an exchange.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// When its round ended.
    pub at: Timestamp,
    /// What it stands for.
    pub role: Role,
    /// It failed.
    pub failed: bool,
    /// An attempt with the other address family.
    pub fallback: bool,
    /// The verdict that stood after its round.
    pub verdict: Option<Verdict>,
    /// Bytes per second.
    pub goodput: Option<f64>,
    /// Seconds of each phase.
    pub phases: [Option<f64>; 5],
}

/// From when until when; open ends reach to the ends of the store. The end itself is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Option<Timestamp>,
    /// The first moment that is not in it.
    pub until: Option<Timestamp>,
}

impl Span {
    fn micros(self) -> [i64; 2] {
        [self.from.map_or(i64::MIN, micros), self.until.map_or(i64::MAX, micros)]
    }
}

/// Reads a database.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    /// A reader of this file, which need not be there yet.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let connection = migrate::open_to_read(&self.path)?;
        question(&connection).map_err(|error| self.sentence(&error))
    }

    fn sentence(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What columns say of the exchanges that served a target's comparisons, oldest first.
    pub fn rows(&self, target: &TargetId, span: Span, mut each: impl FnMut(Row)) -> Result<(), StoreError> {
        self.ask(|connection| {
            rows(connection, target, span, None, &mut |row| {
                each(row);
                Ok(())
            })
        })
    }

    /// Whether anything was ever kept of a target, be it as a control.
    pub fn knows(&self, target: &TargetId) -> Result<bool, StoreError> {
        self.ask(|connection| {
            connection.prepare("SELECT 1 FROM targets WHERE id = ?1")?.exists([target.as_str()])
        })
    }

    /// The last good and the last bad exchange of a target.
    pub fn latest(&self, target: &TargetId) -> Result<[Option<Measurement>; 2], StoreError> {
        self.ask(|connection| {
            let mut latest = [None, None];
            let mut statement = connection.prepare(
                "SELECT kind, round, place FROM latest JOIN targets ON targets.n = latest.target WHERE id = ?1",
            )?;
            let mut found = statement.query([target.as_str()])?;
            while let Some(row) = found.next()? {
                let (kind, place): (u32, u32) = (row.get(0)?, row.get(2)?);
                if let Some(slot) = latest.get_mut(kind as usize) {
                    *slot = record(connection, row.get(1)?)?
                        .and_then(|record| record.measurement(place as usize));
                }
            }
            Ok(latest)
        })
    }

    /// The incidents that had not ended before `since`, of one target or of all, the latest onset first.
    pub fn incidents(
        &self,
        target: Option<&TargetId>,
        since: Timestamp,
    ) -> Result<Vec<IncidentRecord>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare(
                "SELECT record FROM incidents JOIN targets ON targets.n = incidents.target
                 WHERE (ended IS NULL OR ended >= ?1) AND (?2 IS NULL OR targets.id = ?2) ORDER BY onset DESC",
            )?;
            let found = statement
                .query_map(params![micros(since), target.map(TargetId::as_str)], |row| row.get::<_, String>(0))?;
            let mut incidents = Vec::new();
            for text in found {
                incidents.extend(serde_json::from_str(&text?).ok());
            }
            Ok(incidents)
        })
    }

    /// The last exchanges for a target and its control, newest first.
    pub fn exchanges(&self, target: &TargetId, limit: usize) -> Result<Vec<Measurement>, StoreError> {
        self.ask(|connection| {
            let mut newest: Vec<(i64, i64, u32)> = Vec::new();
            for (subject, control) in subjects(connection, target)? {
                let mut statement = connection.prepare(
                    "SELECT at, round, place FROM exchanges WHERE target = ?1 AND (?2 IS NULL OR control = ?2
                     AND role = 1) ORDER BY target DESC, at DESC, round DESC, place DESC LIMIT ?3",
                )?;
                let found = statement.query_map(params![subject, control, limit.cast_signed()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
                for place in found {
                    newest.push(place?);
                }
            }
            newest.sort_unstable_by(|a, b| b.cmp(a));
            newest.truncate(limit);
            let mut known: Option<(i64, codec::Record)> = None;
            let mut measurements = Vec::new();
            for (_, round, place) in newest {
                if known.as_ref().is_none_or(|(number, _)| *number != round) {
                    known = record(connection, round)?.map(|record| (round, record));
                }
                measurements
                    .extend(known.as_ref().and_then(|(_, record)| record.measurement(place as usize)));
            }
            Ok(measurements)
        })
    }

    /// One exchange by its id.
    pub fn exchange(&self, id: &str) -> Result<Option<Measurement>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare("SELECT round, place FROM exchanges WHERE id = ?1")?;
            let mut found = statement.query([short_id(id)])?;
            while let Some(row) = found.next()? {
                let measurement = record(connection, row.get(0)?)?
                    .and_then(|record| record.measurement(row.get::<_, u32>(1).unwrap_or_default() as usize));
                if measurement.as_ref().is_some_and(|measurement| measurement.exchange.id == id) {
                    return Ok(measurement);
                }
            }
            // The last good and the last bad one outlast their rounds.
            let mut statement = connection.prepare("SELECT round, place FROM latest")?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                let place: u32 = row.get(1)?;
                let measurement =
                    record(connection, row.get(0)?)?.and_then(|record| record.measurement(place as usize));
                if measurement.as_ref().is_some_and(|measurement| measurement.exchange.id == id) {
                    return Ok(measurement);
                }
            }
            Ok(None)
        })
    }

    /// Gives every measurement of a span, of one target or of all, to `each`: target by target, oldest first, a page at a
    /// time. `each` also gets the number of the round. Ends when `each` does.
    pub fn measurements<E: From<StoreError>>(
        &self,
        target: Option<&TargetId>,
        span: Span,
        mut each: impl FnMut(i64, Measurement) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = migrate::open_to_read(&self.path)?;
        let [from, until] = span.micros();
        let targets = self.numbers(&connection, target)?;
        for target in targets {
            let mut after = (from, i64::MIN);
            loop {
                let page = page(&connection, target, after, until).map_err(|error| self.sentence(&error))?;
                let Some(&(at, round, _)) = page.last() else { break };
                after = (at, round);
                for (_, round, record) in page {
                    let Some(record) = record else { continue };
                    for place in 0..record.exchanges.len() {
                        if let Some(measurement) = record.measurement(place) {
                            each(round, measurement)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn numbers(&self, connection: &Connection, target: Option<&TargetId>) -> Result<Vec<i64>, StoreError> {
        let ask = || {
            let mut statement =
                connection.prepare("SELECT n FROM targets WHERE ?1 IS NULL OR id = ?1 ORDER BY id")?;
            let found = statement.query_map([target.map(TargetId::as_str)], |row| row.get(0))?;
            found.collect::<rusqlite::Result<_>>()
        };
        ask().map_err(|error| self.sentence(&error))
    }

    /// The starts of the daemon, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare("SELECT started, seen, ended FROM runs ORDER BY n")?;
            let found = statement.query_map([], |row| {
                Ok(Run { started_at: moment(row.get(0)?), seen_at: moment(row.get(1)?), ended: row.get(2)? })
            })?;
            found.collect()
        })
    }
}

/// A page of rounds after (at, round): when, which, what.
type Page = Vec<(i64, i64, Option<codec::Record>)>;

fn page(connection: &Connection, target: i64, after: (i64, i64), until: i64) -> rusqlite::Result<Page> {
    let mut statement = connection.prepare(
        "SELECT e.at, e.round, r.record FROM (SELECT DISTINCT at, round FROM exchanges WHERE target = ?1 AND
         (at, round) > (?2, ?3) AND at >= ?2 AND at < ?4 ORDER BY at, round LIMIT ?5) e
         JOIN rounds r ON r.n = e.round ORDER BY e.at, e.round",
    )?;
    let found = statement.query_map(params![target, after.0, after.1, until, PAGE], |row| {
        let bytes: Vec<u8> = row.get(2)?;
        Ok((row.get(0)?, row.get(1)?, codec::decode(&bytes)))
    })?;
    found.collect()
}

fn record(connection: &Connection, round: i64) -> rusqlite::Result<Option<codec::Record>> {
    let bytes: Option<Vec<u8>> = connection
        .query_row("SELECT record FROM rounds WHERE n = ?1", [round], |row| row.get(0))
        .optional()?;
    Ok(bytes.as_deref().and_then(codec::decode))
}

/// Under which targets' comparisons the exchanges with a target are filed: its own, and, where it is a control, those
/// that it served. With the latter comes its own number.
fn subjects(connection: &Connection, target: &TargetId) -> rusqlite::Result<Vec<(i64, Option<i64>)>> {
    let own: Option<i64> = connection
        .query_row("SELECT n FROM targets WHERE id = ?1", [target.as_str()], |row| row.get(0))
        .optional()?;
    let Some(own) = own else { return Ok(Vec::new()) };
    let mut statement = connection.prepare("SELECT subject FROM pairs WHERE control = ?1")?;
    let served = statement.query_map([own], |row| row.get::<_, i64>(0))?;
    let mut subjects = vec![(own, None)];
    for subject in served {
        subjects.push((subject?, Some(own)));
    }
    Ok(subjects)
}

/// The rows of a target, oldest first; with a `limit` the last so many, newest first. A control's own exchanges are given
/// as those of a subject, served target by served target, of [`SERVED_SHOWN`] that it served within the span.
pub(super) fn rows(
    connection: &Connection,
    target: &TargetId,
    span: Span,
    limit: Option<usize>,
    each: &mut dyn FnMut(Row) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let [from, until] = span.micros();
    let order = if limit.is_some() { "DESC" } else { "ASC" };
    let mut served = 0;
    for (subject, control) in subjects(connection, target)? {
        if served == SERVED_SHOWN {
            break;
        }
        let mut any = false;
        let mut statement = connection.prepare(&format!(
            "SELECT at, role, flags, verdict, goodput, resolve, connect, tls, processing, transfer FROM exchanges
             WHERE target = ?1 AND at >= ?2 AND at < ?3 AND (?4 IS NULL OR control = ?4 AND role = 1)
             AND (?6 OR role <> 1 OR goodput IS NOT NULL)
             ORDER BY target {order}, at {order}, round {order}, place {order} LIMIT ?5"
        ))?;
        // Of the control's exchanges a span shows the goodput alone.
        let all = limit.is_some() || control.is_some();
        let limit = limit.map_or(-1, usize::cast_signed);
        let mut found = statement.query(params![subject, from, until, control, limit, all])?;
        while let Some(row) = found.next()? {
            any = true;
            let role = match row.get::<_, i64>(1)? {
                1 if control.is_none() => Role::Control,
                2 => Role::Canary,
                _ => Role::Subject,
            };
            let flags: i64 = row.get(2)?;
            let verdict: Option<u32> = row.get(3)?;
            let seconds = |index: usize| -> rusqlite::Result<Option<f64>> {
                Ok(row.get::<_, Option<i64>>(index)?.map(|micros| micros as f64 / 1e6))
            };
            each(Row {
                at: moment(row.get(0)?),
                role,
                failed: flags & 1 != 0,
                fallback: flags & 4 != 0,
                verdict: verdict
                    .filter(|_| control.is_none())
                    .and_then(|n| Verdict::ALL.get(n as usize).copied()),
                goodput: row.get::<_, Option<i64>>(4)?.map(|goodput| goodput as f64),
                phases: [seconds(5)?, seconds(6)?, seconds(7)?, seconds(8)?, seconds(9)?],
            })?;
        }
        served += usize::from(any && control.is_some());
    }
    Ok(())
}
