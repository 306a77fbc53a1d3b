//! Deletes events for good: first durably in the state, then their bodies are overwritten.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::EmbeddedStore;
use super::acceptor::Request;
use super::deliveries;
use super::stored::{self, Log};
use crate::event::Seq;
use crate::inbox::StoreError;

impl EmbeddedStore {
    /// Removes these events with the rows of all handlers. When it returns, their bodies are in no file of the store any more.
    pub(in super::super) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        let Some(newest) = seqs.iter().copied().max() else {
            return Ok(0);
        };
        // A backup would get the body, and not that it is deleted.
        let _unpinned = self.removals.read().await;
        if self.health.is_in_doubt() {
            tracing::error!(
                "nothing is deleted before the state is surely on the disk; it is tried again when no other program reads state.db"
            );
            return Err(StoreError::Failed);
        }
        let log = self.reads.log.clone();
        let seqs = Arc::new(seqs);
        let wanted = seqs.clone();
        let deleted = self
            .write(move |conn| note_deleted(conn, &log, &wanted))
            .await?;
        self.cache.forget(newest);
        if !deleted.is_empty() {
            self.erase(deleted.clone()).await?;
            self.state.empty_wal().await?;
        }
        Ok(deleted.len() as u64)
    }

    /// Overwrites the bodies of events that the state notes as deleted.
    async fn erase(&self, seqs: Vec<Seq>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Erase {
            seqs: seqs.clone(),
            reply,
        });
        let others = answer.await.unwrap_or(Err(StoreError::Failed))?;
        self.maintenance.erase(others).await?;
        self.write(move |conn| stored::note_erased(conn, &seqs))
            .await
    }
}

fn note_deleted(conn: &Connection, log: &Log, seqs: &[Seq]) -> rusqlite::Result<Vec<Seq>> {
    deliveries::delete(conn, seqs)?;
    stored::note_deleted(conn, log, seqs)
}
