//! The API of refused callbacks: the rejected list, checking it again, and what is refused now.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::body::{CountResult, JsonResult, count_answer, parse_object};
use super::query::Fields;
use super::{Admin, Problem};
use crate::api::{PageView, RecheckRequest, RejectedView, RetryWindowView};
use crate::ingress::RetryWindow;
use crate::rejected::RejectedEntry;

/// `GET /api/retry-windows`
pub(super) async fn retry_windows(
    State(admin): State<Arc<Admin>>,
    fields: Fields,
) -> JsonResult<PageView<RetryWindowView>> {
    fields.end()?;
    Ok(Json(PageView::of(&admin.ingress.retry_windows(), None)))
}

/// `GET /api/rejected`
pub(super) async fn rejected(
    State(admin): State<Arc<Admin>>,
    mut fields: Fields,
) -> JsonResult<PageView<RejectedView>> {
    let paging = fields.paging()?;
    let mut wanted = fields.refused()?;
    fields.end()?;
    wanted.after = paging.after;
    let page = admin.ingress.rejected().page(wanted, paging.limit).await?;
    Ok(Json(PageView::of(&page.items, page.next)))
}

/// `POST /api/rejected/recheck`
pub(super) async fn recheck(State(admin): State<Arc<Admin>>, body: Bytes) -> CountResult {
    let asked: RecheckRequest = match body.trim_ascii() {
        [] => RecheckRequest::default(),
        body => parse_object(body, "{\"source\":\"css\"}")?,
    };
    if let Some(source) = &asked.source
        && !admin.ingress.has_source(source)
    {
        return Err(Problem::NotFound("there is no such source"));
    }
    // A task of its own: the recheck finishes even if the client disconnects.
    let dry_run = asked.dry_run;
    let rechecked = tokio::spawn(async move {
        let count = admin.ingress.recheck(asked.source, dry_run).await?;
        if !dry_run {
            tracing::info!(count, "the rejected list was checked again");
        }
        Ok::<_, Problem>(count)
    });
    let count = rechecked.await.map_err(|_| Problem::Broken)??;
    count_answer(count)
}

impl From<&RejectedEntry> for RejectedView {
    fn from(entry: &RejectedEntry) -> Self {
        let (body, body_base64) = match entry
            .body
            .as_deref()
            .map(|body| (body, str::from_utf8(body)))
        {
            Some((_, Ok(text))) => (Some(text.to_owned()), None),
            Some((bytes, Err(_))) => (None, Some(STANDARD.encode(bytes))),
            None => (None, None),
        };
        Self {
            id: entry.id.to_string(),
            reason: entry.reason.clone(),
            receivedtime: entry.received.into(),
            source: entry.source.clone(),
            kind: entry.kind.slug().to_owned(),
            url_kind: entry.url_kind.map(|kind| kind.slug().to_owned()),
            client: entry.client.clone(),
            token_sha256: entry.token_hash.as_ref().map(hex::encode),
            size: entry.size,
            body,
            body_base64,
        }
    }
}

impl From<&RetryWindow> for RetryWindowView {
    fn from(window: &RetryWindow) -> Self {
        Self {
            source: window.source.to_string(),
            kind: window.kind.slug().to_owned(),
            result: window.result.slug().to_owned(),
            since: window.since.into(),
            last: window.last.into(),
            window_seconds: window.window.as_secs(),
            remaining_seconds: window.remaining.as_secs(),
        }
    }
}
