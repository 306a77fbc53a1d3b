//! The rejected list: callbacks that were refused with 401, and callbacks to URLs of no source. They
//! are kept so that a mistyped key or URL loses nothing.
//!
//! The list has its own file and thread, and is never in the transaction of a callback. For each
//! source and reason it keeps only the newest entries, so that a flood of forgeries only pushes out
//! forgeries. It takes at most `PER_SECOND` entries of a source and reason in a second, so that a
//! flood costs little. All URLs of no source count as one source, [`UNKNOWN_SOURCE`]. Forged signatures and a
//! mistyped key have the same reason and share one limit; but if the URL has a token, most forgeries
//! have another reason.

mod shared;
mod sqlite;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use self::shared::SharedStore;
use self::sqlite::{RejectedReader, SqliteStore};
use crate::event::Event;
use crate::inbox::query::{EventFilter, Page};
pub(crate) use crate::inbox::rejected::{Reason, RejectedEntry, RejectedQuery};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::Metrics;
pub(crate) use crate::source::UNKNOWN_SOURCE;

/// Longer bodies are not kept, only their size.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Kept entries of each source and reason.
const ENTRIES: u64 = 1000;
/// Kept bytes of bodies of each source and reason.
const BYTES: u64 = 16 << 20;
/// New entries in a second of each source and reason.
const PER_SECOND: u32 = 50;
/// Entries that wait to be written: 4 MiB, if all bodies are as long as they may be.
const QUEUE: usize = 64;
/// How many entries a deletion reads at once.
const CHUNK: usize = 200;
/// Bytes of bodies in one page of the list.
const PAGE: u64 = 4 << 20;

/// A refused callback.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    pub reason: Reason,
    pub received: Timestamp,
    /// The source whose URL was called, or [`UNKNOWN_SOURCE`].
    pub source: Arc<str>,
    /// The kind whose URL was called.
    pub url_kind: Option<Kind>,
    /// The kind, from the body or else the URL; not authenticated.
    pub kind: Kind,
    pub client: Option<IpAddr>,
    /// SHA-256 of the presented token. The token itself is not kept.
    pub token_hash: Option<[u8; 32]>,
    /// Bytes of the body.
    pub size: usize,
    /// The body as received. It is not kept if it is longer than [`MAX_BODY`].
    pub body: Bytes,
}

impl Rejected {
    /// The body, unless it is too long to be kept.
    fn kept_body(&self) -> Option<&[u8]> {
        Some(&self.body[..]).filter(|_| self.size <= MAX_BODY)
    }
}

/// A page from rows, of which one more was read than the page may have. The page ends once its bodies
/// exceed [`PAGE`] bytes.
fn to_page<E>(
    rows: impl Iterator<Item = Result<RejectedEntry, E>>,
    limit: usize,
) -> Result<Page<RejectedEntry>, E> {
    let mut items: Vec<RejectedEntry> = Vec::new();
    let mut bytes = 0;
    let mut has_more = false;
    for entry in rows {
        // The query may have ended for the same reason; see below.
        has_more = items.len() == limit || bytes > PAGE;
        if has_more {
            break;
        }
        let entry = entry?;
        bytes += entry.body.as_ref().map_or(0, |body| body.len() as u64);
        items.push(entry);
    }
    let last = items.last().map(|entry| entry.id);
    Ok(Page {
        next: last.filter(|_| has_more || bytes > PAGE),
        items,
    })
}

/// A second since 1970, and how many entries came in it.
type Second = (i64, u32);

enum ListCommand {
    Keep(Rejected),
    Remove(Vec<i64>, oneshot::Sender<Result<(), StoreError>>),
}

/// Where pages of the list are read.
enum RejectedBackend {
    File(Arc<Mutex<RejectedReader>>),
    Shared(Inbox),
}

/// The file of the list.
pub(crate) const FILE: &str = "rejected.db";

/// The rejected list.
pub(crate) struct RejectedList {
    queue: Mutex<Option<SyncSender<ListCommand>>>,
    rates: Mutex<HashMap<(Arc<str>, Reason), Second>>,
    backend: RejectedBackend,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Writes to the list, in its thread.
trait Write: Send + 'static {
    fn keep(&mut self, batch: &[Rejected]) -> Result<(), String>;
    fn remove(&mut self, ids: &[i64]) -> Result<(), String>;
}

impl RejectedList {
    /// Opens or creates the list in the inbox's directory.
    pub(crate) fn open(directory: &Path, metrics: Arc<Metrics>) -> rusqlite::Result<Self> {
        let file = directory.join(FILE);
        let store = SqliteStore::open(&file)?;
        let reader = Arc::new(Mutex::new(RejectedReader::open(&file)?));
        Ok(Self::start(store, RejectedBackend::File(reader), metrics))
    }

    /// The list in an inbox that several processes share. It must be called in a runtime.
    pub(crate) fn shared(inbox: Inbox, metrics: Arc<Metrics>) -> Self {
        Self::start(
            SharedStore::new(inbox.clone()),
            RejectedBackend::Shared(inbox),
            metrics,
        )
    }

