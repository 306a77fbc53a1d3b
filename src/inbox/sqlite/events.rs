//! Events in SQL.

use std::time::Duration;

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::event::{Event, Seq};
use crate::inbox::query::{EventFilter, Page, sql_order};
use crate::inbox::sweep::{Round, RoundResult};

/// The columns that [`event_of`] reads, first in a row.
pub(super) const EVENT_COLUMNS: &str = "events.seq, received, source, kind, id, body";

/// How many events a search looks at before it answers with what it has.
const SEARCH: usize = 50_000;

/// The event of a row that begins with [`EVENT_COLUMNS`].
pub(super) fn event_of(row: &Row) -> rusqlite::Result<Event> {
    Ok(Event::new(
        row.get(0)?,
        EventId::from_bytes(row.get(4)?),
        row.get_ref(2)?.as_str()?.into(),
        Kind::from_stored(row.get(3)?),
        Timestamp::from_millis(row.get(1)?),
        Bytes::copy_from_slice(row.get_ref(5)?.as_blob()?),
    ))
}

/// The events after `after` in order: at most `limit`, and no more once their bodies exceed `bytes`.
pub(super) fn after(
    conn: &Connection,
    after: Seq,
    limit: usize,
    bytes: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"
    ))?;
    let mut rows = select.query(params![after, limit as i64])?;
    let mut events = Vec::new();
    let mut size = 0;
    while let Some(row) = rows.next()? {
        let event = event_of(row)?;
        size += event.body().len();
        events.push(event);
        if size >= bytes {
            break;
        }
    }
    Ok(events)
}

/// One event.
pub(super) fn one(conn: &Connection, seq: Seq) -> rusqlite::Result<Option<Event>> {
    conn.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM events WHERE seq = ?1"
    ))?
    .query_row([seq], event_of)
    .optional()
}

/// Those of these events that are there.
pub(super) fn existing(conn: &Connection, seqs: &[Seq]) -> rusqlite::Result<Vec<Seq>> {
    let mut select = conn.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?;
    let mut there = Vec::new();
    for seq in seqs {
        if select.exists([seq])? {
            there.push(*seq);
        }
    }
    Ok(there)
}

/// An event or the first one after it that is still there, and when it arrived.
pub(super) fn received_from(
    conn: &Connection,
    seq: Seq,
) -> rusqlite::Result<Option<(Seq, Timestamp)>> {
    conn.prepare_cached("SELECT seq, received FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1")?
        .query_row([seq], |row| {
            Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?)))
        })
        .optional()
}

/// The events that pass the filter, newest first or in arrival order, from beyond `beyond`, without bodies.
pub(super) fn search(
    conn: &Connection,
    filter: &EventFilter,
    beyond: Option<Seq>,
    newest_first: bool,
    limit: usize,
) -> rusqlite::Result<Page<Event>> {
    let mut page = Page {
        items: Vec::new(),
        next: None,
    };
    let mut at = beyond.unwrap_or(if newest_first { Seq::MAX } else { 0 });
    let mut looked = 0;
    let (comparison, order) = sql_order(newest_first);
    let mut select = conn.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM events WHERE seq {comparison} ?1 ORDER BY seq {order}"
    ))?;
    'skipping: loop {
        at = skip(conn, filter, at, newest_first)?;
        let mut rows = select.query([at])?;
        let mut since_skip = 0;
        while let Some(row) = rows.next()? {
            if looked == SEARCH || page.items.len() == limit {
                page.next = Some(at);
                return Ok(page);
            }
            at = row.get(0)?;
            looked += 1;
            since_skip += 1;
            let received = Timestamp::from_millis(row.get(1)?);
            let in_time = filter.from.is_none_or(|from| received >= from)
                && filter.to.is_none_or(|to| received < to);
            if in_time {
                let event = event_of(row)?;
                if filter.matches(&event) {
                    page.items.push(event.without_body());
                }
            } else if since_skip % 1000 == 0 {
                continue 'skipping;
            }
        }
        return Ok(page);
    }
}

/// ClockJumps over runs of ids that hold nothing received in the wanted time.
fn skip(
    conn: &Connection,
    filter: &EventFilter,
    mut at: Seq,
    newest_first: bool,
) -> rusqlite::Result<Seq> {
    if filter.from.is_none() && filter.to.is_none() {
        return Ok(at);
    }
    if newest_first {
        let in_runs: Option<Seq> = conn
            .prepare_cached("SELECT max(last) FROM id_runs")?
            .query_row([], |row| row.get(0))?;
        if in_runs.is_none_or(|last| at - 1 > last) {
            return Ok(at); // the newest events are in no run yet
        }
    }
    let mut select = conn.prepare_cached(if newest_first {
        "SELECT first, oldest, newest FROM id_runs WHERE first < ?1 ORDER BY last DESC"
    } else {
        "SELECT last, oldest, newest FROM id_runs WHERE last > ?1 ORDER BY last"
    })?;
    let mut rows = select.query([at])?;
    while let Some(row) = rows.next()? {
        let oldest = Timestamp::from_millis(row.get(1)?);
        let newest = Timestamp::from_millis(row.get(2)?);
        if filter.from.is_none_or(|from| newest >= from) && filter.to.is_none_or(|to| oldest < to) {
            break;
        }
        at = row.get(0)?;
    }
    Ok(at)
}

/// Removes of the events of a round those that are older than `retention`, are at or below `floor` and have no row: how many, and
/// what was found. One that says it arrived that far ahead says nothing: it is old if one behind it is.
pub(super) fn sweep(
    conn: &Connection,
    round: Round,
    floor: Seq,
    now: Timestamp,
    retention: Duration,
    limit: usize,
) -> rusqlite::Result<(usize, RoundResult)> {
    let (cutoff, ahead) = (now.minus(retention), now.plus(retention));
    let mut select = conn.prepare_cached(
        "SELECT seq, received FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let (mut upto, mut looked, mut old) = (round.from, 0, None);
    let mut rows = select.query(params![round.from, floor.min(round.upto), limit as i64])?;
    while let Some(row) = rows.next()? {
        upto = row.get(0)?;
        looked += 1;
        if Timestamp::from_millis(row.get(1)?) < cutoff {
            old = Some(upto);
        }
    }
    let last_old = old.unwrap_or(0).max(round.old);
    let mut removed = 0;
    if last_old > round.from {
        removed = conn
            .prepare_cached(
                "DELETE FROM events WHERE seq > ?1 AND seq <= ?2 AND (received < ?3 OR received > ?4)
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.seq = events.seq)",
            )?
            .execute([
                round.from,
                upto.min(last_old),
                cutoff.millis(),
                ahead.millis(),
            ])?;
        note_given(conn, upto)?;
    }
    let found = RoundResult {
        upto,
        full: looked == limit,
        old,
        dropped: false,
    };
    Ok((removed, found))
}

/// Removes these events, of which no row is left: how many there were. The journal may hold them still; what is in it up to the
/// last number given is not taken from it again.
pub(super) fn delete(conn: &Connection, seqs: &[Seq]) -> rusqlite::Result<u64> {
    let mut delete = conn.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
    let mut removed = 0;
    for seq in seqs {
        removed += delete.execute([seq])? as u64;
    }
    note_given(conn, seqs.iter().copied().max().unwrap_or(0))?;
    Ok(removed)
}

/// Numbers are never given twice, even if no event is left to count on from.
fn note_given(conn: &Connection, upto: Seq) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE name = 'last_seq'")?
        .execute([upto])
        .map(drop)
}
