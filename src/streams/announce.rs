//! Announces a change once it has lasted: stores an event in the inbox for the handlers that name
//! its kind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use css_callbacks::{EventId, Kind};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Board, BoardBackend};
use crate::auth::Authentic;
use crate::event::Seq;
use crate::inbox::StoreError;
use crate::inbox::delivery::HandlerId;
use crate::stream::StreamChange;

/// The first bytes of the hash that gives the event id.
const VERSION: &[u8] = b"livehook streams/1";
/// How many changes one call announces.
const BATCH: usize = 100;

/// The derived kinds that at least one handler names.
#[derive(Debug, Default)]
pub(crate) struct Subscribed([AtomicBool; 2]);

impl Subscribed {
    /// Replaces the kinds.
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
    /// Announces the changes that have lasted for the debounce. Announces nothing while the board is
    /// behind the inbox, because its state is then old. Returns whether there may be more.
    pub(crate) async fn announce(
        &self,
        handler: HandlerId,
        subscribed: &Subscribed,
    ) -> Result<bool, StoreError> {
        let (now, latest) = (self.clock.steady(), self.debounce_until());
        let changes = match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, move |store| {
                    store.changes_to_announce(now, latest, BATCH)
                })
                .await?
            }
            BoardBackend::Shared(board) => board.due_changes(now, latest, BATCH).await?,
        };
        // `is_behind` comes second: usually there is no change, and the inbox need not be asked.
        if changes.is_empty() || self.is_behind(handler).await? {
            return Ok(false);
        }
        let more = changes.len() == BATCH;
        let mut announced = Vec::with_capacity(changes.len());
        for change in changes {
            let kind = if change.stream.live {
                Kind::StreamLive
            } else {
                Kind::StreamOffline
            };
            let by = match subscribed.has(kind) {
                // A retry stores no second event: the id is the same.
                true => Some(
                    self.inbox
                        .accept_late(self.event(kind, &change))
                        .await?
                        .seq(),
                ),
                false => None,
            };
            announced.push((change, by));
        }
        let debounce_until = self.debounce_until();
        match &self.backend {
            BoardBackend::File { store, .. } => {
                self.write(store, move |store| {
                    store.announced(&announced, debounce_until)
                })
                .await?;
            }
            BoardBackend::Shared(board) => {
                let changes: Vec<_> = announced.into_iter().map(|(change, _)| change).collect();
                board.announced(&changes, debounce_until).await?;
            }
        }
        Ok(more)
    }

    /// Whether an event that the board has not read yet is older than the debounce.
    async fn is_behind(&self, handler: HandlerId) -> Result<bool, StoreError> {
        let newest = *self.inbox.committed().borrow();
        let position = self.applied_to(handler).await?;
        if position >= newest {
            return Ok(false);
        }
        // A second more, because a shared board's position is written with a delay.
        let max_lag = self.settings.debounce.max(Duration::from_secs(1)) + Duration::from_secs(1);
        let waiting = self.inbox.age_from(position + 1).await?;
        Ok(waiting.is_some_and(|age| age > max_lag))
    }

    /// The last event that the board has applied.
    pub(super) async fn applied_to(&self, handler: HandlerId) -> Result<Seq, StoreError> {
        match &self.backend {
            BoardBackend::File { store, .. } => self.write(store, |store| Ok(store.cursor())).await,
            BoardBackend::Shared(_) => self.inbox.position(handler).await,
        }
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
