//! The board forgets what was removed from the inbox, and can be made again from what is there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::retention::CHUNK;
use super::store::{EventsOfStreams, Look, Store};
use super::{Board, BoardBackend};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::query::EventFilter;
use crate::inbox::{SharedBoard, StoreError};
use crate::stream::{StreamFact, StreamQuery, StreamRow};

const CHUNK_BYTES: usize = 8 << 20;

impl Board {
    /// Forgets old facts of a shared board, after `after`. Returns the last event checked.
    pub(super) async fn forget_shared(
        &self,
        board: &SharedBoard,
        mut after: Seq,
        old: AgeCutoff,
    ) -> Result<Seq, StoreError> {
        loop {
            let mut seqs = board.old_facts(after, old, CHUNK).await?;
            let Some(last) = seqs.last().copied() else {
                return Ok(after);
            };
            self.retain_missing(&mut seqs).await?;
            if !seqs.is_empty() {
                board.forget(&seqs, self.debounce_until()).await?;
            }
            after = last;
        }
    }

    /// Forgets old events of the board in the file, if they are removed.
    pub(super) async fn forget_in_file(
        &self,
        store: &Arc<Mutex<Store>>,
        look: Look,
        old: AgeCutoff,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let next = move |store: &mut Store| store.old_events(after, look, old, CHUNK);
            let Some((upto, events)) = self.write(store, next).await? else {
                return Ok(());
            };
            self.forget_missing(store, events).await?;
            after = upto;
        }
    }

    /// Forgets those of these events that are not in the inbox.
    async fn forget_missing(
        &self,
        store: &Arc<Mutex<Store>>,
        events: EventsOfStreams,
    ) -> Result<(), StoreError> {
        let all = events
            .iter()
            .flat_map(|(stream, seqs)| seqs.iter().map(|seq| (*stream, *seq)));
        let all: Vec<(i64, Seq)> = all.collect();
        let mut missing = EventsOfStreams::new();
        for chunk in all.chunks(CHUNK) {
            let mut seqs = chunk.iter().map(|(_, seq)| *seq).collect();
            self.retain_missing(&mut seqs).await?;
            let seqs: HashSet<Seq> = seqs.into_iter().collect();
            for (stream, seq) in chunk.iter().filter(|(_, seq)| seqs.contains(seq)) {
                missing.entry(*stream).or_default().push(*seq);
            }
        }
        self.forget(store, missing).await
    }

    pub(super) async fn forget(
        &self,
        store: &Arc<Mutex<Store>>,
        events: EventsOfStreams,
    ) -> Result<(), StoreError> {
        let debounce_until = self.debounce_until();
        let forget = move |store: &mut Store| store.forget(&events, debounce_until);
        self.write(store, forget).await
    }

    async fn retain_missing(&self, seqs: &mut Vec<Seq>) -> Result<(), StoreError> {
        let existing = self.inbox.existing(seqs.clone()).await?;
        let existing: HashSet<Seq> = existing.into_iter().collect();
        seqs.retain(|seq| !existing.contains(seq));
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
        // Nothing would look for these events again soon.
        match &self.backend {
            BoardBackend::File { store, .. } => self.write(store, Store::flush).await,
            BoardBackend::Shared(_) => Ok(()),
        }
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
        let no = stream.no;
        match &self.backend {
            BoardBackend::File { store, .. } => {
                let all = move |store: &mut Store| store.events(no, |_| true);
                let all = self.write(store, all).await?;
                self.forget_missing(store, EventsOfStreams::from([(no, all)]))
                    .await
            }
            BoardBackend::Shared(board) => self.forget_missing_shared(board, no).await,
        }
    }

    async fn forget_missing_shared(&self, board: &SharedBoard, no: i64) -> Result<(), StoreError> {
        let mut all = Vec::new();
        loop {
            let before = all.last().copied();
            let mut more = board.details(no, before, CHUNK).await?.timeline;
            let is_last = more.len() <= CHUNK;
            all.append(&mut more);
            if is_last {
                break;
            }
        }
        for chunk in all.chunks(CHUNK) {
            let mut seqs = chunk.to_vec();
            self.retain_missing(&mut seqs).await?;
            if !seqs.is_empty() {
                board.forget(&seqs, self.debounce_until()).await?;
            }
        }
        Ok(())
    }

    /// Applies all events that are in the inbox now again, and forgets all others. The result differs
    /// only if the board was damaged. Returns the number of events that gave a fact.
    pub(crate) async fn rebuild(&self) -> Result<u64, StoreError> {
        let upto = *self.inbox.committed().borrow();
        let count = self.reindex(upto).await?;
        let _sweeps = self.sweeps.lock().await;
        match &self.backend {
            BoardBackend::File { store, .. } => {
                self.forget_in_file(store, Look::All, AgeCutoff::ALL)
                    .await?;
            }
            BoardBackend::Shared(board) => {
                self.forget_shared(board, 0, AgeCutoff::ALL).await?;
            }
        }
        Ok(count)
    }

    /// Replaces the facts of all events up to `upto`. Returns the number of facts.
    async fn reindex(&self, upto: Seq) -> Result<u64, StoreError> {
        let mut from = 0;
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
            self.replace(facts, (from + 1, last)).await?;
            from = last;
        }
        Ok(count)
    }

    /// Replaces the facts in a range of the inbox by these, which are all that it has.
    pub(super) async fn replace(
        &self,
        facts: Vec<StreamFact>,
        range: (Seq, Seq),
    ) -> Result<(), StoreError> {
        let debounce_until = self.debounce_until();
        let written = match &self.backend {
            BoardBackend::File { store, .. } => {
                let replace = move |store: &mut Store| store.replace(&facts, range, debounce_until);
                self.write(store, replace).await?
            }
            BoardBackend::Shared(board) => board.apply(&facts, Some(range), debounce_until).await?,
        };
        self.count_flaps(written);
        Ok(())
    }
}
