//! `/healthz` and `/readyz`, the same on both listeners and without authentication.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answer::{CallbackAnswer, error_body};
use crate::inbox::{Condition, Inbox, StoreError};

/// Whether this process is ready for callbacks.
#[derive(Clone)]
pub(crate) struct ReadyState {
    inbox: Inbox,
    draining: Arc<AtomicBool>,
}

impl ReadyState {
    /// Ready while the inbox accepts.
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            draining: Arc::default(),
        }
    }

    /// Not ready from now on: the load balancer should use other servers.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why the process is not ready; none if it is.
    fn not_ready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("shutting down");
        }
        match self.inbox.condition() {
            Condition::Accepting => None,
            Condition::Full => Some("the disk is nearly full"),
            Condition::Failing => Some("the store fails"),
        }
    }
}

/// The two pages.
pub(crate) fn router(health: ReadyState) -> Router {
    Router::new()
        .route("/healthz", get(async || page(None)))
        .route("/readyz", get(ready))
        .with_state(health)
}

/// The two pages before the inbox is open. Every other request gets 503.
pub(crate) fn starting() -> Router {
    Router::new()
        .route("/healthz", get(async || page(None)))
        .route(
            "/readyz",
            get(async || page(Some("the store is not there yet"))),
        )
        .fallback(async || CallbackAnswer::NotStored(StoreError::Failed))
}

async fn ready(State(health): State<ReadyState>) -> Response {
    page(health.not_ready())
}

fn page(not_ready: Option<&str>) -> Response {
    let (status, body) = match not_ready {
        None => (StatusCode::OK, "{\"code\":0}".to_owned()),
        Some(not_ready) => (
            StatusCode::SERVICE_UNAVAILABLE,
            error_body(StatusCode::SERVICE_UNAVAILABLE, not_ready),
        ),
    };
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
