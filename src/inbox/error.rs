//! Why the store failed, and why it could not be opened.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;

/// Why a call of the store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store failed; the log has the cause.
    #[error("the store failed")]
    Failed,
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    Full,
}

/// Why the inbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// livehook cannot write to the directory or to a file in it.
    #[error("inbox.path: cannot write to {}: {error}; make it writable for this user or choose another directory", path.display())]
    Unwritable {
        /// The directory or the file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "inbox.path: {} is in use by another livehook (waited {}); stop that one, or give this one a directory of its own",
        path.display(),
        humantime::format_duration(*waited)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The file cannot be used as an inbox.
    #[error("inbox.path: {}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The PostgreSQL server or its database cannot be used as it is.
    #[error("inbox.url: {0}")]
    Refused(String),
    /// No server could be reached.
    #[error(
        "inbox.url: {problem} (waited {}); start the server, or give it more time with connect_wait",
        humantime::format_duration(*waited)
    )]
    Away {
        /// What was tried, and what failed.
        problem: String,
        /// How long this process waited.
        waited: Duration,
    },
    /// Something else went wrong while the store was opened.
    #[error("the inbox could not be opened: {0}")]
    Ended(String),
}

impl OpenError {
    pub(super) fn unwritable(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unwritable { path, error }
    }

    pub(super) fn broken(path: &Path, reason: impl ToString) -> Self {
        let (path, reason) = (path.to_owned(), reason.to_string());
        Self::Broken { path, reason }
    }

    /// SQLite's error with this file.
    pub(super) fn sqlite(file: &Path, error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::unwritable(file, io::Error::other(error.to_string()))
            }
            _ => Self::broken(file, error),
        }
    }
}
