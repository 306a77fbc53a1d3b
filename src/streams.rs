//! The board of streams: which streams are live, and since when.
//!
//! The rule in [`crate::stream`] decides whether a stream is live. The board is a projection of the
//! inbox: it reads all events behind a position of its own, and writes what follows from them later,
//! many at once. When a change has lasted for the debounce (the option `settle`), the board announces
//! it: it stores an event in the inbox, and the handlers that name its kind receive it.

mod announce;
mod detail;
mod feed;
mod forget;
mod retention;
pub(crate) mod settings;
mod store;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use css_callbacks::Timestamp;
use tokio::task::spawn_blocking;

pub(crate) use self::announce::Subscribed;
pub(crate) use self::detail::{Recording, SessionDetail, StreamDetail};
pub(crate) use self::feed::NAME;
use self::settings::StreamsSettings;
use self::store::{Reader, Store};
use crate::clock::{AgeCutoff, Clock};
use crate::event::Seq;
use crate::inbox::query::Page;
use crate::inbox::{Inbox, SharedBoard, StoreError};
use crate::metrics::Metrics;
use crate::stream::{FactsWritten, StreamKey, StreamQuery, StreamRecord, StreamRow};

/// Where the board is stored.
#[derive(Clone)]
enum BoardBackend {
    File {
        store: Arc<Mutex<Store>>,
        reader: Arc<Mutex<Reader>>,
    },
    Shared(SharedBoard),
}

/// A handle to the board.
#[derive(Clone)]
pub(crate) struct Board {
    backend: BoardBackend,
    inbox: Inbox,
    clock: Clock,
    metrics: Arc<Metrics>,
    settings: StreamsSettings,
    sweeps: Arc<tokio::sync::Mutex<retention::SweepState>>,
}

impl Board {
    /// Opens or creates the board: in `directory`, or in the database if receivers share the inbox.
    pub(crate) fn open(
        directory: &Path,
        inbox: Inbox,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: StreamsSettings,
    ) -> rusqlite::Result<Self> {
        let backend = match inbox.shared_board() {
            Some(board) => BoardBackend::Shared(board),
            None => {
                let file = directory.join("streams.db");
                let newest = *inbox.committed().borrow();
                let store = Store::open(&file, newest)?;
                BoardBackend::File {
                    store: Arc::new(Mutex::new(store)),
                    reader: Arc::new(Mutex::new(Reader::open(&file)?)),
                }
            }
        };
        Ok(Self {
            backend,
            inbox,
            clock,
            metrics,
            settings,
            sweeps: Arc::default(),
        })
    }

    /// Lists streams by number, from the first one after `after`.
    pub(crate) async fn list(
        &self,
        wanted: StreamQuery,
        after: i64,
        limit: usize,
    ) -> Result<Page<StreamRow>, StoreError> {
        let mut items = match &self.backend {
            BoardBackend::File { store, reader } => {
                let query = move |reader: &Reader| reader.list(&wanted, after, limit + 1);
                self.read(store, reader, query).await?
            }
            BoardBackend::Shared(board) => board.list(&wanted, after, limit + 1).await?,
        };
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|stream| stream.no);
        Ok(Page { items, next })
    }

    pub(crate) async fn find(&self, key: StreamKey) -> Result<Option<StreamRow>, StoreError> {
        match &self.backend {
            BoardBackend::File { store, reader } => {
                self.read(store, reader, move |reader| reader.find(&key))
                    .await
            }
            BoardBackend::Shared(board) => board.find(&key).await,
        }
    }

    /// Reads a stream's newest sessions and its events before the event `before`: up to `limit`
    /// sessions and `limit` + 1 events.
    async fn record(
        &self,
        stream: &StreamRow,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<StreamRecord, StoreError> {
        let no = stream.no;
        match &self.backend {
            BoardBackend::File { store, reader } => {
                let query = move |reader: &Reader| reader.record(no, before, limit);
                self.read(store, reader, query).await
            }
            BoardBackend::Shared(board) => board.details(no, before, limit).await,
        }
    }

    /// The streams with a revision above `since`, in the order of revisions.
    pub(crate) async fn changed(
        &self,
        since: i64,
        limit: usize,
    ) -> Result<Vec<StreamRow>, StoreError> {
        match &self.backend {
            // Whoever asks often does not make it write unless something has changed.
            BoardBackend::File { .. } if self.revision().await? <= since => Ok(Vec::new()),
            BoardBackend::File { store, reader } => {
                let query = move |reader: &Reader| reader.changed(since, limit);
                self.read(store, reader, query).await
            }
            BoardBackend::Shared(board) => board.changed(since, limit).await,
        }
    }

    /// The highest revision.
    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, |store| Ok(store.revision())).await
            }
            BoardBackend::Shared(board) => board.revision().await,
        }
    }

    /// Updates the gauges of live and stale streams.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        let stale = AgeCutoff::older_than(self.settings.stale_after, self.clock.now());
        let (live, stale) = match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, move |store| store.measure(stale)).await?
            }
            BoardBackend::Shared(board) => board.measure(stale).await?,
        };
        self.metrics.show_live(&self.settings.domains, live);
        let stale = i64::try_from(stale).unwrap_or(i64::MAX);
        self.metrics.streams_stale.set(stale);
        Ok(())
    }

    /// Reads the file, after everything is in it, on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        store: &Arc<Mutex<Store>>,
        reader: &Arc<Mutex<Reader>>,
        query: impl FnOnce(&Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        // If this fails, old data is better than none.
        let _ = self.write(store, Store::flush_for_readers).await;
        let reader = reader.clone();
        let result = spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            query(&reader)
        });
        log_failure(joined(result.await))
    }

    /// Works with the store on a blocking thread, so that the runtime does not wait for the disk.
    async fn write<T: Send + 'static>(
        &self,
        store: &Arc<Mutex<Store>>,
        change: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = store.clone();
        let result = spawn_blocking(move || change(&mut locked(&store)));
        self.check_sync(joined(result.await))
    }

    /// Condemns the inbox if a sync failed. Such a failure is as bad here as in the inbox: after a
    /// power cut the board could lack what follows from events that are already removed.
    fn check_sync<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.inbox.condemn_if_not_synced(error);
        }
        log_failure(result)
    }

    fn count_flaps(&self, written: FactsWritten) {
        self.metrics.stream_flaps.inc_by(written.flaps);
    }

    /// When a change of now is announced if it lasts, by the steady clock.
    fn debounce_until(&self) -> Timestamp {
        self.clock.steady().plus(self.settings.debounce)
    }
}

fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn joined<T>(result: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> rusqlite::Result<T> {
    result.unwrap_or(Err(rusqlite::Error::UnwindingPanic))
}

/// Logs a failure, but not another one within a minute: most calls repeat every second.
fn log_failure<T>(result: rusqlite::Result<T>) -> Result<T, StoreError> {
    static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);
    result.map_err(|error| {
        let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|logged| logged.elapsed() > Duration::from_secs(60)) {
            *logged = Some(Instant::now());
            tracing::error!(store.error = %error, "the board of streams cannot be read or written: it may show old data until this works again");
        }
        StoreError::Failed
    })
}
