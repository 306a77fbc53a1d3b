//! The server: [`Server::builder`], then `bind`, then `run`.

mod answers;
mod board;
mod descriptors;
mod not_ready;
mod reload;
mod running;
mod sqlite_flags;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use self::answers::Answers;
use self::board::BoardProjection;
use self::descriptors::possible_connections;
pub(crate) use self::descriptors::raise_descriptor_limit;
use self::not_ready::{NotReady, listen, listen_result};
pub use self::reload::Reloader;
use self::running::RunningServer;
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::{Built, Dispatch};
use crate::handler::Handler;
use crate::inbox::settings::StoreSettings;
use crate::inbox::{Inbox, OpenError, StoreError};
use crate::ingress::Ingress;
use crate::ingress::health::ReadyState;
use crate::metrics::Metrics;
use crate::rejected::RejectedList;
use crate::streams::Board;

/// The most connections of the admin listener.
const ADMIN_CONNECTIONS: usize = 64;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The inbox cannot be opened.
    #[error(transparent)]
    Inbox(#[from] OpenError),
    /// A handler cannot be set up.
    #[error("handlers.{name}: {problem}")]
    Handler {
        /// The handler's name.
        name: String,
        /// What is wrong, as the rest of a sentence that begins with the handler's name.
        problem: String,
    },
    /// A listener cannot be opened.
    #[error(
        "{section}.listen: cannot listen on {address}: {error}{}",
        advice(error)
    )]
    Listen {
        /// `server` or `admin`.
        section: &'static str,
        /// The address from the configuration.
        address: SocketAddr,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The threads that answer callbacks cannot be started.
    #[error("the threads that answer callbacks could not be started: {0}")]
    Threads(std::io::Error),
    /// The store failed during the start.
    #[error("the inbox cannot be used: {0}; the log says more")]
    Store(#[from] StoreError),
}

impl StartError {
    /// Whether the operator must correct the configuration or the permissions of a directory.
    pub fn is_setup(&self) -> bool {
        matches!(
            self,
            Self::Inbox(OpenError::Unwritable { .. } | OpenError::Refused(_))
                | Self::Handler { .. }
        )
    }
}

pub(crate) type CustomHandlers = BTreeMap<String, Arc<dyn Handler>>;

/// A server that is not started yet. Made by [`Server::builder`].
pub struct Builder {
    config: Config,
    custom: CustomHandlers,
    clock: Clock,
}

impl Builder {
    /// Adds a handler. Its other settings, such as filters and retries, come from the section
    /// `[handlers.NAME]` without `to`. Without that section they are the defaults.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.custom.insert(name.into(), Arc::new(handler));
        self
    }

    /// Uses another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the inbox and the listeners, and continues the handlers where they stopped.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot be started; [`StartError`] says why.
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

    /// Stores the positions of the handlers, then opens the listeners, so that no callback comes
    /// earlier.
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

/// A server whose listeners are open. [`Server::run`] serves.
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
    /// Begins a server with this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            custom: BTreeMap::new(),
            clock: Clock::system(),
        }
    }

    /// The address of the listener for callbacks.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.callbacks.local_addr()
    }

    /// The address of the admin listener.
    pub fn admin_addr(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Returns a handle with which sources and handlers can be changed while the server runs.
    pub fn reloader(&self) -> Arc<Reloader> {
        self.reloader.clone()
    }

    /// Serves until `shutdown` ends, then stops in order. `/readyz` answers 503 at once. Callbacks
    /// are still accepted for `drain_delay`. Then no new connection is accepted, running requests
    /// are answered, running deliveries end or are left for the next start, and all positions are
    /// stored.
    ///
    /// # Errors
    ///
    /// Fails if the store failed in such a way that only a new start can tell what is on the disk.
    /// Then end the process and start it again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
        let drain_delay = self.reloader.config().await.server.drain_delay;
        let running = RunningServer::start(self).await;
        let served = tokio::select! {
            () = shutdown => Ok(()),
            () = running.until_condemned() => Err(StoreError::Failed),
        };
        running.stop(served.is_ok().then_some(drain_delay)).await;
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
        // If this panics, the log says so, and the server starts nevertheless.
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

/// What to do about a listener that cannot be opened.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; the port is in use, by another program or by livehook's other listener \
                (server.listen, admin.listen): stop that program, or choose another port"
        }
        _ => "",
    }
}
