//! Writes what changed, with the cursor, in one transaction.

use std::time::Instant;

use rusqlite::{Transaction, params};

use super::block::{Block, key_of};
use super::encoding::encode;
use super::entry::{Entry, StoredHead};
use super::pauses::Pauses;
use super::{FLUSH_EVERY, Meta, Store};

/// A longer tail becomes a block of its own, in bytes. A tail is written with each flush of its
/// stream, a block once.
const MAX_TAIL: usize = 384;

impl Store {
    /// Flushes if that was long ago.
    pub(in crate::streams) fn flush_in_time(&mut self) -> rusqlite::Result<()> {
        if self.last_flush.elapsed() < FLUSH_EVERY {
            return Ok(());
        }
        self.flush()
    }

    /// Flushes if a stream changed: readers see only what is in the file.
    pub(in crate::streams) fn flush_for_readers(&mut self) -> rusqlite::Result<()> {
        if self.changed.is_empty() && self.removed.is_empty() {
            return Ok(());
        }
        self.flush()
    }

    /// Writes everything that is only in memory. After a failure it still is. If events were not
    /// applied to the end, it waits until they come again.
    pub(in crate::streams) fn flush(&mut self) -> rusqlite::Result<()> {
        if !self.undecided.is_empty() {
            return Ok(());
        }
        let is_unchanged = self.changed.is_empty() && self.removed.is_empty();
        if is_unchanged && self.meta == self.flushed {
            return Ok(());
        }
        let tx = self.conn.transaction()?;
        for no in &self.removed {
            for table in ["blocks WHERE stream", "streams WHERE no"] {
                tx.prepare_cached(&format!("DELETE FROM {table} = ?1"))?
                    .execute([no])?;
            }
        }
        let mut pauses = Pauses::new();
        for entry in self.changed.values() {
            write_entry(&tx, entry)?;
            pauses.rest();
        }
        write_meta(&tx, self.meta)?;
        tx.commit()?;
        for entry in std::mem::take(&mut self.changed).into_values() {
            drop(entry);
            pauses.rest();
        }
        self.removed.clear();
        self.numbers = Default::default();
        self.facts = 0;
        self.flushed = self.meta;
        self.last_flush = Instant::now();
        Ok(())
    }
}

fn write_meta(tx: &Transaction, meta: Meta) -> rusqlite::Result<()> {
    let mut note =
        tx.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?;
    note.execute(params!["cursor", meta.cursor])?;
    note.execute(params!["revision", meta.revision])?;
    note.execute(params!["streams", meta.streams])?;
    Ok(())
}

fn write_entry(tx: &Transaction, entry: &Entry) -> rusqlite::Result<()> {
    let mut encoded = encode(&entry.tail, entry.tail_pushes())?;
    let becomes_block = encoded.len() > MAX_TAIL;
    let mut moved = Vec::new();
    for (id, mut block) in entry.rewritten_blocks(tx)? {
        // The few places that a push leaves behind go with it: else each flush of a push that is long would leave such a block.
        if becomes_block && block.pushes.is_empty() && block.encoded()?.len() <= MAX_TAIL {
            moved.append(&mut block.places);
        }
        block.write(tx, id)?;
    }
    if !becomes_block {
        return write_state(tx, entry, &entry.greatest_push, &encoded);
    }
    if !moved.is_empty() {
        encoded = encode(entry.tail.iter().chain(&moved), entry.tail_pushes())?;
    }
    tx.prepare_cached("INSERT INTO blocks(stream, content) VALUES (?1, ?2)")?
        .execute(params![entry.state.row.no, encoded])?;
    let keys = entry.tail_pushes().map(key_of);
    let greatest = keys.chain([&*entry.greatest_push]).max();
    let empty = Block::default().encoded()?;
    write_state(tx, entry, greatest.unwrap_or_default(), &empty)
}

fn write_state(
    tx: &Transaction,
    entry: &Entry,
    greatest_push: &str,
    tail: &[u8],
) -> rusqlite::Result<()> {
    let state = &entry.state;
    let row = &state.row;
    if entry.stored.is_none() {
        tx.prepare_cached(
            "INSERT INTO streams(no, source, domain, appname, streamid, live, last, revision, announced,
                 announced_by, changes, applied, greatest_push, tail)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, 0, 0, 0, 0, '', '')",
        )?
        .execute(params![row.no, row.key.source, row.key.domain, row.key.appname, row.key.streamid])?;
    }
    // Apart, because the indexes are of these.
    if entry.stored != Some(StoredHead::of(state)) {
        tx.prepare_cached(
            "UPDATE streams SET live = ?2, since = ?3, session = ?4, revision = ?5, start = ?6, begin_seq = ?7,
                 begin_received = ?8, announced = ?9, announced_by = ?10, changes = ?11, announce_at = ?12
             WHERE no = ?1",
        )?
        .execute(params![
            row.no,
            row.live,
            row.since.map(|since| since.millis()),
            row.session,
            row.revision,
            state.start.map(|start| start.millis()),
            state.begin.map(|(seq, _)| seq),
            state.begin.map(|(_, received)| received.millis()),
            state.announced,
            state.announced_by,
            state.changes,
            state.announce_at.map(|at| at.millis()),
        ])?;
    }
    tx.prepare_cached(
        "UPDATE streams SET last = ?2, applied = ?3, oldest = ?4, newest = ?5, greatest_push = ?6, tail = ?7
         WHERE no = ?1",
    )?
    .execute(params![
        row.no,
        row.last.millis(),
        state.applied,
        state.arrivals.map(|(oldest, _)| oldest.millis()),
        state.arrivals.map(|(_, newest)| newest.millis()),
        greatest_push,
        tail,
    ])
    .map(drop)
}
