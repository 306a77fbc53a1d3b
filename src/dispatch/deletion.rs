//! Deleting events for good, whatever is still to be done with them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::*;
use crate::inbox::query::{EventFilter, app_in};

/// Events that handlers are told of in one go: one that is at work in another process hears of orders once a second.
const PAGE: usize = 4000;
/// Events deleted in one go: others write in between.
const CHUNK: usize = 500;

/// What a deletion removed, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Deleted {
    /// Events.
    pub count: u64,
    /// Those of a dry run that tell no appname, though one was asked for.
    pub without_appname: u64,
    /// Those of them that may be of another app: it has a stream of the same name.
    pub maybe_another_app: u64,
}

/// Events without an appname, by source and stream.
type WithoutAppname = HashMap<(Arc<str>, String), u64>;

impl Dispatch {
    /// Removes the events that pass the filter, and with them what each handler owes or has parked of them. Those that arrive
    /// after it began stay. A dry run only counts.
    ///
    /// No attempt of them begins after it has ended, but one that runs may end as it does. While it goes on, an event may
    /// still be delivered once by a handler that could not be told: one that changes hands, or whose process does not answer.
    /// If it fails, some may be deleted and others given up by handlers: it is to be asked for again.
    pub(crate) async fn delete(
        &self,
        filter: EventFilter,
        dry_run: bool,
    ) -> Result<Deleted, StoreError> {
        let _guard = self.deletion_lock.lock().await;
        let all = EventFilter::default();
        let newest = self.inbox.search(all, None, true, 1).await?;
        let newest = newest.items.first().map_or(0, Event::seq);
        let mut unreachable = HashSet::new();
        let mut deleted = Deleted::default();
        let mut without_appname = WithoutAppname::new();
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self
                .inbox
                .search(filter.clone(), Some(from), false, PAGE)
                .await?;
            after = page.next.filter(|next| *next < newest);
            let found = page.items.iter().map(Event::seq);
            let found: Vec<Seq> = found.filter(|seq| *seq <= newest).collect();
            if dry_run {
                deleted.count += found.len() as u64;
                count_without_appname(&mut without_appname, &filter, &page.items);
                continue;
            }
            if !found.is_empty() {
                self.forget_everywhere(&found, &mut unreachable).await;
            }
            for chunk in found.chunks(CHUNK) {
                deleted.count += self.inbox.delete(chunk.to_vec()).await?;
            }
        }
        // Whatever was read before is through with by now.
        self.forget_everywhere(&[], &mut unreachable).await;
        deleted.without_appname = without_appname.values().sum();
        deleted.maybe_another_app = self.count_other_apps(&filter, without_appname).await?;
        Ok(deleted)
    }

    /// How many of these may be of another app than the filter's, because the store knows their stream under one.
    async fn count_other_apps(
        &self,
        filter: &EventFilter,
        mut without_appname: WithoutAppname,
    ) -> Result<u64, StoreError> {
        let wanted = filter.stream.as_deref().unwrap_or_default();
        let ids: HashSet<String> = without_appname.keys().map(|(_, id)| id.clone()).collect();
        let mut total = 0;
        for id in ids {
            let same_stream = EventFilter {
                source: filter.source.clone(),
                stream: Some(id.clone()),
                ..EventFilter::default()
            };
            let mut after = Some(0);
            while let Some(from) = after
                && without_appname.keys().any(|(_, of)| *of == id)
            {
                let page = self
                    .inbox
                    .search(same_stream.clone(), Some(from), false, PAGE);
                let page = page.await?;
                after = page.next;
                for event in &page.items {
                    let attributes = event.attributes();
                    let app = attributes.appname.as_deref();
                    let is_other_app = attributes.streamid.as_deref() == Some(&id)
                        && app.is_some_and(|app| app_in(wanted, &id) != Some(app));
                    if is_other_app {
                        let count = without_appname.remove(&(event.source().clone(), id.clone()));
                        total += count.unwrap_or_default();
                    }
                }
            }
        }
        Ok(total)
    }

    /// Has every handler give these events up. One that does not hear is not told again: the inbox removes its rows without it.
    async fn forget_everywhere(&self, seqs: &[Seq], unreachable: &mut HashSet<String>) {
        let names: Vec<String> = self.configured().keys().cloned().collect();
        let sent = names
            .into_iter()
            .filter(|name| !unreachable.contains(name))
            .map(async |name| {
                let seqs = seqs.to_vec();
                let sent = self.send(&name, RemoteCommand::Forget { seqs }).await;
                sent.err().map(|_| name)
            });
        let failed: Vec<_> = join_all(sent).await.into_iter().flatten().collect();
        unreachable.extend(failed);
    }
}

/// Counts events that tell no appname, if the filter names one.
fn count_without_appname(
    without_appname: &mut WithoutAppname,
    filter: &EventFilter,
    events: &[Event],
) {
    let wanted = filter.stream.as_deref().unwrap_or_default();
    for event in events {
        let attributes = event.attributes();
        if let (None, Some(id)) = (&attributes.appname, &attributes.streamid)
            && app_in(wanted, id).is_some()
        {
            let key = (event.source().clone(), id.clone());
            *without_appname.entry(key).or_default() += 1;
        }
    }
}
