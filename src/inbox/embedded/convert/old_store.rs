//! Reads a store of the first format.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::{Connection, params};

use super::error::ConvertError;
use super::journal;
use crate::event::{Event, Seq};
use crate::inbox::embedded::directory::{checkpoint_whole, close, connect};
use crate::inbox::event_log::LogRecord;

pub(super) const OLD: &str = "inbox.db";
/// Marks a file as the first format: "lhok".
const APPLICATION: i64 = 0x6c68_6f6b;
/// The newest form of the first format.
const NEWEST: i64 = 2;
/// The tables of that form.
const TABLES: &str = include_str!("inbox.sql");

/// Events that are read at once, and about how many bytes of bodies.
const CHUNK: usize = 4096;
const CHUNK_BYTES: usize = 4 << 20;

/// An event of the old store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OldEvent {
    pub(super) seq: Seq,
    pub(super) received: Timestamp,
    pub(super) id: EventId,
    /// Its `event_type`, or a number below 0.
    pub(super) code: i64,
    pub(super) source: String,
    pub(super) body: Vec<u8>,
}

impl OldEvent {
    /// As the log holds it.
    pub(super) fn record(&self) -> LogRecord<'_> {
        LogRecord {
            seq: self.seq,
            received: self.received,
            id: self.id,
            code: self.code,
            source: &self.source,
            body: &self.body,
        }
    }

    /// As the state holds a copy.
    pub(super) fn into_event(self) -> Event {
        let kind = Kind::from_stored(self.code);
        let body = Bytes::from(self.body);
        let source = self.source.into();
        Event::new(self.seq, self.id, source, kind, self.received, body)
    }
}

/// An open `inbox.db`.
pub(super) struct OldStore(Connection);

impl OldStore {
    pub(super) fn open(dir: &Path) -> Result<Self, ConvertError> {
        let conn = connect(&dir.join(OLD))?;
        let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)";
        let is_empty: bool = conn.query_row(sql, [], |row| row.get(0))?;
        if is_empty {
            // The first start was interrupted. Callbacks may be in the journal all the same, if the file was moved away.
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT"))?;
        }
        if pragma("application_id")? != APPLICATION {
            let reason = "the file is not a livehook inbox";
            return Err(ConvertError::Refused(reason.to_owned()));
        }
        if pragma("user_version")? > NEWEST {
            let sql = "SELECT value FROM meta WHERE name = 'readable_by'";
            let readable_by: i64 = conn.query_row(sql, [], |row| row.get(0))?;
            if readable_by > NEWEST {
                return Err(ConvertError::Refused(format!(
                    "the inbox was written by a newer livehook (format {readable_by}, this one converts up to {NEWEST})"
                )));
            }
        }
        Ok(Self(conn))
    }

    /// Moves what only the journal has into `inbox.db`, as the first release did.
    pub(super) fn recover_journal(&mut self, dir: &Path) -> Result<(), ConvertError> {
        let last = self.last_given()?;
        let transaction = self.0.transaction()?;
        journal::recover(dir, last, |event| {
            transaction.prepare_cached(
                "INSERT OR IGNORE INTO events(seq, received, source, kind, id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                event.seq,
                event.received.millis(),
                event.source,
                event.code,
                event.id.as_bytes(),
                event.body,
            ])
            .map(drop)
        })?;
        Ok(transaction.commit()?)
    }

    /// Moves all that SQLite has beside the file into it, synced.
    pub(super) fn make_whole(&self) -> Result<(), ConvertError> {
        match checkpoint_whole(&self.0)? {
            true => Ok(()),
            false => Err(ConvertError::busy(OLD)),
        }
    }

    /// The highest number that was ever given to an event.
    pub(super) fn last_given(&self) -> rusqlite::Result<Seq> {
        self.0.query_row(
            "SELECT max(
                coalesce((SELECT max(seq) FROM events), 0),
                coalesce((SELECT max(position) FROM handlers), 0),
                coalesce((SELECT max(last) FROM id_runs), 0),
                (SELECT value FROM meta WHERE name = 'last_seq'))",
            [],
            |row| row.get(0),
        )
    }

    /// The next events in order. None is left if there are none.
    pub(super) fn after(&self, seq: Seq) -> rusqlite::Result<Vec<OldEvent>> {
        let mut select = self.0.prepare_cached(
            "SELECT seq, received, source, kind, id, body FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows = select.query(params![seq, CHUNK as i64])?;
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let event = OldEvent {
                seq: row.get(0)?,
                received: Timestamp::from_millis(row.get(1)?),
                source: row.get(2)?,
                code: row.get(3)?,
                id: EventId::from_bytes(row.get(4)?),
                body: row.get(5)?,
            };
            bytes += event.body.len();
            events.push(event);
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        Ok(events)
    }

    /// Copies handlers, and deliveries whose events are there.
    pub(super) fn copy_deliveries(&self, state: &Connection, dir: &Path) -> rusqlite::Result<()> {
        let file = dir.join(OLD);
        // A path need not be text.
        state.execute("ATTACH ?1 AS old", [file.as_os_str().as_bytes()])?;
        state.execute_batch(
            "BEGIN;
             INSERT INTO handlers(id, name, position, paused, missing_since)
                 SELECT id, name, position, paused, missing_since FROM old.handlers;
             DELETE FROM sqlite_sequence WHERE name = 'handlers';
             INSERT INTO sqlite_sequence(name, seq) SELECT name, seq FROM old.sqlite_sequence WHERE name = 'handlers';
             INSERT INTO deliveries(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
                 SELECT handler, seq, lane, state, attempts, first_attempt, due, parked, error FROM old.deliveries
                 WHERE seq IN (SELECT seq FROM old.events);
             COMMIT;
             DETACH old;",
        )
    }

    pub(super) fn close(self) {
        close(self.0);
    }
}
