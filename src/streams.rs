//! The board of streams: which streams are live, and since when.
//!
//! The rule in [`crate::stream`] decides whether a stream is live. The board reads the events of the
//! inbox like a handler, with a position of its own. When a change has lasted for the debounce (the
//! option `settle`), the board announces it: it stores an event in the inbox, and the handlers that
//! name its kind receive it.

mod announce;
mod detail;
mod feed;
mod retention;
pub(crate) mod settings;
mod shelf;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use css_callbacks::Timestamp;
use tokio::task::spawn_blocking;

pub(crate) use self::announce::Subscribed;
pub(crate) use self::detail::{Recording, SessionDetail, StreamDetail};
pub(crate) use self::feed::NAME;
use self::settings::StreamsSettings;
use self::shelf::{Reader, Shelf};
use crate::clock::{AgeCutoff, Clock};
use crate::event::Seq;
use crate::inbox::query::Page;
use crate::inbox::{Inbox, SharedBoard, StoreError};
use crate::metrics::Metrics;
use crate::stream::{FactsWritten, StreamFact, StreamKey, StreamQuery, StreamRecord, StreamRow};

/// Where the board is stored.
#[derive(Clone)]
enum BoardBackend {
    File {
        store: Arc<Mutex<Shelf>>,
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
                let store = Shelf::open(&file)?;
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
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.list(&wanted, after, limit + 1)).await?
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
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.find(&key)).await
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
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.details(no, before, limit)).await
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
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.changed(since, limit)).await
            }
            BoardBackend::Shared(board) => board.changed(since, limit).await,
        }
    }

    /// The highest revision.
    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        match &self.backend {
            BoardBackend::File { reader, .. } => read(reader, |reader| reader.revision()).await,
            BoardBackend::Shared(board) => board.revision().await,
        }
    }

    /// Updates the gauges of live and stale streams.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        let stale = AgeCutoff::older_than(self.settings.stale_after, self.clock.now());
        let (live, stale) = match &self.backend {
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.measure(stale)).await?
            }
            BoardBackend::Shared(board) => board.measure(stale).await?,
        };
        self.metrics.show_live(&self.settings.domains, live);
        let stale = i64::try_from(stale).unwrap_or(i64::MAX);
        self.metrics.streams_stale.set(stale);
        Ok(())
    }

    /// Stores facts. With `reindexed`, a range of the inbox that the facts cover completely, they
    /// replace the stored facts of that range.
    async fn apply(
        &self,
        facts: Vec<StreamFact>,
        reindexed: Option<(Seq, Seq)>,
    ) -> Result<(), StoreError> {
        let debounce_until = self.debounce_until();
        let written = match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, move |store| {
                    store.apply(&facts, reindexed, debounce_until)
                })
                .await?
            }
            BoardBackend::Shared(board) => board.apply(&facts, reindexed, debounce_until).await?,
        };
        self.count_flaps(written);
        Ok(())
    }

    /// Forgets the facts of events that were removed from the inbox.
    async fn forget(&self, seqs: Vec<Seq>) -> Result<(), StoreError> {
        let debounce_until = self.debounce_until();
        match &self.backend {
            BoardBackend::File { store, .. } => {
                let forget = move |store: &mut Shelf| store.forget(&seqs, debounce_until);
                self.write(store, forget).await.map(drop)
            }
            BoardBackend::Shared(board) => board.forget(&seqs, debounce_until).await,
        }
    }

    /// Changes the file on a blocking thread, so that the runtime does not wait for the disk.
    async fn write<T: Send + 'static>(
        &self,
        store: &Arc<Mutex<Shelf>>,
        change: impl FnOnce(&mut Shelf) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = store.clone();
        let result = spawn_blocking(move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut store)
        });
        self.check_sync(joined(result.await))
    }

    /// Condemns the inbox if a sync failed. Such a failure is as bad here as in the inbox: after a
    /// power cut the board could lack facts whose events are already removed.
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

async fn read<T: Send + 'static>(
    reader: &Arc<Mutex<Reader>>,
    query: impl FnOnce(&Reader) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let reader = reader.clone();
    let result = spawn_blocking(move || {
        let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        query(&reader)
    });
    log_failure(joined(result.await))
}

fn joined<T>(result: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> rusqlite::Result<T> {
    result.unwrap_or(Err(rusqlite::Error::UnwindingPanic))
}

/// Logs the first failure since the last success. Most calls repeat every second, so logging each
/// failure would flood the log.
fn log_failure<T>(result: rusqlite::Result<T>) -> Result<T, StoreError> {
    static FAILING: AtomicBool = AtomicBool::new(false);
    let failed = FAILING.swap(result.is_err(), Ordering::Relaxed);
    result.map_err(|error| {
        if !failed {
            tracing::error!(store.error = %error, "the board of streams cannot be read or written: it may show old data until this works again");
        }
        StoreError::Failed
    })
}
