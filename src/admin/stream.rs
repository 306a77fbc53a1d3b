//! `GET /api/events/stream`: what arrives, and how handlers are, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::{handler_items, with_attributes};
use super::query::{self, Fields};
use super::{Admin, Problem};
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::query::EventFilter;

/// Clients at a time: the admin listener has 64 connections, and others need some.
pub(super) const MAX_CLIENTS: usize = 16;
/// Events that are read and not sent yet.
const READ_BATCH: usize = 100;
/// Who is further behind is told so, and goes on with the newest.
const MAX_BEHIND: Seq = 50_000;
/// Handlers are looked at this often.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two readings: each has the store bring what was accepted to where it can be read.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// When nothing else is said.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct EventFeed {
    admin: Arc<Admin>,
    filter: EventFilter,
    /// Events up to here were looked at.
    after: Seq,
    committed: watch::Receiver<Seq>,
    unsent: VecDeque<Event>,
    polls: Interval,
    reads: Interval,
    handlers: String,
    _place: OwnedSemaphorePermit,
}

/// `GET /api/events/stream`
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let filter = fields.event_filter()?;
    fields.end()?;
    let last = query::last_event_id(&headers)?;
    let place = admin.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::Busy("too many clients watch already"))?;
    let committed = admin.inbox.committed();
    let newest = *committed.borrow();
    let every = |pause| {
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let feed = EventFeed {
        admin,
        filter,
        // Of another inbox: as if it were not there.
        after: last.filter(|last| *last <= newest).unwrap_or(newest),
        committed,
        unsent: VecDeque::new(),
        polls: every(POLL_INTERVAL),
        reads: every(READ_INTERVAL),
        handlers: String::new(),
        _place: place,
    };
    let messages = unfold(feed, |mut feed| async move {
        let message = feed.next().await?;
        Some((Ok::<_, Infallible>(message), feed))
    });
    let stream =
        Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"));
    Ok(stream.into_response())
}

impl EventFeed {
    /// None when the inbox is closed.
    async fn next(&mut self) -> Option<Message> {
        let mut can_read = true;
        loop {
            if let Some(event) = self.unsent.pop_front() {
                let text = with_attributes(&event, &[]);
                let message = Message::default()
                    .event("event")
                    .id(event.seq().to_string());
                return Some(message.data(text));
            }
            let newest = *self.committed.borrow_and_update();
            if newest - self.after > MAX_BEHIND {
                let skipped = newest - self.after;
                self.after = newest;
                let message =
                    format!("{skipped} events were skipped, there are more than can be sent");
                return Some(Message::default().comment(message));
            }
            let is_behind = newest > self.after;
            tokio::select! {
                // Has its turn also while events never end.
                biased;
                _ = self.polls.tick() => {
                    can_read = true;
                    if let Some(message) = self.changed_handlers().await {
                        return Some(message);
                    }
                }
                _ = self.reads.tick(), if is_behind && can_read => {
                    // Another try comes after the next look at the handlers.
                    can_read = self.read(newest).await.is_ok();
                }
                changed = self.committed.changed(), if !is_behind => changed.ok()?,
            }
        }
    }

    async fn read(&mut self, newest: Seq) -> Result<(), StoreError> {
        let page = self
            .admin
            .inbox
            .search(self.filter.clone(), Some(self.after), false, READ_BATCH)
            .await?;
        let last = page.items.last().map(Event::seq);
        // Nothing is behind the page: all that was there has been looked at.
        self.after = match page.next {
            Some(next) => next,
            None => newest.max(last.unwrap_or(newest)),
        };
        self.unsent.extend(page.items);
        Ok(())
    }

    async fn changed_handlers(&mut self) -> Option<Message> {
        let items = handler_items(&self.admin.dispatch.report().await.ok()?);
        if items == self.handlers {
            return None;
        }
        self.handlers = items;
        let data = format!("{{\"items\":[{}]}}", self.handlers);
        // With the place in what arrives: whoever is cut off before the first event goes on there.
        let message = Message::default().event("handlers");
        Some(message.id(self.after.to_string()).data(data))
    }
}
