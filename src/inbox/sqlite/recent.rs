//! The duplicate check: which ids arrived lately, exact, in bounded memory, without a random index on the accept path.
//!
//! Ids are kept in runs of [`RUN`] events in arrival order. The newest run is a hash map. A full run is sorted and written to
//! disk in parts, each found by one look-up; in memory a Bloom filter of it remains, for as many runs as the budget allows,
//! and the oldest runs of a very busy window are always asked on disk. A fingerprint that is found is believed only after the
//! event's row showed the whole id: what only looks like a duplicate is stored.
//!
//! A run is written by the store's writer; until it has, it is looked up in memory, as are the ids of events that were not
//! moved into SQLite yet.
//!
//! Memory: 4.25 MiB for the map, 2.25 MiB for the run being written, 256 KiB for the filter of each further run of the window,
//! at most [`FILTERED_RUNS`]: 12 MiB with three million ids in the window, 26 MiB with ten million.

mod filter;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use self::filter::Filter;
use crate::clock::Timestamp;
use crate::event::Seq;
use crate::identity::EventId;

/// Events per run; in tests so few that runs are a matter of course.
const RUN: usize = if cfg!(test) { 1 << 9 } else { FULL_RUN };
const FULL_RUN: usize = 1 << 17;
/// Parts per run on disk, by the first byte of the fingerprint: about 512 ids, 6 KiB each.
const PARTS: i64 = 256;
/// Runs that have a filter in memory.
const FILTERED_RUNS: usize = if cfg!(test) { 4 } else { FULL_FILTERED_RUNS };
const FULL_FILTERED_RUNS: usize = 77;
/// An id on disk: fingerprint and distance from the run's first event.
const ENTRY: usize = 12;

/// Ids and fingerprints are hashes already.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, id: &[u8]) {
        if let Some(first) = id.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Ids of lately arrived events.
pub(super) struct Recent {
    newest: HashMap<u64, Seq, BuildHasherDefault<Identity>>,
    newest_span: Span,
    writing: Option<(Arc<Sealed>, Filter)>,
    /// Complete on disk, oldest first.
    runs: VecDeque<Run>,
    /// Of the next run.
    next_number: i64,
    /// What SQLite may not have yet, by number: the first is the one after `moved`.
    unmoved: VecDeque<(EventId, Timestamp)>,
    moved: Seq,
}

/// Which events a run holds.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Seq,
    last: Seq,
    oldest: Timestamp,
    newest: Timestamp,
}

impl Span {
    const EMPTY: Self = Self {
        first: Seq::MAX,
        last: 0,
        oldest: Timestamp::from_millis(i64::MAX),
        newest: Timestamp::from_millis(i64::MIN),
    };

    fn add(&mut self, seq: Seq, received: Timestamp) {
        self.first = self.first.min(seq);
        self.last = self.last.max(seq);
        self.oldest = self.oldest.min(received);
        self.newest = self.newest.max(received);
    }
}

/// A full run on its way to disk.
pub(super) struct Sealed {
    number: i64,
    span: Span,
    /// By fingerprint.
    ids: Vec<(u64, u32)>,
}

impl Sealed {
    pub(super) fn number(&self) -> i64 {
        self.number
    }
}

struct Run {
    number: i64,
    span: Span,
    filter: Option<Filter>,
}

