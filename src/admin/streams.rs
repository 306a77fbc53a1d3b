//! The JSON API of the board: the list of streams, the detail of one, and changes as server-sent
//! events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use css_callbacks::Payload;
use futures_util::stream::unfold;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::api::{ApiResult, count_answer, expect_empty, json_answer, list, with_attributes};
use super::query::{self, Fields};
use super::{Admin, Problem};
use crate::event::Event;
use crate::stream::{StreamKey, StreamQuery, StreamRow};
use crate::streams::{Recording, SessionDetail, StreamDetail};

/// How often the board is asked for changes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long the connection may be silent before a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most changes that are read at once.
const READ_BATCH: usize = 500;

/// `GET /api/streams`
pub(super) async fn streams(State(admin): State<Arc<Admin>>, mut fields: Fields) -> ApiResult {
    let paging = fields.paging()?;
    let wanted = fields.streams()?;
    fields.end()?;
    let page = admin
        .board
        .list(wanted, paging.after.unwrap_or(0), paging.limit)
        .await?;
    let items = page.items.iter().map(|stream| item(stream).to_string());
    Ok(list(items, page.next))
}

/// `GET /api/streams/{source}/{domain}/{appname}/{streamid}`
pub(super) async fn stream(
    State(admin): State<Arc<Admin>>,
    Path((source, domain, appname, streamid)): Path<(String, String, String, String)>,
    mut fields: Fields,
) -> ApiResult {
    let paging = fields.paging()?;
    fields.end()?;
    let literal = StreamKey {
        source,
        domain,
        appname,
        streamid,
    };
    let known = |text: &String| {
        if text == "-" {
            String::new()
        } else {
            text.clone()
        }
    };
    let named = StreamKey {
        source: literal.source.clone(),
        domain: known(&literal.domain),
        appname: known(&literal.appname),
        streamid: known(&literal.streamid),
    };
    let mut found = admin.board.find(named.clone()).await?;
    if found.is_none() && literal != named {
        found = admin.board.find(literal).await?; // the name really contains a `-`
    }
    let found = found.ok_or(Problem::NotFound("there is no such stream on the board"))?;
    let detail = admin
        .board
        .detail(found, paging.after, paging.limit)
        .await?;
    Ok(json_answer(StatusCode::OK, &stream_detail(&detail)))
}

/// `POST /api/streams/rebuild`
pub(super) async fn rebuild(State(admin): State<Arc<Admin>>, body: Bytes) -> ApiResult {
    expect_empty(&body)?;
    // A task of its own: the rebuild finishes even if the client disconnects.
    let rebuilding = tokio::spawn(async move { admin.board.rebuild().await });
    let count = rebuilding.await.map_err(|_| Problem::Broken)??;
    tracing::info!(count, "the board of streams was rebuilt");
    Ok(count_answer(count))
}

/// A stream on the board, as JSON.
fn item(stream: &StreamRow) -> Value {
    let mut item = Map::new();
    item.insert(
        "source".to_owned(),
        format!("/{}", stream.key.source).into(),
    );
    for (name, text) in [
        ("domain", Some(stream.key.domain.as_str())),
        ("appname", Some(&stream.key.appname)),
        ("streamid", Some(&stream.key.streamid)),
        ("pushsequence", stream.sequence()),
    ] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            item.insert(name.to_owned(), text.into());
        }
    }
    item.insert("live".to_owned(), stream.live.into());
    item.insert("since".to_owned(), json!(stream.since));
    item.insert("last".to_owned(), json!(stream.last));
    item.into()
}

fn stream_detail(detail: &StreamDetail) -> Value {
    let mut answer = item(&detail.stream);
    let events = |events: &[Event]| -> Vec<Value> { events.iter().map(attributes).collect() };
    answer["sessions"] = detail.sessions.iter().map(session).collect();
    answer["push_exceptions"] = detail.exceptions.into();
    answer["last_snapshot"] = detail.snapshot.as_ref().map_or(Value::Null, snapshot);
    answer["recordings"] = detail.recordings.iter().map(recording).collect();
    answer["audits"] = detail.audits.iter().map(audit).collect();
    answer["timeline"] = events(&detail.timeline).into();
    answer["next"] = json!(detail.next.map(|next| next.to_string()));
    answer
}

