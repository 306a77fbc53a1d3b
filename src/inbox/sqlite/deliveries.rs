//! Positions and delivery rows in SQL.

use std::time::Duration;

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::events::{EVENT_COLUMNS, event_of};
use crate::event::Seq;
use crate::inbox::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, DeliveryRow, HandlerId, Lane, Owed, Parked,
    Registered, ReplayedDelivery, RowCounts, RowState, Start, replay_lane,
};
use crate::inbox::query::sql_order;

const DUE: i64 = 0;
const PARKED: i64 = 2;

/// Lanes are unsigned hashes, SQLite's integers are signed: the same 64 bits.
fn stored(lane: Lane) -> i64 {
    lane.cast_signed()
}

/// Gives every configured handler its number and position; others are marked as missing from `now` on.
pub(super) fn register(
    conn: &Connection,
    configured: &[(String, Start)],
    last: Seq,
    now: Timestamp,
) -> rusqlite::Result<Vec<Registered>> {
    let names: Vec<&str> = configured.iter().map(|(name, _)| name.as_str()).collect();
    let mut known = conn.prepare("SELECT id, name FROM handlers WHERE missing_since IS NULL")?;
    let known: Vec<(i64, String)> = known
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, _) in known
        .iter()
        .filter(|(_, name)| !names.contains(&name.as_str()))
    {
        conn.execute(
            "UPDATE handlers SET missing_since = ?2 WHERE id = ?1",
            params![id, now.millis()],
        )?;
    }
    configured
        .iter()
        .map(|(name, start)| register_one(conn, name, *start, last))
        .collect()
}

fn register_one(
    conn: &Connection,
    name: &str,
    start: Start,
    last: Seq,
) -> rusqlite::Result<Registered> {
    let position = match start {
        Start::Now => last,
        Start::Oldest => 0,
    };
    let id = conn.query_row(
        "INSERT INTO handlers(name, position) VALUES (?1, ?2)
         ON CONFLICT(name) DO UPDATE SET missing_since = NULL RETURNING id",
        params![name, position],
        |row| row.get(0),
    )?;
    resume(conn, id)
}

