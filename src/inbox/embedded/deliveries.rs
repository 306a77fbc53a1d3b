//! Changes delivery rows.

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::stored::{Log, is_stored};
use crate::event::Seq;
use crate::inbox::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, HandlerId, Lane, ReplayedDelivery, replay_lane,
};

const DUE: i64 = 0;
pub(super) const PARKED: i64 = 2;

/// Lanes are unsigned hashes, SQLite's integers are signed: the same 64 bits.
fn stored(lane: Lane) -> i64 {
    lane.cast_signed()
}

/// Writes what became of a handler's deliveries. An event that was removed meanwhile gets no row, because nothing could finish it.
pub(super) fn commit(
    conn: &Connection,
    log: &Log,
    handler: HandlerId,
    commit: &DeliveryCommit,
) -> rusqlite::Result<()> {
    for change in &commit.changes {
        match change {
            DeliveryChange::Wait { seq, lane } => {
                wait(conn, log, handler, *seq, *lane)?;
            }
            DeliveryChange::Retry {
                seq,
                lane,
                attempts,
                due,
            } => {
                let left = lane_of(conn, handler, *seq)?;
                if upsert(conn, log, handler, *seq, *lane, DUE, attempts, *due, None)? > 0 {
                    // A row that became due in its absence waits again.
                    conn.prepare_cached(
                        "UPDATE deliveries SET state = 1 WHERE handler = ?1 AND lane = ?2 AND state = 0 AND seq <> ?3",
                    )?
                    .execute(params![handler, stored(*lane), seq])?;
                }
                promote(conn, handler, left.unwrap_or(*lane))?;
            }
            DeliveryChange::Park {
                seq,
                lane,
                attempts,
                at,
            } => {
                let left = lane_of(conn, handler, *seq)?;
                upsert(
                    conn,
                    log,
                    handler,
                    *seq,
                    *lane,
                    PARKED,
                    attempts,
                    *at,
                    Some(*at),
                )?;
                promote(conn, handler, left.unwrap_or(*lane))?;
            }
            DeliveryChange::Done { seq, lane } => {
                let left = lane_of(conn, handler, *seq)?;
                conn.prepare_cached("DELETE FROM deliveries WHERE handler = ?1 AND seq = ?2")?
                    .execute(params![handler, seq])?;
                promote(conn, handler, left.unwrap_or(*lane))?;
            }
        }
    }
    if let Some(position) = commit.position {
        conn.prepare_cached("UPDATE handlers SET position = ?2 WHERE id = ?1 AND position < ?2")?
            .execute(params![handler, position])?;
    }
    Ok(())
}

/// The lane of a row. It may differ from the lane of the attempt, if a replay has moved the row meanwhile.
fn lane_of(conn: &Connection, handler: HandlerId, seq: Seq) -> rusqlite::Result<Option<Lane>> {
    conn.prepare_cached("SELECT lane FROM deliveries WHERE handler = ?1 AND seq = ?2")?
        .query_row([handler, seq], |row| row.get::<_, i64>(0))
        .optional()
        .map(|lane| lane.map(i64::cast_unsigned))
}

#[expect(clippy::too_many_arguments, reason = "a row has that many columns")]
fn upsert(
    conn: &Connection,
    log: &Log,
    handler: HandlerId,
    seq: Seq,
    lane: Lane,
    state: i64,
    attempts: &Attempts,
    due: Timestamp,
    parked: Option<Timestamp>,
) -> rusqlite::Result<usize> {
    if !is_stored(conn, log, seq)? {
        return Ok(0);
    }
    conn.prepare_cached(
        "INSERT INTO deliveries(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET lane = ?3, state = ?4, attempts = ?5, first_attempt = ?6, due = ?7,
             parked = coalesce(?8, parked), error = ?9",
    )?
    .execute(params![
        handler,
        seq,
        stored(lane),
        state,
        attempts.count,
        attempts.first.map(Timestamp::millis),
        due.millis(),
        parked.map(Timestamp::millis),
        attempts.error,
    ])
}

/// Keeps events from retention for a handler: a parked row that is in no list, because it has no time.
pub(super) fn pin(
    conn: &Connection,
    log: &Log,
    handler: HandlerId,
    seqs: &[Seq],
) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, error)
         VALUES (?1, ?2, 0, 2, 0, 0, '')",
    )?;
    for seq in seqs {
        if is_stored(conn, log, *seq)? {
            insert.execute([handler, *seq])?;
        }
    }
    Ok(())
}

