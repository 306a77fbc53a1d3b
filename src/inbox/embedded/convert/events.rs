//! Copies the events of the old store into a log.
//!
//! The old store has gaps in its numbers: retention and deletions removed single events. In a log all numbers of a segment are
//! there. Small gaps are filled with erased records. At a large one the segment ends. Few events between large gaps are no segment
//! of their own, they are kept as copies in the state.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};
use rusqlite::{Connection, params};

use super::{ConvertError, Interrupt, OldEvent, last_given};
use crate::event::{Event, Seq};
use crate::inbox::embedded::stored;
use crate::inbox::event_log::{
    self, Directory, KnownState, Layout, LogAppender, LogKeeper, LogRecord,
};

/// Events that are read at once, and about how many bytes of bodies.
const CHUNK: usize = 4096;
const CHUNK_BYTES: usize = 4 << 20;
/// A gap of so many numbers is filled.
const FILLED: Seq = 64;
/// So few events between two large gaps are kept as copies.
const FEW: usize = 1000;
/// Progress is logged this often.
const PROGRESS: Duration = Duration::from_secs(10);

/// Copies all events. Returns how many there are.
pub(super) fn copy(
    old: &Connection,
    state: &Connection,
    log: PathBuf,
    layout: &Layout,
    at: Interrupt,
) -> Result<u64, ConvertError> {
    let volume = Arc::new(Directory::new(log));
    let log = event_log::open(volume, layout.clone(), &KnownState::default())?;
    let mut target = Target {
        state,
        log: log.appender,
        keeper: log.keeper,
        run: Vec::new(),
        bytes: 0,
        is_large: false,
        next: 1,
    };
    let mut count = 0;
    let mut logged = Instant::now();
    let mut last = 0;
    loop {
        let events = read(old, last)?;
        let Some(newest) = events.last() else { break };
        last = newest.seq;
        count += events.len() as u64;
        for event in events {
            target.add(event)?;
        }
        at("events")?;
        if logged.elapsed() > PROGRESS {
            logged = Instant::now();
            tracing::info!(events = count, "the store is being converted");
        }
    }
    target.finish(last_given(old)?)?;
    Ok(count)
}

fn read(old: &Connection, after: Seq) -> rusqlite::Result<Vec<OldEvent>> {
    let mut select = old.prepare_cached(
        "SELECT seq, received, source, kind, id, body FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = select.query(params![after, CHUNK as i64])?;
    let mut events = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let event = OldEvent {
            seq: row.get(0)?,
            received: Timestamp::from_millis(row.get(1)?),
            source: row.get(2)?,
            code: row.get(3)?,
            id: EventId::from_bytes(row.get(4)?),
            body: row.get(5)?,
        };
        bytes += event.body.len();
        events.push(event);
        if bytes >= CHUNK_BYTES {
            break;
        }
    }
    Ok(events)
}

/// Where the events go.
struct Target<'a> {
    state: &'a Connection,
    log: LogAppender<Directory>,
    keeper: LogKeeper<Directory>,
    /// Events that are not written yet, without large gaps between them.
    run: Vec<OldEvent>,
    /// The bytes of their bodies.
    bytes: usize,
    /// Events before the run, without a large gap, are in the log already.
    is_large: bool,
    /// The number after the last event.
    next: Seq,
}

impl Target<'_> {
    fn add(&mut self, event: OldEvent) -> Result<(), ConvertError> {
        if event.seq - self.next > FILLED || (self.run.is_empty() && !self.is_large) {
            self.end_run()?;
            self.leave_out(self.next, event.seq - 1)?;
            self.log.skip_to(event.seq - 1);
            self.seal()?;
        }
        self.next = event.seq + 1;
        self.bytes += event.body.len();
        self.run.push(event);
        if self.run.len() >= FEW && (self.run.len() >= CHUNK || self.bytes >= CHUNK_BYTES) {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the rest. `last`: the last number that was ever given.
    fn finish(mut self, last: Seq) -> Result<(), ConvertError> {
        self.write()?;
        self.leave_out(self.next, last)?;
        self.log.end();
        self.seal()
    }

    /// A large gap comes.
    fn end_run(&mut self) -> Result<(), ConvertError> {
        if self.is_large || self.run.len() >= FEW {
            self.write()?;
        } else if let Some(first) = self.run.first().map(|event| event.seq) {
            for event in std::mem::take(&mut self.run) {
                stored::keep(self.state, &copy_of(event))?;
            }
            self.bytes = 0;
            self.leave_out(first, self.next - 1)?;
        }
        self.is_large = false;
        Ok(())
    }

    /// Writes the run to the log.
    fn write(&mut self) -> Result<(), ConvertError> {
        let run = std::mem::take(&mut self.run);
        self.bytes = 0;
        self.is_large |= !run.is_empty();
        let mut records = Vec::with_capacity(run.len());
        let mut next = self.log.last() + 1;
        for event in &run {
            for seq in next..event.seq {
                records.push(LogRecord::erased(seq, event.received));
                self.state
                    .prepare_cached("INSERT INTO deleted(seq, erased) VALUES (?1, 1)")?
                    .execute([seq])?;
            }
            records.push(LogRecord {
                seq: event.seq,
                received: event.received,
                id: event.id,
                code: event.code,
                source: &event.source,
                body: &event.body,
            });
            next = event.seq + 1;
        }
        if !records.is_empty() {
            self.log.append(&records, Duration::ZERO, rand::random)?;
        }
        self.seal()
    }

    fn seal(&mut self) -> Result<(), ConvertError> {
        for full in self.log.take_full() {
            self.keeper.seal(&full)?;
        }
        Ok(())
    }

    /// These numbers have no record in the log.
    fn leave_out(&self, first: Seq, last: Seq) -> rusqlite::Result<()> {
        match first <= last {
            true => stored::note_removed(self.state, first, last),
            false => Ok(()),
        }
    }
}

fn copy_of(event: OldEvent) -> Event {
    let kind = Kind::from_stored(event.code);
    let source = event.source.into();
    let body = Bytes::from(event.body);
    Event::new(event.seq, event.id, source, kind, event.received, body)
}
