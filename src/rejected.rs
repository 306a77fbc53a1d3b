//! The rejected list: what was refused with 401, kept so that a mis-typed key costs nothing.
//!
//! It has a file and a thread of its own and never a part in a callback's transaction. What it holds is bounded per source
//! and reason, the newest kept, so that a flood of forgeries only pushes out forgeries; and no more than `PER_SECOND` of a
//! source and reason are taken in a second, so that a flood costs little.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::auth::Refusal;
use crate::clock::Timestamp;
use crate::inbox::{Inbox, RefusedRow};
use crate::kind::Kind;
use crate::metrics::Metrics;

/// Longer bodies are listed without their text.
pub const MAX_BODY: usize = 64 << 10;
/// At most so many entries per source and reason.
const ENTRIES: u64 = 1000;
/// At most so many bytes of bodies per source and reason.
const BYTES: u64 = 16 << 20;
/// Taken in a second per source and reason.
const PER_SECOND: u32 = 50;
/// Waiting to be written: with the longest bodies 4 MiB.
const QUEUE: usize = 64;

/// A refused callback.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Why.
    pub reason: Refusal,
    /// When it arrived.
    pub received: Timestamp,
    /// The source whose URL was called.
    pub source: Arc<str>,
    /// The kind whose URL was called.
    pub url_kind: Option<Kind>,
    /// The kind it would have had.
    pub kind: Kind,
    /// Where it came from.
    pub client: Option<IpAddr>,
    /// SHA-256 of the presented token, so that the token itself is not kept.
    pub token_hash: Option<[u8; 32]>,
    /// The body as received.
    pub body: Bytes,
}

/// A second since 1970, and how many were taken in it.
type Second = (i64, u32);

/// The hash under which a presented token is remembered.
pub fn token_hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Takes refused callbacks.
pub struct RejectedList {
    queue: Mutex<Option<SyncSender<Rejected>>>,
    taken: Mutex<HashMap<(Arc<str>, Refusal), Second>>,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RejectedList {
    /// Opens or creates the list in the inbox's directory.
    pub fn open(directory: &Path, metrics: Arc<Metrics>) -> rusqlite::Result<Self> {
        let mut shelf = Shelf::open(&directory.join("rejected.db"))?;
        Ok(Self::written_by(metrics, move |batch| {
            shelf.write(batch).map_err(|error| error.to_string())
        }))
    }

    /// The list in an inbox that several processes share, and the list with it. Belongs into a runtime.
    pub fn shared(inbox: Inbox, metrics: Arc<Metrics>) -> Self {
        let runtime = Handle::current();
        Self::written_by(metrics, move |batch| {
            let rows: Vec<RefusedRow> = batch.iter().map(refused_row).collect();
            runtime
                .block_on(inbox.keep_refused(&rows, ENTRIES, BYTES))
                .map_err(|error| error.to_string())
        })
    }

    fn written_by(
        metrics: Arc<Metrics>,
        write: impl FnMut(&[Rejected]) -> Result<(), String> + Send + 'static,
    ) -> Self {
        let (queue, received) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("rejected".to_owned())
            .spawn(move || run(&received, write));
        Self {
            queue: Mutex::new(Some(queue)),
            taken: Mutex::default(),
            metrics,
            thread: Mutex::new(thread.ok()),
        }
    }

    /// Keeps a refused callback, if the list keeps up; never waits.
    pub fn keep(&self, rejected: Rejected) {
        let kept = self.is_in_time(&rejected)
            && match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(queue) => queue.try_send(rejected).is_ok(),
                None => false,
            };
        if !kept {
            self.metrics.rejected_dropped.inc();
        }
    }

    fn is_in_time(&self, rejected: &Rejected) -> bool {
        let second = rejected.received.seconds();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = taken
            .entry((rejected.source.clone(), rejected.reason))
            .or_default();
        if entry.0 != second {
            *entry = (second, 0);
        }
        entry.1 += 1;
        entry.1 <= PER_SECOND
    }

