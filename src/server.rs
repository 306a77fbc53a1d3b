//! Everything together: [`Server::builder`], `bind`, `run`.

mod answers;
mod board;
mod reload;
mod sqlite_flags;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, interval, sleep, timeout_at};

use self::answers::Answers;
use self::board::BoardProjection;
pub use self::reload::Reloader;
use crate::admin::{self, Admin};
use crate::budget::Budget;
use crate::clock::{Clock, Steps};
use crate::config::Config;
use crate::dispatch::{Built, Dispatch};
use crate::handler::Handler;
use crate::inbox::settings::StoreSettings;
use crate::inbox::{Condition, Inbox, OpenError, StoreError};
use crate::ingress::health::{self, ReadyState};
use crate::ingress::{self, Ingress};
use crate::listener::{self, SPARE, Stage, Unreadable};
use crate::metrics::Metrics;
use crate::rejected::RejectedList;
use crate::streams::Board;

/// The whole shutdown is over within 15 s; so much of it is kept for writing the last positions and closing the files.
const SHUTDOWN: Duration = Duration::from_secs(13);
/// What closing the files gets beyond it.
const CLOSING: Duration = Duration::from_millis(1500);
/// What running deliveries get of it.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);
/// How often retention looks for something to remove.
const SWEEP_EVERY: u64 = 30;
/// The admin listener needs few connections.
const ADMIN_CONNECTIONS: usize = 64;
/// Descriptors that are not connections of the callback listener: files, the store, handlers, the admin listener.
const OTHER_DESCRIPTORS: u64 = 256 + (ADMIN_CONNECTIONS + 2 * SPARE) as u64;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The inbox could not be opened.
    #[error(transparent)]
    Inbox(#[from] OpenError),
    /// A handler could not be set up.
    #[error("handlers.{name}: {problem}")]
    Handler {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A listener could not be opened.
    #[error("{section}.listen: cannot listen on {address}: {error}")]
    Listen {
        /// `server` or `admin`.
        section: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The threads that answer could not be started.
    #[error("the threads that answer callbacks could not be started: {0}")]
    Threads(std::io::Error),
    /// The store failed at once.
    #[error("the inbox cannot be used: {0}; the log says more")]
    Store(#[from] StoreError),
}

impl StartError {
    /// Whether the operator has to mend the configuration or a directory.
    pub fn is_setup(&self) -> bool {
        matches!(
            self,
            Self::Inbox(OpenError::Unwritable { .. } | OpenError::Refused(_))
                | Self::Handler { .. }
        )
    }
}

/// Handlers written in Rust, by name.
pub(crate) type CustomHandlers = BTreeMap<String, Arc<dyn Handler>>;

/// A server about to be built.
pub struct Builder {
    config: Config,
    custom: CustomHandlers,
    clock: Clock,
}

impl Builder {
    /// Adds a handler. Its filters, retries and so on are those of `[handlers.NAME]` without `to`, or the defaults.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.custom.insert(name.into(), Arc::new(handler));
        self
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the inbox, starts the handlers where they stopped, and opens the listeners.
    pub async fn bind(self) -> Result<Server, StartError> {
        let Self {
            config,
            custom,
            clock,
        } = self;
        let max_connections = possible_connections(config.server.max_connections);
        let metrics = Arc::new(Metrics::default());
        let built = reload::build(&config, &custom, &BTreeMap::new(), &clock).await?;
        let answers = Answers::start().map_err(StartError::Threads)?;
        let not_ready = match &config.inbox.store {
            StoreSettings::Postgres(_) => {
                Some(NotReady::begin(&config, max_connections, &metrics, &answers).await?)
            }
            StoreSettings::Sqlite(_) => None,
        };
        let inbox = open_inbox(&config, &clock, &metrics, &answers).await?;
        let rejected = open_rejected(&config, &inbox, &metrics)?;
        let board = board::open(&config, &inbox, &clock, &metrics)?;
        let board_projection = BoardProjection::of(&board);
        board_projection.subscribe(&built);
        let ingress = Arc::new(Ingress::new(
            reload::sources(&config),
            config.server.clone(),
            inbox.clone(),
            rejected,
            clock.clone(),
            metrics.clone(),
        ));
        let dispatch = Arc::new(Dispatch::new(inbox.clone(), clock.clone(), metrics.clone()));
        let all = board_projection.with(&built);
        let listeners = Self::start(&config, &answers, &dispatch, all, not_ready).await;
        let (callbacks, admin) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                dispatch.stop(Duration::ZERO).await;
                inbox.close().await;
                return Err(error);
            }
        };
        let health = ReadyState::new(inbox.clone());
        let reloader = Reloader::new(
            config,
            custom,
            built,
            ingress.clone(),
            dispatch.clone(),
            board_projection,
            clock.clone(),
        );
        Ok(Server {
            answers,
            callbacks,
            max_connections,
            admin,
            inbox,
            ingress,
            dispatch,
            metrics,
            board,
            health,
            reloader: Arc::new(reloader),
            clock,
        })
    }

    /// The handlers' positions are durable before anything can arrive.
    async fn start(
        config: &Config,
        answers: &Answers,
        dispatch: &Arc<Dispatch>,
        built: BTreeMap<String, Built>,
        not_ready: Option<NotReady>,
    ) -> Result<(TcpListener, TcpListener), StartError> {
        dispatch.change_to(built).await?;
        let address = config.server.listen;
        let callbacks = answers.spawn(async move {
            match not_ready {
                Some(not_ready) => not_ready.end().await,
                None => TcpListener::bind(address).await,
            }
        });
        let callbacks = listen_result("server", address, callbacks.await)?;
        let admin = listen("admin", config.admin.listen).await?;
        Ok((callbacks, admin))
    }
}

/// A server whose listeners are open.
pub struct Server {
    answers: Answers,
    callbacks: TcpListener,
    max_connections: usize,
    admin: TcpListener,
    inbox: Inbox,
    ingress: Arc<Ingress>,
    dispatch: Arc<Dispatch>,
    metrics: Arc<Metrics>,
    board: Board,
    health: ReadyState,
    reloader: Arc<Reloader>,
    clock: Clock,
}

impl Server {
    /// A server of this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            custom: BTreeMap::new(),
            clock: Clock::system(),
        }
    }

    /// Where callbacks are taken.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.callbacks.local_addr()
    }

    /// Where the admin listener is.
    pub fn admin_addr(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Changes sources and handlers while the server runs.
    pub fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// Serves until `shutdown` ends, then stops softly: not ready at once, callbacks taken for `drain_delay`, then no new
    /// connections, running requests answered, running deliveries finished or released, everything remembered.
    ///
    /// # Errors
    ///
    /// The store failed so that only a new start can tell what is on the disk. The process should end and be started again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
        let config = self.reloader.config().await;
        let (callbacks_stage, callbacks_stages) = watch::channel(Stage::Serving);
        let (admin_stage, admin_stages) = watch::channel(Stage::Serving);
        let inflight = self.ingress.budget().clone();
        let limits = |max_connections| config.server.limits(max_connections, &inflight);
        let unreadable = Arc::new(Unreadable::new(self.metrics.unreadable.clone()));
        let mut callbacks = self.answers.spawn(listener::serve(
            self.callbacks,
            ingress::router(self.ingress.clone(), self.health.clone()),
            limits(self.max_connections),
            callbacks_stages,
            unreadable.clone(),
        ));
        let admin = Admin::new(
            self.inbox.clone(),
            self.dispatch.clone(),
            self.ingress.clone(),
            self.metrics,
            self.board.clone(),
            config.admin.token.clone(),
            self.clock.clone(),
        );
        let admin = tokio::spawn(listener::serve(
            self.admin,
            admin::router(Arc::new(admin), self.health.clone()),
            limits(ADMIN_CONNECTIONS),
            admin_stages,
            unreadable,
        ));
        let retention = config.inbox.retention;
        let maintenance = tokio::spawn(maintain(
            self.inbox.clone(),
            self.dispatch.clone(),
            self.board.clone(),
            retention,
            Steps::of(self.clock),
        ));
        let announcing = tokio::spawn(board::announce(
            self.board,
            self.dispatch.clone(),
            self.reloader.subscribed(),
        ));
        let leases = tokio::spawn(self.dispatch.clone().keep_leases());

        let served = tokio::select! {
            () = shutdown => Ok(()),
            () = self.inbox.until_condemned() => Err(StoreError::Failed),
        };
        let deadline = Instant::now() + SHUTDOWN;
        self.health.drain();
        for stage in [&callbacks_stage, &admin_stage] {
            stage.send_replace(Stage::Draining);
        }
        if served.is_ok() {
            tracing::info!("shutting down: not ready from now on, callbacks are still taken");
            sleep(config.server.drain_delay).await;
        }
        callbacks_stage.send_replace(Stage::Stopping);
        let grace = DELIVERY_GRACE.min(deadline.saturating_duration_since(Instant::now()));
        let (unanswered, undelivered) = tokio::join!(
            timeout_at(deadline, &mut callbacks),
            timeout_at(deadline, self.dispatch.stop(grace)),
        );
        if undelivered.is_err() {
            tracing::warn!("some handlers have not stopped in time: what they were at comes again");
        }
        if unanswered.is_err() {
            tracing::warn!("some requests were not answered in time and are cut off");
            callbacks.abort();
        }
        admin.abort();
        maintenance.abort();
        announcing.abort();
        leases.abort();
        // The list of what was refused may be in the inbox.
        let (ingress, inbox) = (self.ingress, self.inbox);
        let close = async {
            let _ = spawn_blocking(move || ingress.close()).await;
            inbox.close().await;
        };
        match timeout_at(deadline + CLOSING, close).await {
            Ok(()) => tracing::info!("stopped"),
            Err(_) => {
                tracing::warn!("the store could not be closed in time: the next start recovers it")
            }
        }
        served
    }
}

