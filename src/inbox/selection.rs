//! Searching, replaying and discarding many deliveries, a chunk at a time.

use std::sync::Arc;

use super::delivery::{HandlerId, InHand, Lane, Parked, ReplayedDelivery, Selection};
use super::query::{EventFilter, Page};
use super::{Engine, Inbox, StoreError};
use crate::event::{Event, Seq};

/// How many events are read at once.
const CHUNK: usize = 500;
/// How many chunks a search reads for one page.
const CHUNKS_SEARCHED: usize = 100;

impl Inbox {
    /// The parked deliveries whose events pass the filter, as [`parked`](Self::parked). It stops after
    /// a bounded effort.
    pub(crate) async fn search_parked(
        &self,
        handler: HandlerId,
        filter: &EventFilter,
        mut beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Parked>, StoreError> {
        let mut items = Vec::new();
        for _ in 0..CHUNKS_SEARCHED {
            let page = self.parked(handler, beyond, newest_first, CHUNK).await?;
            beyond = page.next;
            items.extend(
                page.items
                    .into_iter()
                    .filter(|parked| filter.matches(&parked.event)),
            );
            if items.len() > limit {
                items.truncate(limit);
                beyond = items.last().map(|parked| parked.event.seq());
                break;
            }
            if beyond.is_none() {
                break;
            }
        }
        Ok(Page {
            items,
            next: beyond,
        })
    }

    /// Makes the selected deliveries of a handler due now, if it `wants` their events, and returns how
    /// many. A delivery that is owed already is not doubled: it, or the head of its lane, becomes due
    /// now. `in_hand` says what the handler's worker knows of an event. A dry run only counts.
    pub(crate) async fn replay(
        &self,
        handler: HandlerId,
        selection: Selection,
        wants: Arc<dyn Fn(&Event) -> bool + Send + Sync>,
        in_hand: Arc<dyn Fn(Seq) -> InHand + Send + Sync>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let mut replayed = 0;
        let mut after = Some(0);
        while let Some(from) = after {
            let events = match selection {
                Selection::Event(seq) => {
                    after = None;
                    let page = self.after(seq - 1, 1, 1).await?;
                    page.into_iter()
                        .filter(|event| event.seq() == seq)
                        .collect()
                }
                Selection::Parked => {
                    let page = self.parked(handler, Some(from), false, CHUNK).await?;
                    after = page.next;
                    page.items.into_iter().map(|parked| parked.event).collect()
                }
                Selection::Range(begin, end) => {
                    let filter = EventFilter {
                        from: Some(begin),
                        to: Some(end),
                        ..EventFilter::default()
                    };
                    let page = self.search(filter, Some(from), false, CHUNK).await?;
                    after = page.next;
                    page.items
                }
            };
            let again = |event: &Event| {
                let in_hand = in_hand(event.seq());
                (in_hand != InHand::InProgress && wants(event)).then(|| ReplayedDelivery {
                    seq: event.seq(),
                    lane: event.lane(),
                    is_owed: in_hand == InHand::Owed,
                })
            };
            let wanted = events.iter().filter_map(again).collect();
            replayed += on_engine!(self, store => store.replay(handler, wanted, dry_run).await)?;
        }
        Ok(replayed)
    }

    /// Discards the selected parked deliveries for good; with [`Selection::Event`] also one that is due
    /// or waiting. It returns how many, and the lanes of those that were due or waiting. A dry run only
    /// counts.
    pub(crate) async fn discard(
        &self,
        handler: HandlerId,
        selection: Selection,
        dry_run: bool,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        if let Selection::Event(seq) = selection {
            if dry_run {
                let owed = on_engine!(self, store => store.delivery_row(handler, seq).await)?;
                return Ok((owed.is_some().into(), Vec::new()));
            }
            return on_engine!(self, store => store.discard(handler, vec![seq]).await);
        }
        let mut discarded = (0, Vec::new());
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self.parked(handler, Some(from), false, CHUNK).await?;
            after = page.next;
            let selected = |event: &Event| match selection {
                Selection::Range(begin, end) => (begin..end).contains(&event.received()),
                _ => true,
            };
            let wanted: Vec<Seq> = page
                .items
                .iter()
                .map(|parked| &parked.event)
                .filter(|event| selected(event))
                .map(Event::seq)
                .collect();
            if dry_run {
                discarded.0 += wanted.len() as u64;
            } else {
                let (number, lanes) =
                    on_engine!(self, store => store.discard(handler, wanted).await)?;
                discarded.0 += number;
                discarded.1.extend(lanes);
            }
        }
        Ok(discarded)
    }

    /// Discards a handler's rows of these events for good, in one transaction. It returns the same as
    /// [`discard`](Self::discard).
    pub(crate) async fn discard_events(
        &self,
        handler: HandlerId,
        seqs: Vec<Seq>,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        on_engine!(self, store => store.discard(handler, seqs).await)
    }
}
