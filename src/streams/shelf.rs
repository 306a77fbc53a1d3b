//! The board in a file of its own, beside the embedded inbox. It can be made again from the inbox at any time.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::stream::{
    Begin, Fact, FactsWritten, MAX_PUSH_FACTS, NOTABLE, Session, StreamChange, StreamFact,
    StreamKey, StreamQuery, StreamRecord, StreamRow, sessions,
};

const SCHEMA: &str = include_str!("schema.sql");
/// Of `schema.sql`. Another one is made anew.
const VERSION: i64 = 1;

/// The board on disk.
pub(super) struct Shelf {
    conn: Connection,
}

/// The streams whose facts changed, and the pushes.
#[derive(Default)]
struct Touched(HashMap<i64, BTreeSet<Option<String>>>);

impl Touched {
    fn add(&mut self, stream: i64, kind: Kind, sequence: Option<String>) {
        let pushes = self.0.entry(stream).or_default();
        if matches!(kind, Kind::StreamBegin | Kind::StreamEnd) {
            pushes.insert(sequence);
        }
    }
}

impl Shelf {
    /// Opens or creates it; one that cannot be used is made anew.
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        match Self::try_open(file) {
            Ok(shelf) => Ok(shelf),
            Err(error) => {
                tracing::warn!(store.error = %error, "the board of streams cannot be read: it is made again from the inbox");
                for ending in ["", "-wal", "-shm"] {
                    let mut name = file.as_os_str().to_owned();
                    name.push(ending);
                    let _ = std::fs::remove_file(name);
                }
                Self::try_open(file)
            }
        }
    }

    fn try_open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        // What a power cut takes back is taken from the inbox again: see `Board::catch_up`.
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "cache_size", -4096)?;
        // Each checkpoint syncs, which senders may have to wait for.
        conn.pragma_update(None, "wal_autocheckpoint", 4000)?;
        // What a burst took is given back: as much as those pages.
        conn.pragma_update(None, "journal_size_limit", 4000 * 4096)?;
        let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            conn.execute_batch(
                "PRAGMA foreign_keys = OFF; DROP TABLE IF EXISTS streams; DROP TABLE IF EXISTS facts;
                 DROP TABLE IF EXISTS sessions; DROP TABLE IF EXISTS held; DROP TABLE IF EXISTS meta;",
            )?;
            conn.execute_batch(SCHEMA)?;
            conn.pragma_update(None, "user_version", VERSION)?;
        }
        // A process before this one may have failed to sync it: what the WAL holds is written once more.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        // One page that is damaged would be found late.
        conn.query_row("SELECT count(*) FROM meta", [], |row| row.get::<_, i64>(0))?;
        Ok(Self { conn })
    }

    /// A number that is remembered.
    pub(super) fn noted(&self, name: &str) -> rusqlite::Result<i64> {
        let noted = self
            .conn
            .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        Ok(noted.unwrap_or(0))
    }

    pub(super) fn note(&self, name: &str, value: i64) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
            )?
            .execute(params![name, value])
            .map(drop)
    }

    /// Takes facts in; of what stands in the inbox within `instead` these are all there are.
    pub(super) fn apply(
        &mut self,
        told: &[StreamFact],
        instead: Option<(Seq, Seq)>,
        settle_at: Timestamp,
    ) -> rusqlite::Result<FactsWritten> {
        let tx = self.conn.transaction()?;
        let mut touched = Touched::default();
        if let Some((first, last)) = instead {
            let mut delete = tx.prepare_cached(
                "DELETE FROM facts WHERE seq BETWEEN ?1 AND ?2 AND gone = 0 RETURNING stream, kind, sequence",
            )?;
            take_out(&mut delete, params![first, last], &mut touched)?;
        }
        let mut numbers: HashMap<&StreamKey, i64> = HashMap::new();
        for StreamFact { stream, fact } in told {
            let number = match numbers.get(stream) {
                Some(number) => *number,
                None => number_of(&tx, stream, fact.at)?,
            };
            numbers.insert(stream, number);
            let is_new =
                tx.prepare_cached(
                    "INSERT OR IGNORE INTO facts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)",
                )?
                .execute(params![
                    fact.seq,
                    number,
                    fact.id.as_bytes(),
                    fact.kind.stored(),
                    fact.at.millis(),
                    fact.received.millis(),
                    fact.sequence,
                    fact.lasted.map(millis),
                ])? > 0;
            if is_new {
                touched.add(number, fact.kind, fact.sequence.clone());
            }
        }
        let written = refresh(&tx, touched, settle_at)?;
        tx.commit()?;
        Ok(written)
    }

    /// Forgets facts whose events are gone; but sessions only as a whole, and a stream's newest one not before every begin is
    /// gone: else another session would decide, and a stream be live that is not.
    pub(super) fn forget(
        &mut self,
        seqs: &[Seq],
        settle_at: Timestamp,
    ) -> rusqlite::Result<FactsWritten> {
        let tx = self.conn.transaction()?;
        let mut touched = Touched::default();
        for seq in seqs {
            let mut mark = tx.prepare_cached(
                "UPDATE facts SET gone = 1 WHERE seq = ?1 RETURNING stream, kind, sequence",
            )?;
            take_out(&mut mark, [*seq], &mut touched)?;
        }
        let streams: Vec<i64> = touched.0.keys().copied().collect();
        for stream in streams {
            let deciding = match newest(&tx, stream, 1)?.pop() {
                Some(session) if has_begin(&tx, stream)? => Some(session),
                _ => None,
            };
            let sequence = deciding
                .as_ref()
                .and_then(|session| session.sequence.clone());
            let begin = deciding.as_ref().and_then(|session| session.begin);
            let end = deciding.and_then(|session| session.end).map(|(_, seq)| seq);
            let mut delete = tx.prepare_cached(
                "DELETE FROM facts WHERE stream = ?1 AND gone = 1 AND NOT (kind IN (0, 1) AND CASE
                 WHEN sequence IS NOT NULL THEN coalesce(sequence = ?2, 0) OR EXISTS (
                     SELECT 1 FROM facts o WHERE o.stream = ?1 AND o.sequence = facts.sequence
                     AND o.kind IN (0, 1) AND o.gone = 0)
                 ELSE coalesce(seq IN (?3, ?4), 0) OR EXISTS (
                     SELECT 1 FROM facts o WHERE o.stream = ?1 AND o.sequence IS NULL
                     AND o.kind IN (0, 1) AND o.gone = 0 AND (o.id = facts.id OR EXISTS (
                         SELECT 1 FROM sessions s WHERE s.stream = ?1 AND s.sequence IS NULL
                         AND o.seq IN (s.begin_seq, s.end_seq) AND facts.seq IN (s.begin_seq, s.end_seq))))
                 END)
                 RETURNING stream, kind, sequence",
            )?;
            take_out(
                &mut delete,
                params![stream, sequence, begin, end],
                &mut touched,
            )?;
        }
        let written = refresh(&tx, touched, settle_at)?;
        tx.commit()?;
        Ok(written)
    }

    /// The streams whose change has lasted. No change settles later than at `latest`: what says so is of another clock.
    pub(super) fn unsettled(
        &self,
        now: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<StreamChange>> {
        let mut select = self.conn.prepare_cached(&format!(
            "SELECT {STREAM}, changes FROM streams WHERE settle_at <= ?1 OR settle_at > ?2 ORDER BY settle_at LIMIT ?3"
        ))?;
        let values = params![now.millis(), latest.millis(), limit as i64];
        let rows = select.query_map(values, |row| {
            Ok(StreamChange {
                stream: stream_of(row)?,
                number: row.get(10)?,
            })
        })?;
        rows.collect()
    }

    /// A change was told, or nobody wanted to hear of it.
    pub(super) fn announced(
        &mut self,
        changes: &[StreamChange],
        settle_at: Timestamp,
    ) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        for change in changes {
            tx.prepare_cached(
                "UPDATE streams SET announced = ?3, changes = changes + 1,
                     settle_at = CASE WHEN live = ?3 THEN NULL ELSE coalesce(settle_at, ?4) END
                 WHERE no = ?1 AND changes = ?2",
            )?
            .execute(params![
                change.stream.no,
                change.number,
                change.stream.live,
                settle_at.millis()
            ])?;
        }
        tx.commit()
    }

    /// As if nothing of the last changes had been noted.
    #[cfg(test)]
    pub(super) fn unannounce(&mut self) -> rusqlite::Result<()> {
        let undo =
            "UPDATE streams SET announced = NOT announced, changes = changes - 1, settle_at = 0";
        self.conn.execute(undo, []).map(drop)
    }

    /// The begins beyond `after` that are old: up to where was looked, and those that a live stream needs.
    pub(super) fn to_hold(
        &self,
        after: Seq,
        old: AgeCutoff,
        limit: usize,
    ) -> rusqlite::Result<(Option<Seq>, Vec<Begin>)> {
        let mut select = self.conn.prepare_cached(
            "SELECT f.seq, f.stream, t.live AND s.begin_seq = f.seq FROM facts f
             JOIN streams t ON t.no = f.stream LEFT JOIN sessions s ON s.stream = t.no AND s.key = t.session
             WHERE f.seq > ?1 AND (f.received < ?2 OR f.received > ?3) AND f.kind = 1 ORDER BY f.seq LIMIT ?4",
        )?;
        let (before, beyond) = (old.before.millis(), old.beyond.millis());
        let mut rows = select.query(params![after, before, beyond, limit as i64])?;
        let (mut looked, mut hold) = (None, Vec::new());
        while let Some(row) = rows.next()? {
            looked = Some(row.get(0)?);
            if row.get::<_, Option<bool>>(2)? == Some(true) {
                hold.push((row.get(0)?, row.get(1)?));
            }
        }
        Ok((looked, hold))
    }

    /// What is held and need not be any more.
    pub(super) fn to_free(&self) -> rusqlite::Result<Vec<Seq>> {
        let mut select = self.conn.prepare_cached(
            "SELECT h.seq FROM held h LEFT JOIN streams t ON t.no = h.stream
             LEFT JOIN sessions s ON s.stream = t.no AND s.key = t.session
             WHERE (t.live AND s.begin_seq = h.seq) IS NOT 1",
        )?;
        let rows = select.query_map([], |row| row.get(0))?;
        rows.collect()
    }

    /// Facts beyond `after` of events that are old.
    pub(super) fn old_facts(
        &self,
        after: Seq,
        old: AgeCutoff,
        limit: usize,
    ) -> rusqlite::Result<Vec<Seq>> {
        let mut select = self.conn.prepare_cached(
            "SELECT seq FROM facts WHERE seq > ?1 AND (received < ?2 OR received > ?3) AND gone = 0
             ORDER BY seq LIMIT ?4",
        )?;
        let (before, beyond) = (old.before.millis(), old.beyond.millis());
        let rows = select.query_map(params![after, before, beyond, limit as i64], |row| {
            row.get(0)
        })?;
        rows.collect()
    }

    /// Notes what is held for streams, and what no more.
    pub(super) fn note_held(&mut self, hold: &[Begin], free: &[Seq]) -> rusqlite::Result<()> {
        let tx = self.conn.transaction()?;
        for (seq, stream) in hold {
            tx.prepare_cached("INSERT OR IGNORE INTO held VALUES (?1, ?2)")?
                .execute([seq, stream])?;
        }
        for seq in free {
            tx.prepare_cached("DELETE FROM held WHERE seq = ?1")?
                .execute([seq])?;
        }
        tx.commit()
    }
}

