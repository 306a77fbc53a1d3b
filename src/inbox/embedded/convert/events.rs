//! Copies the events of the old store into a log.
//!
//! The old store has gaps in its numbers: retention and deletions removed single events. In a log all numbers of a segment are
//! there. Small gaps are filled with erased records. At a large one the segment ends.
//!
//! Few events between large gaps are copies in the state, but only if retention would make them that. It drops copies as soon as no
//! handler has a row for them, so others get a segment, however small.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Interrupt;
use super::error::ConvertError;
use super::log_writer::LogWriter;
use super::old_store::{OldEvent, OldStore};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::embedded::{handlers, stored};
use crate::inbox::event_log::Layout;

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
pub(super) struct Target<'a> {
    state: &'a Connection,
    log: LogWriter<'a>,
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
    /// The number after the last event.
    next: Seq,
}

impl<'a> Target<'a> {
    /// An empty log. `state` has the deliveries.
    pub(super) fn open(
        state: &'a Connection,
        log: PathBuf,
        layout: &Layout,
        cutoff: AgeCutoff,
    ) -> Result<Self, ConvertError> {
        Ok(Self {
            state,
            log: LogWriter::open(state, log, layout, cutoff)?,
            cutoff,
            floor: handlers::floor(state)?,
            batch: BATCH.min(layout.segment) as usize,
            run: Vec::new(),
            bytes: 0,
            is_in_log: false,
            next: 1,
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
        self.finish(old.last_given()?)?;
        Ok(count)
    }

    fn add(&mut self, event: OldEvent) -> Result<(), ConvertError> {
        let mut gap = event.seq - self.next;
        if gap > FILLED || (self.run.is_empty() && !self.is_in_log) {
            self.end_run()?;
            self.leave_out(self.next, event.seq - 1)?;
            self.log.skip_to(event.seq - 1)?;
            gap = 0;
        }
        self.next = event.seq + 1;
        self.bytes += event.body.len() + RECORD * (1 + gap as usize);
        self.run.push(event);
        if self.bytes >= self.batch {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the rest. `last`: the last number that was ever given.
    fn finish(mut self, last: Seq) -> Result<(), ConvertError> {
        self.write()?;
        self.leave_out(self.next, last)?;
        self.log.end()
    }

    /// A large gap comes.
    fn end_run(&mut self) -> Result<(), ConvertError> {
        if self.is_in_log || self.run.len() >= MANY || !self.may_be_copies()? {
            self.write()?;
        } else if let Some(first) = self.run.first().map(|event| event.seq) {
            for event in std::mem::take(&mut self.run) {
                stored::keep(self.state, &event.into_event())?;
            }
            self.bytes = 0;
            self.leave_out(first, self.next - 1)?;
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

    /// Writes the run to the log.
    fn write(&mut self) -> Result<(), ConvertError> {
        let run = std::mem::take(&mut self.run);
        self.bytes = 0;
        self.is_in_log |= !run.is_empty();
        self.log.write(&run)
    }

    /// These numbers have no record in the log.
    fn leave_out(&self, first: Seq, last: Seq) -> rusqlite::Result<()> {
        match first <= last {
            true => stored::note_removed(self.state, first, last),
            false => Ok(()),
        }
    }
}
