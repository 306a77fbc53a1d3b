//! A server at work: its tasks, and their end in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, interval, sleep, timeout_at};

use super::answers::Answers;
use super::{ADMIN_CONNECTIONS, Server, board};
use crate::admin::{self, Admin};
use crate::clock::ClockJumps;
use crate::dispatch::Dispatch;
use crate::inbox::{Condition, Inbox};
use crate::ingress::health::ReadyState;
use crate::ingress::{self, Ingress};
use crate::listener::{self, Stage, Unreadable};
use crate::streams::Board;

/// The longest time for the shutdown, without closing the files. The whole takes less than 15 s.
const SHUTDOWN: Duration = Duration::from_secs(13);
/// The time to close the files after [`SHUTDOWN`].
const CLOSING: Duration = Duration::from_millis(1500);
/// The part of [`SHUTDOWN`] in which running deliveries may end.
const DELIVERY_GRACE: Duration = Duration::from_secs(5);
/// Seconds between two passes of retention.
const SWEEP_EVERY: u64 = 30;

/// The tasks of a server.
pub(super) struct RunningServer {
    callbacks: JoinHandle<()>,
    callbacks_stage: watch::Sender<Stage>,
    admin_stage: watch::Sender<Stage>,
    /// Tasks that are only aborted at the end.
    background: [JoinHandle<()>; 4],
    health: ReadyState,
    ingress: Arc<Ingress>,
    dispatch: Arc<Dispatch>,
    inbox: Inbox,
    /// The callback listener and the inbox run on it until the end.
    _answers: Answers,
}

impl RunningServer {
    pub(super) async fn start(server: Server) -> Self {
        let config = server.reloader.config().await;
        let (callbacks_stage, callbacks_stages) = watch::channel(Stage::Serving);
        let (admin_stage, admin_stages) = watch::channel(Stage::Serving);
        let inflight = server.ingress.budget().clone();
        let limits = |max_connections| config.server.limits(max_connections, &inflight);
        let unreadable = Arc::new(Unreadable::new(server.metrics.unreadable.clone()));
        let callbacks = server.answers.spawn(listener::serve(
            server.callbacks,
            ingress::router(server.ingress.clone(), server.health.clone()),
            limits(server.max_connections),
            callbacks_stages,
            unreadable.clone(),
        ));
        let admin = Admin::new(
            server.inbox.clone(),
            server.dispatch.clone(),
            server.ingress.clone(),
            server.metrics,
            server.board.clone(),
            config.admin.token.clone(),
            server.clock.clone(),
        );
        let admin = tokio::spawn(listener::serve(
            server.admin,
            admin::router(Arc::new(admin), server.health.clone()),
            limits(ADMIN_CONNECTIONS),
            admin_stages,
            unreadable,
        ));
        let maintenance = tokio::spawn(maintain(
            server.inbox.clone(),
            server.dispatch.clone(),
            server.board.clone(),
            config.inbox.retention,
            ClockJumps::of(server.clock),
        ));
        let announcing = tokio::spawn(board::announce(
            server.board,
            server.dispatch.clone(),
            server.reloader.subscribed(),
        ));
        let leases = tokio::spawn(server.dispatch.clone().keep_leases());
        Self {
            callbacks,
            callbacks_stage,
            admin_stage,
            background: [admin, maintenance, announcing, leases],
            health: server.health,
            ingress: server.ingress,
            dispatch: server.dispatch,
            inbox: server.inbox,
            _answers: server.answers,
        }
    }

    /// Waits until the store has failed in such a way that only a new start helps.
    pub(super) async fn until_condemned(&self) {
        self.inbox.until_condemned().await;
    }

    /// Stops in order: callbacks for `drain_delay`, if there is one, then requests and deliveries,
    /// then the files.
    pub(super) async fn stop(mut self, drain_delay: Option<Duration>) {
        let deadline = Instant::now() + SHUTDOWN;
        self.health.drain();
        for stage in [&self.callbacks_stage, &self.admin_stage] {
            stage.send_replace(Stage::Draining);
        }
        if let Some(drain_delay) = drain_delay {
            tracing::info!(
                server.drain_delay = ?drain_delay,
                "shutting down: /readyz answers 503 from now on, callbacks are still accepted"
            );
            sleep(drain_delay).await;
        }
        self.callbacks_stage.send_replace(Stage::Stopping);
        let grace = DELIVERY_GRACE.min(deadline.saturating_duration_since(Instant::now()));
        let (unanswered, undelivered) = tokio::join!(
            timeout_at(deadline, &mut self.callbacks),
            timeout_at(deadline, self.dispatch.stop(grace)),
        );
        if undelivered.is_err() {
            tracing::warn!(
                "some handlers did not stop in time: their current events are delivered again"
            );
        }
        if unanswered.is_err() {
            tracing::warn!("some requests were not answered in time and are cut off");
            self.callbacks.abort();
        }
        for task in self.background {
            task.abort();
        }
        // The rejected list first: it may be kept in the inbox.
        let (ingress, inbox) = (self.ingress, self.inbox);
        let close = async {
            let _ = spawn_blocking(move || ingress.close()).await;
            inbox.close().await;
        };
        match timeout_at(deadline + CLOSING, close).await {
            Ok(()) if drain_delay.is_some() => {
                tracing::info!("stopped: undelivered events stay in the inbox");
            }
            // The store has failed, so only the next start knows what is in it.
            Ok(()) => tracing::info!("stopped"),
            Err(_) => {
                tracing::warn!("the store could not be closed in time: the next start recovers it");
            }
        }
    }
}

/// Runs retention, and checks a store in trouble: without callbacks nothing else would notice that
/// it works again.
async fn maintain(
    inbox: Inbox,
    dispatch: Arc<Dispatch>,
    board: Board,
    retention: Duration,
    mut clock_jumps: ClockJumps,
) {
    let mut seconds = interval(Duration::from_secs(1));
    for second in 0u64.. {
        seconds.tick().await;
        inbox.sample_arrivals();
        if let Some((before, now)) = clock_jumps.check() {
            tracing::warn!(
                clock.before = %before,
                clock.now = %now,
                "the clock of this machine was set, or the machine slept: retries continue as planned"
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
