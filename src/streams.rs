//! The board of streams: which of them are live, and since when.
//!
//! What makes a stream live is a rule of [`crate::stream`]. The facts are fed in like to a handler, behind a position of their
//! own. A change that lasts for `settle` is told to handlers that ask for it, as an event in the inbox.

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
use crate::clock::{Clock, Old};
use crate::event::Seq;
use crate::inbox::query::Page;
use crate::inbox::{Inbox, SharedBoard, StoreError};
use crate::metrics::Metrics;
use crate::stream::{self, FactsWritten, StreamKey, StreamQuery, StreamRecord, StreamRow};

/// Where the board is.
#[derive(Clone)]
enum BoardBackend {
    File {
        shelf: Arc<Mutex<Shelf>>,
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
    passes: Arc<tokio::sync::Mutex<retention::Passes>>,
}

impl Board {
    /// Opens or creates it: in `directory`, or in the inbox if it is shared.
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
                let shelf = Shelf::open(&file)?;
                BoardBackend::File {
                    shelf: Arc::new(Mutex::new(shelf)),
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
            passes: Arc::default(),
        })
    }

    /// The streams after `after`, in the order in which they were first heard of.
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

    /// One stream.
    pub(crate) async fn find(&self, key: StreamKey) -> Result<Option<StreamRow>, StoreError> {
        match &self.backend {
            BoardBackend::File { reader, .. } => {
                read(reader, move |reader| reader.find(&key)).await
            }
            BoardBackend::Shared(board) => board.find(&key).await,
        }
    }

    /// A stream's newest sessions and its events from before the event `before`, up to `limit` of each and one event more.
    pub(crate) async fn details(
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

    /// The streams that have changed since a revision, in the order in which they did.
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

    /// The newest revision.
    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        match &self.backend {
            BoardBackend::File { reader, .. } => read(reader, |reader| reader.revision()).await,
            BoardBackend::Shared(board) => board.revision().await,
        }
    }

    /// Brings its gauges up to date.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        let stale = Old::than(self.settings.stale_after, self.clock.now());
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

    /// Takes facts in; of what stands in the inbox within `instead` these are all there are.
    async fn apply(
        &self,
        told: Vec<stream::StreamFact>,
        instead: Option<(Seq, Seq)>,
    ) -> Result<(), StoreError> {
        let settle_at = self.settle_at();
        let written = match &self.backend {
            BoardBackend::File { shelf, .. } => {
                self.write(shelf, move |shelf| shelf.apply(&told, instead, settle_at))
                    .await?
            }
            BoardBackend::Shared(board) => board.apply(&told, instead, settle_at).await?,
        };
        self.count(written);
        Ok(())
    }

    /// Forgets facts.
    async fn forget(&self, seqs: Vec<Seq>) -> Result<(), StoreError> {
        let settle_at = self.settle_at();
        match &self.backend {
            BoardBackend::File { shelf, .. } => {
                let forget = move |shelf: &mut Shelf| shelf.forget(&seqs, settle_at);
                self.write(shelf, forget).await.map(drop)
            }
            BoardBackend::Shared(board) => board.forget(&seqs, settle_at).await,
        }
    }

    /// Has the file changed, off the runtime.
    async fn write<T: Send + 'static>(
        &self,
        shelf: &Arc<Mutex<Shelf>>,
        change: impl FnOnce(&mut Shelf) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shelf = shelf.clone();
        let result = spawn_blocking(move || {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut shelf)
        });
        self.doubt(ended(result.await))
    }

    /// What was written, or that it failed. A sync that failed is as bad here as in the inbox: what the board had of events that
    /// are removed by now could be lost in a power cut.
    fn doubt<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.inbox.condemn_if_not_synced(error);
        }
        told_of(result)
    }

    fn count(&self, written: FactsWritten) {
        self.metrics.stream_flaps.inc_by(written.flaps);
    }

    /// When a change of now is told if it lasts, in the steady time.
    fn settle_at(&self) -> Timestamp {
        self.clock.steady().plus(self.settings.settle)
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
    told_of(ended(result.await))
}

fn ended<T>(result: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> rusqlite::Result<T> {
    result.unwrap_or(Err(rusqlite::Error::UnwindingPanic))
}

/// The log says how it failed, once until something works again: most of it is tried every second.
fn told_of<T>(result: rusqlite::Result<T>) -> Result<T, StoreError> {
    static FAILING: AtomicBool = AtomicBool::new(false);
    let failed = FAILING.swap(result.is_err(), Ordering::Relaxed);
    result.map_err(|error| {
        if !failed {
            tracing::error!(store.error = %error, "the board of streams failed, and shows what it had");
        }
        StoreError::Failed
    })
}
