//! A database that is open for writing: its file, the lock beside it, its place.

use std::{
    fs::File,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    Batch, Restored, StoreError, migrate, restore,
    write::{self, Numbers},
};
use crate::clock;

/// Takes the lock that one writer holds. The file stays: deleting it would let two hold it.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let sentence = |error: std::io::Error| StoreError::of_file(path, &error);
    let file = File::options().create(true).truncate(false).write(true).open(name).map_err(sentence)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(sentence(error)),
    }
}

/// Makes the file where it is not there, for its owner alone: what was measured is nobody else's business. What SQLite puts
/// beside it gets the same rights.
fn make(path: &Path) -> std::io::Result<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A database that can be written.
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) numbers: Numbers,
    /// The row of this start.
    pub(super) run: Option<i64>,
    /// Device and number of the file.
    file: Option<(u64, u64)>,
}

impl Open {
    /// Opens it, and takes the lock where it is not held yet.
    pub(super) fn new(path: &Path, held: &mut Option<File>) -> Result<(Self, Restored), StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| match StoreError::of_file(path, &error) {
                known @ (StoreError::Full { .. } | StoreError::ReadOnly { .. }) => known,
                _ => StoreError::Other {
                    path: path.to_owned(),
                    problem: format!(
                        "its folder cannot be made ({error}); name another file under [store] path"
                    ),
                },
            })?;
        }
        if held.is_none() {
            *held = Some(lock(path)?);
        }
        make(path).map_err(|error| StoreError::of_file(path, &error))?;
        let connection = migrate::open_to_write(path)?;
        let restored = restore::restore(&connection).map_err(|error| StoreError::of(path, &error))?;
        Ok((Self { connection, numbers: Numbers::default(), run: None, file: file_of(path) }, restored))
    }

    /// Writes batches in one transaction.
    pub(super) fn write(&mut self, batches: &[Batch]) -> rusqlite::Result<()> {
        let now = clock::wall();
        let transaction = self.connection.transaction()?;
        for batch in batches {
            write::write(&transaction, &mut self.numbers, batch, now)
                .inspect_err(|_| self.numbers.forget())?;
        }
        transaction.commit()
    }

    /// Whether the file is still where it was. One that was moved away or deleted takes writes that nobody will find.
    pub(super) fn is_in_place(&self, path: &Path) -> bool {
        self.file.is_none() || self.file == file_of(path)
    }
}

/// Device and number of the file; `None` where there is none.
fn file_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
