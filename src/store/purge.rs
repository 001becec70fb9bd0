//! Everything gone: the database with what SQLite keeps beside it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{StoreError, migrate, open};

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

/// What a database begins with (<https://www.sqlite.org/fileformat2.html>), and where its application is told.
const MAGIC: &[u8] = b"SQLite format 3\0";
const APPLICATION_AT: usize = 68;

/// Whether a file is a database of ours, or one that nothing was written to yet. Looks at the file alone: opening a
/// database may change what lies beside it.
fn is_ours(path: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(100).read_to_end(&mut head)?;
    let application = head.get(APPLICATION_AT..APPLICATION_AT + 4);
    let ours = head.starts_with(MAGIC) && application == Some(&migrate::APPLICATION.to_be_bytes());
    Ok(head.is_empty() || ours)
}

/// Deletes a database. With `delete` false nothing is deleted, and what would be is told.
pub fn purge(path: &Path, delete: bool) -> Result<Purged, StoreError> {
    let sentence = |error: std::io::Error| StoreError::of_file(path, &error);
    // A daemon that writes would be left with a file that nobody sees.
    let lock = if path.parent().is_some_and(Path::is_dir) { Some(open::lock(path)?) } else { None };
    let files = files(path);
    migrate::refuse_folder(path)?;
    // A mistyped path must not cost somebody else's file.
    if files.first().is_some_and(|first| first == path) && !is_ours(path).map_err(sentence)? {
        return Err(StoreError::Other {
            path: path.to_owned(),
            problem: "is no database of throttlescope, or its head is damaged; nothing was deleted"
                .to_owned(),
        });
    }
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
