//! The board and retention: the begin event of each live stream is pinned, so that retention keeps it,
//! and what is removed is forgotten.

use std::time::Duration;

use css_callbacks::Timestamp;

use super::store::Look;
use super::{Board, BoardBackend};
use crate::clock::AgeCutoff;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::HandlerId;
use crate::stream::Begin;

/// How many rows one step reads.
pub(super) const CHUNK: usize = 500;
/// Each tenth sweep looks at all events again.
const FULL_EVERY: u64 = 10;

/// How far the sweeps of retention are.
#[derive(Debug, Default)]
pub(super) struct SweepState {
    number: u64,
    /// Begins up to this event were checked for pinning.
    pinned: Seq,
    /// What of the board was checked for removal: facts up to this event of a shared board, or
    /// streams up to this cutoff.
    forgotten: Seq,
    forgotten_before: Timestamp,
}

impl Board {
    /// Pins the begins of live streams in the inbox before retention removes them. `handler` is the
    /// board's number in the inbox. Returns `false` if the sweep must wait: a board that is made again
    /// does not know yet what to pin.
    pub(crate) async fn before_sweep(
        &self,
        handler: HandlerId,
        retention: Duration,
    ) -> Result<bool, StoreError> {
        if self.applied_to(handler).await? < self.inbox.position(handler).await? {
            return Ok(false);
        }
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
                    self.write(store, move |store| store.begins_to_pin(after, old, CHUNK))
                        .await?
                }
                BoardBackend::Shared(board) => board.to_pin(after, old, CHUNK).await?,
            };
            let Some(last) = last else {
                return Ok(true);
            };
            if !pin.is_empty() {
                let seqs = pin.iter().map(|(seq, _)| *seq).collect();
                // Noted first: what is pinned and not noted would never be unpinned.
                self.note_pinned(pin, Vec::new()).await?;
                self.inbox.pin(handler, seqs).await?;
            }
            sweeps.pinned = last;
        }
    }

    /// Forgets the facts whose events retention has removed.
    pub(crate) async fn after_sweep(&self, retention: Duration) -> Result<(), StoreError> {
        let mut sweeps = self.sweeps.lock().await;
        // Some old events were kept longer, such as parked ones. They may be removed by now.
        let is_full = sweeps.number.is_multiple_of(FULL_EVERY);
        // Only the full sweep checks a fact again, so a fact is checked when it is old enough, not
        // earlier. It also finds events that were removed earlier by another clock.
        let old = AgeCutoff::older_than(retention, self.clock.now());
        match &self.backend {
            BoardBackend::File { store, .. } => {
                let look = match is_full {
                    true => Look::All,
                    false => Look::OfflineSince(sweeps.forgotten_before),
                };
                self.forget_in_file(store, look, old).await?;
                sweeps.forgotten_before = old.before;
            }
            BoardBackend::Shared(board) => {
                let after = if is_full { 0 } else { sweeps.forgotten };
                sweeps.forgotten = self.forget_shared(board, after, old).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn to_unpin(&self) -> Result<Vec<Seq>, StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, |store| store.begins_to_unpin()).await
            }
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
                self.write(store, move |store| store.note_pinned(&pin, &unpin))
                    .await
            }
            BoardBackend::Shared(board) => board.note_pinned(&pin, &unpin).await,
        }
    }
}
