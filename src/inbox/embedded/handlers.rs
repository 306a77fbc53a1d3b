//! Handlers in SQL: their numbers, positions and pauses, and what becomes of those that are missing.

use std::time::Duration;

use css_callbacks::Timestamp;
use rusqlite::{Connection, Row, params};

use super::EmbeddedStore;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::{HandlerId, Registered, Start};

impl EmbeddedStore {
    /// Gives each configured handler its number and position. All others are missing from now on.
    pub(in super::super) async fn register(
        &self,
        configured: Vec<(String, Start)>,
    ) -> Result<Vec<Registered>, StoreError> {
        let (last, now) = (*self.committed.borrow(), self.clock.now());
        self.write(move |conn| {
            let missing = "UPDATE handlers SET missing_since = ?1 WHERE missing_since IS NULL";
            conn.execute(missing, [now.millis()])?;
            let mut insert = conn.prepare(
                "INSERT INTO handlers(name, position) VALUES (?1, ?2)
                 ON CONFLICT(name) DO UPDATE SET missing_since = NULL RETURNING id",
            )?;
            let register = |(name, start): &(String, Start)| {
                let position = match start {
                    Start::Now => last,
                    Start::Oldest => 0,
                };
                let id = insert.query_row(params![name, position], |row| row.get(0))?;
                registered(conn, id)
            };
            configured.iter().map(register).collect()
        })
        .await
    }

    /// What a worker must know to deliver for a handler.
    pub(in super::super) async fn resume(
        &self,
        handler: HandlerId,
    ) -> Result<Registered, StoreError> {
        self.read_state(move |conn| registered(conn, handler)).await
    }

    /// Pauses a handler or resumes it. When it is resumed, first attempts are dated later by the length of the pause.
    pub(in super::super) async fn pause(
        &self,
        handler: HandlerId,
        paused: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |conn| {
            if paused {
                let since = "UPDATE handlers SET paused = ?2 WHERE id = ?1 AND paused = 0";
                return conn.execute(since, [handler, now.millis()]).map(drop);
            }
            conn.execute(
                "UPDATE deliveries SET first_attempt = first_attempt + max(?2 - paused, 0)
                 FROM handlers WHERE id = ?1 AND paused <> 0
                     AND handler = ?1 AND state < 2 AND first_attempt IS NOT NULL",
                [handler, now.millis()],
            )?;
            conn.execute("UPDATE handlers SET paused = 0 WHERE id = ?1", [handler])
                .map(drop)
        })
        .await
    }

    /// The handler's position: up to here each event is finished or has a row.
    pub(in super::super) async fn position(&self, handler: HandlerId) -> Result<Seq, StoreError> {
        self.read_state(move |conn| {
            conn.prepare_cached("SELECT position FROM handlers WHERE id = ?1")?
                .query_row([handler], |row| row.get(0))
        })
        .await
    }
}

fn registered(conn: &Connection, id: HandlerId) -> rusqlite::Result<Registered> {
    let (position, paused) = conn.query_row(
        "SELECT position, paused <> 0 FROM handlers WHERE id = ?1",
        [id],
        |row| row.try_into(),
    )?;
    let count = |row: &Row| {
        let (lane, rows): (i64, i64) = row.try_into()?;
        Ok((lane.cast_unsigned(), rows.unsigned_abs()))
    };
    let blocked = conn
        .prepare("SELECT lane, count(*) FROM deliveries WHERE handler = ?1 AND state < 2 AND lane & 1 = 0 GROUP BY lane")?
        .query_map([id], count)?
        .collect::<Result<_, _>>()?;
    let beyond = conn
        .prepare("SELECT seq FROM deliveries WHERE handler = ?1 AND seq > ?2")?
        .query_map([id, position], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Registered {
        id,
        position,
        blocked,
        beyond,
        paused,
    })
}

/// Forgets handlers that are missing for longer than `retention`. Returns their names and how many deliveries each was owed. A
/// handler that is missing since a time that far ahead is missing since now, because the clock was wrong then; unless the clock is
/// behind now.
pub(super) fn forget_missing(
    conn: &Connection,
    now: Timestamp,
    is_behind: bool,
    retention: Duration,
) -> rusqlite::Result<Vec<(String, i64)>> {
    if !is_behind {
        conn.prepare_cached("UPDATE handlers SET missing_since = ?1 WHERE missing_since > ?2")?
            .execute([now.millis(), now.plus(retention).millis()])?;
    }
    conn.prepare_cached(
        "DELETE FROM handlers WHERE missing_since < ?1
         RETURNING name, (SELECT count(*) FROM deliveries WHERE handler = id)",
    )?
    .query_map([now.minus(retention).millis()], |row| row.try_into())?
    .collect()
}

/// Removes up to `limit` deliveries of forgotten handlers, and returns how many. There may be very many, so this goes from handler to
/// handler and not over all rows.
pub(super) fn drop_orphans(conn: &Connection, limit: usize) -> rusqlite::Result<usize> {
    conn.prepare_cached(
        "WITH RECURSIVE each(id) AS (SELECT min(handler) FROM deliveries UNION ALL
             SELECT (SELECT min(handler) FROM deliveries WHERE handler > id) FROM each WHERE id IS NOT NULL)
         DELETE FROM deliveries WHERE (handler, seq) IN
            (SELECT handler, seq FROM each CROSS JOIN deliveries ON handler = id
             WHERE id NOT IN (SELECT id FROM handlers) LIMIT ?1)",
    )?
    .execute([limit as i64])
}

/// Removes up to `limit` deliveries that are parked for longer than `retention`, and returns how many. A delivery that was parked at a
/// time that far ahead counts as parked now, because the clock was wrong then; unless the clock is behind now.
pub(super) fn drop_old_parked(
    conn: &Connection,
    now: Timestamp,
    is_behind: bool,
    retention: Duration,
    limit: usize,
) -> rusqlite::Result<usize> {
    let (cutoff, ahead) = (now.minus(retention), now.plus(retention));
    // The order of the join lets an index find them: each begins with the handler.
    if !is_behind {
        conn.prepare_cached(
            "UPDATE deliveries SET parked = ?1 WHERE (handler, seq) IN
                (SELECT handler, seq FROM handlers CROSS JOIN deliveries ON handler = id WHERE parked > ?2 LIMIT ?3)",
        )?
        .execute(params![now.millis(), ahead.millis(), limit as i64])?;
    }
    conn.prepare_cached(
        "DELETE FROM deliveries WHERE (handler, seq) IN
            (SELECT handler, seq FROM handlers CROSS JOIN deliveries ON handler = id
             WHERE parked < ?1 AND state = 2 LIMIT ?2)",
    )?
    .execute(params![cutoff.millis(), limit as i64])
}

/// Up to here each handler has finished each event or has a row for it.
pub(super) fn floor(conn: &Connection) -> rusqlite::Result<Seq> {
    conn.prepare_cached("SELECT coalesce(min(position), ?1) FROM handlers")?
        .query_row([Seq::MAX], |row| row.get(0))
}
