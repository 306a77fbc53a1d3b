//! The callback endpoints: one POST endpoint per kind, one per source, and the two health pages.
//!
//! A request becomes bytes, bytes become [`Authentic`], that becomes a
//! [`Receipt`](crate::inbox::Receipt), and only a receipt becomes a 200. Handlers play no part.

pub(crate) mod answer;
mod body;
mod client;
mod deaf;
pub(crate) mod health;
mod misrouted;
mod recheck;
pub(crate) mod settings;
mod source_health;
mod source_state;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::routing::post;
use bytes::Bytes;
use css_callbacks::{Callback, Kind, Signed};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, timeout_at};

use self::answer::CallbackAnswer;
use self::client::RequestHead;
use self::settings::ServerConfig;
pub(crate) use self::source_health::RetryWindow;
use self::source_health::{RefusedCallback, SourceHealth};
use self::source_state::SourceState;
use crate::auth::{self, Authentic, Presented, token_hash};
use crate::budget::{Budget, Charge};
use crate::clock::Clock;
use crate::inbox::{Condition, Inbox};
use crate::metrics::{CallbackResult, Metrics};
use crate::rejected::{Reason, Rejected, RejectedList};
use crate::source::Source;

/// The sources by name. A reload replaces all of them at once.
pub(crate) type Sources = BTreeMap<String, Arc<Source>>;

