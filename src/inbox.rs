//! The inbox: it stores each authentic callback before livehook answers, and what handlers still owe.
//!
//! Ingress stores events, dispatch reads them, and neither knows the other. Each engine keeps this
//! contract:
//!
//! 1. [`Inbox::accept`] returns a [`Receipt`] only after the event is on the disk. It is idempotent:
//!    the same id within the duplicate window gets the receipt of the first event. Cancelling the
//!    future does not cancel the write.
//! 2. Events are numbered in arrival order. When [`Inbox::after`] has returned an event, no event
//!    with a lower number appears later.
//! 3. A [`DeliveryCommit`] is written whole or not at all. Commits are written in their order.
//! 4. Retention removes no event that a handler still owes an attempt, and no parked one.
//!    [`Inbox::delete`] does.

macro_rules! on_engine {
    ($self:ident, $store:ident => $call:expr) => {
        match &*$self.engine {
            Engine::Embedded($store) => $call,
            Engine::Postgres($store) => $call,
        }
    };
}

mod arrivals;
pub(crate) mod backup;
mod cluster;
#[cfg(test)]
pub(crate) mod contract;
pub(crate) mod delivery;
mod embedded;
mod error;
mod event_log;
mod postgres;
pub(crate) mod query;
pub(crate) mod rejected;
mod selection;
pub(crate) mod settings;

use std::path::Path;
use std::sync::Arc;

use css_callbacks::{EventId, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use self::arrivals::Arrivals;
use self::backup::{BackupError, BackupProgress};
use self::delivery::{
    DeliveryCommit, DeliveryRow, HandlerId, Owed, Parked, Registered, RowCounts, Start,
};
pub(crate) use self::embedded::{CheckError, StoreCheck, UnfinishedBackup, check_store, is_in_use};
pub(crate) use self::error::OpenError;
pub use self::error::StoreError;
pub(crate) use self::postgres::SharedBoard;
use self::query::{EventFilter, Page};
use self::settings::{InboxSettings, StoreSettings};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::metrics::Metrics;

/// Proof that a callback is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    seq: Seq,
    duplicate: bool,
}

impl Receipt {
    /// Only engines call this, after their commit.
    fn new(seq: Seq, duplicate: bool) -> Self {
        Self { seq, duplicate }
    }

    /// The number of the event.
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the event was stored before.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// Whether the inbox accepts callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Accepting,
    /// It refuses callbacks until there is room on the disk.
    Full,
    /// The last write failed.
    Failing,
}

/// A handle to the inbox. Clones share one store.
#[derive(Clone)]
pub(crate) struct Inbox {
    engine: Arc<Engine>,
    arrivals: Arc<Arrivals>,
}

/// The engines. They store differently and behave the same.
enum Engine {
    Embedded(Box<embedded::EmbeddedStore>),
    Postgres(postgres::PostgresStore),
}

impl Inbox {
    /// Opens the store, or creates it. If another process uses the directory, this waits for up to
    /// `lock_wait`; if no server is there, for up to `connect_wait`.
    pub(crate) async fn open(
        settings: &InboxSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let engine = match &settings.store {
            StoreSettings::Sqlite(own) => {
                let (settings, own, clock) = (settings.clone(), own.clone(), clock.clone());
                let open = move || embedded::EmbeddedStore::open(&settings, &own, clock, metrics);
                let opened = spawn_blocking(open).await;
                let store = opened.map_err(|error| OpenError::Ended(error.to_string()))??;
                Engine::Embedded(Box::new(store))
            }
            StoreSettings::Postgres(own) => {
                let store =
                    postgres::PostgresStore::open(settings, own, clock.clone(), metrics).await?;
                Engine::Postgres(store)
            }
        };
        let committed = match &engine {
            Engine::Embedded(store) => store.committed(),
            Engine::Postgres(store) => store.committed(),
        };
        Ok(Self {
            engine: Arc::new(engine),
            arrivals: Arc::new(Arrivals::new(clock, committed)),
        })
    }

    /// Stores a callback, unless its id was stored within the duplicate window. `charge` is held until
    /// the commit.
    pub(crate) async fn accept(
        &self,
        callback: Authentic,
        charge: Option<Charge>,
    ) -> Result<Receipt, StoreError> {
        on_engine!(self, store => store.accept(callback, charge, false).await)
    }