fn session(detail: &SessionDetail) -> Value {
    let session = &detail.session;
    let end = session.end.map(|(end, _)| end);
    json!({
        "pushsequence": session.sequence,
        "start": session.start,
        "begin_known": session.begin.is_some(),
        "end": end,
        "duration_seconds": end.map(|end| end.since(session.start).as_secs_f64()),
        "superseded": detail.superseded,
        "pusher": detail.pusher,
        "width": detail.resolution.map(|(width, _)| width),
        "height": detail.resolution.map(|(_, height)| height),
        "errcode": detail.errcode,
        "end_reason": detail.errcode.map(|code| code.reason()),
        "errmsg": detail.errmsg,
        "push_exceptions": detail.exceptions,
    })
}

fn recording(recording: &Recording) -> Value {
    json!({
        "id": recording.id,
        "state": recording.state,
        "open": recording.open,
        "start": recording.start,
        "end": recording.end,
        "url": recording.url,
    })
}

fn snapshot(event: &Event) -> Value {
    let picture = match event.payload() {
        Ok(Payload::Snapshot(picture)) => Some(picture),
        _ => None,
    };
    let picture = picture.as_ref();
    json!({
        "id": event.id(),
        "time": event.attributes().time,
        "url": picture.and_then(|picture| picture.pic_full_url.as_ref().or(picture.pic_url.as_ref())),
        "width": picture.and_then(|picture| picture.width),
        "height": picture.and_then(|picture| picture.height),
    })
}

fn audit(event: &Event) -> Value {
    let (suggestion, label) = match event.payload() {
        Ok(Payload::ImageAudit(audit)) => (audit.suggestion, audit.label),
        Ok(Payload::AudioAudit(audit)) => (audit.suggestion, audit.label),
        _ => (None, None),
    };
    json!({
        "id": event.id(),
        "type": event.kind().event_type(),
        "time": event.attributes().time,
        "suggestion": suggestion,
        "label": label,
    })
}

fn attributes(event: &Event) -> Value {
    serde_json::from_str(&with_attributes(event, &[])).unwrap_or_default()
}

struct StreamFeed {
    admin: Arc<Admin>,
    wanted: StreamQuery,
    /// The last revision that was read.
    after: i64,
    unsent: VecDeque<StreamRow>,
    polls: Interval,
    _place: OwnedSemaphorePermit,
}

/// `GET /api/streams/stream`
pub(super) async fn changes(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let wanted = fields.streams()?;
    fields.end()?;
    let last = query::last_event_id(&headers)?;
    let place = admin.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::Busy("too many clients watch already"))?;
    let newest = admin.board.revision().await?;
    let mut polls = interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = StreamFeed {
        admin,
        wanted,
        // A revision beyond the newest belongs to another board and is ignored.
        after: last.filter(|last| *last <= newest).unwrap_or(newest),
        unsent: VecDeque::new(),
        polls,
        _place: place,
    };
    let messages = unfold(feed, |mut feed| async move {
        let message = feed.next().await;
        Some((Ok::<_, Infallible>(message), feed))
    });
    let stream =
        Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"));
    Ok(stream.into_response())
}

impl StreamFeed {
    async fn next(&mut self) -> Message {
        loop {
            if let Some(stream) = self.unsent.pop_front() {
                let message = Message::default().event("stream");
                let message = message.id(stream.revision.to_string());
                return message.data(item(&stream).to_string());
            }
            self.polls.tick().await;
            // A failed read is logged by the board.
            let Ok(changed) = self.admin.board.changed(self.after, READ_BATCH).await else {
                continue;
            };
            if let Some(last) = changed.last() {
                self.after = last.revision;
            }
            let wanted = changed
                .into_iter()
                .filter(|stream| self.wanted.matches(stream));
            self.unsent.extend(wanted);
        }
    }
}
