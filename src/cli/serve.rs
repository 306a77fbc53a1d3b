//! `livehook serve`: the server as a process, with its signals.

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

/// Looking at the files that the configuration names takes no longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a watched file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// A second signal, or the end, waits no longer than this for what still runs.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(500);

pub(super) fn serve(file: PathBuf, config: Config) -> Result<(), Failed> {
    start(&config)?;
    block_on(run(file, config))
}

/// Checks what a server would stumble over, and begins the log.
pub(super) fn start(config: &Config) -> Result<(), Failed> {
    validate(config).map_err(Failed::Setup)?;
    config.init_log().map_err(|error| Failed::Run(error.into()))
}

/// Does the work of a server's process.
pub(super) fn block_on(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    // For handlers, the admin listener and reloads; the server has a runtime of its own for its answers.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors - 1).max(1))
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failed::Run(error.into()))?;
    let result = runtime.block_on(async {
        // A file at the size this user may give it is an error like a full disk, not the end of the process.
        let too_large = SignalKind::from_raw(Number::XFSZ.as_raw());
        let _caught = signal(too_large).map_err(|error| Failed::Run(error.into()))?;
        work.await
    });
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    result
}

/// Within a time: files are looked at, and a file system may hang. The thread is left behind then.
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
        "callbacks are taken"
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

/// A server that listens; none if a signal came before.
pub(super) async fn bind(config: Config, stops: &mut Stops) -> Result<Option<Server>, StartError> {
    tokio::select! {
        server = Server::builder(config).bind() => server.map(Some),
        // Most likely it waits for the directory's lock.
        () = stops.next() => Ok(None),
    }
}

/// Where the server takes callbacks, and where its admin listener is.
pub(super) fn addresses(server: &Server) -> Result<[SocketAddr; 2], Failed> {
    let both = server
        .addr()
        .and_then(|callbacks| Ok([callbacks, server.admin_addr()?]));
    both.map_err(|error| Failed::Run(error.into()))
}

/// Serves until a signal, or until what runs beside it ends, and stops softly; a second signal ends it at once.
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
    let advice = "a new start finds out what is on the disk";
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

/// Reloads at SIGHUP and, if told to watch, when the file or a secret it names has changed.
async fn reload(reloader: Arc<Reloader>, file: PathBuf, mut hangups: Signal, watch: bool) {
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was last found, so that each change is taken, or complained of, once. At first what is in force: the file may have
    // changed while the inbox was opened.
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
                    tracing::error!(%error, "the configuration was not reloaded, the old one stays in force");
                }
            }
            Err(error) => tracing::error!(
                error,
                "the configuration was not reloaded, the old one stays in force"
            ),
        }
        seen = found;
    }
}

type Loading = JoinHandle<Result<Config, String>>;

/// Off the runtime and within a time: a file system may hang. One thread at the most is left behind, in `hanging`.
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