    /// Stores a callback that was refused before, unless its id was ever stored.
    pub(crate) async fn accept_late(&self, callback: Authentic) -> Result<Receipt, StoreError> {
        on_engine!(self, store => store.accept(callback, None, true).await)
    }

    /// The number of the newest event. The receiver is notified of newer ones.
    pub(crate) fn committed(&self) -> watch::Receiver<Seq> {
        on_engine!(self, store => store.committed())
    }

    pub(crate) fn condition(&self) -> Condition {
        on_engine!(self, store => store.condition())
    }

    /// Gives each configured handler its number and position, durably. All other handlers count as
    /// missing from now on.
    pub(crate) async fn register(
        &self,
        configured: Vec<(String, Start)>,
    ) -> Result<Vec<Registered>, StoreError> {
        on_engine!(self, store => store.register(configured).await)
    }

    /// Writes what became of a handler's deliveries.
    pub(crate) async fn commit(
        &self,
        handler: HandlerId,
        commit: DeliveryCommit,
    ) -> Result<(), StoreError> {
        on_engine!(self, store => store.commit(handler, commit).await)
    }

    /// The events after `seq` in order: at most `limit`, and no more once their bodies exceed `bytes`
    /// bytes; but at least one, if there is one.
    pub(crate) async fn after(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        on_engine!(self, store => store.after(seq, limit, bytes).await)
    }

    /// As [`after`](Self::after), but an embedded store reads in the calling thread, which may block.
    pub(crate) async fn after_at_rest(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        match &*self.engine {
            Engine::Embedded(store) => store.after_here(seq, limit, bytes),
            Engine::Postgres(store) => store.after(seq, limit, bytes).await,
        }
    }

