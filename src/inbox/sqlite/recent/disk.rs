//! Runs on disk: ids sorted by fingerprint, in parts of which a look-up reads one.
//!
//! A run is there when its row in `id_runs` is; parts without it are of a merge that was not finished, or left to be removed.
//! A run without a filter, as the previous release wrote them, is good as well.

use std::ops::Range;

use css_callbacks::{EventId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::filter::Filter;
use super::{Run, Sealed, Span};
use crate::event::Seq;

/// Leading bits of the fingerprint that choose one of the parts of a run: about 200 ids.
const PART_BITS: u32 = 8;
/// As many of a merged run: about 100 ids, three to a page of the store. The larger a part, the longer it takes to find that
/// an id is not there, which is found for one in 256 with each run.
const MERGED_PART_BITS: u32 = if cfg!(test) { 9 } else { 13 };
/// Groups of the filter of a run that was not merged. Also it is sorted a group at a time.
pub(super) const GROUPS: i64 = 2;
/// An id on disk: fingerprint and distance from the run's first event.
const ENTRY: usize = 12;

const fn part_bits(run: i64) -> u32 {
    if run < 0 { MERGED_PART_BITS } else { PART_BITS }
}

/// The parts of a run.
pub(super) const fn parts(run: i64) -> Range<i64> {
    run << part_bits(run)..(run + 1) << part_bits(run)
}

/// The run that a part is of.
pub(super) const fn run_of(part: i64) -> i64 {
    // Below zero are those of merged runs, as their numbers are.
    part >> part_bits(part)
}

/// The parts of one of so many groups of a run.
pub(super) fn parts_of_group(run: i64, group: i64, groups: i64) -> Range<i64> {
    let all = parts(run);
    let size = (all.end - all.start) / groups;
    let begin = all.start + group * size;
    begin..begin + size
}

fn part_of(run: i64, fingerprint: u64) -> i64 {
    let bits = part_bits(run);
    (run << bits) + (fingerprint >> (u64::BITS - bits)) as i64
}

/// Writes a full run inside the running transaction.
pub(in super::super) fn write_run(conn: &Connection, run: &Sealed) -> rusqlite::Result<Run> {
    let mut filter = Some(Filter::new());
    let mut ids = Vec::with_capacity(run.ids.len() / GROUPS as usize * 9 / 8);
    for group in 0..GROUPS {
        let parts = parts_of_group(run.number, group, GROUPS);
        ids.clear();
        ids.extend(
            run.ids
                .iter()
                .filter(|(fingerprint, _)| parts.contains(&part_of(run.number, **fingerprint)))
                .map(|(fingerprint, seq)| (*fingerprint, run.span.distance(*seq))),
        );
        ids.sort_unstable();
        write_parts(conn, run.number, parts, &ids)?;
        filter.take_if(|filter| !filter.add(ids.iter().map(|(fingerprint, _)| *fingerprint)));
    }
    let run = Run {
        number: run.number,
        span: run.span,
        filter,
    };
    write_row(conn, &run)?;
    Ok(run)
}

/// Writes these ids, which are sorted, as these parts of a run.
pub(super) fn write_parts(
    conn: &Connection,
    run: i64,
    parts: Range<i64>,
    ids: &[(u64, u32)],
) -> rusqlite::Result<()> {
    let mut insert =
        conn.prepare_cached("INSERT OR REPLACE INTO id_parts(part, ids) VALUES (?1, ?2)")?;
    let mut rest = ids;
    for part in parts {
        let end = rest.partition_point(|(fingerprint, _)| part_of(run, *fingerprint) <= part);
        let (own, others) = rest.split_at(end);
        rest = others;
        let mut bytes = Vec::with_capacity(own.len() * ENTRY);
        for (fingerprint, distance) in own {
            bytes.extend_from_slice(&fingerprint.to_be_bytes());
            bytes.extend_from_slice(&distance.to_be_bytes());
        }
        insert.execute(params![part, bytes])?;
    }
    Ok(())
}

/// Has a run be there, all parts of which are.
pub(super) fn write_row(conn: &Connection, run: &Run) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO id_runs(run, first, last, oldest, newest, filter) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        run.number,
        run.span.first,
        run.span.last,
        run.span.oldest.millis(),
        run.span.newest.millis(),
        run.filter.as_ref().map(Filter::stored),
    ])?;
    Ok(())
}

