//! Authenticates entries of the rejected list again, after the key or the URL was corrected.

use std::collections::HashSet;
use std::sync::Arc;

use css_callbacks::{Callback, EventId};
use sha2::{Digest, Sha256};

use super::Ingress;
use crate::auth::{self, Authentic, Presented, Refusal};
use crate::inbox::StoreError;
use crate::rejected::{Reason, RejectedEntry, RejectedQuery};
use crate::source::Source;

/// How many entries to read at a time.
const BATCH: usize = 100;

impl Ingress {
    /// Accepts entries of the rejected list, of one source or of all: those refused for their
    /// signature that are authentic under the current keys, and misrouted ones that are authentic
    /// for exactly one source. Expiry is checked against the time of arrival. An accepted entry
    /// goes to the end of the inbox, unless its id was ever stored, and leaves the list. Returns
    /// how many were added to the inbox, or with `dry_run` would be.
    ///
    /// An entry is stored first and removed second. After a crash in between, it is a duplicate.
    pub(crate) async fn recheck(
        &self,
        source: Option<String>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        // Two rechecks at a time would count the same entries.
        let _one = self.recheck_lock.lock().await;
        // A callback that is on the list twice counts once.
        let mut found = HashSet::new();
        let of_source = |reason, source| RejectedQuery {
            source,
            reason: Some(reason),
            ..RejectedQuery::default()
        };
        let refused = of_source(Reason::Refused(Refusal::Signature), source.clone());
        let judge = |entry: &RejectedEntry| self.authentic_now(entry);
        let stored = self.judge(refused, judge, dry_run, &mut found).await?;
        let misrouted = of_source(Reason::Misrouted, None);
        let judge = |entry: &RejectedEntry| {
            let of_one = self.claimed_by_one_source(entry)?;
            let is_asked_for = source
                .as_deref()
                .is_none_or(|name| name == &**of_one.source());
            is_asked_for.then_some(of_one)
        };
        Ok(stored + self.judge(misrouted, judge, dry_run, &mut found).await?)
    }

    async fn judge(
        &self,
        mut wanted: RejectedQuery,
        judge: impl Fn(&RejectedEntry) -> Option<Authentic>,
        dry_run: bool,
        found: &mut HashSet<EventId>,
    ) -> Result<u64, StoreError> {
        let mut stored = 0;
        loop {
            let page = self.rejected.page(wanted.clone(), BATCH).await?;
            let mut over = Vec::new();
            let mut failure = None;
            for entry in &page.items {
                let Some(authentic) = judge(entry) else {
                    continue;
                };
                let is_new = match dry_run {
                    true => {
                        let id = authentic.id();
                        let stored = self.inbox.find(id).await;
                        stored.map(|stored| stored.is_none() && found.insert(id))
                    }
                    false => {
                        let receipt = self.inbox.accept_late(authentic).await;
                        receipt.map(|receipt| !receipt.is_duplicate())
                    }
                };
                match is_new {
                    Ok(is_new) => {
                        stored += u64::from(is_new);
                        over.push(entry.id);
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            if !dry_run && !over.is_empty() {
                self.rejected.remove(over).await?;
            }
            if let Some(error) = failure {
                return Err(error);
            }
            wanted.after = page.next;
            if wanted.after.is_none() {
                return Ok(stored);
            }
        }
    }

    fn authentic_now(&self, entry: &RejectedEntry) -> Option<Authentic> {
        let source: Arc<Source> = self.sources.load().get(&entry.source)?.source.clone();
        let presented = presented(entry)?;
        let callback = Callback::parse(&presented.body).ok()?;
        auth::recheck(&source, &presented, &callback, || event_nonce(entry))
    }

    fn claimed_by_one_source(&self, entry: &RejectedEntry) -> Option<Authentic> {
        let presented = presented(entry)?;
        let callback = Callback::parse(&presented.body).ok()?;
        let token = entry.token_hash.as_deref().map(<[u8; 32]>::try_from);
        let token = token.and_then(Result::ok);
        let sources = self.sources.load();
        let mut claims = sources.values().filter_map(|source_state| {
            auth::authenticate_misrouted(&source_state.source, &presented, token, &callback, || {
                event_nonce(entry)
            })
        });
        let first = claims.next();
        first.filter(|_| claims.next().is_none())
    }
}

/// The request as far as the list has it; none if the body was not kept.
fn presented(entry: &RejectedEntry) -> Option<Presented<'static>> {
    let client = entry.client.as_deref();
    Some(Presented {
        url_kind: entry.url_kind,
        token: None,
        client: client.and_then(|client| client.parse().ok()),
        received: entry.received,
        body: entry.body.clone()?,
    })
}

/// Always the same for one entry, so that every recheck of it gives the same event id.
fn event_nonce(entry: &RejectedEntry) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(entry.id.to_be_bytes());
    digest.update(entry.received.millis().to_be_bytes());
    digest.update(entry.source.as_bytes());
    let mut chance = [0; 16];
    chance.copy_from_slice(&digest.finalize()[..16]);
    chance
}
