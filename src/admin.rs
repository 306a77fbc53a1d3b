//! The admin listener: health, metrics and the API, for operators only.
//!
//! The health pages and the files of the console are public. Everything else needs the configured
//! token as `Authorization: Bearer`, or the cookie that the console gets for the token. Without a
//! token the listener accepts only loopback connections, and the `Host` header must name loopback
//! too: otherwise a web page could reach the listener through a host name of its own (DNS
//! rebinding). Requests that a browser sends from other sites are always refused.

mod access;
mod backup;
mod body;
mod console;
mod endpoints;
mod events;
mod handlers;
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

/// The state of the admin endpoints.
pub(crate) struct Admin {
    /// The inbox that is searched.
    pub inbox: Inbox,
    /// The handlers that are paused, resumed and replayed to.
    pub dispatch: Arc<Dispatch>,
    /// Knows the sources, their retry windows and the rejected list.
    pub ingress: Arc<Ingress>,
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
    /// The board of streams.
    pub board: Board,
    /// The token that a request must carry; if none, only loopback is allowed.
    pub token: Option<Secret>,
    /// Decides when console sessions expire.
    pub clock: Clock,
    /// Slows down the answers to wrong tokens.
    wrong_tokens: access::WrongTokens,
    /// Limits the clients that watch events or streams.
    watchers: Arc<Semaphore>,
    running_backup: backup::RunningBackup,
}

impl Admin {
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
            running_backup: backup::RunningBackup::default(),
        }
    }
}

/// Builds the router of the admin listener.
pub(crate) fn router(admin: Arc<Admin>, health: health::ReadyState) -> Router {
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
    // Asking the file system for the size may block.
    if let Ok(bytes) = spawn_blocking(move || inbox.size()).await {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        admin.metrics.inbox_bytes.set(bytes);
    }
    let dropped = &admin.metrics.log_lines_dropped;
    dropped
        .inner()
        .store(log::dropped_lines(), Ordering::Relaxed);
    if admin.dispatch.measure().await.is_err() {
        tracing::warn!("the store could not be read, the gauges of the handlers are out of date");
    }
    if admin.board.measure().await.is_err() {
        tracing::warn!("the board could not be read, the gauges of streams are out of date");
    }
    let accept = headers.get_all(ACCEPT).iter();
    let format = TextFormat::accepted(accept.filter_map(|header| header.to_str().ok()));
    // The same URL has two formats, so caches must distinguish them.
    let head = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
    (head, admin.metrics.encode(format))
}
