//! Why a store cannot be used: one sentence each, with what to do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::VERSION;

/// Why a store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("{}: there is no database", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "{}: the database has version {found}, this program knows up to {}; use a newer throttlescope, nothing was changed",
        path.display(), VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It is a database of something else.
    #[error("{}: is a database of another program; name another file under [store] path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is a folder.
    #[error("{}: is a folder; name a file under [store] path", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// It is damaged, or no database at all.
    #[error(
        "{}: is damaged or no database ({problem}); move it away and history begins anew by itself, nothing was changed",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// No space is left.
    #[error("{}: the disk is full; free some space, or lower [store] max_size", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It may not be written.
    #[error("{}: cannot be written; it or its folder is read-only, or belongs to somebody else", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It is not where it was.
    #[error("{}: was moved away or deleted while it was in use; history begins anew", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// Another process keeps it.
    #[error("{}: another throttlescope keeps this database; stop it, or name another file under [store] path", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {problem}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
}

impl StoreError {
    /// Puts an error of SQLite into a sentence.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, problem: error.to_string() }
            }
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path }
            }
            _ => Self::Other { path, problem: error.to_string() },
        }
    }

    /// Puts an error of the file system into a sentence.
    pub(super) fn of_file(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            ErrorKind::WouldBlock => Self::InUse { path },
            ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Other { path, problem: error.to_string() },
        }
    }
}
