//! Opening a database: pragmas, the version of its schema, and the steps from one version to the next.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::StoreError;

/// `tscp`: says that a database is ours (`PRAGMA application_id`).
pub(super) const APPLICATION: u32 = 0x7473_6370;

/// Each step makes a database of its index into one of the next version. Steps that were released never change.
const STEPS: [&str; 3] = [include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];

/// The version of the schema that this program writes (`PRAGMA user_version`).
pub const VERSION: i64 = STEPS.len().cast_signed() as i64;

/// How long a statement waits for another process's lock: a reader holds none that a writer waits for.
const BUSY: std::time::Duration = std::time::Duration::from_secs(5);

/// Opens for writing, makes what is not there, and brings an older database up to date.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let sentence = |error: rusqlite::Error| StoreError::of(path, &error);
    refuse_folder(path)?;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sentence)?;
    connection.busy_timeout(BUSY).map_err(sentence)?;
    // A root file system that is read-only has no place for temporary files.
    connection.execute_batch("PRAGMA temp_store = MEMORY").map_err(sentence)?;
    if version(&connection, path)? < VERSION {
        migrate(&mut connection, path)?;
    }
    // WAL: readers never wait for the writer, and a process that is killed loses nothing that was committed. Only a loss
    // of power may cost the last moments (`synchronous = NORMAL`), never the database.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 8388608;
             PRAGMA wal_autocheckpoint = 500; PRAGMA cache_size = -8000; PRAGMA foreign_keys = ON",
        )
        .map_err(sentence)?;
    Ok(connection)
}

/// Says that it is a folder, which SQLite says less plainly.
pub(super) fn refuse_folder(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() { Err(StoreError::Folder { path: path.to_owned() }) } else { Ok(()) }
}

/// Opens for reading alone.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    refuse_folder(path)?;
    let sentence = |error: rusqlite::Error| StoreError::of(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepare = |connection: Connection| -> Result<Connection, StoreError> {
        connection.busy_timeout(BUSY).map_err(sentence)?;
        connection
            .execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000")
            .map_err(sentence)?;
        match version(&connection, path)? {
            VERSION => Ok(connection),
            0 => Err(StoreError::Missing { path: path.to_owned() }),
            // Only a writer brings it up to date.
            found => Err(StoreError::Other {
                path: path.to_owned(),
                problem: format!(
                    "the database has the old version {found}; start the daemon once to renew it"
                ),
            }),
        }
    };
    let found = Connection::open_with_flags(path, flags).map_err(sentence).and_then(prepare);
    match found {
        // Where nothing can be written there is no writer either, and the file can be read as it is.
        Err(StoreError::ReadOnly { .. }) => {
            let name = url::Url::from_file_path(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
            let Ok(name) = name else { return Err(StoreError::ReadOnly { path: path.to_owned() }) };
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("{name}?immutable=1"), flags)
                .map_err(sentence)
                .and_then(prepare)
        }
        found => found,
    }
}

/// The version of an open database; an error where it is not ours or too new.
fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let number = |pragma: &str| {
        connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
            .map_err(|error| StoreError::of(path, &error))
    };
    let (found, application) = (number("user_version")?, number("application_id")?);
    if application == i64::from(APPLICATION) {
        return if found > VERSION {
            Err(StoreError::Newer { path: path.to_owned(), found })
        } else {
            Ok(found)
        };
    }
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| StoreError::of(path, &error))?;
    if tables > 0 || application != 0 { Err(StoreError::Foreign { path: path.to_owned() }) } else { Ok(0) }
}

/// Takes the missing steps, each whole or not at all.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sentence = |error: rusqlite::Error| StoreError::of(path, &error);
    // Only a database without tables can take this over: pages that become free can be given back.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(sentence)?;
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sentence)?;
        let found = version(&step, path)?;
        let Some(script) = usize::try_from(found).ok().and_then(|found| STEPS.get(found)) else {
            return Ok(());
        };
        step.execute_batch(script).map_err(sentence)?;
        let next = found + 1;
        step.execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {next}"))
            .map_err(sentence)?;
        step.commit().map_err(sentence)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_ours_or_too_new_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
        assert!(matches!(open_to_write(&foreign), Err(StoreError::Foreign { .. })));
        let newer = folder.path().join("newer.db");
        drop(open_to_write(&newer).unwrap());
        Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        let before = std::fs::read(&newer).unwrap();
        let error = open_to_write(&newer).unwrap_err();
        assert!(error.to_string().contains("has version 99"), "{error}");
        assert!(matches!(open_to_read(&newer), Err(StoreError::Newer { .. })));
        assert_eq!(std::fs::read(&newer).unwrap(), before);
        let text = folder.path().join("text.db");
        std::fs::write(&text, "no database, whatever it is called ".repeat(99)).unwrap();
        assert!(matches!(open_to_write(&text), Err(StoreError::Corrupt { .. })));
        assert!(matches!(open_to_read(&folder.path().join("none.db")), Err(StoreError::Missing { .. })));
    }
}
