//! The newest events in memory. A handler that keeps up does not read the disk, and several handlers share what one of them has
//! parsed.
//!
//! Invariant: it holds only events that are on the disk, and all of those from its first to its last.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::auth::Authentic;
use crate::event::{Event, Seq};

/// At most so many events are held.
const EVENTS: usize = 4096;
/// At most so many bytes of bodies are held.
const BYTES: usize = 4 << 20;

/// The newest events.
#[derive(Debug, Default)]
pub(super) struct EventCache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    events: VecDeque<Event>,
    bytes: usize,
}

impl EventCache {
    /// Adds events that were just written, in order. If some are missing between these and the last one held, it begins anew.
    pub(super) fn push<'a>(&self, committed: impl Iterator<Item = (Seq, &'a Authentic)>) {
        let events: Vec<Event> = committed.map(|(seq, stored)| event(seq, stored)).collect();
        let dropped = self.held().push(events);
        drop(dropped); // without the lock
    }

    /// The events after `seq` as [`Inbox::after`](crate::inbox::Inbox::after) gives them. `None` if the disk has to be read.
    pub(super) fn after(&self, seq: Seq, limit: usize, bytes: usize) -> Option<Vec<Event>> {
        let held = self.held();
        let first = held.events.front()?.seq();
        let skipped = usize::try_from(seq.saturating_sub(first) + 1).ok()?;
        if skipped >= held.events.len() {
            return None;
        }
        let mut size = 0;
        let fits = |event: &&Event| {
            let fits = size == 0 || size < bytes;
            size += event.body().len();
            fits
        };
        let found = held.events.range(skipped..).take(limit).take_while(fits);
        Some(found.cloned().collect())
    }

    /// Forgets the events up to `upto`, because some of them were removed.
    pub(super) fn forget(&self, upto: Seq) {
        self.held().forget(upto);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Returns what makes room.
    fn push(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut dropped = Vec::new();
        for event in events {
            let next = self.events.back().map(|last| last.seq() + 1);
            if next.is_some_and(|next| next != event.seq()) {
                dropped.extend(self.events.drain(..));
                self.bytes = 0;
            }
            self.bytes += event.body().len();
            self.events.push_back(event);
        }
        while self.events.len() > EVENTS || self.bytes > BYTES {
            dropped.extend(self.pop());
        }
        dropped
    }

    fn forget(&mut self, upto: Seq) {
        while self.events.front().is_some_and(|first| first.seq() <= upto) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let first = self.events.pop_front()?;
        self.bytes -= first.body().len();
        Some(first)
    }
}

/// The body is copied: the received one may be a part of a connection's buffer.
fn event(seq: Seq, stored: &Authentic) -> Event {
    Event::new(
        seq,
        stored.id(),
        stored.source().clone(),
        stored.kind(),
        stored.received(),
        Bytes::copy_from_slice(stored.body()),
    )
}

#[cfg(test)]
mod tests;