    /// Writes what waits and closes the file.
    pub fn close(&self) {
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

fn run(queue: &Receiver<Rejected>, mut write: impl FnMut(&[Rejected]) -> Result<(), String>) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<_> = std::iter::once(first)
            .chain(queue.try_iter().take(QUEUE))
            .collect();
        if let Err(error) = write(&batch) {
            tracing::warn!(
                store.error = error,
                "refused callbacks could not be added to the rejected list"
            );
        }
    }
}

fn refused_row(rejected: &Rejected) -> RefusedRow {
    let body = Some(&rejected.body[..]).filter(|body| body.len() <= MAX_BODY);
    let code = |kind: Kind| kind.code().map(|code| code as i32);
    RefusedRow {
        source: rejected.source.to_string(),
        reason: rejected.reason.slug(),
        received: rejected.received,
        url_kind: rejected.url_kind.and_then(code),
        kind: code(rejected.kind).unwrap_or(-1),
        client: rejected.client.map(|client| client.to_string()),
        token_hash: rejected.token_hash.map(|hash| hash.to_vec()),
        size: rejected.body.len() as i64,
        body: body.map(<[u8]>::to_vec),
    }
}

/// The list on disk.
struct Shelf {
    conn: Connection,
    held: Held,
}

/// Entries and bytes per source and reason.
type Held = HashMap<(String, String), (u64, u64)>;

fn count(conn: &Connection) -> rusqlite::Result<Held> {
    let mut held = HashMap::new();
    let mut select = conn
        .prepare("SELECT source, reason, count(*), sum(coalesce(length(body), 0)) FROM rejected GROUP BY 1, 2")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
        held.insert((row.get(0)?, row.get(1)?), (number(2)?, number(3)?));
    }
    Ok(held)
}

