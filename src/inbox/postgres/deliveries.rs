//! Positions and rows of deliveries, in SQL.

use css_callbacks::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::events::{EVENT_COLUMNS, bigint, event_of};
use super::query::Parameter;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::{
    Attempts, DeliveryChange, DeliveryCommit, DeliveryRow, HandlerId, Lane, Owed, Parked,
    Registered, ReplayedDelivery, RowCounts, RowState, Start, replay_lane,
};
use crate::inbox::query::sql_order;

/// How often a deletion is tried while events get new rows.
const DELETE_ROUNDS: u32 = 5;

const WAIT: i32 = 0;
const RETRY: i32 = 1;
const PARK: i32 = 2;
const DONE: i32 = 3;

/// Lanes are unsigned and PostgreSQL's integers are signed. The 64 bits are the same.
fn stored(lane: Lane) -> i64 {
    lane.cast_signed()
}

/// Changes as one array for each column.
#[derive(Default)]
struct Columns {
    what: Vec<i32>,
    seqs: Vec<Seq>,
    lanes: Vec<i64>,
    counts: Vec<i64>,
    firsts: Vec<Option<i64>>,
    times: Vec<i64>,
    errors: Vec<String>,
}

impl Columns {
    fn of(changes: &[DeliveryChange]) -> Self {
        let mut columns = Self::default();
        let none = Attempts::default();
        for change in changes {
            let (what, attempts, at) = match change {
                DeliveryChange::Wait { .. } => (WAIT, &none, 0),
                DeliveryChange::Retry { attempts, due, .. } => (RETRY, attempts, due.millis()),
                DeliveryChange::Park { attempts, at, .. } => (PARK, attempts, at.millis()),
                DeliveryChange::Done { .. } => (DONE, &none, 0),
            };
            columns.what.push(what);
            columns.seqs.push(change.seq());
            columns.lanes.push(stored(change.lane()));
            columns.counts.push(attempts.count.into());
            columns.firsts.push(attempts.first.map(Timestamp::millis));
            columns.times.push(at);
            // Text in PostgreSQL cannot hold zero bytes.
            columns
                .errors
                .push(attempts.error.replace('\0', "\u{fffd}"));
        }
        columns
    }
}

impl PostgresStore {
    pub(in crate::inbox) async fn register(
        &self,
        configured: Vec<(String, Start)>,
    ) -> Result<Vec<Registered>, StoreError> {
        let names: Vec<&str> = configured.iter().map(|(name, _)| name.as_str()).collect();
        let oldest: Vec<bool> = configured
            .iter()
            .map(|(_, start)| *start == Start::Oldest)
            .collect();
        let now = self.shared.manual_now();
        let values: [Parameter; 3] = [
            (&names, Type::TEXT_ARRAY),
            (&oldest, Type::BOOL_ARRAY),
            (&now, Type::INT8),
        ];
        let sql = "SELECT handler FROM livehook.register_1($1, $2, $3) ORDER BY place";
        let rows = self.shared.query(sql, &values).await?;
        let ids: Vec<HandlerId> = rows.iter().map(|row| row.get(0)).collect();
        if ids.len() != names.len() {
            return Err(StoreError::Failed);
        }
        self.shared.set_configured(ids.clone());
        let mut registered = Vec::with_capacity(ids.len());
        for id in ids {
            registered.push(self.resume(id).await?);
        }
        Ok(registered)
    }

    pub(in crate::inbox) async fn resume(&self, id: HandlerId) -> Result<Registered, StoreError> {
        let sql = "SELECT position, paused IS NOT NULL FROM livehook.handlers WHERE id = $1";
        let rows = self.shared.query(sql, &[(&id, Type::INT8)]).await?;
        let row = rows.first().ok_or(StoreError::Failed)?;
        let (position, paused): (Seq, bool) = (row.get(0), row.get(1));
        let lanes = "SELECT lane, count(*) FROM livehook.deliveries
            WHERE handler = $1 AND state < 2 AND lane & 1 = 0 GROUP BY lane";
        let lanes = self.shared.query(lanes, &[(&id, Type::INT8)]).await?;
        let blocked = |row: &Row| {
            let (lane, number): (i64, i64) = (row.get(0), row.get(1));
            (lane.cast_unsigned(), number.unsigned_abs())
        };
        let beyond = "SELECT seq FROM livehook.deliveries WHERE handler = $1 AND seq > $2";
        let values: [Parameter; 2] = [(&id, Type::INT8), (&position, Type::INT8)];
        let beyond = self.shared.query(beyond, &values).await?;
        Ok(Registered {
            id,
            position,
            blocked: lanes.iter().map(blocked).collect(),
            beyond: beyond.iter().map(|row| row.get(0)).collect(),
            paused,
        })
    }

