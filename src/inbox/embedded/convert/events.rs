//! Copies the events of the old store into a log.
//!
//! The old store has gaps in its numbers: retention and deletions removed single events. In a log all numbers of a segment are
//! there. Small gaps are filled with erased records. At a large one the segment ends.
//!
//! Few events between large gaps are copies in the state, but only if retention would make them that. It drops copies as soon as no
//! handler has a row for them, so others get a segment, however small.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use css_callbacks::Timestamp;
use rusqlite::Connection;

use super::Interrupt;
use super::error::ConvertError;
use super::old_store::{OldEvent, OldStore};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::embedded::{handlers, stored};
use crate::inbox::event_log::{
    self, Directory, KnownState, Layout, LogAppender, LogKeeper, LogRecord,
};

/// About so many bytes are written at once, if a segment is longer than that.
const BATCH: u64 = 4 << 20;
/// What a record takes besides its body, in the file and in memory.
const RECORD: usize = 160;
/// A gap of so many numbers is filled.
const FILLED: Seq = 64;
/// So many events between two large gaps are never copies.
const MANY: usize = 1000;
/// Progress is logged this often.
const PROGRESS: Duration = Duration::from_secs(10);

/// Where the events go.
pub(super) struct NewLog<'a> {
    state: &'a Connection,
    log: LogAppender<Directory>,
    keeper: LogKeeper<Directory>,
    /// The events of one write arrived within this time. Segments are by the time of arrival, as if they had been written then: else
    /// retention, which removes a segment when its newest event is old, would be late.
    span: Duration,
    /// Which events retention may remove.
    cutoff: AgeCutoff,
    /// Up to this event all handlers are done, but for rows.
    floor: Seq,
    batch: usize,
    /// Events that are not written yet, without large gaps between them.
    run: Vec<OldEvent>,
    /// About the bytes that they take.
    bytes: usize,
    /// Events before the run, without a large gap, are in the log already.
    is_in_log: bool,
}

impl<'a> NewLog<'a> {
    /// An empty log in an empty directory. `state` has the deliveries.
    pub(super) fn open(
        state: &'a Connection,
        path: PathBuf,
        layout: &Layout,
        cutoff: AgeCutoff,
    ) -> Result<Self, ConvertError> {
        let volume = Arc::new(Directory::new(path));
        let log = event_log::open(volume, layout.clone(), &KnownState::default())?;
        Ok(Self {
            state,
            log: log.appender,
            keeper: log.keeper,
            span: layout.span / 4,
            cutoff,
            floor: handlers::floor(state)?,
            batch: BATCH.min(layout.segment) as usize,
            run: Vec::new(),
            bytes: 0,
            is_in_log: false,
        })
    }

    /// Copies all events. Returns how many there are.
    pub(super) fn copy(mut self, old: &OldStore, at: Interrupt) -> Result<u64, ConvertError> {
        let mut count = 0;
        let mut logged = Instant::now();
        let mut last = 0;
        loop {
            let events = old.after(last)?;
            let Some(newest) = events.last() else { break };
            last = newest.seq;
            count += events.len() as u64;
            for event in events {
                self.add(event)?;
            }
            at("events")?;
            if logged.elapsed() > PROGRESS {
                logged = Instant::now();
                tracing::info!(events = count, "the store is being converted");
            }
        }
        self.write()?;
        self.skip_to(old.last_given()?)?;
        Ok(count)
    }

    fn add(&mut self, event: OldEvent) -> Result<(), ConvertError> {
        let before = self.run.last().map_or(self.log.last(), |last| last.seq);
        let mut gap = event.seq - 1 - before;
        if gap > FILLED || (self.run.is_empty() && !self.is_in_log) {
            self.end_run()?;
            self.skip_to(event.seq - 1)?;
            gap = 0;
        }
        self.bytes += event.body.len() + RECORD * (1 + gap as usize);
        self.run.push(event);
        if self.bytes >= self.batch {
            self.write()?;
        }
        Ok(())
    }

    /// A large gap comes.
    fn end_run(&mut self) -> Result<(), ConvertError> {
        if self.is_in_log || self.run.len() >= MANY || !self.may_be_copies()? {
            self.write()?;
        } else {
            for event in std::mem::take(&mut self.run) {
                stored::keep(self.state, &event.into_event())?;
            }
            self.bytes = 0;
        }
        self.is_in_log = false;
        Ok(())
    }

    /// Whether only rows hold these events: else a copy could be dropped before a handler has it, or before its time.
    fn may_be_copies(&self) -> rusqlite::Result<bool> {
        let mut has_row = self
            .state
            .prepare_cached("SELECT 1 FROM deliveries WHERE seq = ?1")?;
        for event in &self.run {
            let is_old = event.received < self.cutoff.before;
            if !is_old || event.seq > self.floor || !has_row.exists([event.seq])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends the segment. The numbers up to `last` have no record in the log.
    fn skip_to(&mut self, last: Seq) -> Result<(), ConvertError> {
        let first = self.log.last() + 1;
        if first <= last {
            stored::note_removed(self.state, first, last)?;
        }
        self.log.skip_to(last);
        self.seal()
    }

    /// Writes the run to the log.
    fn write(&mut self) -> Result<(), ConvertError> {
        let run = std::mem::take(&mut self.run);
        self.bytes = 0;
        self.is_in_log |= !run.is_empty();
        let mut events = &run[..];
        while let Some(first) = events.first() {
            let now = self.time(first.received);
            let is_later = |event: &OldEvent| self.time(event.received) > now + self.span;
            let count = events.iter().position(is_later).unwrap_or(events.len());
            let (batch, later) = events.split_at(count);
            self.append(batch, now)?;
            events = later;
        }
        Ok(())
    }

    /// The age of segments is counted from this. A time from the far future tells nothing.
    fn time(&self, received: Timestamp) -> Duration {
        let told = if received > self.cutoff.beyond {
            0
        } else {
            received.millis().max(0)
        };
        Duration::from_millis(told.unsigned_abs())
    }

    /// Writes these events, with erased records for the numbers that are missing.
    fn append(&mut self, events: &[OldEvent], now: Duration) -> Result<(), ConvertError> {
        let mut records = Vec::with_capacity(events.len());
        let mut next = self.log.last() + 1;
        for event in events {
            for seq in next..event.seq {
                records.push(LogRecord::erased(seq, event.received));
                self.state
                    .prepare_cached("INSERT INTO deleted(seq, erased) VALUES (?1, 1)")?
                    .execute([seq])?;
            }
            records.push(event.record());
            next = event.seq + 1;
        }
        self.log.append(&records, now, rand::random)?;
        self.seal()
    }

    fn seal(&mut self) -> Result<(), ConvertError> {
        for full in self.log.take_full() {
            self.keeper.seal(&full)?;
        }
        Ok(())
    }
}
