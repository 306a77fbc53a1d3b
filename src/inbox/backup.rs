//! A backup of the embedded store: a directory that a server can be started on.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StoreError;
use bytesize::ByteSize;

/// How far a backup has come.
#[derive(Debug, Default)]
pub(crate) struct BackupProgress {
    bytes: AtomicU64,
    total: AtomicU64,
}

impl BackupProgress {
    pub(super) fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are copied, and bytes to copy. Both are zero until that is known.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        (load(&self.bytes), load(&self.total))
    }
}

/// What a backup holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackupSummary {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// Why a backup could not be made. What it had written is removed again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The directory cannot take a backup.
    #[error("{}: {problem}", path.display())]
    Directory {
        path: PathBuf,
        problem: &'static str,
    },
    #[error(
        "{}: the backup takes {}, but {} can be used there ({} are free{}); make room, or choose another volume",
        path.display(),
        ByteSize(*needed),
        ByteSize(free.saturating_sub(*kept)),
        ByteSize(*free),
        kept_for_callbacks(*kept)
    )]
    NoRoom {
        path: PathBuf,
        needed: u64,
        free: u64,
        /// Bytes that are left free, because the store is on the same volume.
        kept: u64,
    },
    #[error("{}: {error}; the backup was not made", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{file}: {error}; the backup was not made")]
    Sqlite {
        file: &'static str,
        error: rusqlite::Error,
    },
    #[error("{0}; the backup was not made, the server's log says more")]
    Store(#[from] StoreError),
    #[error(
        "the store is in PostgreSQL: back it up with pg_dump, as docs/operate/backup.md shows, or with what your database has"
    )]
    Postgres,
}

fn kept_for_callbacks(kept: u64) -> String {
    match kept {
        0 => String::new(),
        kept => format!(
            ", and the last {} of the store's own volume stay free for callbacks",
            ByteSize(kept)
        ),
    }
}
