//! The JSON API: events, handlers, parked deliveries.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use css_callbacks::{EventId, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::query::Fields;
use super::{Admin, Problem};
use crate::dispatch::HandlerReport;
use crate::event::{Event, PayloadForm, Seq};
use crate::inbox::delivery::{Parked, Selection};

pub(super) type ApiResult = Result<Response, Problem>;

/// `GET /api/events`
pub(super) async fn events(State(admin): State<Arc<Admin>>, mut fields: Fields) -> ApiResult {
    let paging = fields.paging()?;
    let filter = fields.event_filter()?;
    let newest_first = fields.newest_first()?;
    fields.end()?;
    let page = admin
        .inbox
        .search(filter, paging.after, newest_first, paging.limit)
        .await?;
    Ok(list(
        page.items.iter().map(|event| with_attributes(event, &[])),
        page.next,
    ))
}

/// `DELETE /api/events`
pub(super) async fn delete(State(admin): State<Arc<Admin>>, mut fields: Fields) -> ApiResult {
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
    let mut answer = json!({ "count": deleted.count });
    if deleted.without_appname > 0 {
        answer["without_appname"] = deleted.without_appname.into();
        answer["maybe_another_app"] = deleted.maybe_another_app.into();
    }
    Ok(json_answer(StatusCode::ACCEPTED, &answer))
}

/// `GET /api/events/{id}`
pub(super) async fn event(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    mut fields: Fields,
) -> ApiResult {
    let form = fields.payload()?;
    fields.end()?;
    let event = find(&admin, &id).await?;
    Ok(json_text(StatusCode::OK, event.cloud_event(form).to_json()))
}

/// `GET /api/events/{id}/body`
pub(super) async fn body(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    fields: Fields,
) -> ApiResult {
    fields.end()?;
    let event = find(&admin, &id).await?;
    // The body comes from outside: a browser must not show it as a page.
    let kind = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, event.body().clone()).into_response())
}

/// `GET /api/events/{id}/deliveries`
pub(super) async fn deliveries(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    fields: Fields,
) -> ApiResult {
    fields.end()?;
    let event = find(&admin, &id).await?;
    let reports = admin.dispatch.deliveries(&event).await?;
    let items = reports.iter().map(|report| {
        let row = report.row.as_ref();
        let attempts = row.map(|row| &row.attempts);
        let item = json!({
            "handler": report.handler,
            "state": report.progress.slug(),
            "attempts": attempts.map(|attempts| attempts.count),
            "first_attempt": attempts.and_then(|attempts| attempts.first),
            "due": row.and_then(|row| row.due),
            "parked_at": row.and_then(|row| row.parked),
            "error": attempts.map(|attempts| &attempts.error).filter(|error| !error.is_empty()),
        });
        item.to_string()
    });
    Ok(list(items, None))
}

/// `GET /api/handlers`
pub(super) async fn handlers(State(admin): State<Arc<Admin>>, mut fields: Fields) -> ApiResult {
    let paging = fields.paging()?;
    let name = fields.handler();
    let state = fields.handler_state()?;
    fields.end()?;
    let mut reports = admin.dispatch.report().await?;
    reports.retain(|report| {
        name.as_ref().is_none_or(|name| *name == report.name)
            && state.is_none_or(|state| state == report.state)
    });
    let begin = paging.after.and_then(|after| usize::try_from(after).ok());
    let begin = begin.unwrap_or(0).min(reports.len());
    let end = reports.len().min(begin + paging.limit);
    let next = (end < reports.len()).then(|| Seq::try_from(end).unwrap_or(Seq::MAX));
    Ok(list(reports[begin..end].iter().map(handler_item), next))
}

/// `GET /api/handlers/{name}/parked`
pub(super) async fn parked(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    mut fields: Fields,
) -> ApiResult {
    let paging = fields.paging()?;
    let newest_first = fields.newest_first()?;
    let filter = fields.event_filter()?;
    fields.end()?;
    let handler = admin.dispatch.id(&name)?;
    let page = admin
        .inbox
        .search_parked(handler, &filter, paging.after, newest_first, paging.limit)
        .await?;
    Ok(list(page.items.iter().map(parked_item), page.next))
}

/// `GET /api/retry-windows`
pub(super) async fn retry_windows(State(admin): State<Arc<Admin>>, fields: Fields) -> ApiResult {
    fields.end()?;
    let items = admin.ingress.retry_windows().into_iter().map(|window| {
        let item = json!({
            "source": &*window.source,
            "kind": window.kind.slug(),
            "result": window.result.slug(),
            "since": window.since,
            "last": window.last,
            "window_seconds": window.window.as_secs(),
            "remaining_seconds": window.remaining.as_secs(),
        });
        item.to_string()
    });
    Ok(list(items, None))
}

/// `POST /api/handlers/{name}/replay`
pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult {
    let (selection, dry_run) = selection(&admin, &name, &body).await?;
    // Read before the replay: meanwhile retention can only remove events, never add older ones.
    let oldest = match selection {
        Selection::Range(from, _) => {
            let oldest = admin.inbox.received_from(0).await?;
            oldest
                .map(|(_, oldest)| oldest)
                .filter(|oldest| from < *oldest)
        }
        Selection::Event(_) | Selection::Parked => None,
    };
    let count = admin.dispatch.replay(&name, selection, dry_run).await?;
    if !dry_run {
        tracing::info!(handler.name = name, count, "a replay was asked for");
    }
    let mut answer = json!({ "count": count });
    if let Some(oldest) = oldest {
        answer["oldest"] = json!(oldest);
    }
    Ok(json_answer(StatusCode::ACCEPTED, &answer))
}

