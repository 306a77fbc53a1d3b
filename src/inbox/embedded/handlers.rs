//! Handlers in SQL: their numbers, positions and pauses, and what becomes of those that are missing.

use std::time::Duration;

use css_callbacks::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::event::Seq;
use crate::inbox::delivery::{HandlerId, Registered, Start};

/// Gives each configured handler its number and position. All others are marked as missing from `now` on.
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

/// The handler's position: up to here each event is finished or has a row.
pub(super) fn position(conn: &Connection, id: HandlerId) -> rusqlite::Result<Seq> {
    conn.prepare_cached("SELECT position FROM handlers WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
}

/// What a worker must know to deliver for a handler.
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

/// Pauses a handler or resumes it. When it is resumed, first attempts are dated later by the length of the pause.
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

/// Forgets handlers that are missing for longer than `retention`. Returns their names and how many deliveries each was owed. A
/// handler that is missing since a time that far ahead is missing since now, because the clock was wrong then; unless the clock is
/// behind now.
pub(super) fn forget_missing(
    conn: &Connection,
    now: Timestamp,
    is_behind: bool,
    retention: Duration,
) -> rusqlite::Result<Vec<(String, u64)>> {
    let cutoff = now.minus(retention);
    if !is_behind {
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

/// Removes up to `limit` deliveries of forgotten handlers, and returns how many. There may be very many.
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

/// Removes up to `limit` deliveries of each handler that are parked for longer than `retention`, and returns how many. A delivery that
/// was parked at a time that far ahead counts as parked now, because the clock was wrong then; unless the clock is behind now.
pub(super) fn drop_old_parked(
    conn: &Connection,
    now: Timestamp,
    is_behind: bool,
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
    handlers.into_iter().try_fold(0, |dropped, handler| {
        if !is_behind {
            correct.execute(params![handler, now.millis(), ahead.millis(), limit as i64])?;
        }
        Ok(dropped + delete.execute(params![handler, cutoff.millis(), limit as i64])?)
    })
}

/// Up to here each handler has finished each event or has a row for it.
pub(super) fn floor(conn: &Connection) -> rusqlite::Result<Seq> {
    let lowest = conn
        .prepare_cached("SELECT min(position) FROM handlers")?
        .query_row([], |row| row.get::<_, Option<Seq>>(0))?;
    Ok(lowest.unwrap_or(Seq::MAX))
}
