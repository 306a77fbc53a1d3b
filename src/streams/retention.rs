//! The board and what the inbox keeps: facts go with their events, and those on which a live stream rests stay.

use std::time::Duration;

use super::{Board, BoardBackend};
use crate::clock::Old;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::HandlerId;
use crate::inbox::query::EventFilter;
use crate::stream::{Begin, StreamFact, StreamQuery, StreamRow};

/// Looked at in one go.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 8 << 20;
/// Every so many passes begin where everything begins.
const WHOLE: u64 = 10;

/// Where the passes of retention are.
#[derive(Debug, Default)]
pub(super) struct Passes {
    number: u64,
    /// The board has all that it had.
    caught_up: bool,
    /// Begins up to here were looked at.
    held: Seq,
    /// Facts up to here were.
    forgotten: Seq,
}

impl Board {
    /// Has the inbox keep what decides that a stream is live, before retention comes to it. `handler` is the board's number.
    pub(crate) async fn before_sweep(
        &self,
        handler: HandlerId,
        retention: Duration,
    ) -> Result<(), StoreError> {
        let mut passes = self.passes.lock().await;
        passes.number += 1;
        if passes.number.is_multiple_of(WHOLE) {
            let free = self.to_free().await?;
            for chunk in free.chunks(CHUNK) {
                self.inbox.discard_events(handler, chunk.to_vec()).await?;
                self.note_held(Vec::new(), chunk.to_vec()).await?;
            }
            // What seemed young among old ones.
            passes.held = 0;
        }
        // Long before retention comes to them: it may go by another clock.
        let old = Old::than(retention / 2, self.clock.now());
        loop {
            let after = passes.held;
            let (looked, hold) = match &self.backend {
                BoardBackend::File { shelf, .. } => {
                    self.write(shelf, move |shelf| shelf.to_hold(after, old, CHUNK))
                        .await?
                }
                BoardBackend::Shared(board) => board.to_pin(after, old, CHUNK).await?,
            };
            let Some(looked) = looked else { return Ok(()) };
            if !hold.is_empty() {
                let seqs = hold.iter().map(|(seq, _)| *seq).collect();
                self.inbox.pin(handler, seqs).await?;
                self.note_held(hold, Vec::new()).await?;
            }
            passes.held = looked;
        }
    }

    /// Forgets the facts whose events retention has removed.
    pub(crate) async fn after_sweep(&self, retention: Duration) -> Result<(), StoreError> {
        let mut passes = self.passes.lock().await;
        if passes.number.is_multiple_of(WHOLE) {
            // What had to stay longer.
            passes.forgotten = 0;
        }
        // Too early a look would not be repeated soon; what another clock has removed meanwhile is found when all is looked at.
        let old = Old::than(retention, self.clock.now());
        passes.forgotten = self.forget_gone(passes.forgotten, old).await?;
        Ok(())
    }

