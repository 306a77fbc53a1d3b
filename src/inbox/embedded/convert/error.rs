//! Why a store cannot be converted.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::old_store::OLD;
use crate::inbox::OpenError;
use crate::inbox::embedded::schema::SchemaError;
use crate::inbox::event_log::LogError;

#[derive(Debug)]
pub(super) enum ConvertError {
    Sqlite(rusqlite::Error),
    /// The log, the journal, or another file.
    Files(LogError),
    /// What the operator has to know.
    Refused(String),
}

impl From<io::Error> for ConvertError {
    fn from(error: io::Error) -> Self {
        Self::Files(error.into())
    }
}

impl From<LogError> for ConvertError {
    fn from(error: LogError) -> Self {
        Self::Files(error)
    }
}

impl From<rusqlite::Error> for ConvertError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<SchemaError> for ConvertError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Sqlite(error) => Self::Sqlite(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl ConvertError {
    /// Another program reads this file.
    pub(super) fn busy(file: &str) -> Self {
        Self::Refused(format!(
            "another program reads {file}, so the store cannot be converted; end that program and start livehook again"
        ))
    }

    /// As the store in `dir` says it when it is opened.
    pub(super) fn into_open(self, dir: &Path) -> OpenError {
        let file = dir.join(OLD);
        let is_full = match &self {
            Self::Files(LogError::Io(error)) => error.kind() == io::ErrorKind::StorageFull,
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            _ => false,
        };
        match self {
            _ if is_full => OpenError::broken(
                &file,
                "the volume became full while the store was converted: it takes more room than inbox.db, if bodies are short or many numbers are missing; make room, the old store is unchanged",
            ),
            Self::Files(LogError::Io(error)) => OpenError::unwritable(dir, error),
            Self::Files(lost) => OpenError::broken(dir, lost),
            Self::Sqlite(error) => OpenError::sqlite(&file, &error),
            Self::Refused(reason) => OpenError::broken(&file, reason),
        }
    }
}
