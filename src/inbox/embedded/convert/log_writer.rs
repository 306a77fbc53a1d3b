//! Writes the events of the old store to the new log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::Timestamp;
use rusqlite::Connection;

use super::error::ConvertError;
use super::old_store::OldEvent;
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::event_log::{
    self, Directory, KnownState, Layout, LogAppender, LogKeeper, LogRecord,
};

pub(super) struct LogWriter<'a> {
    state: &'a Connection,
    log: LogAppender<Directory>,
    keeper: LogKeeper<Directory>,
    /// The events of one write arrived within this time. Segments are by the time of arrival, as if they had been written then: else
    /// retention, which removes a segment when its newest event is old, would be late.
    span: Duration,
    cutoff: AgeCutoff,
}

impl<'a> LogWriter<'a> {
    /// Begins a log in an empty directory.
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
        })
    }

    /// Writes events, with erased records for the numbers that are missing.
    pub(super) fn write(&mut self, mut events: &[OldEvent]) -> Result<(), ConvertError> {
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

    /// The next event has the number after `last`.
    pub(super) fn skip_to(&mut self, last: Seq) -> Result<(), ConvertError> {
        self.log.skip_to(last);
        self.seal()
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Result<(), ConvertError> {
        self.log.end();
        self.seal()
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
