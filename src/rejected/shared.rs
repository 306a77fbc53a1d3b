//! The rejected list in an inbox that several processes share.

use css_callbacks::Kind;
use tokio::runtime::Handle;

use super::{BYTES, ENTRIES, Rejected, Write};
use crate::inbox::Inbox;
use crate::inbox::rejected::RejectedRow;

/// Blocks the list's thread until the inbox has answered.
pub(super) struct SharedStore {
    inbox: Inbox,
    runtime: Handle,
}

impl SharedStore {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            runtime: Handle::current(),
        }
    }
}

impl Write for SharedStore {
    fn keep(&mut self, batch: &[Rejected]) -> Result<(), String> {
        let rows: Vec<RejectedRow> = batch.iter().map(to_row).collect();
        self.runtime
            .block_on(self.inbox.add_rejected(&rows, ENTRIES, BYTES))
            .map_err(|error| error.to_string())
    }

    fn remove(&mut self, ids: &[i64]) -> Result<(), String> {
        self.runtime
            .block_on(self.inbox.remove_rejected(ids))
            .map_err(|error| error.to_string())
    }
}

fn to_row(rejected: &Rejected) -> RejectedRow {
    RejectedRow {
        source: rejected.source.to_string(),
        reason: rejected.reason.slug(),
        received: rejected.received,
        url_kind: rejected
            .url_kind
            .and_then(Kind::code)
            .map(|code| code as i32),
        kind: rejected.kind.stored() as i32,
        client: rejected.client.map(|client| client.to_string()),
        token_hash: rejected.token_hash.map(|hash| hash.to_vec()),
        size: rejected.size as i64,
        body: rejected.kept_body().map(<[u8]>::to_vec),
    }
}
