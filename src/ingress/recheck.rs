//! What was refused for its signature, judged once more after a key was changed.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Ingress;
use crate::auth::{self, Authentic, Presented, Refusal};
use crate::callback::Callback;
use crate::inbox::StoreError;
use crate::rejected::{Entry, Wanted};
use crate::source::Source;

/// Entries that are looked at together.
const BATCH: usize = 100;

impl Ingress {
    /// Accepts what the rejected list has of these sources, or of all, that was refused for its signature and is authentic by
    /// the keys of now; expiry is judged as of arrival. It joins the inbox at the end unless its id was ever stored, and leaves
    /// the list. Returns how many joined, or with `dry_run` would.
    ///
    /// First it is stored and then it is taken off: if this ends in between, the next one finds it stored.
    pub async fn recheck(&self, source: Option<String>, dry_run: bool) -> Result<u64, StoreError> {
        // Two at a time would count the same.
        let _one = self.rechecking.lock().await;
        let mut wanted = Wanted {
            source,
            reason: Some(Refusal::Signature),
            ..Wanted::default()
        };
        let mut joined = 0;
        loop {
            let part = self.rejected.part(wanted.clone(), BATCH).await?;
            let mut over = Vec::new();
            let mut failure = None;
            for entry in &part.items {
                let Some(authentic) = self.authentic_now(entry) else {
                    continue;
                };
                let is_new = match dry_run {
                    true => self
                        .inbox
                        .find(authentic.id())
                        .await
                        .map(|found| found.is_none()),
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

    fn authentic_now(&self, entry: &Entry) -> Option<Authentic> {
        let source: Arc<Source> = self.desks.load().get(&entry.source)?.source.clone();
        let body = entry.body.clone()?;
        let callback = Callback::parse(&body).ok()?;
        let presented = Presented {
            url_kind: entry.url_kind,
            token: None,
            client: None,
            received: entry.received,
            body: body.clone(),
        };
        auth::recheck(&source, &presented, &callback, || chance(entry))
    }
}

/// The same for the same entry, so that it is the same event however often it is judged.
fn chance(entry: &Entry) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update(entry.id.to_be_bytes());
    digest.update(entry.received.millis().to_be_bytes());
    digest.update(entry.source.as_bytes());
    let mut chance = [0; 16];
    chance.copy_from_slice(&digest.finalize()[..16]);
    chance
}