    /// The deliveries of a handler that are due at `until`, the longest due first, and when the next
    /// one after them is due. A due time beyond `latest` was written by a wrong clock, because nobody
    /// has to wait that long: such a delivery is due now.
    pub(crate) async fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>), StoreError> {
        on_engine!(self, store => store.due(handler, until, latest, limit).await)
    }

    /// The events with these numbers, in order. Missing ones are left out.
    pub(crate) async fn by_seq(&self, mut seqs: Vec<Seq>) -> Result<Vec<Event>, StoreError> {
        seqs.sort_unstable();
        on_engine!(self, store => store.by_seq(&seqs).await)
    }

    /// Those of these numbers whose events are stored.
    pub(crate) async fn existing(&self, seqs: Vec<Seq>) -> Result<Vec<Seq>, StoreError> {
        on_engine!(self, store => store.existing(&seqs).await)
    }

    /// Keeps these events from retention for a handler, until
    /// [`discard_events`](Self::discard_events).
    pub(crate) async fn pin(&self, handler: HandlerId, seqs: Vec<Seq>) -> Result<(), StoreError> {
        on_engine!(self, store => store.pin(handler, &seqs).await)
    }

    pub(crate) async fn count(&self, handler: HandlerId) -> Result<RowCounts, StoreError> {
        on_engine!(self, store => store.count(handler).await)
    }

    /// The first event at or after `seq` that is still stored, and when it arrived.
    pub(crate) async fn received_from(
        &self,
        seq: Seq,
    ) -> Result<Option<(Seq, Timestamp)>, StoreError> {
        on_engine!(self, store => store.received_from(seq).await)
    }

    /// The parked deliveries of a handler after the event `beyond`, in the order of their events or
    /// newest first. The events have no bodies.
    pub(crate) async fn parked(
        &self,
        handler: HandlerId,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Parked>, StoreError> {
        let beyond = beyond.unwrap_or(if newest_first { Seq::MAX } else { 0 });
        let mut items = on_engine!(self, store => store.parked(handler, beyond, newest_first, limit + 1).await)?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items
            .last()
            .filter(|_| more)
            .map(|parked| parked.event.seq());
        Ok(Page { items, next })
    }

    /// The events after the event `beyond` that pass the filter, in arrival order or newest first,
    /// without their bodies.
    pub(crate) async fn search(
        &self,
        filter: EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>, StoreError> {
        on_engine!(self, store => store.search(filter, beyond, newest_first, limit).await)
    }

    /// The newest event with this id.
    pub(crate) async fn find(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        on_engine!(self, store => store.find(id).await)
    }

    /// Removes these events for good, with the rows of all handlers, also of those that are not
    /// configured, and returns how many there were. Their lanes go on. They stay removed after a crash,
    /// and the same callbacks are new when they come again.
    ///
    /// The number of transactions does not depend on the number of events, and each has to be short:
    /// pass a few hundred events.
    pub(crate) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        on_engine!(self, store => store.delete(seqs).await)
    }

    /// Ends the file of the log that an embedded store writes to, so that retention can remove it.
    #[cfg(test)]
    pub(crate) async fn end_segment(&self) {
        if let Engine::Embedded(store) = &*self.engine {
            store.end_segment(std::time::Duration::ZERO).await.unwrap();
        }
    }

    /// Runs one round of retention. Returns `true` if there is more to do.
    pub(crate) async fn sweep(&self) -> Result<bool, StoreError> {
        on_engine!(self, store => store.sweep().await)
    }

    /// Tries whether a store that failed or was full works again. It changes only [`Inbox::condition`].
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        on_engine!(self, store => store.probe().await)
    }

    /// Checks that the files of an embedded store are still in their place. It changes only
    /// [`Inbox::condition`].
    pub(crate) async fn check_files(&self) {
        if let Engine::Embedded(store) = &*self.engine {
            let _ = store.check_files().await; // the condition has the result
        }
    }

    /// Reports an error of another file in the store's directory. If that file could not be synced,
    /// the store fails too, until a new start: nothing that this disk says can be trusted.
    pub(crate) fn condemn_if_not_synced(&self, error: &rusqlite::Error) {
        if let Engine::Embedded(store) = &*self.engine {
            store.condemn_if_not_synced(error);
        }
    }

    /// Waits until the store has failed so that only a new start can tell what is on the disk.
    pub(crate) async fn until_condemned(&self) {
        match &*self.engine {
            Engine::Embedded(store) => store.until_condemned().await,
            Engine::Postgres(_) => std::future::pending().await,
        }
    }

    /// Bytes on the disk.
    pub(crate) fn size(&self) -> u64 {
        on_engine!(self, store => store.size())
    }

    /// Copies an embedded store into a directory that does not exist or is empty. Retention and deletions wait until the backup is
    /// finished or dropped. `beside`: bytes that the caller adds to it.
    pub(crate) async fn back_up(
        &self,
        directory: &Path,
        beside: u64,
        progress: Arc<BackupProgress>,
    ) -> Result<UnfinishedBackup, BackupError> {
        match &*self.engine {
            Engine::Embedded(store) => store.back_up(directory, beside, progress).await,
            Engine::Postgres(_) => Err(BackupError::Postgres),
        }
    }

    /// Finishes what was begun and closes the store. Later calls fail.
    pub(crate) async fn close(&self) {
        match &*self.engine {
            Engine::Embedded(_) => {
                let inbox = self.clone();
                let close = move || match &*inbox.engine {
                    Engine::Embedded(store) => store.close(),
                    Engine::Postgres(_) => {}
                };
                if spawn_blocking(close).await.is_err() {
                    tracing::error!("the inbox could not be closed");
                }
            }
            Engine::Postgres(store) => store.close().await,
        }
    }

    /// What a worker must know to deliver for this handler from now on.
    pub(crate) async fn resume(&self, handler: HandlerId) -> Result<Registered, StoreError> {
        on_engine!(self, store => store.resume(handler).await)
    }

    /// Pauses a handler or resumes it, durably. Its deliveries do not age while it is paused: when it is
    /// resumed, their first attempts are dated later by the length of the pause.
    pub(crate) async fn pause(
        &self,
        handler: HandlerId,
        paused: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_engine!(self, store => store.pause(handler, paused, now).await)
    }

    /// The row of a handler's delivery, if it has one.
    pub(crate) async fn delivery_row(
        &self,
        handler: HandlerId,
        seq: Seq,
    ) -> Result<Option<DeliveryRow>, StoreError> {
        on_engine!(self, store => store.delivery_row(handler, seq).await)
    }

    /// The handler's position: up to here each event is finished or has a row.
    pub(crate) async fn position(&self, handler: HandlerId) -> Result<Seq, StoreError> {
        on_engine!(self, store => store.position(handler).await)
    }
}
