//! Everything gone: the database with what SQLite keeps beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{StoreError, writer};

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Their size together.
    pub bytes: u64,
}

/// The files that a database at `path` consists of, as far as they are there.
fn files(path: &Path) -> Vec<PathBuf> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let all = [path.to_owned(), beside("-wal"), beside("-shm"), beside("-journal")];
    all.into_iter().filter(|file| file.symlink_metadata().is_ok()).collect()
}

/// Deletes a database. With `delete` false nothing is deleted, and what would be is told.
pub fn purge(path: &Path, delete: bool) -> Result<Purged, StoreError> {
    let sentence = |error: std::io::Error| StoreError::of_file(path, &error);
    // A daemon that writes would be left with a file that nobody sees.
    let lock = if path.parent().is_some_and(Path::is_dir) { Some(writer::lock(path)?) } else { None };
    let files = files(path);
    let size = |file: &PathBuf| file.symlink_metadata().map(|data| data.len()).unwrap_or_default();
    let bytes = files.iter().map(size).sum();
    if delete {
        // The log first: a database without it is old, a log without its database is nothing.
        for file in files.iter().rev() {
            fs::remove_file(file).map_err(sentence)?;
        }
    }
    drop(lock);
    Ok(Purged { files, bytes })
}
