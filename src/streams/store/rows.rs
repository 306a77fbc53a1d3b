//! The rows of `streams.db` as values.

use css_callbacks::Timestamp;
use rusqlite::Row;

use crate::event::Seq;
use crate::stream::{StreamKey, StreamRow, StreamState};

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
    })
}
