//! `GET /api/events/stream`: new events and the states of handlers, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::query::{self, Fields};
use super::{Admin, Problem};
use crate::api::{EventView, HandlerView, HandlersView, message};
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::query::EventFilter;

/// The most clients that watch at once. The admin listener has 64 connections, and other requests
/// need some of them.
pub(super) const MAX_CLIENTS: usize = 16;
/// The most events that are read ahead of sending.
const READ_BATCH: usize = 100;
/// A client that is further behind than this many events skips to the newest, and is told how many
/// it missed.
const MAX_BEHIND: Seq = 50_000;
/// How often the states of the handlers are compared with the last ones sent.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two reads. Each read makes the store move accepted events to where they
/// can be read.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// How long the connection may be silent before a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct EventFeed {
    admin: Arc<Admin>,
    filter: EventFilter,
    /// The last position that was searched.
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
    let place = take_place(&admin)?;
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
        // A position beyond the newest event belongs to another inbox and is ignored.
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
    Ok(keep_alive(messages))
}

impl EventFeed {
    /// Waits for the next message. Returns none when the inbox is closed.
    async fn next(&mut self) -> Option<Message> {
        let mut can_read = true;
        loop {
            if let Some(event) = self.unsent.pop_front() {
                return json_message(message::EVENT, event.seq(), &EventView::from(&event));
            }
            let newest = *self.committed.borrow_and_update();
            if newest - self.after > MAX_BEHIND {
                let skipped = newest - self.after;
                self.after = newest;
                return json_message(message::SKIPPED, newest, &skipped);
            }
            let is_behind = newest > self.after;
            tokio::select! {
                // Checked first, so that handlers are reported even while events never end.
                biased;
                _ = self.polls.tick() => {
                    can_read = true;
                    if let Some(message) = self.changed_handlers().await {
                        return Some(message);
                    }
                }
                _ = self.reads.tick(), if is_behind && can_read => {
                    // After a failure, the next read waits for the next poll of the handlers.
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
        // Without a next page, everything up to the newest event was searched.
        self.after = match page.next {
            Some(next) => next,
            None => newest.max(last.unwrap_or(newest)),
        };
        self.unsent.extend(page.items);
        Ok(())
    }

    async fn changed_handlers(&mut self) -> Option<Message> {
        let reports = self.admin.dispatch.report().await.ok()?;
        let items = reports.iter().map(HandlerView::from).collect();
        let handlers = serde_json::to_string(&HandlersView { items }).ok()?;
        if handlers == self.handlers {
            return None;
        }
        self.handlers = handlers;
        // The id is the position of the events: a client that is cut off before its first event
        // resumes there.
        let message = Message::default().event(message::HANDLERS);
        Some(message.id(self.after.to_string()).data(&self.handlers))
    }
}

/// The place of a client among those that watch.
pub(super) fn take_place(admin: &Admin) -> Result<OwnedSemaphorePermit, Problem> {
    let place = admin.watchers.clone().try_acquire_owned();
    place.map_err(|_| Problem::Busy("too many clients watch already"))
}

/// Sends messages, and comments while there are none.
pub(super) fn keep_alive(
    messages: impl Stream<Item = Result<Message, Infallible>> + Send + 'static,
) -> Response {
    let comments = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    Sse::new(messages).keep_alive(comments).into_response()
}

/// A message; after this one, a client resumes at `id`.
pub(super) fn json_message(name: &str, id: i64, data: &impl Serialize) -> Option<Message> {
    let message = Message::default().event(name).id(id.to_string());
    message.json_data(data).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::stream::iter;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn what_is_skipped_is_told_by_name_and_number() {
        let skipped = json_message(message::SKIPPED, 60_000, &50_001).unwrap();
        let answer = keep_alive(iter([Ok(skipped)]));
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "event: skipped\nid: 60000\ndata: 50001\n\n");
    }
}
