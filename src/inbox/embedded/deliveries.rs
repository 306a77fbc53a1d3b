//! Changes delivery rows.
//!
//! Lanes are unsigned hashes, SQLite's integers are signed: the same 64 bits.

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::EmbeddedStore;
use super::stored::{StoreLog, is_stored};
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::{
    DeliveryChange, DeliveryCommit, HandlerId, Lane, ReplayedDelivery, replay_lane,
};

const DUE: i64 = 0;
pub(super) const PARKED: i64 = 2;

impl EmbeddedStore {
    /// Writes what became of a handler's deliveries.
    pub(in super::super) async fn commit(
        &self,
        handler: HandlerId,
        commit: DeliveryCommit,
    ) -> Result<(), StoreError> {
        let log = self.reads.log.clone();
        self.write(move |conn| {
            for change in &commit.changes {
                apply(conn, &log, handler, change)?;
            }
            if let Some(position) = commit.position {
                conn.prepare_cached(
                    "UPDATE handlers SET position = ?2 WHERE id = ?1 AND position < ?2",
                )?
                .execute([handler, position])?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps events from retention for a handler: a parked row that is in no list, because it has no time.
    pub(in super::super) async fn pin(
        &self,
        handler: HandlerId,
        seqs: &[Seq],
    ) -> Result<(), StoreError> {
        let (log, seqs) = (self.reads.log.clone(), seqs.to_vec());
        self.write(move |conn| {
            let mut insert = conn.prepare_cached(
                "INSERT OR IGNORE INTO deliveries(handler, seq, lane, state, attempts, due, error)
                 VALUES (?1, ?2, 0, 2, 0, 0, '')",
            )?;
            for seq in seqs {
                if is_stored(conn, &log, seq)? {
                    insert.execute([handler, seq])?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes these deliveries due again, each in the replay lane of its stream. A delivery that is due or waiting stays in its lane,
    /// and the head of that lane is due now. A dry run only counts.
    pub(in super::super) async fn replay(
        &self,
        handler: HandlerId,
        wanted: Vec<ReplayedDelivery>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let log = self.reads.log.clone();
        self.write(move |conn| {
            let mut replayed = 0;
            for delivery in wanted {
                replayed += u64::from(replay_one(conn, &log, handler, delivery, dry_run)?);
            }
            Ok(replayed)
        })
        .await
    }

    /// Removes the rows of these deliveries. Returns how many, and the lanes of those that were due or waiting.
    pub(in super::super) async fn discard(
        &self,
        handler: HandlerId,
        wanted: Vec<Seq>,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        self.write(move |conn| {
            let mut delete = conn.prepare_cached(
                "DELETE FROM deliveries WHERE handler = ?1 AND seq = ?2 RETURNING lane, state",
            )?;
            let mut discarded = 0;
            let mut lanes = Vec::new();
            for seq in wanted {
                let row = delete.query_row([handler, seq], |row| row.try_into());
                let Some((lane, state)): Option<(i64, i64)> = row.optional()? else {
                    continue;
                };
                discarded += 1;
                if state != PARKED {
                    lanes.push(lane.cast_unsigned());
                    promote(conn, handler, lane.cast_unsigned())?;
                }
            }
            Ok((discarded, lanes))
        })
        .await
    }
}

/// Writes what became of a delivery. An event that was removed meanwhile gets no row, because nothing could finish it.
fn apply(
    conn: &Connection,
    log: &StoreLog,
    handler: HandlerId,
    change: &DeliveryChange,
) -> rusqlite::Result<()> {
    let (seq, lane) = (change.seq(), change.lane());
    let row = match change {
        DeliveryChange::Wait { .. } => return wait(conn, log, handler, seq, lane).map(drop),
        DeliveryChange::Retry { attempts, due, .. } => Some((DUE, attempts, due, None)),
        DeliveryChange::Park { attempts, at, .. } => Some((PARKED, attempts, at, Some(at))),
        DeliveryChange::Done { .. } => None,
    };
    // A replay may have moved the row meanwhile to a lane that is not that of the attempt.
    let left = conn
        .prepare_cached("SELECT lane FROM deliveries WHERE handler = ?1 AND seq = ?2")?
        .query_row([handler, seq], |row| row.get::<_, i64>(0))
        .optional()?;
    match row {
        Some((state, attempts, due, parked)) if is_stored(conn, log, seq)? => {
            conn.prepare_cached(
                "INSERT INTO deliveries(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT DO UPDATE SET lane = ?3, state = ?4, attempts = ?5, first_attempt = ?6, due = ?7,
                     parked = coalesce(?8, parked), error = ?9",
            )?
            .execute(params![
                handler,
                seq,
                lane.cast_signed(),
                state,
                attempts.count,
                attempts.first.map(Timestamp::millis),
                due.millis(),
                parked.map(|at| at.millis()),
                attempts.error,
            ])?;
            if state == DUE {
                // A row that became due in its absence waits again.
                conn.prepare_cached(
                    "UPDATE deliveries SET state = 1 WHERE handler = ?1 AND lane = ?2 AND state = 0 AND seq <> ?3",
                )?
                .execute([handler, lane.cast_signed(), seq])?;
            }
        }
        Some(_) => {}
        None => {
            conn.prepare_cached("DELETE FROM deliveries WHERE handler = ?1 AND seq = ?2")?
                .execute([handler, seq])?;
        }
    }
    promote(conn, handler, left.map_or(lane, i64::cast_unsigned))
}

/// Puts a delivery at the end of its lane. It is due at once if it is the only one there. A delivery that has a row keeps it.
fn wait(
    conn: &Connection,
    log: &StoreLog,
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
    .execute(params![handler, seq, lane.cast_signed()])
}

/// Makes the first waiting delivery of a lane due, if none is.
pub(super) fn promote(conn: &Connection, handler: HandlerId, lane: Lane) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "UPDATE deliveries SET state = 0, due = 0
         WHERE handler = ?1
           AND seq = (SELECT min(seq) FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 1)
           AND NOT EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?2 AND state = 0)",
    )?
    .execute(params![handler, lane.cast_signed()])?;
    Ok(())
}

/// Makes a delivery due again. Returns whether there was one.
fn replay_one(
    conn: &Connection,
    log: &StoreLog,
    handler: HandlerId,
    ReplayedDelivery { seq, lane, is_owed }: ReplayedDelivery,
    dry_run: bool,
) -> rusqlite::Result<bool> {
    let lane = replay_lane(lane);
    let row = conn
        .prepare_cached("SELECT state, lane FROM deliveries WHERE handler = ?1 AND seq = ?2")?
        .query_row([handler, seq], |row| row.try_into())
        .optional()?;
    match row {
        _ if dry_run => {}
        None if is_owed => {}
        None => return Ok(wait(conn, log, handler, seq, lane)? > 0),
        Some((PARKED, _)) => {
            conn.prepare_cached(
                "UPDATE deliveries SET attempts = 0, first_attempt = NULL, due = 0, lane = ?3,
                     state = EXISTS (SELECT 1 FROM deliveries WHERE handler = ?1 AND lane = ?3 AND state < 2)
                 WHERE handler = ?1 AND seq = ?2",
            )?
            .execute([handler, seq, lane.cast_signed()])?;
        }
        Some((_, lane)) => {
            conn.prepare_cached(
                "UPDATE deliveries SET due = 0 WHERE handler = ?1 AND lane = ?2 AND state = 0 AND due <> 0",
            )?
            .execute([handler, lane])?;
        }
    }
    Ok(true)
}

/// Removes the rows of these events, of all handlers. Their lanes go on.
pub(super) fn delete(conn: &Connection, seqs: &[Seq]) -> rusqlite::Result<()> {
    let mut delete = conn
        .prepare_cached("DELETE FROM deliveries WHERE seq = ?1 RETURNING handler, lane, state")?;
    for seq in seqs {
        let rows: Vec<(HandlerId, i64, i64)> = delete
            .query_map([seq], |row| row.try_into())?
            .collect::<Result<_, _>>()?;
        for (handler, lane, state) in rows {
            if state != PARKED {
                promote(conn, handler, lane.cast_unsigned())?;
            }
        }
    }
    Ok(())
}
