//! What a daemon takes up again when it starts.

use std::collections::{BTreeMap, VecDeque};

use rusqlite::{Connection, params};

use super::{
    Run,
    read::{Row, Span, rows},
    write::moment,
};
use crate::model::{Comparison, CountedTest, DetectorState, IncidentRecord, TargetId};

/// The last exchanges of a target that make its quantiles again.
const QUANTILES_OF: usize = 500;

/// All that is taken up again.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The highest number of a round.
    pub last_round: i64,
    /// What the engine remembered of each target, in its own form.
    pub memories: BTreeMap<TargetId, String>,
    /// The detectors.
    pub detectors: Vec<(TargetId, Comparison, DetectorState)>,
    /// Incidents that had not ended.
    pub incidents: Vec<IncidentRecord>,
    /// Messages that were not sent yet: id and message.
    pub outbox: Vec<(String, String)>,
    /// The last exchanges, for quantiles: whose, and what.
    pub rows: Vec<(TargetId, Row)>,
    /// The start before this one.
    pub last_run: Option<Run>,
}

/// Reads it all. What cannot be understood (a row that a later version wrote into the same schema) is left out.
pub(super) fn restore(connection: &Connection) -> rusqlite::Result<Restored> {
    let mut restored = Restored {
        last_round: connection.query_row("SELECT coalesce(max(n), 0) FROM rounds", [], |row| row.get(0))?,
        last_run: last_run(connection)?,
        ..Restored::default()
    };
    let mut statement =
        connection.prepare("SELECT id, record FROM memories JOIN targets ON targets.n = memories.target")?;
    let found = statement.query_map([], |row| Ok((TargetId::new(row.get::<_, String>(0)?), row.get(1)?)))?;
    restored.memories = found.collect::<rusqlite::Result<_>>()?;
    restored.detectors = detectors(connection)?;
    let mut statement = connection.prepare("SELECT record FROM incidents WHERE ended IS NULL")?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?;
    for text in found {
        restored.incidents.extend(serde_json::from_str(&text?).ok());
    }
    let mut statement =
        connection.prepare("SELECT id, message FROM outbox WHERE settled IS NULL ORDER BY at")?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    restored.outbox = found.collect::<rusqlite::Result<_>>()?;
    let targets: Vec<TargetId> = restored.memories.keys().cloned().collect();
    for target in targets {
        rows(connection, &target, Span::default(), Some(QUANTILES_OF), &mut |row| {
            restored.rows.push((target.clone(), row));
            Ok(())
        })?;
    }
    Ok(restored)
}

/// The start before this one.
fn last_run(connection: &Connection) -> rusqlite::Result<Option<Run>> {
    use rusqlite::OptionalExtension as _;
    connection
        .query_row("SELECT started, seen, ended FROM runs ORDER BY n DESC LIMIT 1", [], |row| {
            Ok(Run { started_at: moment(row.get(0)?), seen_at: moment(row.get(1)?), ended: row.get(2)? })
        })
        .optional()
}

fn detectors(connection: &Connection) -> rusqlite::Result<Vec<(TargetId, Comparison, DetectorState)>> {
    let mut statement = connection.prepare(
        "SELECT id, target, comparison, record FROM detectors JOIN targets ON targets.n = detectors.target",
    )?;
    let found = statement.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
        ))
    })?;
    let mut detectors = Vec::new();
    for row in found {
        let (id, target, name, text) = row?;
        let known = [Comparison::History, Comparison::Control, Comparison::Sni];
        let comparison = known.into_iter().find(|comparison| comparison.name() == name);
        let (Some(comparison), Ok(mut state)) = (comparison, serde_json::from_str::<DetectorState>(&text))
        else {
            continue;
        };
        state.recent = tests(connection, target, &name)?;
        detectors.push((TargetId::new(id), comparison, state));
    }
    Ok(detectors)
}

fn tests(connection: &Connection, target: i64, comparison: &str) -> rusqlite::Result<VecDeque<CountedTest>> {
    let mut statement = connection.prepare(
        "SELECT began, ended, affected, e_value FROM tests WHERE target = ?1 AND comparison = ?2 ORDER BY n",
    )?;
    let found = statement.query_map(params![target, comparison], |row| {
        Ok(CountedTest {
            from: moment(row.get(0)?),
            until: moment(row.get(1)?),
            affected: row.get(2)?,
            e_value: row.get(3)?,
        })
    })?;
    found.collect()
}
