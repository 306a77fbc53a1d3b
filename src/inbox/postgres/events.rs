//! Events, in SQL.

use std::sync::PoisonError;

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::accept::millis;
use super::query::Parameter;
use super::sweep::{Round, RoundResult};
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::query::{EventFilter, Page, sql_order};

/// The columns that [`event_of`] reads. They must be the first of a row.
pub(super) const EVENT_COLUMNS: &str = "e.seq, e.received, e.source, e.kind, e.id, e.body";

/// Events that a search examines before it returns what it has found.
const SEARCH: i64 = 50_000;
/// Events that one statement of a search examines.
const STEP: i64 = 2_000;
/// Events, and rows of each sort, that one round of retention examines.
const SWEEP: i64 = 500;

/// The event of a row that begins with [`EVENT_COLUMNS`].
pub(super) fn event_of(row: &Row) -> Event {
    let id: &[u8] = row.get(4);
    let body: &[u8] = row.get(5);
    Event::new(
        row.get(0),
        EventId::from_bytes(id.try_into().unwrap_or_default()),
        row.get::<_, &str>(2).into(),
        Kind::from_stored(row.get::<_, i32>(3).into()),
        Timestamp::from_millis(row.get(1)),
        Bytes::copy_from_slice(body),
    )
}

impl PostgresStore {
    pub(in crate::inbox) async fn after(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM (
                SELECT *, sum(length(body)) OVER (ORDER BY seq) - length(body) AS before FROM (
                    SELECT * FROM livehook.events WHERE seq > $1 ORDER BY seq LIMIT $2
                ) AS chosen
             ) AS e WHERE before < $3 ORDER BY seq"
        );
        let (limit, bytes) = (bigint(limit), bigint(bytes));
        let values: [Parameter; 3] = [
            (&seq, Type::INT8),
            (&limit, Type::INT8),
            (&bytes, Type::INT8),
        ];
        let rows = self.shared.query(&sql, &values).await?;
        Ok(rows.iter().map(event_of).collect())
    }

    pub(in crate::inbox) async fn by_seq(&self, seqs: &[Seq]) -> Result<Vec<Event>, StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM livehook.events e WHERE e.seq = ANY ($1) ORDER BY e.seq"
        );
        let rows = self
            .shared
            .query(&sql, &[(&seqs, Type::INT8_ARRAY)])
            .await?;
        Ok(rows.iter().map(event_of).collect())
    }

    pub(in crate::inbox) async fn existing(&self, seqs: &[Seq]) -> Result<Vec<Seq>, StoreError> {
        let sql = "SELECT seq FROM livehook.events WHERE seq = ANY ($1)";
        let rows = self.shared.query(sql, &[(&seqs, Type::INT8_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(in crate::inbox) async fn received_from(
        &self,
        seq: Seq,
    ) -> Result<Option<(Seq, Timestamp)>, StoreError> {
        let sql = "SELECT seq, received FROM livehook.events WHERE seq >= $1 ORDER BY seq LIMIT 1";
        let rows = self.shared.query(sql, &[(&seq, Type::INT8)]).await?;
        let first = |row: &Row| (row.get(0), Timestamp::from_millis(row.get(1)));
        Ok(rows.first().map(first))
    }

    pub(in crate::inbox) async fn find(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM (SELECT * FROM livehook.events WHERE id = $1 OFFSET 0) e
             ORDER BY e.seq DESC LIMIT 1"
        );
        let id = &id.as_bytes()[..];
        let rows = self.shared.query(&sql, &[(&id, Type::BYTEA)]).await?;
        Ok(rows.first().map(event_of))
    }

    /// The database filters by kind, source and time. Streams and domains are filtered here, because
    /// they are not columns.
    pub(in crate::inbox) async fn search(
        &self,
        filter: EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>, StoreError> {
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let Some((lowest, highest)) = self.bounds(&filter).await? else {
            return Ok(page);
        };
        let (mut low, mut high) = match (beyond, newest_first) {
            (None, _) => (lowest - 1, highest.saturating_add(1)),
            (Some(seq), false) => (seq.max(lowest - 1), highest.saturating_add(1)),
            (Some(seq), true) => (lowest - 1, seq.min(highest.saturating_add(1))),
        };
        let (_, order) = sql_order(newest_first);
        let sql = format!(
            "WITH chosen AS MATERIALIZED (
                SELECT * FROM livehook.events WHERE seq > $1 AND seq < $2 ORDER BY seq {order} LIMIT $3
             ), looked AS (SELECT count(*) AS number, min(seq) AS low, max(seq) AS high FROM chosen)
             SELECT {EVENT_COLUMNS}, l.number, l.low, l.high FROM looked l LEFT JOIN chosen e
                ON ($4::int IS NULL OR e.kind = $4) AND ($5::text IS NULL OR e.source = $5)
                AND e.received >= $6 AND e.received < $7
             ORDER BY e.seq {order}"
        );
        let kind = filter.kind.map(|kind| kind.stored() as i32);
        let from = filter.from.map_or(i64::MIN, Timestamp::millis);
        let to = filter.to.map_or(i64::MAX, Timestamp::millis);
        let mut looked = 0;
        while looked < SEARCH {
            let values: [Parameter; 7] = [
                (&low, Type::INT8),
                (&high, Type::INT8),
                (&STEP, Type::INT8),
                (&kind, Type::INT4),
                (&filter.source, Type::TEXT),
                (&from, Type::INT8),
                (&to, Type::INT8),
            ];
            let rows = self.shared.query(&sql, &values).await?;
            let Some(first) = rows.first() else { break };
            let number: i64 = first.get(6);
            let found = rows
                .iter()
                .filter(|row| row.get::<_, Option<Seq>>(0).is_some())
                .map(event_of)
                .filter(|event| filter.matches(event));
            for event in found {
                if page.items.len() == limit {
                    page.next = page.items.last().map(Event::seq);
                    return Ok(page);
                }
                page.items.push(event.without_body());
            }
            if number < STEP {
                return Ok(page);
            }
            looked += number;
            if newest_first {
                high = first.get(7);
            } else {
                low = first.get(8);
            }
        }
        page.next = Some(if newest_first { high } else { low });
        Ok(page)
    }

    /// The first and the last event of the wanted time.
    async fn bounds(&self, filter: &EventFilter) -> Result<Option<(Seq, Seq)>, StoreError> {
        if filter.from.is_none() && filter.to.is_none() {
            return Ok(Some((1, Seq::MAX - 1)));
        }
        let sql = "SELECT min(seq), max(seq) FROM (
            SELECT seq FROM livehook.events WHERE received >= $1 AND received < $2 OFFSET 0) AS chosen";
        let from = filter.from.map_or(i64::MIN, Timestamp::millis);
        let to = filter.to.map_or(i64::MAX, Timestamp::millis);
        let values: [Parameter; 2] = [(&from, Type::INT8), (&to, Type::INT8)];
        let rows = self.shared.query(sql, &values).await?;
        let row = &rows[0];
        Ok(row.get::<_, Option<Seq>>(0).zip(row.get(1)))
    }

    /// One round of retention; `true` if there is more to do.
    pub(in crate::inbox) async fn sweep(&self) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let sweep = || shared.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let Round { from, upto, old } = sweep().round();
        let configured = shared.configured();
        let retention = millis(shared.settings.retention);
        let parked_retention = millis(shared.settings.parked_retention);
        let now = shared.manual_now();
        let values: [Parameter; 8] = [
            (&configured, Type::INT8_ARRAY),
            (&from, Type::INT8),
            (&upto, Type::INT8),
            (&old, Type::INT8),
            (&retention, Type::INT8),
            (&parked_retention, Type::INT8),
            (&now, Type::INT8),
            (&SWEEP, Type::INT8),
        ];
        let sql = "SELECT upto, looked, last_old, dropped, forgotten, owed FROM livehook.sweep_2($1, $2, $3, $4, $5, $6, $7, $8)";
        let rows = shared.query(sql, &values).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let found = RoundResult {
            upto: row.get(0),
            full: row.get::<_, i64>(1) == SWEEP,
            old: row.get(2),
            dropped: row.get::<_, i64>(3) > 0,
        };
        let forgotten: Vec<String> = row.get(4);
        let owed: Vec<i64> = row.get(5);
        for (name, rows) in forgotten.into_iter().zip(owed) {
            tracing::warn!(
                handler.name = name,
                deliveries = rows,
                "a handler that was not in the configuration for too long is forgotten, with its owed deliveries"
            );
        }
        Ok(sweep().finish_round(found))
    }
}

/// For the database, whose integers are signed.
pub(super) fn bigint(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
