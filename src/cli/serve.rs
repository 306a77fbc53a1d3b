//! `livehook serve`: runs the server as a process, and handles its signals.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Failed, check};
use crate::config::{Config, environment};
use crate::server::{Reloader, Server, StartError};

/// The longest time for checking the files that the configuration names.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often watched files are checked for changes.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The longest wait for tasks that still run when the process ends.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

pub(super) fn serve(file: PathBuf, config: Config) -> Result<(), Failed> {
    start(&config)?;
    block_on(run(file, config))
}

/// Finds problems that would stop the server, then starts the log.
pub(super) fn start(config: &Config) -> Result<(), Failed> {
    validate(config).map_err(Failed::Setup)?;
    config.init_log().map_err(|error| Failed::Run(error.into()))
}

/// Runs the work of a server process on a new async runtime.
pub(super) fn block_on(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    // This runtime is for handlers, the admin listener and reloads. The server answers callbacks on
    // a runtime of its own.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors - 1).max(1))
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failed::Run(error.into()))?;
    let result = runtime.block_on(async {
        // SIGXFSZ would end the process when a file reaches the size limit of the user. Caught, it
        // becomes an error like a full disk.
        let too_large = SignalKind::from_raw(Number::XFSZ.as_raw());
        let _caught = signal(too_large).map_err(|error| Failed::Run(error.into()))?;
        work.await
    });
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    result
}

/// Checks the configuration within a time limit, because a file system may hang. Then the thread is
/// abandoned.
fn validate(config: &Config) -> anyhow::Result<()> {
    let (config, (done, checked)) = (config.clone(), mpsc::channel());
    std::thread::spawn(move || done.send(check::validate(&config)));
    checked.recv_timeout(CHECK_TIMEOUT).unwrap_or_else(|_| {
        bail!("a file system that the configuration names did not answer within {CHECK_TIMEOUT:?}")
    })
}

async fn run(file: PathBuf, config: Config) -> Result<(), Failed> {
    let mut stops = Stops::new().map_err(|error| Failed::Run(error.into()))?;
    let hangups = signal(SignalKind::hangup()).map_err(|error| Failed::Run(error.into()))?;
    let watch = config.server.watch;
    let unset = config.admin.unset.clone();
    let Some(server) = bind(config, &mut stops).await.map_err(failed)? else {
        return Ok(());
    };
    let [callbacks, admin] = addresses(&server)?;
    tracing::info!(
        server.listen = %callbacks,
        admin.listen = %admin,
        version = env!("CARGO_PKG_VERSION"),
        "accepting callbacks"
    );
    if let Some(variable) = unset {
        tracing::info!(
            "the admin listener can be reached from this machine or container only, because {variable} is not set: set it \
             to a long random text to reach metrics, API and console from elsewhere"
        );
    }
    let mut reloads = JoinSet::new();
    reloads.spawn(reload(server.reloader(), file, hangups, watch));
    let reloading = async {
        reloads.join_next().await;
        std::future::pending().await
    };
    until_stopped(server, &mut stops, reloading).await
}

/// Starts a server. Returns none if a signal to stop comes first.
pub(super) async fn bind(config: Config, stops: &mut Stops) -> Result<Option<Server>, StartError> {
    tokio::select! {
        server = Server::builder(config).bind() => server.map(Some),
        // The server probably still waits for the lock of its directory.
        () = stops.next() => Ok(None),
    }
}

/// The addresses of the callback listener and the admin listener.
pub(super) fn addresses(server: &Server) -> Result<[SocketAddr; 2], Failed> {
    let both = server
        .addr()
        .and_then(|callbacks| Ok([callbacks, server.admin_addr()?]));
    both.map_err(|error| Failed::Run(error.into()))
}

/// Serves until a signal, or until `beside` ends, then stops in order. A second signal ends it at
/// once.
pub(super) async fn until_stopped(
    server: Server,
    stops: &mut Stops,
    beside: impl Future<Output = Result<(), Failed>>,
) -> Result<(), Failed> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server.run(async {
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    let advice = "restart the server: it then reads what is on the disk";
    let result = tokio::select! {
        served = &mut serving => return served.context(advice).map_err(Failed::Run),
        () = stops.next() => Ok(()),
        ended = beside => ended,
    };
    drop(stop);
    tokio::select! {
        served = &mut serving => served.context(advice).map_err(Failed::Run).and(result),
        () = stops.next() => Err(Failed::Run(anyhow!("stopped at once by a second signal"))),
    }
}

pub(super) fn failed(error: StartError) -> Failed {
    if error.is_setup() {
        Failed::Setup(error.into())
    } else {
        Failed::Run(error.into())
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reloads the configuration at SIGHUP and, with `watch`, when the file or a secret that it names
/// has changed.
async fn reload(reloader: Arc<Reloader>, file: PathBuf, mut hangups: Signal, watch: bool) {
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The last configuration or error that was read, so that each change is applied or logged once.
    // It starts with the active configuration, because the file may have changed while the inbox
    // was opened.
    let mut seen = Ok(reloader.config().await);
    let mut hanging = None;
    loop {
        let asked = tokio::select! {
            hangup = hangups.recv() => hangup.is_some(),
            _ = ticks.tick(), if watch => false,
        };
        let found = load(&mut hanging, &file).await;
        if !asked && seen == found {
            continue;
        }
        match &found {
            Ok(config) => {
                if let Err(error) = reloader.reload(config.clone()).await {
                    tracing::error!(%error, "the configuration was not reloaded, the old one stays active");
                }
            }
            Err(error) => tracing::error!(
                error,
                "the configuration was not reloaded, the old one stays active"
            ),
        }
        seen = found;
    }
}

type Loading = JoinHandle<Result<Config, String>>;

/// Loads the configuration on another thread and within a time limit, because a file system may
/// hang. At most one thread is abandoned; `hanging` holds it.
async fn load(hanging: &mut Option<Loading>, file: &Path) -> Result<Config, String> {
    let late = |_| format!("a file system did not answer within {CHECK_TIMEOUT:?}");
    if let Some(earlier) = hanging {
        let _ = timeout(CHECK_TIMEOUT, earlier).await.map_err(late)?;
    }
    let file = file.to_owned();
    let loading = hanging.insert(spawn_blocking(move || {
        let config = Config::load(&file, &environment()).map_err(|error| error.to_string())?;
        check::check_targets(&config).map_err(|error| format!("{error:#}"))?;
        Ok(config)
    }));
    let loaded = timeout(CHECK_TIMEOUT, loading).await.map_err(late)?;
    *hanging = None;
    loaded.unwrap_or_else(|error| Err(error.to_string()))
}
