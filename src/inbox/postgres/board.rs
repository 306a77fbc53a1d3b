//! The board of streams that all receivers share.

mod facts;
mod retention;

use std::sync::Arc;

use css_callbacks::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Shared;
use super::events::bigint;
use super::query::Parameter;
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::stream::{
    NOTABLE, Session, StreamChange, StreamKey, StreamQuery, StreamRecord, StreamRow,
};

/// The board in the database.
#[derive(Clone)]
pub(crate) struct SharedBoard {
    pub(super) shared: Arc<Shared>,
}

impl SharedBoard {
    async fn query(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<Row>, StoreError> {
        self.shared.query(sql, values).await
    }

    pub(crate) async fn list(
        &self,
        wanted: &StreamQuery,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StreamRow>, StoreError> {
        // As text, not as a parameter: so the index of live streams is used.
        let live = match wanted.live {
            None => "",
            Some(true) => "live AND",
            Some(false) => "NOT live AND",
        };
        let sql = format!(
            "SELECT {STREAM} FROM livehook.streams WHERE {live} no > $1
             AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR domain = $3)
             AND ($4::text IS NULL OR streamid = $4 OR appname || '/' || streamid = $4)
             AND ($5::text IS NULL OR strpos(lower(domain || '/' || appname || '/' || streamid), $5) > 0)
             ORDER BY no LIMIT $6"
        );
        let limit = bigint(limit);
        let values: [Parameter; 6] = [
            (&after, Type::INT8),
            (&wanted.source, Type::TEXT),
            (&wanted.domain, Type::TEXT),
            (&wanted.stream, Type::TEXT),
            (&wanted.search, Type::TEXT),
            (&limit, Type::INT8),
        ];
        let rows = self.query(&sql, &values).await?;
        Ok(rows.iter().map(stream_of).collect())
    }

    pub(crate) async fn find(&self, key: &StreamKey) -> Result<Option<StreamRow>, StoreError> {
        let sql = format!(
            "SELECT {STREAM} FROM livehook.streams
             WHERE md5(source || chr(1) || domain || chr(1) || appname || chr(1) || streamid)
                = md5($1 || chr(1) || $2 || chr(1) || $3 || chr(1) || $4)"
        );
        let values: [Parameter; 4] = [
            (&key.source, Type::TEXT),
            (&key.domain, Type::TEXT),
            (&key.appname, Type::TEXT),
            (&key.streamid, Type::TEXT),
        ];
        let rows = self.query(&sql, &values).await?;
        Ok(rows.first().map(stream_of))
    }

    pub(crate) async fn details(
        &self,
        stream: i64,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<StreamRecord, StoreError> {
        let sql =
            "SELECT key, sequence, start, begin_seq, end_at, end_seq FROM livehook.stream_sessions
            WHERE stream = $1 ORDER BY start DESC, rank DESC LIMIT $2";
        let (newest, more) = (bigint(limit), bigint(limit + 1));
        let values: [Parameter; 2] = [(&stream, Type::INT8), (&newest, Type::INT8)];
        let sessions = self.query(sql, &values).await?;
        let sql = "SELECT f.seq FROM livehook.stream_facts f LEFT JOIN livehook.stream_facts b ON b.seq = $2
            WHERE f.stream = $1 AND (b.seq IS NULL OR (f.at, f.seq) < (b.at, b.seq))
            ORDER BY f.at DESC, f.seq DESC LIMIT $3";
        let values: [Parameter; 3] = [
            (&stream, Type::INT8),
            (&before, Type::INT8),
            (&more, Type::INT8),
        ];
        let timeline = self.query(sql, &values).await?;
        let sql = "SELECT sequence, count(DISTINCT id) FROM livehook.stream_facts
            WHERE stream = $1 AND kind = 321 GROUP BY sequence";
        let exceptions = self.query(sql, &[(&stream, Type::INT8)]).await?;
        let (kinds, numbers): (Vec<i32>, Vec<i64>) = NOTABLE
            .iter()
            .map(|(kind, number)| (kind.stored() as i32, *number))
            .unzip();
        let sql = "SELECT f.seq FROM unnest($2, $3) AS k(kind, number), LATERAL (
                SELECT seq FROM livehook.stream_facts WHERE stream = $1 AND kind = k.kind AND NOT gone
                ORDER BY at DESC, seq DESC LIMIT k.number) AS f";
        let values: [Parameter; 3] = [
            (&stream, Type::INT8),
            (&kinds, Type::INT4_ARRAY),
            (&numbers, Type::INT8_ARRAY),
        ];
        let notable = self.query(sql, &values).await?;
        let session = |row: &Row| {
            let end: (Option<i64>, Option<Seq>) = (row.get(4), row.get(5));
            Session {
                key: row.get(0),
                sequence: row.get(1),
                start: Timestamp::from_millis(row.get(2)),
                begin: row.get(3),
                end: end.0.map(Timestamp::from_millis).zip(end.1),
            }
        };
        Ok(StreamRecord {
            sessions: sessions.iter().map(session).collect(),
            timeline: timeline.iter().map(|row| row.get(0)).collect(),
            exceptions: exceptions
                .iter()
                .map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs()))
                .collect(),
            notable: notable.iter().map(|row| row.get(0)).collect(),
        })
    }

    pub(crate) async fn changed(
        &self,
        since: i64,
        limit: usize,
    ) -> Result<Vec<StreamRow>, StoreError> {
        let sql = format!(
            "SELECT {STREAM} FROM livehook.streams WHERE revision > $1 ORDER BY revision LIMIT $2"
        );
        let limit = bigint(limit);
        let values: [Parameter; 2] = [(&since, Type::INT8), (&limit, Type::INT8)];
        let rows = self.query(&sql, &values).await?;
        Ok(rows.iter().map(stream_of).collect())
    }

    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(revision), 0) FROM livehook.streams";
        let rows = self.query(sql, &[]).await?;
        rows.first().map(|row| row.get(0)).ok_or(StoreError::Failed)
    }

    pub(crate) async fn measure(
        &self,
        stale: AgeCutoff,
    ) -> Result<(Vec<(String, u64)>, u64), StoreError> {
        let sql =
            "SELECT domain, count(*), count(*) FILTER (WHERE since < $1 OR since > $2) FROM livehook.streams
            WHERE live GROUP BY domain";
        let (before, beyond) = (stale.before.millis(), stale.beyond.millis());
        let values: [Parameter; 2] = [(&before, Type::INT8), (&beyond, Type::INT8)];
        let rows = self.query(sql, &values).await?;
        let count = |row: &Row, at| row.get::<_, i64>(at).unsigned_abs();
        let domains = rows.iter().map(|row| (row.get(0), count(row, 1))).collect();
        Ok((domains, rows.iter().map(|row| count(row, 2)).sum()))
    }

    pub(crate) async fn due_changes(
        &self,
        now: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<Vec<StreamChange>, StoreError> {
        let sql = format!(
            "SELECT {STREAM}, changes FROM livehook.streams
             WHERE settle_at <= $1 OR settle_at > $2 ORDER BY settle_at LIMIT $3"
        );
        let (now, latest, limit) = (now.millis(), latest.millis(), bigint(limit));
        let values: [Parameter; 3] = [
            (&now, Type::INT8),
            (&latest, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.query(&sql, &values).await?;
        let change = |row: &Row| StreamChange {
            stream: stream_of(row),
            number: row.get(10),
        };
        Ok(rows.iter().map(change).collect())
    }

    pub(crate) async fn announced(
        &self,
        changes: &[StreamChange],
        debounce_until: Timestamp,
    ) -> Result<(), StoreError> {
        let streams: Vec<i64> = changes.iter().map(|change| change.stream.no).collect();
        let numbers: Vec<i64> = changes.iter().map(|change| change.number).collect();
        let live: Vec<bool> = changes.iter().map(|change| change.stream.live).collect();
        let debounce_until = debounce_until.millis();
        let values: [Parameter; 4] = [
            (&streams, Type::INT8_ARRAY),
            (&numbers, Type::INT8_ARRAY),
            (&live, Type::BOOL_ARRAY),
            (&debounce_until, Type::INT8),
        ];
        let sql = "UPDATE livehook.streams s SET announced = u.live, changes = s.changes + 1,
                settle_at = CASE WHEN s.live = u.live THEN NULL ELSE coalesce(s.settle_at, $4) END
            FROM unnest($1, $2, $3) AS u(no, changes, live) WHERE s.no = u.no AND s.changes = u.changes";
        self.query(sql, &values).await.map(drop)
    }
}

/// The columns that [`stream_of`] reads.
const STREAM: &str = "no, source, domain, appname, streamid, live, since, session, last, revision";

fn stream_of(row: &Row) -> StreamRow {
    StreamRow {
        no: row.get(0),
        key: StreamKey {
            source: row.get(1),
            domain: row.get(2),
            appname: row.get(3),
            streamid: row.get(4),
        },
        live: row.get(5),
        since: row.get::<_, Option<i64>>(6).map(Timestamp::from_millis),
        session: row.get(7),
        last: Timestamp::from_millis(row.get(8)),
        revision: row.get(9),
    }
}
