//! What the threads of the store know of each other.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::directory::is_failed_sync;
use super::identity::Files;
use super::recent::Change;
use crate::event::Seq;
use crate::inbox::{Condition, StoreError};

/// What keeps callbacks from being accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no room on the disk.
    Full = 1,
    /// The journal could not be written.
    Journal = 2,
    /// What was accepted could not be moved into SQLite.
    Writer = 4,
    /// A thread is gone.
    Gone = 8,
    /// A file of the store was removed or replaced.
    Files = 16,
    /// SQLite failed to sync. Only a new start can tell what is on the disk.
    Condemned = 32,
}

/// Has a thread's end, also by a panic, be known.
pub(super) struct Alive(pub(super) Arc<Progress>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(Trouble::Gone, true);
    }
}

/// How far each has come.
pub(super) struct Progress {
    troubles: AtomicU8,
    /// SQLite has everything up to here.
    moved: watch::Sender<Seq>,
    /// And has it synced up to here.
    synced: AtomicI64,
    /// What happened to runs of ids, in order.
    changes: Mutex<Vec<Change>>,
    found_full: AtomicBool,
    unmoved_bytes: Mutex<usize>,
    less_unmoved: Condvar,
    files: Files,
    checkpoint: Mutex<()>,
    /// What a process before this one wrote may not be on the disk, whatever a sync says.
    in_doubt: AtomicBool,
}

impl Progress {
    /// Everything up to `last` is in SQLite.
    pub(super) fn new(last: Seq, files: Files) -> Self {
        Self {
            troubles: AtomicU8::new(0),
            moved: watch::Sender::new(last),
            synced: AtomicI64::new(last),
            changes: Mutex::default(),
            found_full: AtomicBool::new(false),
            unmoved_bytes: Mutex::default(),
            less_unmoved: Condvar::new(),
            files,
            checkpoint: Mutex::default(),
            in_doubt: AtomicBool::new(false),
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

    /// Begins or ends a trouble: whether it was there before.
    pub(super) fn set(&self, trouble: Trouble, is_there: bool) -> bool {
        let bit = trouble as u8;
        let before = if is_there {
            self.troubles.fetch_or(bit, Ordering::Relaxed)
        } else {
            self.troubles.fetch_and(!bit, Ordering::Relaxed)
        };
        let was_there = before & bit != 0;
        if is_there && !was_there {
            self.moved.send_modify(|_| ()); // whoever waits for more looks whether it can still come
        }
        was_there
    }

    /// Fails if a file of the store was removed or replaced: what was written and synced is lost then.
    pub(super) fn check_files(&self) -> Result<(), StoreError> {
        match self.files.check() {
            Ok(()) => {
                if self.set(Trouble::Files, false) {
                    tracing::info!("the files of the store are back in their place");
                }
                Ok(())
            }
            Err(error) => {
                if !self.set(Trouble::Files, true) {
                    tracing::error!(store.error = %error, "the files of the store were taken away: callbacks are refused; put them back, or start livehook again on what is there now");
                }
                Err(StoreError::Failed)
            }
        }
    }

    /// If SQLite failed to sync, nothing of the store counts as synced any more: whether it did. The journal keeps what it has
    /// for the next start.
    pub(super) fn condemn_if_not_synced(&self, error: &rusqlite::Error) -> bool {
        let failed = is_failed_sync(error);
        if failed && !self.set(Trouble::Condemned, true) {
            tracing::error!(store.error = %error, "a sync of the store failed: what is on the disk is not known, callbacks are refused until livehook is started again");
        }
        failed
    }

    /// Waits until the store is condemned.
    pub(super) async fn until_condemned(&self) {
        let mut moved = self.moved.subscribe();
        let _ = moved.wait_for(|_| self.has(Trouble::Condemned)).await;
    }

    /// Whether nothing counts as synced before the whole WAL was moved once.
    pub(super) fn doubt(&self, in_doubt: bool) {
        self.in_doubt.store(in_doubt, Ordering::Relaxed);
    }

    /// Held while a checkpoint syncs, and until its failure is known.
    pub(super) fn checkpoint(&self) -> MutexGuard<'_, ()> {
        lock(&self.checkpoint)
    }

    /// Whether everything up to `needed` is in SQLite and synced. `false` during a checkpoint, which may be about to fail.
    pub(super) fn is_surely_synced(&self, needed: Seq) -> bool {
        let no_checkpoint = self.checkpoint.try_lock();
        no_checkpoint.is_ok()
            && !self.in_doubt.load(Ordering::Relaxed)
            && !self.has(Trouble::Condemned)
            && self.synced() >= needed
    }

    pub(super) fn moved(&self) -> Seq {
        *self.moved.borrow()
    }

    /// Waits until SQLite has everything up to `seq`; fails if that cannot go on.
    pub(super) async fn moved_to(&self, seq: Seq) -> Result<(), StoreError> {
        let mut moved = self.moved.subscribe();
        let stands = || {
            let troubles = [Trouble::Writer, Trouble::Gone, Trouble::Condemned];
            troubles.into_iter().any(|trouble| self.has(trouble))
        };
        let there = moved.wait_for(|moved| *moved >= seq || stands());
        match there.await.map(|moved| *moved) {
            Ok(moved) if moved >= seq => Ok(()),
            _ => Err(StoreError::Failed),
        }
    }

    /// Everything up to here is in SQLite.
    pub(super) fn has_moved(&self, upto: Seq, synced: bool) {
        self.moved.send_if_modified(|moved| {
            let is_more = upto > *moved;
            *moved = upto.max(*moved);
            is_more
        });
        if synced {
            self.synced.fetch_max(upto, Ordering::Relaxed);
        }
    }

    pub(super) fn synced(&self) -> Seq {
        self.synced.load(Ordering::Relaxed)
    }

    pub(super) fn changes(&self, change: Change) {
        lock(&self.changes).push(change);
    }

    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *lock(&self.changes))
    }

    /// A write found the volume full, whatever there seems to be.
    pub(super) fn finds_full(&self) {
        self.found_full.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_found_full(&self) -> bool {
        self.found_full.swap(false, Ordering::Relaxed)
    }

    /// So much more is to be moved.
    pub(super) fn adds(&self, bytes: usize) {
        *lock(&self.unmoved_bytes) += bytes;
    }

    /// So much of it is moved.
    pub(super) fn takes(&self, bytes: usize) {
        *lock(&self.unmoved_bytes) -= bytes;
        self.less_unmoved.notify_all();
    }

    /// Whether less than `limit` bytes are to be moved; waits for it, but not for long.
    pub(super) fn waits_for_room(&self, limit: usize, patience: Duration) -> bool {
        let mut unmoved = lock(&self.unmoved_bytes);
        if *unmoved >= limit {
            let waited = self.less_unmoved.wait_timeout(unmoved, patience);
            unmoved = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *unmoved < limit
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
