//! Deletes events for good, with all deliveries that are still open.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::Dispatch;
use super::leases::RemoteCommand;
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::query::{EventFilter, app_in};

/// The events of one forget command: many, as other processes read commands once a second.
const PAGE: usize = 4000;
/// How many events one transaction deletes, so that other writes can come between.
const CHUNK: usize = 500;

/// What a deletion removed, or a dry run would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Deleted {
    pub count: u64,
    /// Only in a dry run: how many have no appname although the filter names one.
    pub without_appname: u64,
    /// How many of these may belong to another app, which has a stream of the same name.
    pub maybe_another_app: u64,
}

/// Events without an appname, by source and stream.
type WithoutAppname = HashMap<(Arc<str>, String), u64>;

impl Dispatch {
    /// Removes the events that pass the filter, and every handler's open and parked deliveries of
    /// them. Events that arrive after the start stay. A dry run only counts.
    ///
    /// After it has returned, no attempt of these events starts. A running attempt may still end.
    /// Meanwhile a handler that did not get the command may still deliver an event once: its worker
    /// changes process, or its process does not answer. If the deletion fails, some events may be
    /// deleted, and handlers may have given up others: the caller must repeat it.
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
        if !dry_run {
            // What an earlier deletion could not finish is not found any more.
            self.inbox.delete(Vec::new()).await?;
        }
        // After this each worker has handled the events that it read before.
        self.forget_everywhere(&[], &mut unreachable).await;
        deleted.without_appname = without_appname.values().sum();
        deleted.maybe_another_app = self.count_other_apps(&filter, without_appname).await?;
        Ok(deleted)
    }

    /// How many of these may belong to another app, which has events of the same stream name.
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

    /// Tells every handler to give up these events. A handler that does not answer is not asked
    /// again: the inbox removes its rows without it.
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

/// Counts events without an appname, if the filter names one.
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
