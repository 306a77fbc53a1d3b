//! Why a store cannot be converted.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::journal::JournalError;
use super::old_store::{NEWEST, OLD};
use crate::inbox::OpenError;
use crate::inbox::embedded::schema::SchemaError;
use crate::inbox::event_log::LogError;

#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the file is not a livehook inbox")]
    Foreign,
    #[error(
        "the inbox was written by a newer livehook (format {0}, this one converts up to {NEWEST})"
    )]
    Newer(i64),
    #[error(
        "another program reads {0}, so the store cannot be converted; end that program and start livehook again"
    )]
    Busy(&'static str),
    #[error(
        "there is too little room to convert the store: {needed} bytes are needed and {free} are free; make room, nothing was changed"
    )]
    NoRoom { needed: u64, free: u64 },
    #[error(
        "the volume became full while the store was converted: it takes more room than inbox.db, if bodies are short or many numbers are missing; make room, the old store is unchanged"
    )]
    Full,
    #[error("{}", two_stores(*is_converted))]
    TwoStores { is_converted: bool },
}

fn two_stores(is_converted: bool) -> &'static str {
    if is_converted {
        "inbox.db.old is there, too: an earlier release was started after the store was converted, and may have accepted callbacks \
         into inbox.db; to go on without those, move inbox.db and accepted.*-wal to another place"
    } else {
        "inbox.db.old is there, too, and would be overwritten; if inbox.db is the store, move inbox.db.old to another place"
    }
}

impl ConvertError {
    /// As the store in `dir` says it when it is opened.
    pub(super) fn into_open(self, dir: &Path) -> OpenError {
        let file = dir.join(OLD);
        let broken = |path: &Path, reason: String| OpenError::Broken {
            path: path.to_owned(),
            reason,
        };
        let unwritable = |path: &Path, error| OpenError::Unwritable {
            path: path.to_owned(),
            error,
        };
        match self {
            full if full.is_full() => broken(&file, Self::Full.to_string()),
            Self::Io(error)
            | Self::Log(LogError::Io(error))
            | Self::Journal(JournalError::Io(error)) => unwritable(dir, error),
            Self::Sqlite(error)
            | Self::Schema(SchemaError::Sqlite(error))
            | Self::Journal(JournalError::Sqlite(error)) => match error.sqlite_error_code() {
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                    unwritable(&file, io::Error::other(error))
                }
                _ => broken(&file, error.to_string()),
            },
            Self::Journal(gap @ JournalError::Gap { .. }) => broken(dir, gap.to_string()),
            other => broken(&file, other.to_string()),
        }
    }

    /// Whether there was no room for what was written.
    fn is_full(&self) -> bool {
        match self {
            Self::Io(error)
            | Self::Log(LogError::Io(error))
            | Self::Journal(JournalError::Io(error)) => error.kind() == io::ErrorKind::StorageFull,
            Self::Sqlite(error)
            | Self::Schema(SchemaError::Sqlite(error))
            | Self::Journal(JournalError::Sqlite(error)) => {
                error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            }
            _ => false,
        }
    }
}