    fn start(store: impl Write, backend: RejectedBackend, metrics: Arc<Metrics>) -> Self {
        let (queue, received) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("rejected".to_owned())
            .spawn(move || run(&received, store));
        Self {
            queue: Mutex::new(Some(queue)),
            rates: Mutex::default(),
            backend,
            metrics,
            thread: Mutex::new(thread.ok()),
        }
    }

    /// Keeps a refused callback. If too many come at once, it is dropped and counted. Never waits.
    pub(crate) fn keep(&self, mut rejected: Rejected) {
        // The queue is not in the budget of bodies in flight, so it must not hold long ones.
        if rejected.size > MAX_BODY {
            rejected.body = Bytes::new();
        }
        let kept = self.is_within_rate(&rejected)
            && match self.queue() {
                Some(queue) => queue.try_send(ListCommand::Keep(rejected)).is_ok(),
                None => false,
            };
        if !kept {
            self.metrics.rejected_dropped.inc();
        }
    }

    fn queue(&self) -> Option<SyncSender<ListCommand>> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.clone()
    }

    fn is_within_rate(&self, rejected: &Rejected) -> bool {
        let second = rejected.received.seconds();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = rates
            .entry((rejected.source.clone(), rejected.reason))
            .or_default();
        if entry.0 != second {
            *entry = (second, 0);
        }
        entry.1 += 1;
        entry.1 <= PER_SECOND
    }

    /// A page of the list, up to `limit` entries.
    pub(crate) async fn page(
        &self,
        wanted: RejectedQuery,
        limit: usize,
    ) -> Result<Page<RejectedEntry>, StoreError> {
        let reader = match &self.backend {
            RejectedBackend::Shared(inbox) => {
                let rows = inbox.rejected(&wanted, limit + 1, PAGE).await?;
                return to_page(rows.into_iter().map(Ok), limit);
            }
            RejectedBackend::File(reader) => reader.clone(),
        };
        let page = spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.page(&wanted, limit)
        });
        page.await.unwrap_or(Err(StoreError::Failed))
    }

    /// How many bytes the file of the list has. A list in a shared inbox has none.
    pub(crate) async fn size(&self) -> rusqlite::Result<u64> {
        self.with_file(|reader| reader.size()).await
    }

    /// Copies the file of the list into a file that does not exist. Entries that wait to be written are left out.
    pub(crate) async fn copy_into(&self, file: PathBuf) -> rusqlite::Result<()> {
        self.with_file(move |reader| reader.copy_into(&file)).await
    }

    async fn with_file<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&RejectedReader) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let RejectedBackend::File(reader) = &self.backend else {
            return Ok(T::default());
        };
        let reader = reader.clone();
        let done = spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            work(&reader)
        });
        // A panic was printed already.
        done.await.unwrap_or(Err(rusqlite::Error::InvalidQuery))
    }

    /// Removes entries from the list. Missing ones are ignored.
    pub(crate) async fn remove(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        let Some(queue) = self.queue() else {
            return Err(StoreError::Failed);
        };
        let (reply, answer) = oneshot::channel();
        // This may wait for room in the queue; `keep` may not.
        let sent = spawn_blocking(move || queue.send(ListCommand::Remove(ids, reply)).is_ok());
        if !sent.await.unwrap_or(false) {
            return Err(StoreError::Failed);
        }
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    /// Removes the entries whose bodies pass the filter, because the events of that filter are deleted.
    pub(crate) async fn forget_deleted(&self, filter: &EventFilter) -> Result<(), StoreError> {
        let mut wanted = RejectedQuery {
            source: filter.source.clone(),
            kind: filter.kind,
            from: filter.from,
            to: filter.to,
            ..RejectedQuery::default()
        };
        loop {
            let page = self.page(wanted.clone(), CHUNK).await?;
            let found = page.items.iter().filter(|entry| is_of(entry, filter));
            let found: Vec<i64> = found.map(|entry| entry.id).collect();
            if !found.is_empty() {
                self.remove(found).await?;
            }
            match page.next {
                Some(next) => wanted.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Writes the entries in the queue and closes the file.
    pub(crate) fn close(&self) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the rejected list panicked");
        }
    }
}

impl Drop for RejectedList {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether the body of an entry would be an event that passes the filter.
fn is_of(entry: &RejectedEntry, filter: &EventFilter) -> bool {
    let Some(body) = entry.body.clone() else {
        return false;
    };
    let id = EventId::from_bytes([0; 16]);
    let source = entry.source.as_str().into();
    filter.matches(&Event::new(0, id, source, entry.kind, entry.received, body))
}

fn run(queue: &Receiver<ListCommand>, mut store: impl Write) {
    while let Ok(first) = queue.recv() {
        let mut batch = Vec::new();
        for work in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            match work {
                ListCommand::Keep(rejected) => batch.push(rejected),
                ListCommand::Remove(ids, reply) => {
                    let removed = store.remove(&ids);
                    let removed = removed.map_err(|error| failed("removed from", &error));
                    let _ = reply.send(removed); // the caller may have stopped waiting
                }
            }
        }
        if !batch.is_empty()
            && let Err(error) = store.keep(&batch)
        {
            failed("added to", &error);
        }
    }
}

fn failed(what: &str, error: &str) -> StoreError {
    tracing::warn!(
        store.error = error,
        "refused callbacks could not be {what} the rejected list"
    );
    StoreError::Failed
}

#[cfg(test)]
mod tests;
