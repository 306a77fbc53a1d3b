//! Which events are stored: in the log, or as copies in the state.

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::{Connection, Params, Row, params};

use crate::event::{Event, Seq};
use crate::inbox::event_log::{Directory, KnownState, LogEntry, LogReader};

/// Reads the log of the store.
pub(super) type StoreLog = LogReader<Directory>;

/// Whether an event is stored: as a copy, or in the log. A segment that retention has removed may still be there.
pub(super) fn is_stored(conn: &Connection, log: &StoreLog, seq: Seq) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM kept WHERE seq = ?1) OR
            ?2 AND NOT EXISTS (SELECT 1 FROM deleted WHERE seq = ?1) AND
            ?1 > coalesce((SELECT last FROM removed WHERE first <= ?1 ORDER BY first DESC LIMIT 1), 0)",
    )?
    .query_row(params![seq, log.contains(seq)], |row| row.get(0))
}

pub(super) fn is_deleted(conn: &Connection, seq: Seq) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM deleted WHERE seq = ?1")?
        .exists([seq])
}

/// What the state knows of the log. `in_doubt`: a power cut could take it back.
pub(super) fn known_state(conn: &Connection, in_doubt: bool) -> rusqlite::Result<KnownState> {
    Ok(KnownState {
        last: last_seq(conn)?,
        removed: removed_ranges(conn)?,
        erasing: not_erased(conn)?.into_iter().collect(),
        erased: conn
            .prepare("SELECT seq FROM deleted WHERE erased = 1")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        in_doubt,
    })
}

/// All ranges of events that retention removed, in order.
pub(super) fn removed_ranges(conn: &Connection) -> rusqlite::Result<Vec<(Seq, Seq)>> {
    conn.prepare("SELECT first, last FROM removed ORDER BY first")?
        .query_map([], |row| row.try_into())?
        .collect()
}

/// Notes that retention removes these events, with all that was known of them.
pub(super) fn note_removed(conn: &Connection, first: Seq, last: Seq) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO removed SELECT min(first), max(last) FROM
            (SELECT ?1 AS first, ?2 AS last UNION ALL
             SELECT * FROM removed WHERE last = ?1 - 1 OR first = ?2 + 1)",
    )?
    .execute([first, last])?;
    // The row of the neighbour before it is replaced.
    conn.prepare_cached("DELETE FROM removed WHERE first = ?1 + 1")?
        .execute([last])?;
    for table in ["deleted", "damaged"] {
        let delete = format!("DELETE FROM {table} WHERE seq BETWEEN ?1 AND ?2");
        conn.prepare_cached(&delete)?.execute([first, last])?;
    }
    Ok(())
}

/// Notes that these events are deleted. Returns how many of them were stored.
pub(super) fn note_deleted(
    conn: &Connection,
    log: &StoreLog,
    seqs: &[Seq],
) -> rusqlite::Result<u64> {
    let mut delete = conn.prepare_cached("DELETE FROM kept WHERE seq = ?1")?;
    let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO deleted VALUES (?1, 0)")?;
    let mut stored = 0;
    for seq in seqs {
        if is_stored(conn, log, *seq)? {
            stored += 1;
            if delete.execute([seq])? == 0 {
                insert.execute([seq])?;
            }
        }
    }
    Ok(stored)
}

/// Notes that the bodies of these deleted events are overwritten.
pub(super) fn note_erased(conn: &Connection, seqs: &[Seq]) -> rusqlite::Result<()> {
    let mut update = conn.prepare_cached("UPDATE deleted SET erased = 1 WHERE seq = ?1")?;
    for seq in seqs {
        update.execute([seq])?;
    }
    Ok(())
}

/// The deleted events whose bodies may not be overwritten yet.
pub(super) fn not_erased(conn: &Connection) -> rusqlite::Result<Vec<Seq>> {
    conn.prepare("SELECT seq FROM deleted WHERE erased = 0 ORDER BY seq")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// The last event that the state knows of.
fn last_seq(conn: &Connection) -> rusqlite::Result<Seq> {
    conn.query_row(
        "SELECT max(coalesce((SELECT max(last) FROM removed), 0), coalesce((SELECT max(position) FROM handlers), 0))",
        [],
        |row| row.get(0),
    )
}

/// Stores a copy of an event.
pub(super) fn keep(conn: &Connection, event: &Event) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR IGNORE INTO kept VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            event.seq(),
            event.received().millis(),
            &**event.source(),
            event.kind().stored(),
            event.id().as_bytes(),
            &event.body()[..],
            checksum(event),
        ])
        .map(drop)
}

/// Removes copies that no delivery needs any more.
pub(super) fn drop_unneeded_copies(conn: &Connection) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "DELETE FROM kept WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.seq = kept.seq)",
    )?
    .execute([])
    .map(drop)
}

/// The copies after `after` in order.
pub(super) fn kept_after(
    conn: &Connection,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<LogEntry>> {
    let which = "seq > ?1 ORDER BY seq LIMIT ?2";
    copies(conn, which, params![after, limit as i64])
}

/// The number of the next copy from `seq` on, forwards or backwards.
pub(super) fn next_kept(
    conn: &Connection,
    seq: Seq,
    backwards: bool,
) -> rusqlite::Result<Option<Seq>> {
    conn.prepare_cached(if backwards {
        "SELECT max(seq) FROM kept WHERE seq <= ?1"
    } else {
        "SELECT min(seq) FROM kept WHERE seq >= ?1"
    })?
    .query_row([seq], |row| row.get(0))
}

/// The copy of an event.
pub(super) fn kept(conn: &Connection, seq: Seq) -> rusqlite::Result<Option<LogEntry>> {
    Ok(copies(conn, "seq = ?1", [seq])?.pop())
}

/// The newest copy with an id.
pub(super) fn find_kept(conn: &Connection, id: &EventId) -> rusqlite::Result<Option<LogEntry>> {
    let which = "id = ?1 ORDER BY seq DESC LIMIT 1";
    Ok(copies(conn, which, [id.as_bytes()])?.pop())
}

fn copies(conn: &Connection, which: &str, values: impl Params) -> rusqlite::Result<Vec<LogEntry>> {
    let sql = format!("SELECT seq, received, source, kind, id, body, crc FROM kept WHERE {which}");
    let copy = |row: &Row| {
        let event = Event::new(
            row.get(0)?,
            EventId::from_bytes(row.get(4)?),
            row.get_ref(2)?.as_str()?.into(),
            Kind::from_stored(row.get(3)?),
            Timestamp::from_millis(row.get(1)?),
            Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
        );
        Ok(match row.get::<_, u32>(6)? == checksum(&event) {
            true => LogEntry::Event(event),
            false => LogEntry::Damaged(event.seq(), None),
        })
    };
    conn.prepare_cached(&sql)?
        .query_map(values, copy)?
        .collect()
}

fn checksum(event: &Event) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&event.seq().to_le_bytes());
    sum.update(&event.received().millis().to_le_bytes());
    sum.update(&event.kind().stored().to_le_bytes());
    sum.update(event.id().as_bytes());
    sum.update(event.source().as_bytes());
    sum.update(event.body());
    sum.finalize()
}
