//! The embedded engine: a directory with an append-only log of events, and a small SQLite file for all that changes.
//!
//! Events live in the log ([`event_log`](super::event_log)). `state.db` has handlers, positions, deliveries that are out of line,
//! and which events are removed or deleted. Three threads: `inbox-accept` writes the log ([`acceptor`]), `inbox-state` writes
//! `state.db` ([`state_writer`]), `inbox-log` maintains the log ([`log_maintenance`]). No answer to a sender waits for the second
//! or the third.

mod acceptor;
mod backup;
mod batcher;
mod check;
mod convert;
mod damage;
mod deletion;
mod deliveries;
mod delivery_rows;
mod directory;
mod disk_space;
mod event_cache;
mod files;
mod handlers;
mod health;
mod log_maintenance;
mod open;
mod readers;
mod reads;
mod retention;
mod schema;
mod state_writer;
mod stored;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};
use rusqlite::Connection;
use tokio::sync::{RwLock, oneshot, watch};

use self::acceptor::{Reply, Request};
pub(crate) use self::backup::UnfinishedBackup;
use self::backup::state_length;
use self::batcher::Requests;
pub(crate) use self::check::{CheckError, StoreCheck, check_store};
pub(crate) use self::directory::is_in_use;
use self::event_cache::EventCache;
use self::health::Health;
use self::log_maintenance::LogJobs;
use self::reads::{ReadError, Reads};
use self::state_writer::StateWrites;
use super::delivery::{HandlerId, Owed, Parked};
use super::query::{EventFilter, Page};
use super::settings::InboxSettings;
use super::{Condition, Receipt, StoreError};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::metrics::Metrics;

/// Rows that are removed in one go.
const CHUNK: usize = 500;

/// An open store. Dropping it finishes what was begun.
pub(super) struct EmbeddedStore {
    path: PathBuf,
    requests: Requests,
    state: StateWrites,
    maintenance: LogJobs,
    reads: Arc<Reads>,
    committed: watch::Receiver<Seq>,
    cache: Arc<EventCache>,
    health: Arc<Health>,
    clock: Clock,
    settings: InboxSettings,
    min_free: Option<u64>,
    metrics: Arc<Metrics>,
    /// A deletion may have left bodies in files.
    erasure_pending: AtomicBool,
    /// Retention and deletions hold it to read, a backup to write: it excludes them.
    removals: Arc<RwLock<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Given back when it is closed.
    lock: Mutex<Option<File>>,
}

impl EmbeddedStore {
    pub(super) fn committed(&self) -> watch::Receiver<Seq> {
        self.committed.clone()
    }

    pub(super) fn condition(&self) -> Condition {
        self.health.condition()
    }

    pub(super) fn condemn_if_not_synced(&self, error: &rusqlite::Error) {
        self.health.condemn_if_not_synced(error);
    }

    /// Waits until only a new start can help.
    pub(super) async fn until_condemned(&self) {
        self.health.until_condemned().await;
    }

    /// Checks that the files are still there. [`Self::condition`] has the result.
    pub(super) async fn check_files(&self) -> Result<(), StoreError> {
        let (health, reads) = (self.health.clone(), self.reads.clone());
        let check = move || health.check_files(reads.log.check_files(), false);
        let checked = tokio::task::spawn_blocking(check).await;
        checked.unwrap_or(Err(StoreError::Failed))
    }

    pub(super) async fn accept(
        &self,
        callback: Authentic,
        charge: Option<Charge>,
        unless_ever_stored: bool,
    ) -> Result<Receipt, StoreError> {
        if unless_ever_stored {
            // The log is searched when it is written: nothing can come in between then.
            let id = callback.id();
            if let Some(event) = self.read(move |reads| reads.find_copy(&id)).await? {
                return Ok(Receipt::new(event.seq(), true));
            }
        }
        ask(|reply| {
            self.requests.send(Request::Accept {
                callback,
                charge,
                reply,
                unless_ever_stored,
            });
        })
        .await
    }

    pub(super) async fn after(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        match self.cache.after(seq, limit, bytes) {
            Some(events) => Ok(events),
            None => self.read(move |reads| reads.after(seq, limit, bytes)).await,
        }
    }

