//! The callback listener: one POST endpoint per kind, one per source, and the two health pages.
//!
//! A request becomes bytes, bytes become [`Authentic`], that becomes a
//! [`Receipt`](crate::inbox::Receipt), and only a receipt becomes a 200. What handlers do is not known here.

pub(crate) mod answer;
mod body;
mod client;
pub(crate) mod health;
mod hearing;
mod misrouted;
mod recheck;
pub(crate) mod settings;
mod source_state;
mod watch;

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
use self::source_state::SourceState;
pub(crate) use self::watch::RetryWindow;
use self::watch::{RefusedCallback, SourceWatch};
use crate::auth::{self, Authentic, Presented, token_hash};
use crate::budget::{Budget, Charge};
use crate::clock::Clock;
use crate::inbox::{Condition, Inbox};
use crate::metrics::{CallbackResult, Metrics};
use crate::rejected::{Reason, Rejected, RejectedList};
use crate::source::Source;

/// The sources by name, replaced as a whole by a reload.
pub(crate) type Sources = BTreeMap<String, Arc<Source>>;

/// What the callback endpoints work with.
pub(crate) struct Ingress {
    desks: ArcSwap<HashMap<String, Arc<SourceState>>>,
    /// Of every source there ever was.
    watches: Mutex<BTreeMap<Arc<str>, Arc<SourceWatch>>>,
    settings: ServerConfig,
    budget: Budget,
    inbox: Inbox,
    rejected: RejectedList,
    rechecking: tokio::sync::Mutex<()>,
    mixed_up: Mutex<HashSet<(Arc<str>, Kind, Kind)>>,
    /// Of URLs that are nobody's.
    nowhere: SourceWatch,
    misrouted: Counter,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Ingress {
    /// Takes callbacks of these sources into the inbox.
    pub(crate) fn new(
        sources: Sources,
        settings: ServerConfig,
        inbox: Inbox,
        rejected: RejectedList,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let ingress = Self {
            desks: ArcSwap::default(),
            watches: Mutex::default(),
            // The overhead comes on top, so that the longest body fits where the two limits are the same.
            budget: Budget::new(settings.max_inflight + body::OVERHEAD),
            settings,
            inbox,
            rejected,
            rechecking: tokio::sync::Mutex::default(),
            mixed_up: Mutex::default(),
            nowhere: SourceWatch::default(),
            misrouted: metrics.of_no_source(),
            clock,
            metrics,
        };
        ingress.change_to(sources);
        ingress
    }

    /// Takes callbacks of these sources from now on.
    pub(crate) fn change_to(&self, sources: Sources) {
        let mut watches = self.watches();
        let before = self.desks.load();
        let desks = sources.into_iter().map(|(name, source)| {
            if let Some(same) = before
                .get(&name)
                .filter(|source_state| source_state.source == source)
            {
                return (name, same.clone());
            }
            let watch = watches.entry(source.name().clone()).or_default();
            watch.hearing.begin_anew();
            let source_state = SourceState {
                watch: watch.clone(),
                metrics: self.metrics.of_source(source.name()),
                source,
            };
            (name, Arc::new(source_state))
        });
        self.desks.store(Arc::new(desks.collect()));
    }

    fn watches(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<SourceWatch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the gauges of the sources up to date.
    pub(crate) fn measure(&self) {
        let now = self.clock.now();
        for (source, watch) in self.watches().iter() {
            watch.measure(source, &self.metrics, now);
        }
    }

    /// What is not taken now, and how long the senders go on repeating it.
    pub(crate) fn retry_windows(&self) -> Vec<RetryWindow> {
        let now = self.clock.now();
        let watches = self.watches();
        let windows = watches
            .iter()
            .flat_map(|(source, watch)| watch.retry_windows(source, now));
        windows.collect()
    }

    /// What may be in flight.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What was refused.
    pub(crate) fn rejected(&self) -> &RejectedList {
        &self.rejected
    }

    /// Whether there is a source of this name.
    pub(crate) fn has_source(&self, name: &str) -> bool {
        self.desks.load().contains_key(name)
    }

    /// Writes what waits for the rejected list.
    pub(crate) fn close(&self) {
        self.rejected.close();
    }

    /// A request to the path of an endpoint; whether there is such a source is not known yet.
    async fn receive(
        &self,
        source: &str,
        url_kind: Option<Kind>,
        request: Request,
    ) -> CallbackAnswer {
        let source_state = self.desks.load().get(source).cloned();
        match source_state {
            Some(source_state) => self.receive_at(&source_state, url_kind, request).await,
            None => self.receive_astray(request).await,
        }
    }

    async fn receive_at(
        &self,
        source_state: &SourceState,
        url_kind: Option<Kind>,
        mut request: Request,
    ) -> CallbackAnswer {
        let head = RequestHead::of(&mut request, &self.settings.trusted_proxies);
        let deadline = head.at + self.settings.deadline;
        // What it counts as; an authentic callback has a kind.
        let mut kind = None;
        // The store finishes what was begun, whether somebody still waits for it or not.
        let taken = self.take(source_state, url_kind, &head, request, deadline, &mut kind);
        let answer = match timeout_at(deadline, taken).await {
            Ok(answer) => answer,
            Err(_) if kind.is_some() => CallbackAnswer::TooSlow,
            Err(_) => CallbackAnswer::BodyTooSlow,
        };
        source_state.count(kind, url_kind, &answer, || self.clock.now());
        if answer.counts_as() == CallbackResult::Invalid
            && source_state
                .watch
                .is_time_to_tell(answer.message(), self.clock.now())
        {
            tracing::warn!(
                callback.source = &**source_state.source.name(),
                url.kind = url_kind.map(Kind::slug),
                client = head.client.map(tracing::field::display),
                "callbacks are not taken: {}",
                answer.message()
            );
        }
        self.metrics
            .callback_duration
            .observe(head.at.elapsed().as_secs_f64());
        answer
    }

    async fn take(
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
            body: without_mark(body),
        };
        let authentic = match self.authenticate(source_state, presented) {
            Ok(authentic) => authentic,
            Err(answer) => return answer,
        };
        head.vouch();
        let is = *kind.insert(authentic.kind());
        if let Some(url_kind) = url_kind.filter(|url| *url != is && is != Kind::Unknown) {
            self.note_mixed_up(source_state, url_kind, is);
        }
        match self.inbox.accept(authentic, Some(charge)).await {
            Ok(receipt) => CallbackAnswer::Stored(receipt),
            Err(error) => CallbackAnswer::NotStored(error),
        }
    }

    /// The body within its limits, and what is charged for it.
    async fn read(
        &self,
        request: Request,
        head: &RequestHead,
        deadline: Instant,
    ) -> Result<(Bytes, Charge), CallbackAnswer> {
        let (limit, long_head) = (self.settings.max_body, head.long_head());
        body::read(request, limit, &self.budget, long_head, deadline).await
    }

    /// What the members of the body take is given back before anything waits for the store.
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
                .watch
                .signed(source_state.source.name(), t, presented.received);
        }
        let kind = verdict.kind;
        let reason = match verdict.outcome {
            Ok(authentic) => {
                source_state.watch.hearing.heard(presented.received);
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
        self.keep(source, Reason::Refused(reason), &presented, kind);
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
        if source_state.watch.refused(source, refused, now) {
            source_state.metrics.forgeries(reason).inc();
        }
        if source_state.watch.is_time_to_tell(reason.slug(), now) {
            tracing::warn!(
                callback.source = &**source,
                reason = reason.slug(),
                client = presented.client.map(tracing::field::display),
                "callbacks are refused: {}",
                reason.hint()
            );
        }
    }

    /// Puts it on the rejected list.
    fn keep(&self, source: Arc<str>, reason: Reason, presented: &Presented, kind: Kind) {
        // The last room on the disk is for what was accepted.
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

    fn note_mixed_up(&self, source_state: &SourceState, url: Kind, body: Kind) {
        source_state.metrics.mixed_up(url).inc();
        let source = &source_state.source;
        let mut seen = self.mixed_up.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.insert((source.name().clone(), url, body)) {
            tracing::warn!(
                callback.source = &**source.name(),
                callback.kind = body.slug(),
                url.kind = url.slug(),
                "callbacks of a kind arrive at another kind's URL: the template's fields are mixed up, the body decides"
            );
        }
    }
}

/// The body without a byte order mark, which says nothing about UTF-8 and is no JSON.
fn without_mark(body: Bytes) -> Bytes {
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
                    // Not even UTF-8, so nobody's name.
                    Err(_) => ingress.receive_astray(request).await,
                }
            },
        )
    };
    let astray = async |State(ingress): State<Arc<Ingress>>, request: Request| {
        ingress.receive_astray(request).await
    };
    let mut router = Router::new()
        .route("/{source}", endpoint(None))
        .fallback(astray);
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