/// Reading the board, on a connection of its own.
pub(super) struct Reader(pub(super) Connection);

impl Reader {
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "cache_size", -2048)?;
        Ok(Self(conn))
    }

    pub(super) fn list(
        &self,
        wanted: &StreamQuery,
        after: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<StreamRow>> {
        // Spelled out, so that the index of those that are live is used.
        let live = match wanted.live {
            None => "",
            Some(true) => "live = 1 AND",
            Some(false) => "live = 0 AND",
        };
        let mut select = self.0.prepare_cached(&format!(
            "SELECT {STREAM} FROM streams WHERE {live} no > ?1
             AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR domain = ?3)
             AND (?4 IS NULL OR streamid = ?4 OR appname || '/' || streamid = ?4)
             AND (?5 IS NULL OR instr(lower(domain || '/' || appname || '/' || streamid), ?5) > 0)
             ORDER BY no LIMIT ?6"
        ))?;
        let rows = select.query_map(
            params![
                after,
                wanted.source,
                wanted.domain,
                wanted.stream,
                wanted.search,
                limit as i64
            ],
            stream_of,
        )?;
        rows.collect()
    }

    pub(super) fn find(&self, key: &StreamKey) -> rusqlite::Result<Option<StreamRow>> {
        self.0
            .prepare_cached(&format!(
                "SELECT {STREAM} FROM streams WHERE source = ?1 AND domain = ?2 AND appname = ?3 AND streamid = ?4"
            ))?
            .query_row(
                params![key.source, key.domain, key.appname, key.streamid],
                stream_of,
            )
            .optional()
    }

    /// A stream's newest sessions and facts, the facts from before `before`, and how many push exceptions each session has.
    pub(super) fn details(
        &self,
        stream: i64,
        before: Option<Seq>,
        limit: usize,
    ) -> rusqlite::Result<StreamRecord> {
        let sessions = newest(&self.0, stream, limit)?;
        let mut select = self.0.prepare_cached(
            "SELECT f.seq FROM facts f LEFT JOIN facts b ON b.seq = ?2
             WHERE f.stream = ?1 AND (b.seq IS NULL OR (f.at, f.seq) < (b.at, b.seq))
             ORDER BY f.at DESC, f.seq DESC LIMIT ?3",
        )?;
        let timeline = select
            .query_map(params![stream, before, limit as i64 + 1], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut select = self.0.prepare_cached(
            "SELECT sequence, count(DISTINCT id) FROM facts WHERE stream = ?1 AND kind = 321 GROUP BY sequence",
        )?;
        let exceptions = select
            .query_map([stream], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })?
            .collect::<Result<_, _>>()?;
        let mut select = self.0.prepare_cached(
            "SELECT seq FROM facts WHERE stream = ?1 AND kind = ?2 AND gone = 0 ORDER BY at DESC, seq DESC LIMIT ?3",
        )?;
        let mut notable = Vec::new();
        for (kind, number) in NOTABLE {
            for seq in select.query_map([stream, kind.stored(), number], |row| row.get(0))? {
                notable.push(seq?);
            }
        }
        Ok(StreamRecord {
            sessions,
            timeline,
            exceptions,
            notable,
        })
    }

    /// The streams that changed since.
    pub(super) fn changed(&self, since: i64, limit: usize) -> rusqlite::Result<Vec<StreamRow>> {
        let mut select = self.0.prepare_cached(&format!(
            "SELECT {STREAM} FROM streams WHERE revision > ?1 ORDER BY revision LIMIT ?2"
        ))?;
        let rows = select.query_map(params![since, limit as i64], stream_of)?;
        rows.collect()
    }

    /// The highest revision.
    pub(super) fn revision(&self) -> rusqlite::Result<i64> {
        self.0.query_row(
            "SELECT coalesce(max(revision), 0) FROM streams",
            [],
            |row| row.get(0),
        )
    }

    /// How many are live in each domain, and how many have been for too long.
    pub(super) fn measure(&self, stale: AgeCutoff) -> rusqlite::Result<(Vec<(String, u64)>, u64)> {
        let mut select = self.0.prepare_cached(
            "SELECT domain, count(*) FROM streams WHERE live = 1 GROUP BY domain",
        )?;
        let domains = select
            .query_map([], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })?
            .collect::<Result<_, _>>()?;
        let stale: i64 = self
            .0
            .prepare_cached(
                "SELECT count(*) FROM streams WHERE live = 1 AND (since < ?1 OR since > ?2)",
            )?
            .query_row([stale.before.millis(), stale.beyond.millis()], |row| {
                row.get(0)
            })?;
        Ok((domains, stale.unsigned_abs()))
    }
}

