//! Reads delivery rows.

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::EmbeddedStore;
use super::deliveries::PARKED;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::{Attempts, DeliveryRow, HandlerId, Lane, RowCounts, RowState};
use crate::inbox::query::sql_order;

/// A due row.
pub(super) struct DueRow {
    pub(super) seq: Seq,
    pub(super) lane: Lane,
    pub(super) attempts: Attempts,
}

/// A parked row.
pub(super) struct ParkedRow {
    pub(super) seq: Seq,
    pub(super) attempts: Attempts,
    /// When it was parked.
    pub(super) at: Timestamp,
    /// Whether it is being replayed.
    pub(super) replaying: bool,
}

/// The due rows, the longest due first, and when the next one after them is due. Rows due beyond `latest` come before all.
pub(super) fn due(
    conn: &Connection,
    handler: HandlerId,
    until: Timestamp,
    latest: Timestamp,
    limit: usize,
) -> rusqlite::Result<(Vec<DueRow>, Option<Timestamp>)> {
    let (until, latest) = (until.millis(), latest.millis());
    let mut select = conn.prepare_cached(
        "SELECT seq, lane, attempts, first_attempt, error FROM deliveries
         WHERE handler = ?1 AND state = 0 AND due > ?2 AND due <= ?3 ORDER BY due, seq LIMIT ?4",
    )?;
    let mut owed = Vec::new();
    for (after, upto) in [(latest, i64::MAX), (i64::MIN, until.min(latest))] {
        let left = limit.saturating_sub(owed.len()) as i64;
        let rows = select.query_map(params![handler, after, upto, left], |row| {
            Ok(DueRow {
                seq: row.get(0)?,
                lane: row.get::<_, i64>(1)?.cast_unsigned(),
                attempts: attempts_of(row, 2)?,
            })
        })?;
        for row in rows {
            owed.push(row?);
        }
    }
    let next = conn
        .prepare_cached(
            "SELECT min(due) FROM deliveries WHERE handler = ?1 AND state = 0 AND due > ?2 AND due <= ?3",
        )?
        .query_row(params![handler, until, latest], |row| {
            row.get::<_, Option<i64>>(0)
        })?;
    Ok((owed, next.map(Timestamp::from_millis)))
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

/// The parked rows beyond `beyond`, in the order of their events or newest first. Without the name of the index, SQLite would also
/// read all waiting rows.
pub(super) fn parked(
    conn: &Connection,
    handler: HandlerId,
    beyond: Seq,
    newest_first: bool,
    limit: usize,
) -> rusqlite::Result<Vec<ParkedRow>> {
    let (comparison, order) = sql_order(newest_first);
    let mut select = conn.prepare_cached(&format!(
        "SELECT seq, attempts, first_attempt, error, parked, state
         FROM deliveries INDEXED BY deliveries_parked_in_order
         WHERE handler = ?1 AND parked IS NOT NULL AND seq {comparison} ?2 ORDER BY seq {order} LIMIT ?3"
    ))?;
    let rows = select.query_map(params![handler, beyond, limit as i64], |row| {
        Ok(ParkedRow {
            seq: row.get(0)?,
            attempts: attempts_of(row, 1)?,
            at: Timestamp::from_millis(row.get(4)?),
            replaying: row.get::<_, i64>(5)? != PARKED,
        })
    })?;
    rows.collect()
}

impl EmbeddedStore {
    /// Counts a handler's rows. There may be very many, so they are counted in one pass over an index that has all columns. SQLite
    /// would not choose it by itself.
    pub(in super::super) async fn count(
        &self,
        handler: HandlerId,
    ) -> Result<RowCounts, StoreError> {
        let number = |row: &Row, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        self.read_state(move |conn| {
            conn.prepare_cached(
                "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                     (SELECT count(*) FROM deliveries WHERE handler = ?1 AND parked IS NOT NULL),
                     count(*) FILTER (WHERE state < 2 AND lane & 1 = 1), min(seq) FILTER (WHERE state < 2)
                 FROM deliveries INDEXED BY deliveries_by_lane WHERE handler = ?1",
            )?
            .query_row([handler], |row| {
                Ok(RowCounts {
                    due: number(row, 0)?,
                    waiting: number(row, 1)?,
                    parked: number(row, 2)?,
                    replaying: number(row, 3)?,
                    oldest: row.get(4)?,
                })
            })
        })
        .await
    }

    /// The row of a handler's delivery, if it has one.
    pub(in super::super) async fn delivery_row(
        &self,
        handler: HandlerId,
        seq: Seq,
    ) -> Result<Option<DeliveryRow>, StoreError> {
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
        self.read_state(move |conn| {
            conn.prepare_cached(
                "SELECT state, attempts, first_attempt, error, due, parked FROM deliveries WHERE handler = ?1 AND seq = ?2",
            )?
            .query_row([handler, seq], row)
            .optional()
        })
        .await
    }
}
