//! The API of events: listing and deleting them, and what happened to one.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use css_callbacks::{EventId, Timestamp};

use super::body::{CountResult, JsonResult, count_answer};
use super::query::Fields;
use super::{Admin, Problem};
use crate::api::{CountAnswer, DeliveryView, EventView, PageView, Time};
use crate::dispatch::DeliveryReport;
use crate::event::Event;

/// `GET /api/events`
pub(super) async fn events(
    State(admin): State<Arc<Admin>>,
    mut fields: Fields,
) -> JsonResult<PageView<EventView>> {
    let paging = fields.paging()?;
    let filter = fields.event_filter()?;
    let newest_first = fields.newest_first()?;
    fields.end()?;
    let page = admin
        .inbox
        .search(filter, paging.after, newest_first, paging.limit)
        .await?;
    Ok(Json(PageView::of(&page.items, page.next)))
}

/// `DELETE /api/events`
pub(super) async fn delete(State(admin): State<Arc<Admin>>, mut fields: Fields) -> CountResult {
    let filter = fields.event_filter()?;
    let dry_run = fields.dry_run()?;
    fields.end()?;
    if filter.stream.as_deref().is_none_or(str::is_empty) {
        let problem = "`stream` is missing: name the stream as `streamid` or `appname/streamid`";
        return Err(Problem::Bad(problem.to_owned()));
    }
    // A task of its own: the deletion finishes even if the client disconnects.
    let deletion = tokio::spawn(async move {
        let deleted = admin.dispatch.delete(filter.clone(), dry_run).await?;
        if !dry_run {
            admin.board.forget_deleted(&filter).await?;
            admin.ingress.rejected().forget_deleted(&filter).await?;
            // The stream is not logged: its name may be the very thing to delete.
            tracing::info!(count = deleted.count, "events were deleted");
        }
        Ok::<_, Problem>(deleted)
    });
    let deleted = deletion.await.unwrap_or(Err(Problem::Broken))?;
    let told = |count: u64| (deleted.without_appname > 0).then_some(count);
    count_answer(CountAnswer {
        without_appname: told(deleted.without_appname),
        maybe_another_app: told(deleted.maybe_another_app),
        ..deleted.count.into()
    })
}

/// `GET /api/events/{id}`
pub(super) async fn event(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    mut fields: Fields,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Problem> {
    let form = fields.payload()?;
    fields.end()?;
    let event = find(&admin, &id).await?;
    let kind = [(CONTENT_TYPE, "application/json")];
    Ok((kind, event.cloud_event(form).to_json()))
}

/// `GET /api/events/{id}/body`
pub(super) async fn body(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<([(HeaderName, &'static str); 1], Bytes), Problem> {
    fields.end()?;
    let event = find(&admin, &id).await?;
    // The body comes from outside: a browser must not show it as a page.
    let kind = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, event.body().clone()))
}

/// `GET /api/events/{id}/deliveries`
pub(super) async fn deliveries(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    fields: Fields,
) -> JsonResult<PageView<DeliveryView>> {
    fields.end()?;
    let event = find(&admin, &id).await?;
    let reports = admin.dispatch.deliveries(&event).await?;
    Ok(Json(PageView::of(&reports, None)))
}

pub(super) async fn find(admin: &Admin, id: &str) -> Result<Event, Problem> {
    let id = EventId::from_hex(id).ok_or(Problem::NotFound("there is no such event"))?;
    admin.inbox.find(id).await?.ok_or(Problem::NotFound(
        "there is no such event, or retention removed it",
    ))
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        let attributes = event.attributes().clone();
        Self {
            specversion: "1.0".to_owned(),
            id: event.id().to_string(),
            source: format!("/{}", event.source()),
            r#type: event.kind().event_type().to_owned(),
            subject: event.subject(),
            time: attributes.time.and_then(Timestamp::rfc3339).map(Time),
            datacontenttype: "application/json".to_owned(),
            appid: attributes.appid,
            domain: attributes.domain,
            appname: attributes.appname,
            streamid: attributes.streamid,
            pushsequence: attributes.pushsequence,
            receivedtime: event.received().into(),
        }
    }
}

impl From<&DeliveryReport> for DeliveryView {
    fn from(report: &DeliveryReport) -> Self {
        let row = report.row.as_ref();
        let attempts = row.map(|row| &row.attempts);
        let error = attempts.map(|attempts| attempts.error.clone());
        Self {
            handler: report.handler.clone(),
            state: report.progress.slug().to_owned(),
            attempts: attempts.map(|attempts| attempts.count),
            first_attempt: attempts.and_then(|attempts| attempts.first).map(Time::from),
            due: row.and_then(|row| row.due).map(Time::from),
            parked_at: row.and_then(|row| row.parked).map(Time::from),
            error: error.filter(|error| !error.is_empty()),
        }
    }
}