impl Recent {
    /// Rebuilds the check from what is stored, up to `last`; `cutoff` is the begin of the duplicate window.
    pub(super) fn load(conn: &Connection, last: Seq, cutoff: Timestamp) -> rusqlite::Result<Self> {
        let mut recent = Self {
            newest: HashMap::default(),
            newest_span: Span::EMPTY,
            writing: None,
            runs: VecDeque::new(),
            next_number: 0,
            unmoved: VecDeque::new(),
            moved: last,
        };
        let mut runs =
            conn.prepare("SELECT run, first, last, oldest, newest FROM id_runs ORDER BY run")?;
        let mut rows = runs.query([])?;
        while let Some(row) = rows.next()? {
            let span = Span {
                first: row.get(1)?,
                last: row.get(2)?,
                oldest: Timestamp::from_millis(row.get(3)?),
                newest: Timestamp::from_millis(row.get(4)?),
            };
            recent.runs.push_back(Run {
                number: row.get(0)?,
                span,
                filter: None,
            });
        }
        for run in recent.runs.iter_mut().rev().take(FILTERED_RUNS) {
            if run.span.newest >= cutoff {
                run.filter = Some(load_filter(conn, run.number)?);
            }
        }
        recent.next_number = recent.runs.back().map_or(0, |run| run.number + 1);
        let after = recent.runs.back().map_or(0, |run| run.span.last);
        let mut events =
            conn.prepare("SELECT seq, id, received FROM events WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = events.query([after])?;
        while let Some(row) = rows.next()? {
            let received = Timestamp::from_millis(row.get(2)?);
            recent.remember(row.get(0)?, &EventId::from_bytes(row.get(1)?), received);
            if let Some(sealed) = recent.seal(-1, cutoff) {
                write_run(conn, &sealed)?;
                recent.seal(sealed.number, cutoff);
            }
        }
        Ok(recent)
    }

    /// The event with this id that arrived after `cutoff`, if there is one.
    pub(super) fn find_since(
        &self,
        conn: &Connection,
        id: &EventId,
        cutoff: Timestamp,
    ) -> rusqlite::Result<Option<Seq>> {
        self.find(
            conn,
            id,
            |span| span.newest > cutoff,
            |received| received > cutoff,
        )
    }

    /// The newest event with this id, whenever it arrived.
    pub(super) fn find_ever(
        &self,
        conn: &Connection,
        id: &EventId,
    ) -> rusqlite::Result<Option<Seq>> {
        self.find(conn, id, |_| true, |_| true)
    }

    /// The newest event with this id that is in no run on disk; [`find_on_disk`] looks there.
    pub(super) fn find_in_memory(
        &self,
        conn: &Connection,
        id: &EventId,
    ) -> rusqlite::Result<Option<Seq>> {
        self.find_unwritten(conn, id, &|_| true, &|_| true)
    }

    fn find(
        &self,
        conn: &Connection,
        id: &EventId,
        in_span: impl Fn(&Span) -> bool,
        in_time: impl Fn(Timestamp) -> bool,
    ) -> rusqlite::Result<Option<Seq>> {
        if let Some(seq) = self.find_unwritten(conn, id, &in_span, &in_time)? {
            return Ok(Some(seq));
        }
        let fingerprint = id.fingerprint();
        for run in self.runs.iter().rev().filter(|run| in_span(&run.span)) {
            let ruled_out = |filter: &Filter| !filter.may_hold(fingerprint);
            if run.filter.as_ref().is_some_and(ruled_out) {
                continue;
            }
            let found = find_in_run(conn, run.number, run.span.first, id, &in_time)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn find_unwritten(
        &self,
        conn: &Connection,
        id: &EventId,
        in_span: &dyn Fn(&Span) -> bool,
        in_time: &dyn Fn(Timestamp) -> bool,
    ) -> rusqlite::Result<Option<Seq>> {
        let fingerprint = id.fingerprint();
        if let Some(&seq) = self.newest.get(&fingerprint)
            && self.confirmed(conn, seq, id, in_time)?
        {
            return Ok(Some(seq));
        }
        if let Some((sealed, filter)) = &self.writing
            && in_span(&sealed.span)
            && filter.may_hold(fingerprint)
        {
            let begin = sealed
                .ids
                .partition_point(|(other, _)| *other < fingerprint);
            for (_, distance) in sealed.ids[begin..]
                .iter()
                .take_while(|(other, _)| *other == fingerprint)
            {
                let seq = sealed.span.first + Seq::from(*distance);
                if self.confirmed(conn, seq, id, in_time)? {
                    return Ok(Some(seq));
                }
            }
        }
        Ok(None)
    }

    /// As [`confirmed`], also for what SQLite may not have yet.
    fn confirmed(
        &self,
        conn: &Connection,
        seq: Seq,
        id: &EventId,
        in_time: &dyn Fn(Timestamp) -> bool,
    ) -> rusqlite::Result<bool> {
        let unmoved = usize::try_from(seq - self.moved - 1);
        match unmoved.ok().and_then(|at| self.unmoved.get(at)) {
            Some((stored, received)) => Ok(stored == id && in_time(*received)),
            None => confirmed(conn, seq, id, in_time),
        }
    }

    /// Remembers the next event. Only what is on disk may be added.
    pub(super) fn add(&mut self, seq: Seq, id: &EventId, received: Timestamp) {
        self.unmoved.push_back((*id, received));
        self.remember(seq, id, received);
    }

    fn remember(&mut self, seq: Seq, id: &EventId, received: Timestamp) {
        self.newest.insert(id.fingerprint(), seq);
        self.newest_span.add(seq, received);
    }

    /// SQLite has everything up to here.
    pub(super) fn moved(&mut self, upto: Seq) {
        while self.moved < upto && self.unmoved.pop_front().is_some() {
            self.moved += 1;
        }
    }

    /// The newest run if it is full and the one before it is complete on disk, which `written` tells: to be given to
    /// [`write_run`]. What ended before `cutoff` needs no filter any more.
    pub(super) fn seal(&mut self, written: i64, cutoff: Timestamp) -> Option<Arc<Sealed>> {
        if let Some((sealed, filter)) = self.writing.take_if(|(sealed, _)| sealed.number <= written)
        {
            self.runs.push_back(Run {
                number: sealed.number,
                span: sealed.span,
                filter: Some(filter),
            });
            let unfiltered = self.runs.len().saturating_sub(FILTERED_RUNS);
            for (at, run) in self.runs.iter_mut().enumerate() {
                if at < unfiltered || run.span.newest < cutoff {
                    run.filter = None;
                }
            }
        }
        if self.newest.len() < RUN || self.writing.is_some() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let span = std::mem::replace(&mut self.newest_span, Span::EMPTY);
        // The distance fits: a run is far shorter than 2^32 events, deleted ones in between included.
        let distance = |seq: Seq| u32::try_from(seq - span.first).unwrap_or(u32::MAX);
        let mut ids: Vec<_> = self
            .newest
            .drain()
            .map(|(fingerprint, seq)| (fingerprint, distance(seq)))
            .collect();
        ids.sort_unstable();
        let mut filter = Filter::new();
        ids.iter()
            .for_each(|(fingerprint, _)| filter.add(*fingerprint));
        let sealed = Arc::new(Sealed { number, span, ids });
        self.writing = Some((sealed.clone(), filter));
        Some(sealed)
    }

    /// A run is gone from the disk.
    pub(super) fn forget(&mut self, number: i64) {
        self.runs.retain(|run| run.number != number);
    }
}

/// Writes a full run inside the running transaction.
pub(super) fn write_run(conn: &Connection, run: &Sealed) -> rusqlite::Result<()> {
    let mut insert =
        conn.prepare_cached("INSERT OR REPLACE INTO id_parts(part, ids) VALUES (?1, ?2)")?;
    for part in 0..PARTS {
        let part_of = |fingerprint: u64| (fingerprint >> 56) as i64;
        let begin = run
            .ids
            .partition_point(|(fingerprint, _)| part_of(*fingerprint) < part);
        let end = run
            .ids
            .partition_point(|(fingerprint, _)| part_of(*fingerprint) <= part);
        let mut bytes = Vec::with_capacity((end - begin) * ENTRY);
        for (fingerprint, distance) in &run.ids[begin..end] {
            bytes.extend_from_slice(&fingerprint.to_be_bytes());
            bytes.extend_from_slice(&distance.to_be_bytes());
        }
        insert.execute(params![run.number * PARTS + part, bytes])?;
    }
    let span = run.span;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO id_runs(run, first, last, oldest, newest) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        run.number,
        span.first,
        span.last,
        span.oldest.millis(),
        span.newest.millis()
    ])?;
    Ok(())
}

/// Removes inside the running transaction the runs of which no event is left, after events up to `upto` were removed: their
/// numbers.
pub(super) fn forget_runs(conn: &Connection, upto: Seq) -> rusqlite::Result<Vec<i64>> {
    let mut left =
        conn.prepare_cached("SELECT 1 FROM events WHERE seq BETWEEN ?1 AND ?2 LIMIT 1")?;
    let mut runs = conn.prepare_cached("SELECT run, first, last FROM id_runs WHERE first <= ?1")?;
    let runs: Vec<(i64, Seq, Seq)> = runs
        .query_map([upto], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    let mut forgotten = Vec::new();
    for (run, first, last) in runs {
        if !left.exists([first, last])? {
            conn.execute("DELETE FROM id_runs WHERE run = ?1", [run])?;
            let parts = (run * PARTS, (run + 1) * PARTS);
            conn.execute("DELETE FROM id_parts WHERE part >= ?1 AND part < ?2", parts)?;
            forgotten.push(run);
        }
    }
    Ok(forgotten)
}

/// Whether the event has this id, the whole of it, and arrived in time.
fn confirmed(
    conn: &Connection,
    seq: Seq,
    id: &EventId,
    in_time: &dyn Fn(Timestamp) -> bool,
) -> rusqlite::Result<bool> {
    let row = conn
        .prepare_cached("SELECT id, received FROM events WHERE seq = ?1")?
        .query_row([seq], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    Ok(row.is_some_and(|(stored, received)| {
        stored == *id.as_bytes() && in_time(Timestamp::from_millis(received))
    }))
}

fn find_in_run(
    conn: &Connection,
    run: i64,
    first: Seq,
    id: &EventId,
    in_time: &dyn Fn(Timestamp) -> bool,
) -> rusqlite::Result<Option<Seq>> {
    for distance in distances_on_disk(conn, run, id.fingerprint())? {
        let seq = first + Seq::from(distance);
        if confirmed(conn, seq, id, in_time)? {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

/// The newest event with this id in the runs on disk. It asks all of them: not a thing to do on the accept path.
pub(super) fn find_on_disk(conn: &Connection, id: &EventId) -> rusqlite::Result<Option<Seq>> {
    let mut runs = conn.prepare_cached("SELECT run, first FROM id_runs ORDER BY run DESC")?;
    let mut rows = runs.query([])?;
    while let Some(row) = rows.next()? {
        let found = find_in_run(conn, row.get(0)?, row.get(1)?, id, &|_| true)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn distances_on_disk(conn: &Connection, run: i64, fingerprint: u64) -> rusqlite::Result<Vec<u32>> {
    let part = run * PARTS + (fingerprint >> 56) as i64;
    let mut select = conn.prepare_cached("SELECT ids FROM id_parts WHERE part = ?1")?;
    let mut rows = select.query([part])?;
    let Some(row) = rows.next()? else {
        return Ok(Vec::new());
    };
    let ids = row.get_ref(0)?.as_blob().unwrap_or_default();
    let (entries, _) = ids.as_chunks::<ENTRY>();
    let begin = entries.partition_point(|entry| split(entry).0 < fingerprint);
    Ok(entries[begin..]
        .iter()
        .map(split)
        .take_while(|(other, _)| *other == fingerprint)
        .map(|(_, distance)| distance)
        .collect())
}

fn split(entry: &[u8; ENTRY]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u32::from_be_bytes([i, j, k, l]),
    )
}

fn load_filter(conn: &Connection, run: i64) -> rusqlite::Result<Filter> {
    let mut filter = Filter::new();
    let mut select =
        conn.prepare_cached("SELECT ids FROM id_parts WHERE part >= ?1 AND part < ?2")?;
    let mut rows = select.query((run * PARTS, (run + 1) * PARTS))?;
    while let Some(row) = rows.next()? {
        let ids = row.get_ref(0)?.as_blob().unwrap_or_default();
        let (entries, _) = ids.as_chunks::<ENTRY>();
        entries.iter().for_each(|entry| filter.add(split(entry).0));
    }
    Ok(filter)
}

#[cfg(test)]
mod tests;