    pub(in crate::inbox) async fn pin(
        &self,
        handler: HandlerId,
        seqs: &[Seq],
    ) -> Result<(), StoreError> {
        let values: [Parameter; 2] = [(&handler, Type::INT8), (&seqs, Type::INT8_ARRAY)];
        let sql = "INSERT INTO livehook.deliveries(handler, seq, lane, state, attempts, due, error)
            SELECT $1, seq, 0, 2, 0, 0, '' FROM livehook.events WHERE seq = ANY ($2) FOR KEY SHARE
            ON CONFLICT DO NOTHING";
        self.shared.query(sql, &values).await.map(drop)
    }

    pub(in crate::inbox) async fn pause(
        &self,
        handler: HandlerId,
        paused: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let now = now.millis();
        let values: [Parameter; 3] = [
            (&handler, Type::INT8),
            (&paused, Type::BOOL),
            (&now, Type::INT8),
        ];
        let sql = "SELECT livehook.pause_1($1, $2, $3)";
        self.shared.query(sql, &values).await.map(drop)
    }

    pub(in crate::inbox) async fn position(&self, id: HandlerId) -> Result<Seq, StoreError> {
        let sql = "SELECT position FROM livehook.handlers WHERE id = $1";
        let rows = self.shared.query(sql, &[(&id, Type::INT8)]).await?;
        rows.first().map(|row| row.get(0)).ok_or(StoreError::Failed)
    }

    pub(in crate::inbox) async fn commit(
        &self,
        handler: HandlerId,
        commit: DeliveryCommit,
    ) -> Result<(), StoreError> {
        let columns = Columns::of(&commit.changes);
        let position = commit.position.unwrap_or(0);
        let values: [Parameter; 10] = [
            (&handler, Type::INT8),
            (&commit.epoch, Type::INT8),
            (&position, Type::INT8),
            (&columns.what, Type::INT4_ARRAY),
            (&columns.seqs, Type::INT8_ARRAY),
            (&columns.lanes, Type::INT8_ARRAY),
            (&columns.counts, Type::INT8_ARRAY),
            (&columns.firsts, Type::INT8_ARRAY),
            (&columns.times, Type::INT8_ARRAY),
            (&columns.errors, Type::TEXT_ARRAY),
        ];
        let sql = "SELECT livehook.settle_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let rows = self.shared.query(sql, &values).await?;
        let written = rows.first().is_some_and(|row| row.get(0));
        if written {
            Ok(())
        } else {
            tracing::debug!("outcomes are not written: another receiver has the handler now");
            Err(StoreError::Failed)
        }
    }