/// What [`stream_of`] reads.
const STREAM: &str = "no, source, domain, appname, streamid, live, since, session, last, revision";

fn stream_of(row: &Row) -> rusqlite::Result<StreamRow> {
    Ok(StreamRow {
        no: row.get(0)?,
        key: StreamKey {
            source: row.get(1)?,
            domain: row.get(2)?,
            appname: row.get(3)?,
            streamid: row.get(4)?,
        },
        live: row.get(5)?,
        since: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        session: row.get(7)?,
        last: Timestamp::from_millis(row.get(8)?),
        revision: row.get(9)?,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn number_of(tx: &Transaction, stream: &StreamKey, at: Timestamp) -> rusqlite::Result<i64> {
    let known = tx
        .prepare_cached(
            "SELECT no FROM streams WHERE source = ?1 AND domain = ?2 AND appname = ?3 AND streamid = ?4",
        )?
        .query_row(
            params![stream.source, stream.domain, stream.appname, stream.streamid],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    tx.prepare_cached(
        "INSERT INTO streams(source, domain, appname, streamid, last, revision) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        stream.source,
        stream.domain,
        stream.appname,
        stream.streamid,
        at.millis(),
        next_revision(tx)?,
    ])?;
    Ok(tx.last_insert_rowid())
}

fn next_revision(tx: &Transaction) -> rusqlite::Result<i64> {
    tx.prepare_cached(
        "INSERT INTO meta VALUES ('revision', 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
    )?
    .query_row([], |row| row.get(0))
}

fn take_out(
    delete: &mut rusqlite::CachedStatement<'_>,
    which: impl rusqlite::Params,
    touched: &mut Touched,
) -> rusqlite::Result<()> {
    let mut gone = delete.query(which)?;
    while let Some(row) = gone.next()? {
        touched.add(row.get(0)?, Kind::from_stored(row.get(1)?), row.get(2)?);
    }
    Ok(())
}

/// Brings what is derived from the facts up to date.
fn refresh(
    tx: &Transaction,
    touched: Touched,
    settle_at: Timestamp,
) -> rusqlite::Result<FactsWritten> {
    let mut written = FactsWritten::default();
    for (stream, pushes) in touched.0 {
        for push in &pushes {
            refresh_push(tx, stream, push.as_deref())?;
        }
        let last: Option<i64> = tx
            .prepare_cached("SELECT max(at) FROM facts WHERE stream = ?1")?
            .query_row([stream], |row| row.get(0))?;
        let Some(last) = last else {
            for sql in [
                "DELETE FROM sessions WHERE stream = ?1",
                "DELETE FROM streams WHERE no = ?1",
            ] {
                tx.prepare_cached(sql)?.execute([stream])?;
            }
            continue;
        };
        tx.prepare_cached("UPDATE streams SET last = ?2 WHERE no = ?1 AND last <> ?2")?
            .execute([stream, last])?;
        if !pushes.is_empty() {
            written.flaps += u64::from(refresh_head(tx, stream, settle_at)?);
        }
    }
    Ok(written)
}

fn has_begin(tx: &Transaction, stream: i64) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM facts WHERE stream = ?1 AND kind = 1 AND gone = 0 LIMIT 1")?
        .exists([stream])
}

/// The sessions of one push, or of all that have no sequence.
fn refresh_push(tx: &Transaction, stream: i64, push: Option<&str>) -> rusqlite::Result<()> {
    let mut select = tx.prepare_cached(
        "SELECT seq, id, kind, at, received, sequence, lasted FROM facts
         WHERE stream = ?1 AND sequence IS ?2 AND kind IN (0, 1) ORDER BY at DESC, id DESC, seq LIMIT ?3",
    )?;
    let facts: Vec<Fact> = select
        .query_map(params![stream, push, MAX_PUSH_FACTS as i64], fact_of)?
        .collect::<Result<_, _>>()?;
    tx.prepare_cached("DELETE FROM sessions WHERE stream = ?1 AND sequence IS ?2")?
        .execute(params![stream, push])?;
    for session in sessions(&facts) {
        tx.prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                stream,
                session.key,
                session.sequence,
                session.rank(),
                session.start.millis(),
                session.begin,
                session.end.map(|(at, _)| at.millis()),
                session.end.map(|(_, seq)| seq),
            ])?;
    }
    Ok(())
}

