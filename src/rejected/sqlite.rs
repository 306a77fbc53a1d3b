//! The rejected list in its own file.

use std::collections::HashMap;
use std::path::Path;

use css_callbacks::{Kind, Timestamp};
use rusqlite::{Connection, OpenFlags, Row, ffi, named_params, params};

use super::{BYTES, ENTRIES, Rejected, RejectedEntry, RejectedQuery, Write, to_page};
use crate::inbox::StoreError;
use crate::inbox::query::{Page, sql_order};

/// The file, open for writing.
pub(super) struct SqliteStore {
    pub(super) conn: Connection,
    pub(super) sizes: StoredSizes,
}

/// Entries and bytes per source and reason.
pub(super) type StoredSizes = HashMap<(String, String), (u64, u64)>;

pub(super) fn count_sizes(conn: &Connection) -> rusqlite::Result<StoredSizes> {
    let mut sizes = HashMap::new();
    let mut select = conn
        .prepare("SELECT source, reason, count(*), sum(coalesce(length(body), 0)) FROM rejected GROUP BY 1, 2")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
        sizes.insert((row.get(0)?, row.get(1)?), (number(2)?, number(3)?));
    }
    Ok(sizes)
}

impl SqliteStore {
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut may lose the last entries. A genuine callback among them is sent again.
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "cache_size", -512)?;
        // What is removed is overwritten with zeros.
        conn.pragma_update(None, "secure_delete", true)?;
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
        let sizes = count_sizes(&conn)?;
        Ok(Self { conn, sizes })
    }

    /// Writes the whole batch or nothing.
    pub(super) fn write(&mut self, batch: &[Rejected]) -> rusqlite::Result<()> {
        let written = self.try_write(batch);
        if written.is_err() {
            let _ = self.conn.execute_batch("ROLLBACK");
            // The sizes include entries that were rolled back.
            if let Ok(sizes) = count_sizes(&self.conn) {
                self.sizes = sizes;
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

    fn try_remove(&mut self, ids: &[i64]) -> rusqlite::Result<()> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        for id in ids {
            self.conn
                .prepare_cached("DELETE FROM rejected WHERE id = ?1")?
                .execute([id])?;
        }
        self.conn.execute_batch("COMMIT")?;
        // Nothing that was removed stays in the write-ahead log.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_busy: bool = self.conn.query_row(checkpoint, [], |row| row.get(0))?;
        match is_busy {
            true => {
                let problem = "another program reads the list".to_owned();
                let code = ffi::Error::new(ffi::SQLITE_BUSY);
                Err(rusqlite::Error::SqliteFailure(code, Some(problem)))
            }
            false => Ok(()),
        }
    }

    fn add(&mut self, rejected: &Rejected) -> rusqlite::Result<()> {
        let body = rejected.kept_body();
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
                rejected.kind.stored(),
                rejected.client.map(|client| client.to_string()),
                rejected.token_hash,
                rejected.size as i64,
                body,
            ])?;
        let key = (rejected.source.to_string(), reason.to_owned());
        let (entries, bytes) = self.sizes.entry(key).or_default();
        *entries += 1;
        *bytes += body.map_or(0, |body| body.len() as u64);
        while *entries > ENTRIES || *bytes > BYTES {
            let removed = self
                .conn
                .prepare_cached(
                    "DELETE FROM rejected WHERE id =
                         (SELECT id FROM rejected WHERE source = ?1 AND reason = ?2 ORDER BY id LIMIT 1)
                     RETURNING coalesce(length(body), 0)",
                )?
                .query_row(params![&*rejected.source, reason], |row| row.get::<_, i64>(0))?;
            *entries -= 1;
            *bytes = bytes.saturating_sub(removed.unsigned_abs());
        }
        Ok(())
    }
}

impl Write for SqliteStore {
    fn keep(&mut self, batch: &[Rejected]) -> Result<(), String> {
        self.write(batch).map_err(|error| error.to_string())
    }

    fn remove(&mut self, ids: &[i64]) -> Result<(), String> {
        let removed = self.try_remove(ids);
        if removed.is_err() {
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        // This is rare: count everything again.
        let counted = count_sizes(&self.conn).map(|sizes| self.sizes = sizes);
        removed.and(counted).map_err(|error| error.to_string())
    }
}

/// The file, open for reading.
pub(super) struct RejectedReader(Connection);

impl RejectedReader {
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        conn.pragma_update(None, "cache_size", -512)?;
        Ok(Self(conn))
    }

    /// How many bytes it has, with those in SQLite's log.
    pub(super) fn size(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        self.0
            .query_row(sql, [], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
    }

    /// Copies all of it into a file that does not exist.
    pub(super) fn copy_into(&self, file: &Path) -> rusqlite::Result<()> {
        let name = file.to_str();
        let name = name.ok_or_else(|| rusqlite::Error::InvalidPath(file.to_owned()))?;
        self.0.execute("VACUUM INTO ?1", [name]).map(drop)
    }

    pub(super) fn page(
        &self,
        wanted: &RejectedQuery,
        limit: usize,
    ) -> Result<Page<RejectedEntry>, StoreError> {
        self.try_page(wanted, limit).map_err(|error| {
            tracing::warn!(
                store.error = error.to_string(),
                "the rejected list could not be read"
            );
            StoreError::Failed
        })
    }

    fn try_page(
        &self,
        wanted: &RejectedQuery,
        limit: usize,
    ) -> rusqlite::Result<Page<RejectedEntry>> {
        let (beyond, order) = sql_order(wanted.newest_first);
        let sql = format!(
            "SELECT id, reason, received, source, url_kind, kind, client, token_hash, size, body FROM rejected
             WHERE (:source IS NULL OR source = :source) AND (:reason IS NULL OR reason = :reason)
             AND (:kind IS NULL OR kind = :kind) AND (:from IS NULL OR received >= :from)
             AND (:to IS NULL OR received < :to) AND (:after IS NULL OR id {beyond} :after)
             ORDER BY id {order} LIMIT :limit"
        );
        let mut select = self.0.prepare_cached(&sql)?;
        let rows = select.query_map(
            named_params! {
                ":source": wanted.source,
                ":reason": wanted.reason.map(|reason| reason.slug()),
                ":kind": wanted.kind.map(Kind::stored),
                ":from": wanted.from.map(|time| time.millis()),
                ":to": wanted.to.map(|time| time.millis()),
                ":after": wanted.after,
                ":limit": limit as i64 + 1,
            },
            entry,
        )?;
        to_page(rows, limit)
    }
}

fn entry(row: &Row) -> rusqlite::Result<RejectedEntry> {
    Ok(RejectedEntry {
        id: row.get(0)?,
        reason: row.get(1)?,
        received: Timestamp::from_millis(row.get(2)?),
        source: row.get(3)?,
        url_kind: row.get::<_, Option<i64>>(4)?.map(Kind::from_stored),
        kind: Kind::from_stored(row.get(5)?),
        client: row.get(6)?,
        token_hash: row.get(7)?,
        size: row.get::<_, i64>(8)?.unsigned_abs(),
        body: row.get::<_, Option<Vec<u8>>>(9)?.map(Into::into),
    })
}