/// The state of the callback endpoints.
pub(crate) struct Ingress {
    sources: ArcSwap<HashMap<String, Arc<SourceState>>>,
    /// Also of sources that a reload has removed: their retry windows still run.
    source_health: Mutex<BTreeMap<Arc<str>, Arc<SourceHealth>>>,
    settings: ServerConfig,
    budget: Budget,
    inbox: Inbox,
    rejected: RejectedList,
    recheck_lock: tokio::sync::Mutex<()>,
    mismatches_logged: Mutex<HashSet<(Arc<str>, Kind, Kind)>>,
    /// Limits the log lines about URLs that no source has.
    misrouted_health: SourceHealth,
    misrouted: Counter,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Ingress {
    /// Accepts callbacks of these sources into the inbox.
    pub(crate) fn new(
        sources: Sources,
        settings: ServerConfig,
        inbox: Inbox,
        rejected: RejectedList,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let ingress = Self {
            sources: ArcSwap::default(),
            source_health: Mutex::default(),
            // With the overhead added, the longest body fits even if both limits are equal.
            budget: Budget::new(settings.max_inflight + body::OVERHEAD),
            settings,
            inbox,
            rejected,
            recheck_lock: tokio::sync::Mutex::default(),
            mismatches_logged: Mutex::default(),
            misrouted_health: SourceHealth::default(),
            misrouted: metrics.of_no_source(),
            clock,
            metrics,
        };
        ingress.replace_sources(sources);
        ingress
    }

    /// Accepts callbacks of these sources and no others from now on.
    pub(crate) fn replace_sources(&self, sources: Sources) {
        let mut health = self.source_health();
        let before = self.sources.load();
        let sources = sources.into_iter().map(|(name, source)| {
            if let Some(same) = before
                .get(&name)
                .filter(|source_state| source_state.source == source)
            {
                return (name, same.clone());
            }
            let health = health.entry(source.name().clone()).or_default();
            health.deaf_detector.reset();
            let source_state = SourceState {
                health: health.clone(),
                metrics: self.metrics.of_source(source.name()),
                source,
            };
            (name, Arc::new(source_state))
        });
        self.sources.store(Arc::new(sources.collect()));
    }

    fn source_health(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<SourceHealth>>> {
        self.source_health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the gauges of the sources.
    pub(crate) fn measure(&self) {
        let now = self.clock.now();
        for (source, health) in self.source_health().iter() {
            health.measure(source, &self.metrics, now);
        }
    }

    /// Which callbacks fail now, and how long the senders still retry them.
    pub(crate) fn retry_windows(&self) -> Vec<RetryWindow> {
        let now = self.clock.now();
        let health = self.source_health();
        let windows = health
            .iter()
            .flat_map(|(source, health)| health.retry_windows(source, now));
        windows.collect()
    }

    /// The budget for bodies in flight.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The list of refused callbacks.
    pub(crate) fn rejected(&self) -> &RejectedList {
        &self.rejected
    }

    /// Whether there is a source of this name.
    pub(crate) fn has_source(&self, name: &str) -> bool {
        self.sources.load().contains_key(name)
    }

    /// Writes the pending entries of the rejected list.
    pub(crate) fn close(&self) {
        self.rejected.close();
    }

    /// Answers a request to an endpoint of `source`, which may not exist.
    async fn receive(
        &self,
        source: &str,
        url_kind: Option<Kind>,
        request: Request,
    ) -> CallbackAnswer {
        let source_state = self.sources.load().get(source).cloned();
        match source_state {
            Some(source_state) => self.receive_for(&source_state, url_kind, request).await,
            None => self.receive_misrouted(request).await,
        }
    }

    async fn receive_for(
        &self,
        source_state: &SourceState,
        url_kind: Option<Kind>,
        mut request: Request,
    ) -> CallbackAnswer {
        let head = RequestHead::of(&mut request, &self.settings.trusted_proxies);
        let deadline = head.at + self.settings.deadline;
        // Set as soon as the callback is authentic.
        let mut kind = None;
        // A timeout does not cancel a write that has begun: the store finishes it.
        let processed = self.process(source_state, url_kind, &head, request, deadline, &mut kind);
        let answer = match timeout_at(deadline, processed).await {
            Ok(answer) => answer,
            Err(_) if kind.is_some() => CallbackAnswer::TooSlow,
            Err(_) => CallbackAnswer::BodyTooSlow,
        };
        source_state.count(kind, url_kind, &answer, || self.clock.now());
        if answer.counts_as() == CallbackResult::Invalid
            && source_state
                .health
                .should_log(answer.message(), self.clock.now())
        {
            tracing::warn!(
                callback.source = &**source_state.source.name(),
                url.kind = url_kind.map(Kind::slug),
                client = head.client.map(tracing::field::display),
                "requests to this source are invalid: {}",
                answer.message()
            );
        }
        self.metrics
            .callback_duration
            .observe(head.at.elapsed().as_secs_f64());
        answer
    }

    async fn process(
        &self,
        source_state: &SourceState,
        url_kind: Option<Kind>,
        head: &RequestHead,
        request: Request,
        deadline: Instant,
        kind: &mut Option<Kind>,
    ) -> CallbackAnswer {
        let read = self.read(request, head, deadline);
        let (body, charge) = match read.await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let presented = Presented {
            url_kind,
            token: head.token.as_deref(),
            client: head.client,
            received: self.clock.now(),
            body: without_bom(body),
        };
        let authentic = match self.authenticate(source_state, presented) {
            Ok(authentic) => authentic,
            Err(answer) => return answer,
        };
        head.mark_authentic();
        let body_kind = *kind.insert(authentic.kind());
        if let Some(url_kind) =
            url_kind.filter(|url| *url != body_kind && body_kind != Kind::Unknown)
        {
            self.note_kind_mismatch(source_state, url_kind, body_kind);
        }
        match self.inbox.accept(authentic, Some(charge)).await {
            Ok(receipt) => CallbackAnswer::Stored(receipt),
            Err(error) => CallbackAnswer::NotStored(error),
        }
    }

    /// Reads the body within its limits. Returns it with its charge.
    async fn read(
        &self,
        request: Request,
        head: &RequestHead,
        deadline: Instant,
    ) -> Result<(Bytes, Charge), CallbackAnswer> {
        let (limit, long_head) = (self.settings.max_body, head.long_head());
        body::read(request, limit, &self.budget, long_head, deadline).await
    }

    /// A function of its own, so that the parsed members are freed before the wait for the store.
    fn authenticate(
        &self,
        source_state: &SourceState,
        presented: Presented,
    ) -> Result<Authentic, CallbackAnswer> {
        let callback =
            Callback::parse(&presented.body).map_err(|_| CallbackAnswer::NotOneObject)?;
        let verdict = auth::authenticate(&source_state.source, &presented, &callback, rand::random);
        if let Some(t) = verdict.signed_t {
            source_state
                .health
                .signed(source_state.source.name(), t, presented.received);
        }
        let kind = verdict.kind;
        let reason = match verdict.outcome {
            Ok(authentic) => {
                source_state
                    .health
                    .deaf_detector
                    .note_authentic(presented.received);
                return Ok(authentic);
            }
            Err(reason) => reason,
        };
        let refused = RefusedCallback {
            reason,
            kind: match verdict.signed_t {
                Some(_) => kind,
                None => presented.url_kind.unwrap_or(Kind::Unknown),
            },
            is_signed: matches!(callback.signed(), Signed::Both { .. }),
            signed_t: verdict.signed_t,
        };
        self.note_refused(source_state, &refused, &presented);
        let source = source_state.source.name().clone();
        self.record_rejected(source, Reason::Refused(reason), &presented, kind);
        Err(CallbackAnswer::NotAuthentic)
    }

    fn note_refused(
        &self,
        source_state: &SourceState,
        refused: &RefusedCallback,
        presented: &Presented,
    ) {
        let (source, reason) = (source_state.source.name(), refused.reason);
        let now = presented.received;
        if source_state.health.refused(source, refused, now) {
            source_state.metrics.forgeries(reason).inc();
        }
        if source_state.health.should_log(reason.slug(), now) {
            tracing::warn!(
                callback.source = &**source,
                reason = reason.slug(),
                client = presented.client.map(tracing::field::display),
                "callbacks are refused: {}",
                reason.hint()
            );
        }
    }

    /// Adds the callback to the rejected list.
    fn record_rejected(&self, source: Arc<str>, reason: Reason, presented: &Presented, kind: Kind) {
        // The last space on the disk is reserved for accepted callbacks.
        if self.inbox.condition() == Condition::Accepting {
            self.rejected.keep(Rejected {
                reason,
                received: presented.received,
                source,
                url_kind: presented.url_kind,
                kind,
                client: presented.client,
                token_hash: presented.token.map(token_hash),
                size: presented.body.len(),
                body: presented.body.clone(),
            });
        }
    }

    fn note_kind_mismatch(&self, source_state: &SourceState, url: Kind, body: Kind) {
        source_state.metrics.mixed_up(url).inc();
        let source = &source_state.source;
        let mut seen = self
            .mismatches_logged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if seen.insert((source.name().clone(), url, body)) {
            tracing::warn!(
                callback.source = &**source.name(),
                callback.kind = body.slug(),
                url.kind = url.slug(),
                "callbacks arrive at the URL of another kind: two fields of the template are mixed up; the kind in the body counts"
            );
        }
    }
}

/// Removes a byte order mark: it means nothing in UTF-8, and JSON does not allow it.
fn without_bom(body: Bytes) -> Bytes {
    if body.starts_with(b"\xef\xbb\xbf") {
        body.slice(3..)
    } else {
        body
    }
}

/// The endpoints: `POST /{source}/{kind}` for every kind, and `POST /{source}`.
pub(crate) fn router(ingress: Arc<Ingress>, health: health::ReadyState) -> Router {
    let endpoint = |url_kind: Option<Kind>| {
        post(
            move |State(ingress): State<Arc<Ingress>>,
                  source: Result<Path<String>, PathRejection>,
                  request: Request| async move {
                match source {
                    Ok(Path(source)) => ingress.receive(&source, url_kind, request).await,
                    // The name is not UTF-8, so no source has it.
                    Err(_) => ingress.receive_misrouted(request).await,
                }
            },
        )
    };
    let misrouted = async |State(ingress): State<Arc<Ingress>>, request: Request| {
        ingress.receive_misrouted(request).await
    };
    let mut router = Router::new()
        .route("/{source}", endpoint(None))
        .fallback(misrouted);
    for kind in Kind::ALL {
        router = router.route(
            &format!("/{{source}}/{}", kind.slug()),
            endpoint(Some(kind)),
        );
    }
    router
        .with_state(ingress)
        .merge(health::router(health))
        .method_not_allowed_fallback(async || CallbackAnswer::NotPost)
}