/// Puts a delivery at the end of its lane. It is due at once if it is the only one there. A delivery that has a row keeps it.
fn wait(
    conn: &Connection,
    log: &Log,
    handler: HandlerId,
    seq: Seq,
    lane: Lane,
) -> rusqlite::Result<usize> {
    if !is_stored(conn, log, seq)? {
        return Ok(0);
    }
    conn.prepare_cached(
        "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, error)
         SELECT ?1, ?2, ?3, EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?3 AND state < 2), 0, 0, ''",
    )?
    .execute(params![handler, seq, stored(lane)])
}

/// Makes the first waiting delivery of a lane due, if none is.
pub(super) fn promote(conn: &Connection, handler: HandlerId, lane: Lane) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE deliveries SET state = 0, due = 0
         WHERE handler = ?1
           AND seq = (SELECT min(seq) FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 1)
           AND NOT EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 0)",
    )?
    .execute(params![handler, stored(lane)])?;
    Ok(())
}

/// Makes these deliveries due again, each in the replay lane of its stream. A delivery that is due or waiting stays in its lane, and
/// the head of that lane is due now. A dry run only counts.
pub(super) fn replay(
    conn: &Connection,
    log: &Log,
    handler: HandlerId,
    wanted: &[ReplayedDelivery],
    dry_run: bool,
) -> rusqlite::Result<u64> {
    let mut row =
        conn.prepare_cached("SELECT state, lane FROM deliveries WHERE handler = ?1 AND seq = ?2")?;
    let mut unpark = conn.prepare_cached(
        "UPDATE deliveries SET attempts = 0, first_attempt = NULL, due = 0, lane = ?3,
             state = EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?3 AND state < 2)
         WHERE handler = ?1 AND seq = ?2",
    )?;
    let mut hurry = conn.prepare_cached(
        "UPDATE deliveries SET due = 0 WHERE handler = ?1 AND lane = ?2 AND state = 0 AND due <> 0",
    )?;
    let mut replayed = 0;
    for &ReplayedDelivery { seq, lane, is_owed } in wanted {
        let lane = replay_lane(lane);
        let row = row.query_row(params![handler, seq], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        match row.optional()? {
            _ if dry_run => {}
            None if is_owed => {}
            None if wait(conn, log, handler, seq, lane)? == 0 => continue,
            None => {}
            Some((PARKED, _)) => {
                unpark.execute(params![handler, seq, stored(lane)])?;
            }
            Some((_, lane)) => {
                hurry.execute([handler, lane])?;
            }
        }
        replayed += 1;
    }
    Ok(replayed)
}

/// Removes the rows of these deliveries. Returns how many, and the lanes of those that were due or waiting.
pub(super) fn discard(
    conn: &Connection,
    handler: HandlerId,
    wanted: &[Seq],
) -> rusqlite::Result<(u64, Vec<Lane>)> {
    let mut delete = conn.prepare_cached(
        "DELETE FROM deliveries WHERE handler = ?1 AND seq = ?2 RETURNING lane, state",
    )?;
    let mut discarded = 0;
    let mut lanes = Vec::new();
    for seq in wanted {
        let row = delete.query_row(params![handler, seq], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        if let Some((lane, state)) = row.optional()? {
            discarded += 1;
            if state != PARKED {
                lanes.push(lane.cast_unsigned());
                promote(conn, handler, lane.cast_unsigned())?;
            }
        }
    }
    Ok((discarded, lanes))
}

/// Removes the rows of these events, of all handlers. Their lanes go on.
pub(super) fn delete(conn: &Connection, seqs: &[Seq]) -> rusqlite::Result<()> {
    let mut delete = conn
        .prepare_cached("DELETE FROM deliveries WHERE seq = ?1 RETURNING handler, lane, state")?;
    for seq in seqs {
        let rows: Vec<(HandlerId, i64, i64)> = delete
            .query_map([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        for (handler, lane, state) in rows {
            if state != PARKED {
                promote(conn, handler, lane.cast_unsigned())?;
            }
        }
    }
    Ok(())
}