/// Up to where a handler is finished, or has rows.
pub(super) fn position(conn: &Connection, id: HandlerId) -> rusqlite::Result<Seq> {
    conn.prepare_cached("SELECT position FROM handlers WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
}

/// What has to be known to deliver for a handler.
pub(super) fn resume(conn: &Connection, id: HandlerId) -> rusqlite::Result<Registered> {
    let position = position(conn, id)?;
    let mut lanes = conn.prepare(
        "SELECT lane, count(*) FROM deliveries WHERE handler = ?1 AND state < 2 AND lane & 1 = 0 GROUP BY lane",
    )?;
    let count = |row: &Row| {
        Ok((
            row.get::<_, i64>(0)?.cast_unsigned(),
            row.get::<_, i64>(1)?.unsigned_abs(),
        ))
    };
    let blocked = lanes.query_map([id], count)?.collect::<Result<_, _>>()?;
    let beyond = conn
        .prepare("SELECT seq FROM deliveries WHERE handler = ?1 AND seq > ?2")?
        .query_map([id, position], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Registered {
        id,
        position,
        blocked,
        beyond,
        paused: paused_since(conn, id)?.is_some(),
    })
}

fn paused_since(conn: &Connection, id: HandlerId) -> rusqlite::Result<Option<i64>> {
    let since = conn
        .prepare_cached("SELECT paused FROM handlers WHERE id = ?1")?
        .query_row([id], |row| row.get::<_, i64>(0))?;
    Ok(Some(since).filter(|since| *since != 0))
}

/// Pauses a handler, or resumes it and has its deliveries be no older than when it was paused.
pub(super) fn pause(
    conn: &Connection,
    id: HandlerId,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let since = match (paused_since(conn, id)?, paused) {
        (None, true) => now.millis(),
        (Some(since), false) => {
            conn.execute(
                "UPDATE deliveries SET first_attempt = first_attempt + ?2
                 WHERE handler = ?1 AND state < 2 AND first_attempt IS NOT NULL",
                params![id, (now.millis() - since).max(0)],
            )?;
            0
        }
        _ => return Ok(()),
    };
    conn.execute(
        "UPDATE handlers SET paused = ?2 WHERE id = ?1",
        params![id, since],
    )?;
    Ok(())
}

/// Forgets handlers missing for longer than `retention`: their names, with the number of deliveries that go with each. One that is
/// missing only since a time that far ahead is missing since now: the clock was wrong.
pub(super) fn forget_missing(
    conn: &Connection,
    now: Timestamp,
    retention: Duration,
) -> rusqlite::Result<Vec<(String, u64)>> {
    let cutoff = now.minus(retention);
    if !is_behind(conn, now)? {
        conn.prepare_cached("UPDATE handlers SET missing_since = ?1 WHERE missing_since > ?2")?
            .execute([now.millis(), now.plus(retention).millis()])?;
    }
    let mut select =
        conn.prepare_cached("SELECT id, name FROM handlers WHERE missing_since < ?1")?;
    let missing: Vec<(HandlerId, String)> = select
        .query_map([cutoff.millis()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let forget = |(id, name): (HandlerId, String)| {
        let rows = conn.query_row(
            "SELECT count(*) FROM deliveries WHERE handler = ?1",
            [id],
            |row| row.get::<_, i64>(0),
        )?;
        conn.execute("DELETE FROM handlers WHERE id = ?1", [id])?;
        Ok((name, rows.unsigned_abs()))
    };
    missing.into_iter().map(forget).collect()
}

/// Removes up to `limit` deliveries of forgotten handlers: how many. There may be very many, and callbacks wait meanwhile.
pub(super) fn drop_orphans(conn: &Connection, limit: usize) -> rusqlite::Result<usize> {
    let mut next = conn.prepare_cached("SELECT min(handler) FROM deliveries WHERE handler > ?1")?;
    let mut known = conn.prepare_cached("SELECT 1 FROM handlers WHERE id = ?1")?;
    let mut delete = conn.prepare_cached(
        "DELETE FROM deliveries WHERE handler = ?1
         AND seq IN (SELECT seq FROM deliveries WHERE handler = ?1 LIMIT ?2)",
    )?;
    let mut at = 0;
    while let Some(handler) = next.query_row([at], |row| row.get::<_, Option<HandlerId>>(0))? {
        if !known.exists([handler])? {
            return delete.execute(params![handler, limit as i64]);
        }
        at = handler;
    }
    Ok(0)
}

/// Removes up to `limit` deliveries of each handler that are parked for longer than `retention`: how many. One that was parked at a
/// time that far ahead was parked now: the clock was wrong.
pub(super) fn drop_old_parked(
    conn: &Connection,
    now: Timestamp,
    retention: Duration,
    limit: usize,
) -> rusqlite::Result<usize> {
    let (cutoff, ahead) = (now.minus(retention), now.plus(retention));
    let mut handlers = conn.prepare_cached("SELECT id FROM handlers")?;
    let mut delete = conn.prepare_cached(
        "DELETE FROM deliveries WHERE handler = ?1 AND seq IN
            (SELECT seq FROM deliveries WHERE handler = ?1 AND parked < ?2 AND state = 2 LIMIT ?3)",
    )?;
    let mut correct = conn.prepare_cached(
        "UPDATE deliveries SET parked = ?2 WHERE handler = ?1 AND seq IN
            (SELECT seq FROM deliveries WHERE handler = ?1 AND parked > ?3 LIMIT ?4)",
    )?;
    let handlers: Vec<HandlerId> = handlers
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let is_behind = is_behind(conn, now)?;
    handlers.into_iter().try_fold(0, |dropped, handler| {
        if !is_behind {
            correct.execute(params![handler, now.millis(), ahead.millis(), limit as i64])?;
        }
        Ok(dropped + delete.execute(params![handler, cutoff.millis(), limit as i64])?)
    })
}

/// Whether the clock says that it is earlier than when the newest event arrived. Then it is the clock that is wrong, and what is
/// ahead of it may be right: as when a machine starts in 1970, before it has asked for the time.
fn is_behind(conn: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let newest = conn
        .prepare_cached("SELECT received FROM events ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(newest.is_some_and(|newest| newest > now.millis()))
}

/// Up to here every handler has finished everything, or has rows for it.
pub(super) fn floor(conn: &Connection) -> rusqlite::Result<Seq> {
    let lowest = conn
        .prepare_cached("SELECT min(position) FROM handlers")?
        .query_row([], |row| row.get::<_, Option<Seq>>(0))?;
    Ok(lowest.unwrap_or(Seq::MAX))
}

/// Writes what became of a handler's deliveries. An event that is gone by now gets no row: nothing could ever finish it.
pub(super) fn settle(
    conn: &Connection,
    handler: HandlerId,
    settlement: &DeliveryCommit,
) -> rusqlite::Result<()> {
    for change in &settlement.changes {
        match change {
            DeliveryChange::Wait { seq, lane } => {
                wait(conn, handler, *seq, *lane)?;
            }
            DeliveryChange::Retry {
                seq,
                lane,
                attempts,
                due,
            } => {
                let left = lane_of(conn, handler, *seq)?;
                if upsert(conn, handler, *seq, *lane, DUE, attempts, *due, None)? > 0 {
                    // Whatever had moved up in its absence waits again.
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
                upsert(conn, handler, *seq, *lane, PARKED, attempts, *at, Some(*at))?;
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
    if let Some(position) = settlement.position {
        conn.prepare_cached("UPDATE handlers SET position = ?2 WHERE id = ?1 AND position < ?2")?
            .execute(params![handler, position])?;
    }
    Ok(())
}

/// The lane of a row. A replay that meets a running attempt can put it into another one than the attempt knows of.
fn lane_of(conn: &Connection, handler: HandlerId, seq: Seq) -> rusqlite::Result<Option<Lane>> {
    conn.prepare_cached("SELECT lane FROM deliveries WHERE handler = ?1 AND seq = ?2")?
        .query_row([handler, seq], |row| row.get::<_, i64>(0))
        .optional()
        .map(|lane| lane.map(i64::cast_unsigned))
}

#[expect(clippy::too_many_arguments, reason = "a row has that many columns")]
fn upsert(
    conn: &Connection,
    handler: HandlerId,
    seq: Seq,
    lane: Lane,
    state: i64,
    attempts: &Attempts,
    due: Timestamp,
    parked: Option<Timestamp>,
) -> rusqlite::Result<usize> {
    conn.prepare_cached(
        "INSERT INTO deliveries(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?2)
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

/// Keeps events for a handler that owes them nothing: a row that is parked since never.
pub(super) fn hold(conn: &Connection, handler: HandlerId, seqs: &[Seq]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, error)
         SELECT ?1, seq, 0, 2, 0, 0, '' FROM events WHERE seq = ?2",
    )?;
    for seq in seqs {
        insert.execute([handler, *seq])?;
    }
    Ok(())
}

/// Puts a delivery at the end of its lane; due at once if it is the only one there. A delivery that has a row keeps it.
fn wait(conn: &Connection, handler: HandlerId, seq: Seq, lane: Lane) -> rusqlite::Result<usize> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, error)
         SELECT ?1, ?2, ?3, EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?3 AND state < 2), 0, 0, ''
         WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?2)",
    )?
    .execute(params![handler, seq, stored(lane)])
}

/// Makes the first waiting delivery of a lane due, if none is.
fn promote(conn: &Connection, handler: HandlerId, lane: Lane) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE deliveries SET state = 0, due = 0
         WHERE handler = ?1
           AND seq = (SELECT min(seq) FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 1)
           AND NOT EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 0)",
    )?
    .execute(params![handler, stored(lane)])?;
    Ok(())
}

