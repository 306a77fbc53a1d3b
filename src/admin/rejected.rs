//! The rejected list: listing it, and checking its callbacks again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{ApiResult, count_answer, list, parse_object};
use super::query::Fields;
use super::{Admin, Problem};
use crate::rejected::RejectedEntry;

/// `GET /api/rejected`
pub(super) async fn rejected(State(admin): State<Arc<Admin>>, mut fields: Fields) -> ApiResult {
    let paging = fields.paging()?;
    let mut wanted = fields.refused()?;
    fields.end()?;
    wanted.after = paging.after;
    let page = admin.ingress.rejected().page(wanted, paging.limit).await?;
    let items = page.items.iter().map(|entry| item(entry).to_string());
    Ok(list(items, page.next))
}

/// The body of a recheck. Without a source it covers all sources.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecheckRequest {
    source: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/rejected/recheck`
pub(super) async fn recheck(State(admin): State<Arc<Admin>>, body: Bytes) -> ApiResult {
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
    Ok(count_answer(count))
}

fn item(entry: &RejectedEntry) -> Value {
    let text = entry.body.as_deref().map(std::str::from_utf8);
    let mut item = json!({
        "id": entry.id.to_string(),
        "reason": entry.reason,
        "receivedtime": entry.received,
        "source": entry.source,
        "kind": entry.kind.slug(),
        "url_kind": entry.url_kind.map(|kind| kind.slug()),
        "client": entry.client,
        "token_sha256": entry.token_hash.as_ref().map(hex::encode),
        "size": entry.size,
        "body": text.and_then(Result::ok),
    });
    if let (Some(Err(_)), Some(body)) = (text, &entry.body) {
        use base64::Engine as _;
        item["body_base64"] = base64::engine::general_purpose::STANDARD
            .encode(body)
            .into();
    }
    item
}