async fn open_inbox(
    config: &Config,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    answers: &Answers,
) -> Result<Inbox, OpenError> {
    if matches!(config.inbox.store, StoreSettings::Sqlite(_)) {
        // If it panics, the log says so, and the server can start all the same.
        let _ = spawn_blocking(sqlite_flags::warn_if_missing).await;
    }
    let (settings, clock, metrics) = (config.inbox.clone(), clock.clone(), metrics.clone());
    let opened = answers.spawn(async move { Inbox::open(&settings, clock, metrics).await });
    opened
        .await
        .unwrap_or_else(|error| Err(OpenError::Ended(error.to_string())))
}

fn open_rejected(
    config: &Config,
    inbox: &Inbox,
    metrics: &Arc<Metrics>,
) -> Result<RejectedList, OpenError> {
    let StoreSettings::Sqlite(store) = &config.inbox.store else {
        return Ok(RejectedList::shared(inbox.clone(), metrics.clone()));
    };
    RejectedList::open(&store.path, metrics.clone()).map_err(|error| OpenError::Broken {
        path: store.path.join("rejected.db"),
        reason: error.to_string(),
    })
}

/// Answers "not ready" where callbacks will be taken, while a server elsewhere is waited for.
struct NotReady {
    listener: std::net::TcpListener,
    stage: watch::Sender<Stage>,
    serving: JoinHandle<()>,
}