/// `POST /api/handlers/{name}/discard`
pub(super) async fn discard(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult {
    let (selection, dry_run) = selection(&admin, &name, &body).await?;
    let count = admin.dispatch.discard(&name, selection, dry_run).await?;
    if !dry_run {
        tracing::info!(handler.name = name, count, "deliveries were discarded");
    }
    Ok(count_answer(count))
}

/// `POST /api/handlers/{name}/pause`
pub(super) async fn pause(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult {
    set_paused(&admin, &name, &body, true).await
}

/// `POST /api/handlers/{name}/resume`
pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> ApiResult {
    set_paused(&admin, &name, &body, false).await
}

async fn set_paused(admin: &Admin, name: &str, body: &[u8], paused: bool) -> ApiResult {
    admin.dispatch.id(name)?;
    expect_empty(body)?;
    admin.dispatch.pause(name, paused).await?;
    let state = if paused { "paused" } else { "running" };
    tracing::info!(
        handler.name = name,
        handler.state = state,
        "a handler was paused or resumed"
    );
    Ok(json_answer(StatusCode::OK, &json!({ "state": state })))
}

/// Refuses a body that is neither empty nor an empty object.
pub(super) fn expect_empty(body: &[u8]) -> Result<(), Problem> {
    if matches!(body.trim_ascii(), b"" | b"{}") {
        return Ok(());
    }
    let problem = "this takes no fields: leave the body empty, or `{}`";
    Err(Problem::Bad(problem.to_owned()))
}

/// The body of a replay or discard.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectionRequest {
    event: Option<String>,
    parked: Option<bool>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn selection(
    admin: &Admin,
    handler: &str,
    body: &[u8],
) -> Result<(Selection, bool), Problem> {
    admin.dispatch.id(handler)?;
    let asked: SelectionRequest = parse_object(body, "{\"parked\":true}")?;
    let time = |name: &str, text: &str| {
        let time = Timestamp::from_rfc3339(text);
        time.ok_or_else(|| {
            Problem::Bad(format!(
                "`{name}` must be a time such as 2026-11-23T08:00:00Z"
            ))
        })
    };
    let selection = match (&asked.event, asked.parked, &asked.from, &asked.to) {
        (Some(id), None, None, None) => Selection::Event(find(admin, id).await?.seq()),
        (None, Some(true), None, None) => Selection::Parked,
        (None, None, Some(from), Some(to)) => {
            let (from, to) = (time("from", from)?, time("to", to)?);
            if from > to {
                return Err(Problem::Bad(
                    "`from` must not be later than `to`".to_owned(),
                ));
            }
            Selection::Range(from, to)
        }
        _ => {
            let forms = "give one of `event`: an id, `parked`: true, or `from` and `to`: times";
            return Err(Problem::Bad(forms.to_owned()));
        }
    };
    Ok((selection, asked.dry_run))
}

/// Parses a body that must be a JSON object such as `example`.
pub(super) fn parse_object<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Problem> {
    // serde would also read an array, as the fields in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        let problem = format!("the body must be a JSON object such as {example}");
        return Err(Problem::Bad(problem));
    }
    serde_json::from_slice(body).map_err(|error| Problem::Bad(error.to_string()))
}

async fn find(admin: &Admin, id: &str) -> Result<Event, Problem> {
    let id = EventId::from_hex(id).ok_or(Problem::NotFound("there is no such event"))?;
    admin.inbox.find(id).await?.ok_or(Problem::NotFound(
        "there is no such event, or retention removed it",
    ))
}

/// The items of a list of handlers, as JSON.
pub(super) fn handler_items(reports: &[HandlerReport]) -> String {
    let items: Vec<String> = reports.iter().map(handler_item).collect();
    items.join(",")
}

fn handler_item(report: &HandlerReport) -> String {
    json!({
        "name": report.name,
        "type": report.target_type.unwrap_or("code"),
        "state": report.state.slug(),
        "lag_events": report.lag_events,
        "lag_seconds": report.lag.as_secs_f64(),
        "retrying": report.rows.due,
        "waiting": report.rows.waiting,
        "parked": report.rows.parked,
        "replaying": report.rows.replaying,
        "last_success": report.last.success,
        "last_failure": report.last.failure.as_ref().map(|(time, error)| json!({ "time": time, "error": error })),
    })
    .to_string()
}

fn parked_item(parked: &Parked) -> String {
    let more = [
        ("attempts", parked.attempts.count.into()),
        ("first_attempt", json!(parked.attempts.first)),
        ("parked_at", json!(parked.at)),
        ("error", json!(parked.attempts.error)),
        ("replaying", parked.replaying.into()),
    ];
    with_attributes(&parked.event, &more)
}

/// The attributes of an event as a JSON object, followed by the members of `more`.
pub(super) fn with_attributes(event: &Event, more: &[(&str, Value)]) -> String {
    let attributes = event.cloud_event(PayloadForm::Original).attributes_json();
    let mut text = String::from_utf8_lossy(&attributes).into_owned();
    for (name, value) in more {
        text.push_str(&format!(",\"{name}\":{value}"));
    }
    text.push('}');
    text
}

pub(super) fn list(items: impl Iterator<Item = String>, next: Option<Seq>) -> Response {
    let items: Vec<String> = items.collect();
    let next = next.map_or("null".to_owned(), |seq| format!("\"{seq}\""));
    json_text(
        StatusCode::OK,
        format!("{{\"items\":[{}],\"next\":{next}}}", items.join(",")).into_bytes(),
    )
}

pub(super) fn count_answer(count: u64) -> Response {
    json_answer(StatusCode::ACCEPTED, &json!({ "count": count }))
}

pub(super) fn json_answer(status: StatusCode, answer: &Value) -> Response {
    json_text(status, answer.to_string().into_bytes())
}

pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
}
