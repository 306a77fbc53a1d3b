//! Tells what has changed, once it has lasted: as events in the inbox, for the handlers that ask for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use css_callbacks::{EventId, Kind};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Board, BoardBackend};
use crate::auth::Authentic;
use crate::inbox::StoreError;
use crate::inbox::delivery::HandlerId;
use crate::stream::StreamChange;

/// The first bytes that are hashed into an id.
const VERSION: &[u8] = b"livehook streams/1";
/// StreamFact in one go.
const BATCH: usize = 100;

/// Which derived kinds a handler asks for.
#[derive(Debug, Default)]
pub(crate) struct Subscribed([AtomicBool; 2]);

impl Subscribed {
    /// Takes the kinds that handlers name now.
    pub(crate) fn set(&self, kinds: impl Fn(Kind) -> bool) {
        for (flag, kind) in self.0.iter().zip(Kind::DERIVED) {
            flag.store(kinds(kind), Ordering::Relaxed);
        }
    }

    fn has(&self, kind: Kind) -> bool {
        let at = Kind::DERIVED.iter().position(|derived| *derived == kind);
        at.is_some_and(|at| self.0[at].load(Ordering::Relaxed))
    }
}

impl Board {
    /// Tells what has lasted for `settle`; nothing while the board is behind the inbox, where what it shows is past. `true` if
    /// there is more.
    pub(crate) async fn announce(
        &self,
        handler: HandlerId,
        subscribed: &Subscribed,
    ) -> Result<bool, StoreError> {
        let (now, latest) = (self.clock.steady(), self.settle_at());
        let changes = match &self.backend {
            BoardBackend::File { shelf, .. } => {
                self.write(shelf, move |shelf| shelf.unsettled(now, latest, BATCH))
                    .await?
            }
            BoardBackend::Shared(board) => board.unsettled(now, latest, BATCH).await?,
        };
        // In this order: most of the time there is nothing to tell.
        if changes.is_empty() || self.is_behind(handler).await? {
            return Ok(false);
        }
        let more = changes.len() == BATCH;
        for change in &changes {
            let kind = if change.stream.live {
                Kind::StreamLive
            } else {
                Kind::StreamOffline
            };
            if subscribed.has(kind) {
                // If this is tried again, it is the same event.
                self.inbox.accept_late(self.event(kind, change)).await?;
            }
        }
        let settle_at = self.settle_at();
        match &self.backend {
            BoardBackend::File { shelf, .. } => {
                self.write(shelf, move |shelf| shelf.announced(&changes, settle_at))
                    .await?;
            }
            BoardBackend::Shared(board) => board.announced(&changes, settle_at).await?,
        }
        Ok(more)
    }

    /// Whether events wait to be fed in that arrived longer ago than changes take to settle.
    async fn is_behind(&self, handler: HandlerId) -> Result<bool, StoreError> {
        let newest = *self.inbox.committed().borrow();
        let position = self.inbox.position(handler).await?;
        if position >= newest {
            return Ok(false);
        }
        // Its position is not written at once.
        let patience = self.settings.settle.max(Duration::from_secs(1)) + Duration::from_secs(1);
        let waiting = self.inbox.age_from(position + 1).await?;
        Ok(waiting.is_some_and(|age| age > patience))
    }

    fn event(&self, kind: Kind, change: &StreamChange) -> Authentic {
        let (stream, key) = (&change.stream, &change.stream.key);
        let session = stream.session.as_deref().unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [
            VERSION,
            key.source.as_bytes(),
            key.domain.as_bytes(),
            key.appname.as_bytes(),
            key.streamid.as_bytes(),
            kind.slug().as_bytes(),
            session.as_bytes(),
            &change.number.to_be_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        let body = json!({
            "domain": key.domain,
            "appname": key.appname,
            "stream_id": key.streamid,
            "sequence": stream.sequence(),
            "event_time": stream.since.map(|since| since.seconds()),
            "live": stream.live,
            "since": stream.since,
        });
        Authentic::derived(
            key.source.as_str().into(),
            kind,
            EventId::from_bytes(id),
            self.clock.now(),
            body.to_string().into(),
        )
    }
}