/// The due deliveries, longest due first, and when the next one after them is due. Those due beyond `latest` come before all.
pub(super) fn due(
    conn: &Connection,
    handler: HandlerId,
    until: Timestamp,
    latest: Timestamp,
    limit: usize,
) -> rusqlite::Result<(Vec<Owed>, Option<Timestamp>)> {
    let (until, latest) = (until.millis(), latest.millis());
    let mut owed = due_between(conn, handler, (latest, i64::MAX), limit)?;
    let limit = limit.saturating_sub(owed.len());
    owed.extend(due_between(
        conn,
        handler,
        (i64::MIN, until.min(latest)),
        limit,
    )?);
    let next = conn
        .prepare_cached(
            "SELECT min(due) FROM deliveries WHERE handler = ?1 AND state = 0 AND due > ?2 AND due <= ?3",
        )?
        .query_row(params![handler, until, latest], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
    Ok((owed, next.map(Timestamp::from_millis)))
}

/// Those due after the one time, up to the other.
fn due_between(
    conn: &Connection,
    handler: HandlerId,
    (after, upto): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Owed>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS}, lane, attempts, first_attempt, error FROM deliveries JOIN events USING (seq)
         WHERE handler = ?1 AND state = 0 AND due > ?2 AND due <= ?3 ORDER BY due, seq LIMIT ?4"
    ))?;
    let owed = select.query_map(params![handler, after, upto, limit as i64], |row| {
        Ok(Owed {
            event: event_of(row)?,
            lane: row.get::<_, i64>(6)?.cast_unsigned(),
            attempts: attempts_of(row, 7)?,
        })
    })?;
    owed.collect()
}