fn fact_of(row: &Row) -> rusqlite::Result<Fact> {
    Ok(Fact {
        seq: row.get(0)?,
        id: EventId::from_bytes(row.get(1)?),
        kind: Kind::from_stored(row.get(2)?),
        at: Timestamp::from_millis(row.get(3)?),
        received: Timestamp::from_millis(row.get(4)?),
        sequence: row.get(5)?,
        lasted: row
            .get::<_, Option<i64>>(6)?
            .map(|millis| Duration::from_millis(millis.unsigned_abs())),
    })
}

fn newest(conn: &Connection, stream: i64, limit: usize) -> rusqlite::Result<Vec<Session>> {
    let mut select = conn.prepare_cached(
        "SELECT key, sequence, start, begin_seq, end_at, end_seq FROM sessions
         WHERE stream = ?1 ORDER BY start DESC, rank DESC LIMIT ?2",
    )?;
    let rows = select.query_map(params![stream, limit as i64], |row| {
        let end: (Option<i64>, Option<Seq>) = (row.get(4)?, row.get(5)?);
        Ok(Session {
            key: row.get(0)?,
            sequence: row.get(1)?,
            start: Timestamp::from_millis(row.get(2)?),
            begin: row.get(3)?,
            end: end.0.map(Timestamp::from_millis).zip(end.1),
        })
    })?;
    rows.collect()
}

