//! The board and retention: facts are removed with their events, and the begin event of each live
//! stream is pinned, so that retention keeps it.

use std::time::Duration;

use super::{Board, BoardBackend};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::HandlerId;
use crate::inbox::query::EventFilter;
use crate::stream::{Begin, StreamFact, StreamQuery, StreamRow};

/// How many rows one step reads.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 8 << 20;
/// Each tenth sweep looks at all events again.
const FULL_EVERY: u64 = 10;

/// How far the sweeps of retention are.
#[derive(Debug, Default)]
pub(super) struct SweepState {
    number: u64,
    /// Whether [`Board::catch_up`] is done.
    caught_up: bool,
    /// Begins up to this event were checked for pinning.
    pinned: Seq,
    /// Facts up to this event were checked for removal.
    forgotten: Seq,
}

impl Board {
    /// Pins the begins of live streams in the inbox before retention removes them. `handler` is the
    /// board's number in the inbox.
    pub(crate) async fn before_sweep(
        &self,
        handler: HandlerId,
        retention: Duration,
    ) -> Result<(), StoreError> {
        let mut sweeps = self.sweeps.lock().await;
        sweeps.number += 1;
        if sweeps.number.is_multiple_of(FULL_EVERY) {
            let unpin = self.to_unpin().await?;
            for chunk in unpin.chunks(CHUNK) {
                self.inbox.discard_events(handler, chunk.to_vec()).await?;
                self.note_pinned(Vec::new(), chunk.to_vec()).await?;
            }
            // The clock may have been ahead when an old event arrived, so it looked young.
            sweeps.pinned = 0;
        }
        // Half the retention time is early enough, even if the inbox uses another clock.
        let old = AgeCutoff::older_than(retention / 2, self.clock.now());
        loop {
            let after = sweeps.pinned;
            let (last, pin) = match &self.backend {
                BoardBackend::File { store, .. } => {
                    self.write(store, move |store| store.to_hold(after, old, CHUNK))
                        .await?
                }
                BoardBackend::Shared(board) => board.to_pin(after, old, CHUNK).await?,
            };
            let Some(last) = last else { return Ok(()) };
            if !pin.is_empty() {
                let seqs = pin.iter().map(|(seq, _)| *seq).collect();
                self.inbox.pin(handler, seqs).await?;
                self.note_pinned(pin, Vec::new()).await?;
            }
            sweeps.pinned = last;
        }
    }

    /// Forgets the facts whose events retention has removed.
    pub(crate) async fn after_sweep(&self, retention: Duration) -> Result<(), StoreError> {
        let mut sweeps = self.sweeps.lock().await;
        if sweeps.number.is_multiple_of(FULL_EVERY) {
            // Some old events were kept longer, such as parked ones. They may be removed by now.
            sweeps.forgotten = 0;
        }
        // Only the full sweep checks a fact again, so a fact is checked when it is old enough, not
        // earlier. It also finds events that were removed earlier by another clock.
        let old = AgeCutoff::older_than(retention, self.clock.now());
        sweeps.forgotten = self.forget_old(sweeps.forgotten, old).await?;
        Ok(())
    }

    /// Forgets old facts after `after` whose events are removed. Returns the last event checked.
    async fn forget_old(&self, mut after: Seq, old: AgeCutoff) -> Result<Seq, StoreError> {
        loop {
            let seqs = match &self.backend {
                BoardBackend::File { store, .. } => {
                    self.write(store, move |store| store.old_facts(after, old, CHUNK))
                        .await?
                }
                BoardBackend::Shared(board) => board.old_facts(after, old, CHUNK).await?,
            };
            let Some(last) = seqs.last().copied() else {
                return Ok(after);
            };
            self.forget_missing(seqs).await?;
            after = last;
        }
    }

    async fn forget_missing(&self, mut seqs: Vec<Seq>) -> Result<(), StoreError> {
        let existing = self.inbox.existing(seqs.clone()).await?;
        seqs.retain(|seq| !existing.contains(seq));
        if !seqs.is_empty() {
            self.forget(seqs).await?;
        }
        Ok(())
    }

    /// Forgets facts whose events were deleted, in all streams that the deletion's filter names.
    pub(crate) async fn forget_deleted(&self, filter: &EventFilter) -> Result<(), StoreError> {
        let _sweeps = self.sweeps.lock().await;
        self.forget_streams(filter, filter.stream.as_deref(), false)
            .await?;
        // Some kinds have no appname: the filter found their events by `streamid` alone, which may
        // contain slashes.
        let mut rest = filter.stream.as_deref();
        while let Some((_, streamid)) = rest.and_then(|rest| rest.split_once('/')) {
            self.forget_streams(filter, Some(streamid), true).await?;
            rest = Some(streamid);
        }
        Ok(())
    }

