//! Reads events: from the log, and copies of events from the state.
//!
//! All of this reads files, so it belongs on threads that may wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use css_callbacks::{EventId, Timestamp};
use rusqlite::Connection;

use super::delivery_rows;
use super::readers::Readers;
use super::stored::{self, StoreLog, find_kept, is_stored, kept, kept_after};
use crate::event::{Event, Seq};
use crate::inbox::delivery::{HandlerId, Owed, Parked};
use crate::inbox::event_log::{LogEntry, TimeSpan};
use crate::inbox::query::{EventFilter, Page};

/// How many events a search looks at before it answers with what it has.
const SEARCH: usize = 50_000;
/// A search reads so many events at once, and about so many bytes.
const CHUNK: usize = 512;
const CHUNK_BYTES: usize = 4 << 20;

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the log of events: {0}")]
    Log(#[from] std::io::Error),
    #[error("state.db: {0}")]
    State(#[from] rusqlite::Error),
}

type Result<T> = std::result::Result<T, ReadError>;

/// Reads events. `damaged` hears of events that cannot be read.
pub(super) struct Reads {
    pub(super) log: StoreLog,
    pub(super) readers: Readers,
    pub(super) damaged: Box<dyn Fn(Vec<Seq>) + Send + Sync>,
}

impl Reads {
    /// Runs a query on the state.
    pub(super) fn state<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        Ok(self.readers.with(query)?)
    }

    /// The events after `seq` in order: at most `limit`, at least one if there is one, and no more once their bodies have `bytes`
    /// bytes.
    pub(super) fn after(&self, seq: Seq, limit: usize, bytes: usize) -> Result<Vec<Event>> {
        let mut found = Vec::new();
        let mut size = 0;
        let mut at = seq;
        // Records that were erased or are damaged give no event.
        while found.len() < limit && (found.is_empty() || size < bytes) {
            let entries = self
                .log
                .after(at, limit - found.len(), bytes - size.min(bytes))?;
            let Some(last) = entries.last() else { break };
            at = last.seq();
            let events = self.events(entries);
            size += events.iter().map(|event| event.body().len()).sum::<usize>();
            found.extend(events);
        }
        let copies = self.events(self.state(|conn| kept_after(conn, seq, limit))?);
        if copies.is_empty() {
            return Ok(found);
        }
        let both: BTreeMap<Seq, Event> = copies
            .into_iter()
            .chain(found)
            .map(|event| (event.seq(), event))
            .collect();
        let mut size = 0;
        let fits = |event: &Event| {
            let fits = size == 0 || size < bytes;
            size += event.body().len();
            fits
        };
        Ok(both.into_values().take(limit).take_while(fits).collect())
    }

    /// The events of these records. Damaged ones are reported.
    fn events(&self, entries: Vec<LogEntry>) -> Vec<Event> {
        let mut damaged = Vec::new();
        let event = |entry| match entry {
            LogEntry::Event(event) => Some(event),
            LogEntry::Erased(_) => None,
            LogEntry::Damaged(seq, _) => {
                damaged.push(seq);
                None
            }
        };
        let events = entries.into_iter().filter_map(event).collect();
        if !damaged.is_empty() {
            (self.damaged)(damaged);
        }
        events
    }

    /// What is stored under a number: a record of the log, or a copy.
    fn entry(&self, seq: Seq) -> Result<Option<LogEntry>> {
        match self.log.get(seq)? {
            Some(LogEntry::Erased(_)) | None => self.state(|conn| kept(conn, seq)),
            entry => Ok(entry),
        }
    }

    /// The events with these numbers, in their order. Missing ones are left out.
    pub(super) fn these(&self, seqs: &[Seq]) -> Result<Vec<Event>> {
        let mut found = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let entry = self.entry(*seq)?;
            found.extend(self.events(entry.into_iter().collect()));
        }
        Ok(found)
    }

    /// Those of these numbers whose events are stored.
    pub(super) fn existing(&self, seqs: &[Seq]) -> Result<Vec<Seq>> {
        self.state(|conn| {
            let mut there = Vec::new();
            for seq in seqs {
                if is_stored(conn, &self.log, *seq)? {
                    there.push(*seq);
                }
            }
            Ok(there)
        })
    }

    /// The first event at or after `seq` that is stored, and when it arrived.
    pub(super) fn received_from(&self, seq: Seq) -> Result<Option<(Seq, Timestamp)>> {
        let found = self.after(seq - 1, 1, 0)?;
        Ok(found.first().map(|event| (event.seq(), event.received())))
    }

    /// When the newest event arrived, as far as the log still knows.
    pub(super) fn newest(&self) -> Result<Option<Timestamp>> {
        let Some((first, last)) = self.log.range() else {
            return Ok(None);
        };
        for seq in (first..=last).rev() {
            let entry = self.log.get(seq)?;
            if let Some(head) = entry.as_ref().and_then(LogEntry::head) {
                return Ok(Some(head.received()));
            }
        }
        Ok(None)
    }

    /// The newest event with an id.
    pub(super) fn find(&self, id: &EventId) -> Result<Option<Event>> {
        if let Some(seq) = self.log.find(id)?
            && let Some(event) = self.these(&[seq])?.pop()
        {
            return Ok(Some(event));
        }
        self.find_copy(id)
    }

    /// The newest copy with an id.
    pub(super) fn find_copy(&self, id: &EventId) -> Result<Option<Event>> {
        let copy = self.state(|conn| find_kept(conn, id))?;
        Ok(self.events(copy.into_iter().collect()).pop())
    }

    /// The due deliveries with their events, and when the next one after them is due.
    pub(super) fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>)> {
        let (rows, next) =
            self.state(|conn| delivery_rows::due(conn, handler, until, latest, limit))?;
        let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        let mut events = self.these(&seqs)?.into_iter().peekable();
        let owed = rows.into_iter().filter_map(|row| {
            let event = events.next_if(|event| event.seq() == row.seq)?;
            Some(Owed {
                event,
                lane: row.lane,
                attempts: row.attempts,
            })
        });
        Ok((owed.collect(), next))
    }

    /// The parked deliveries beyond `beyond` with their events, without bodies.
    pub(super) fn parked(
        &self,
        handler: HandlerId,
        beyond: Seq,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Parked>> {
        let rows =
            self.state(|conn| delivery_rows::parked(conn, handler, beyond, newest_first, limit))?;
        let mut parked = Vec::with_capacity(rows.len());
        for row in rows {
            let event = match self.entry(row.seq)? {
                Some(LogEntry::Event(event)) => Some(event),
                Some(LogEntry::Damaged(seq, head)) => {
                    Some(head.unwrap_or_else(|| unreadable(seq, row.at)))
                }
                Some(LogEntry::Erased(_)) | None => None,
            };
            // Removed since the rows were read.
            let Some(event) = event else { continue };
            parked.push(Parked {
                event: event.without_body(),
                attempts: row.attempts,
                at: row.at,
                replaying: row.replaying,
            });
        }
        Ok(parked)
    }

    /// The events that pass the filter, from beyond `beyond`, newest first or in arrival order, without bodies. It stops after a
    /// bounded effort.
    pub(super) fn search(
        &self,
        filter: &EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>> {
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let mut looked = 0;
        let mut at = beyond.unwrap_or(if newest_first { Seq::MAX } else { 0 });
        while let Some(from) = self.next_candidate(filter, at, newest_first)? {
            for event in self.chunk(from, newest_first)? {
                if looked == SEARCH || page.items.len() == limit {
                    page.next = Some(at);
                    return Ok(page);
                }
                looked += 1;
                at = event.seq();
                if filter.matches(&event) {
                    page.items.push(event);
                }
            }
            // The whole chunk may have been erased.
            at = if newest_first {
                at.min(from)
            } else {
                at.max(from)
            };
        }
        Ok(page)
    }

    /// The next event beyond `at` that may have arrived in the filter's time.
    fn next_candidate(
        &self,
        filter: &EventFilter,
        at: Seq,
        newest_first: bool,
    ) -> Result<Option<Seq>> {
        let in_time = |span: TimeSpan| {
            filter.from.is_none_or(|from| span.newest >= from)
                && filter.to.is_none_or(|to| span.oldest < to)
        };
        let next = if newest_first {
            at - 1
        } else {
            at.saturating_add(1)
        };
        let in_log = self.log.skip(next, newest_first, in_time);
        let copy = self.state(|conn| stored::next_kept(conn, next, newest_first))?;
        Ok(match newest_first {
            true => in_log.max(copy),
            false => in_log.into_iter().chain(copy).min(),
        })
    }

    /// Events from `from` on, forwards or backwards, in that order and without bodies.
    fn chunk(&self, from: Seq, newest_first: bool) -> Result<Vec<Event>> {
        if !newest_first {
            let events = self.after(from - 1, CHUNK, CHUNK_BYTES)?;
            return Ok(events.into_iter().map(Event::without_body).collect());
        }
        let mut events: Vec<Event> = Vec::new();
        let mut at = from.saturating_sub(CHUNK as Seq).max(0);
        loop {
            let more = self.after(at, CHUNK, CHUNK_BYTES)?;
            let Some(last) = more.last().map(Event::seq) else {
                break;
            };
            at = last;
            events.extend(
                more.into_iter()
                    .filter(|event| event.seq() <= from)
                    .map(Event::without_body),
            );
            if last >= from {
                break;
            }
        }
        events.reverse();
        Ok(events)
    }
}

/// What is shown of an event of which nothing can be read.
fn unreadable(seq: Seq, at: Timestamp) -> Event {
    let id = EventId::from_bytes([0; 16]);
    Event::new(
        seq,
        id,
        Arc::from(""),
        css_callbacks::Kind::Unknown,
        at,
        bytes::Bytes::new(),
    )
}
