//! The API of handlers and their parked deliveries.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use css_callbacks::Timestamp;

use super::body::{CountResult, JsonResult, count_answer, expect_empty, parse_object};
use super::events::find;
use super::query::Fields;
use super::{Admin, Problem};
use crate::api::{
    CountAnswer, FailureView, HandlerView, PageView, ParkedView, SelectionRequest, StateAnswer,
    Time,
};
use crate::dispatch::{HandlerReport, HandlerState};
use crate::event::Seq;
use crate::inbox::delivery::{Parked, Selection};

/// `GET /api/handlers`
pub(super) async fn handlers(
    State(admin): State<Arc<Admin>>,
    mut fields: Fields,
) -> JsonResult<PageView<HandlerView>> {
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
    Ok(Json(PageView::of(&reports[begin..end], next)))
}

/// `GET /api/handlers/{name}/parked`
pub(super) async fn parked(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    mut fields: Fields,
) -> JsonResult<PageView<ParkedView>> {
    let paging = fields.paging()?;
    let newest_first = fields.newest_first()?;
    let filter = fields.event_filter()?;
    fields.end()?;
    let handler = admin.dispatch.id(&name)?;
    let page = admin
        .inbox
        .search_parked(handler, &filter, paging.after, newest_first, paging.limit)
        .await?;
    Ok(Json(PageView::of(&page.items, page.next)))
}

/// `POST /api/handlers/{name}/replay`
pub(super) async fn replay(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> CountResult {
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
    count_answer(CountAnswer {
        oldest: oldest.map(Time::from),
        ..count.into()
    })
}

/// `POST /api/handlers/{name}/discard`
pub(super) async fn discard(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> CountResult {
    let (selection, dry_run) = selection(&admin, &name, &body).await?;
    let count = admin.dispatch.discard(&name, selection, dry_run).await?;
    if !dry_run {
        tracing::info!(handler.name = name, count, "deliveries were discarded");
    }
    count_answer(count)
}

/// `POST /api/handlers/{name}/pause`
pub(super) async fn pause(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> JsonResult<StateAnswer> {
    set_paused(&admin, &name, &body, HandlerState::Paused).await
}

/// `POST /api/handlers/{name}/resume`
pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Bytes,
) -> JsonResult<StateAnswer> {
    set_paused(&admin, &name, &body, HandlerState::Running).await
}

async fn set_paused(
    admin: &Admin,
    name: &str,
    body: &[u8],
    state: HandlerState,
) -> JsonResult<StateAnswer> {
    admin.dispatch.id(name)?;
    expect_empty(body)?;
    let is_paused = state == HandlerState::Paused;
    admin.dispatch.pause(name, is_paused).await?;
    let state = state.slug();
    tracing::info!(
        handler.name = name,
        handler.state = state,
        "a handler was paused or resumed"
    );
    Ok(Json(StateAnswer {
        state: state.to_owned(),
    }))
}

async fn selection(
    admin: &Admin,
    handler: &str,
    body: &[u8],
) -> Result<(Selection, bool), Problem> {
    admin.dispatch.id(handler)?;
    let asked: SelectionRequest = parse_object(body, "{\"parked\":true}")?;
    let time = |name: &str, time: &Time| {
        let time = Timestamp::from_rfc3339(&time.0);
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

impl From<&HandlerReport> for HandlerView {
    fn from(report: &HandlerReport) -> Self {
        let failure = report.last.failure.as_ref();
        Self {
            name: report.name.clone(),
            r#type: report.target_type.unwrap_or("code").to_owned(),
            state: report.state.slug().to_owned(),
            lag_events: report.lag_events,
            lag_seconds: report.lag.as_secs_f64(),
            retrying: report.rows.due,
            waiting: report.rows.waiting,
            parked: report.rows.parked,
            replaying: report.rows.replaying,
            last_success: report.last.success.map(Time::from),
            last_failure: failure.map(|(time, error)| FailureView {
                time: (*time).into(),
                error: error.clone(),
            }),
        }
    }
}

impl From<&Parked> for ParkedView {
    fn from(parked: &Parked) -> Self {
        Self {
            event: (&parked.event).into(),
            attempts: parked.attempts.count,
            first_attempt: parked.attempts.first.map(Time::from),
            parked_at: parked.at.into(),
            error: parked.attempts.error.clone(),
            replaying: parked.replaying,
        }
    }
}