fn attempts_of(row: &Row, first: usize) -> rusqlite::Result<Attempts> {
    Ok(Attempts {
        count: row.get(first)?,
        first: row
            .get::<_, Option<i64>>(first + 1)?
            .map(Timestamp::from_millis),
        error: row.get(first + 2)?,
    })
}

/// The parked deliveries beyond `beyond`, in the order of their events or against it. Left to itself SQLite would read all
/// that wait as well.
pub(super) fn parked(
    conn: &Connection,
    handler: HandlerId,
    beyond: Seq,
    newest_first: bool,
    limit: usize,
) -> rusqlite::Result<Vec<Parked>> {
    let (comparison, order) = sql_order(newest_first);
    let mut select = conn.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS}, attempts, first_attempt, error, parked, state
         FROM deliveries INDEXED BY deliveries_parked_in_order JOIN events USING (seq)
         WHERE handler = ?1 AND parked IS NOT NULL AND seq {comparison} ?2 ORDER BY seq {order} LIMIT ?3"
    ))?;
    let rows = select.query_map(params![handler, beyond, limit as i64], |row| {
        Ok(Parked {
            event: event_of(row)?.without_body(),
            attempts: attempts_of(row, 6)?,
            at: Timestamp::from_millis(row.get(9)?),
            replaying: row.get::<_, i64>(10)? != PARKED,
        })
    })?;
    rows.collect()
}

/// Counts a handler's rows. There may be very many: they are counted in one pass over an index that has all of this, which
/// SQLite would not choose itself.
pub(super) fn count(conn: &Connection, handler: HandlerId) -> rusqlite::Result<RowCounts> {
    let number = |row: &Row, at| Ok(row.get::<_, i64>(at)?.unsigned_abs());
    let mut select = conn.prepare_cached(
        "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
             count(*) FILTER (WHERE state < 2 AND lane & 1 = 1), min(seq) FILTER (WHERE state < 2)
         FROM deliveries INDEXED BY deliveries_by_lane WHERE handler = ?1",
    )?;
    let counts = select.query_row([handler], |row| {
        Ok(RowCounts {
            due: number(row, 0)?,
            waiting: number(row, 1)?,
            parked: 0,
            replaying: number(row, 2)?,
            oldest: row.get(3)?,
        })
    })?;
    let mut select = conn.prepare_cached(
        "SELECT count(*) FROM deliveries WHERE handler = ?1 AND parked IS NOT NULL",
    )?;
    Ok(RowCounts {
        parked: select.query_row([handler], |row| number(row, 0))?,
        ..counts
    })
}

/// Whether an event has a row.
pub(super) fn delivery_row(
    conn: &Connection,
    handler: HandlerId,
    seq: Seq,
) -> rusqlite::Result<Option<DeliveryRow>> {
    let row = |row: &Row| {
        let state = RowState::of(row.get(0)?);
        let due = Timestamp::from_millis(row.get(4)?);
        Ok(DeliveryRow {
            state,
            attempts: attempts_of(row, 1)?,
            due: Some(due).filter(|_| state == RowState::Due),
            parked: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
        })
    };
    conn.prepare_cached(
        "SELECT state, attempts, first_attempt, error, due, parked FROM deliveries WHERE handler = ?1 AND seq = ?2",
    )?
    .query_row([handler, seq], row)
    .optional()
}

/// Makes these deliveries due again, each in the lane for replays. One that is due or waiting anyway stays in its lane, whose head
/// waits no longer. A dry run only counts.
pub(super) fn replay(
    conn: &Connection,
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
            None if wait(conn, handler, seq, lane)? == 0 => continue,
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

/// Removes the rows of these deliveries: the lanes of those that were due or waiting.
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

/// Removes the rows of these events, of whichever handler; their lanes go on.
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
