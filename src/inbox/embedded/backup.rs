//! A backup while the store is used.
//!
//! The state is copied first, the log after it: what the state knows of is in the log then. Retention and deletions wait, so
//! nothing of that is removed in between. The name `state.db` comes last: without it, a directory with a part of a backup is
//! never taken for a store ([`open`](super::open)).

mod unfinished;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use self::unfinished::{check, check_room, make_durable};
use super::EmbeddedStore;
use super::directory::connect;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::backup::{BackupError, BackupProgress};

pub(super) use self::unfinished::UNFINISHED_STATE;
pub(crate) use self::unfinished::UnfinishedBackup;

impl EmbeddedStore {
    /// Copies the store into a directory that does not exist or is empty. `beside`: bytes that the caller adds.
    pub(in super::super) async fn back_up(
        &self,
        directory: &Path,
        beside: u64,
        progress: Arc<BackupProgress>,
    ) -> Result<UnfinishedBackup, BackupError> {
        let pinned = self.removals.clone().write_owned().await;
        // SQLite would make a new file in the place of one that was taken away.
        self.check_files().await?;
        let state = state_length(&self.path);
        let needed = beside + state + self.settled_bytes(Seq::MAX).await?;
        let (wanted, own, min_free) = (directory.to_owned(), self.path.clone(), self.min_free);
        let begun = blocking(move || {
            check(&wanted, &own)?;
            check_room(&wanted, needed, &own, min_free)?;
            let mut backup = UnfinishedBackup::create(&wanted, pinned)?;
            let without_deleted = copy_state(&own, &mut backup)?;
            Ok((backup, without_deleted))
        });
        let (mut backup, without_deleted) = begun.await?;
        let last = *self.committed.borrow();
        self.end_segment(Duration::ZERO).await?;
        let log_bytes = self.settled_bytes(last).await?;
        progress.begin(beside + state + log_bytes);
        progress.add(state);
        let (path, own, log) = (
            directory.to_owned(),
            self.path.clone(),
            self.reads.log.clone(),
        );
        blocking(move || {
            check_room(&path, log_bytes + beside, &own, min_free)?;
            let files = log.settled_files(last).map_err(|error| io(&path, error))?;
            for file in &files {
                let copy = backup.file(&format!("log/{}", file.name));
                log.copy(file, &path.join("log"), &|bytes| progress.add(bytes))
                    .map_err(|error| io(&copy, error))?;
            }
            let records = log.count_upto(last).cast_signed();
            backup.events = (records + without_deleted).max(0).unsigned_abs();
            Ok(backup)
        })
        .await
    }

    /// How long the sealed files of the log are, up to the one that holds this event.
    async fn settled_bytes(&self, upto: Seq) -> Result<u64, BackupError> {
        let files = self
            .read(move |reads| Ok(reads.log.settled_files(upto)?))
            .await?;
        Ok(files.iter().map(|file| file.length).sum())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or(Err(BackupError::Store(StoreError::Failed)))
}

fn io(path: &Path, error: std::io::Error) -> BackupError {
    let path = path.to_owned();
    BackupError::Io { path, error }
}

/// How long the files of the state are.
pub(super) fn state_length(store: &Path) -> u64 {
    let length = |name| std::fs::metadata(store.join(name)).map_or(0, |file| file.len());
    length("state.db") + length("state.db-wal")
}

/// Copies the state. Returns how many events it has beside the log, less those that are deleted and still have a record there.
fn copy_state(store: &Path, backup: &mut UnfinishedBackup) -> Result<i64, BackupError> {
    let file = backup.file(UNFINISHED_STATE);
    let copy = || -> rusqlite::Result<i64> {
        let conn = connect(&store.join("state.db"))?;
        let name = file.to_str();
        let name = name.ok_or_else(|| rusqlite::Error::InvalidPath(file.clone()))?;
        conn.execute("VACUUM INTO ?1", [name])?;
        let counts = "SELECT (SELECT count(*) FROM kept) - (SELECT count(*) FROM deleted)";
        conn.query_row(counts, [], |row| row.get(0))
    };
    let counted = copy().map_err(|error| BackupError::Sqlite {
        file: "state.db",
        error,
    })?;
    make_durable(&file)?;
    Ok(counted)
}

#[cfg(test)]
mod tests;
