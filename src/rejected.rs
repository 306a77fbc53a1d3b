//! The rejected list: what was refused with 401, kept so that a mis-typed key costs nothing, and what came to a URL that is
//! nobody's, kept so that a mis-typed URL costs nothing.
//!
//! It has a file and a thread of its own and never a part in a callback's transaction. What it holds is bounded per source
//! and reason, the newest kept, so that a flood of forgeries only pushes out forgeries; and no more than `PER_SECOND` of a
//! source and reason are taken in a second, so that a flood costs little. All URLs that are nobody's count as one source,
//! [`NOBODY`]. A flood of forged signatures and a mis-typed key
//! have the same reason, and share what is kept: with a token in the URL, forgeries have another.

mod shared;
mod sqlite;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use css_callbacks::{Kind, Timestamp};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use self::shared::SharedStore;
use self::sqlite::{RejectedReader, SqliteStore};
use crate::inbox::query::Page;
pub(crate) use crate::inbox::rejected::{Reason, RejectedEntry, RejectedQuery};
use crate::inbox::{Inbox, StoreError};
use crate::metrics::Metrics;
pub(crate) use crate::source::NOBODY;

/// Longer bodies are listed without their text.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// At most so many entries per source and reason.
const ENTRIES: u64 = 1000;
/// At most so many bytes of bodies per source and reason.
const BYTES: u64 = 16 << 20;
/// Taken in a second per source and reason.
const PER_SECOND: u32 = 50;
/// Waiting to be written: with the longest bodies 4 MiB.
const QUEUE: usize = 64;
/// Bytes of bodies in one page of the list.
const PAGE: u64 = 4 << 20;

/// A refused callback.
#[derive(Debug, Clone)]
pub(crate) struct Rejected {
    /// Why.
    pub reason: Reason,
    /// When it arrived.
    pub received: Timestamp,
    /// The source whose URL was called, or [`NOBODY`].
    pub source: Arc<str>,
    /// The kind whose URL was called.
    pub url_kind: Option<Kind>,
    /// The kind it would have had.
    pub kind: Kind,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// SHA-256 of the presented token, so that the token itself is not kept.
    pub token_hash: Option<[u8; 32]>,
    /// Bytes of the body.
    pub size: usize,
    /// The body as received; what is longer than [`MAX_BODY`] is not kept.
    pub body: Bytes,
}

impl Rejected {
    /// The body, unless it is too long to be kept.
    fn kept_body(&self) -> Option<&[u8]> {
        Some(&self.body[..]).filter(|_| self.size <= MAX_BODY)
    }
}

/// A part of the list from one row more than is wanted: no more once their bodies exceed [`PAGE`].
fn to_page<E>(
    rows: impl Iterator<Item = Result<RejectedEntry, E>>,
    limit: usize,
) -> Result<Page<RejectedEntry>, E> {
    let mut items: Vec<RejectedEntry> = Vec::new();
    let mut held = 0;
    let mut has_more = false;
    for entry in rows {
        // What is read may also end for the same reason.
        has_more = items.len() == limit || held > PAGE;
        if has_more {
            break;
        }
        let entry = entry?;
        held += entry.body.as_ref().map_or(0, |body| body.len() as u64);
        items.push(entry);
    }
    let last = items.last().map(|entry| entry.id);
    Ok(Page {
        next: last.filter(|_| has_more || held > PAGE),
        items,
    })
}

/// A second since 1970, and how many were taken in it.
type Second = (i64, u32);

/// What is to be done to the list.
enum ListCommand {
    Keep(Rejected),
    Remove(Vec<i64>, oneshot::Sender<Result<(), StoreError>>),
}

/// Where the list is.
enum RejectedBackend {
    File(Arc<Mutex<RejectedReader>>),
    Shared(Inbox),
}

/// Takes refused callbacks.
pub(crate) struct RejectedList {
    queue: Mutex<Option<SyncSender<ListCommand>>>,
    rates: Mutex<HashMap<(Arc<str>, Reason), Second>>,
    backend: RejectedBackend,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What writes.
trait Write: Send + 'static {
    fn keep(&mut self, batch: &[Rejected]) -> Result<(), String>;
    fn remove(&mut self, ids: &[i64]) -> Result<(), String>;
}

impl RejectedList {
    /// Opens or creates the list in the inbox's directory.
    pub(crate) fn open(directory: &Path, metrics: Arc<Metrics>) -> rusqlite::Result<Self> {
        let file = directory.join("rejected.db");
        let store = SqliteStore::open(&file)?;
        let reader = Arc::new(Mutex::new(RejectedReader::open(&file)?));
        Ok(Self::start(store, RejectedBackend::File(reader), metrics))
    }

    /// The list in an inbox that several processes share, and the list with it. Belongs into a runtime.
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

    /// Keeps a refused callback, if the list keeps up; never waits.
    pub(crate) fn keep(&self, mut rejected: Rejected) {
        // It waits outside the budget of bodies in flight.
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

    /// A part of the list, up to `limit` entries.
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

    /// Takes entries off the list; those that are not there any more are passed over.
    pub(crate) async fn remove(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        let Some(queue) = self.queue() else {
            return Err(StoreError::Failed);
        };
        let (reply, answer) = oneshot::channel();
        // It waits for room, as others must not.
        let sent = spawn_blocking(move || queue.send(ListCommand::Remove(ids, reply)).is_ok());
        if !sent.await.unwrap_or(false) {
            return Err(StoreError::Failed);
        }
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    /// Writes what waits and closes the file.
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
            tracing::error!("the thread of the rejected list had panicked");
        }
    }
}

impl Drop for RejectedList {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(queue: &Receiver<ListCommand>, mut store: impl Write) {
    while let Ok(first) = queue.recv() {
        let mut batch = Vec::new();
        for work in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            match work {
                ListCommand::Keep(rejected) => batch.push(rejected),
                ListCommand::Remove(ids, reply) => {
                    let removed = store.remove(&ids);
                    let removed = removed.map_err(|error| failed("taken off", &error));
                    // Whoever asked may have gone.
                    let _ = reply.send(removed);
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