    /// As [`after`](Self::after), in the calling thread.
    pub(super) fn after_here(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        match self.cache.after(seq, limit, bytes) {
            Some(events) => Ok(events),
            None => logged(self.reads.after(seq, limit, bytes)),
        }
    }

    pub(super) async fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>), StoreError> {
        self.read(move |reads| reads.due(handler, until, latest, limit))
            .await
    }

    pub(super) async fn received_from(
        &self,
        seq: Seq,
    ) -> Result<Option<(Seq, Timestamp)>, StoreError> {
        self.read(move |reads| reads.received_from(seq)).await
    }

    pub(super) async fn parked(
        &self,
        handler: HandlerId,
        beyond: Seq,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        self.read(move |reads| reads.parked(handler, beyond, newest_first, limit))
            .await
    }

    pub(super) async fn search(
        &self,
        filter: EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>, StoreError> {
        self.read(move |reads| reads.search(&filter, beyond, newest_first, limit))
            .await
    }

    pub(super) async fn find(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        self.read(move |reads| reads.find(&id)).await
    }

    pub(super) async fn by_seq(&self, seqs: &[Seq]) -> Result<Vec<Event>, StoreError> {
        let seqs = seqs.to_vec();
        self.read(move |reads| reads.these(&seqs)).await
    }

    pub(super) async fn existing(&self, seqs: &[Seq]) -> Result<Vec<Seq>, StoreError> {
        let seqs = seqs.to_vec();
        self.read(move |reads| reads.existing(&seqs)).await
    }

    /// Writes to the state and to the log, but changes nothing, to find out whether the store works again.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.write(|conn| conn.execute(state_writer::TOUCH, []).map(drop))
            .await?;
        self.read(|reads| Ok(reads.log.check_files()?)).await?;
        ask(|reply| self.requests.send(Request::Probe { reply })).await
    }

    /// Ends the segment that is written to, if it was begun `age` ago or earlier.
    pub(super) async fn end_segment(&self, age: Duration) -> Result<(), StoreError> {
        ask(|reply| self.requests.send(Request::EndSegment { age, reply })).await?;
        // It is sealed then.
        self.maintenance.finish().await
    }

    /// Bytes on the disk.
    pub(super) fn size(&self) -> u64 {
        let entries = std::fs::read_dir(self.path.join("log"));
        let log = entries.into_iter().flatten().flatten();
        let lengths = log.filter_map(|entry| entry.metadata().ok().map(|file| file.len()));
        state_length(&self.path) + lengths.sum::<u64>()
    }

    /// Finishes what was sent before and closes the files.
    pub(super) fn close(&self) {
        self.requests.send(Request::Close);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let was_open = !threads.is_empty();
        // The thread that accepts is the first. The others end after it: with the last connection to the state SQLite's files go,
        // and they are looked for before each answer.
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the inbox had panicked");
            }
            self.maintenance.close();
            self.state.close();
        }
        let idle = self.reads.readers.close();
        if was_open && !self.health.is_in_doubt() && self.health.check_state_files().is_ok() {
            idle.into_iter().for_each(directory::close);
        }
        self.cache.forget(Seq::MAX);
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.state.write(job).await
    }

    async fn read_state<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(move |reads| reads.state(query)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reads) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reads = self.reads.clone();
        let result = tokio::task::spawn_blocking(move || read(&reads)).await;
        result.map_or(Err(StoreError::Failed), logged)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Sends something to a thread of the store, and waits for the reply.
async fn ask<T>(send: impl FnOnce(Reply<T>)) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    send(reply);
    answer.await.unwrap_or(Err(StoreError::Failed))
}

/// Logs why a read failed, unless the store is closed.
fn logged<T>(result: Result<T, ReadError>) -> Result<T, StoreError> {
    result.map_err(|error| {
        if !matches!(error, ReadError::State(rusqlite::Error::InvalidPath(_))) {
            tracing::error!(store.error = %error, "the store could not be read");
        }
        StoreError::Failed
    })
}

#[cfg(test)]
mod tests;
