//! What only receivers that share one store need: leases, commands, the shared lists.

use std::time::Duration;

use super::delivery::{CommandRequest, HandlerId, Lease};
use super::rejected::{RejectedEntry, RejectedQuery, RejectedRow};
use super::{Engine, Inbox, SharedBoard, StoreError};

impl Inbox {
    /// Whether other processes use the same store, so that handlers are shared out by leases.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(&*self.engine, Engine::Postgres(_))
    }

    /// Renews the leases of these handlers, and takes those that are free, for one term each. An
    /// embedded store has only one process, which gets all of them.
    pub(crate) async fn lease(
        &self,
        wanted: &[(HandlerId, Duration)],
    ) -> Result<Vec<Lease>, StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Ok(wanted.iter().map(|(id, _)| Lease::forever(*id)).collect()),
            Engine::Postgres(store) => store.lease(wanted).await,
        }
    }

    /// Gives a lease back.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Ok(()),
            Engine::Postgres(store) => store.release(lease.handler, lease.epoch).await,
        }
    }

    /// Sends a command to the receiver where the handler is at work, and waits for its result for up to
    /// `wait`.
    pub(crate) async fn send_command(
        &self,
        handler: HandlerId,
        what: &str,
        wait: Duration,
    ) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Err(StoreError::Failed), // there is no other receiver
            Engine::Postgres(store) => store.send_command(handler, what, wait).await,
        }
    }

    /// Takes the commands that other receivers have sent for these handlers.
    pub(crate) async fn take_commands(
        &self,
        handlers: &[HandlerId],
    ) -> Result<Vec<CommandRequest>, StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Ok(Vec::new()),
            Engine::Postgres(store) => store.take_commands(handlers).await,
        }
    }

    /// Writes the result of a command for the receiver that sent it.
    pub(crate) async fn answer_command(
        &self,
        command: &CommandRequest,
        answer: Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Ok(()),
            Engine::Postgres(store) => store.answer_command(&command.id, answer).await,
        }
    }

    /// The board of streams, if it is in the database of the inbox.
    pub(crate) fn shared_board(&self) -> Option<SharedBoard> {
        match &*self.engine {
            Engine::Embedded(_) => None,
            Engine::Postgres(store) => Some(store.board()),
        }
    }

    /// Adds refused callbacks to the shared rejected list, which keeps the newest `entries` and `bytes`
    /// of each source and reason.
    pub(crate) async fn add_rejected(
        &self,
        rows: &[RejectedRow],
        entries: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Err(StoreError::Failed), // its list is in another file
            Engine::Postgres(store) => store.add_rejected(rows, entries, bytes).await,
        }
    }

    /// A page of the shared rejected list: up to `limit` entries, fewer if their bodies exceed `bytes`.
    pub(crate) async fn rejected(
        &self,
        wanted: &RejectedQuery,
        limit: usize,
        bytes: u64,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Err(StoreError::Failed),
            Engine::Postgres(store) => store.rejected(wanted, limit, bytes).await,
        }
    }

    /// Removes entries from the shared rejected list.
    pub(crate) async fn remove_rejected(&self, ids: &[i64]) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Embedded(_) => Err(StoreError::Failed),
            Engine::Postgres(store) => store.remove_rejected(ids).await,
        }
    }
}