/// All runs, oldest first, without their filters.
pub(super) fn load_runs(conn: &Connection) -> rusqlite::Result<Vec<Run>> {
    let mut select =
        conn.prepare_cached("SELECT run, first, last, oldest, newest FROM id_runs ORDER BY last")?;
    let runs = select.query_map([], |row| {
        let span = Span {
            first: row.get(1)?,
            last: row.get(2)?,
            oldest: Timestamp::from_millis(row.get(3)?),
            newest: Timestamp::from_millis(row.get(4)?),
        };
        Ok(Run {
            number: row.get(0)?,
            span,
            filter: None,
        })
    })?;
    runs.collect()
}

/// The filter of a run. If it was written without one, it is made.
pub(super) fn load_filter(conn: &Connection, run: i64) -> rusqlite::Result<Option<Filter>> {
    let stored: Option<Vec<u8>> = conn
        .prepare_cached("SELECT filter FROM id_runs WHERE run = ?1")?
        .query_row([run], |row| row.get(0))?;
    if let Some(filter) = stored.and_then(Filter::read) {
        return Ok(Some(filter));
    }
    let mut filter = Filter::new();
    for group in 0..GROUPS {
        let mut fingerprints: Vec<u64> = Vec::new();
        let parts = parts_of_group(run, group, GROUPS);
        read_parts(conn, parts, |fingerprint, _| fingerprints.push(fingerprint))?;
        if !filter.add(fingerprints.iter().copied()) {
            return Ok(None);
        }
    }
    Ok(Some(filter))
}

/// What these parts hold, in order.
pub(super) fn read_parts(
    conn: &Connection,
    parts: Range<i64>,
    mut each: impl FnMut(u64, u32),
) -> rusqlite::Result<()> {
    let mut select = conn
        .prepare_cached("SELECT ids FROM id_parts WHERE part >= ?1 AND part < ?2 ORDER BY part")?;
    let mut rows = select.query([parts.start, parts.end])?;
    while let Some(row) = rows.next()? {
        let ids = row.get_ref(0)?.as_blob().unwrap_or_default();
        for (fingerprint, distance) in ids.as_chunks::<ENTRY>().0.iter().map(split) {
            each(fingerprint, distance);
        }
    }
    Ok(())
}

/// Removes inside the running transaction the runs of which no event is left, after events up to `upto` were removed: their
/// numbers. Their parts are left to [`Upkeep`](super::Upkeep).
pub(in super::super) fn forget_runs(conn: &Connection, upto: Seq) -> rusqlite::Result<Vec<i64>> {
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
            forgotten.push(run);
        }
    }
    Ok(forgotten)
}

/// The newest event with this id in the runs on disk. It asks all of them: not a thing to do on the accept path.
pub(in super::super) fn find_on_disk(
    conn: &Connection,
    id: &EventId,
) -> rusqlite::Result<Option<Seq>> {
    for run in load_runs(conn)?.iter().rev() {
        let found = find_in_run(conn, run, id, &|_| true)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The newest event with this id in a run, of those that arrived in time.
pub(super) fn find_in_run(
    conn: &Connection,
    run: &Run,
    id: &EventId,
    in_time: &dyn Fn(Timestamp) -> bool,
) -> rusqlite::Result<Option<Seq>> {
    for distance in distances(conn, run.number, id.fingerprint())?.iter().rev() {
        let seq = run.span.first + Seq::from(*distance);
        if confirmed(conn, seq, id, in_time)? {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

/// Whether the event has this id, the whole of it, and arrived in time.
pub(super) fn confirmed(
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

fn distances(conn: &Connection, run: i64, fingerprint: u64) -> rusqlite::Result<Vec<u32>> {
    let mut select = conn.prepare_cached("SELECT ids FROM id_parts WHERE part = ?1")?;
    let mut rows = select.query([part_of(run, fingerprint)])?;
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
