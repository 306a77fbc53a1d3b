//! Deletes events for good: first durably in the state, then their bodies are overwritten.

use std::sync::atomic::Ordering;

use super::acceptor::Request;
use super::{EmbeddedStore, ask, deliveries, stored};
use crate::event::Seq;
use crate::inbox::StoreError;

impl EmbeddedStore {
    /// Removes these events with the rows of all handlers. When it returns, their bodies are in no file of the store any more, nor
    /// are those of deletions that failed before.
    pub(in super::super) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        // A backup would get the body, and not that it is deleted.
        let _unpinned = self.removals.read().await;
        if self.health.is_in_doubt() {
            tracing::error!(
                "nothing is deleted before the state is surely on the disk; it is tried again when no other program reads state.db"
            );
            return Err(StoreError::Failed);
        }
        let mut deleted = 0;
        if let Some(newest) = seqs.iter().copied().max() {
            self.erasure_pending.store(true, Ordering::Relaxed);
            let log = self.reads.log.clone();
            deleted = self
                .write(move |conn| {
                    deliveries::delete(conn, &seqs)?;
                    stored::note_deleted(conn, &log, &seqs)
                })
                .await?;
            self.cache.forget(newest);
        }
        if self.erasure_pending.load(Ordering::Relaxed) {
            self.erase().await?;
            self.erasure_pending.store(false, Ordering::Relaxed);
        }
        Ok(deleted)
    }

    /// Does what deletions left because they failed, or because nobody waited for their end.
    pub(super) async fn finish_deletions(&self) {
        let is_pending = self.erasure_pending.load(Ordering::Relaxed);
        if is_pending && !self.health.is_in_doubt() && self.removals.try_read().is_ok() {
            // If it fails again, the log has the cause.
            let _ = self.delete(Vec::new()).await;
        }
    }

    /// Overwrites the bodies of all events that the state notes as deleted.
    async fn erase(&self) -> Result<(), StoreError> {
        let seqs = self.read_state(stored::not_erased).await?;
        if !seqs.is_empty() {
            let here = seqs.clone();
            let erase = |reply| self.requests.send(Request::Erase { seqs: here, reply });
            let others = ask(erase).await?;
            self.maintenance.erase(others).await?;
            self.write(move |conn| stored::note_erased(conn, &seqs))
                .await?;
        }
        self.state.empty_wal().await
    }
}
