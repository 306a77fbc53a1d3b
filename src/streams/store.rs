//! The board beside the embedded inbox: its state in memory, and `streams.db` behind it.
//!
//! Events change the state in memory. A flush writes the streams that changed since the last one,
//! together with the cursor (the last event applied), in one transaction that is synced. After a
//! crash the board reads on from the cursor. So nothing is written for each event, and what the
//! file has is always the board as it was at one event. Only streams that changed since the last
//! flush are in memory; all others are in the file alone.

mod announce;
mod apply;
mod block;
mod encoding;
mod entry;
mod flush;
mod forget;
mod pauses;
mod reader;
mod removal;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use self::entry::Entry;
pub(super) use self::forget::{EventsOfStreams, Look};
pub(super) use self::reader::Reader;
use crate::event::Seq;
use crate::stream::StreamKey;

const SCHEMA: &str = include_str!("store/schema.sql");
/// Of `schema.sql`. Another one is made anew.
const VERSION: i64 = 3;
/// What was applied is written after this time at the latest, unless a reader wants it earlier.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// It is written earlier if so many streams have changed, or so many facts and places are in memory:
/// together a few MiB.
const MAX_STREAMS: usize = 4096;
const MAX_FACTS: usize = 32_768;

pub(super) struct Store {
    conn: Connection,
    /// The streams that changed since the last flush, and those of them that are removed.
    changed: BTreeMap<i64, Entry>,
    removed: BTreeSet<i64>,
    numbers: HashMap<StreamKey, i64>,
    /// How many facts and places came into memory since the last flush.
    facts: usize,
    /// Streams whose pushes changed: who is live is decided once for many events.
    undecided: BTreeSet<i64>,
    /// All streams with a change to announce, by the time for that.
    unannounced: BTreeSet<(Timestamp, i64)>,
    meta: Meta,
    flushed: Meta,
    last_flush: Instant,
}

/// What the file remembers beside the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Meta {
    /// The last event that was applied.
    cursor: Seq,
    revision: i64,
    /// The highest number of a stream.
    streams: i64,
}

impl Store {
    /// Opens or creates it. One that cannot be used, or that knows events beyond `newest`, is made
    /// anew: the inbox was put back to an earlier state.
    pub(super) fn open(file: &Path, newest: Seq) -> rusqlite::Result<Self> {
        match Self::try_open(file) {
            Ok(store) if store.cursor() <= newest => return Ok(store),
            Ok(_) => {
                tracing::warn!(
                    "the board of streams has events that the inbox lacks: it is made again from the inbox"
                );
            }
            Err(error) => {
                tracing::warn!(store.error = %error, "the board of streams cannot be read: it is made again from the inbox");
            }
        }
        for ending in ["", "-wal", "-shm"] {
            let mut name = file.as_os_str().to_owned();
            name.push(ending);
            let _ = std::fs::remove_file(name);
        }
        Self::try_open(file)
    }

    fn try_open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        // The inbox may remove events up to the cursor, so a flush has to outlast a power cut.
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", -4096)?;
        // What a burst took is given back: as much as those pages of a checkpoint.
        conn.pragma_update(None, "journal_size_limit", 1000 * 4096)?;
        let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            make_anew(&conn)?;
        }
        // A process before this one may have failed to sync it: what the WAL holds is written once more.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let noted = |name: &str| {
            let noted = conn
                .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
                    row.get(0)
                })
                .optional();
            noted.map(Option::unwrap_or_default)
        };
        let meta = Meta {
            cursor: noted("cursor")?,
            revision: noted("revision")?,
            streams: noted("streams")?,
        };
        let unannounced = conn
            .prepare("SELECT announce_at, no FROM streams WHERE announce_at IS NOT NULL")?
            .query_map([], |row| {
                Ok((Timestamp::from_millis(row.get(0)?), row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        Ok(Self {
            conn,
            changed: BTreeMap::new(),
            removed: BTreeSet::new(),
            numbers: HashMap::new(),
            facts: 0,
            undecided: BTreeSet::new(),
            unannounced,
            meta,
            flushed: meta,
            last_flush: Instant::now(),
        })
    }

    /// The last event that was applied.
    pub(super) fn cursor(&self) -> Seq {
        self.meta.cursor
    }

    /// The last event that need not come again after a crash.
    pub(super) fn flushed_cursor(&self) -> Seq {
        self.flushed.cursor
    }

    /// The highest revision.
    pub(super) fn revision(&self) -> i64 {
        self.meta.revision
    }

    /// Looks at a stream without a change.
    fn with<T>(&self, no: i64, look: impl FnOnce(&Entry) -> T) -> rusqlite::Result<Option<T>> {
        match self.changed.get(&no) {
            Some(entry) => Ok(Some(look(entry))),
            None => Ok(Entry::load(&self.conn, no)?.as_ref().map(look)),
        }
    }

    /// Takes a stream into memory, to change it.
    fn load(&mut self, no: i64) -> rusqlite::Result<Option<&mut Entry>> {
        if self.removed.contains(&no) {
            return Ok(None);
        }
        if !self.changed.contains_key(&no) {
            let Some(entry) = Entry::load(&self.conn, no)? else {
                return Ok(None);
            };
            self.facts += entry.tail.len();
            self.numbers.insert(entry.state.row.key.clone(), no);
            self.changed.insert(no, entry);
        }
        Ok(self.changed.get_mut(&no))
    }

    /// The number of a stream, if it is known.
    fn number_of(&self, key: &StreamKey) -> rusqlite::Result<Option<i64>> {
        if let Some(no) = self.numbers.get(key) {
            return Ok(Some(*no));
        }
        let no: Option<i64> = self
            .conn
            .prepare_cached(
                "SELECT no FROM streams WHERE source = ?1 AND domain = ?2 AND appname = ?3 AND streamid = ?4",
            )?
            .query_row(
                params![key.source, key.domain, key.appname, key.streamid],
                |row| row.get(0),
            )
            .optional()?;
        Ok(no.filter(|no| !self.removed.contains(no)))
    }
}

fn make_anew(conn: &Connection) -> rusqlite::Result<()> {
    let tables: Vec<String> = conn
        .prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in tables {
        conn.execute_batch(&format!("DROP TABLE \"{table}\""))?;
    }
    conn.execute_batch(SCHEMA)?;
    conn.pragma_update(None, "user_version", VERSION)
}

#[cfg(test)]
mod tests;