/// Whether the stream is live, by its newest session: `true` if it is again as it was before a change that was not told yet.
fn refresh_head(tx: &Transaction, stream: i64, settle_at: Timestamp) -> rusqlite::Result<bool> {
    let newest = newest(tx, stream, 1)?.pop();
    let live = newest.as_ref().is_some_and(Session::is_open);
    let since = newest.as_ref().map(|session| match session.end {
        Some((end, _)) => end.millis(),
        None => session.start.millis(),
    });
    let key = newest.map(|session| session.key);
    let (announced, unsettled): (bool, bool) = tx
        .prepare_cached("SELECT announced, settle_at IS NOT NULL FROM streams WHERE no = ?1")?
        .query_row([stream], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let changed = tx
        .prepare_cached(
            "UPDATE streams SET live = ?2, since = ?3, session = ?4,
                 settle_at = CASE WHEN announced = ?2 THEN NULL ELSE coalesce(settle_at, ?5) END
             WHERE no = ?1 AND (live, since, session) IS NOT (?2, ?3, ?4)",
        )?
        .execute(params![stream, live, since, key, settle_at.millis()])?;
    if changed > 0 {
        tx.prepare_cached("UPDATE streams SET revision = ?2 WHERE no = ?1")?
            .execute(params![stream, next_revision(tx)?])?;
    }
    Ok(unsettled && announced == live)
}
