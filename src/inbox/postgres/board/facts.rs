//! Adding and removing facts, and writing the sessions that follow from them.

use std::collections::HashMap;
use std::time::Duration;

use css_callbacks::{EventId, Kind, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::SharedBoard;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::postgres::accept::millis;
use crate::inbox::postgres::events::bigint;
use crate::inbox::postgres::query::Parameter;
use crate::stream::{Fact, FactsWritten, MAX_PUSH_FACTS, Session, StreamFact, StreamKey, sessions};

/// A stream and the `sequence` of one of its pushes. `None` stands for all pushes without one.
type PushKey = (i64, Option<String>);

impl SharedBoard {
    /// Adds facts. With `reindexed` they replace all facts in this range whose events are not removed.
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

    /// Removes the facts of removed events, as far as no session needs them.
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

    /// Writes the sessions that follow from the facts of the changed pushes.
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
}

/// None, if the push has no facts any more.
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