    /// Forgets facts whose events are removed, in the streams with this name. With
    /// `without_appname`, only in those that have no appname.
    async fn forget_streams(
        &self,
        filter: &EventFilter,
        name: Option<&str>,
        without_appname: bool,
    ) -> Result<(), StoreError> {
        let wanted = StreamQuery {
            source: filter.source.clone(),
            domain: filter.domain.clone(),
            stream: name.map(str::to_owned),
            ..StreamQuery::default()
        };
        let mut streams = Some(0);
        while let Some(after) = streams {
            let page = self.list(wanted.clone(), after, CHUNK).await?;
            for stream in &page.items {
                if !without_appname || stream.key.appname.is_empty() {
                    self.forget_missing_of(stream).await?;
                }
            }
            streams = page.next;
        }
        Ok(())
    }

    async fn forget_missing_of(&self, stream: &StreamRow) -> Result<(), StoreError> {
        let mut all = Vec::new();
        loop {
            let before = all.last().copied();
            let mut more = self.record(stream, before, CHUNK).await?.timeline;
            let is_last = more.len() <= CHUNK;
            all.append(&mut more);
            if is_last {
                break;
            }
        }
        for chunk in all.chunks(CHUNK) {
            self.forget_missing(chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// Builds the board again from the events that are in the inbox now. The result differs only if
    /// the board was damaged. Returns the number of events that gave a fact.
    pub(crate) async fn rebuild(&self) -> Result<u64, StoreError> {
        let upto = *self.inbox.committed().borrow();
        let count = self.reindex(0, upto).await?;
        let _sweeps = self.sweeps.lock().await;
        self.forget_old(0, AgeCutoff::ALL).await?;
        Ok(count)
    }

    /// Reads events again after the start: those whose facts a power cut may have removed from the
    /// board, or all if the board is new. `handler` is the board's number in the inbox.
    pub(crate) async fn catch_up(&self, handler: HandlerId) -> Result<(), StoreError> {
        let BoardBackend::File { store, .. } = &self.backend else {
            return Ok(()); // the database makes facts and position durable together
        };
        let mut sweeps = self.sweeps.lock().await;
        if sweeps.caught_up {
            return Ok(());
        }
        let position = self.inbox.position(handler).await?;
        let checkpoint = self.write(store, |store| store.noted("sure")).await?;
        if checkpoint < position {
            self.reindex(checkpoint, position).await?;
        }
        self.record_checkpoint(handler).await?;
        sweeps.caught_up = true;
        Ok(())
    }

    /// Records up to which event the board is complete. The record is in the board's own file, written
    /// after the facts: a power cut that loses facts also loses the record.
    pub(crate) async fn record_checkpoint(&self, handler: HandlerId) -> Result<(), StoreError> {
        let BoardBackend::File { store, .. } = &self.backend else {
            return Ok(());
        };
        let position = self.inbox.position(handler).await?;
        self.write(store, move |store| store.note("sure", position))
            .await
    }

    /// Replaces the facts of all events after `after` up to `upto`. Returns the number of facts.
    async fn reindex(&self, after: Seq, upto: Seq) -> Result<u64, StoreError> {
        let mut from = after;
        let mut count = 0;
        while from < upto {
            let events = self.inbox.after(from, CHUNK, CHUNK_BYTES).await?;
            let last = events.last().map_or(upto, |event| event.seq().min(upto));
            let facts: Vec<StreamFact> = events
                .iter()
                .filter(|event| event.seq() <= upto)
                .filter_map(StreamFact::of)
                .collect();
            count += facts.len() as u64;
            self.apply(facts, Some((from + 1, last))).await?;
            from = last;
        }
        Ok(count)
    }

    pub(super) async fn to_unpin(&self) -> Result<Vec<Seq>, StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => self.write(store, |store| store.to_free()).await,
            BoardBackend::Shared(board) => board.to_unpin().await,
        }
    }

    pub(super) async fn note_pinned(
        &self,
        pin: Vec<Begin>,
        unpin: Vec<Seq>,
    ) -> Result<(), StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, move |store| store.note_held(&pin, &unpin))
                    .await
            }
            BoardBackend::Shared(board) => board.note_pinned(&pin, &unpin).await,
        }
    }
}