    /// Of facts beyond `after` of events that are old: up to where was looked.
    async fn forget_gone(&self, mut after: Seq, old: Old) -> Result<Seq, StoreError> {
        loop {
            let seqs = match &self.backend {
                BoardBackend::File { shelf, .. } => {
                    self.write(shelf, move |shelf| shelf.old_facts(after, old, CHUNK))
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
        let there = self.inbox.existing(seqs.clone()).await?;
        seqs.retain(|seq| !there.contains(seq));
        if !seqs.is_empty() {
            self.forget(seqs).await?;
        }
        Ok(())
    }

    /// Forgets what is gone of streams of which events were deleted.
    pub(crate) async fn forget_deleted(&self, of: &EventFilter) -> Result<(), StoreError> {
        let _passes = self.passes.lock().await;
        self.forget_streams(of, of.stream.as_deref(), false).await?;
        // What tells no appname was found by its streamid alone.
        let mut rest = of.stream.as_deref();
        while let Some((_, streamid)) = rest.and_then(|rest| rest.split_once('/')) {
            self.forget_streams(of, Some(streamid), true).await?;
            rest = Some(streamid);
        }
        Ok(())
    }

    /// Forgets what is gone of the streams of this name, or of those of them that have no appname.
    async fn forget_streams(
        &self,
        of: &EventFilter,
        name: Option<&str>,
        nameless: bool,
    ) -> Result<(), StoreError> {
        let wanted = StreamQuery {
            source: of.source.clone(),
            domain: of.domain.clone(),
            stream: name.map(str::to_owned),
            ..StreamQuery::default()
        };
        let mut streams = Some(0);
        while let Some(after) = streams {
            let page = self.list(wanted.clone(), after, CHUNK).await?;
            for stream in &page.items {
                if !nameless || stream.key.appname.is_empty() {
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
            let mut more = self.details(stream, before, CHUNK).await?.timeline;
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

    /// Makes the board again from what is in the inbox up to now: the same one, unless it was damaged. How many events tell
    /// of streams.
    pub(crate) async fn rebuild(&self) -> Result<u64, StoreError> {
        let upto = *self.inbox.committed().borrow();
        let told = self.reindex(0, upto).await?;
        let _passes = self.passes.lock().await;
        self.forget_gone(0, Old::ALL).await?;
        Ok(told)
    }

    /// Takes again what a power cut may have taken from the board, or all if it is new; once. `handler` is the board's number.
    pub(crate) async fn catch_up(&self, handler: HandlerId) -> Result<(), StoreError> {
        let BoardBackend::File { shelf, .. } = &self.backend else {
            return Ok(()); // one store, one fate
        };
        let mut passes = self.passes.lock().await;
        if passes.caught_up {
            return Ok(());
        }
        let position = self.inbox.position(handler).await?;
        let sure = self.write(shelf, |shelf| shelf.noted("sure")).await?;
        if sure < position {
            self.reindex(sure, position).await?;
        }
        self.record_checkpoint(handler).await?;
        passes.caught_up = true;
        Ok(())
    }

    /// Notes up to where the board is complete: in its file, so behind everything that was written to it.
    pub(crate) async fn record_checkpoint(&self, handler: HandlerId) -> Result<(), StoreError> {
        let BoardBackend::File { shelf, .. } = &self.backend else {
            return Ok(());
        };
        let position = self.inbox.position(handler).await?;
        self.write(shelf, move |shelf| shelf.note("sure", position))
            .await
    }

    /// Replaces the facts of all events beyond `after` up to `upto`: how many there are.
    async fn reindex(&self, after: Seq, upto: Seq) -> Result<u64, StoreError> {
        let mut from = after;
        let mut number = 0;
        while from < upto {
            let events = self.inbox.after(from, CHUNK, CHUNK_BYTES).await?;
            let last = events.last().map_or(upto, |event| event.seq().min(upto));
            let told: Vec<StreamFact> = events
                .iter()
                .filter(|event| event.seq() <= upto)
                .filter_map(StreamFact::of)
                .collect();
            number += told.len() as u64;
            self.apply(told, Some((from + 1, last))).await?;
            from = last;
        }
        Ok(number)
    }

    pub(super) async fn to_free(&self) -> Result<Vec<Seq>, StoreError> {
        match &self.backend {
            BoardBackend::File { shelf, .. } => self.write(shelf, |shelf| shelf.to_free()).await,
            BoardBackend::Shared(board) => board.to_unpin().await,
        }
    }

    pub(super) async fn note_held(
        &self,
        hold: Vec<Begin>,
        free: Vec<Seq>,
    ) -> Result<(), StoreError> {
        match &self.backend {
            BoardBackend::File { shelf, .. } => {
                self.write(shelf, move |shelf| shelf.note_held(&hold, &free))
                    .await
            }
            BoardBackend::Shared(board) => board.note_pinned(&hold, &free).await,
        }
    }
}
