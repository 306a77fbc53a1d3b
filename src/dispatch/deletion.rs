//! Deleting events for good, whatever is still to be done with them.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::*;
use crate::inbox::query::EventFilter;

/// Events that handlers are told of in one go: one that is at work in another process hears of orders once a second.
const PART: usize = 4000;
/// Events deleted in one go: others write in between.
const CHUNK: usize = 500;

impl Dispatch {
    /// Removes the events that pass the filter, and with them what each handler owes or has parked of them: how many. Those
    /// that arrive after it began stay. A dry run only counts.
    ///
    /// No attempt of them begins after it has ended, but one that runs may end as it does. While it goes on, an event may
    /// still be delivered once by a handler that could not be told: one that changes hands, or whose process does not answer.
    /// If it fails, some may be deleted and others given up by handlers: it is to be asked for again.
    pub async fn delete(&self, filter: EventFilter, dry_run: bool) -> Result<u64, StoreError> {
        let _deleting = self.deleting.lock().await;
        let all = EventFilter::default();
        let newest = self.inbox.search(all, None, true, 1).await?;
        let newest = newest.items.first().map_or(0, Event::seq);
        let mut deaf = HashSet::new();
        let mut deleted = 0;
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self
                .inbox
                .search(filter.clone(), Some(from), false, PART)
                .await?;
            after = page.next.filter(|next| *next < newest);
            let found = page.items.iter().map(Event::seq);
            let found: Vec<Seq> = found.filter(|seq| *seq <= newest).collect();
            if dry_run {
                deleted += found.len() as u64;
                continue;
            }
            if !found.is_empty() {
                self.let_go(&found, &mut deaf).await;
            }
            for chunk in found.chunks(CHUNK) {
                deleted += self.inbox.delete(chunk.to_vec()).await?;
            }
        }
        // Whatever was read before is through with by now.
        self.let_go(&[], &mut deaf).await;
        Ok(deleted)
    }

    /// Has every handler give these events up. One that does not hear is not told again: the inbox removes its rows without it.
    async fn let_go(&self, seqs: &[Seq], deaf: &mut HashSet<String>) {
        let names: Vec<String> = self.at_work().keys().cloned().collect();
        let told = names
            .into_iter()
            .filter(|name| !deaf.contains(name))
            .map(async |name| {
                let seqs = seqs.to_vec();
                let told = self.ask(&name, Ordered::Forget { seqs }).await;
                told.err().map(|_| name)
            });
        let unheard: Vec<_> = join_all(told).await.into_iter().flatten().collect();
        deaf.extend(unheard);
    }
}
