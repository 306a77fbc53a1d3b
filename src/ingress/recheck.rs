//! What was refused for its signature, or came to a URL that is nobody's, judged once more after that was mended.

use std::collections::HashSet;
use std::sync::Arc;

use css_callbacks::{Callback, EventId};
use sha2::{Digest, Sha256};

use super::Ingress;
use crate::auth::{self, Authentic, Presented, Refusal};
use crate::inbox::StoreError;
use crate::rejected::{Reason, RejectedEntry, RejectedQuery};
use crate::source::Source;

/// Entries that are looked at together.
const BATCH: usize = 100;

impl Ingress {
    /// Accepts what the rejected list has of this source, or of all, that was refused for its signature and is authentic by the
    /// keys of now; and of what came to a URL that is nobody's, that which is authentic for one source and no other. Expiry is
    /// judged as of arrival. It joins the inbox at the end unless its id was ever stored, and leaves the list. Returns how many
    /// joined, or with `dry_run` would.
    ///
    /// First it is stored and then it is taken off: if this ends in between, the next one finds it stored.
    pub(crate) async fn recheck(
        &self,
        source: Option<String>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        // Two at a time would count the same.
        let _one = self.rechecking.lock().await;
        // What repeats another of the list joins once.
        let mut found = HashSet::new();
        let of_source = |reason, source| RejectedQuery {
            source,
            reason: Some(reason),
            ..RejectedQuery::default()
        };
        let refused = of_source(Reason::Refused(Refusal::Signature), source.clone());
        let judge = |entry: &RejectedEntry| self.authentic_now(entry);
        let joined = self.judge(refused, judge, dry_run, &mut found).await?;
        let misrouted = of_source(Reason::Misrouted, None);
        let judge = |entry: &RejectedEntry| {
            let of_one = self.claimed_by_one(entry)?;
            let is_asked_for = source
                .as_deref()
                .is_none_or(|name| name == &**of_one.source());
            is_asked_for.then_some(of_one)
        };
        Ok(joined + self.judge(misrouted, judge, dry_run, &mut found).await?)
    }

    async fn judge(
        &self,
        mut wanted: RejectedQuery,
        judge: impl Fn(&RejectedEntry) -> Option<Authentic>,
        dry_run: bool,
        found: &mut HashSet<EventId>,
    ) -> Result<u64, StoreError> {
        let mut joined = 0;
        loop {
            let part = self.rejected.page(wanted.clone(), BATCH).await?;
            let mut over = Vec::new();
            let mut failure = None;
            for entry in &part.items {
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
                        joined += u64::from(is_new);
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
            wanted.after = part.next;
            if wanted.after.is_none() {
                return Ok(joined);
            }
        }
    }

    fn authentic_now(&self, entry: &RejectedEntry) -> Option<Authentic> {
        let source: Arc<Source> = self.desks.load().get(&entry.source)?.source.clone();
        let presented = presented(entry)?;
        let callback = Callback::parse(&presented.body).ok()?;
        auth::recheck(&source, &presented, &callback, || chance(entry))
    }

    fn claimed_by_one(&self, entry: &RejectedEntry) -> Option<Authentic> {
        let presented = presented(entry)?;
        let callback = Callback::parse(&presented.body).ok()?;
        let token = entry.token_hash.as_deref().map(<[u8; 32]>::try_from);
        let token = token.and_then(Result::ok);
        let desks = self.desks.load();
        let mut claims = desks.values().filter_map(|source_state| {
            auth::claim(&source_state.source, &presented, token, &callback, || {
                chance(entry)
            })
        });
        let first = claims.next();
        first.filter(|_| claims.next().is_none())
    }
}

/// The request as far as it was kept; none without its body.
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

/// The same for the same entry, so that it is the same event however often it is judged.
fn chance(entry: &RejectedEntry) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(entry.id.to_be_bytes());
    digest.update(entry.received.millis().to_be_bytes());
    digest.update(entry.source.as_bytes());
    let mut chance = [0; 16];
    chance.copy_from_slice(&digest.finalize()[..16]);
    chance
}
