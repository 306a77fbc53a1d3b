//! The duplicate check: which ids arrived lately, exact, in bounded memory, without a random index on the accept path.
//!
//! Ids are kept in runs of [`RUN`] events in arrival order. The newest run is a hash map. A full run is sorted and written to
//! disk in parts, each found by one look-up (`disk`); in memory a filter of it remains (`filter`). As each filter is asked about
//! each new id, [`MERGED`] runs are merged into one when they have come together (`merge`). The newest runs have filters, as
//! many as the budget allows; the oldest of a very busy window are always asked on disk. A fingerprint that is found is
//! believed only after the event's row showed the whole id: what only looks like a duplicate is stored.
//!
//! Runs are written and merged by the store's writer. What it has done is told by a [`Change`]; until the check has taken that
//! in, the run is looked up in memory, and those that were merged stay on disk. Ids of events that were not moved into SQLite
//! yet are known as well.
//!
//! Memory, 16 MiB at most: 1.1 MiB each for the map and the run being written, 1.0 MiB for the filter of a merged run that is
//! not in place yet, and [`FILTERS`], enough for ten million ids. Beside that the writer needs 1.1 MiB for a moment to sort ids
//! and to make filters.

mod disk;
mod filter;
mod merge;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};
use rusqlite::Connection;

use self::disk::{confirmed, find_in_run, load_filter, load_runs};
pub(super) use self::disk::{find_on_disk, forget_runs, write_run};
use self::filter::Filter;
pub(super) use self::merge::Upkeep;
use crate::event::Seq;

/// Events per run; in tests so few that runs are a matter of course. The map has room for another batch before it grows.
const RUN: usize = if cfg!(test) { 1 << 9 } else { FULL_RUN };
const FULL_RUN: usize = 13 << 12;
/// Runs that are merged into one.
const MERGED: usize = if cfg!(test) { 4 } else { FULL_MERGED };
const FULL_MERGED: usize = 16;
/// Bytes for filters.
const FILTERS: usize = if cfg!(test) { 9 << 10 } else { FULL_FILTERS };
const FULL_FILTERS: usize = 25 << 19;

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

type Ids = HashMap<u64, Seq, BuildHasherDefault<Identity>>;

/// Ids of lately arrived events.
pub(super) struct Recent {
    newest: Ids,
    newest_span: Span,
    writing: Option<Arc<Sealed>>,
    /// Complete on disk, oldest first.
    runs: Vec<Run>,
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

    fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            oldest: self.oldest.min(other.oldest),
            newest: self.newest.max(other.newest),
        }
    }

    /// How far an event is from the first one. It fits: a run is far shorter than 2^32 events, deleted ones in between included.
    fn distance(&self, seq: Seq) -> u32 {
        u32::try_from(seq - self.first).unwrap_or(u32::MAX)
    }
}

/// A full run on its way to disk.
pub(super) struct Sealed {
    number: i64,
    span: Span,
    ids: Ids,
}

/// A run on disk. The numbers of merged ones are below zero.
pub(super) struct Run {
    number: i64,
    span: Span,
    filter: Option<Filter>,
}

/// What happened to runs on disk, in this order.
pub(super) enum Change {
    /// The run that was sealed is complete on disk.
    Written(Run),
    /// These are one now.
    Merged(Vec<i64>, Run),
    /// Of these no event is left.
    Forgotten(Vec<i64>),
}

