//! The board as a consumer of events.

use std::sync::{Arc, Mutex};

use super::store::Store;
use super::{Board, BoardBackend, locked};
use crate::event::{Event, Seq};
use crate::handler::{Applying, Consumer, Projection};
use crate::inbox::StoreError;
use crate::stream::{Announcement, StreamFact};

/// The name of the board's position. No handler can have this name, because it has a dot.
pub(crate) const NAME: &str = "streams.board";

impl Board {
    /// The consumer that passes events to the board.
    pub(crate) fn feed(&self) -> Consumer {
        Consumer::Projection(Arc::new(self.clone()))
    }

    /// Applies the next facts and announcements, those of the events up to `upto`. The embedded board
    /// is changed in the calling thread.
    pub(super) async fn apply(
        &self,
        facts: &[StreamFact],
        announcements: &[Announcement],
        upto: Seq,
    ) -> Result<(), StoreError> {
        let debounce_until = self.debounce_until();
        let written = match &self.backend {
            BoardBackend::File { store, .. } => {
                let written = locked(store).apply(facts, announcements, upto, debounce_until);
                self.check_sync(written)?
            }
            BoardBackend::Shared(_) if facts.is_empty() => return Ok(()),
            BoardBackend::Shared(board) => board.apply(facts, None, debounce_until).await?,
        };
        self.count_flaps(written);
        Ok(())
    }

    /// Writes what is only in memory, in the calling thread. Returns the last event that is written.
    fn flush_here(&self, store: &Mutex<Store>, at_once: bool) -> Result<Seq, StoreError> {
        let mut store = locked(store);
        let flushed = match at_once {
            true => store.flush(),
            false => store.flush_in_time(),
        };
        self.check_sync(flushed)?;
        Ok(store.flushed_cursor())
    }
}

impl Projection for Board {
    fn cursor(&self) -> Option<Seq> {
        match &self.backend {
            BoardBackend::File { store, .. } => Some(locked(store).cursor()),
            BoardBackend::Shared(_) => None,
        }
    }

    fn apply_events(&self, events: Vec<Event>) -> Applying<'_> {
        Box::pin(async move {
            let Some(upto) = events.last().map(Event::seq) else {
                return Ok(());
            };
            let facts: Vec<_> = events.iter().filter_map(StreamFact::of).collect();
            let announcements: Vec<_> = events.iter().filter_map(Announcement::of).collect();
            self.apply(&facts, &announcements, upto).await
        })
    }

    fn flush(&self, at_once: bool) -> Result<Option<Seq>, StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => self.flush_here(store, at_once).map(Some),
            // The database has facts as soon as they are applied.
            BoardBackend::Shared(_) => Ok(None),
        }
    }
}
