//! The board as a consumer of events.

use std::sync::{Arc, PoisonError};

use super::{Board, BoardBackend};
use crate::event::Event;
use crate::handler::{Applying, Consumer, Projection};
use crate::inbox::StoreError;
use crate::stream::StreamFact;

/// The name of the board's position. No handler can have this name, because it has a dot.
pub(crate) const NAME: &str = "streams.board";

impl Board {
    /// The consumer that passes events to the board.
    pub(crate) fn feed(&self) -> Consumer {
        Consumer::Projection(Arc::new(self.clone()))
    }

    /// Stores facts in the calling thread.
    fn apply_here(&self, facts: &[StreamFact]) -> Result<(), StoreError> {
        let BoardBackend::File { store, .. } = &self.backend else {
            return Err(StoreError::Failed);
        };
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        let written = store.apply(facts, None, self.debounce_until());
        drop(store);
        self.count_flaps(self.check_sync(written)?);
        Ok(())
    }
}

impl Projection for Board {
    fn apply_events(&self, events: Vec<Event>) -> Applying<'_> {
        Box::pin(async move {
            let facts: Vec<StreamFact> = events.iter().filter_map(StreamFact::of).collect();
            if facts.is_empty() {
                return Ok(());
            }
            match &self.backend {
                BoardBackend::File { .. } => self.apply_here(&facts),
                BoardBackend::Shared(_) => self.apply(facts, None).await,
            }
        })
    }
}