impl Recent {
    /// Rebuilds the check from what is stored, up to `last`; `cutoff` is the begin of the duplicate window.
    pub(super) fn load(conn: &Connection, last: Seq, cutoff: Timestamp) -> rusqlite::Result<Self> {
        let mut recent = Self {
            newest: Ids::default(),
            newest_span: Span::EMPTY,
            writing: None,
            runs: load_runs(conn)?,
            next_number: 0,
            unmoved: VecDeque::new(),
            moved: last,
        };
        let mut left = FILTERS;
        for run in recent.runs.iter_mut().rev() {
            if run.span.newest >= cutoff {
                let Some(filter) = load_filter(conn, run.number)? else {
                    continue;
                };
                let Some(less) = left.checked_sub(filter.size()) else {
                    break;
                };
                left = less;
                run.filter = Some(filter);
            }
        }
        let numbers = recent.runs.iter().map(|run| run.number);
        recent.next_number = numbers.max().map_or(0, |number| number.max(-1) + 1);
        let after = recent.runs.last().map_or(0, |run| run.span.last);
        let mut events =
            conn.prepare("SELECT seq, id, received FROM events WHERE seq > ?1 ORDER BY seq")?;
        let mut rows = events.query([after])?;
        while let Some(row) = rows.next()? {
            let received = Timestamp::from_millis(row.get(2)?);
            recent.remember(row.get(0)?, &EventId::from_bytes(row.get(1)?), received);
            if let Some(sealed) = recent.seal() {
                let whole = conn.unchecked_transaction()?;
                let run = write_run(conn, &sealed)?;
                whole.commit()?;
                recent.take_in(Change::Written(run), cutoff);
            }
        }
        Ok(recent)
    }

    /// The event with this id that arrived within `window` before `now`, if there is one. What says that it arrived later than as
    /// long after it is no witness: the clock was wrong, and might have been by years.
    pub(super) fn find_within(
        &self,
        conn: &Connection,
        id: &EventId,
        now: Timestamp,
        window: Duration,
    ) -> rusqlite::Result<Option<Seq>> {
        let (cutoff, ahead) = (now.minus(window), now.plus(window));
        self.find(
            conn,
            id,
            |span| span.newest > cutoff && span.oldest <= ahead,
            |received| received > cutoff && received <= ahead,
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
            let found = find_in_run(conn, run, id, &in_time)?;
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
        if let Some(sealed) = &self.writing
            && in_span(&sealed.span)
            && let Some(&seq) = sealed.ids.get(&fingerprint)
            && self.confirmed(conn, seq, id, in_time)?
        {
            return Ok(Some(seq));
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

    /// The newest run if it is full and the one before it is complete on disk: to be given to [`write_run`].
    pub(super) fn seal(&mut self) -> Option<Arc<Sealed>> {
        if self.newest.len() < RUN || self.writing.is_some() {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        // It does not grow step by step, each of which would make an answer wait.
        let next = Ids::with_capacity_and_hasher(RUN, BuildHasherDefault::new());
        let sealed = Arc::new(Sealed {
            number,
            span: std::mem::replace(&mut self.newest_span, Span::EMPTY),
            ids: std::mem::replace(&mut self.newest, next),
        });
        self.writing = Some(sealed.clone());
        Some(sealed)
    }

    /// Goes on with the runs as they are on disk now. What ended before `cutoff` needs no filter any more.
    pub(super) fn take_in(&mut self, change: Change, cutoff: Timestamp) {
        match change {
            Change::Written(run) => {
                self.writing.take_if(|sealed| sealed.number == run.number);
                self.insert(run);
            }
            Change::Merged(gone, run) => {
                self.forget(&gone);
                self.insert(run);
            }
            Change::Forgotten(gone) => self.forget(&gone),
        }
        let mut left = FILTERS;
        for run in self.runs.iter_mut().rev() {
            let size = run.filter.as_ref().map_or(0, Filter::size);
            match left.checked_sub(size) {
                Some(less) if run.span.newest >= cutoff => left = less,
                _ => run.filter = None,
            }
        }
    }

    fn insert(&mut self, run: Run) {
        let older = |other: &Run| other.span.last < run.span.last;
        self.runs.insert(self.runs.partition_point(older), run);
    }

    fn forget(&mut self, gone: &[i64]) {
        self.runs.retain(|run| !gone.contains(&run.number));
    }
}

#[cfg(test)]
mod tests;
