//! Events whose record in the log is damaged: they are never delivered. They are parked, so that an operator sees them.

use css_callbacks::Timestamp;
use rusqlite::{Connection, params};

use super::deliveries::promote;
use super::stored::is_deleted;
use crate::event::Seq;
use crate::inbox::delivery::HandlerId;

/// The error of a parked delivery whose event is damaged.
pub(super) const DAMAGED: &str = "the event is damaged on the disk and cannot be delivered";

/// Parks the deliveries of damaged events: of the handlers that have not come so far, and those that have a row already. Returns
/// the events that were not known to be damaged.
pub(super) fn park_damaged(
    conn: &Connection,
    seqs: &[Seq],
    now: Timestamp,
) -> rusqlite::Result<Vec<Seq>> {
    let mut note = conn.prepare_cached("INSERT OR IGNORE INTO damaged VALUES (?1, ?2)")?;
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, parked, error)
         SELECT id, ?1, 0, 2, 0, ?2, ?2, ?3 FROM handlers WHERE position < ?1 AND name NOT LIKE '%.%'",
    )?;
    let mut park = conn.prepare_cached(
        "UPDATE deliveries SET state = 2, parked = ?2, error = ?3 WHERE seq = ?1 AND state < 2
         RETURNING handler, lane",
    )?;
    let mut new = Vec::new();
    for seq in seqs {
        // Nobody misses the body of a deleted event, nor what stands in its place.
        if is_deleted(conn, *seq)? {
            continue;
        }
        if note.execute(params![seq, now.millis()])? > 0 {
            new.push(*seq);
        }
        insert.execute(params![seq, now.millis(), DAMAGED])?;
        let rows: Vec<(HandlerId, i64)> = park
            .query_map(params![seq, now.millis(), DAMAGED], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (handler, lane) in rows {
            promote(conn, handler, lane.cast_unsigned())?;
        }
    }
    Ok(new)
}

/// How many events are known to be damaged.
pub(super) fn count_damaged(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT count(*) FROM damaged", [], |row| row.get(0))
}
