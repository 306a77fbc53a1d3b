//! The rejected list that all receivers share.

use css_callbacks::{Kind, Timestamp};
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::query::Parameter;
use crate::inbox::StoreError;
use crate::inbox::query::sql_order;
use crate::inbox::rejected::{RejectedEntry, RejectedQuery, RejectedRow};

impl PostgresStore {
    /// Adds rows and keeps the newest `entries` and `bytes` of bodies of each source and reason.
    pub(in crate::inbox) async fn add_rejected(
        &self,
        rows: &[RejectedRow],
        entries: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let sources: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        let reasons: Vec<&str> = rows.iter().map(|row| row.reason).collect();
        let received: Vec<i64> = rows.iter().map(|row| row.received.millis()).collect();
        let url_kinds: Vec<Option<i32>> = rows.iter().map(|row| row.url_kind).collect();
        let kinds: Vec<i32> = rows.iter().map(|row| row.kind).collect();
        let clients: Vec<Option<&str>> = rows.iter().map(|row| row.client.as_deref()).collect();
        let hashes: Vec<Option<&[u8]>> = rows.iter().map(|row| row.token_hash.as_deref()).collect();
        let sizes: Vec<i64> = rows.iter().map(|row| row.size).collect();
        let bodies: Vec<Option<&[u8]>> = rows.iter().map(|row| row.body.as_deref()).collect();
        let (entries, bytes) = (entries.cast_signed(), bytes.cast_signed());
        let values: [Parameter; 11] = [
            (&sources, Type::TEXT_ARRAY),
            (&reasons, Type::TEXT_ARRAY),
            (&received, Type::INT8_ARRAY),
            (&url_kinds, Type::INT4_ARRAY),
            (&kinds, Type::INT4_ARRAY),
            (&clients, Type::TEXT_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
            (&sizes, Type::INT8_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&entries, Type::INT8),
            (&bytes, Type::INT8),
        ];
        let sql = "SELECT livehook.refuse_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.shared.query(sql, &values).await.map(drop)
    }

    /// A page of the list: up to `limit` entries, fewer if their bodies exceed `bytes`.
    pub(in crate::inbox) async fn rejected(
        &self,
        wanted: &RejectedQuery,
        limit: usize,
        bytes: u64,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        let (beyond, order) = sql_order(wanted.newest_first);
        let sql = format!(
            "SELECT id, reason, received, source, url_kind, kind, client, token_hash, size, body FROM (
                SELECT *, sum(coalesce(length(body), 0)) OVER (ORDER BY id {order}) - coalesce(length(body), 0) AS before FROM (
                    SELECT * FROM livehook.rejected
                    WHERE ($1::text IS NULL OR source = $1) AND ($2::text IS NULL OR reason = $2)
                    AND ($3::integer IS NULL OR kind = $3) AND ($4::bigint IS NULL OR received >= $4)
                    AND ($5::bigint IS NULL OR received < $5) AND ($6::bigint IS NULL OR id {beyond} $6)
                    ORDER BY id {order} LIMIT $7
                ) AS first
            ) AS counted WHERE before <= $8 ORDER BY id {order}"
        );
        let reason = wanted.reason.map(|reason| reason.slug());
        let kind = wanted.kind.map(|kind| kind.stored() as i32);
        let from = wanted.from.map(|time| time.millis());
        let to = wanted.to.map(|time| time.millis());
        let (limit, bytes) = (limit as i64, bytes.cast_signed());
        let values: [Parameter; 8] = [
            (&wanted.source, Type::TEXT),
            (&reason, Type::TEXT),
            (&kind, Type::INT4),
            (&from, Type::INT8),
            (&to, Type::INT8),
            (&wanted.after, Type::INT8),
            (&limit, Type::INT8),
            (&bytes, Type::INT8),
        ];
        let rows = self.shared.query(&sql, &values).await?;
        Ok(rows.iter().map(entry).collect())
    }

    pub(in crate::inbox) async fn remove_rejected(&self, ids: &[i64]) -> Result<(), StoreError> {
        let sql = "DELETE FROM livehook.rejected WHERE id = ANY($1)";
        self.shared
            .query(sql, &[(&ids, Type::INT8_ARRAY)])
            .await
            .map(drop)
    }
}

fn entry(row: &tokio_postgres::Row) -> RejectedEntry {
    let kind = |code: i32| Kind::from_stored(code.into());
    RejectedEntry {
        id: row.get(0),
        reason: row.get(1),
        received: Timestamp::from_millis(row.get(2)),
        source: row.get(3),
        url_kind: row.get::<_, Option<i32>>(4).map(kind),
        kind: kind(row.get(5)),
        client: row.get(6),
        token_hash: row.get(7),
        size: row.get::<_, i64>(8).unsigned_abs(),
        body: row.get::<_, Option<Vec<u8>>>(9).map(Into::into),
    }
}