impl NotReady {
    async fn begin(
        config: &Config,
        max_connections: usize,
        metrics: &Metrics,
        answers: &Answers,
    ) -> Result<Self, StartError> {
        let address = config.server.listen;
        let inflight = Budget::new(config.server.max_inflight);
        let limits = config.server.limits(max_connections, &inflight);
        let unreadable = Arc::new(Unreadable::new(metrics.unreadable.clone()));
        let begun = answers.spawn(async move {
            let listener = TcpListener::bind(address).await?.into_std()?;
            let same_listener = TcpListener::from_std(listener.try_clone()?)?;
            let (stage, stages) = watch::channel(Stage::Serving);
            let router = health::starting();
            let serving = listener::serve(same_listener, router, limits, stages, unreadable);
            Ok(Self {
                listener,
                stage,
                serving: tokio::spawn(serving),
            })
        });
        listen_result("server", address, begun.await)
    }

    /// Connections that come from here on wait for the server.
    async fn end(self) -> std::io::Result<TcpListener> {
        drop(self.stage);
        let _ = self.serving.await;
        TcpListener::from_std(self.listener)
    }
}

async fn listen(section: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen_result(section, address, Ok(TcpListener::bind(address).await))
}

/// What a task that opened a listener came to.
fn listen_result<T>(
    section: &'static str,
    address: SocketAddr,
    opened: Result<std::io::Result<T>, JoinError>,
) -> Result<T, StartError> {
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    opened.map_err(|error| StartError::Listen {
        section,
        address,
        error,
    })
}

/// Retention, and a look at a store in trouble: without callbacks it would not notice that it is well again.
async fn maintain(
    inbox: Inbox,
    dispatch: Arc<Dispatch>,
    board: Board,
    retention: Duration,
    mut steps: Steps,
) {
    let mut seconds = interval(Duration::from_secs(1));
    for second in 0u64.. {
        seconds.tick().await;
        inbox.sample_arrivals();
        if let Some((before, now)) = steps.look() {
            tracing::warn!(
                clock.before = %before,
                clock.now = %now,
                "the clock of this machine was set, or the machine slept: retries go on as planned"
            );
        }
        match inbox.condition() {
            Condition::Accepting => inbox.check_files().await,
            Condition::Full | Condition::Failing => drop(inbox.probe().await),
        }
        if second % SWEEP_EVERY == 0 {
            board::sweep(&inbox, &dispatch, &board, retention).await;
        }
    }
}

/// As many of the wanted connections as the system has descriptors for. Where there are few, a half is for everything else.
fn possible_connections(wanted: usize) -> usize {
    let Some(limit) = raise_descriptor_limit() else {
        return wanted;
    };
    let possible = limit - OTHER_DESCRIPTORS.min(limit / 2);
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if possible >= wanted {
        return wanted;
    }
    tracing::warn!(
        limit,
        server.max_connections = wanted,
        possible,
        "the limit of open files is lower than what max_connections needs: fewer connections are taken"
    );
    possible
}

/// Allows as many open files as the system permits, and says how many; none: without limit. A connection is one, and the usual
/// soft limit is 1024.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    if raised.is_ok() {
        limit.maximum
    } else {
        limit.current
    }
}
