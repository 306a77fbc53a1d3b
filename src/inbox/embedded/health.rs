//! What keeps the store from accepting callbacks, known to all of its threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tokio::sync::Notify;

use super::directory::is_failed_sync;
use super::files::Files;
use crate::inbox::{Condition, StoreError};

/// Something that is wrong with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no room on the disk.
    Full = 1,
    /// The log could not be written.
    Log = 2,
    /// The state could not be written: positions and deliveries that are out of line.
    State = 4,
    /// A thread has ended.
    Ended = 8,
    /// A file of the store was removed or replaced.
    Files = 16,
    /// A sync of SQLite failed. Only a new start can tell what is on the disk.
    Condemned = 32,
}

/// Reports the end of a thread, also by a panic.
pub(super) struct Alive(pub(super) Arc<Health>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(Trouble::Ended, true);
    }
}

/// The troubles of a store.
pub(super) struct Health {
    troubles: AtomicU8,
    condemned: Notify,
    found_full: AtomicBool,
    files: Files,
    /// What an earlier process wrote to the state may not be on the disk, whatever a sync says.
    in_doubt: AtomicBool,
}

impl Health {
    pub(super) fn new(files: Files, in_doubt: bool) -> Self {
        Self {
            troubles: AtomicU8::new(0),
            condemned: Notify::new(),
            found_full: AtomicBool::new(false),
            files,
            in_doubt: AtomicBool::new(in_doubt),
        }
    }

    pub(super) fn condition(&self) -> Condition {
        match self.troubles.load(Ordering::Relaxed) {
            0 => Condition::Accepting,
            trouble if trouble == Trouble::Full as u8 => Condition::Full,
            _ => Condition::Failing,
        }
    }

    pub(super) fn has(&self, trouble: Trouble) -> bool {
        self.troubles.load(Ordering::Relaxed) & trouble as u8 != 0
    }

    /// Begins or ends a trouble. Returns whether it was there before.
    pub(super) fn set(&self, trouble: Trouble, is_there: bool) -> bool {
        let bit = trouble as u8;
        let before = match is_there {
            true => self.troubles.fetch_or(bit, Ordering::Relaxed),
            false => self.troubles.fetch_and(!bit, Ordering::Relaxed),
        };
        if is_there && trouble == Trouble::Condemned {
            self.condemned.notify_waiters();
        }
        before & bit != 0
    }

    /// Fails if a file beside the log was removed or replaced.
    pub(super) fn check_state_files(&self) -> Result<(), StoreError> {
        self.files.check().map_err(|error| self.fail_files(&error))
    }

    /// Fails if a file of the store was removed or replaced: whatever is written to it is lost. `log` is what was found for the files
    /// of the log. Once files were missing, this fails until `probing` finds them all in their place.
    pub(super) fn check_files(&self, log: io::Result<()>, probing: bool) -> Result<(), StoreError> {
        match log.and_then(|()| self.files.check()) {
            Ok(()) if !probing && self.has(Trouble::Files) => Err(StoreError::Failed),
            Ok(()) => {
                if self.set(Trouble::Files, false) {
                    tracing::info!("the files of the store are back in their place");
                }
                Ok(())
            }
            Err(error) => Err(self.fail_files(&error)),
        }
    }

    fn fail_files(&self, error: &io::Error) -> StoreError {
        if !self.set(Trouble::Files, true) {
            tracing::error!(store.error = %error, "the files of the store were taken away: callbacks are refused; put them back, or start livehook again on what is there now");
        }
        StoreError::Failed
    }

    /// Condemns the store if SQLite failed to sync a file. Returns whether it did.
    pub(super) fn condemn_if_not_synced(&self, error: &rusqlite::Error) -> bool {
        let failed = is_failed_sync(error);
        if failed && !self.set(Trouble::Condemned, true) {
            tracing::error!(store.error = %error, "a sync of the store failed: what is on the disk is not known, callbacks are refused until livehook is started again");
        }
        failed
    }

    /// Waits until the store is condemned.
    pub(super) async fn until_condemned(&self) {
        loop {
            let condemned = self.condemned.notified();
            if self.has(Trouble::Condemned) {
                return;
            }
            condemned.await;
        }
    }

    /// Whether the state may hold what is not on the disk, although SQLite has synced it.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed) || self.has(Trouble::Condemned)
    }

    /// The whole WAL was written to the file and synced by this process.
    pub(super) fn end_doubt(&self) {
        self.in_doubt.store(false, Ordering::Relaxed);
    }

    /// A write found the volume full, whatever the free space is said to be.
    pub(super) fn found_full(&self) {
        self.found_full.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_found_full(&self) -> bool {
        self.found_full.swap(false, Ordering::Relaxed)
    }
}
