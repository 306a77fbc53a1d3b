//! Which facts are old, and which begins are pinned.

use tokio_postgres::types::Type;

use super::SharedBoard;
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::postgres::events::bigint;
use crate::inbox::postgres::query::Parameter;
use crate::stream::Begin;

impl SharedBoard {
    pub(crate) async fn to_pin(
        &self,
        after: Seq,
        old: AgeCutoff,
        limit: usize,
    ) -> Result<(Option<Seq>, Vec<Begin>), StoreError> {
        let sql = "SELECT f.seq, f.stream, coalesce(t.live AND s.begin_seq = f.seq, false) FROM livehook.stream_facts f
            JOIN livehook.streams t ON t.no = f.stream
            LEFT JOIN livehook.stream_sessions s ON s.stream = t.no AND s.key = t.session
            WHERE f.seq > $1 AND (f.received < $2 OR f.received > $3) AND f.kind = 1 ORDER BY f.seq LIMIT $4";
        let (before, beyond) = (old.before.millis(), old.beyond.millis());
        let limit = bigint(limit);
        let values: [Parameter; 4] = [
            (&after, Type::INT8),
            (&before, Type::INT8),
            (&beyond, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.query(sql, &values).await?;
        let pin = rows.iter().filter(|row| row.get(2));
        let pin = pin.map(|row| (row.get(0), row.get(1))).collect();
        Ok((rows.last().map(|row| row.get(0)), pin))
    }

    pub(crate) async fn to_unpin(&self) -> Result<Vec<Seq>, StoreError> {
        let sql = "SELECT h.seq FROM livehook.stream_held h LEFT JOIN livehook.streams t ON t.no = h.stream
            LEFT JOIN livehook.stream_sessions s ON s.stream = t.no AND s.key = t.session
            WHERE (t.live AND s.begin_seq = h.seq) IS NOT TRUE";
        let rows = self.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(crate) async fn old_facts(
        &self,
        after: Seq,
        old: AgeCutoff,
        limit: usize,
    ) -> Result<Vec<Seq>, StoreError> {
        let sql = "SELECT seq FROM livehook.stream_facts
            WHERE seq > $1 AND (received < $2 OR received > $3) AND NOT gone ORDER BY seq LIMIT $4";
        let (before, beyond) = (old.before.millis(), old.beyond.millis());
        let limit = bigint(limit);
        let values: [Parameter; 4] = [
            (&after, Type::INT8),
            (&before, Type::INT8),
            (&beyond, Type::INT8),
            (&limit, Type::INT8),
        ];
        let rows = self.query(sql, &values).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(crate) async fn note_pinned(&self, pin: &[Begin], unpin: &[Seq]) -> Result<(), StoreError> {
        let (seqs, streams): (Vec<Seq>, Vec<i64>) = pin.iter().copied().unzip();
        let values: [Parameter; 3] = [
            (&seqs, Type::INT8_ARRAY),
            (&streams, Type::INT8_ARRAY),
            (&unpin, Type::INT8_ARRAY),
        ];
        let sql = "WITH freed AS (DELETE FROM livehook.stream_held WHERE seq = ANY ($3))
            INSERT INTO livehook.stream_held SELECT * FROM unnest($1, $2) ON CONFLICT DO NOTHING";
        self.query(sql, &values).await.map(drop)
    }
}
