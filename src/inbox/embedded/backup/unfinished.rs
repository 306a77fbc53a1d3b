//! The directory that a backup is written into.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::sync::OwnedRwLockWriteGuard;

use super::{blocking, io};
use crate::inbox::backup::{BackupError, BackupSummary};
use crate::inbox::embedded::directory::{create_durably, sync};
use crate::inbox::embedded::disk_space;

/// The state of a backup that is not finished.
pub(in super::super) const UNFINISHED_STATE: &str = "state.db.unfinished";

/// A directory with a part of a backup. A server refuses to start on it. Dropping this removes that part, and nothing else.
pub(crate) struct UnfinishedBackup {
    path: PathBuf,
    was_there: bool,
    /// What was written, in the order in which it was begun.
    made: Vec<PathBuf>,
    pub(super) events: u64,
    is_finished: bool,
    /// Retention and deletions wait for it.
    _pinned: OwnedRwLockWriteGuard<()>,
}

/// Refuses a directory that cannot take a backup of this store.
pub(super) fn check(path: &Path, store: &Path) -> Result<(), BackupError> {
    let wrong = |problem| {
        let path = path.to_owned();
        Err(BackupError::Directory { path, problem })
    };
    if path.to_str().is_none() {
        return wrong("the name is not UTF-8; choose another one");
    }
    let log = store.join("log");
    let log = log.canonicalize().unwrap_or(log);
    let near = existing(path);
    if near.canonicalize().unwrap_or(near).starts_with(log) {
        return wrong("this is in the log of the store itself; choose another directory");
    }
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => wrong("the directory is not empty; name an empty or a new one"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(path, error)),
    }
}

/// Refuses if the volume has less room than is needed. What callbacks need on the store's own volume is left alone.
pub(super) fn check_room(
    path: &Path,
    needed: u64,
    store: &Path,
    min_free: Option<u64>,
) -> Result<(), BackupError> {
    let near = existing(path);
    let volume = rustix::fs::statvfs(&near).map_err(|error| io(&near, error.into()))?;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let kept = match device(&near) == device(store) {
        true => disk_space::floor(&volume, min_free),
        false => 0,
    };
    let free = disk_space::free(&volume);
    if needed > free.saturating_sub(kept) {
        return Err(BackupError::NoRoom {
            path: path.to_owned(),
            needed,
            free,
            kept,
        });
    }
    Ok(())
}

pub(super) fn make_durable(path: &Path) -> Result<(), BackupError> {
    sync(path).map_err(|error| io(path, error))
}

/// The path, or what is there of it.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|part| part.exists());
    match found {
        Some(part) => part.to_owned(),
        None => PathBuf::from("."),
    }
}

impl UnfinishedBackup {
    /// Makes the directory, with a file that shows that the backup is not finished.
    pub(super) fn create(
        path: &Path,
        pinned: OwnedRwLockWriteGuard<()>,
    ) -> Result<Self, BackupError> {
        let was_there = path.exists();
        create_durably(path).map_err(|error| io(path, error))?;
        let mut backup = Self {
            path: path.to_owned(),
            was_there,
            made: Vec::new(),
            events: 0,
            is_finished: false,
            _pinned: pinned,
        };
        let mark = path.join(UNFINISHED_STATE);
        File::create_new(&mark).map_err(|error| io(&mark, error))?;
        backup.made.push(mark);
        make_durable(path)?;
        let log = path.join("log");
        fs::create_dir(&log).map_err(|error| io(&log, error))?;
        backup.made.push(log);
        Ok(backup)
    }

    /// The path of a file of this name in the backup, which the caller writes now.
    pub(crate) fn file(&mut self, name: &str) -> PathBuf {
        let file = self.path.join(name);
        if !self.made.contains(&file) {
            self.made.push(file.clone());
        }
        file
    }

    /// Makes the backup one that a server can be started on.
    pub(crate) async fn finish(mut self) -> Result<BackupSummary, BackupError> {
        blocking(move || self.finish_here()).await
    }

    fn finish_here(&mut self) -> Result<BackupSummary, BackupError> {
        let (mark, state) = (self.path.join(UNFINISHED_STATE), self.path.join("state.db"));
        let mut bytes = 0;
        for made in &self.made {
            make_durable(made)?;
            let found = fs::metadata(made).map_err(|error| io(made, error))?;
            bytes += if found.is_dir() { 0 } else { found.len() };
        }
        make_durable(&self.path)?;
        fs::rename(&mark, &state).map_err(|error| io(&state, error))?;
        self.is_finished = true;
        make_durable(&self.path)?;
        let events = self.events;
        Ok(BackupSummary { events, bytes })
    }
}

impl Drop for UnfinishedBackup {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // The mark goes last: it says that this is no store.
        for made in self.made.iter().rev() {
            let removed = match made.is_dir() {
                true => fs::remove_dir(made),
                false => fs::remove_file(made),
            };
            if let Err(error) = removed
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %made.display(), "a part of an unfinished backup is left");
            }
        }
        if !self.was_there {
            let _ = fs::remove_dir(&self.path); // somebody may have put a file there
        }
    }
}
