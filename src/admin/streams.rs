//! The JSON API of the board: the list of streams, the detail of one, and changes as server-sent
//! events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event as Message;
use css_callbacks::Payload;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::body::{CountResult, JsonResult, count_answer, expect_empty};
use super::query::{self, Fields};
use super::stream::{json_message, keep_alive, take_place};
use super::{Admin, Problem};
use crate::api::{
    AuditView, EventView, PageView, RecordingView, SessionView, SnapshotView, StoryView,
    StreamView, Time, message,
};
use crate::event::Event;
use crate::stream::{StreamKey, StreamQuery, StreamRow};
use crate::streams::{Recording, SessionDetail, StreamDetail};

/// How often the board is asked for changes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The most changes that are read at once.
const READ_BATCH: usize = 500;

/// `GET /api/streams`
pub(super) async fn streams(
    State(admin): State<Arc<Admin>>,
    mut fields: Fields,
) -> JsonResult<PageView<StreamView>> {
    let paging = fields.paging()?;
    let wanted = fields.streams()?;
    fields.end()?;
    let page = admin
        .board
        .list(wanted, paging.after.unwrap_or(0), paging.limit)
        .await?;
    Ok(Json(PageView::of(&page.items, page.next)))
}

/// `GET /api/streams/{source}/{domain}/{appname}/{streamid}`
pub(super) async fn stream(
    State(admin): State<Arc<Admin>>,
    Path((source, domain, appname, streamid)): Path<(String, String, String, String)>,
    mut fields: Fields,
) -> JsonResult<StoryView> {
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
    Ok(Json((&detail).into()))
}

/// `POST /api/streams/rebuild`
pub(super) async fn rebuild(State(admin): State<Arc<Admin>>, body: Bytes) -> CountResult {
    expect_empty(&body)?;
    // A task of its own: the rebuild finishes even if the client disconnects.
    let rebuilding = tokio::spawn(async move { admin.board.rebuild().await });
    let count = rebuilding.await.map_err(|_| Problem::Broken)??;
    tracing::info!(count, "the board of streams was rebuilt");
    count_answer(count)
}

impl From<&StreamRow> for StreamView {
    fn from(stream: &StreamRow) -> Self {
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            source: format!("/{}", stream.key.source),
            domain: known(&stream.key.domain),
            appname: known(&stream.key.appname),
            streamid: known(&stream.key.streamid),
            pushsequence: stream.sequence().and_then(known),
            live: stream.live,
            since: stream.since.map(Time::from),
            last: stream.last.into(),
        }
    }
}

impl From<&StreamDetail> for StoryView {
    fn from(detail: &StreamDetail) -> Self {
        Self {
            stream: (&detail.stream).into(),
            sessions: detail.sessions.iter().map(session).collect(),
            push_exceptions: detail.exceptions,
            last_snapshot: detail.snapshot.as_ref().map(snapshot),
            recordings: detail.recordings.iter().map(recording).collect(),
            audits: detail.audits.iter().map(audit).collect(),
            timeline: detail.timeline.iter().map(EventView::from).collect(),
            next: detail.next.map(|next| next.to_string()),
        }
    }
}

fn session(detail: &SessionDetail) -> SessionView {
    let session = &detail.session;
    let end = session.end.map(|(end, _)| end);
    SessionView {
        pushsequence: session.sequence.clone(),
        start: session.start.into(),
        begin_known: session.begin.is_some(),
        end: end.map(Time::from),
        duration_seconds: end.map(|end| end.since(session.start).as_secs_f64()),
        superseded: detail.superseded,
        pusher: detail.pusher.clone(),
        width: detail.resolution.map(|(width, _)| width),
        height: detail.resolution.map(|(_, height)| height),
        errcode: detail.errcode.map(|code| code.0),
        end_reason: detail.errcode.map(|code| code.reason().to_owned()),
        errmsg: detail.errmsg.clone(),
        push_exceptions: detail.exceptions,
    }
}

fn recording(recording: &Recording) -> RecordingView {
    RecordingView {
        id: recording.id.clone(),
        state: recording.state.clone(),
        open: recording.open,
        start: recording.start.map(Time::from),
        end: recording.end.map(Time::from),
        url: recording.url.clone(),
    }
}

fn snapshot(event: &Event) -> SnapshotView {
    let picture = match event.payload() {
        Ok(Payload::Snapshot(picture)) => Some(picture),
        _ => None,
    };
    let picture = picture.as_ref();
    SnapshotView {
        id: event.id().to_string(),
        time: event.attributes().time.map(Time::from),
        url: picture.and_then(|picture| picture.pic_full_url.clone().or(picture.pic_url.clone())),
        width: picture.and_then(|picture| picture.width),
        height: picture.and_then(|picture| picture.height),
    }
}

fn audit(event: &Event) -> AuditView {
    let (suggestion, label) = match event.payload() {
        Ok(Payload::ImageAudit(audit)) => (audit.suggestion, audit.label),
        Ok(Payload::AudioAudit(audit)) => (audit.suggestion, audit.label),
        _ => (None, None),
    };
    AuditView {
        id: event.id().to_string(),
        r#type: event.kind().event_type().to_owned(),
        time: event.attributes().time.map(Time::from),
        suggestion: suggestion.map(|word| word.to_string()),
        label: label.map(|word| word.to_string()),
    }
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
    let place = take_place(&admin)?;
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
        let message = feed.next().await?;
        Some((Ok::<_, Infallible>(message), feed))
    });
    Ok(keep_alive(messages))
}

impl StreamFeed {
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(stream) = self.unsent.pop_front() {
                return json_message(message::STREAM, stream.revision, &StreamView::from(&stream));
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
