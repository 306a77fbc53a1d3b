//! How events come to the board.

use std::sync::{Arc, PoisonError};

use super::{Board, BoardBackend};
use crate::event::Event;
use crate::handler::{Applying, Consumer, Projection};
use crate::inbox::StoreError;
use crate::stream::StreamFact;

/// Under this name it has its position. No handler can have it.
pub(crate) const NAME: &str = "streams.board";

impl Board {
    /// What the board is fed through.
    pub(crate) fn feed(&self) -> Consumer {
        Consumer::Projection(Arc::new(self.clone()))
    }

    /// Takes facts in, in the thread that calls.
    fn apply_here(&self, told: &[StreamFact]) -> Result<(), StoreError> {
        let BoardBackend::File { shelf, .. } = &self.backend else {
            return Err(StoreError::Failed);
        };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let written = shelf.apply(told, None, self.settle_at());
        drop(shelf);
        self.count(self.doubt(written)?);
        Ok(())
    }
}

impl Projection for Board {
    fn apply_events(&self, events: Vec<Event>) -> Applying<'_> {
        Box::pin(async move {
            let told: Vec<StreamFact> = events.iter().filter_map(StreamFact::of).collect();
            if told.is_empty() {
                return Ok(());
            }
            match &self.backend {
                BoardBackend::File { .. } => self.apply_here(&told),
                BoardBackend::Shared(_) => self.apply(told, None).await,
            }
        })
    }
}
