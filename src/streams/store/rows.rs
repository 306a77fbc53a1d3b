//! The rows of `streams.db` as values.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use css_callbacks::Timestamp;
use rusqlite::{Connection, Row, params};

use super::encoding::{decode_places, decode_push};
use crate::event::Seq;
use crate::stream::pushes::Push;
use crate::stream::{Place, StreamKey, StreamRow, StreamState};

/// The key of the push of all facts without a `sequence`. No `sequence` starts like this.
const NO_SEQUENCE: &str = "~";
/// All events.
pub(super) const ALL: RangeInclusive<Seq> = Seq::MIN..=Seq::MAX;

/// What [`stream_of`] reads.
pub(super) const STREAM: &str =
    "no, source, domain, appname, streamid, live, since, session, last, revision";

pub(super) fn stream_of(row: &Row) -> rusqlite::Result<StreamRow> {
    Ok(StreamRow {
        no: row.get(0)?,
        key: StreamKey {
            source: row.get(1)?,
            domain: row.get(2)?,
            appname: row.get(3)?,
            streamid: row.get(4)?,
        },
        live: row.get(5)?,
        since: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        session: row.get(7)?,
        last: Timestamp::from_millis(row.get(8)?),
        revision: row.get(9)?,
    })
}

pub(super) fn key_of(sequence: Option<&str>) -> &str {
    sequence.unwrap_or(NO_SEQUENCE)
}

pub(super) fn stored_pushes(conn: &Connection, stream: i64) -> rusqlite::Result<Vec<Push>> {
    let mut select = conn.prepare_cached("SELECT sequence, facts FROM pushes WHERE stream = ?1")?;
    let mut rows = select.query([stream])?;
    let mut pushes = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let sequence = Some(key.as_str()).filter(|key| *key != NO_SEQUENCE);
        pushes.push(decode_push(sequence, row.get_ref(1)?.as_blob()?)?);
    }
    Ok(pushes)
}

pub(super) fn stored_blocks(
    conn: &Connection,
    stream: i64,
    range: &RangeInclusive<Seq>,
) -> rusqlite::Result<BTreeMap<i64, Vec<Place>>> {
    let mut select = conn.prepare_cached(
        "SELECT block, places FROM places WHERE stream = ?1 AND last_seq >= ?2 AND first_seq <= ?3",
    )?;
    let mut rows = select.query(params![stream, range.start(), range.end()])?;
    let mut blocks = BTreeMap::new();
    while let Some(row) = rows.next()? {
        blocks.insert(row.get(0)?, decode_places(row.get_ref(1)?.as_blob()?)?);
    }
    Ok(blocks)
}

/// Reads [`STREAM`] and the columns that follow it in [`super::entry::Entry::load`].
pub(super) fn state_of(row: &Row) -> rusqlite::Result<StreamState> {
    let time = |at: usize| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_millis))
    };
    Ok(StreamState {
        row: stream_of(row)?,
        start: time(10)?,
        begin: row.get::<_, Option<Seq>>(11)?.zip(time(12)?),
        announced: row.get(13)?,
        announced_by: row.get(14)?,
        changes: row.get(15)?,
        announce_at: time(16)?,
        applied: row.get(17)?,
        arrivals: time(18)?.zip(time(19)?),
        next_block: row.get(20)?,
    })
}
