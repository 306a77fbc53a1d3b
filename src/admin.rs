//! The admin listener: health, metrics and the API, for operators only.
//!
//! Everything but the health pages and the empty console needs the configured token as `Authorization: Bearer`, or the cookie
//! that the console gets for it. Without a token the listener is
//! loopback only, and so must the `Host` header be: a page in the operator's browser must not reach it under a name of its
//! own. A browser's request from another site is refused in either case.

mod access;
mod api;
mod console;
mod endpoints;
mod openapi;
mod problem;
mod query;
mod rejected;
mod session;
pub(crate) mod settings;
mod stream;
mod streams;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use css_callbacks::Secret;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use self::endpoints::ENDPOINTS;
use self::problem::Problem;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::inbox::Inbox;
use crate::ingress::{Ingress, health};
use crate::log;
use crate::metrics::{Metrics, TextFormat};
use crate::streams::Board;

/// What the admin endpoints work with.
pub(crate) struct Admin {
    /// The inbox to look into.
    pub inbox: Inbox,
    /// The handlers to steer.
    pub dispatch: Arc<Dispatch>,
    /// The senders to report on.
    pub ingress: Arc<Ingress>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// The board of streams.
    pub board: Board,
    /// What a request must present; none: loopback only.
    pub token: Option<Secret>,
    /// Tells when sessions end.
    pub clock: Clock,
    /// Answers wrong tokens.
    wrong_tokens: access::WrongTokens,
    /// Places for clients that watch what arrives.
    watchers: Arc<Semaphore>,
}

impl Admin {
    /// With nobody watching.
    pub(crate) fn new(
        inbox: Inbox,
        dispatch: Arc<Dispatch>,
        ingress: Arc<Ingress>,
        metrics: Arc<Metrics>,
        board: Board,
        token: Option<Secret>,
        clock: Clock,
    ) -> Self {
        Self {
            inbox,
            dispatch,
            ingress,
            metrics,
            board,
            token,
            clock,
            wrong_tokens: access::WrongTokens::default(),
            watchers: Arc::new(Semaphore::new(stream::MAX_CLIENTS)),
        }
    }
}

/// The endpoints.
pub(crate) fn router(admin: Arc<Admin>, health: health::Health) -> Router {
    let mut router = Router::new().route("/metrics", get(metrics));
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, (endpoint.route)());
    }
    router
        .fallback(async || Problem::NotFound("there is no such page"))
        .method_not_allowed_fallback(async || Problem::WrongMethod)
        .layer(from_fn_with_state(admin.clone(), access::authorize))
        .merge(console::router())
        .route("/login", post(session::login))
        .route("/logout", post(session::logout))
        .layer(map_response(problem::as_api_error))
        .layer(from_fn(access::refuse_other_sites))
        .layer(map_response(console::security_headers))
        .with_state(admin)
        .merge(health::router(health).layer(from_fn(access::refuse_other_sites)))
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> impl IntoResponse {
    admin.ingress.measure();
    let inbox = admin.inbox.clone();
    // The file system may be slow.
    if let Ok(bytes) = spawn_blocking(move || inbox.size()).await {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        admin.metrics.inbox_bytes.set(bytes);
    }
    let dropped = &admin.metrics.log_lines_dropped;
    dropped
        .inner()
        .store(log::dropped_lines(), Ordering::Relaxed);
    if admin.dispatch.measure().await.is_err() {
        tracing::warn!("the gauges of the handlers are stale, the store could not be read");
    }
    if admin.board.measure().await.is_err() {
        tracing::warn!("the gauges of streams are stale, the board could not be read");
    }
    let accept = headers.get_all(ACCEPT).iter();
    let format = TextFormat::accepted(accept.filter_map(|header| header.to_str().ok()));
    // The same address has either.
    let head = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
    (head, admin.metrics.encode(format))
}