    pub(in crate::inbox) async fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>), StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS}, d.lane, d.attempts, d.first_attempt, d.error
             FROM (
                (SELECT * FROM livehook.deliveries WHERE handler = $1 AND state = 0 AND due > $3 ORDER BY due, seq LIMIT $4)
                UNION ALL
                (SELECT * FROM livehook.deliveries WHERE handler = $1 AND state = 0 AND due <= least($2, $3) ORDER BY due, seq LIMIT $4)
             ) d JOIN livehook.events e USING (seq) ORDER BY d.due <= $3, d.due, d.seq LIMIT $4"
        );
        let (until, latest, limit) = (until.millis(), latest.millis(), bigint(limit));
        let values: [Parameter; 4] = [
            (&handler, Type::INT8),
            (&until, Type::INT8),
            (&latest, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.shared.query(&sql, &values).await?;
        let owed = |row: &Row| Owed {
            event: event_of(row),
            lane: row.get::<_, i64>(6).cast_unsigned(),
            attempts: attempts_of(row, 7),
        };
        let owed = rows.iter().map(owed).collect();
        let sql = "SELECT min(due) FROM livehook.deliveries WHERE handler = $1 AND state = 0 AND due > $2 AND due <= $3";
        let next = self.shared.query(sql, &values[..3]).await?;
        let next: Option<i64> = next.first().and_then(|row| row.get(0));
        Ok((owed, next.map(Timestamp::from_millis)))
    }

    pub(in crate::inbox) async fn count(
        &self,
        handler: HandlerId,
    ) -> Result<RowCounts, StoreError> {
        let sql = "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),
                count(*) FILTER (WHERE parked IS NOT NULL), count(*) FILTER (WHERE state < 2 AND lane & 1 = 1),
                min(seq) FILTER (WHERE state < 2)
            FROM livehook.deliveries WHERE handler = $1";
        let rows = self.shared.query(sql, &[(&handler, Type::INT8)]).await?;
        let number = |at| rows[0].get::<_, i64>(at).unsigned_abs();
        Ok(RowCounts {
            due: number(0),
            waiting: number(1),
            parked: number(2),
            replaying: number(3),
            oldest: rows[0].get(4),
        })
    }

    pub(in crate::inbox) async fn parked(
        &self,
        handler: HandlerId,
        beyond: Seq,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        let (comparison, order) = sql_order(newest_first);
        let sql = format!(
            "SELECT {EVENT_COLUMNS}, d.attempts, d.first_attempt, d.error, d.parked, d.state
             FROM livehook.deliveries d JOIN livehook.events e USING (seq)
             WHERE d.handler = $1 AND d.parked IS NOT NULL AND d.seq {comparison} $2 ORDER BY d.seq {order} LIMIT $3"
        );
        let limit = bigint(limit);
        let values: [Parameter; 3] = [
            (&handler, Type::INT8),
            (&beyond, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.shared.query(&sql, &values).await?;
        let parked = |row: &Row| Parked {
            event: event_of(row).without_body(),
            attempts: attempts_of(row, 6),
            at: Timestamp::from_millis(row.get(9)),
            replaying: row.get::<_, i16>(10) != 2,
        };
        Ok(rows.iter().map(parked).collect())
    }

    pub(in crate::inbox) async fn delivery_row(
        &self,
        handler: HandlerId,
        seq: Seq,
    ) -> Result<Option<DeliveryRow>, StoreError> {
        let sql =
            "SELECT state, attempts, first_attempt, error, due, parked FROM livehook.deliveries
            WHERE handler = $1 AND seq = $2";
        let values: [Parameter; 2] = [(&handler, Type::INT8), (&seq, Type::INT8)];
        let rows = self.shared.query(sql, &values).await?;
        Ok(rows.first().map(|row| {
            let state = RowState::of(row.get::<_, i16>(0).into());
            let due = Timestamp::from_millis(row.get(4));
            DeliveryRow {
                state,
                attempts: attempts_of(row, 1),
                due: Some(due).filter(|_| state == RowState::Due),
                parked: row.get::<_, Option<i64>>(5).map(Timestamp::from_millis),
            }
        }))
    }

    pub(in crate::inbox) async fn replay(
        &self,
        handler: HandlerId,
        wanted: Vec<ReplayedDelivery>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let seqs: Vec<Seq> = wanted.iter().map(|replayed| replayed.seq).collect();
        let lanes = wanted
            .iter()
            .map(|replayed| stored(replay_lane(replayed.lane)));
        let lanes: Vec<i64> = lanes.collect();
        let owed: Vec<bool> = wanted.iter().map(|replayed| replayed.is_owed).collect();
        let values: [Parameter; 5] = [
            (&handler, Type::INT8),
            (&seqs, Type::INT8_ARRAY),
            (&lanes, Type::INT8_ARRAY),
            (&owed, Type::BOOL_ARRAY),
            (&dry_run, Type::BOOL),
        ];
        let sql = "SELECT livehook.replay_2($1, $2, $3, $4, $5)";
        let rows = self.shared.query(sql, &values).await?;
        Ok(rows[0].get::<_, i64>(0).unsigned_abs())
    }

    pub(in crate::inbox) async fn discard(
        &self,
        handler: HandlerId,
        wanted: Vec<Seq>,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        let values: [Parameter; 2] = [(&handler, Type::INT8), (&wanted, Type::INT8_ARRAY)];
        let sql = "SELECT lane FROM livehook.discard_1($1, $2)";
        let rows = self.shared.query(sql, &values).await?;
        let lanes = rows.iter().filter_map(|row| row.get::<_, Option<i64>>(0));
        Ok((rows.len() as u64, lanes.map(i64::cast_unsigned).collect()))
    }

    /// Removes the rows of one handler after the other, then the events, so that writers of different
    /// handlers do not wait for each other. If an event gets a new row in between, as by a replay, it
    /// stays for another round.
    pub(in crate::inbox) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        let values: [Parameter; 1] = [(&seqs, Type::INT8_ARRAY)];
        let mut removed = 0;
        for _ in 0..DELETE_ROUNDS {
            let sql = "SELECT DISTINCT handler FROM livehook.deliveries WHERE seq = ANY ($1)";
            for row in self.shared.query(sql, &values).await? {
                self.discard(row.get(0), seqs.clone()).await?;
            }
            // A new handler must not begin before a removed event.
            let sql = "WITH gone AS (
                    DELETE FROM livehook.events e WHERE e.seq = ANY ($1)
                    AND NOT EXISTS (SELECT 1 FROM livehook.deliveries d WHERE d.seq = e.seq) RETURNING e.seq
                ), noted AS (
                    INSERT INTO livehook.meta AS m SELECT 'last_seq', max(seq) FROM gone HAVING max(seq) IS NOT NULL
                    ON CONFLICT (name) DO UPDATE SET value = greatest(m.value, excluded.value)
                )
                SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM livehook.events WHERE seq = ANY ($1))";
            // The statement fails if a row was added at the same time.
            if let Ok(rows) = self.shared.query(sql, &values).await {
                let (gone, were_there): (i64, i64) = (rows[0].get(0), rows[0].get(1));
                removed += gone.unsigned_abs();
                if gone == were_there {
                    return Ok(removed);
                }
            }
        }
        Err(StoreError::Failed)
    }
}

fn attempts_of(row: &Row, first: usize) -> Attempts {
    Attempts {
        count: u32::try_from(row.get::<_, i64>(first)).unwrap_or(u32::MAX),
        first: row
            .get::<_, Option<i64>>(first + 1)
            .map(Timestamp::from_millis),
        error: row.get(first + 2),
    }
}
