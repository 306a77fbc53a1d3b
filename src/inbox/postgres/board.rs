//! The board of streams of all receivers.

use std::collections::HashMap;
use std::time::Duration;

use css_callbacks::{EventId, Kind};
use tokio_postgres::Row;

use super::accept::millis;
use super::events::bigint;
use super::*;
use crate::clock::Old;
use crate::stream::{
    Begin, Fact, FactsWritten, MAX_PUSH_FACTS, NOTABLE, Session, StreamChange, StreamFact,
    StreamKey, StreamQuery, StreamRecord, StreamRow, sessions,
};

/// The board in the database.
#[derive(Clone)]
pub(crate) struct SharedBoard {
    pub(super) shared: Arc<Shared>,
}

/// A stream and a push of it, none for those without a sequence.
type PushKey = (i64, Option<String>);

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
        // Spelled out, so that the index of those that are live is used.
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
        stale: Old,
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

    /// Stores facts. With `reindexed`, a range of the inbox that the facts cover completely, they
    /// replace the stored facts of that range.
    pub(crate) async fn apply(
        &self,
        facts: &[StreamFact],
        reindexed: Option<(Seq, Seq)>,
        debounce_until: Timestamp,
    ) -> Result<FactsWritten, StoreError> {
        let text = |part: fn(&StreamKey) -> &String| -> Vec<&str> {
            facts
                .iter()
                .map(|item| part(&item.stream).as_str())
                .collect()
        };
        let number = |part: fn(&Fact) -> i64| -> Vec<i64> {
            facts.iter().map(|item| part(&item.fact)).collect()
        };
        let sources = text(|stream| &stream.source);
        let domains = text(|stream| &stream.domain);
        let appnames = text(|stream| &stream.appname);
        let streamids = text(|stream| &stream.streamid);
        let seqs = number(|fact| fact.seq);
        let ats = number(|fact| fact.at.millis());
        let received = number(|fact| fact.received.millis());
        let ids: Vec<&[u8]> = facts
            .iter()
            .map(|item| &item.fact.id.as_bytes()[..])
            .collect();
        let kinds: Vec<i32> = facts
            .iter()
            .map(|item| item.fact.kind.stored() as i32)
            .collect();
        let sequences: Vec<Option<&str>> = facts
            .iter()
            .map(|item| item.fact.sequence.as_deref())
            .collect();
        let lasted: Vec<Option<i64>> = facts
            .iter()
            .map(|item| item.fact.lasted.map(millis))
            .collect();
        let (first, last) = reindexed.unzip();
        let max_facts = bigint(MAX_PUSH_FACTS);
        let values: [Parameter; 14] = [
            (&sources, Type::TEXT_ARRAY),
            (&domains, Type::TEXT_ARRAY),
            (&appnames, Type::TEXT_ARRAY),
            (&streamids, Type::TEXT_ARRAY),
            (&seqs, Type::INT8_ARRAY),
            (&ids, Type::BYTEA_ARRAY),
            (&kinds, Type::INT4_ARRAY),
            (&ats, Type::INT8_ARRAY),
            (&received, Type::INT8_ARRAY),
            (&sequences, Type::TEXT_ARRAY),
            (&lasted, Type::INT8_ARRAY),
            (&first, Type::INT8),
            (&last, Type::INT8),
            (&max_facts, Type::INT8),
        ];
        let sql = "SELECT * FROM livehook.stream_tell_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
        let touched = self.query(sql, &values).await?;
        self.write_sessions(&touched, debounce_until).await
    }

    /// Forgets the facts of events that were removed from the inbox.
    pub(crate) async fn forget(
        &self,
        seqs: &[Seq],
        debounce_until: Timestamp,
    ) -> Result<(), StoreError> {
        let max_facts = bigint(MAX_PUSH_FACTS);
        let values: [Parameter; 2] = [(&seqs, Type::INT8_ARRAY), (&max_facts, Type::INT8)];
        let sql = "SELECT * FROM livehook.stream_forget_1($1, $2)";
        let touched = self.query(sql, &values).await?;
        self.write_sessions(&touched, debounce_until)
            .await
            .map(drop)
    }

    /// Derives the sessions of the given pushes from their facts and writes them.
    async fn write_sessions(
        &self,
        touched: &[Row],
        debounce_until: Timestamp,
    ) -> Result<FactsWritten, StoreError> {
        let mut versions: HashMap<PushKey, i64> = HashMap::new();
        let mut facts: HashMap<i64, Vec<Fact>> = HashMap::new();
        for row in touched {
            let stream: i64 = row.get(0);
            let push: Option<String> = row.get(2);
            versions.insert((stream, push.clone()), row.get(1));
            let facts = facts.entry(stream).or_default();
            facts.extend(fact_of(row, push));
        }
        if versions.is_empty() {
            return Ok(FactsWritten::default());
        }
        let streams: Vec<i64> = versions.keys().map(|(stream, _)| *stream).collect();
        let pushes: Vec<Option<&str>> = versions.keys().map(|(_, push)| push.as_deref()).collect();
        let given_versions: Vec<i64> = versions.values().copied().collect();
        let found: Vec<(i64, Session)> = facts
            .iter()
            .flat_map(|(stream, facts)| {
                let sessions = sessions(facts).into_iter();
                sessions.map(|session| (*stream, session))
            })
            .collect();
        let of_stream: Vec<i64> = found.iter().map(|(stream, _)| *stream).collect();
        let each = || found.iter().map(|(_, session)| session);
        let keys: Vec<&str> = each().map(|session| session.key.as_str()).collect();
        let sequences: Vec<Option<&str>> =
            each().map(|session| session.sequence.as_deref()).collect();
        let ranks: Vec<String> = each().map(Session::rank).collect();
        let starts: Vec<i64> = each().map(|session| session.start.millis()).collect();
        let begins: Vec<Option<Seq>> = each().map(|session| session.begin).collect();
        let ends: Vec<Option<i64>> = each()
            .map(|session| session.end.map(|(at, _)| at.millis()))
            .collect();
        let end_seqs: Vec<Option<Seq>> = each()
            .map(|session| session.end.map(|(_, seq)| seq))
            .collect();
        let debounce_until = debounce_until.millis();
        let values: [Parameter; 12] = [
            (&streams, Type::INT8_ARRAY),
            (&given_versions, Type::INT8_ARRAY),
            (&pushes, Type::TEXT_ARRAY),
            (&of_stream, Type::INT8_ARRAY),
            (&keys, Type::TEXT_ARRAY),
            (&sequences, Type::TEXT_ARRAY),
            (&ranks, Type::TEXT_ARRAY),
            (&starts, Type::INT8_ARRAY),
            (&begins, Type::INT8_ARRAY),
            (&ends, Type::INT8_ARRAY),
            (&end_seqs, Type::INT8_ARRAY),
            (&debounce_until, Type::INT8),
        ];
        let sql =
            "SELECT livehook.stream_settle_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let rows = self.query(sql, &values).await?;
        let flaps = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(FactsWritten {
            flaps: flaps.unsigned_abs(),
        })
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

    pub(crate) async fn to_pin(
        &self,
        after: Seq,
        old: Old,
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
        old: Old,
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

/// What [`stream_of`] reads.
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

/// None of a push that has no facts any more.
fn fact_of(row: &Row, sequence: Option<String>) -> Option<Fact> {
    let id: &[u8] = row.get::<_, Option<&[u8]>>(4)?;
    Some(Fact {
        seq: row.get(3),
        id: EventId::from_bytes(id.try_into().unwrap_or_default()),
        kind: Kind::from_stored(row.get::<_, i32>(5).into()),
        at: Timestamp::from_millis(row.get(6)),
        received: Timestamp::from_millis(row.get(7)),
        sequence,
        lasted: row
            .get::<_, Option<i64>>(8)
            .map(|millis| Duration::from_millis(millis.unsigned_abs())),
    })
}