impl Shelf {
    fn open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut may take the last entries; a genuine callback among them is sent again.
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "cache_size", -512)?;
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS rejected(
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                source TEXT NOT NULL,
                reason TEXT NOT NULL,
                received INTEGER NOT NULL,
                url_kind INTEGER,
                kind INTEGER NOT NULL,
                client TEXT,
                token_hash BLOB,
                size INTEGER NOT NULL,
                body BLOB
            );
            CREATE INDEX IF NOT EXISTS rejected_by_reason ON rejected(source, reason, id);",
        )?;
        let held = count(&conn)?;
        Ok(Self { conn, held })
    }

    /// The whole batch or nothing of it.
    fn write(&mut self, batch: &[Rejected]) -> rusqlite::Result<()> {
        let written = self.try_write(batch);
        if written.is_err() {
            let _ = self.conn.execute_batch("ROLLBACK");
            // What was counted along is not there now.
            if let Ok(held) = count(&self.conn) {
                self.held = held;
            }
        }
        written
    }

    fn try_write(&mut self, batch: &[Rejected]) -> rusqlite::Result<()> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        for rejected in batch {
            self.add(rejected)?;
        }
        self.conn.execute_batch("COMMIT")
    }

    fn add(&mut self, rejected: &Rejected) -> rusqlite::Result<()> {
        let body = Some(&rejected.body[..]).filter(|body| body.len() <= MAX_BODY);
        let reason = rejected.reason.slug();
        self.conn
            .prepare_cached(
                "INSERT INTO rejected(source, reason, received, url_kind, kind, client, token_hash, size, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                &*rejected.source,
                reason,
                rejected.received.millis(),
                rejected.url_kind.and_then(Kind::code),
                rejected.kind.code().unwrap_or(-1),
                rejected.client.map(|client| client.to_string()),
                rejected.token_hash,
                rejected.body.len() as i64,
                body,
            ])?;
        let key = (rejected.source.to_string(), reason.to_owned());
        let held = self.held.entry(key).or_default();
        held.0 += 1;
        held.1 += body.map_or(0, |body| body.len() as u64);
        while held.0 > ENTRIES || held.1 > BYTES {
            let removed = self
                .conn
                .prepare_cached(
                    "DELETE FROM rejected WHERE id =
                         (SELECT id FROM rejected WHERE source = ?1 AND reason = ?2 ORDER BY id LIMIT 1)
                     RETURNING coalesce(length(body), 0)",
                )?
                .query_row(params![&*rejected.source, reason], |row| row.get::<_, i64>(0))?;
            held.0 -= 1;
            held.1 = held.1.saturating_sub(removed.unsigned_abs());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rejected(reason: Refusal, second: i64, size: usize) -> Rejected {
        Rejected {
            reason,
            received: Timestamp::from_seconds(second),
            source: "css".into(),
            url_kind: None,
            kind: Kind::StreamEnd,
            client: None,
            token_hash: Some(token_hash(b"hush")),
            body: vec![b'x'; size].into(),
        }
    }

    fn ask(directory: &Path, what: &str) -> i64 {
        let conn = Connection::open(directory.join("rejected.db")).unwrap();
        conn.query_row(&format!("SELECT {what} FROM rejected"), [], |row| {
            row.get(0)
        })
        .unwrap()
    }

    #[test]
    fn the_newest_are_kept_across_restarts_and_reasons_do_not_push_each_other_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(&directory.path().join("rejected.db")).unwrap();
        shelf.write(&[rejected(Refusal::Expired, 1, 10)]).unwrap();
        for second in 0..700 {
            shelf
                .write(&[rejected(Refusal::Signature, second, 10)])
                .unwrap();
        }
        drop(shelf);
        let mut shelf = Shelf::open(&directory.path().join("rejected.db")).unwrap();
        for second in 700..1100 {
            shelf
                .write(&[rejected(Refusal::Signature, second, 10)])
                .unwrap();
        }
        assert_eq!(ask(directory.path(), "count(*)"), 1001);
        assert_eq!(
            ask(directory.path(), "min(received)"),
            1000,
            "the expired one"
        );
    }

    #[test]
    fn bodies_are_bounded_and_long_ones_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(&directory.path().join("rejected.db")).unwrap();
        for second in 0..300 {
            shelf
                .write(&[rejected(Refusal::Token, second, MAX_BODY)])
                .unwrap();
        }
        assert!(ask(directory.path(), "sum(length(body))") <= BYTES as i64);
        shelf
            .write(&[rejected(Refusal::Token, 300, MAX_BODY + 1)])
            .unwrap();
        assert_eq!(
            ask(
                directory.path(),
                "count(*) FILTER (WHERE body IS NULL AND size > 65536)"
            ),
            1
        );
    }

    #[test]
    fn what_could_not_be_written_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(&directory.path().join("rejected.db")).unwrap();
        let batch = || vec![rejected(Refusal::Signature, 1, 10); 600];
        shelf.write(&batch()).unwrap();
        shelf
            .conn
            .execute_batch("CREATE TRIGGER full BEFORE INSERT ON rejected WHEN new.kind = 1 BEGIN SELECT RAISE(ABORT, 'full'); END")
            .unwrap();
        for _ in 0..3 {
            let mut batch = batch();
            batch[599].kind = Kind::StreamBegin;
            assert!(shelf.write(&batch).is_err());
        }
        shelf.conn.execute_batch("DROP TRIGGER full").unwrap();
        shelf.write(&batch()).unwrap();
        assert_eq!(count(&shelf.conn).unwrap(), shelf.held);
        assert_eq!(ask(directory.path(), "count(*)"), 1000);
    }

    #[test]
    fn a_flood_is_sampled() {
        let directory = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let list = RejectedList::open(directory.path(), metrics.clone()).unwrap();
        for _ in 0..1000 {
            list.keep(rejected(Refusal::Signature, 7, 10));
        }
        list.close();
        let kept = ask(directory.path(), "count(*)");
        assert!((1..=i64::from(PER_SECOND)).contains(&kept), "{kept}");
        assert_eq!(metrics.rejected_dropped.get() + kept.unsigned_abs(), 1000);
    }
}
