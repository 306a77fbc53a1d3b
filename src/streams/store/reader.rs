//! Reading the board from the file, on a connection of its own. Flush first: see [`super::Store`].

use std::collections::HashMap;
use std::path::Path;

use css_callbacks::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::block::Block;
use super::encoding::decode;
use super::rows::{STREAM, stream_of};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::stream::places::{exceptions, notable, page};
use crate::stream::pushes::Push;
use crate::stream::{Session, StreamKey, StreamQuery, StreamRecord, StreamRow};

pub(in crate::streams) struct Reader(Connection);

impl Reader {
    pub(in crate::streams) fn open(file: &Path) -> rusqlite::Result<Self> {
        let conn = Connection::open(file)?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "cache_size", -2048)?;
        Ok(Self(conn))
    }

    pub(in crate::streams) fn list(
        &self,
        wanted: &StreamQuery,
        after: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<StreamRow>> {
        // Spelled out, so that the index of those that are live is used.
        let live = match wanted.live {
            None => "",
            Some(true) => "live = 1 AND",
            Some(false) => "live = 0 AND",
        };
        let mut select = self.0.prepare_cached(&format!(
            "SELECT {STREAM} FROM streams WHERE {live} no > ?1
             AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR domain = ?3)
             AND (?4 IS NULL OR streamid = ?4 OR appname || '/' || streamid = ?4)
             AND (?5 IS NULL OR instr(lower(domain || '/' || appname || '/' || streamid), ?5) > 0)
             ORDER BY no LIMIT ?6"
        ))?;
        let rows = select.query_map(
            params![
                after,
                wanted.source,
                wanted.domain,
                wanted.stream,
                wanted.search,
                limit as i64
            ],
            stream_of,
        )?;
        rows.collect()
    }

    pub(in crate::streams) fn find(&self, key: &StreamKey) -> rusqlite::Result<Option<StreamRow>> {
        self.0
            .prepare_cached(&format!(
                "SELECT {STREAM} FROM streams WHERE source = ?1 AND domain = ?2 AND appname = ?3 AND streamid = ?4"
            ))?
            .query_row(
                params![key.source, key.domain, key.appname, key.streamid],
                stream_of,
            )
            .optional()
    }

    /// A stream's newest sessions and events, the events from before `before`.
    pub(in crate::streams) fn record(
        &self,
        stream: i64,
        before: Option<Seq>,
        limit: usize,
    ) -> rusqlite::Result<StreamRecord> {
        let tx = self.0.unchecked_transaction()?;
        let tail = tx
            .prepare_cached("SELECT tail FROM streams WHERE no = ?1")?
            .query_row([stream], |row| decode(row.get_ref(0)?.as_blob()?))
            .optional()?;
        let Some(Block {
            mut places,
            mut pushes,
        }) = tail
        else {
            return Ok(StreamRecord::default());
        };
        Block::read(&tx, stream, |_, block| {
            places.extend(block.places);
            pushes.extend(block.pushes);
            true
        })?;
        let mut sessions: Vec<Session> = pushes.iter().flat_map(Push::sessions).collect();
        sessions.sort_by(|one, other| other.order().cmp(&one.order()));
        sessions.truncate(limit);
        Ok(StreamRecord {
            sessions,
            timeline: page(&places, before, limit + 1),
            exceptions: exceptions(&places),
            notable: notable(&places),
        })
    }

    /// The streams that changed since.
    pub(in crate::streams) fn changed(
        &self,
        since: i64,
        limit: usize,
    ) -> rusqlite::Result<Vec<StreamRow>> {
        let mut select = self.0.prepare_cached(&format!(
            "SELECT {STREAM} FROM streams WHERE revision > ?1 ORDER BY revision LIMIT ?2"
        ))?;
        let rows = select.query_map(params![since, limit as i64], stream_of)?;
        rows.collect()
    }
}

impl Store {
    /// How many are live in each domain, and how many have been for too long. Flushes nothing.
    pub(in crate::streams) fn measure(
        &self,
        stale: AgeCutoff,
    ) -> rusqlite::Result<(Vec<(String, u64)>, u64)> {
        let mut select = self.conn.prepare_cached(
            "SELECT domain, count(*) FROM streams WHERE live = 1 GROUP BY domain",
        )?;
        let mut domains: HashMap<String, i64> = select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut number: i64 = self
            .conn
            .prepare_cached(
                "SELECT count(*) FROM streams WHERE live = 1 AND (since < ?1 OR since > ?2)",
            )?
            .query_row([stale.before.millis(), stale.beyond.millis()], |row| {
                row.get(0)
            })?;
        let is_stale = |since: Option<Timestamp>| since.is_some_and(|since| stale.is_old(since));
        // The file has these streams as they were before.
        for entry in self.changed.values() {
            let row = &entry.state.row;
            let before = entry.stored.filter(|stored| stored.live);
            let before = before.map(|stored| (-1, stored.since));
            let now = row.live.then_some((1, row.since));
            for (count, since) in before.into_iter().chain(now) {
                *domains.entry(row.key.domain.clone()).or_default() += count;
                number += if is_stale(since) { count } else { 0 };
            }
        }
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        let domains = domains
            .into_iter()
            .map(|(domain, count)| (domain, unsigned(count)));
        Ok((domains.collect(), unsigned(number)))
    }
}
